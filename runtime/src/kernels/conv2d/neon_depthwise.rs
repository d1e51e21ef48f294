//! The same integers for a depthwise convolution on plain NEON: chains of taps ([`chained_depthwise`](super::chained_depthwise)),
//! read where they lie, 16 channels at a time.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read")]

use super::{
    Input, Output,
    chained_depthwise::{Block, Packed},
};
use crate::kernels::simd::{
    Ends, LANES, Row, Simd,
    neon::{self, Neon},
    stage::Staging,
    tile::{Products, Target, tiles},
};
use core::{arch::aarch64::*, ops::Range};

/// Weights of a tap.
type Tap = [u8; LANES];

impl Packed {
    /// Writes rows `rows` of the convolution's output, which is all of `y.bytes`; of the input so many rows above are left out. `weights` are the packed
    /// rows of the network.
    #[inline(always)]
    pub(crate) fn run(
        &self,
        neon: Neon,
        weights: &[Row],
        (x, above): (&Input, usize),
        y: &mut Output,
        rows: Range<usize>,
        memory: &mut [u8],
    ) {
        let staged = self.stage.below(above).run(x, self.stage.rows(&rows), memory, Staging::InOrder);
        let ends = Ends::new(y.zero_point, y.clamp);
        let row_bytes = y.shape[1] * y.shape[2];
        let pixels = row_bytes.div_ceil(self.unit);
        for (oy, y) in y.bytes.chunks_exact_mut(row_bytes).enumerate() {
            let x = &staged.bytes[oy * self.step[0]..];
            let mut left = &weights[self.rows.clone()];
            for (i, block) in self.blocks.iter().enumerate() {
                let weights;
                (weights, left) = left.split_at(block.rows);
                let count = LANES.min(self.unit - i * LANES);
                let target = Target { y: &mut y[i * LANES..], step: self.unit, count, ends };
                let products = Own::new((x, self.step[1], pixels), block, weights);
                let multipliers = &block.multipliers;
                match pixels {
                    1 => tiles::<Neon, 1, 1>(neon, &products, multipliers, target),
                    2 | 3 => tiles::<Neon, 2, 1>(neon, &products, multipliers, target),
                    _ => tiles::<Neon, 4, 1>(neon, &products, multipliers, target),
                }
            }
        }
    }
}

/// Inputs of a row of output pixels and what they are multiplied with, found to be there.
struct Own<'a> {
    x: &'a [u8],
    step: usize,
    pixels: usize,
    block: &'a Block,
    taps: &'a [Row],
}

impl<'a> Own<'a> {
    /// Of `pixels` pixels, the first at the start of `x` and the others `step` bytes apart.
    ///
    /// # Panics
    /// When `x` is too short for the taps, or there are not as many weights.
    #[inline(always)]
    fn new((x, step, pixels): (&'a [u8], usize, usize), block: &'a Block, rows: &'a [Row]) -> Self {
        assert!(pixels > 0 && (pixels - 1) * step + block.reach <= x.len() && rows.len() == block.rows);
        Self { x, step, pixels, block, taps: rows }
    }
}

impl Products<Neon, 1> for Own<'_> {
    #[inline(always)]
    fn pixels(&self) -> usize {
        self.pixels
    }

    /// `sums[p] = bias + sum x * weights`, where each channel has its own inputs.
    #[inline(always)]
    unsafe fn sums<const P: usize>(&self, neon: Neon, start: usize) -> [[neon::Sums; 1]; P] {
        debug_assert!(start + P <= self.pixels);
        let mut sums = [[neon.load(&self.block.bias)]; P];
        let (mut offsets, mut taps) = (self.block.offsets.as_ptr(), self.taps.as_ptr().cast::<Tap>());
        for &len in &self.block.chains {
            // SAFETY: the core has NEON; chains have as many taps as there are offsets, and four of them a row; no tap reads beyond
            // `reach`, and that was found to be there for the last pixel.
            unsafe {
                let first = self.x.as_ptr().add(start * self.step);
                add_chain(&mut sums, first, self.step, (offsets, taps), len);
                (offsets, taps) = (offsets.add(len), taps.add(len));
            }
        }
        sums
    }
}

/// Adds the products of a chain of `len` taps: offsets of inputs, and weights.
///
/// # Safety
/// There are as many, at least one, and 16 bytes at each offset can be read of each pixel.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_chain<const P: usize>(
    sums: &mut [[neon::Sums; 1]; P],
    x: *const u8,
    step: usize,
    (offsets, taps): (*const usize, *const Tap),
    len: usize,
) {
    // SAFETY: the caller has seen to it; weights are 16 bytes.
    let read = |tap: usize, p: usize| unsafe { vld1q_s8(x.add(p * step + *offsets.add(tap)).cast()) };
    // SAFETY: as above.
    let weights = |tap: usize| unsafe { vld1q_s8(taps.add(tap).cast()) };
    let w = weights(0);
    let mut words: [_; P] = core::array::from_fn(|p| {
        let x = read(0, p);
        [vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w)]
    });
    for tap in 1..len {
        let w = weights(tap);
        for (p, words) in words.iter_mut().enumerate() {
            let x = read(tap, p);
            words[0] = vmlal_s8(words[0], vget_low_s8(x), vget_low_s8(w));
            words[1] = vmlal_high_s8(words[1], x, w);
        }
    }
    for ([sums], words) in sums.iter_mut().zip(words) {
        for (i, words) in words.into_iter().enumerate() {
            sums[2 * i] = vaddw_s16(sums[2 * i], vget_low_s16(words));
            sums[2 * i + 1] = vaddw_high_s16(sums[2 * i + 1], words);
        }
    }
}
