//! Threads that share the work of one op. Enters: slices cut into parts, one for each thread. Leaves: all parts worked on, each
//! once. Helpers look for work during a run, and for a moment after it, in case the next one follows at once; then they wait in the
//! kernel. Part `i` is thread `i`'s in every call, so that a core finds in its cache what it wrote before; but a part whose helper
//! does not begin is done by the calling thread, which never waits for a helper to wake.
//!
//! What one core has written takes another one some 100 ns to read. So the calling thread writes one cache line to begin a call, a
//! helper one to end it, and whether a helper has begun is looked at only when it takes long.
#![allow(unsafe_code, reason = "helpers outlive what a part borrows; nobody waits for them but the call that lends it")]

use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

type Work = dyn Fn(usize) + Sync;

/// Turns after which a thread that finds nothing to do gives its core away.
const PATIENCE: u32 = 1 << 12;

/// Turns for which the calling thread takes it that a helper which did its last part has begun this one too.
const HASTE: u32 = 32;

/// How long a helper looks out for another run before it waits in the kernel: about what it takes to wake it, so that lingering
/// never costs more than twice what sleeping would have.
const LINGER: Duration = Duration::from_micros(50);

/// Bits of [`Board::call`] that count parts.
const PARTS: u32 = 16;

/// A thread that runs networks, with helpers.
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// For each helper whether it left its last part undone.
    absent: Vec<bool>,
}

struct Shared {
    board: Board,
    /// How far each helper is, which looks at no other.
    states: Box<[State]>,
}

/// What the calling thread alone writes, in cache lines of its own.
#[repr(align(128))]
struct Board {
    /// Which call this is, from 1, and in the last [`PARTS`] bits how many parts it has.
    call: AtomicU64,
    /// The call's work: written while no part can be taken, read by who has taken one.
    work: UnsafeCell<*const Work>,
    /// Whether a network runs.
    running: AtomicBool,
    stop: AtomicBool,
}

/// How far a helper is.
struct State {
    taken: Taken,
    done: Completed,
}

/// The last call whose part of the helper's was taken, by whoever did it.
#[repr(align(128))]
struct Taken(AtomicU64);

/// What the calling thread waits for, apart from [`Taken`].
#[repr(align(128))]
struct Completed {
    /// The last call whose part the helper has done.
    call: AtomicU64,
    /// Whether a part of this helper has panicked.
    failed: AtomicBool,
}

// SAFETY: `work` is written by the one thread that calls `Team::share`, between two calls. A helper reads it after it has taken its
// part of a call, by a successful exchange of its `taken`; the call returns, and so the next write comes, after that part is done.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is only followed as said above, whichever thread holds the value.
unsafe impl Send for Shared {}

impl Team {
    /// With so many helpers beside the calling thread.
    ///
    /// # Panics
    /// With 65,535 or more.
    pub(super) fn new(helpers: usize) -> Self {
        assert!(helpers < (1 << PARTS) - 1, "{helpers} helpers");
        let nothing: &Work = &|_| {};
        let shared = Arc::new(Shared {
            board: Board {
                call: AtomicU64::new(0),
                work: UnsafeCell::new(nothing),
                running: AtomicBool::new(false),
                stop: AtomicBool::new(false),
            },
            states: (0..helpers)
                .map(|_| State {
                    taken: Taken(AtomicU64::new(0)),
                    done: Completed { call: AtomicU64::new(0), failed: AtomicBool::new(false) },
                })
                .collect(),
        });
        let helpers: Vec<_> = (0..helpers)
            .map(|helper| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.help(helper))
            })
            .collect();
        let absent = vec![true; helpers.len()];
        Self { shared, helpers, absent }
    }

    /// Threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Wakes the helpers, until what is returned is dropped.
    pub(super) fn run(&mut self) -> Running<'_> {
        self.shared.board.running.store(true, Ordering::Release);
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
        Running(self)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.board.stop.store(true, Ordering::Release);
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

    /// Cuts slices into parts of `lengths` and calls `work` with the number and the slices of each part: the first on this thread,
    /// the others on any. Returns when all are done. There are as many parts as the first slice has; of the second, the last ones
    /// may be shorter, or empty.
    ///
    /// # Panics
    /// When `work` panics, or there are more parts than threads.
    pub(super) fn share<'a, T: Send, U: Send>(
        &mut self,
        slices: (&'a mut [T], &'a mut [U]),
        lengths: [usize; 2],
        work: impl Fn(usize, &'a mut [T], &'a mut [U]) + Sync,
    ) {
        let count = slices.0.len().div_ceil(lengths[0]);
        assert!(count <= self.threads(), "{count} parts");
        let slices = (Chunks::new(slices.0, lengths[0]), Chunks::new(slices.1, lengths[1]));
        // By value, so that it all lies together.
        self.call(count, &move |part| {
            let slices = &slices;
            // SAFETY: `call` asks for every number below `count` once.
            let (a, b) = unsafe { (slices.0.get(part), slices.1.get(part)) };
            work(part, a, b);
        });
    }

    /// Calls `work` with every number below `parts`, once each.
    fn call<'w>(&mut self, parts: usize, work: &'w (dyn Fn(usize) + Sync + 'w)) {
        let Team { shared, absent, .. } = &mut *self.0;
        let Shared { board, states } = &**shared;
        // SAFETY: only the lifetime changes; `Finish` below keeps this call from returning or unwinding before all parts
        // are done, and nobody follows the pointer without having taken a part.
        let lent = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'w), *const Work>(work) };
        // SAFETY: all parts of the last call are taken and done, so that no one reads it.
        unsafe { *board.work.get() = lent };
        let number = (board.call.load(Ordering::Relaxed) >> PARTS) + 1;
        board.call.store(number << PARTS | parts as u64, Ordering::Release);
        let finish = Finish { states: &states[..parts.saturating_sub(1)], number };
        if parts > 0 {
            work(0);
        }
        for (i, (state, absent)) in finish.states.iter().zip(absent).enumerate() {
            *absent = state.left_undone(number, if *absent { 0 } else { HASTE });
            if *absent {
                work(i + 1);
            }
        }
        let failed = finish.states.iter().any(|state| state.done.failed.swap(false, Ordering::Relaxed));
        // All is done.
        std::mem::forget(finish);
        assert!(!failed, "a part of the work panicked");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.shared.board.running.store(false, Ordering::Release);
    }
}

