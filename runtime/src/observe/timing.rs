//! How long each op takes, on a host.

use super::Observer;
use crate::{exec::Output, image::Op};
use std::time::{Duration, Instant};

/// Adds up the time of each op over all runs.
#[derive(Debug, Default)]
pub struct Timing {
    times: Vec<Duration>,
    runs: usize,
    start: Option<Instant>,
}

impl Timing {
    /// The time of each op, in the order of execution, over all runs.
    pub fn times(&self) -> &[Duration] {
        &self.times
    }

    /// Runs so far.
    pub const fn runs(&self) -> usize {
        self.runs
    }
}

impl Observer for Timing {
    fn input(&mut self, _: Output) {
        self.runs += 1;
    }

    fn before(&mut self, _: &Op) {
        self.start = Some(Instant::now());
    }

    fn after(&mut self, op: &Op, _: Output) {
        let took = self.start.map_or(Duration::ZERO, |start| start.elapsed());
        if self.times.len() <= op.index {
            self.times.resize(op.index + 1, Duration::ZERO);
        }
        self.times[op.index] += took;
    }
}
