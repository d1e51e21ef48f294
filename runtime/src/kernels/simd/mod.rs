//! Vector instructions of the host, as values. Enters: sixteen 32-bit sums at a time and rows of packed weights. Leaves: the
//! sums, and stored bytes. Refuses nothing; that a core lacks an instruction cannot happen, since a value of its set comes
//! from [`detect`](crate::host::Isa::all) alone.
//!
//! Kernels are written once, over [`Simd`], and compiled for each instruction set by [`Simd::vectorize`]. All functions
//! between that call and the instructions must be `inline(always)`: what is not inlined is compiled for the plain core.
//!
//! The unit of all sums of products is a *row*: 16 output channels times four bytes of input, that is four elements of one
//! byte or two of two ([`Form`]).

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512vnni;
#[cfg(target_arch = "aarch64")]
pub(crate) mod dotprod;
#[cfg(target_arch = "aarch64")]
mod dotprod_four;
#[cfg(target_arch = "aarch64")]
mod four;
#[cfg(target_arch = "aarch64")]
pub(crate) mod i8mm;
#[cfg(target_arch = "aarch64")]
mod i8mm_four;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_four;
pub(crate) mod packed;
pub(crate) mod packing;
pub(crate) mod panel;
pub(crate) mod stage;
pub(crate) mod tile;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::Registers;

use super::add::simd::{CHUNK, Constants};
use packing::Packing;
use tile::{Runs, Taps};

/// No tile registers.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug, Default)]
pub(crate) struct Registers(());

/// Output channels that are worked on together.
pub(crate) const LANES: usize = 16;

/// Weights of four bytes of input, for [`LANES`] channels, in the order of their [`Form`]. Rows that begin at multiples of
/// 64 are read fastest.
pub(crate) type Row = [u8; 4 * LANES];

/// How elements of input and weights are given to an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Inputs as u8, weights as i8: four to a row, channel by channel.
    Bytes,
    /// The same in pairs of rows: eight to a pair, channel by channel.
    Eights,
    /// Inputs as i8, weights as i8 but -128: four to a row, channel by channel.
    Signed,
    /// The same; the first two of each channel, and then the other two.
    Pairs,
    /// `x - zx` and `w - zw` as i16: two to a row, channel by channel.
    Words,
}

impl Form {
    /// Bytes of an element of input.
    pub(crate) const fn element_bytes(self) -> usize {
        match self {
            Self::Bytes | Self::Eights | Self::Signed | Self::Pairs => 1,
            Self::Words => 2,
        }
    }

    /// Whether rows are multiplied in groups ([`tile::Runs`]).
    pub(crate) const fn in_groups(self) -> bool {
        matches!(self, Self::Eights | Self::Signed | Self::Pairs)
    }

    /// Rows that only stand together.
    pub(crate) const fn unit(self) -> usize {
        if matches!(self, Self::Eights) { 2 } else { 1 }
    }

    /// That of rows which each channel multiplies with inputs of its own: they stand alone.
    pub(crate) const fn own(self) -> Self {
        if matches!(self, Self::Eights) { Self::Bytes } else { self }
    }

    /// Whether sums of 16 bits may hold the products of two rows ([`tile::Runs`]).
    pub(crate) const fn has_chains(self) -> bool {
        matches!(self, Self::Pairs)
    }

    /// Whether staged bytes have a sign.
    pub(crate) const fn is_signed(self) -> bool {
        matches!(self, Self::Signed | Self::Pairs)
    }

    /// Elements of input in a row.
    pub(crate) const fn row_elements(self) -> usize {
        4 / self.element_bytes()
    }
}

/// What requantization needs beside the multipliers.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "some of it is for instructions of x86"))]
pub(crate) struct Ends {
    /// `lo - zy`, `hi - zy`.
    pub(crate) clamp: [f32; 2],
    /// `zy`, as it is stored.
    pub(crate) zero_point: u8,
    /// `zy - lo`.
    pub(crate) above: i16,
    /// `hi - lo`.
    pub(crate) span: u8,
    /// `lo`, as it is stored.
    pub(crate) low: u8,
}

impl Ends {
    /// Of an op that writes with this zero point and clamp.
    pub(crate) fn new(zero_point: i32, clamp: [i32; 2]) -> Self {
        let [low, high] = clamp;
        Self {
            clamp: clamp.map(|end| (end - zero_point) as f32),
            zero_point: zero_point as u8,
            above: (zero_point - low) as i16,
            span: (high - low) as u8,
            low: low as u8,
        }
    }

    /// Whether rounded values are stored as they are, cut off at 0 and 255.
    pub(crate) const fn is_full(&self) -> bool {
        self.above == 0 && self.span == u8::MAX && self.low == 0
    }
}

/// A piece of work that is compiled for each instruction set.
pub(crate) trait Kernel {
    /// What it leaves.
    type Output;

    /// Does it. Implementations are `inline(always)`.
    fn run<V: Simd>(self, simd: V) -> Self::Output;
}

