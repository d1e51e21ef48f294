//! ONNX QLinearConv (opset 10), 2-D. Enters: `H W C` integers of 2 to 8 bits, weights of 8, 4 or 2 bits `K R S C/groups`
//! (`R S C` when depthwise), one zero point or one for each `K`. Leaves: `H W K` integers. Padding is the real value 0.

#[cfg(any(test, feature = "std"))]
mod chained_depthwise;
#[cfg(not(intact_cortex_m))]
mod depthwise;
#[cfg(any(intact_cortex_m, test, feature = "testing"))]
mod depthwise_channels;
#[cfg(any(intact_dsp, test, feature = "testing"))]
mod dsp;
#[cfg(all(target_arch = "aarch64", any(test, feature = "std")))]
mod neon_depthwise;
#[cfg(any(test, feature = "std"))]
pub(crate) mod packed;
#[cfg(not(intact_cortex_m))]
mod portable;
#[cfg(any(intact_mve, intact_thumb, test, feature = "testing"))]
mod raw;
mod reference;
#[cfg(any(test, feature = "std"))]
mod simd;
#[cfg(any(test, feature = "std"))]
mod simd_depthwise;

#[cfg(any(intact_dsp, test, feature = "testing"))]
use super::dsp::Instructions;
#[cfg(any(intact_cortex_m, test, feature = "testing"))]
use super::linked::linked;
#[cfg(any(intact_mve, test, feature = "testing"))]
use super::mve;
#[cfg(any(intact_thumb, test, feature = "testing"))]
use super::thumb;
use super::{Input, Kernels, Output, Window, scratch};
use crate::image::{Op, Weights, repr::WeightsRepr, repr::WindowRepr};

/// Constants of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d<'a> {
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Divides input and output channels.
    pub groups: usize,
    /// Whether `groups = C = K`.
    pub depthwise: bool,
    /// Weights, biases, multipliers.
    pub weights: Weights<'a>,
    /// Whether the scratch holds what an earlier strip of the same convolution put there.
    pub prepared: bool,
}

impl<'a> Conv2d<'a> {
    /// The convolution that `op` is, given what its record says.
    pub fn new(op: &Op<'a>, window: WindowRepr, groups: u16, weights: WeightsRepr) -> Self {
        let (in_channels, out_channels) = (op.input(0).repr.shape[2], op.output().repr.shape[2]);
        Self {
            window: window.into(),
            groups: groups.into(),
            depthwise: scratch::is_depthwise(groups, in_channels, out_channels),
            weights: op.weights(weights),
            prepared: false,
        }
    }
}

/// Writes the convolution's output. The scratch holds at least one column when the convolution is not depthwise.
pub fn run(kernels: Kernels, conv: &Conv2d, x: Input, y: Output, scratch: &mut [u8]) {
    match kernels {
        Kernels::Reference => reference::run(conv, x, y),
        #[cfg(not(intact_cortex_m))]
        Kernels::Portable if conv.depthwise => depthwise::run(conv, x, y),
        #[cfg(not(intact_cortex_m))]
        Kernels::Portable => portable::run(conv, x, y, scratch),
        #[cfg(any(intact_dsp, test, feature = "testing"))]
        Kernels::Dsp if const { linked("Depthwise") } && conv.depthwise => {
            depthwise_channels::run::<Instructions>(conv, x, y, scratch)
        }
        #[cfg(any(intact_dsp, test, feature = "testing"))]
        Kernels::Dsp => dsp::run::<Instructions>(conv, x, y, scratch),
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve if const { linked("Depthwise") } && conv.depthwise => {
            depthwise_channels::run::<mve::Instructions>(conv, x, y, scratch)
        }
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve => raw::run::<mve::Instructions>(conv, x, y, scratch),
        #[cfg(any(intact_thumb, test, feature = "testing"))]
        Kernels::Thumb if const { linked("Depthwise") } && conv.depthwise => {
            depthwise_channels::run::<thumb::Instructions>(conv, x, y, scratch)
        }
        #[cfg(any(intact_thumb, test, feature = "testing"))]
        Kernels::Thumb => raw::run::<thumb::Instructions>(conv, x, y, scratch),
    }
}
