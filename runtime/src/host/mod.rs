//! Runs on a host, with memory of its own and the fastest kernels that the machine has. Enters: a checked image. Leaves: a
//! [`Prepared`] network, whose weights are unpacked and laid out once, and from it logits: the integers of
//! [`Session`](crate::Session). Refuses: what a session refuses.
//!
//! What every reader reads of an image has one layout for all targets; a host packs weights, once, into the order in which its instructions
//! take them, or finds them so in the image ([`pack`]).

mod bytes;
mod common;
mod flow;
mod isa;
mod pace;
mod packed;
mod room;
mod step;
mod team;

pub use crate::kernels::simd::packing::Packing;
pub use bytes::Bytes;
pub use isa::{Executor, Isa, UnknownExecutor};
pub use packed::{Origin, PackError, pack, portable};
pub use room::make_room;

use crate::{
    exec::{Output, Run, RunError, store},
    image::{Image, Op},
    kernels::simd::Registers,
    observe::Observer,
};
use common::Common;
use flow::{Flow, Piece};
use pace::Pace;
use packed::Rows;
use std::{num::NonZero, time::Instant};
use step::{Cut, Hand, Step, share_rows};
use team::Team;

/// A network, ready to run on this machine. An image planned for little memory is quicker after [`make_room`].
#[derive(Debug)]
pub struct Prepared<'i> {
    image: Image<'i>,
    ops: Vec<Op<'i>>,
    executor: Executor,
    steps: Vec<Step>,
    /// What a thread without helpers does.
    alone: Flow,
    weights: Rows<'i>,
    arena: Bytes,
    scratch: Bytes,
    /// Helpers, and whether they pay.
    team: Option<(Team, Pace)>,
}

impl<'i> Prepared<'i> {
    /// With the fastest kernels that this machine has.
    pub fn new(image: Image<'i>) -> Self {
        Self::with(image, Executor::best())
    }

    /// With the kernels of `executor`; the integers that come out are the same.
    pub fn with(image: Image<'i>, executor: Executor) -> Self {
        let (weights, steps) = Rows::new(&image, executor.packing(), |mut source| {
            let steps = image.ops().map(|op| Step::new(executor, &op, &mut source));
            steps.collect::<Result<Vec<_>, _>>().expect("packed weights are what the check or this program has seen")
        });
        let mut prepared = Self {
            image,
            ops: image.ops().collect(),
            executor,
            steps,
            alone: Flow::new(1, []),
            weights,
            arena: Bytes::zeros(crate::exec::step::arena_bytes(image)),
            scratch: Bytes::zeros(0),
            team: None,
        };
        prepared.alone = prepared.flow(1);
        prepared.make_scratch(1);
        prepared
    }

    /// The same network with so many threads, the calling one included. The others wait in the kernel between runs, from 50 us
    /// after the last one on, and are only woken as long as runs are faster with them than without; the first 20 runs and then
    /// ten in 490, some more after a change, find that out.
    pub fn with_threads(mut self, threads: NonZero<usize>) -> Self {
        let threads = threads.get();
        self.team = (threads > 1).then(|| (Team::new(self.flow(threads)), Pace::default()));
        self.make_scratch(threads);
        self
    }

    /// Threads that a run may take.
    pub fn threads(&self) -> usize {
        self.team.as_ref().map_or(1, |(team, _)| team.threads())
    }

    /// [`Self::with_threads`], which help from the first run on.
    #[cfg(test)]
    fn with_helpers(self, threads: NonZero<usize>) -> Self {
        let mut prepared = self.with_threads(threads);
        prepared.team.iter_mut().for_each(|(_, pace)| *pace = Pace::helped());
        prepared
    }

    fn flow(&self, threads: usize) -> Flow {
        let input = self.image.input();
        let of_input = share_rows(&input, threads).into_iter().map(|rows| Cut::of_input(&input, rows));
        let ops = self.steps.iter().zip(&self.ops).map(|(step, op)| step.share(op, threads, self.arena.len()));
        Flow::new(threads, std::iter::once(of_input.collect()).chain(ops))
    }

    fn make_scratch(&mut self, threads: usize) {
        let each = self.steps.iter().zip(&self.ops).map(|(step, op)| step.memory(op, threads)).max();
        self.scratch = Bytes::zeros(threads * each.unwrap_or_default().next_multiple_of(LINE).max(LINE));
    }