/// An instruction set that the core has.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// [`LANES`] 32-bit integers.
    type Lanes: Copy;

    /// How it wants weights.
    const PACKING: Packing;

    /// How it wants elements.
    const FORM: Form = Self::PACKING.layout().form;

    /// Blocks of [`LANES`] channels that a panel has at most: 1 to 4.
    const MAX_BLOCKS: usize = Self::PACKING.layout().max_blocks;

    /// Sums of [`LANES`] channels that the registers hold beside the operands, at least [`Self::MAX_BLOCKS`].
    const SUMS: usize;

    /// Runs `kernel` compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    /// Tile registers, if it has them.
    #[cfg(target_arch = "x86_64")]
    fn matrix(self) -> Option<amx::Amx> {
        None
    }

    /// NEON, if it is that and nothing more.
    #[cfg(target_arch = "aarch64")]
    fn plain_neon(self) -> Option<neon::Neon> {
        None
    }

    /// Integers from memory.
    fn load(self, values: &[i32; LANES]) -> Self::Lanes;

    /// `acc[k] + sum x[i] * weights[k][i]`, wrapping: the same input for all channels.
    fn dot(self, acc: Self::Lanes, x: [u8; 4], weights: &Row) -> Self::Lanes;

    /// Adds `x[p][i] * weights[n][k][i]` to `sums[p][n][k]`, of `R` rows: 4, 2 or 1.
    ///
    /// # Safety
    /// Four bytes for each row can be read from each `x` on.
    #[inline(always)]
    #[allow(unsafe_code, reason = "inputs are read without a check for each of them")]
    unsafe fn dot_group<const R: usize, const P: usize, const N: usize>(
        self,
        sums: &mut [[Self::Lanes; N]; P],
        x: [*const u8; P],
        weights: &[[Row; N]; R],
    ) {
        for (r, row) in weights.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(x) {
                // SAFETY: the caller has seen to it that they can be read.
                let x = unsafe { x.add(4 * r).cast::<[u8; 4]>().read() };
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = self.dot(*sum, x, row);
                }
            }
        }
    }

    /// `acc[k] + sum x[k][i] * weights[k][i]`, wrapping: each channel has its own input.
    fn dot_each(self, acc: Self::Lanes, x: &[u8; 64], weights: &Row) -> Self::Lanes;

    /// `sums[p][n] = bias[n] + sum x[p] * weights[n]`, over the inputs that `runs` names.
    ///
    /// # Safety
    /// They can be read from each `x` on, and as many rows of weights as `runs` has.
    #[inline(always)]
    #[allow(unsafe_code, reason = "inputs are read without a check for each of them")]
    unsafe fn shared<const P: usize, const N: usize>(
        self,
        x: [*const u8; P],
        runs: &Runs,
        weights: *const [Row; N],
        bias: &[[i32; LANES]; N],
    ) -> [[Self::Lanes; N]; P] {
        // SAFETY: the caller has seen to it.
        unsafe { tile::shared(self, x, runs, weights, bias) }
    }

    /// `sums[p][k] = bias[k] + sum x[p][k] * weights[k]`: each channel has its own inputs, those of a tap side by side.
    ///
    /// # Safety
    /// [`LANES`] elements can be read at each tap's offset behind each `x`, and there is a row of weights for each tap.
    #[inline(always)]
    #[allow(unsafe_code, reason = "inputs are read without a check for each of them")]
    unsafe fn own<const P: usize>(
        self,
        x: [*const [u8; 4]; P],
        taps: &Taps,
        weights: &[Row],
        bias: &[i32; LANES],
    ) -> [Self::Lanes; P] {
        // SAFETY: the caller has seen to it.
        unsafe { tile::own(self, x, taps, weights, bias) }
    }

    /// Whether requantization without a clamp other than the limits of u8 is worth code of its own.
    const FULL_PAYS: bool = false;

    /// `clamp(RNE(f32(f32(acc) * M)) + zy, lo, hi)` of each lane. `FULL` says that [`Ends::is_full`].
    fn requantize<const FULL: bool>(self, acc: Self::Lanes, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES];

    /// [`Self::requantize`] of four pixels.
    #[inline(always)]
    fn requantize_four<const FULL: bool>(
        self,
        acc: [Self::Lanes; 4],
        multipliers: &[f32; LANES],
        ends: Ends,
    ) -> [[u8; LANES]; 4] {
        let [a, b, c, d] = acc;
        [
            self.requantize::<FULL>(a, multipliers, ends),
            self.requantize::<FULL>(b, multipliers, ends),
            self.requantize::<FULL>(c, multipliers, ends),
            self.requantize::<FULL>(d, multipliers, ends),
        ]
    }

    /// Elements of rows below each other side by side: 64 bytes each of four rows of bytes, or of the first two of words.
    ///
    /// # Panics
    /// When `line` has other than as many elements.
    fn interleave_chunk(self, rows: [&[u8; 64]; 4], line: &mut [[u8; 4]]);

    /// [`Self::interleave_chunk`] of chunk after chunk.
    ///
    /// # Panics
    /// When `line` has fewer elements, or rows fewer chunks than the first one.
    #[inline(always)]
    fn interleave(self, [a, b, c, d]: [&[[u8; 64]]; 4], line: &mut [[u8; 4]]) {
        for (i, (a, line)) in a.iter().zip(line.chunks_exact_mut(64 / Self::FORM.element_bytes())).enumerate() {
            self.interleave_chunk([a, &b[i], &c[i], &d[i]], line);
        }
    }

    /// Asks for bytes that are read soon, or written: another core may have them.
    #[inline(always)]
    fn fetch<const WRITTEN: bool>(self, _bytes: &[u8]) {}

    /// The sums of an Add.
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK];
}

/// Two words as one integer, the first in the low half.
#[cfg(target_arch = "x86_64")]
fn pair([low, high]: [i16; 2]) -> i32 {
    i32::from(high) << 16 | i32::from(low as u16)
}
