//! One op, prepared. Enters: an op of the image, the instruction set. Leaves: packed weights, and with them the op's output
//! in the arena, or, part by part, some of its rows or channels.
#![allow(unsafe_code, reason = "parts of an op run at the same time, in an arena whose plan has been checked")]

use super::{Executor, Isa, common::Common};
use crate::{
    exec::step,
    image::{
        Op, Tensor,
        repr::{OpKind, WindowRepr},
    },
    kernels::{
        Input, Kernels, Output, Window,
        add::simd::Sum,
        average_pool::simd::{CHUNK, Mean},
        conv2d::packed::{Packed, Part, Rows, flat},
        max_pool::simd::Largest,
        simd::{
            LANES, Registers, Row,
            packing::{Source, Spoiled},
        },
    },
};
use std::ops::Range;

/// How an op runs.
#[derive(Debug)]
pub(super) enum Step {
    /// With kernels that need nothing prepared.
    Plain(Kernels),
    /// A convolution, or a dense layer as one.
    Conv(Isa, Packed),
    /// Compiled for the instruction set, with nothing prepared.
    Vectorized(Isa),
}

/// What a thread does of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Portion {
    /// All of it, with the whole arena to itself.
    Alone,
    /// Some rows of the output, and the rows of inputs that are read for them; the same rows part by part.
    Rows { made: Range<usize>, read: Range<usize>, parts: Vec<Range<usize>> },
    /// Some of its channels.
    Channels(Range<usize>),
}

/// A portion of an op, and what it touches of the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) portion: Portion,
    pub(super) touched: Touched,
    /// What each part writes, and what is not read any more once it is done; `touched`, all together.
    pub(super) parts: Vec<Touched>,
}

/// What a thread has to work with.
pub(super) struct Hand<'h> {
    /// Of nobody else; holds [`Step::memory`].
    pub(super) scratch: &'h mut [u8],
    pub(super) registers: &'h mut Registers,
    /// Called after each part.
    pub(super) tell: &'h mut dyn FnMut(),
}

/// Bytes of the arena that a thread touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) reads: Vec<Range<usize>>,
    /// At most these.
    pub(super) writes: Range<usize>,
}

impl Touched {
    /// Whether the order of both matters.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let spoils = |a: &Self, b: &Self| b.reads.iter().any(|read| overlap(&a.writes, read));
        overlap(&self.writes, &other.writes) || spoils(self, other) || spoils(other, self)
    }
}

/// Multiply-accumulates from which on threads share a convolution, and bytes written from which on they share another op: less
/// is done before another one has begun.
const SHARED_MACS: u64 = if cfg!(test) { 1000 } else { 10_000 };
const SHARED_BYTES: usize = if cfg!(test) { 100 } else { 2048 };

impl Step {
    /// Prepares `op`, whose packed weights come next in `source`.
    pub(super) fn new(executor: Executor, op: &Op, source: &mut Source) -> Result<Self, Spoiled> {
        let isa = match executor {
            Executor::Plain(kernels) => return Ok(Self::Plain(kernels)),
            Executor::Simd(isa) => isa,
        };
        if let Some(packed) = Packed::read(isa.packing(), op, source)? {
            return Ok(Self::Conv(isa, packed));
        }
        Ok(match op.repr.kind {
            OpKind::Add { .. }
            | OpKind::MaxPool { .. }
            | OpKind::AveragePool { .. }
            | OpKind::GlobalAveragePool { .. } => Self::Vectorized(isa),
            _ => Self::Plain(Kernels::Portable),
        })
    }

    /// Bytes of scratch that [`Self::run`] or one of so many threads needs.
    pub(super) fn memory(&self, op: &Op, threads: usize) -> usize {
        match self {
            Self::Plain(_) | Self::Vectorized(_) => 0,
            Self::Conv(_, packed) if packed.parts(threads).is_some() => packed.memory() + op.output().len(),
            Self::Conv(_, packed) => packed.memory(),
        }
    }

