//! Convolutions over columns of raw bytes, for cores that multiply bytes as they are: with vectors (`mve/`), or with nothing but
//! 32-bit multiplications (`thumb/`). Enters: columns, rows of weights. Leaves: stored integers. Refuses nothing.
//!
//! A column holds the inputs of an output pixel as bytes of one signedness: those of the other one have their top bit flipped, which
//! moves them and their zero point by 128. Zero points are not subtracted before the multiplication, but taken back afterwards:
//! `sum (x - zx) (w - zw) = sum x w - zx sum w - zw sum x + n zx zw`.
//!
//! The kernel around the inner loops (`conv2d/raw.rs`) is written once, for any [`Raw`]: each core's `model.rs` says in plain Rust
//! what its inner loops compute and is what a host runs and tests; its `core.rs`, in assembly, is what runs on the core.

use super::columns::{Finish, PIXELS, Rows};
use crate::image::Weights;
use core::ops::Range;

/// Columns against rows of weights.
#[derive(Clone, Debug)]
pub(in crate::kernels) struct Tile<'a> {
    /// [`PIXELS`] columns, laid out as the core wants them.
    pub(in crate::kernels) columns: &'a [u8],
    /// Elements of a column.
    pub(in crate::kernels) len: usize,
    /// Columns that are there; at least one.
    pub(in crate::kernels) count: usize,
    /// The sum of each column's elements.
    pub(in crate::kernels) totals: [i32; PIXELS],
    /// The layer.
    pub(in crate::kernels) weights: &'a Weights<'a>,
    /// For each row `bias - zx sum w + n zx zw`, wrapping.
    pub(in crate::kernels) constants: &'a [[u32; 1]],
    /// Rows of weights that are multiplied.
    pub(in crate::kernels) rows: Range<usize>,
    /// Where in the output the channels of each pixel begin.
    pub(in crate::kernels) starts: [usize; PIXELS],
    /// To stored integers.
    pub(in crate::kernels) finish: Finish,
}

#[cfg(any(test, feature = "testing"))]
impl Tile<'_> {
    /// What the inner loop computes, of elements that `element` finds: of a pixel, and an index.
    pub(in crate::kernels) fn plainly(&self, y: &mut [u8], element: impl Fn(usize, usize) -> i32) {
        let weights = self.weights;
        for k in self.rows.clone() {
            for p in 0..self.count {
                let products = (0..self.len).map(|i| element(p, i).wrapping_mul(weights.get(k, self.len, i)));
                let acc = products.fold(self.constants[k][0] as i32, i32::wrapping_add);
                let acc = acc.wrapping_sub(weights.zero_point(k).wrapping_mul(self.totals[p]));
                y[self.starts[p] + k] = self.finish.apply(acc, weights.multipliers.f32(k));
            }
        }
    }
}

/// Where rows of bytes come from and go to.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Source {
    /// What makes a byte of the input one of the columns' signedness.
    pub(in crate::kernels) flip: u8,
    /// Whether the columns are two's complement.
    #[cfg_attr(intact_thumb, expect(dead_code, reason = "columns are unsigned there"))]
    pub(in crate::kernels) signed: bool,
    /// Bytes from the rows of one pixel to those of the next.
    pub(in crate::kernels) step: usize,
    /// Elements of a column.
    #[cfg_attr(intact_thumb, expect(dead_code, reason = "columns lie side by side there"))]
    pub(in crate::kernels) len: usize,
    /// The first pixel's column.
    pub(in crate::kernels) pixel: usize,
    /// The first element.
    pub(in crate::kernels) at: usize,
}

/// The inner loops.
pub(in crate::kernels) trait Raw {
    /// Bytes of four columns for each element.
    const ELEMENT: usize;

    /// Whether columns for these weights are two's complement.
    fn signed(weights: &Weights) -> bool;

    /// Puts `value` into every element of some columns of `len` elements.
    fn fill(columns: &mut [u8], len: usize, pixels: Range<usize>, value: u8);

    /// Copies the rows of as many pixels as there are totals, and adds the sum of each pixel's copies to its total; `to_step` of the
    /// rows is in elements.
    fn copy(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]);

    /// The sum of row `k`.
    fn total(weights: &Weights, k: usize, len: usize) -> i32;

    /// `y[starts[p] + k] = finish(constants[k] + sum w * column[p] - zw * totals[p])` for every row `k` and pixel `p`.
    fn tile(tile: &Tile, y: &mut [u8]);
}
