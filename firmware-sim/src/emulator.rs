//! Runs firmware under QEMU. Enters: [`Firmware`], pictures, [`RunOptions`]. Leaves: a [`Report`] with the logits of each
//! picture and, if wanted, CRCs and instructions. Refused: pictures of the wrong size, a missing QEMU; a firmware that panics,
//! faults, hangs, overruns its stack or says something else than the protocol allows is an error, with what it printed.
//!
//! The unit of counting is the retired *instruction*: QEMU knows nothing of a core's pipeline, wait states or caches,
//! so no number here is a cycle or a time. Under `-icount shift=6` an instruction takes 64 ns of virtual time and SysTick
//! runs at the machine's clock, so that `instructions = ticks * (1 s / clock) / 64 ns`; a loop of known length is counted first
//! to prove it.

use crate::process::Process;
use crate::protocol::{self, Drill, Farewell, Greeting, Request};
use crate::{Error, Firmware, Placement, Sections};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Duration;

/// Virtual time of an instruction under `-icount shift=6`, in ns.
const INSTRUCTION_NS: u128 = 64;

/// Instructions of the loop that is counted before the first picture.
const CALIBRATION: u32 = 1_000_000;

/// A stack used up to so many bytes before its end counts as used up: a deeper frame may have left those words alone.
const STACK_GUARD: u32 = 128;

/// What is wanted of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// CRC-32 of each op's output, for each picture.
    pub crcs: bool,
    /// Instructions of each inference.
    pub count: bool,
    /// Instructions of each op of each inference.
    pub count_ops: bool,
    /// The run is ended when no result comes for so long.
    pub patience: Duration,
    /// QEMU processes that share the pictures; results do not depend on it.
    pub jobs: usize,
    /// The accident that is wanted, for tests of this library.
    #[doc(hidden)]
    pub drill: Drill,
}

impl Default for RunOptions {
    fn default() -> Self {
        let patience = Duration::from_secs(60);
        Self { crcs: true, count: false, count_ops: false, patience, jobs: 1, drill: Drill::None }
    }
}

/// One inference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inference {
    /// Bytes of the output tensor.
    pub logits: Vec<u8>,
    /// CRC-32 of each op's output, in the order of execution; empty unless wanted.
    pub crcs: Vec<u32>,
    /// Retired instructions, pixels to logits; `None` unless wanted.
    pub instructions: Option<u64>,
    /// Retired instructions of each op, the observer's own left out; empty unless wanted.
    pub op_instructions: Vec<u64>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// For each picture, in their order.
    pub inferences: Vec<Inference>,
    /// Bytes of stack at the deepest point of the whole program, the firmware's talk with the host included.
    pub stack_used: u32,
    /// Bytes of stack there were.
    pub stack_size: u32,
    /// What the linker placed.
    pub sections: Sections,
}

impl Firmware {
    /// Runs each of `pictures` (`H W C`, one byte for each channel of each pixel), and calls `progress` with the number of
    /// finished ones about ten times a second; [`ControlFlow::Break`] ends the run.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn run<P: AsRef<[u8]>>(
        &self,
        pictures: &[P],
        options: &RunOptions,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Report, Error> {
        let model = self.model();
        let wrong = pictures.iter().position(|p| p.as_ref().len() != model.pixels);
        if let Some(index) = wrong {
            let found = pictures[index].as_ref().len();
            return Err(Error::Pixels { index, found, expected: model.pixels });
        }
        let mut flags = 0;
        for (wanted, flag) in
            [(options.crcs, protocol::CRC), (options.count_ops, protocol::EACH), (options.count, protocol::COUNT)]
        {
            flags |= if wanted { flag } else { 0 };
        }
        // Without any flag nothing would run.
        flags = if flags == 0 { protocol::COUNT } else { flags };
        let counting = options.count || options.count_ops;
        let (_, machine) = self.board().emulated()?;
        if self.placement() == Placement::Board && self.board().machine.is_none() {
            let reason = "the program is linked for the board's own addresses".into();
            return Err(Error::NotEmulated { board: self.board().name.clone(), reason });
        }
        let share = pictures.len().div_ceil(options.jobs.max(1)).max(1);
        let mut shares = pictures.chunks(share).collect::<Vec<_>>();
        if shares.is_empty() {
            shares.push(&[]);
        }
        let mut processes = Vec::new();
        for share in &shares {
            let request = Request {
                images: share.len() as u32,
                pixels: model.pixels as u32,
                flags,
                calibration: if counting { CALIBRATION } else { 0 },
                drill: options.drill as u32,
            };
            let pixels = share.iter().flat_map(|p| p.as_ref().iter().copied());
            let input: Vec<u8> = request.emit().into_iter().chain(pixels).collect();
            let record = protocol::record_bytes(model.logits, model.ops, flags);
            processes.push(Process::start(&self.program(), &machine.name, counting, &input, share.len(), record)?);
        }
        loop {
            let mut running = false;
            for process in &mut processes {
                running |= process.poll(options.patience)?;
            }
            let done = processes.iter().map(Process::done).sum();
            if progress(done).is_break() {
                return Err(Error::Cancelled { done, images: pictures.len() });
            }
            if !running {
                break;
            }
            std::thread::sleep(Duration::from_millis(if done == 0 { 10 } else { 100 }));
        }
        let mut report = Report { inferences: Vec::new(), stack_used: 0, stack_size: 0, sections: *self.sections() };
        for process in processes {
            let images = process.images();
            let reply = process.reply()?;
            let mut reader = Reader { bytes: &reply, at: 0, clock: machine.clock };
            let read = reader.share(images, [model.logits, model.ops], flags, counting)?;
            report.inferences.extend(read.inferences);
            report.stack_used = report.stack_used.max(read.farewell.stack_used);
            report.stack_size = read.farewell.stack_size;
        }
        if report.stack_used + STACK_GUARD >= report.stack_size {
            return Err(Error::StackOverflow { available: report.stack_size });
        }
        Ok(report)
    }
}

