//! Weights packed for the micro-kernel, once, when an image is written for a target or a network is prepared. Enters: the weights of an
//! image, 8, 4 or 2 bits, with any zero points. Leaves: rows in the order in which they are multiplied, and biases to which they are
//! added; and, where rows lie already packed, what is computed with them.
//!
//! Instructions that multiply bytes take `w - zw` as i8, which holds it in all but a few places when weights are
//! asymmetric. What is left over there, `w - zw - clamp(w - zw, -128, 127)`, goes into rows of its own behind the others,
//! multiplied with the same inputs a second time: a few rows more, and no sums of inputs to correct for zero points.

use super::{
    Form, LANES, Row, Simd,
    packing::{Sink, Source, Spoiled},
    tile::{GROUPS, Runs, Shared, Target, tiles},
};
#[cfg(target_arch = "x86_64")]
use super::{
    amx::{Product, Tiles},
    packing::TILE,
    tile::{Rest, finish},
};
use crate::{
    arith::widen,
    image::Weights,
    kernels::Input,
    kernels::simd::{Ends, stage::Staged},
};
use core::ops::Range;

/// Neighbouring inputs of a pixel and the weights they are multiplied with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Of the first input, in bytes behind the pixel's first one.
    pub(crate) offset: usize,
    /// Of the first weight, in its row of the image.
    pub(crate) first: usize,
    /// Inputs.
    pub(crate) len: usize,
}

/// Weights of some output channels, at most [`Simd::MAX_BLOCKS`] blocks of [`LANES`].
#[derive(Debug)]
pub(crate) struct Panel {
    /// Output channels.
    channels: Range<usize>,
    runs: Runs,
    /// Of the packed rows: row after row, the blocks of a row side by side.
    rows: Range<usize>,
    /// The rows once more, as tile registers take them.
    #[cfg(target_arch = "x86_64")]
    groups: Groups,
    bias: Vec<[i32; LANES]>,
    multipliers: Vec<[f32; LANES]>,
}

/// Rows of weights by groups, each a tile, and those behind the last group.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Default)]
struct Groups {
    /// Where behind a pixel's first byte the inputs of each group start.
    offsets: Vec<usize>,
    /// Where the four bytes of input of each row start that is in no group.
    rest: Vec<usize>,
}

/// A block's worth of numbers for each block of `channels`; 0 behind the last channel.
pub(crate) fn blocks<T: Copy + Default>(channels: Range<usize>, number: impl Fn(usize) -> T) -> Vec<[T; LANES]> {
    let block = |start: usize| {
        core::array::from_fn(|lane| if start + lane < channels.end { number(start + lane) } else { T::default() })
    };
    channels.clone().step_by(LANES).map(block).collect()
}

/// What multiplying with stored inputs, not with `x - zx`, leaves to add: `-zx * sum (w - zw)`, wrapping.
pub(crate) fn correction(form: Form, x: &Input, weights: impl Iterator<Item = i32>) -> i32 {
    match form {
        Form::Words => 0,
        _ => {
            let sum = weights.fold(0i32, i32::wrapping_add);
            widen(Staged::padding_byte(form, x), form.is_signed()).wrapping_mul(sum).wrapping_neg()
        }
    }
}

/// `w - zw` of some channels, `row_len` weights each, channel after channel.
fn differences(weights: &Weights, channels: Range<usize>, row_len: usize) -> Vec<i16> {
    let mut differences = Vec::with_capacity(channels.len() * row_len);
    for k in channels {
        let zero_point = weights.zero_point(k) as i16;
        if weights.bits == 8 {
            let row = &weights.data[k * row_len..][..row_len];
            if weights.signed {
                differences.extend(row.iter().map(|&weight| i16::from(weight as i8) - zero_point));
            } else {
                differences.extend(row.iter().map(|&weight| i16::from(weight) - zero_point));
            }
        } else {
            differences.extend((0..row_len).map(|i| weights.get(k, row_len, i) as i16 - zero_point));
        }
    }
    differences
}

