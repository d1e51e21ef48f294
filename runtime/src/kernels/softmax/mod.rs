//! ONNX Softmax on integers: over the channels of each pixel. Enters: stored integers, a table of exponentials and the constants
//! of the output's scale. Leaves: shares of 1 as stored integers, in the same places or others. The contract
//! (`docs/arithmetic.md`) has the sums; nothing here is a float.

mod reference;

use crate::image::Table;
use core::cell::Cell;

/// Constants of a Softmax.
#[derive(Clone, Copy, Debug)]
pub struct Softmax<'a> {
    /// `T[d] = RNE(2^30 * e^(-d * sx))` for every distance `d` that two integers of the input can have; `T[0] = 2^30`.
    pub table: Table<'a>,
    /// `A`: `0 ..= `[`ADD_MULTIPLIER_MAX`](crate::arith::ADD_MULTIPLIER_MAX).
    pub multiplier: u32,
    /// `0 ..= `[`SOFTMAX_SHIFT_MAX`](crate::arith::SOFTMAX_SHIFT_MAX).
    pub shift: u8,
    /// Channels of both tensors, at least 1.
    pub channels: usize,
    /// Whether the input is two's complement.
    pub signed: bool,
    /// The output's zero point.
    pub zero_point: i32,
    /// Ends of the op's clamp.
    pub clamp: [i32; 2],
}

/// Writes the shares; both slices have one length, a whole number of pixels.
pub fn run(softmax: &Softmax, x: &[Cell<u8>], y: &[Cell<u8>]) {
    reference::run(softmax, x, y);
}
