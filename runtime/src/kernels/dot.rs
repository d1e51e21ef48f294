//! Sums of products, the heart of the portable convolution and dense layer. Enters: columns of inputs, rows of packed
//! weights. Leaves: for each pair the sum of their products, wrapping. Written so that compilers find the vector
//! instructions of the core: several sums at once, no branch, no index check inside the loop.

use crate::{arith::widen, image::Weights};

/// Rows that are worked on at once: as many as leave the sums in registers.
pub(super) const ROWS: usize = if cfg!(target_arch = "arm") { 2 } else { 4 };

/// An element of a column, of which a value is made: an i16 in scratch, or a stored byte.
pub(super) trait Element: Copy {
    /// What it takes to make the value.
    type Context: Copy;

    /// The value, within i16.
    fn value(self, context: Self::Context) -> i32;
}

/// An i16 as bytes, since scratch is bytes.
impl Element for [u8; 2] {
    type Context = ();

    #[inline(always)]
    fn value(self, (): ()) -> i32 {
        i16::from_le_bytes(self).into()
    }
}

/// A stored byte, less its zero point.
impl Element for u8 {
    type Context = Centre;

    #[inline(always)]
    fn value(self, centre: Centre) -> i32 {
        centre.value(self)
    }
}

/// From a stored byte to its distance from the zero point, without a branch on the byte's sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Centre {
    flip: u8,
    add: i16,
}

impl Centre {
    /// Of an encoding.
    pub(super) fn new(signed: bool, zero_point: i32) -> Self {
        // An unsigned byte with its top bit flipped is a signed one, 128 lower.
        let (flip, lift) = if signed { (0, 0) } else { (0x80, 128) };
        Self { flip, add: (lift - zero_point) as i16 }
    }

    /// `x - zx`
    #[inline(always)]
    pub(super) fn value(self, byte: u8) -> i32 {
        (i16::from((byte ^ self.flip) as i8) + self.add).into()
    }
}

/// Weight `i` of a byte.
#[inline(always)]
pub(super) fn weight<const BITS: u32, const SIGNED: bool>(byte: u8, i: usize) -> i32 {
    let high = byte << (8 - BITS - BITS * i as u32);
    widen(high, SIGNED) >> (8 - BITS)
}

/// `sums[p][q] = sum columns[p][i] * rows[q][i]`; all columns have one length, and the rows have the weights for it.
#[inline(always)]
fn tile<E: Element, const BITS: u32, const SIGNED: bool, const P: usize, const Q: usize>(
    columns: [&[E]; P],
    context: E::Context,
    rows: [&[u8]; Q],
) -> [[i32; Q]; P] {
    let per_byte = 8 / BITS as usize;
    let whole = columns[0].len() / per_byte;
    let mut sums = [[0i32; Q]; P];
    let columns_whole = columns.map(|column| &column[..whole * per_byte]);
    let rows_whole = rows.map(|row| &row[..whole]);
    for byte in 0..whole {
        for i in 0..per_byte {
            let values = columns_whole.map(|column| column[byte * per_byte + i].value(context));
            let weights = rows_whole.map(|row| weight::<BITS, SIGNED>(row[byte], i));
            for (sums, value) in sums.iter_mut().zip(values) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = sum.wrapping_add(value * weight);
                }
            }
        }
    }
    for i in 0..columns[0].len() % per_byte {
        for (sums, column) in sums.iter_mut().zip(columns) {
            let value = column[whole * per_byte + i].value(context);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = sum.wrapping_add(value * weight::<BITS, SIGNED>(row[whole], i));
            }
        }
    }
    sums
}

/// For every row from `rows.start` to `rows.end`, and every column, calls `done(p, row, sum)` with the sum of their
/// products.
pub(super) fn for_each_row<E: Element, const P: usize>(
    columns: [&[E]; P],
    context: E::Context,
    weights: &Weights,
    rows: core::ops::Range<usize>,
    done: impl FnMut(usize, usize, i32),
) {
    match (weights.bits, weights.signed) {
        (8, false) => rows_of::<E, 8, false, P>(columns, context, weights, rows, done),
        (8, true) => rows_of::<E, 8, true, P>(columns, context, weights, rows, done),
        (4, false) => rows_of::<E, 4, false, P>(columns, context, weights, rows, done),
        (4, true) => rows_of::<E, 4, true, P>(columns, context, weights, rows, done),
        (_, false) => rows_of::<E, 2, false, P>(columns, context, weights, rows, done),
        (_, true) => rows_of::<E, 2, true, P>(columns, context, weights, rows, done),
    }
}

fn rows_of<E: Element, const BITS: u32, const SIGNED: bool, const P: usize>(
    columns: [&[E]; P],
    context: E::Context,
    weights: &Weights,
    rows: core::ops::Range<usize>,
    mut done: impl FnMut(usize, usize, i32),
) {
    let row_bytes = weights.row_bytes(columns[0].len());
    let row = |k: usize| &weights.data[k * row_bytes..(k + 1) * row_bytes];
    let mut k = rows.start;
    while k + ROWS <= rows.end {
        let sums = tile::<E, BITS, SIGNED, P, ROWS>(columns, context, core::array::from_fn(|q| row(k + q)));
        for (p, sums) in sums.into_iter().enumerate() {
            for (q, sum) in sums.into_iter().enumerate() {
                done(p, k + q, sum);
            }
        }
        k += ROWS;
    }
    for k in k..rows.end {
        let sums = tile::<E, BITS, SIGNED, P, 1>(columns, context, [row(k)]);
        for (p, [sum]) in sums.into_iter().enumerate() {
            done(p, k, sum);
        }
    }
}