/// Weights `w - zw` in the bytes of their form: layers that add up to them, of which the first is always there. They lie within
/// `+-255`, so that a third one is rare, but there for 255.
fn layers(form: Form, mut weights: Vec<i16>) -> Vec<Vec<u8>> {
    if form == Form::Words {
        return vec![weights.into_iter().flat_map(i16::to_le_bytes).collect()];
    }
    let low = if form.is_signed() { -i8::MAX } else { i8::MIN };
    let mut layers = Vec::new();
    while layers.is_empty() || weights.iter().fold(0, |all, rest| all | rest) != 0 {
        let near = |weight: i16| weight.clamp(low.into(), i8::MAX.into());
        layers.push(weights.iter().map(|&weight| near(weight) as u8).collect());
        weights.iter_mut().for_each(|weight| *weight -= near(*weight));
    }
    layers
}

/// [`layers`] of a depthwise convolution: tap after tap.
pub(crate) fn layers_of_taps(form: Form, weights: &Weights, taps: usize, channels: usize) -> Vec<Vec<u8>> {
    let places = (0..taps).flat_map(|tap| (0..channels).map(move |c| (tap, c)));
    layers(form, places.map(|(tap, c)| (weights.get(tap, channels, c) - weights.zero_point(c)) as i16).collect())
}

/// A row of the weights that each lane has; those of [`Form::Eights`] are not paired yet ([`pair_up`]).
pub(crate) fn pack(form: Form, weights: impl Fn(usize) -> [u8; 4]) -> Row {
    let mut row = [0; 64];
    if form == Form::Pairs {
        let (first, second) = row.split_at_mut(32);
        let halves = first.as_chunks_mut().0.iter_mut().zip(second.as_chunks_mut().0);
        for (lane, (first, second)) in halves.enumerate() {
            let [a, b, c, d] = weights(lane);
            (*first, *second) = ([a, b], [c, d]);
        }
    } else {
        row.as_chunks_mut().0.iter_mut().enumerate().for_each(|(lane, bytes)| *bytes = weights(lane));
    }
    row
}

/// Where the inputs of each row begin, of a layer in which none is left out: each piece takes a multiple of `group` rows, and
/// what is read behind its end is multiplied with 0.
pub(crate) fn offsets((form, group): (Form, usize), pieces: &[Piece]) -> Vec<usize> {
    let of_piece = |piece: &Piece| {
        let offset = piece.offset;
        (0..rows_of((form, group), piece)).map(move |row| offset + 4 * row)
    };
    pieces.iter().flat_map(of_piece).collect()
}

fn rows_of((form, group): (Form, usize), piece: &Piece) -> usize {
    piece.len.div_ceil(form.row_elements()).next_multiple_of(group)
}

/// The rows of a layer, `width` blocks each, and which of its [`offsets`] they belong to; `sparse`: but for those of nothing but 0.
fn pack_layer(
    (form, group): (Form, usize),
    (layer, row_len): (&[u8], usize),
    width: usize,
    pieces: &[Piece],
    sparse: bool,
) -> (Vec<usize>, Vec<Row>) {
    let element = form.element_bytes();
    let (mut places, mut rows, mut place) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let mut lanes: Vec<&[u8]> = layer
            .chunks_exact(row_len * element)
            .map(|channel| &channel[piece.first * element..][..piece.len * element])
            .collect();
        lanes.resize(width * LANES, &[]);
        let (blocks, _) = lanes.as_chunks::<LANES>();
        let four = |lane: &[u8], start: usize| match lane.get(start..).unwrap_or_default() {
            [a, b, c, d, ..] => [*a, *b, *c, *d],
            few => core::array::from_fn(|i| few.get(i).copied().unwrap_or(0)),
        };
        for unit in (0..rows_of((form, group), piece)).step_by(form.unit()) {
            let start = rows.len();
            for row in unit..unit + form.unit() {
                places.push(place);
                place += 1;
                rows.extend(blocks.iter().map(|lanes| pack(form, |lane| four(lanes[lane], 4 * row))));
            }
            if sparse && rows[start..].iter().all(|row: &Row| *row == [0; 64]) {
                rows.truncate(start);
                places.truncate(start / width);
            }
        }
    }
    (places, rows)
}

/// Whether any inputs of a byte keep the products of two rows of [`Form::Pairs`] within 16 bits, in which those lie above each other
/// that are 32 bytes apart: 255 times 128 is less than `2^15`.
fn is_chain(rows: &[&Row; 2]) -> bool {
    (0..32).all(|i| {
        let weights = rows.iter().flat_map(move |row| [row[i], row[i + 32]]);
        weights.map(|w| u32::from((w as i8).unsigned_abs())).sum::<u32>() <= 255
    })
}

