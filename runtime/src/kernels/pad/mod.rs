//! ONNX Pad with zeros around height and width, on integers. Enters: `H W C` integers. Leaves: the same with rows and columns
//! of the zero point around them.

mod reference;

use super::{Input, Output};

/// Writes the padded image; `padding` is top, left, bottom, right, and the output so much larger than the input.
pub fn run(padding: [usize; 4], x: Input, y: Output) {
    reference::run(padding, x, y);
}
