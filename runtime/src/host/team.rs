//! Threads that share a run. Enters: what each does ([`Flow`]), and how a piece of it is done. Leaves: all pieces done, each once, and
//! none before those that it needs. Threads do not wait for each other at every op: each tells, in a cache line of its own,
//! how many of its pieces are done, and looks at those of others for what it needs. Helpers look for work between runs for a moment, in
//! case the next one follows at once; then they wait in the kernel. The same pieces are a thread's in every run, so that a core finds in
//! its cache what it wrote before; but those of a helper that does not begin are done by the calling thread, op by op, until
//! it does: nobody waits for a helper to wake.
#![allow(unsafe_code, reason = "helpers outlive what a run borrows; nobody waits for them but the call that lends it")]

use super::flow::{Flow, Piece};
use crate::kernels::simd::Registers;
use std::{
    cell::UnsafeCell,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What is done in a run, given the start of the arena, a thread, one of its pieces, that thread's tile registers, and what tells the others
/// that another part of the piece is done. What is not told is told at the end.
pub(super) type Work<'w> = dyn Fn(*mut u8, usize, &Piece, &mut Registers, &mut dyn FnMut()) + Sync + 'w;

/// Turns after which a thread that finds nothing to do gives its core away.
const PATIENCE: u32 = 1 << 12;

/// Turns for which the calling thread takes it that a helper which was there in the last run has begun in this one too.
const HASTE: u32 = 32;

/// How long a helper looks out for another run before it waits in the kernel: about what it takes to wake it, so that lingering
/// never costs more than twice what sleeping would have.
const LINGER: Duration = Duration::from_micros(50);

/// Bits of [`Board::offer`] that say from which op on.
const OPS: u32 = 20;

/// Bits of [`State::done`] that count parts of pieces.
const PARTS: u32 = 24;

/// That many are done when a thread has left.
const LEFT: u64 = (1 << PARTS) - 1;

/// A thread that runs networks, with helpers.
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Where each helper is.
    presences: Vec<Presence>,
    /// Each thread's, for what is done here.
    walks: Vec<Walk>,
    share: u64,
}

/// Where a helper is, as the calling thread knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Its pieces are done by the calling thread.
    Absent,
    /// It may take what is offered.
    Invited,
    /// It does its pieces until the end.
    There,
}

struct Shared {
    flow: Flow,
    board: Board,
    /// How far each thread is.
    states: Box<[State]>,
}