/// Two rows, of some blocks each, as pairs: the eight weights of a channel side by side.
fn pair_up(rows: &mut [Row]) {
    let (first, second) = rows.split_at_mut(rows.len() / 2);
    for (first, second) in first.iter_mut().zip(second) {
        let [a, b] = [*first, *second];
        let fours = a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0);
        let paired = first.as_chunks_mut::<8>().0.iter_mut().chain(second.as_chunks_mut().0);
        for (pair, (a, b)) in paired.zip(fours) {
            pair[..4].copy_from_slice(a);
            pair[4..].copy_from_slice(b);
        }
    }
}

/// Puts rows, of `width` blocks each and in groups of their kinds, into `sink`: how many groups of each kind, where each begins, and
/// the rows in that order.
fn group_up(form: Form, offsets: &[usize], (places, mut rows): (&[usize], &[Row]), width: usize, sink: &mut Sink) {
    let mut grouped: [(Vec<usize>, Vec<Row>); 4] = Default::default();
    for run in places.chunk_by(|&a, &b| offsets[b] == offsets[a] + 4) {
        let mut run = run;
        while !run.is_empty() {
            let count = GROUPS.into_iter().find(|&count| count <= run.len()).unwrap_or(1);
            let group;
            (group, rows) = rows.split_at(count * width);
            debug_assert!(count.is_multiple_of(form.unit()));
            let pairs = |block: usize| group[block..].iter().step_by(width).collect::<Vec<_>>();
            let chained = form.has_chains()
                && count == 4
                && (0..width).all(|block| pairs(block).as_chunks().0.iter().all(is_chain));
            let kind = if chained { 0 } else { GROUPS.iter().rposition(|&rows| rows == count).unwrap_or(1) };
            let (places, rows) = &mut grouped[kind];
            places.push(run[0]);
            let at = rows.len();
            rows.extend_from_slice(group);
            if form == Form::Eights {
                rows[at..].chunks_exact_mut(2 * width).for_each(pair_up);
            }
            run = &run[count..];
        }
    }
    sink.numbers(grouped.iter().map(|(places, _)| places.len()));
    for (places, rows) in grouped {
        sink.numbers(places);
        sink.rows.extend(rows);
    }
}

/// Packs the weights of `channels` for the inputs `pieces` of a pixel of `x`, whose rows begin at `offsets`; `row_len` weights make
/// a row of the image.
pub(crate) fn pack_panel(
    (form, group): (Form, usize),
    x: &Input,
    (weights, row_len): (&Weights, usize),
    channels: Range<usize>,
    (pieces, offsets): (&[Piece], &[usize]),
    sink: &mut Sink,
) {
    let width = channels.len().div_ceil(LANES);
    let differences = differences(weights, channels.clone(), row_len);
    let bias = blocks(channels.clone(), |k| {
        let weights_of = differences[(k - channels.start) * row_len..][..row_len].iter();
        weights.bias.i32(k).wrapping_add(correction(form, x, weights_of.map(|&weight| weight.into())))
    });
    let layers = layers(form, differences);
    let pack = |i: usize| pack_layer((form, group), (&layers[i], row_len), width, pieces, i > 0);
    let (mut places, mut rows) = pack(0);
    for (more_places, more_rows) in (1..layers.len()).map(pack) {
        places.extend(more_places);
        rows.extend(more_rows);
    }
    if form.in_groups() {
        group_up(form, offsets, (&places, &rows), width, sink);
    } else {
        // The first layer is all there.
        sink.numbers([places.len() - offsets.len()]);
        sink.numbers(places[offsets.len()..].iter().copied());
        sink.rows.extend(rows);
    }
    sink.biases(&bias);
}

