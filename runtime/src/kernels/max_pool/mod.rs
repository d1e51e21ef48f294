//! ONNX MaxPool (opset 12). Enters: `H W C` integers. Leaves: for each channel the largest in each window, clamped; input
//! and output share one encoding, and padding never wins.

#[cfg(any(intact_mve, test, feature = "testing"))]
mod mve;
mod reference;
#[cfg(any(test, feature = "std"))]
pub(crate) mod simd;

#[cfg(any(intact_mve, test, feature = "testing"))]
use super::mve::Instructions;
use super::{Input, Kernels, Output, Window};

/// Writes the maxima.
pub fn run(kernels: Kernels, window: &Window, x: Input, y: Output) {
    match kernels {
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve => mve::run::<Instructions>(window, x, y),
        _ => reference::run(window, x, y),
    }
}