    /// What each of so many threads does of the op, in an arena of so many bytes; what none does is not there.
    pub(super) fn share(&self, op: &Op, threads: usize, arena: usize) -> Vec<Cut> {
        let worth = match self {
            Self::Plain(_) => false,
            Self::Conv(..) => op.macs() >= SHARED_MACS,
            Self::Vectorized(_) => op.output().len() >= SHARED_BYTES,
        };
        let alone = || vec![Cut::whole(Portion::Alone, Touched { reads: Vec::new(), writes: 0..arena })];
        let of_channels = |channels| Cut::of_channels(op, channels);
        match self {
            Self::Plain(_) => alone(),
            _ if is_copied(op) => alone(),
            Self::Conv(_, packed) if worth && let Some(parts) = packed.parts(threads) => {
                (0..parts).map(|part| of_channels(packed.channels([part, parts]))).collect()
            }
            _ if matches!(op.repr.kind, OpKind::GlobalAveragePool { .. }) => {
                let parts = threads.min(op.input(0).len() / SHARED_BYTES).max(1);
                share_chunks(op.output().len(), parts).into_iter().map(of_channels).collect()
            }
            _ => {
                let rows = share_rows(&op.output(), if worth { threads } else { 1 });
                let (last, by_edges) = (rows.len() - 1, self.by_edges(op));
                let edges = |thread: usize| [thread > 0, thread < last].map(|edge| edge && by_edges);
                let cut = |(thread, rows)| Cut::of_parts(op, edges_first(rows, edges(thread)), self.reads_first());
                rows.into_iter().enumerate().map(cut).collect()
            }
        }
    }

