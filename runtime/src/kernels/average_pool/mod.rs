//! ONNX AveragePool (opset 11, `count_include_pad = 0`) on integers. Enters: `H W C` integers, and for each number `n` of
//! taps inside the image the multiplier `M[n]`. Leaves: for each channel the mean of each window.

#[cfg(any(intact_mve, test, feature = "testing"))]
mod mve;
mod reference;
#[cfg(any(test, feature = "std"))]
pub(crate) mod simd;

#[cfg(any(intact_mve, test, feature = "testing"))]
use super::mve::Instructions;
use super::{Input, Kernels, Output, Window};
use crate::image::Table;

/// Writes the means.
pub fn run(kernels: Kernels, window: &Window, multipliers: Table, x: Input, y: Output) {
    match kernels {
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve => mve::run::<Instructions>(window, multipliers, x, y),
        _ => reference::run(window, multipliers, x, y),
    }
}
