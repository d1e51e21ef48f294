//! From a file to a network, and from a network to integers. Enters: a checkpoint or an ONNX file, and how to quantize it.
//! Leaves: the quantized network and its flash image. Refused: files of another kind, with the kinds that are known.

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use exporter::calibrate::{Clipping, Ranges, is_trained};
use exporter::data::Dataset;
use exporter::network::Network;
use exporter::pipeline::{Options, Quantized, quantize_network};
use exporter::quantize::{Scheme, Weights};
use std::path::Path;
use std::str::FromStr;

/// Bits of weights and activations, written `w8a8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    /// 2 to 8.
    pub(crate) weights: u8,
    /// 2 to 8.
    pub(crate) activations: u8,
}

impl FromStr for Bits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no precision; write w8a8, w4a8, w4a4 or w2a2 (2 to 8 bits each)");
        let lower = text.to_ascii_lowercase();
        let (weights, activations) = lower.strip_prefix('w').and_then(|t| t.split_once('a')).ok_or_else(wrong)?;
        let bits = |t: &str| t.parse().ok().filter(|b| (2..=8).contains(b)).ok_or_else(wrong);
        Ok(Self { weights: bits(weights)?, activations: bits(activations)? })
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "W{}A{}", self.weights, self.activations)
    }
}

/// What an engine wants to find in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Unsigned activations and weights, asymmetric, one scale a tensor: what every engine on phones takes
    Mobile,
    /// Unsigned activations, signed symmetric weights with a scale for each output channel
    MobilePerChannel,
    /// Everything signed, symmetric weights with a scale for each output channel
    Xnnpack,
    /// As mobile; weights of 4 or 2 bits signed, per channel and in ONNX's own types
    Qnn,
    /// The weights of mobile as signed integers with a zero point, for x86 with VNNI
    X86,
    /// As mobile; ranges without the top and bottom 1 % where training has left none
    Paper,
}

impl Preset {
    /// For weights of this form.
    fn of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::SymmetricPerChannel => Self::MobilePerChannel,
            Scheme::AsymmetricUnfolded => Self::X86,
            _ => Self::Mobile,
        }
    }

    /// Of weights.
    fn form(self, bits: u8) -> Weights {
        self.target().options(bits, 8).weights
    }

    /// What training has in the loop for this preset.
    #[cfg(feature = "train")]
    pub(crate) fn simulation(self, bits: Bits, norm: BatchNorm) -> trainer::quant::Simulation {
        use trainer::quant::Simulation;
        let Bits { weights, activations } = bits;
        match norm {
            BatchNorm::Accumulator => Simulation::unfolded(weights, activations),
            BatchNorm::Folded if self.form(weights).scheme.is_per_channel() => {
                Simulation::channelwise(weights, activations)
            }
            BatchNorm::Folded => Simulation::tensorwise(weights, activations),
        }
        .clipped()
    }

    /// The exporter's.
    pub(crate) fn target(self) -> exporter::onnx::Preset {
        match self {
            Self::Mobile => exporter::onnx::Preset::Mobile,
            Self::MobilePerChannel => exporter::onnx::Preset::MobilePerChannel,
            Self::Xnnpack => exporter::onnx::Preset::Xnnpack,
            Self::Qnn => exporter::onnx::Preset::Qnn,
            Self::X86 => exporter::onnx::Preset::X86,
            Self::Paper => exporter::onnx::Preset::Paper,
        }
    }
}

/// Where the ranges of activations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RangeSource {
    /// As quantization-aware training has left them
    Trained,
    /// From the smallest to the largest value on the calibration images
    Minmax,
    /// From the 1st to the 99th percentile on the calibration images
    Percentile,
    /// With the smallest squared error on the calibration images
    Mse,
    /// With the smallest Kullback-Leibler divergence on the calibration images
    Entropy,
}

/// Where BatchNorm stands when weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BatchNorm {
    /// Folded into them before
    Folded,
    /// On the accumulator, behind them: in the scale of each output channel
    Accumulator,
}

/// How to quantize.
#[derive(Args, Clone, Debug)]
pub(crate) struct QuantizeArguments {
    /// Bits of weights and activations; by default those that the network was trained for, else w8a8
    #[arg(long, value_name = "WxAy")]
    pub(crate) bits: Option<Bits>,