impl Panel {
    /// Reads what [`pack_panel`] has packed: the same form and group, channels and [`offsets`].
    pub(crate) fn read(
        (form, group): (Form, usize),
        weights: &Weights,
        channels: Range<usize>,
        offsets: &[usize],
        source: &mut Source,
    ) -> Result<Self, Spoiled> {
        let width = channels.len().div_ceil(LANES);
        let (runs, _extra) = if form.in_groups() {
            (read_groups(form, offsets, source)?, Vec::new())
        } else {
            let count = source.count()?;
            let places = source.numbers(count, offsets.len())?;
            let extra = places.map(|place| place.map(|place| offsets[place])).collect::<Result<Vec<_>, _>>()?;
            (Runs::of_rows(&[offsets, &extra].concat()), extra)
        };
        #[cfg(target_arch = "x86_64")]
        let groups = Groups { offsets: offsets.iter().step_by(group).copied().collect(), rest: _extra };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = group;
        let rows = source.rows(runs.rows() * width)?;
        let bias = source.biases(width)?;
        let multipliers = blocks(channels.clone(), |k| weights.multipliers.f32(k));
        Ok(Self {
            channels,
            runs,
            rows,
            #[cfg(target_arch = "x86_64")]
            groups,
            bias,
            multipliers,
        })
    }

    /// Output channels.
    pub(crate) const fn channels(&self) -> &Range<usize> {
        &self.channels
    }

    /// Ends of the channels that are computed at once with tile registers: those of two blocks.
    pub(crate) fn pairs(&self) -> Vec<usize> {
        let starts = self.channels.clone().step_by(2 * LANES);
        starts.map(|start| (start + 2 * LANES).min(self.channels.end)).collect()
    }

    /// Blocks of channels, `1 ..= MAX_BLOCKS`.
    pub(crate) const fn width(&self) -> usize {
        self.bias.len()
    }

    /// Computes `pixels` output pixels, of which the first starts at the start of `x` and the others `step` bytes apart,
    /// and writes this panel's channels of each into `y`, which has all of them. `rows` are the packed rows, those of other panels
    /// among them.
    #[inline(always)]
    pub(crate) fn run<V: Simd>(&self, simd: V, rows: &[Row], inputs: Inputs, y: &mut Pixels) {
        match self.width() {
            1 => self.blocks::<V, 1>(simd, rows, inputs, y),
            2 => self.blocks::<V, 2>(simd, rows, inputs, y),
            3 => self.blocks::<V, 3>(simd, rows, inputs, y),
            _ => self.blocks::<V, 4>(simd, rows, inputs, y),
        }
    }

    #[inline(always)]
    fn blocks<V: Simd, const N: usize>(&self, simd: V, rows: &[Row], inputs: Inputs, y: &mut Pixels) {
        match inputs.2.min(V::SUMS / N) {
            0 => {}
            1 => self.tiles::<V, 1, N>(simd, rows, inputs, y),
            2 | 3 => self.tiles::<V, 2, N>(simd, rows, inputs, y),
            4..8 => self.tiles::<V, 4, N>(simd, rows, inputs, y),
            _ => self.tiles::<V, 8, N>(simd, rows, inputs, y),
        }
    }

    /// In tiles of `P` pixels; there are at least as many.
    #[inline(always)]
    fn tiles<V: Simd, const P: usize, const N: usize>(&self, simd: V, rows: &[Row], inputs: Inputs, y: &mut Pixels) {
        let (Some(bias), Some(multipliers)) = (self.bias.first_chunk(), self.multipliers.first_chunk::<N>()) else {
            unreachable!("a panel of {} blocks, not {N}", self.width());
        };
        let products = Shared::new(inputs, &self.runs, rows[self.rows.clone()].as_chunks().0, bias);
        let target = Target {
            y: &mut y.bytes[self.channels.start - y.channels.start..],
            step: y.channels.len(),
            count: self.channels.len(),
            ends: y.ends,
        };
        tiles::<V, P, N>(simd, &products, multipliers, target);
    }