    /// Whether it makes the rows first that another thread may want, as soon as they are there: where that costs next to nothing.
    fn by_edges(&self, op: &Op) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Conv(_, packed) => packed.by_rows(),
            Self::Vectorized(_) => matches!(op.repr.kind, OpKind::Add { .. }),
        }
    }

    /// Whether all that it reads is read before any part is done.
    fn reads_first(&self) -> bool {
        matches!(self, Self::Conv(_, packed) if packed.stages_first())
    }

    /// Runs a portion of the op when nobody else runs. `weights` are the packed rows of the network.
    pub(super) fn run(&self, op: &Op, weights: &[Row], arena: &mut [u8], cut: &Cut, hand: Hand) {
        // SAFETY: the arena is borrowed mutably, and cuts are made here, of ops whose plan has been checked.
        unsafe { self.portion(op, weights, Common::new(arena), cut, hand) }
    }

    /// All of the op.
    fn alone(&self, op: &Op, weights: &[Row], arena: &mut [u8], hand: Hand) {
        if let Self::Plain(kernels) = self {
            return step::run(*kernels, op, arena);
        }
        if is_copied(op) {
            let copy = source(op, arena.len());
            arena.copy_within(op.input(0).range(), copy.start);
        }
        let all = 0..op.output().shape()[0];
        let mut cut = Cut::of_parts(op, vec![all], false);
        cut.touched.reads[0] = source(op, arena.len());
        self.run(op, weights, arena, &cut, hand);
    }

    /// Runs a portion of the op.
    ///
    /// # Safety
    /// Meanwhile nobody else may write what the cut says is read or written here, or read what is written, but for parts that have been
    /// told of; but other portions of the op may be run.
    pub(super) unsafe fn portion(&self, op: &Op, weights: &[Row], arena: Common, cut: &Cut, hand: Hand) {
        let Cut { portion, touched, .. } = cut;
        let (rows, read, parts) = match portion {
            // SAFETY: all bytes are this portion's.
            Portion::Alone => return self.alone(op, weights, unsafe { arena.write(0..arena.len()) }, hand),
            // SAFETY: as here.
            Portion::Channels(channels) => unsafe {
                return self.channels(op, weights, arena, hand, channels.clone());
            },
            Portion::Rows { made, read, parts } => (made, read, parts),
        };
        let Hand { scratch, registers, tell } = hand;
        let (x, output) = (op.input(0), op.output());
        let y = |rows: &Range<usize>| {
            // SAFETY: other portions write other rows, each part is written before it is told of, and what is read lies elsewhere, as the
            // check of the image and `source` say, or, of an Add, is not asked for.
            Output::new(&output, op.clamp(), unsafe { arena.write(rows_of(&output, rows)) })
        };
        // Rows that others may be writing are not even borrowed.
        let input = || {
            // SAFETY: no portion writes what lies apart from the output. Called where that is so.
            let bytes = unsafe { arena.read(touched.reads[0].clone()) };
            let [_, width, channels] = x.shape();
            Input { shape: [read.len(), width, channels], ..Input::new(&x, bytes) }
        };
        let below = |window: WindowRepr| {
            let window = Window::from(window);
            let [top, left] = window.padding;
            Window { padding: [top + read.start, left], ..window }
        };
        match self {
            Self::Plain(_) => unreachable!("such an op has no parts"),
            Self::Conv(isa, packed) => {
                let channels = 0..output.shape()[2];
                for (i, part) in parts.iter().enumerate() {
                    let staged = i > 0 && self.reads_first();
                    // What is staged already may be written by others, and is not even borrowed.
                    let x = if staged { Input::new(&x, &[]) } else { input() };
                    let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
                    let y = y(part);
                    let rows = Rows { made: part.clone(), of: rows.clone(), staged };
                    let (channels, above) = (channels.clone(), read.start);
                    isa.run(Part { packed, weights, x, above, y, rows, channels, scratch, registers });
                    tell();
                }
            }
            Self::Vectorized(isa) => match op.repr.kind {
                OpKind::Add { multipliers, shift } => {
                    let add = step::add_constants(op, multipliers, shift);
                    for part in parts {
                        let y = y(part).bytes;
                        let first = rows_of(&output, part).start - touched.writes.start;
                        let inputs = [0, 1].map(|i| {
                            let read = &touched.reads[i];
                            let of_part = read.start + first..read.start + first + y.len();
                            // SAFETY: the check of the image has seen that what is not in the place of the output lies apart from it.
                            (*read != touched.writes).then(|| unsafe { arena.read(of_part) })
                        });
                        isa.run(Sum { add, inputs, y });
                        tell();
                    }
                }
                OpKind::MaxPool { window } => {
                    let y = y(rows);
                    isa.run(Largest { window: below(window), x: input(), first: rows.start, y });
                }
                OpKind::AveragePool { window, multipliers } => {
                    let multipliers = op.table(multipliers);
                    let multiplier = |taps: usize| multipliers.f32(taps - 1);
                    let (y, channels) = (y(rows), 0..output.shape()[2]);
                    isa.run(Mean { window: below(window), multiplier, x: input(), first: rows.start, channels, y });
                }
                OpKind::GlobalAveragePool { multiplier } => {
                    isa.run(mean(multiplier, input(), 0..output.shape()[2], y(rows)));
                }
                _ => unreachable!("no other op is prepared so"),
            },
        }
    }

    /// [`Self::portion`] of which each makes some channels: of a convolution together in the scratch, and from there, pixel by pixel,
    /// between those of others.
    ///
    /// # Safety
    /// As there.
    unsafe fn channels(&self, op: &Op, weights: &[Row], arena: Common, hand: Hand, channels: Range<usize>) {
        let (x, output) = (op.input(0), op.output());
        // SAFETY: no portion writes what lies apart from the output, and an input that does not is copied by who is alone.
        let x = Input::new(&x, unsafe { arena.read(x.range()) });
        let [height, width, all] = output.shape();
        let (isa, packed) = match (self, op.repr.kind) {
            (Self::Conv(isa, packed), _) => (isa, packed),
            (Self::Vectorized(isa), OpKind::GlobalAveragePool { multiplier }) => {
                let first = output.range().start;
                // SAFETY: other portions write other channels, and what they read lies elsewhere.
                let bytes = unsafe { arena.write(first + channels.start..first + channels.end) };
                return isa.run(mean(multiplier, x, channels, Output::new(&output, op.clamp(), bytes)));
            }
            _ => unreachable!("no other op is shared so"),
        };
        let (scratch, made) = hand.scratch.split_at_mut(packed.memory());
        let made = &mut made[..height * width * channels.len()];
        let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
        let y = Output::new(&output, op.clamp(), made);
        let rows = Rows { made: 0..height, of: 0..height, staged: false };
        let (channels_of, registers) = (channels.clone(), hand.registers);
        isa.run(Part { packed, weights, x, above: 0, y, rows, channels: channels_of, scratch, registers });
        for (pixel, made) in made.chunks_exact(channels.len()).enumerate() {
            let first = output.range().start + pixel * all + channels.start;
            // SAFETY: other portions write other channels, and what they read lies elsewhere.
            let bytes = unsafe { arena.write(first..first + made.len()) };
            // A block or two are not worth a call.
            let (blocks, rest) = made.as_chunks::<LANES>();
            let (bytes, last) = bytes.as_chunks_mut();
            bytes.iter_mut().zip(blocks).for_each(|(bytes, block)| *bytes = *block);
            last.copy_from_slice(rest);
        }
    }
}

impl Cut {
    /// In one part.
    pub(super) fn whole(portion: Portion, touched: Touched) -> Self {
        Self { portion, parts: vec![touched.clone()], touched }
    }

    /// Some rows of the output of `op`, part by part; whether all is read before the first of them is done.
    fn of_parts(op: &Op, parts: Vec<Range<usize>>, reads_first: bool) -> Self {
        let start = parts.iter().map(|rows| rows.start).min().unwrap_or_default();
        let made = start..start + parts.iter().map(Range::len).sum::<usize>();
        let read = rows_read(op, &made);
        let reads: Vec<_> = op.inputs().map(|x| rows_of(&x, &read)).collect();
        let reads_in = if reads_first { 0 } else { parts.len() - 1 };
        let touched = |(i, rows)| {
            let reads = if i == reads_in { reads.clone() } else { Vec::new() };
            Touched { reads, writes: rows_of(&op.output(), rows) }
        };
        let touched_of_parts = parts.iter().enumerate().map(touched).collect();
        let touched = Touched { reads, writes: rows_of(&op.output(), &made) };
        Self { portion: Portion::Rows { made, read, parts }, touched, parts: touched_of_parts }
    }

