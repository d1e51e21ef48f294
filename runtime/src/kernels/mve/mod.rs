//! The inner loops of a core with MVE (Helium), such as a Cortex-M55: what copies, multiplies, sums and requantizes, with vectors of
//! 16 bytes. Enters: columns of bytes of the weights' signedness, the operands of `VMLADAVA`, one after the other; rows of 8-bit
//! weights. Leaves: stored integers. Refuses nothing.

#[cfg(intact_mve)]
mod core;
#[cfg(any(test, feature = "testing"))]
mod model;

#[cfg(intact_mve)]
pub(super) use self::core::Core as Instructions;
#[cfg(not(intact_mve))]
pub(super) use model::Model as Instructions;

use super::dsp::Sum;
use ::core::cell::Cell;

/// The inner loops beyond those of convolutions.
pub(super) trait Mve {
    /// An Add; all three slices have one length.
    fn sum(sum: &Sum, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]);
}