    /// Form of the integers; by default the one that the network was trained for, else that of mobile
    #[arg(long, value_enum)]
    pub(crate) preset: Option<Preset>,

    /// Ranges of the activations; by default as trained, if the checkpoint has them, else minmax
    #[arg(long, value_enum)]
    pub(crate) ranges: Option<RangeSource>,

    /// Training images to calibrate on
    #[arg(long, default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) calibration_images: u32,
}

/// Bits, form and preset for one network.
pub(crate) struct Precision {
    pub(crate) bits: Bits,
    pub(crate) preset: Preset,
    weights: Weights,
}

impl QuantizeArguments {
    /// What was asked for, or what the network was trained for.
    pub(crate) fn precision(&self, network: &Network) -> Precision {
        let trained = network.trained.filter(|form| {
            self.preset.is_none_or(|preset| preset.form(form.bits).scheme == form.scheme)
                && self.bits.is_none_or(|bits| bits.weights == form.bits)
        });
        let activations = || network.tensors.iter().find_map(|tensor| tensor.encoding.as_ref()).map(|e| e.bits);
        let bits = self.bits.unwrap_or_else(|| {
            let trained = network.trained.map(|form| form.bits).zip(activations());
            let (weights, activations) = trained.unwrap_or((8, 8));
            Bits { weights, activations }
        });
        let preset = self.preset.unwrap_or_else(|| trained.map_or(Preset::Mobile, |form| Preset::of(form.scheme)));
        Precision { bits, preset, weights: trained.unwrap_or(preset.form(bits.weights)) }
    }

    fn options(&self, precision: &Precision) -> Options {
        let Precision { bits, preset, weights } = *precision;
        let mut options = preset.target().options(bits.weights, bits.activations);
        options.weights = weights;
        options.ranges = self.ranges.map(|source| match source {
            RangeSource::Trained => Ranges::Trained,
            RangeSource::Minmax => Ranges::Measured(Clipping::MinMax),
            RangeSource::Percentile => Ranges::Measured(Clipping::PAPER),
            RangeSource::Mse => Ranges::Measured(Clipping::Mse),
            RangeSource::Entropy => Ranges::Measured(Clipping::Entropy),
        });
        options
    }

    /// Quantizes `network`; a network that is quantized already stays as it is.
    pub(crate) fn quantize(&self, network: &Network, training: &Dataset) -> Result<Quantized> {
        let images = training.sample(self.calibration_images as usize);
        let precision = self.precision(network);
        let target = precision.preset.target();
        let mut options = self.options(&precision);
        if options.ranges.is_none() && !is_trained(network) {
            options.ranges = Some(Ranges::Measured(target.clipping()));
        }
        let mut quantized = quantize_network(network, images.images(), &options)?;
        quantized.network = target.arrange(quantized.network);
        let ranges = match quantized.ranges {
            Ranges::Trained => "as trained".to_owned(),
            Ranges::Measured(clipping) => format!("{clipping} on {} images", images.len()),
        };
        eprintln!(
            "quantized {} to {}: ranges {ranges}; folding BatchNorm moved a logit by at most {:.1e}",
            network.name, precision.bits, quantized.folding.largest
        );
        Ok(quantized)
    }
}

/// Reads a checkpoint (`.safetensors`) or an ONNX file (`.onnx`).
pub(crate) fn load(path: &Path) -> Result<Network> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => Ok(exporter::checkpoint::load(path)?.0),
        Some("onnx") => {
            let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
            let imported = exporter::onnx::read(&bytes, &path.display().to_string(), &Default::default())?;
            for note in &imported.notes {
                eprintln!("note: {note}");
            }
            Ok(imported.network)
        }
        Some("intact") => bail!(
            "{}: a flash image holds integers only; give the checkpoint (.safetensors) or ONNX file it was made from",
            path.display()
        ),
        _ => bail!("{}: expected a checkpoint (.safetensors) or a network (.onnx)", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_precisions() {
        assert_eq!("w4A8".parse(), Ok(Bits { weights: 4, activations: 8 }));
        for text in ["", "8", "w8", "w9a8", "w8a1", "a8w8", "w8a8a8"] {
            assert!(text.parse::<Bits>().is_err(), "{text}");
        }
    }
}
