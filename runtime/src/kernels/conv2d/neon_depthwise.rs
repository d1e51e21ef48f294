//! The same integers for a depthwise convolution on plain NEON: taps are read where they lie, 16 channels at a time. Products
//! of bytes are added within 16 bits as long as no input can make them overflow, and then to sums of 32: how many taps go
//! into such a chain depends on the weights alone, and is found out when they are packed.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read")]

use super::{Conv2d, Input, Output};
use crate::kernels::simd::{
    Ends, Form, LANES, Simd,
    neon::{self, Neon},
    panel::{blocks, correction, layers_of_taps},
    stage::Stage,
    tile::{Products, Target, tiles},
};
use core::{arch::aarch64::*, ops::Range};

const FORM: Form = Form::Pairs;

/// Sum of `|w|` up to which products with bytes stay within 16 bits: `255 * 128 < 2^15`.
const CHAIN: u32 = 255;

/// A depthwise convolution with its weights packed.
#[derive(Debug)]
pub(crate) struct Packed {
    neon: Neon,
    stage: Stage,
    /// Bytes of input between two rows, two pixels of the output.
    step: [usize; 2],
    /// Bytes of the output that are computed together: a pixel, or several that fill a block.
    unit: usize,
    blocks: Vec<Block>,
}

/// [`LANES`] channels.
#[derive(Debug)]
struct Block {
    taps: Vec<Tap>,
    /// Taps whose products are added within 16 bits, chain after chain.
    chains: Vec<usize>,
    /// End of the last byte that is read, behind a pixel's first one.
    reach: usize,
    bias: [i32; LANES],
    multipliers: [[f32; LANES]; 1],
}

/// Where a tap's inputs lie behind a pixel's first byte, and what they are multiplied with.
#[derive(Clone, Copy, Debug)]
struct Tap {
    offset: usize,
    weights: [i8; LANES],
}

impl Block {
    /// Puts `taps` into as few chains as are easily found: each takes what fits of those that are left.
    fn new(mut taps: Vec<Tap>, bias: [i32; LANES], multipliers: [f32; LANES]) -> Self {
        let reach = taps.iter().map(|tap| tap.offset + LANES).max().unwrap_or_default();
        let (mut chained, mut chains) = (Vec::new(), Vec::new());
        while !taps.is_empty() {
            let (mut sums, start) = ([0; LANES], chained.len());
            taps.retain(|tap| {
                let with: [u32; LANES] =
                    core::array::from_fn(|lane| sums[lane] + u32::from(tap.weights[lane].unsigned_abs()));
                let fits = with.iter().all(|&sum| sum <= CHAIN);
                if fits {
                    sums = with;
                    chained.push(*tap);
                }
                !fits
            });
            chains.push(chained.len() - start);
        }
        Self { taps: chained, chains, reach, bias, multipliers: [multipliers] }
    }
}

