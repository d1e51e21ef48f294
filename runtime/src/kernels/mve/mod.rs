//! The inner loops of a core with MVE (Helium), such as a Cortex-M55: what copies, multiplies, sums and requantizes, with vectors of
//! 16 bytes. Enters: columns of bytes, the operands of `VMLADAVA`, one after the other; rows of weights of 8, 4 or 2 bits; blocks of
//! channels; windows of pools. Leaves: stored integers. Refuses nothing.

#[cfg(intact_mve)]
mod core;
#[cfg(any(test, feature = "testing"))]
mod model;

#[cfg(intact_mve)]
pub(super) use self::core::Core as Instructions;
#[cfg(not(intact_mve))]
pub(super) use model::Model as Instructions;

use super::{add::Sum, channels::Depthwise, factors::Factors, pixel::Pixel};
use crate::image::Weights;
use ::core::cell::Cell;

/// The inner loops beyond those of convolutions.
pub(super) trait Mve: Depthwise {
    /// An Add; all three slices have one length.
    fn sum(sum: &Sum, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]);

    /// The means of each channel under a window; `y` has as many channels as the input.
    fn means(pixel: &Pixel, multiplier: f32, y: &mut [u8]);

    /// The largest of each channel under a window; `y` has as many channels as the input.
    fn largest(pixel: &Pixel, y: &mut [u8]);

    /// `sum (x - zx) (w - zw)`.
    fn dot(factors: &Factors) -> i32;
}

/// Whether columns for these weights are two's complement: packed weights fit a signed byte, signed or not.
fn signed(weights: &Weights) -> bool {
    weights.signed || weights.bits < 8
}