/// A slice in parts of one length.
struct Chunks<'a, T> {
    first: *mut T,
    len: usize,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: threads take different parts, and what is in them may be sent there.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    fn new(slice: &'a mut [T], length: usize) -> Self {
        Self { first: slice.as_mut_ptr(), len: slice.len(), length, slice: PhantomData }
    }

    /// Part `i`, empty behind the last one.
    ///
    /// # Safety
    /// No part may be asked for twice.
    unsafe fn get(&self, i: usize) -> &'a mut [T] {
        let start = (i * self.length).min(self.len);
        // SAFETY: in the slice, which is borrowed for `'a`, and apart from all other parts.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), self.length.min(self.len - start)) }
    }
}

/// Waits for the parts that helpers are at; those that nobody has begun when a panic comes by are left undone.
struct Finish<'s> {
    states: &'s [State],
    number: u64,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        for state in self.states {
            state.left_undone(self.number, 0);
        }
    }
}

impl State {
    /// Takes the part of call `number`, if nobody has.
    fn take(&self, number: u64) -> bool {
        let seen = self.taken.0.load(Ordering::Acquire);
        seen < number && self.taken.0.compare_exchange(seen, number, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Waits until the helper has done its part of call `number`; or, when it has not begun after so many turns, takes the part
    /// away from it, which is then the caller's to do.
    fn left_undone(&self, number: u64, patience: u32) -> bool {
        let mut turns = 0;
        while self.done.call.load(Ordering::Acquire) != number {
            if turns >= patience && self.take(number) {
                self.done.call.store(number, Ordering::Relaxed);
                return true;
            }
            wait(&mut turns);
        }
        false
    }
}

/// Notes a part as done, whether or not it panicked.
struct Done<'s>(&'s State, u64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.done.failed.store(true, Ordering::Relaxed);
        }
        self.0.done.call.store(self.1, Ordering::Release);
    }
}

impl Shared {
    fn help(&self, helper: usize) {
        let Self { board, states } = self;
        let (mut seen, mut turns, mut idle) = (0, 0, None);
        while !board.stop.load(Ordering::Acquire) {
            let call = board.call.load(Ordering::Acquire);
            if call != seen {
                (seen, turns, idle) = (call, 0, None);
                let (number, parts) = (call >> PARTS, call & ((1 << PARTS) - 1));
                if helper as u64 + 1 < parts && states[helper].take(number) {
                    let done = Done(&states[helper], number);
                    // SAFETY: the part is taken and not yet done, so that the call that lends the work has not returned.
                    unsafe { (**board.work.get())(helper + 1) };
                    drop(done);
                }
            } else if board.running.load(Ordering::Acquire) {
                idle = None;
                wait(&mut turns);
            } else if idle.get_or_insert_with(Instant::now).elapsed() < LINGER {
                std::hint::spin_loop();
            } else {
                thread::park();
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
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_part_is_done_once_in_every_call() {
        let mut team = Team::new(3);
        for _ in 0..2000 {
            let mut running = team.run();
            for parts in [0, 1, 4, 2, 3] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                running.call(parts, &|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.into_iter().all(|count| count.into_inner() == 1), "{parts} parts");
            }
        }
    }

    #[test]
    fn parts_may_write_what_the_caller_owns() {
        let mut team = Team::new(2);
        let (mut numbers, mut firsts) = (vec![0; 2500], vec![0; 3]);
        for round in 1..300 {
            team.run().share((&mut numbers, &mut firsts), [1000, 1], |part, numbers, firsts| {
                numbers.fill(round + part);
                firsts[0] = numbers.len();
            });
            assert!(numbers.iter().enumerate().all(|(i, &number)| number == round + i / 1000));
            assert_eq!(firsts, [1000, 1000, 500]);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_no_part_is_left_running() {
        for who in 0..2 {
            let mut team = Team::new(1);
            let work = |part: usize, _: &mut [usize], _: &mut [()]| {
                // So that the helper has begun.
                thread::sleep(Duration::from_millis(20));
                assert_ne!(part, who, "on purpose");
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                team.run().share((&mut [0, 1], &mut [(), ()]), [1, 1], work);
            }));
            assert!(result.is_err());
        }
    }
}