/// What the calling thread alone writes: one cache line.
#[repr(C, align(128))]
struct Board {
    /// The share, from 1, and in the last [`OPS`] bits the op from which on a helper can do its pieces.
    offer: AtomicU64,
    /// What is written while no helper is there, and read by who has taken an offer.
    task: UnsafeCell<Task>,
    /// Whether a network runs.
    running: AtomicBool,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Task {
    ops: [usize; 2],
    arena: *mut u8,
    /// Of the run.
    work: *const Work<'static>,
}

/// How far a thread is.
struct State {
    taken: Taken,
    done: Done,
}

/// The last offer that the helper, or the calling thread in its place, has taken.
#[repr(align(128))]
struct Taken(AtomicU64);

/// What others wait for.
#[repr(align(128))]
struct Done {
    /// The share, and in the last [`PARTS`] bits how many parts of pieces are done; [`LEFT`] when the thread touches nothing any more.
    parts: AtomicU64,
    /// Whether a piece has panicked.
    failed: AtomicBool,
}

// SAFETY: `task` is written by the one thread that calls `Running::share`, at its start. A helper reads it after it has taken an
// offer, by a successful exchange of its `taken`; the share ends, and so the next write comes, after that helper has left.
unsafe impl Sync for Shared {}
// SAFETY: the pointers in `task` are only followed as said above, whichever thread holds the value.
unsafe impl Send for Shared {}

impl Team {
    /// With helpers, one for each thread of the flow but the first.
    ///
    /// # Panics
    /// When there are more than a million ops, or 16 million parts of a thread.
    pub(super) fn new(flow: Flow) -> Self {
        let (ops, threads) = (flow.ops(), flow.threads());
        assert!(ops < 1 << OPS && (0..threads).all(|thread| (flow.parts_before(thread, ops) as u64) < LEFT));
        let nothing: &Work = &|_, _, _, _, _| {};
        let task = Task { ops: [0; 2], arena: std::ptr::null_mut(), work: nothing };
        let state = |_| State {
            taken: Taken(AtomicU64::new(0)),
            done: Done { parts: AtomicU64::new(0), failed: AtomicBool::new(false) },
        };
        let shared = Arc::new(Shared {
            flow,
            board: Board {
                offer: AtomicU64::new(0),
                task: UnsafeCell::new(task),
                running: AtomicBool::new(false),
                stop: AtomicBool::new(false),
            },
            states: (0..threads).map(state).collect(),
        });
        let helper = |thread| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.help(Walk::new(thread, threads)))
        };
        Self {
            helpers: (1..threads).map(helper).collect(),
            presences: vec![Presence::Absent; threads - 1],
            walks: (0..threads).map(|thread| Walk::new(thread, threads)).collect(),
            share: 0,
            shared,
        }
    }

    /// Threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.walks.len()
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
            // A helper that panicked has been reported by the run in which it did.
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
    /// Does all pieces of those ops, thread 0's on this thread, and returns when all are done.
    ///
    /// # Panics
    /// When a piece panics.
    pub(super) fn share(&mut self, arena: *mut u8, ops: Range<usize>) {
        let work = self.work;
        let Team { shared, presences, walks, share, .. } = &mut *self.team;
        let Shared { flow, board, states } = &**shared;
        *share += 1;
        // SAFETY: only the lifetime changes; `Ending` below keeps this call from returning or unwinding before all helpers have
        // left, and nobody follows the pointer without having taken an offer.
        let lent = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        let task = Task { ops: [ops.start, ops.end], arena, work: lent };
        // SAFETY: all helpers have left, and all offers are taken, so that no one reads it.
        unsafe { *board.task.get() = task };
        walks.iter_mut().for_each(|walk| walk.begin(flow, *share, task.ops[0]));
        let (own, walks) = walks.split_first_mut().expect("the calling thread's");
        let patience = presences.iter().map(|presence| if *presence == Presence::There { HASTE } else { 0 }).max();
        presences.fill(Presence::Absent);
        let ending = Ending { shared, presences, share: *share };
        let mut registers = Registers::default();
        for op in ops {
            let offer = flow.is_shared(op).then(|| board.offer(*share << OPS | op as u64, ending.presences));
            own.go(shared, op..op + 1, arena, work, &mut registers);
            let Some(offer) = offer else { continue };
            for ((presence, walk), state) in ending.presences.iter_mut().zip(&mut *walks).zip(&states[1..]) {
                if *presence == Presence::Invited {
                    let there = state.is_there(offer, patience.unwrap_or_default());
                    *presence = if there { Presence::There } else { Presence::Absent };
                    if !there {
                        walk.go(shared, op..op + 1, arena, work, &mut registers);
                    }
                }
            }
        }
        drop((registers, ending));
        // An exchange takes a cache line from another core.
        let has_failed =
            |done: &Done| done.failed.load(Ordering::Relaxed) && done.failed.swap(false, Ordering::Relaxed);
        let failed = states.iter().filter(|state| has_failed(&state.done)).count() > 0;
        assert!(!failed, "a piece of the work panicked");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.team.shared.board.running.store(false, Ordering::Release);
    }
}

/// Waits until all helpers have left. When a panic comes by, nobody is invited any more, and nobody waits for what is left undone.
struct Ending<'s> {
    shared: &'s Shared,
    presences: &'s mut [Presence],
    share: u64,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Shared { board, states, .. } = self.shared;
        let offer = board.offer.load(Ordering::Relaxed);
        let left = self.share << PARTS | LEFT;
        states[0].done.parts.store(left, Ordering::Release);
        for (presence, state) in self.presences.iter_mut().zip(&states[1..]) {
            if *presence == Presence::Invited && !state.take(offer) {
                *presence = Presence::There;
            }
            if *presence != Presence::There {
                state.done.parts.store(left, Ordering::Release);
            }
        }
        for (presence, state) in self.presences.iter().zip(&states[1..]) {
            let mut turns = 0;
            while *presence == Presence::There && state.done.parts.load(Ordering::Acquire) != left {
                wait(&mut turns);
            }
        }
    }
}

impl Board {
    /// Makes an offer to who is not there; the offer.
    fn offer(&self, offer: u64, presences: &mut [Presence]) -> u64 {
        let mut absent = presences.iter_mut().filter(|presence| **presence == Presence::Absent).peekable();
        if absent.peek().is_some() {
            absent.for_each(|presence| *presence = Presence::Invited);
            self.offer.store(offer, Ordering::Release);
        }
        offer
    }
}

