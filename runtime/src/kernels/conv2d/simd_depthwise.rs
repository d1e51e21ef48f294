//! The same integers for a depthwise convolution, with the host's vector instructions. Taps that lie below each other are
//! interleaved, element by element, into one line for each row of the output; there a channel's inputs fill its four bytes
//! of a register, and each line serves all columns of taps.

use super::{Conv2d, Input, Output};
use crate::kernels::simd::{
    Ends, Form, LANES, Simd,
    panel::{blocks, correction, layers_of_taps, pack},
    stage::Stage,
    tile::{Own, Taps, Target, tiles},
};
use core::ops::Range;

/// A depthwise convolution with its weights packed.
#[derive(Debug)]
pub(crate) struct Packed {
    stage: Stage,
    form: Form,
    /// Lines, one below the other, that the taps of a column fill.
    lines: usize,
    /// Elements of a line, each of four bytes.
    line: usize,
    kernel_h: usize,
    /// Staged rows between two taps, between two rows of the output.
    rows: [usize; 2],
    /// Elements of a line between two pixels of the output.
    step: usize,
    /// Bytes of the output that are computed together: a pixel, or several that fill a block.
    unit: usize,
    blocks: Vec<Block>,
}

/// [`LANES`] channels.
#[derive(Debug)]
struct Block {
    taps: Taps,
    bias: [i32; LANES],
    multipliers: [[f32; LANES]; 1],
}

impl Packed {
    /// Packs the weights of a depthwise convolution from `x`, whose bytes do not matter, to `out` rows and columns.
    pub(crate) fn new(form: Form, conv: &Conv2d, x: &Input, out: [usize; 2]) -> Self {
        let window = &conv.window;
        let [kernel_h, kernel_w] = window.kernel;
        let channels = x.shape[2];
        let stage = Stage::new(form, x, window, out, true);
        let (in_line, element) = (form.row_elements(), form.element_bytes());
        let lines = kernel_h.div_ceil(in_line);
        let line = stage.row_bytes() / element + LANES;
        // A row of pixels of few channels is one of fewer pixels with a block of channels, over and over the same.
        let unit = if window.stride[1] == 1 && LANES.is_multiple_of(channels) { LANES } else { channels };
        let weight = |tap: usize, c: usize| conv.weights.get(tap, channels, c) - conv.weights.zero_point(c);
        let bias = blocks(0..unit, |lane| {
            let c = lane % channels;
            let weights = (0..kernel_h * kernel_w).map(|tap| weight(tap, c));
            conv.weights.bias.i32(c).wrapping_add(correction(form, x, weights))
        });
        let multipliers = blocks(0..unit, |lane| conv.weights.multipliers.f32(lane % channels));
        let layers = layers_of_taps(form, &conv.weights, kernel_h * kernel_w, channels);
        let taps = |first: usize| {
            let mut taps = Vec::new();
            for (i, layer) in layers.iter().enumerate() {
                for (l, s) in (0..lines).flat_map(|l| (0..kernel_w).map(move |s| (l, s))) {
                    let row = pack(form, |lane| {
                        let mut weights = [0; 4];
                        if first + lane < unit {
                            let c = (first + lane) % channels;
                            for (byte, weight) in weights.iter_mut().enumerate() {
                                let r = l * in_line + byte / element;
                                if r < kernel_h {
                                    *weight = layer[((r * kernel_w + s) * channels + c) * element + byte % element];
                                }
                            }
                        }
                        weights
                    });
                    if i == 0 || row.0 != [0; 64] {
                        taps.push((l * line + s * window.dilation[1] * channels + first, row));
                    }
                }
            }
            Taps::new(taps)
        };
        let blocks = bias
            .into_iter()
            .zip(multipliers)
            .enumerate()
            .map(|(i, (bias, multipliers))| Block { taps: taps(i * LANES), bias, multipliers: [multipliers] })
            .collect();
        Self {
            stage,
            form,
            lines,
            line,
            kernel_h,
            rows: [window.dilation[0], window.stride[0]],
            step: window.stride[1] * unit,
            unit,
            blocks,
        }
    }

    /// Bytes of memory that a run needs.
    pub(crate) const fn memory(&self) -> usize {
        self.stage.bytes() + self.lines * self.line * 4
    }

    /// Writes rows `rows` of the convolution's output, which is all of `y.bytes`.
    #[inline(always)]
    pub(crate) fn run<V: Simd>(&self, simd: V, x: &Input, y: &mut Output, rows: Range<usize>, memory: &mut [u8]) {
        let (stage_memory, lines) = memory.split_at_mut(self.stage.bytes());
        let staged = self.stage.run(x, self.stage.rows(&rows), stage_memory);
        let (lines, _) = lines[..self.lines * self.line * 4].as_chunks_mut::<4>();
        let ends = Ends::new(y.zero_point, y.clamp);
        let row_bytes = y.shape[1] * y.shape[2];
        for (oy, y) in y.bytes.chunks_exact_mut(row_bytes).enumerate() {
            for (l, line) in lines.chunks_exact_mut(self.line).enumerate() {
                self.interleave(simd, staged.bytes, oy * self.rows[1], l, line);
            }
            let pixels = row_bytes.div_ceil(self.unit);
            for (i, block) in self.blocks.iter().enumerate() {
                let count = LANES.min(self.unit - i * LANES);
                let target = Target { y: &mut y[i * LANES..], step: self.unit, count, ends };
                let products = Own::new((lines, self.step, pixels), &block.taps, &block.bias);
                let multipliers = &block.multipliers;
                match pixels.min(V::SUMS) {
                    1 => tiles::<V, 1, 1>(simd, &products, multipliers, target),
                    2 | 3 => tiles::<V, 2, 1>(simd, &products, multipliers, target),
                    4..8 => tiles::<V, 4, 1>(simd, &products, multipliers, target),
                    _ => tiles::<V, 8, 1>(simd, &products, multipliers, target),
                }
            }
        }
    }

    /// Fills line `l` for the taps from staged row `top` on.
    #[inline(always)]
    fn interleave<V: Simd>(&self, simd: V, staged: &[u8], top: usize, l: usize, line: &mut [[u8; 4]]) {
        let (len, element) = (self.stage.row_bytes(), self.form.element_bytes());
        // Taps below the last one have weights of 0: any row will do.
        let row = |i: usize| {
            let r = (l * self.form.row_elements() + i).min(self.kernel_h - 1);
            &staged[(top + r * self.rows[0]) * len..][..len]
        };
        let rows = [row(0), row(1), row(2), row(3)];
        simd.interleave(rows.map(|row| row.as_chunks().0), line);
        if len > CHUNK && !len.is_multiple_of(CHUNK) {
            // The last chunk begins before the one before it ends: both write the same.
            let (start, last) = (len - CHUNK, |i: usize| rows[i].last_chunk().expect("a whole chunk"));
            let line = &mut line[start / element..][..CHUNK / element];
            simd.interleave_chunk([last(0), last(1), last(2), last(3)], line);
        }
        if len < CHUNK {
            let mut padded = [[0; CHUNK]; 4];
            padded.iter_mut().zip(rows).for_each(|(padded, row)| padded[..len].copy_from_slice(row));
            let mut whole = [[0; 4]; CHUNK];
            simd.interleave_chunk(padded.each_ref(), &mut whole[..CHUNK / element]);
            line[..len / element].copy_from_slice(&whole[..len / element]);
        }
    }
}

/// Bytes of a row that are interleaved at once.
const CHUNK: usize = 64;
