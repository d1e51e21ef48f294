//! The same integers for a depthwise convolution, with the host's vector instructions. Taps that lie below each other are
//! interleaved, element by element, into one line for each row of the output; there a channel's inputs fill its four bytes
//! of a register, and each line serves all columns of taps. Rows are staged when they are first read, in a ring that the cache holds.

use super::{Conv2d, Input, Output};
use crate::kernels::simd::{
    Ends, Form, LANES, Row, Simd,
    packing::{Sink, Source, Spoiled},
    panel::{blocks, correction, layers_of_taps, pack},
    stage::Stage,
    tile::{Own, Taps, Target, tiles},
};
use core::ops::Range;

/// A depthwise convolution with its weights packed.
#[derive(Debug)]
pub(crate) struct Packed {
    plan: Plan,
    /// Of the packed rows, one for each tap of each block.
    rows: Range<usize>,
    blocks: Vec<Block>,
}

/// What shapes alone say.
#[derive(Debug)]
struct Plan {
    stage: Stage,
    form: Form,
    /// Lines, one below the other, that the taps of a column fill.
    lines: usize,
    /// Elements of a line, each of four bytes.
    line: usize,
    /// Of the window: rows, columns.
    kernel: [usize; 2],
    /// Staged rows between two taps.
    rows: usize,
    /// Elements of a line between two columns of taps, two pixels of the output.
    step: [usize; 2],
    channels: usize,
    /// Bytes of the output that are computed together: a pixel, or several that fill a block.
    unit: usize,
}

/// [`LANES`] channels.
#[derive(Debug)]
struct Block {
    taps: Taps,
    bias: [i32; LANES],
    multipliers: [[f32; LANES]; 1],
}

impl Plan {
    fn new(form: Form, conv: &Conv2d, x: &Input, out: [usize; 2]) -> Self {
        let window = &conv.window;
        let channels = x.shape[2];
        let stage = Stage::new(form, x, window, out, true);
        // A row of pixels of few channels is one of fewer pixels with a block of channels, over and over the same.
        let unit = if window.stride[1] == 1 && LANES.is_multiple_of(channels) { LANES } else { channels };
        Self {
            stage,
            form,
            lines: window.kernel[0].div_ceil(form.row_elements()),
            line: stage.row_bytes() / form.element_bytes() + LANES,
            kernel: window.kernel,
            rows: window.dilation[0],
            step: [window.dilation[1] * channels, window.stride[1] * unit],
            channels,
            unit,
        }
    }

    /// Of each row of weights of a layer in which none is left out: its line and column of taps.
    fn taps(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let columns = self.kernel[1];
        (0..self.lines).flat_map(move |l| (0..columns).map(move |s| [l, s]))
    }

    /// Where behind a pixel's first element the inputs of each of [`Self::taps`] start, for the block of channels from `first` on.
    fn offsets(&self, first: usize) -> Vec<usize> {
        self.taps().map(|[l, s]| l * self.line + s * self.step[0] + first).collect()
    }
}

impl Packed {
    /// Packs the weights of a depthwise convolution from `x`, whose bytes do not matter, to `out` rows and columns.
    pub(crate) fn pack(form: Form, conv: &Conv2d, x: &Input, out: [usize; 2], sink: &mut Sink) {
        let plan = Plan::new(form, conv, x, out);
        let Plan { channels, unit, kernel: [kernel_h, kernel_w], .. } = plan;
        let (in_line, element) = (form.row_elements(), form.element_bytes());
        let layers = layers_of_taps(form, &conv.weights, kernel_h * kernel_w, channels);
        for (i, bias) in biases(form, conv, x, unit).into_iter().enumerate() {
            let row = |layer: &[u8], [l, s]: [usize; 2]| {
                pack(form, |lane| {
                    let mut weights = [0; 4];
                    if i * LANES + lane < unit {
                        let c = (i * LANES + lane) % channels;
                        for (byte, weight) in weights.iter_mut().enumerate() {
                            let r = l * in_line + byte / element;
                            if r < kernel_h {
                                *weight = layer[((r * kernel_w + s) * channels + c) * element + byte % element];
                            }
                        }
                    }
                    weights
                })
            };
            // The first layer is all there; of the others what is not 0.
            sink.rows.extend(plan.taps().map(|tap| row(&layers[0], tap)));
            let mut places = Vec::new();
            for layer in &layers[1..] {
                let rows = plan.taps().map(|tap| row(layer, tap)).enumerate();
                for (place, row) in rows.filter(|(_, row)| *row != [0; 64]) {
                    places.push(place);
                    sink.rows.push(row);
                }
            }
            sink.numbers([places.len()]);
            sink.numbers(places);
            sink.biases(&[bias]);
        }
    }