impl Packed {
    /// Packs the weights of a depthwise convolution from `x`, whose bytes do not matter, to `out` rows and columns.
    pub(crate) fn new(neon: Neon, conv: &Conv2d, x: &Input, out: [usize; 2]) -> Self {
        let window = &conv.window;
        let [kernel_h, kernel_w] = window.kernel;
        let channels = x.shape[2];
        // A row of pixels of few channels is one of fewer pixels with a block of channels, over and over the same.
        let unit = if window.stride[1] == 1 && LANES.is_multiple_of(channels) { LANES } else { channels };
        let whole_blocks = channels.is_multiple_of(LANES);
        let stage = Stage::new(FORM, x, window, out, whole_blocks);
        let weight = |tap: usize, c: usize| conv.weights.get(tap, channels, c) - conv.weights.zero_point(c);
        let bias = blocks(0..unit, |lane| {
            let c = lane % channels;
            let weights = (0..kernel_h * kernel_w).map(|tap| weight(tap, c));
            conv.weights.bias.i32(c).wrapping_add(correction(FORM, x, weights))
        });
        let multipliers = blocks(0..unit, |lane| conv.weights.multipliers.f32(lane % channels));
        let layers = layers_of_taps(FORM, &conv.weights, kernel_h * kernel_w, channels);
        let layers = layers.as_slice();
        let taps = |first: usize| -> Vec<Tap> {
            let positions = (0..kernel_h).flat_map(|r| (0..kernel_w).map(move |s| (r, s)));
            let tap = |(r, s)| {
                let row = r * window.dilation[0] * stage.row_bytes();
                let offset = row + s * window.dilation[1] * stage.pixel_bytes() + first;
                layers.iter().map(move |layer| {
                    let at = |channel: usize| (r * kernel_w + s) * channels + channel % channels;
                    let weight = |channel: usize| if channel < unit { layer[at(channel)] as i8 } else { 0 };
                    Tap { offset, weights: core::array::from_fn(|lane| weight(first + lane)) }
                })
            };
            positions.flat_map(tap).filter(|tap| tap.weights != [0; LANES]).collect()
        };
        let blocks = bias
            .into_iter()
            .zip(multipliers)
            .enumerate()
            .map(|(i, (bias, multipliers))| Block::new(taps(i * LANES), bias, multipliers))
            .collect();
        let step = [window.stride[0] * stage.row_bytes(), window.stride[1] * unit];
        Self { neon, stage, step, unit, blocks }
    }

    /// Bytes of memory that a run needs.
    pub(crate) const fn memory(&self) -> usize {
        self.stage.bytes()
    }

    /// Writes rows `rows` of the convolution's output, which is all of `y.bytes`.
    #[inline(always)]
    pub(crate) fn run(&self, x: &Input, y: &mut Output, rows: Range<usize>, memory: &mut [u8]) {
        let staged = self.stage.run(x, self.stage.rows(&rows), memory);
        let ends = Ends::new(y.zero_point, y.clamp);
        let row_bytes = y.shape[1] * y.shape[2];
        let pixels = row_bytes.div_ceil(self.unit);
        for (oy, y) in y.bytes.chunks_exact_mut(row_bytes).enumerate() {
            let x = &staged.bytes[oy * self.step[0]..];
            for (i, block) in self.blocks.iter().enumerate() {
                let count = LANES.min(self.unit - i * LANES);
                let target = Target { y: &mut y[i * LANES..], step: self.unit, count, ends };
                let products = Own::new((x, self.step[1], pixels), block);
                let (neon, multipliers) = (self.neon, &block.multipliers);
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
}

impl<'a> Own<'a> {
    /// Of `pixels` pixels, the first at the start of `x` and the others `step` bytes apart.
    ///
    /// # Panics
    /// When `x` is too short for the taps.
    #[inline(always)]
    fn new((x, step, pixels): (&'a [u8], usize, usize), block: &'a Block) -> Self {
        assert!(pixels > 0 && (pixels - 1) * step + block.reach <= x.len());
        Self { x, step, pixels, block }
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
        let mut taps = self.block.taps.as_slice();
        for &len in &self.block.chains {
            let chain;
            (chain, taps) = taps.split_at(len);
            // SAFETY: the core has NEON; no tap reads beyond `reach`, and that was found to be there for the last pixel.
            unsafe { add_chain(&mut sums, self.x.as_ptr().add(start * self.step), self.step, chain) };
        }
        sums
    }
}

/// Adds the products of a chain.
///
/// # Safety
/// 16 bytes of each tap can be read of each pixel.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_chain<const P: usize>(sums: &mut [[neon::Sums; 1]; P], x: *const u8, step: usize, chain: &[Tap]) {
    let Some((first, rest)) = chain.split_first() else { return };
    // SAFETY: the caller has seen to it; weights are 16 bytes.
    let read = |tap: &Tap, p: usize| unsafe { vld1q_s8(x.add(p * step + tap.offset).cast()) };
    // SAFETY: as above.
    let weights = |tap: &Tap| unsafe { vld1q_s8(tap.weights.as_ptr()) };
    let w = weights(first);
    let mut words: [_; P] = core::array::from_fn(|p| {
        let x = read(first, p);
        [vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w)]
    });
    for tap in rest {
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
