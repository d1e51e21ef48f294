//! One op, prepared. Enters: an op of the image, the instruction set. Leaves: packed weights, and with them the op's output
//! in the arena, or, part by part, some of its rows or channels.
#![allow(unsafe_code, reason = "parts of an op run at the same time, in an arena whose plan has been checked")]

use super::{Executor, Isa, common::Common, team::Running};
use crate::{
    exec::step,
    image::{Op, repr::OpKind},
    kernels::{
        Input, Kernels, Output, Window,
        add::simd::Sum,
        average_pool::simd::Mean,
        conv2d::packed::{Packed, Part, flat},
        max_pool::simd::Largest,
        simd::{
            Row,
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

/// How an op is divided, into so many parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Each some rows of the output.
    Rows(usize),
    /// Each some of its channels.
    Channels(usize),
}

impl Share {
    /// Parts, none of them empty.
    const fn parts(self) -> usize {
        let (Self::Rows(parts) | Self::Channels(parts)) = self;
        parts
    }
}

/// Multiply-accumulates from which on threads share a convolution, and bytes written from which on they share another op: less
/// is done before another one has begun.
const SHARED_MACS: u64 = if cfg!(test) { 1000 } else { 50_000 };
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

    /// Bytes of scratch that a part of the op needs, which so many threads run.
    pub(super) fn memory(&self, op: &Op, threads: usize) -> usize {
        match (self, self.share(op, threads)) {
            (Self::Plain(_) | Self::Vectorized(_), _) => 0,
            (Self::Conv(_, packed), Share::Rows(_)) => packed.memory(),
            (Self::Conv(_, packed), Share::Channels(_)) => packed.memory() + op.output().len(),
        }
    }

    /// How so many threads share the op.
    pub(super) fn share(&self, op: &Op, threads: usize) -> Share {
        let worth = match self {
            Self::Plain(_) => false,
            Self::Conv(..) => op.macs() >= SHARED_MACS,
            Self::Vectorized(_) => op.output().len() >= SHARED_BYTES,
        };
        let height = op.output().shape()[0];
        match self {
            _ if !worth => Share::Rows(1),
            Self::Conv(_, packed) if let Some(parts) = packed.parts(threads) => Share::Channels(parts),
            _ => Share::Rows(height.div_ceil(height.div_ceil(threads))),
        }
    }

    /// Runs the op, with whoever is there to help: a [`Running`] whose work is [`Self::part`]. The scratch holds [`Self::memory`]
    /// for each part; `weights` are the packed rows of the network.
    pub(super) fn run(&self, op: &Op, weights: &[Row], arena: &mut [u8], scratch: Common, team: Option<&mut Running>) {
        if let Self::Plain(kernels) = self {
            return step::run(*kernels, op, arena);
        }
        let (from, to) = (op.input(0).range(), source(op, arena.len()));
        if from != to {
            arena.copy_within(from, to.start);
        }
        let arena = Common::new(arena);
        let share = team.as_ref().map_or(Share::Rows(1), |team| self.share(op, team.threads()));
        match team {
            Some(team) if share.parts() > 1 => team.share(op.index, arena.first(), share.parts()),
            // SAFETY: the arena and the scratch are borrowed mutably, and this is the only part.
            _ => unsafe { self.part(op, weights, arena, scratch, (0, share)) },
        }
    }

    /// Runs one part of the op: which one, and of what division.
    ///
    /// # Safety
    /// Nobody else may use the scratch of the part, or read or write the arena, but for other parts of the same op.
    ///
    /// # Panics
    /// When the step is [`Self::Plain`].
    pub(super) unsafe fn part(
        &self,
        op: &Op,
        weights: &[Row],
        arena: Common,
        scratch: Common,
        (part, share): (usize, Share),
    ) {
        let (x, y) = (op.input(0), op.output());
        let [height, width, channels] = y.shape();
        let parts = match (self, share) {
            // SAFETY: as here.
            (Self::Conv(isa, packed), Share::Channels(parts)) => unsafe {
                return channels_of(*isa, packed, op, weights, arena, scratch, [part, parts]);
            },
            (_, share) => share.parts(),
        };
        let in_part = height.div_ceil(parts);
        let rows = part * in_part..height.min((part + 1) * in_part);
        let at = y.range().start;
        let bytes = at + rows.start * width * channels..at + rows.end * width * channels;
        // SAFETY: other parts write other rows, and what is read lies elsewhere, as the check of the image and `source` say, or, of an
        // Add, is not asked for.
        let y = Output::new(&y, op.clamp(), unsafe { arena.write(bytes.clone()) });
        // SAFETY: no part writes what lies apart from the output. Called where that is so.
        let input = || unsafe { Input::new(&x, arena.read(source(op, arena.len()))) };
        match self {
            Self::Plain(_) => unreachable!("such an op has no parts"),
            Self::Conv(isa, packed) => {
                let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(input()) } else { input() };
                let each = packed.memory();
                // SAFETY: of this part.
                let scratch = unsafe { scratch.write(part * each..(part + 1) * each) };
                isa.run(Part { packed, weights, x, y, rows, channels: 0..channels, scratch });
            }
            Self::Vectorized(isa) => match op.repr.kind {
                OpKind::Add { multipliers, shift } => {
                    let add = step::add_constants(op, multipliers, shift);
                    let inputs = [0, 1].map(|i| {
                        let (x, y) = (op.input(i).range(), op.output().range());
                        let rows = x.start + (bytes.start - y.start)..x.start + (bytes.end - y.start);
                        // SAFETY: the check of the image has seen that what is not in the place of the output lies apart from it.
                        (x != y).then(|| unsafe { arena.read(rows) })
                    });
                    isa.run(Sum { add, inputs, y: y.bytes });
                }
                OpKind::MaxPool { window } => {
                    isa.run(Largest { window: window.into(), x: input(), first: rows.start, y });
                }
                OpKind::AveragePool { window, multipliers } => {
                    let multipliers = op.table(multipliers);
                    let multiplier = |taps: usize| multipliers.f32(taps - 1);
                    isa.run(Mean { window: window.into(), multiplier, x: input(), first: rows.start, y });
                }
                OpKind::GlobalAveragePool { multiplier } => {
                    let x = input();
                    let window = Window { kernel: [x.shape[0], x.shape[1]], ..Window::POINT };
                    isa.run(Mean { window, multiplier: |_: usize| multiplier, x, first: 0, y });
                }
                _ => unreachable!("no other op is prepared so"),
            },
        }
    }
}