impl State {
    /// Takes an offer, if nobody has.
    fn take(&self, offer: u64) -> bool {
        let seen = self.taken.0.load(Ordering::Acquire);
        seen < offer && self.taken.0.compare_exchange(seen, offer, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether the helper has taken an offer; when it has not after so many turns, the offer is taken away.
    fn is_there(&self, offer: u64, patience: u32) -> bool {
        let mut turns = 0;
        while self.taken.0.load(Ordering::Acquire) != offer {
            if turns >= patience && self.take(offer) {
                return false;
            }
            wait(&mut turns);
        }
        true
    }
}

/// A thread's way through its pieces.
struct Walk {
    thread: usize,
    /// What it has seen of all threads' [`Done::parts`].
    seen: Box<[u64]>,
    share: u64,
}

impl Walk {
    fn new(thread: usize, threads: usize) -> Self {
        Self { thread, seen: vec![0; threads].into(), share: 0 }
    }

    /// Begins a share, before which all that comes before that op is done.
    fn begin(&mut self, flow: &Flow, share: u64, op: usize) {
        self.share = share << PARTS;
        for (thread, seen) in self.seen.iter_mut().enumerate() {
            *seen = self.share | flow.parts_before(thread, op) as u64;
        }
    }

    /// Does the pieces of those ops, each when it can be done.
    fn go(&mut self, shared: &Shared, ops: Range<usize>, arena: *mut u8, work: &Work, registers: &mut Registers) {
        let Shared { flow, states, .. } = shared;
        for number in flow.pieces(self.thread, ops) {
            let piece = flow.piece(self.thread, number);
            for &(thread, count) in &piece.needs {
                let (need, mut turns) = (self.share | count as u64, 0);
                while self.seen[thread] < need {
                    self.seen[thread] = states[thread].done.parts.load(Ordering::Acquire);
                    if self.seen[thread] < need {
                        wait(&mut turns);
                    }
                }
            }
            let (done, mut count) = (&states[self.thread].done.parts, piece.parts.start);
            let told = |count: usize| done.store(self.share | count as u64, Ordering::Release);
            work(arena, self.thread, piece, registers, &mut || {
                count = piece.parts.end.min(count + 1);
                told(count);
            });
            told(piece.parts.end);
        }
    }
}

/// Notes that a helper has left, whether or not it panicked.
struct Leaving<'s>(&'s State, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Self(State { done, .. }, share) = self;
        if thread::panicking() {
            done.failed.store(true, Ordering::Relaxed);
        }
        done.parts.store(*share << PARTS | LEFT, Ordering::Release);
    }
}

