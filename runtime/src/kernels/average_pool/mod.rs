//! ONNX AveragePool (opset 11, `count_include_pad = 0`) on integers. Enters: `H W C` integers, and for each number `n` of
//! taps inside the image the multiplier `M[n]`. Leaves: for each channel the mean of each window.

mod reference;
#[cfg(any(test, feature = "std"))]
pub(crate) mod simd;

use super::{Input, Output, Window};
use crate::image::Table;

/// Writes the means.
pub fn run(window: &Window, multipliers: Table, x: Input, y: Output) {
    reference::run(window, multipliers, x, y);
}
