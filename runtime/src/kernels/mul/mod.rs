//! ONNX Mul of two tensors on integers, as ONNX Runtime's QLinearMul. Enters: two stored integers for each element, each of
//! its own encoding; the second tensor may be one pixel, by which every pixel of the first is multiplied (a gate). Leaves:
//! their product in a third encoding. The output may take the place of an input of its size, so that all three are cells.

mod reference;

use crate::arith::Requantizer;
use core::cell::Cell;

/// Constants of a Mul.
#[derive(Clone, Copy, Debug)]
pub struct Mul {
    /// From the product to the stored integer.
    pub requantizer: Requantizer,
    /// The integer that stands for 0.0 in each input.
    pub zero_points: [i32; 2],
    /// Whether each input is two's complement.
    pub signed: [bool; 2],
}

/// Writes the products; `y` is as long as the first input, and that is a whole number of times the second.
pub fn run(mul: &Mul, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
    reference::run(mul, inputs, y);
}
