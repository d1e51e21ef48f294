//! The inner loops of a Cortex-M4, M7 or M33: what multiplies, sums and requantizes, with the DSP instructions. Enters: columns
//! of widened inputs, rows of packed weights. Leaves: stored integers. Refuses nothing.
//!
//! The kernels around them (`*/dsp.rs`) are written once, for any [`Dsp`]: [`Model`] says in plain Rust what each inner loop
//! computes and is what a host runs and tests; `Core`, in assembly, is what runs on the core.
//!
//! # Columns
//! Two i16 make a word, the operand of `SMLAD`. The weights of one 32-bit word (4, 8 or 16 of 8, 4 or 2 bits) unpack to pairs
//! of elements that are half a group apart: with `G` elements in a group pair `j` holds elements `j` (low half) and `j + G/2`,
//! since that is what one `SXTAB16` or one `AND` gives. Columns are laid out alike, for [`PIXELS`] output pixels at once: a
//! [`Slot`] holds two successive pairs of each pixel, pixel by pixel, and a group has `G / 4` of them.

#[cfg(intact_dsp)]
mod core;
#[cfg(any(test, feature = "testing"))]
mod model;

#[cfg(intact_dsp)]
pub(super) use self::core::Core as Instructions;
#[cfg(any(test, feature = "testing"))]
pub(super) use model::Model;
#[cfg(all(not(intact_dsp), any(test, feature = "testing")))]
pub(super) use model::Model as Instructions;

use super::{
    add::Sum,
    channels::Depthwise,
    columns::{Finish, PIXELS, Rows},
};
use crate::image::Weights;
use ::core::{cell::Cell, ops::Range};

/// Two words, that is four elements, of each of four columns.
pub(super) type Slot = [u32; 2 * PIXELS];

/// Elements of a group: those of one word of weights of so many bits.
pub(super) const fn group(bits: u8) -> usize {
    32 / bits as usize
}

/// How bytes become elements of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Two's complement?
    pub(super) signed: bool,
    /// What is subtracted.
    pub(super) zero_point: i32,
    /// Bits of the weights, which say what a group is.
    pub(super) bits: u8,
}

/// Columns against rows of weights.
#[derive(Clone, Debug)]
pub(super) struct Tile<'a> {
    /// Whole groups, 0 beyond `len`.
    pub(super) columns: &'a [Slot],
    /// Elements of a column that mean something.
    pub(super) len: usize,
    /// The layer.
    pub(super) weights: &'a Weights<'a>,
    /// Rows of weights that are multiplied; a row has at least four bytes.
    pub(super) rows: Range<usize>,
    /// Where in the output the channels of each pixel begin. Pixels that are not there begin where the first one does.
    pub(super) starts: [usize; PIXELS],
    /// To stored integers.
    pub(super) finish: Finish,
}

/// The inner loops; channels 0 and 2 of a block of a depthwise convolution share a word, and so do 1 and 3.
pub(super) trait Dsp: Depthwise {
    /// Fills column `pixel` of `slots` with elements; runs and steps of where they are put are whole groups.
    fn widen(source: Source, rows: Rows, slots: &mut [Slot], pixel: usize);

    /// Copies bytes.
    fn copy(rows: Rows, to: &mut [u8]);

    /// `y[starts[p] + k] = finish(bias[k] + sum (w - zw) * column[p])` for every row `k` and pixel `p`.
    fn tile(tile: &Tile, y: &mut [u8]);

    /// All three slices have one length, a multiple of 4.
    fn sum(sum: &Sum, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]);
}