    /// Computes `rows` rows of `pixels` output pixels with tile registers, which are set up for at most so many pixels and for
    /// this panel's groups of rows, but for channels that are in no [`Self::pairs`] of `y`. `weights` are the packed rows. Of the
    /// inputs: bytes between two rows, two pixels.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn run_tiled<V: Simd>(
        &self,
        simd: V,
        tiles: &Tiles<'_>,
        weights: &[Row],
        (x, step, [rows, pixels]): (&[u8], [usize; 2], [usize; 2]),
        y: &mut Pixels,
    ) {
        let weights = &weights[self.rows.clone()];
        let (offsets, bias, width) = (&self.groups.offsets, &self.bias, self.width());
        let at_once = tiles.pixels();
        let block = |channel: usize| channel.clamp(self.channels.start, self.channels.end) - self.channels.start;
        let blocks = block(y.channels.start) / LANES..block(y.channels.end).div_ceil(LANES);
        let mut sums = [[[[0; LANES]; TILE]; 2]; DELAY];
        let mut pending: [Option<Job>; DELAY] = [None; DELAY];
        let jobs = (0..rows).flat_map(|row| {
            let starts = (0..pixels).step_by(at_once).map(move |start| start.min(pixels - at_once));
            let blocks = blocks.clone();
            starts.flat_map(move |start| {
                let (x, y) = (row * step[0] + start * step[1], row * pixels + start);
                blocks.clone().step_by(2).map(move |block| Job { x, y, block })
            })
        });
        for (slot, job) in (0..DELAY).cycle().zip(jobs.map(Some).chain([None; DELAY])) {
            if let Some(job) = pending[slot].take() {
                self.finish(simd, job, weights, (x, step[1], at_once), &sums[slot], y);
            }
            if let Some(Job { x: start, block, .. }) = job {
                let factors = Product { x: &x[start..], step: step[1], offsets, weights, width, block, bias };
                tiles.product(&factors, &mut sums[slot]);
            }
            pending[slot] = job;
        }
    }

    /// Adds what is in no group of rows, and stores.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn finish<V: Simd>(
        &self,
        simd: V,
        job: Job,
        weights: &[Row],
        (x, step, pixels): Inputs,
        sums: &[[[i32; LANES]; TILE]; 2],
        y: &mut Pixels,
    ) {
        let width = self.width();
        let rest_rows = &weights[weights.len() - self.groups.rest.len() * width..];
        for (n, sums) in (job.block..width).zip(sums) {
            let first = self.channels.start + n * LANES;
            let at = job.y * y.channels.len() + first - y.channels.start;
            let rest = Rest {
                offsets: &self.groups.rest,
                rows: rest_rows.get(n..).unwrap_or_default(),
                stride: width,
                x: &x[job.x..],
                step,
            };
            let target = Target {
                y: &mut y.bytes[at..],
                step: y.channels.len(),
                count: LANES.min(self.channels.end - first),
                ends: y.ends,
            };
            finish(simd, &sums[..pixels], rest, &self.multipliers[n], target);
        }
    }
}

/// The groups of rows that [`group_up`] has put.
fn read_groups(form: Form, offsets: &[usize], source: &mut Source) -> Result<Runs, Spoiled> {
    let end = offsets.iter().max().map_or(0, |last| last + 4);
    let mut counts = [0; 4];
    for (count, rows) in counts.iter_mut().zip(GROUPS) {
        *count = source.count()?;
        // Where products take pairs of rows none stands alone.
        if *count > 0 && !rows.is_multiple_of(form.unit()) {
            return Err(Spoiled::Number { found: *count, end: 1 });
        }
    }
    if counts[0] > 0 && !form.has_chains() {
        return Err(Spoiled::Number { found: counts[0], end: 1 });
    }
    let mut begins = Vec::with_capacity(counts.iter().sum());
    for (count, rows) in counts.into_iter().zip(GROUPS) {
        for place in source.numbers(count, offsets.len())? {
            let place = place?;
            // The inputs of a group lie side by side, and none of them behind the last one of all.
            if offsets[place] + 4 * rows > end {
                return Err(Spoiled::Number { found: place, end: place });
            }
            begins.push(offsets[place]);
        }
    }
    Ok(Runs::of_groups(counts, begins))
}

/// From the first pixel on; bytes between two pixels; how many.
type Inputs<'a> = (&'a [u8], usize, usize);

/// Products that are begun before the first of them is finished; more made no difference.
#[cfg(target_arch = "x86_64")]
const DELAY: usize = 1;

/// A product of tiles.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
struct Job {
    /// First byte of the first pixel's inputs.
    x: usize,
    /// First pixel of the output.
    y: usize,
    /// First block of channels.
    block: usize,
}

/// Output pixels.
pub(crate) struct Pixels<'y> {
    /// From the first of them on.
    pub(crate) bytes: &'y mut [u8],
    /// Channels of each pixel, one byte each.
    pub(crate) channels: Range<usize>,
    /// Of the op.
    pub(crate) ends: Ends,
}
