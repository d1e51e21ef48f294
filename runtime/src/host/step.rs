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
        conv2d::packed::{Packed, Part, flat},
        max_pool::simd::Largest,
        simd::{
            LANES, Row,
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
    /// Some rows of the output, and the rows of inputs that are read for them.
    Rows { made: Range<usize>, read: Range<usize> },
    /// Some of its channels.
    Channels(Range<usize>),
}

/// A portion of an op, and what it touches of the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) portion: Portion,
    pub(super) touched: Touched,
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
        let alone = || vec![Cut { portion: Portion::Alone, touched: Touched { reads: Vec::new(), writes: 0..arena } }];
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
                rows.into_iter().map(|rows| Cut::of_rows(op, rows)).collect()
            }
        }
    }

    /// Runs a portion of the op when nobody else runs. The scratch holds [`Self::memory`]; `weights` are the packed rows of the network.
    pub(super) fn run(&self, op: &Op, weights: &[Row], arena: &mut [u8], scratch: &mut [u8], cut: &Cut) {
        // SAFETY: the arena is borrowed mutably, and cuts are made here, of ops whose plan has been checked.
        unsafe { self.portion(op, weights, Common::new(arena), scratch, cut) }
    }

    /// All of the op.
    fn alone(&self, op: &Op, weights: &[Row], arena: &mut [u8], scratch: &mut [u8]) {
        if let Self::Plain(kernels) = self {
            return step::run(*kernels, op, arena);
        }
        if is_copied(op) {
            let copy = source(op, arena.len());
            arena.copy_within(op.input(0).range(), copy.start);
        }
        let mut cut = Cut::of_rows(op, 0..op.output().shape()[0]);
        cut.touched.reads[0] = source(op, arena.len());
        self.run(op, weights, arena, scratch, &cut);
    }

    /// Runs a portion of the op. The scratch, of nobody else, holds [`Self::memory`].
    ///
    /// # Safety
    /// Meanwhile nobody else may write what the cut says is read or written here, or read what is written; but other portions of
    /// the op may be run.
    pub(super) unsafe fn portion(&self, op: &Op, weights: &[Row], arena: Common, scratch: &mut [u8], cut: &Cut) {
        let Cut { portion, touched } = cut;
        let (rows, read) = match portion {
            // SAFETY: all bytes are this portion's.
            Portion::Alone => return self.alone(op, weights, unsafe { arena.write(0..arena.len()) }, scratch),
            // SAFETY: as here.
            Portion::Channels(channels) => unsafe {
                return self.channels(op, weights, arena, scratch, channels.clone());
            },
            Portion::Rows { made, read } => (made.clone(), read),
        };
        let (x, y) = (op.input(0), op.output());
        // SAFETY: other portions write other rows, and what is read lies elsewhere, as the check of the image and `source` say, or, of an
        // Add, is not asked for.
        let y = Output::new(&y, op.clamp(), unsafe { arena.write(touched.writes.clone()) });
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
                let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(input()) } else { input() };
                let channels = 0..y.shape[2];
                isa.run(Part { packed, weights, x, above: read.start, y, rows, channels, scratch });
            }
            Self::Vectorized(isa) => match op.repr.kind {
                OpKind::Add { multipliers, shift } => {
                    let add = step::add_constants(op, multipliers, shift);
                    let inputs = [0, 1].map(|i| {
                        let read = &touched.reads[i];
                        // SAFETY: the check of the image has seen that what is not in the place of the output lies apart from it.
                        (*read != touched.writes).then(|| unsafe { arena.read(read.clone()) })
                    });
                    isa.run(Sum { add, inputs, y: y.bytes });
                }
                OpKind::MaxPool { window } => {
                    isa.run(Largest { window: below(window), x: input(), first: rows.start, y });
                }
                OpKind::AveragePool { window, multipliers } => {
                    let multipliers = op.table(multipliers);
                    let multiplier = |taps: usize| multipliers.f32(taps - 1);
                    let channels = 0..y.shape[2];
                    isa.run(Mean { window: below(window), multiplier, x: input(), first: rows.start, channels, y });
                }
                OpKind::GlobalAveragePool { multiplier } => {
                    let channels = 0..y.shape[2];
                    isa.run(mean(multiplier, input(), channels, y));
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
    unsafe fn channels(&self, op: &Op, weights: &[Row], arena: Common, scratch: &mut [u8], channels: Range<usize>) {
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
        let (scratch, made) = scratch.split_at_mut(packed.memory());
        let made = &mut made[..height * width * channels.len()];
        let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
        let y = Output::new(&output, op.clamp(), made);
        isa.run(Part { packed, weights, x, above: 0, y, rows: 0..height, channels: channels.clone(), scratch });
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
    /// Some rows of the output of `op`.
    fn of_rows(op: &Op, made: Range<usize>) -> Self {
        let read = rows_read(op, &made);
        let reads = op.inputs().map(|x| rows_of(&x, &read)).collect();
        Self { touched: Touched { reads, writes: rows_of(&op.output(), &made) }, portion: Portion::Rows { made, read } }
    }

    /// Some of its channels.
    fn of_channels(op: &Op, channels: Range<usize>) -> Self {
        let touched = Touched { reads: op.inputs().map(|x| x.range()).collect(), writes: op.output().range() };
        Self { touched, portion: Portion::Channels(channels) }
    }

    /// Some rows of a tensor that is stored.
    pub(super) fn of_input(tensor: &Tensor, made: Range<usize>) -> Self {
        let touched = Touched { reads: Vec::new(), writes: rows_of(tensor, &made) };
        Self { touched, portion: Portion::Rows { made, read: 0..0 } }
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