    /// Reads what [`Self::pack`] has packed.
    pub(crate) fn read(
        form: Form,
        conv: &Conv2d,
        x: &Input,
        out: [usize; 2],
        source: &mut Source,
    ) -> Result<Self, Spoiled> {
        let plan = Plan::new(form, conv, x, out);
        let multipliers = blocks(0..plan.unit, |lane| conv.weights.multipliers.f32(lane % plan.channels));
        let block = |(i, multipliers): (usize, [f32; LANES])| {
            let mut offsets = plan.offsets(i * LANES);
            let count = source.count()?;
            let extra = source.numbers(count, offsets.len())?.map(|place| place.map(|place| offsets[place]));
            let extra = extra.collect::<Result<Vec<_>, _>>()?;
            offsets.extend(extra);
            let bias = source.biases(1)?[0];
            Ok(Block { taps: Taps::new(offsets), bias, multipliers: [multipliers] })
        };
        let blocks = multipliers.into_iter().enumerate().map(block).collect::<Result<Vec<_>, _>>()?;
        let rows = source.rows(blocks.iter().map(|block| block.taps.len()).sum())?;
        Ok(Self { plan, rows, blocks })
    }

    /// Bytes of memory that a run needs.
    pub(crate) const fn memory(&self) -> usize {
        self.plan.stage.ring_bytes() + self.plan.lines * self.plan.line * 4
    }

    /// Writes rows `rows` of the convolution's output, which is all of `y.bytes`; of the input so many rows above are left out. `weights` are the packed
    /// rows of the network.
    #[inline(always)]
    pub(crate) fn run<V: Simd>(
        &self,
        simd: V,
        weights: &[Row],
        (x, above): (&Input, usize),
        y: &mut Output,
        rows: Range<usize>,
        memory: &mut [u8],
    ) {
        let plan = Plan { stage: self.plan.stage.below(above), ..self.plan };
        let weights = &weights[self.rows.clone()];
        let (memory, lines) = memory.split_at_mut(plan.stage.ring_bytes());
        let (lines, _) = lines[..plan.lines * plan.line * 4].as_chunks_mut::<4>();
        let ends = Ends::new(y.zero_point, y.clamp);
        let (row_bytes, mut end) = (y.shape[1] * y.shape[2], 0);
        for (oy, y) in rows.zip(y.bytes.chunks_exact_mut(row_bytes)) {
            let read = plan.stage.rows(&(oy..oy + 1));
            let staged = if let Some(ring) = plan.stage.ring() {
                for row in read.start.max(end)..read.end {
                    plan.stage.row(
                        x,
                        row,
                        &mut memory[row % ring * plan.stage.row_bytes()..][..plan.stage.row_bytes()],
                    );
                }
                end = read.end;
                &*memory
            } else {
                x.bytes
            };
            for (l, line) in lines.chunks_exact_mut(plan.line).enumerate() {
                plan.interleave(simd, staged, read.start, l, line);
            }
            let pixels = row_bytes.div_ceil(plan.unit);
            let mut left = weights;
            for (i, block) in self.blocks.iter().enumerate() {
                let weights;
                (weights, left) = left.split_at(block.taps.len());
                let count = LANES.min(plan.unit - i * LANES);
                let target = Target { y: &mut y[i * LANES..], step: plan.unit, count, ends };
                let products = Own::new((lines, plan.step[1], pixels), (&block.taps, weights), &block.bias);
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
}

impl Plan {
    /// Fills line `l` for the taps from staged row `top` on.
    #[inline(always)]
    fn interleave<V: Simd>(&self, simd: V, staged: &[u8], top: usize, l: usize, line: &mut [[u8; 4]]) {
        let (len, element) = (self.stage.row_bytes(), self.form.element_bytes());
        // Taps below the last one have weights of 0: any row will do.
        let row = |i: usize| {
            let r = (l * self.form.row_elements() + i).min(self.kernel[0] - 1);
            let row = top + r * self.rows;
            &staged[self.stage.ring().map_or_else(|| self.stage.place(row), |ring| row % ring) * len..][..len]
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

/// Biases of each block of channels, as they are multiplied, of pixels of so many bytes that are computed together.
pub(super) fn biases(form: Form, conv: &Conv2d, x: &Input, unit: usize) -> Vec<[i32; LANES]> {
    let channels = x.shape[2];
    blocks(0..unit, |lane| {
        let c = lane % channels;
        let weight = |tap: usize| conv.weights.get(tap, channels, c) - conv.weights.zero_point(c);
        let taps = conv.window.kernel[0] * conv.window.kernel[1];
        conv.weights.bias.i32(c).wrapping_add(correction(form, x, (0..taps).map(weight)))
    })
}

/// Bytes of a row that are interleaved at once.
const CHUNK: usize = 64;
