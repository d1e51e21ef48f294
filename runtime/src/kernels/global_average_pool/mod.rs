//! ONNX GlobalAveragePool on integers, as ONNX Runtime's QLinearGlobalAveragePool. Enters: `H W C` integers. Leaves: the
//! mean of each channel.

mod reference;

use super::{Input, Output};

/// Writes the means; `multiplier` is `sx / (sy * H * W)`.
pub fn run(multiplier: f32, x: Input, y: Output) {
    reference::run(multiplier, x, y);
}
