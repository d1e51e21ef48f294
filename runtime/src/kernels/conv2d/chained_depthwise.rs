//! Weights of a depthwise convolution for products of bytes that are added within 16 bits, as plain NEON has them
//! (`neon_depthwise`): taps are read where they lie, 16 channels at a time. Products are added as long as no input can make them
//! overflow, and then to sums of 32 bits: how many taps go into such a chain depends on the weights alone, and is found out when they
//! are packed. Enters: weights, or what was packed of them. Leaves: chains of taps.

use super::{Conv2d, Input, simd_depthwise::biases};
use crate::kernels::simd::{
    Form, LANES,
    packing::{Sink, Source, Spoiled},
    panel::{blocks, layers_of_taps},
    stage::Stage,
};
use core::ops::Range;

const FORM: Form = Form::Pairs;

/// Sum of `|w|` up to which products with bytes stay within 16 bits: `255 * 128 < 2^15`.
const CHAIN: u32 = 255;

/// A depthwise convolution with its weights packed.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "for NEON"))]
pub(crate) struct Packed {
    pub(super) stage: Stage,
    /// Bytes of input between two rows, two pixels.
    pub(super) step: [usize; 2],
    /// Bytes of the output that are computed together: a pixel, or several that fill a block.
    pub(super) unit: usize,
    /// Of the packed rows: of each block its taps, four to a row, the last one filled up.
    pub(super) rows: Range<usize>,
    pub(super) blocks: Vec<Block>,
}

/// [`LANES`] channels.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "for NEON"))]
pub(super) struct Block {
    /// Where behind a pixel's first byte the inputs of each tap lie.
    pub(super) offsets: Vec<usize>,
    /// Taps whose products are added within 16 bits, chain after chain, none of which is empty; all taps together.
    pub(super) chains: Vec<usize>,
    /// Packed rows that the taps fill.
    pub(super) rows: usize,
    /// End of the last byte that is read, behind a pixel's first one.
    pub(super) reach: usize,
    pub(super) bias: [i32; LANES],
    pub(super) multipliers: [[f32; LANES]; 1],
}

/// Which tap, and what its inputs are multiplied with.
type Tap = (usize, [i8; LANES]);

/// Puts `taps` into as few chains as are easily found: each takes what fits of those that are left. Leaves their lengths.
fn chain(mut taps: Vec<Tap>) -> (Vec<Tap>, Vec<usize>) {
    let (mut chained, mut chains) = (Vec::new(), Vec::new());
    while !taps.is_empty() {
        let (mut sums, start) = ([0; LANES], chained.len());
        taps.retain(|tap| {
            let with: [u32; LANES] = core::array::from_fn(|lane| sums[lane] + u32::from(tap.1[lane].unsigned_abs()));
            let fits = with.iter().all(|&sum| sum <= CHAIN);
            if fits {
                sums = with;
                chained.push(*tap);
            }
            !fits
        });
        chains.push(chained.len() - start);
    }
    (chained, chains)
}

/// How inputs are staged, and bytes that are computed together.
fn plan(conv: &Conv2d, x: &Input, out: [usize; 2]) -> (Stage, usize) {
    let channels = x.shape[2];
    // A row of pixels of few channels is one of fewer pixels with a block of channels, over and over the same.
    let unit = if conv.window.stride[1] == 1 && LANES.is_multiple_of(channels) { LANES } else { channels };
    (Stage::new(FORM, x, &conv.window, out, channels.is_multiple_of(LANES)), unit)
}

/// The length of a chain.
fn at_least_one(len: usize) -> Result<usize, Spoiled> {
    if len > 0 { Ok(len) } else { Err(Spoiled::Number { found: 0, end: 0 }) }
}

impl Packed {
    /// Packs the weights of a depthwise convolution from `x`, whose bytes do not matter, to `out` rows and columns.
    pub(crate) fn pack(conv: &Conv2d, x: &Input, out: [usize; 2], sink: &mut Sink) {
        let (_, unit) = plan(conv, x, out);
        let (channels, taps) = (x.shape[2], conv.window.kernel[0] * conv.window.kernel[1]);
        let layers = layers_of_taps(FORM, &conv.weights, taps, channels);
        for (i, bias) in biases(FORM, conv, x, unit).into_iter().enumerate() {
            let of_layer = |layer: &Vec<u8>, tap: usize| {
                let weight = |channel: usize| layer[tap * channels + channel % channels] as i8;
                let lane = |lane: usize| if i * LANES + lane < unit { weight(i * LANES + lane) } else { 0 };
                (tap, core::array::from_fn(lane))
            };
            let all = (0..taps).flat_map(|tap| layers.iter().map(move |layer| of_layer(layer, tap)));
            let (taps, chains) = chain(all.filter(|(_, weights)| *weights != [0; LANES]).collect());
            sink.numbers([chains.len()]);
            sink.numbers(chains);
            sink.numbers(taps.iter().map(|(tap, _)| *tap));
            sink.biases(&[bias]);
            for four in taps.chunks(4) {
                let mut row = [0; 64];
                let parts = row.as_chunks_mut::<LANES>().0.iter_mut();
                parts.zip(four).for_each(|(part, (_, weights))| *part = weights.map(|weight| weight as u8));
                sink.rows.push(row);
            }
        }
    }

    /// Reads what [`Self::pack`] has packed.
    pub(crate) fn read(conv: &Conv2d, x: &Input, out: [usize; 2], source: &mut Source) -> Result<Self, Spoiled> {
        let (stage, unit) = plan(conv, x, out);
        let (window, channels) = (&conv.window, x.shape[2]);
        let [kernel_h, kernel_w] = window.kernel;
        let multipliers = blocks(0..unit, |lane| conv.weights.multipliers.f32(lane % channels));
        let block = |(i, multipliers): (usize, [f32; LANES])| {
            let count = source.count()?;
            let chains = (0..count).map(|_| source.count().and_then(at_least_one)).collect::<Result<Vec<_>, _>>()?;
            let taps = chains.iter().sum();
            let offset = |tap: usize| {
                let (r, s) = (tap / kernel_w, tap % kernel_w);
                r * window.dilation[0] * stage.row_bytes() + s * window.dilation[1] * stage.pixel_bytes() + i * LANES
            };
            let offsets = source.numbers(taps, kernel_h * kernel_w)?.map(|tap| tap.map(offset));
            let offsets = offsets.collect::<Result<Vec<_>, _>>()?;
            let bias = source.biases(1)?[0];
            let rows = taps.div_ceil(4);
            let reach = offsets.iter().map(|offset| offset + LANES).max().unwrap_or_default();
            Ok(Block { offsets, chains, rows, reach, bias, multipliers: [multipliers] })
        };
        let blocks = multipliers.into_iter().enumerate().map(block).collect::<Result<Vec<_>, _>>()?;
        let rows = source.rows(blocks.iter().map(|block| block.rows).sum())?;
        Ok(Self { stage, step: [window.stride[0] * stage.row_bytes(), window.stride[1] * unit], unit, rows, blocks })
    }

    /// Bytes of memory that a run needs.
    pub(crate) const fn memory(&self) -> usize {
        self.stage.bytes()
    }
}