    /// The image.
    pub const fn image(&self) -> Image<'i> {
        self.image
    }

    /// The kernels.
    pub const fn executor(&self) -> Executor {
        self.executor
    }

    /// Where the weights lie.
    pub fn origin(&self) -> Origin {
        self.weights.origin()
    }

    /// Runs a picture: `H W C` pixels, one byte for each channel (C = 3: red, green, blue), of the input tensor's size.
    ///
    /// # Errors
    /// [`RunError::InputLength`].
    pub fn run_pixels(&mut self, pixels: &[u8]) -> Result<Output<'i, '_>, RunError> {
        self.run_pixels_observed(pixels, &mut ())
    }

    /// [`Self::run_pixels`], watched.
    ///
    /// # Errors
    /// [`RunError::InputLength`].
    pub fn run_pixels_observed(
        &mut self,
        pixels: &[u8],
        observer: &mut impl Observer,
    ) -> Result<Output<'i, '_>, RunError> {
        self.run(Picture::Pixels(pixels), observer)
    }

    /// Runs integers that are already what the input tensor stores, `H W C`.
    ///
    /// # Errors
    /// [`RunError::InputLength`], [`RunError::InputValue`].
    pub fn run_quantized(&mut self, integers: &[u8]) -> Result<Output<'i, '_>, RunError> {
        self.run_quantized_observed(integers, &mut ())
    }

    /// [`Self::run_quantized`], watched.
    ///
    /// # Errors
    /// [`RunError::InputLength`], [`RunError::InputValue`].
    pub fn run_quantized_observed(
        &mut self,
        integers: &[u8],
        observer: &mut impl Observer,
    ) -> Result<Output<'i, '_>, RunError> {
        self.run(Picture::Quantized(integers), observer)
    }

    /// A run, alone or together.
    #[allow(unsafe_code, reason = "threads use one arena at the same time")]
    fn run<'s>(&'s mut self, picture: Picture, observer: &mut impl Observer) -> Result<Output<'i, 's>, RunError> {
        let threads = self.threads();
        let Self { image, ops, steps, alone, weights, arena, scratch, team, .. } = self;
        let (weights, arena_bytes) = (weights.rows(), arena.len());
        let mut run = Run { image: *image, arena };
        let (start, watched) = (Instant::now(), observer.watches());
        let mut by_itself = |run| {
            let mut registers = Registers::default();
            picture.run(run, observer, |op, arena| {
                let cut = &alone.piece(0, op.index + 1).cut;
                let hand = Hand { scratch, registers: &mut registers, tell: &mut || {} };
                steps[op.index].run(op, weights, arena, cut, hand);
                if watched {
                    registers = Registers::default();
                }
            })
        };
        let Some((team, pace)) = team else { return by_itself(run) };
        if !pace.together() {
            let output = by_itself(run);
            pace.note(false, start.elapsed());
            return output;
        }
        let (each, scratch) = (scratch.len() / threads, Common::new(scratch));
        let work = |arena: *mut u8, thread: usize, piece: &Piece, registers: &mut Registers, tell: &mut dyn FnMut()| {
            // SAFETY: the team is lent the whole arena below, and lets nobody do a piece before those that it needs are done: all that
            // touch the same bytes. Each thread has its scratch.
            let (arena, scratch) =
                unsafe { (Common::lent(arena, arena_bytes), scratch.write(thread * each..(thread + 1) * each)) };
            if let Some(op) = piece.op.checked_sub(1) {
                // SAFETY: as above.
                return unsafe {
                    steps[op].portion(&ops[op], weights, arena, &piece.cut, Hand { scratch, registers, tell })
                };
            }
            let (stored, start) = (&piece.cut.touched.writes, image.input().range().start);
            let pixels = &picture.bytes()[stored.start - start..stored.end - start];
            // SAFETY: as above.
            store(image.input_tables(), pixels, unsafe { arena.write(stored.clone()) });
        };
        let mut running = team.run(&work);
        let end = ops.len() + 1;
        let output = match picture {
            Picture::Pixels(pixels) if !watched => match run.input(pixels) {
                Ok(_) => {
                    running.share(run.arena.as_mut_ptr(), 0..end);
                    Ok(run.output())
                }
                Err(error) => Err(error),
            },
            _ => picture.run(run, observer, |op, arena| match op.index + 1 {
                number if watched => running.share(arena.as_mut_ptr(), number..number + 1),
                1 => running.share(arena.as_mut_ptr(), 1..end),
                _ => {}
            }),
        };
        drop(running);
        pace.note(true, start.elapsed());
        output
    }
}

/// What a run is given.
#[derive(Clone, Copy)]
enum Picture<'p> {
    Pixels(&'p [u8]),
    Quantized(&'p [u8]),
}

impl Picture<'_> {
    fn bytes(&self) -> &[u8] {
        let (Self::Pixels(bytes) | Self::Quantized(bytes)) = self;
        bytes
    }

    /// A run, op by op.
    fn run<'i, 'm>(
        self,
        run: Run<'i, 'm>,
        observer: &mut impl Observer,
        step: impl FnMut(&Op, &mut [u8]),
    ) -> Result<Output<'i, 'm>, RunError> {
        match self {
            Self::Pixels(pixels) => run.pixels(pixels, observer, step),
            Self::Quantized(integers) => run.quantized(integers, observer, step),
        }
    }
}

/// A cache line, and the one beside it.
const LINE: usize = 128;

#[cfg(test)]
mod networks;
#[cfg(test)]
mod tests;
