//! Who a file is for. Enters: a consumer's name and the widths wanted. Leaves: how to quantize ([`Preset::options`]), how to
//! store what is narrower than a byte ([`Preset::storage`]), and what the consumer refuses or computes wrongly
//! ([`Preset::refusal`]). Refuses nothing itself: the writer does.
//!
//! | preset | activations | weights | for |
//! |---|---|---|---|
//! | `mobile` | unsigned | unsigned, one scale and zero point a layer | ONNX Runtime on ARM, NNAPI, XNNPACK, QNN |
//! | `mobile-per-channel` | unsigned | signed symmetric, a scale for each output channel | ONNX Runtime on ARM, NNAPI (API 29) |
//! | `xnnpack` | signed | signed symmetric, a scale for each output channel | XNNPACK |
//! | `qnn` | unsigned | 8 bit as `mobile`; below it signed symmetric per channel in native types | Qualcomm HTP |
//! | `x86` | unsigned | those of `mobile`, less `2^(bits-1)`: signed with a zero point | x86 with VNNI |
//! | `paper` | unsigned, ranges without the top and bottom 1 % | those of `mobile` | what the paper simulates |
//!
//! Read in the sources of the execution providers and, as far as ONNX Runtime's CPU provider goes, run; NNAPI, XNNPACK and
//! QNN were not at hand.

use crate::calibrate::{Clipping, Width};
use crate::network::{Conv2d, Dense, Encoding, Integers, Network, Op};
use crate::onnx::Storage;
use crate::pipeline::Options;

/// Who a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// What every engine on phones takes.
    Mobile,
    /// Better weights; still taken by most.
    MobilePerChannel,
    /// XNNPACK, which wants one signedness throughout.
    Xnnpack,
    /// Qualcomm's NPU.
    Qnn,
    /// ONNX Runtime on x86, whose fastest kernels multiply unsigned by signed. Without VNNI they saturate; then `mobile` is
    /// the one that is exact.
    X86,
    /// The paper's quantizer.
    Paper,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Mobile, Self::MobilePerChannel, Self::Xnnpack, Self::Qnn, Self::X86, Self::Paper];

    /// The name that people write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::MobilePerChannel => "mobile-per-channel",
            Self::Xnnpack => "xnnpack",
            Self::Qnn => "qnn",
            Self::X86 => "x86",
            Self::Paper => "paper",
        }
    }

    /// How to quantize for it, with these widths.
    pub fn options(self, weight_bits: u8, activation_bits: u8) -> Options {
        let per_channel = |signed| Options::per_channel(weight_bits, Width { bits: activation_bits, signed });
        match self {
            Self::Mobile | Self::X86 | Self::Paper => Options::mobile(weight_bits, activation_bits),
            Self::Qnn if weight_bits > 4 => Options::mobile(weight_bits, activation_bits),
            Self::MobilePerChannel | Self::Qnn => per_channel(false),
            Self::Xnnpack => per_channel(true),
        }
    }

    /// How ranges of activations are cut off where training has left none.
    pub fn clipping(self) -> Clipping {
        if self == Self::Paper { Clipping::PAPER } else { Clipping::MinMax }
    }

    /// How integers narrower than a byte are stored for it.
    pub fn storage(self) -> Storage {
        // Packed bytes would be 8 bit weights to QNN; only the types tell it otherwise.
        if self == Self::Qnn { Storage::Native } else { Storage::Portable }
    }

    /// A quantized network as the consumer wants it; the values it computes stay the same.
    pub fn arrange(self, mut network: Network) -> Network {
        if self == Self::X86 {
            for node in &mut network.nodes {
                if let Op::Conv2d(Conv2d { integers: Some(integers), .. })
                | Op::Dense(Dense { integers: Some(integers), .. }) = &mut node.op
                {
                    make_signed(integers);
                }
            }
        }
        network
    }

    /// Why the consumer refuses a layer of these weights on this input, or computes it wrongly; `None` where it does not.
    pub(super) fn refusal(self, weights: &Encoding, input: &Encoding) -> Option<&'static str> {
        let offset = weights.zero_point.iter().any(|&z| z != 0);
        match self {
            Self::Mobile | Self::Paper | Self::Qnn | Self::MobilePerChannel if input.signed => {
                Some("signed activations, which NNAPI and QNN do not take; quantize them unsigned")
            }
            Self::Mobile | Self::Paper | Self::Qnn | Self::MobilePerChannel | Self::Xnnpack
                if weights.is_per_channel() && offset =>
            {
                Some(
                    "weights with a zero point for each channel, which engines for phones do not take; make them symmetric",
                )
            }
            Self::Xnnpack if input.signed != weights.signed => Some(
                "activations and weights of different signedness, which XNNPACK leaves to the CPU; make both signed",
            ),
            _ => None,
        }
    }
}

/// The same values in two's complement.
fn make_signed(Integers { encoding, weight, .. }: &mut Integers) {
    if !encoding.signed {
        *encoding = encoding.clone().with_sign(true);
        weight.iter_mut().for_each(|w| *w -= 1 << (encoding.bits - 1));
    }
}