impl Shared {
    fn help(&self, mut walk: Walk) {
        let (board, state) = (&self.board, &self.states[walk.thread]);
        let (mut seen, mut left, mut turns, mut idle) = (0, 0, 0, None);
        while !board.stop.load(Ordering::Acquire) {
            let offer = board.offer.load(Ordering::Acquire);
            if offer != seen {
                (seen, turns, idle) = (offer, 0, None);
                let (share, op) = (offer >> OPS, offer & ((1 << OPS) - 1));
                // Who has left a share is not meant by what it offers later.
                if share != left && state.take(offer) {
                    left = share;
                    // SAFETY: the offer is taken and the helper has not left, so that the share that made it has not ended, and the
                    // task is not written.
                    let task = unsafe { *board.task.get() };
                    let leaving = Leaving(state, share);
                    walk.begin(&self.flow, share, task.ops[0]);
                    // SAFETY: the same.
                    let (work, mut registers) = (unsafe { &*task.work }, Registers::default());
                    walk.go(self, op as usize..task.ops[1], task.arena, work, &mut registers);
                    drop((registers, leaving));
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
    use crate::{
        host::step::{Cut, Portion, Touched},
        testing::Draw,
    };
    use std::{ptr::null_mut, sync::atomic::AtomicUsize};

    /// Rows of a tensor.
    const ROWS: usize = 12;

    /// Tensors, of which op `n` reads number `n` and writes the next one, in a ring of places.
    const PLACES: usize = 3;

    fn row(tensor: usize, row: usize) -> usize {
        tensor % PLACES * ROWS + row
    }

    /// Ops shared by so many threads each, by rows, of which each reads those above and below, too.
    fn flow(threads: usize, parts: &[usize]) -> Flow {
        let op = |(op, &parts): (usize, &usize)| {
            let portion = |part: usize| {
                let rows = ROWS * part / parts..ROWS * (part + 1) / parts;
                let read = rows.start.saturating_sub(1)..ROWS.min(rows.end + 1);
                let place = |tensor, rows: &Range<usize>| row(tensor, rows.start)..row(tensor, rows.end - 1) + 1;
                let touched = Touched { reads: vec![place(op, &read)], writes: place(op + 1, &rows) };
                Cut::whole(Portion::Channels(rows), touched)
            };
            (0..parts).map(portion).collect()
        };
        Flow::new(threads, parts.iter().enumerate().map(op))
    }

    /// Threads that take their time write what was read one later, and find what is as late as they think it is.
    #[test]
    fn every_piece_is_done_once_and_finds_what_it_needs() {
        let draw = &mut Draw::new(1);
        for threads in 1..=4 {
            let parts: Vec<usize> = (0..40).map(|_| draw.size(1..=threads as u16).into()).collect();
            let mut team = Team::new(flow(threads, &parts));
            for run in 0..60 {
                let written = [const { AtomicUsize::new(0) }; PLACES * ROWS];
                let count = AtomicUsize::new(0);
                let work = |_: *mut u8, thread: usize, piece: &Piece, _: &mut Registers, _: &mut dyn FnMut()| {
                    let Portion::Channels(rows) = &piece.cut.portion else { unreachable!("said so above") };
                    let draw = &mut Draw::new((run << 16 | piece.op << 8 | thread) as u64);
                    (0..1 << draw.int(0..=12)).for_each(|_| std::hint::spin_loop());
                    for read in rows.start.saturating_sub(1)..ROWS.min(rows.end + 1) {
                        let found = written[row(piece.op, read)].load(Ordering::Relaxed);
                        assert_eq!(found, piece.op, "op {}, row {read}, read by thread {thread}", piece.op);
                    }
                    (0..1 << draw.int(0..=12)).for_each(|_| std::hint::spin_loop());
                    for write in rows.clone() {
                        written[row(piece.op + 1, write)].store(piece.op + 1, Ordering::Relaxed);
                    }
                    count.fetch_add(rows.len(), Ordering::Relaxed);
                };
                let mut running = team.run(&work);
                // At once, and in shares.
                let mut start = 0;
                while start < parts.len() {
                    let end =
                        if run % 2 == 0 { parts.len() } else { parts.len().min(start + draw.size(1..=7) as usize) };
                    running.share(null_mut(), start..end);
                    assert_eq!(count.load(Ordering::Relaxed), end * ROWS);
                    start = end;
                }
            }
        }
    }

    #[test]
    fn what_a_part_is_needed_for_begins_before_the_piece_ends() {
        // The second op of the helper reads what the first part of the first one of this thread writes.
        let touched = |reads: Option<Range<usize>>, writes| Touched { reads: reads.into_iter().collect(), writes };
        let whole = |touched| Cut::whole(Portion::Channels(0..0), touched);
        let first = Cut { parts: vec![touched(None, 0..1), touched(None, 1..2)], ..whole(touched(None, 0..2)) };
        let second = vec![whole(touched(Some(1..2), 4..5)), whole(touched(Some(0..1), 5..6))];
        let mut team = Team::new(Flow::new(2, [vec![first, whole(touched(None, 3..4))], second]));
        let begun = AtomicBool::new(false);
        let work = |_: *mut u8, thread: usize, piece: &Piece, _: &mut Registers, tell: &mut dyn FnMut()| match (
            thread, piece.op,
        ) {
            (0, 0) => {
                tell();
                let start = Instant::now();
                while !begun.load(Ordering::Acquire) {
                    assert!(start.elapsed() < Duration::from_secs(60), "the helper waits for the whole piece");
                    thread::yield_now();
                }
            }
            (1, 1) => begun.store(true, Ordering::Release),
            _ => {}
        };
        team.run(&work).share(null_mut(), 0..2);
        assert!(begun.load(Ordering::Relaxed));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_nobody_is_left_running() {
        for who in 0..2 {
            for at in [0, 1, 5] {
                let mut team = Team::new(flow(2, &[2; 6]));
                let inside = AtomicUsize::new(0);
                let work = |_: *mut u8, thread: usize, piece: &Piece, _: &mut Registers, _: &mut dyn FnMut()| {
                    inside.fetch_add(1, Ordering::Relaxed);
                    // So that the helper has begun.
                    thread::sleep(Duration::from_millis(5));
                    let here = inside.fetch_sub(1, Ordering::Relaxed);
                    assert!(here > 0 && (thread, piece.op) != (who, at), "on purpose");
                };
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    team.run(&work).share(null_mut(), 0..6);
                }));
                assert!(result.is_err());
                assert_eq!(inside.load(Ordering::Relaxed), 0);
            }
        }
    }
}
