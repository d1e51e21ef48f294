//! What the kernels of all Cortex-M cores share: columns of inputs, four output pixels at a time. Enters: bytes. Leaves: the words of
//! a scratch, and what the inner loops are told. Refuses nothing.

#![allow(unsafe_code, reason = "safe Rust has no way from bytes to words")]

use crate::arith::{Requantize, Requantizer};

/// Output pixels that are worked on at once.
pub(in crate::kernels) const PIXELS: usize = 4;

/// Bytes in rows: each has `run` of them, and `to_step` are the bytes, or elements, from the start of a row to that of the next
/// where they are put.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Rows<'a> {
    /// From the first row on.
    pub(in crate::kernels) bytes: &'a [u8],
    /// At least one.
    pub(in crate::kernels) rows: usize,
    /// At least one.
    pub(in crate::kernels) run: usize,
    /// Bytes from row to row.
    pub(in crate::kernels) step: usize,
    /// Bytes, or elements, from row to row.
    pub(in crate::kernels) to_step: usize,
}

/// How accumulators become bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Finish {
    /// `zy`.
    pub(in crate::kernels) zero_point: i32,
    /// `lo`, `hi`.
    pub(in crate::kernels) clamp: [i32; 2],
}

impl Finish {
    /// The stored integer of an accumulator.
    pub(in crate::kernels) fn apply(self, acc: i32, m: f32) -> u8 {
        Requantizer::new(m, self.zero_point, self.clamp).apply(acc) as u8
    }
}

/// Arrays of words in `scratch`: all that fit when it starts at a multiple of 4, else perhaps one less.
pub(in crate::kernels) fn words<const N: usize>(scratch: &mut [u8]) -> &mut [[u32; N]] {
    // SAFETY: every pattern of bits is a u32, and the slice that comes back is exclusive as the one that went in.
    unsafe { scratch.align_to_mut().1 }
}

/// Halves of words in `scratch`, from the first multiple of 4 on.
pub(in crate::kernels) fn halves(scratch: &mut [u8]) -> &mut [i16] {
    // SAFETY: every pattern of bits is an i16, and the slice that comes back is exclusive as the one that went in.
    unsafe { words::<1>(scratch).align_to_mut().1 }
}
