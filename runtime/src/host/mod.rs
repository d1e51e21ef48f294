//! Runs on a host, with memory of its own and the fastest kernels that the machine has. Enters: a checked image. Leaves: a
//! [`Prepared`] network, whose weights are unpacked and laid out once, and from it logits: the integers of
//! [`Session`](crate::Session). Refuses: what a session refuses.
//!
//! What every reader reads of an image has one layout for all targets; a host packs weights, once, into the order in which its instructions
//! take them, or finds them so in the image ([`pack`]).

mod bytes;
mod common;
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
    exec::{Output, Run, RunError},
    image::{Image, Op},
    observe::Observer,
};
use common::Common;
use pace::Pace;
use packed::Rows;
use std::{num::NonZero, time::Instant};
use step::Step;
use team::Team;

/// A network, ready to run on this machine. An image planned for little memory is quicker after [`make_room`].
#[derive(Debug)]
pub struct Prepared<'i> {
    image: Image<'i>,
    ops: Vec<Op<'i>>,
    executor: Executor,
    steps: Vec<Step>,
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
            weights,
            arena: Bytes::zeros(crate::exec::step::arena_bytes(image)),
            scratch: Bytes::zeros(0),
            team: None,
        };
        prepared.make_scratch(1);
        prepared
    }

    /// The same network with so many threads, the calling one included. The others wait in the kernel between runs, from 50 us
    /// after the last one on, and are only woken as long as runs are faster with them than without; the first 20 runs and then
    /// ten in 490, some more after a change, find that out.
    pub fn with_threads(mut self, threads: NonZero<usize>) -> Self {
        let threads = threads.get();
        self.team = (threads > 1).then(|| (Team::new(threads - 1), Pace::default()));
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

    fn make_scratch(&mut self, parts: usize) {
        let each = self.steps.iter().zip(&self.ops).map(|(step, op)| step.memory(op, parts));
        let most = each.max().unwrap_or_default();
        self.scratch = Bytes::zeros(parts * most.max(1));
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
        self.run(observer, |run, observer, step| run.pixels(pixels, observer, step))
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
        self.run(observer, |run, observer, step| run.quantized(integers, observer, step))
    }

    /// A run, begun by `begin`, alone or together.
    #[allow(unsafe_code, reason = "parts of an op use one arena at the same time")]
    fn run<'s, O: Observer>(
        &'s mut self,
        observer: &mut O,
        begin: impl FnOnce(Run<'i, 's>, &mut O, &mut dyn FnMut(&Op, &mut [u8])) -> Result<Output<'i, 's>, RunError>,
    ) -> Result<Output<'i, 's>, RunError> {
        let Self { image, ops, steps, weights, arena, scratch, team, .. } = self;
        let (weights, scratch, arena_bytes) = (weights.rows(), Common::new(scratch), arena.len());
        let run = Run { image: *image, arena };
        let Some((team, pace)) = team else {
            return begin(run, observer, &mut |op, arena| steps[op.index].run(op, weights, arena, scratch, None));
        };
        let threads = team.threads();
        let work = |op: usize, arena: *mut u8, part: usize| {
            let (step, op) = (&steps[op], &ops[op]);
            // SAFETY: `Step::run` shares an op with its whole arena, which it has borrowed mutably, and waits for all parts; each has
            // its scratch.
            unsafe {
                let arena = Common::lent(arena, arena_bytes);
                step.part(op, weights, arena, scratch, (part, step.share(op, threads)));
            }
        };
        let together = pace.together();
        let start = Instant::now();
        let mut running = together.then(|| team.run(&work));
        let output = begin(run, observer, &mut |op, arena| {
            steps[op.index].run(op, weights, arena, scratch, running.as_mut());
        });
        drop(running);
        pace.note(together, start.elapsed());
        output
    }
}

#[cfg(test)]
mod tests;
