//! Threads that share the work of an op. Enters: what the parts of all ops do, for a run, and op by op the number of parts, one for
//! each thread. Leaves: all parts done, each once. Helpers look for work during a run, and for a moment after it, in case the next
//! one follows at once; then they wait in the kernel. Part `i` is thread `i`'s in every call, so that a core finds in its cache what it
//! wrote before; but a part whose helper does not begin is done by the calling thread, which never waits for a helper to wake.
//!
//! What one core has written takes another one some 150 ns to see. So the calling thread writes one cache line to begin a call, with all
//! in it that changes from op to op, a helper one to end it, and whether a helper has begun is looked at only when it takes long.
#![allow(unsafe_code, reason = "helpers outlive what a part borrows; nobody waits for them but the call that lends it")]

use std::{
    cell::UnsafeCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What is done in a run, given the number of an op, the start of the arena, and the number of a part.
pub(super) type Work<'w> = dyn Fn(usize, *mut u8, usize) + Sync + 'w;

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

/// What the calling thread alone writes: one cache line.
#[repr(C, align(128))]
struct Board {
    /// Which call this is, from 1, and in the last [`PARTS`] bits how many parts it has.
    call: AtomicU64,
    /// What is written while no part can be taken, and read by who has taken one.
    task: UnsafeCell<Task>,
    /// Whether a network runs.
    running: AtomicBool,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Task {
    op: usize,
    arena: *mut u8,
    /// Of the run.
    work: *const Work<'static>,
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

// SAFETY: `task` is written by the one thread that calls `Running::share`, between two calls. A helper reads it after it has taken its
// part of a call, by a successful exchange of its `taken`; the call returns, and so the next write comes, after that part is done.
unsafe impl Sync for Shared {}
// SAFETY: the pointers in `task` are only followed as said above, whichever thread holds the value.
unsafe impl Send for Shared {}

impl Team {
    /// With so many helpers beside the calling thread.
    ///
    /// # Panics
    /// With 65,535 or more.
    pub(super) fn new(helpers: usize) -> Self {
        assert!(helpers < (1 << PARTS) - 1, "{helpers} helpers");
        let nothing: &Work = &|_, _, _| {};
        let shared = Arc::new(Shared {
            board: Board {
                call: AtomicU64::new(0),
                task: UnsafeCell::new(Task { op: 0, arena: std::ptr::null_mut(), work: nothing }),
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

    /// Wakes the helpers, which do `work`, until what is returned is dropped.
    pub(super) fn run<'t>(&'t mut self, work: &'t Work<'t>) -> Running<'t> {
        self.shared.board.running.store(true, Ordering::Release);
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
        Running { team: self, work }
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
pub(super) struct Running<'t> {
    team: &'t mut Team,
    work: &'t Work<'t>,
}

impl Running<'_> {
    /// Threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Does every part below `parts` of an op once, the first on this thread and the others on any, and returns when all are done.
    ///
    /// # Panics
    /// When a part panics, or there are more than threads.
    pub(super) fn share(&mut self, op: usize, arena: *mut u8, parts: usize) {
        assert!(parts <= self.threads(), "{parts} parts");
        let work = self.work;
        let Team { shared, absent, .. } = &mut *self.team;
        let Shared { board, states } = &**shared;
        // SAFETY: only the lifetime changes; `Finish` below keeps this call from returning or unwinding before all parts
        // are done, and nobody follows the pointer without having taken a part.
        let lent = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: all parts of the last call are taken and done, so that no one reads it.
        unsafe { *board.task.get() = Task { op, arena, work: lent } };
        let number = (board.call.load(Ordering::Relaxed) >> PARTS) + 1;
        board.call.store(number << PARTS | parts as u64, Ordering::Release);
        let finish = Finish { states: &states[..parts.saturating_sub(1)], number };
        if parts > 0 {
            work(op, arena, 0);
        }
        for (i, (state, absent)) in finish.states.iter().zip(absent).enumerate() {
            *absent = state.left_undone(number, if *absent { 0 } else { HASTE });
            if *absent {
                work(op, arena, i + 1);
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
        self.team.shared.board.running.store(false, Ordering::Release);
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
                    // SAFETY: the part is taken and not yet done, so that the call that lends the work has not returned, and the
                    // task is not written.
                    let Task { op, arena, work } = unsafe { *board.task.get() };
                    // SAFETY: the same.
                    unsafe { (*work)(op, arena, helper + 1) };
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
    use std::{ptr::null_mut, sync::atomic::AtomicUsize};

    #[test]
    fn every_part_is_done_once_in_every_call() {
        let mut team = Team::new(3);
        for _ in 0..2000 {
            let counts: [[AtomicUsize; 4]; 5] = Default::default();
            let work = |op: usize, _: *mut u8, part: usize| {
                counts[op][part].fetch_add(1, Ordering::Relaxed);
            };
            let mut running = team.run(&work);
            for (op, parts) in [0, 1, 4, 2, 3].into_iter().enumerate() {
                running.share(op, null_mut(), parts);
                let done = counts[op].each_ref().map(|count| count.load(Ordering::Relaxed));
                assert_eq!(done, std::array::from_fn(|part| usize::from(part < parts)), "{parts} parts");
            }
        }
    }

    #[test]
    fn what_one_call_writes_the_next_one_reads() {
        let mut team = Team::new(2);
        let numbers: [AtomicUsize; 3] = Default::default();
        // The numbers of all parts, each written by its part in the call before.
        let work = |op: usize, _: *mut u8, part: usize| {
            if op.is_multiple_of(2) {
                numbers[part].store(op + part, Ordering::Relaxed);
            } else {
                let found = numbers.each_ref().map(|number| number.load(Ordering::Relaxed));
                assert_eq!(found, std::array::from_fn(|part| op - 1 + part));
            }
        };
        for round in 0..300 {
            let mut running = team.run(&work);
            (0..20).for_each(|op| running.share(20 * round + op, null_mut(), 3));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_no_part_is_left_running() {
        for who in 0..2 {
            let mut team = Team::new(1);
            let work = |_: usize, _: *mut u8, part: usize| {
                // So that the helper has begun.
                thread::sleep(Duration::from_millis(20));
                assert_ne!(part, who, "on purpose");
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                team.run(&work).share(0, null_mut(), 2);
            }));
            assert!(result.is_err());
        }
    }
}