    /// Some of its channels.
    fn of_channels(op: &Op, channels: Range<usize>) -> Self {
        let touched = Touched { reads: op.inputs().map(|x| x.range()).collect(), writes: op.output().range() };
        Self::whole(Portion::Channels(channels), touched)
    }

    /// Some rows of a tensor that is stored.
    pub(super) fn of_input(tensor: &Tensor, made: Range<usize>) -> Self {
        let touched = Touched { reads: Vec::new(), writes: rows_of(tensor, &made) };
        let parts = vec![made.clone()];
        Self::whole(Portion::Rows { made, read: 0..0, parts }, touched)
    }
}

/// The rows of its inputs that an op reads for those rows of its output, and those between them.
fn rows_read(op: &Op, rows: &Range<usize>) -> Range<usize> {
    let height = op.input(0).shape()[0];
    match op.repr.kind {
        OpKind::Add { .. } => rows.clone(),
        OpKind::Conv2d { window, .. } | OpKind::MaxPool { window } | OpKind::AveragePool { window, .. } => {
            let Window { kernel: [kernel, _], stride: [stride, _], padding: [padding, _], dilation: [dilation, _] } =
                window.into();
            let end = (rows.end - 1) * stride + (kernel - 1) * dilation + 1;
            let inside = |row: usize| row.saturating_sub(padding).min(height);
            inside(rows.start * stride)..inside(end)
        }
        _ => 0..height,
    }
}

/// The rows of a tensor that each of so many threads writes, at most; none of them nothing.
pub(super) fn share_rows(tensor: &Tensor, threads: usize) -> Vec<Range<usize>> {
    let height = tensor.shape()[0];
    let each = height.div_ceil(threads);
    (0..height).step_by(each).map(|start| start..height.min(start + each)).collect()
}

/// Rows part by part: those at the edges first, where another thread's rows come before, behind.
fn edges_first(rows: Range<usize>, [before, behind]: [bool; 2]) -> Vec<Range<usize>> {
    let inner = rows.start + usize::from(before)..rows.end.saturating_sub(usize::from(behind));
    if inner.len() < 2 {
        return vec![rows];
    }
    let parts = [rows.start..inner.start, inner.end..rows.end, inner];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// The channels of which each of so many makes the mean, at most; none of them nothing.
fn share_chunks(channels: usize, parts: usize) -> Vec<Range<usize>> {
    let each = channels.div_ceil(CHUNK).div_ceil(parts) * CHUNK;
    (0..channels).step_by(each).map(|start| start..channels.min(start + each)).collect()
}

/// The mean of whole channels.
fn mean<'a>(multiplier: f32, x: Input<'a>, channels: Range<usize>, y: Output<'a>) -> Mean<'a, impl Fn(usize) -> f32> {
    let window = Window { kernel: [x.shape[0], x.shape[1]], ..Window::POINT };
    Mean { window, multiplier: move |_: usize| multiplier, x, first: 0, channels, y }
}

/// The bytes of some rows of a tensor.
fn rows_of(tensor: &Tensor, rows: &Range<usize>) -> Range<usize> {
    let [_, width, channels] = tensor.shape();
    let (first, row) = (tensor.range().start, width * channels);
    first + rows.start * row..first + rows.end * row
}

/// Whether [`Step::run`] copies the first input out of the way of the output, which lies over a part of it.
fn is_copied(op: &Op) -> bool {
    let (x, y) = (op.input(0).range(), op.output().range());
    x != y && x.start < y.end && y.start < x.end
}

/// Where an op reads its first input in an arena of so many bytes: at the end, if it [`is_copied`].
fn source(op: &Op, arena: usize) -> Range<usize> {
    let x = op.input(0).range();
    if is_copied(op) { arena - x.len()..arena } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_at_the_edges_come_first_and_each_row_once() {
        assert_eq!(edges_first(0..4, [false, true]), [3..4, 0..3]);
        assert_eq!(edges_first(4..9, [true, false]), [4..5, 5..9]);
        assert_eq!(edges_first(4..8, [true, true]), [4..5, 7..8, 5..7]);
        for few in [edges_first(4..7, [true, true]), edges_first(4..6, [true, false]), edges_first(0..9, [false; 2])] {
            assert_eq!(few.len(), 1);
        }
    }
}
