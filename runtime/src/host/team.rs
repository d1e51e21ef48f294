//! Threads that share the work of one op. Enters: parts of work, numbered. Leaves: all parts done, each by one thread. Helpers
//! look for work during a run, and for a moment after it, in case the next one follows at once; then they wait in the kernel.
//! Whoever is there takes the next part, and the thread that runs the network never waits for a helper to begin.
#![allow(unsafe_code, reason = "helpers outlive what a part borrows; nobody waits for them but the call that lends it")]

use std::{
    cell::UnsafeCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

type Work = dyn Fn(usize) + Sync;

/// Turns after which a thread that finds nothing to do gives its core away.
const PATIENCE: u32 = 1 << 12;

/// How long a helper looks out for another run before it waits in the kernel: about what it takes to wake it, so that lingering
/// never costs more than twice what sleeping would have.
const LINGER: Duration = Duration::from_micros(50);

/// A thread that runs networks, with helpers.
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Which call this is (32 bits), the end of the parts that are left (16), the first of them (16).
    claim: AtomicU64,
    /// Parts that are done.
    done: AtomicUsize,
    /// The call's work: written while no part can be taken, read by who has taken one.
    work: UnsafeCell<*const Work>,
    /// Whether a network runs.
    running: AtomicBool,
    failed: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `work` is written by the one thread that calls `Team::share`, between two calls. A helper reads it after it has taken a
// part of a call, by a successful exchange of `claim`; the call returns, and so the next write comes, after that part is done.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is only followed as said above, whichever thread holds the value.
unsafe impl Send for Shared {}

impl Team {
    /// With so many helpers beside the calling thread.
    pub(super) fn new(helpers: usize) -> Self {
        let nothing: &Work = &|_| {};
        let shared = Arc::new(Shared {
            claim: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            work: UnsafeCell::new(nothing),
            running: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let helpers = (0..helpers)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.help())
            })
            .collect();
        Self { shared, helpers }
    }

    /// Threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Wakes the helpers, until what is returned is dropped.
    pub(super) fn run(&mut self) -> Running<'_> {
        self.shared.running.store(true, Ordering::Release);
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
        Running(self)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper that panicked has been reported by the call whose part it had.
            let _ = helper.join();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Team of {}", self.threads())
    }
}

/// A team whose helpers are awake.
#[derive(Debug)]
pub(super) struct Running<'t>(&'t mut Team);

impl Running<'_> {
    /// Threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.0.threads()
    }

    /// Calls `work` with every number below `parts`, on any of the threads, and returns when all are done.
    ///
    /// # Panics
    /// When `work` panics, or there are more than 65,535 parts.
    pub(super) fn share<'w>(&mut self, parts: u16, work: &'w (dyn Fn(usize) + Sync + 'w)) {
        let shared = &*self.0.shared;
        // SAFETY: only the lifetime changes; `Finish` below keeps this call from returning or unwinding before all parts
        // are done, and nobody follows the pointer without having taken a part.
        let work = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'w), *const Work>(work) };
        // SAFETY: all parts of the last call are taken and done, so that no one reads it.
        unsafe { *shared.work.get() = work };
        shared.done.store(0, Ordering::Relaxed);
        let call = (shared.claim.load(Ordering::Relaxed) >> 32) as u32;
        let claim = u64::from(call.wrapping_add(1)) << 32 | u64::from(parts) << 16;
        shared.claim.store(claim, Ordering::Release);
        let finish = Finish { shared, parts: parts.into() };
        while shared.take_part(false) {}
        drop(finish);
        assert!(!shared.failed.load(Ordering::Relaxed), "a part of the work panicked");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.shared.running.store(false, Ordering::Release);
    }
}

/// Waits for all parts, those of others and those that a panic has left.
struct Finish<'s> {
    shared: &'s Shared,
    parts: usize,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        while self.shared.claim_part(false).is_some() {
            self.shared.done.fetch_add(1, Ordering::Release);
        }
        let mut turns = 0;
        while self.shared.done.load(Ordering::Acquire) < self.parts {
            wait(&mut turns);
        }
    }
}

/// Counts a part as done, whether or not it panicked.
struct Done<'s>(&'s Shared);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        self.0.done.fetch_add(1, Ordering::Release);
    }
}

impl Shared {
    /// Takes a part of the present call, if one is left: the first or the last.
    fn claim_part(&self, last: bool) -> Option<usize> {
        let left = |claim: u64| (claim & 0xffff) < (claim >> 16 & 0xffff);
        let take = |claim: u64| left(claim).then(|| if last { claim - (1 << 16) } else { claim + 1 });
        let claim = self.claim.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).ok()?;
        Some(if last { (claim >> 16 & 0xffff) as usize - 1 } else { (claim & 0xffff) as usize })
    }

    /// Takes a part and does it.
    fn take_part(&self, last: bool) -> bool {
        let Some(part) = self.claim_part(last) else { return false };
        let done = Done(self);
        // SAFETY: a part is taken and not yet done, so that the call that lends the work has not returned.
        unsafe { (**self.work.get())(part) };
        drop(done);
        true
    }

    fn help(&self) {
        let (mut turns, mut idle) = (0, None);
        while !self.stop.load(Ordering::Acquire) {
            if !self.running.load(Ordering::Acquire) {
                if idle.get_or_insert_with(Instant::now).elapsed() < LINGER {
                    std::hint::spin_loop();
                } else {
                    thread::park();
                }
                continue;
            }
            idle = None;
            if self.take_part(true) {
                turns = 0;
            } else {
                wait(&mut turns);
            }
        }
    }
}

fn wait(turns: &mut u32) {
    *turns += 1;
    if *turns < PATIENCE {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_part_is_done_once_in_every_call() {
        let mut team = Team::new(3);
        for round in 0..200u16 {
            let mut running = team.run();
            for parts in [0, 1, 2, 7, round] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                running.share(parts, &|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.into_iter().all(|count| count.into_inner() == 1), "{parts} parts");
            }
        }
    }

    #[test]
    fn parts_may_write_what_the_caller_owns() {
        let mut team = Team::new(1);
        let mut numbers = vec![0; 1000];
        let slices: Vec<Mutex<&mut [usize]>> = numbers.chunks_mut(10).map(Mutex::new).collect();
        team.run().share(100, &|part| slices[part].lock().unwrap().fill(part));
        assert!(numbers.iter().enumerate().all(|(i, &number)| number == i / 10));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_no_part_is_left_running() {
        let mut team = Team::new(1);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.run().share(8, &|part| assert_ne!(part, 5, "on purpose"));
        }));
        assert!(result.is_err());
    }
}
