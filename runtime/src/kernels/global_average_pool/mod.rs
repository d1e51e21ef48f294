//! ONNX GlobalAveragePool on integers, as ONNX Runtime's QLinearGlobalAveragePool. Enters: `H W C` integers. Leaves: the
//! mean of each channel.

#[cfg(any(intact_mve, test, feature = "testing"))]
mod mve;
mod reference;

#[cfg(any(intact_mve, test, feature = "testing"))]
use super::mve::Instructions;
use super::{Input, Kernels, Output};

/// Writes the means; `multiplier` is `sx / (sy * H * W)`.
pub fn run(kernels: Kernels, multiplier: f32, x: Input, y: Output) {
    match kernels {
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve => mve::run::<Instructions>(multiplier, x, y),
        _ => reference::run(multiplier, x, y),
    }
}
