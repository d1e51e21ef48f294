//! ONNX MaxPool (opset 12). Enters: `H W C` integers. Leaves: for each channel the largest in each window, clamped; input
//! and output share one encoding, and padding never wins.

mod reference;
#[cfg(any(test, feature = "std"))]
pub(crate) mod simd;

use super::{Input, Output, Window};

/// Writes the maxima.
pub fn run(window: &Window, x: Input, y: Output) {
    reference::run(window, x, y);
}