/// One process's part of the report.
struct Share {
    inferences: Vec<Inference>,
    farewell: Farewell,
}

/// Reads a reply from its start on.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Hz of the ticks.
    clock: u32,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let Some(found) = found else {
            return Err(self.refuse(format!("{} bytes are left, {N} expected", self.bytes.len() - self.at)));
        };
        self.at += N;
        Ok(*found)
    }

    /// The logits of one run, which must be those of the runs of the same picture before it.
    fn logits(&mut self, count: usize, logits: &mut Vec<u8>) -> Result<(), Error> {
        let Some(found) = self.bytes.get(self.at..).and_then(|rest| rest.get(..count)) else {
            return Err(self.refuse(format!("{} bytes are left, {count} expected", self.bytes.len() - self.at)));
        };
        if logits.is_empty() {
            logits.extend(found);
        } else if logits != found {
            return Err(self.refuse(format!("logits {found:?}, but another run of the same picture gave {logits:?}")));
        }
        self.at += count;
        Ok(())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Reply { at: self.at, reason }
    }

    fn share(&mut self, images: usize, [logits, ops]: [usize; 2], flags: u32, counting: bool) -> Result<Share, Error> {
        let greeting = Greeting::parse(&self.take()?).ok_or_else(|| self.refuse("no greeting".into()))?;
        let found = [greeting.logits, greeting.ops, greeting.flags];
        let expected = [logits as u32, ops as u32, flags];
        if found != expected {
            return Err(self.refuse(format!("logits, ops and flags are {found:?}, expected {expected:?}")));
        }
        let idle = u64::from(greeting.idle_ticks);
        if counting {
            let found = self.instructions(greeting.calibration_ticks, idle);
            let expected = u64::from(CALIBRATION);
            // The loop's own set-up is a few instructions.
            if found.abs_diff(expected) > expected / 10_000 {
                return Err(Error::Miscounted { found, expected });
            }
        }
        let mut inferences = Vec::with_capacity(images);
        for _ in 0..images {
            let mut inference = Inference::default();
            if flags & protocol::CRC != 0 {
                for _ in 0..ops {
                    inference.crcs.push(u32::from_le_bytes(self.take()?));
                }
                self.logits(logits, &mut inference.logits)?;
            }
            if flags & protocol::EACH != 0 {
                for _ in 0..ops {
                    inference.op_instructions.push({
                        let ticks = u64::from_le_bytes(self.take()?);
                        self.instructions(ticks, idle)
                    });
                }
                self.logits(logits, &mut inference.logits)?;
            }
            if flags & protocol::COUNT != 0 {
                let ticks = u64::from_le_bytes(self.take()?);
                inference.instructions = counting.then(|| self.instructions(ticks, idle));
                self.logits(logits, &mut inference.logits)?;
            }
            inferences.push(inference);
        }
        let farewell = Farewell::parse(&self.take()?).ok_or_else(|| self.refuse("no farewell".into()))?;
        if self.at != self.bytes.len() {
            return Err(self.refuse(format!("{} bytes follow the farewell", self.bytes.len() - self.at)));
        }
        Ok(Share { inferences, farewell })
    }

    /// How many take so many ticks, rounded, without what reading the counter twice costs.
    fn instructions(&self, ticks: u64, idle: u64) -> u64 {
        let per_instruction = u128::from(self.clock) * INSTRUCTION_NS;
        let ticks = u128::from(ticks.saturating_sub(idle));
        ((ticks * 1_000_000_000 + per_instruction / 2) / per_instruction) as u64
    }
}

#[cfg(test)]
mod tests;