/// [`Step::part`] of a convolution of which each makes some channels: together in its scratch, and from there, pixel by pixel, between
/// those of other parts.
///
/// # Safety
/// As there.
unsafe fn channels_of(
    isa: Isa,
    packed: &Packed,
    op: &Op,
    weights: &[Row],
    arena: Common,
    scratch: Common,
    [part, parts]: [usize; 2],
) {
    let output = op.output();
    let [height, width, all] = output.shape();
    let channels = packed.channels([part, parts]);
    let each = packed.memory() + output.len();
    // SAFETY: of this part.
    let (scratch, made) = unsafe { scratch.write(part * each..(part + 1) * each) }.split_at_mut(packed.memory());
    let made = &mut made[..height * width * channels.len()];
    // SAFETY: no part writes what lies apart from the output.
    let x = Input::new(&op.input(0), unsafe { arena.read(source(op, arena.len())) });
    let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
    let y = Output::new(&output, op.clamp(), made);
    isa.run(Part { packed, weights, x, y, rows: 0..height, channels: channels.clone(), scratch });
    for (pixel, made) in made.chunks_exact(channels.len()).enumerate() {
        let first = output.range().start + pixel * all + channels.start;
        // SAFETY: other parts write other channels, and what they read lies elsewhere.
        unsafe { arena.write(first..first + made.len()) }.copy_from_slice(made);
    }
}

/// Where an op reads its first input in an arena of so many bytes: a copy at the end, if its output lies over a part of it.
fn source(op: &Op, arena: usize) -> Range<usize> {
    let (x, y) = (op.input(0).range(), op.output().range());
    if x != y && x.start < y.end && y.start < x.end { arena - x.len()..arena } else { x }
}
