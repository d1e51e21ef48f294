//! What each thread does of a run, and for what it waits. Enters: what threads do of each op, and what bytes they touch. Leaves: for
//! each thread its pieces, in the order of the ops, and for each piece how many parts of every other thread's must be done before: all up
//! to the last one of an earlier op that touches the same bytes, if one of the two writes them. So a thread waits for the rows of another
//! one that it reads, and for who still reads what lay in the place where it writes, and for nothing else.

use super::step::{Cut, Touched};
use std::ops::Range;

/// A portion of an op, which a thread does.
#[derive(Debug)]
pub(super) struct Piece {
    /// Counted from 1; 0 stores the input.
    pub(super) op: usize,
    pub(super) cut: Cut,
    /// How many parts the thread has done before this piece, and behind it.
    pub(super) parts: Range<usize>,
    /// Threads, and how many of their parts must be done before; none of which an earlier piece of the same thread needs as many.
    pub(super) needs: Vec<(usize, usize)>,
}

/// All pieces of a run.
#[derive(Debug)]
pub(super) struct Flow {
    lanes: Vec<Lane>,
}

/// What one thread does.
#[derive(Debug)]
struct Lane {
    pieces: Vec<Piece>,
    /// For each op, how many pieces come before it, and for the end, how many there are.
    starts: Vec<usize>,
    /// Of all pieces, what each part touches.
    parts: Vec<Touched>,
    /// As `starts`, of parts.
    part_starts: Vec<usize>,
    /// For each thread, the most of its parts that one of these pieces needs.
    known: Vec<usize>,
}

impl Flow {
    /// Of a network of which each of so many threads, at most, does that of each op, and touches that.
    pub(super) fn new(threads: usize, ops: impl IntoIterator<Item = Vec<Cut>>) -> Self {
        let lane = |_| Lane {
            pieces: Vec::new(),
            starts: vec![0],
            parts: Vec::new(),
            part_starts: vec![0],
            known: vec![0; threads],
        };
        let mut lanes: Vec<Lane> = (0..threads).map(lane).collect();
        for (op, cuts) in ops.into_iter().enumerate() {
            for (thread, cut) in cuts.into_iter().enumerate() {
                let needs = needs(&mut lanes, thread, &cut.touched);
                let lane = &mut lanes[thread];
                let first = lane.parts.len();
                lane.parts.extend(cut.parts.iter().cloned());
                lane.pieces.push(Piece { op, cut, parts: first..lane.parts.len(), needs });
            }
            for lane in &mut lanes {
                lane.starts.push(lane.pieces.len());
                lane.part_starts.push(lane.parts.len());
            }
        }
        Self { lanes }
    }

    /// How many threads there are.
    pub(super) fn threads(&self) -> usize {
        self.lanes.len()
    }

    /// How many ops there are, with the input.
    pub(super) fn ops(&self) -> usize {
        self.lanes[0].starts.len() - 1
    }

    /// A piece.
    pub(super) fn piece(&self, thread: usize, piece: usize) -> &Piece {
        &self.lanes[thread].pieces[piece]
    }

    /// The pieces that a thread does of those ops.
    pub(super) fn pieces(&self, thread: usize, ops: Range<usize>) -> Range<usize> {
        let starts = &self.lanes[thread].starts;
        starts[ops.start]..starts[ops.end]
    }

    /// How many parts of a thread come before an op.
    pub(super) fn parts_before(&self, thread: usize, op: usize) -> usize {
        self.lanes[thread].part_starts[op]
    }

    /// Whether another thread than the first does something of an op.
    pub(super) fn is_shared(&self, op: usize) -> bool {
        (1..self.threads()).any(|thread| !self.pieces(thread, op..op + 1).is_empty())
    }
}

/// What must be done before the next piece of a thread, which touches that. Of pieces of the same op, none.
fn needs(lanes: &mut [Lane], thread: usize, touched: &Touched) -> Vec<(usize, usize)> {
    let mut needs = Vec::new();
    for other in (0..lanes.len()).filter(|&other| other != thread) {
        let (known, before) = (lanes[thread].known[other], *lanes[other].part_starts.last().unwrap_or(&0));
        let past = lanes[other].parts.get(known..before).unwrap_or_default();
        if let Some(last) = past.iter().rposition(|past| past.conflicts(touched)) {
            lanes[thread].known[other] = known + last + 1;
            needs.push((other, known + last + 1));
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::step::Portion, testing::Draw};

    /// Of ops that read and write somewhere: threads, and for each op what its portions touch, which do not get in each other's way.
    fn drawn(draw: &mut Draw) -> (usize, Vec<Vec<Cut>>) {
        let threads = draw.size(1..=4).into();
        let range = |draw: &mut Draw, room: Range<usize>| {
            let start = room.start + draw.bits() as usize % room.len();
            start..start + draw.bits() as usize % (room.end - start + 1)
        };
        let op = |_| {
            let parts = draw.size(1..=threads as u16).into();
            let middle = 10 + draw.bits() as usize % 80;
            let (read, written) =
                if draw.of(&[true, false]) { (0..middle, middle..100) } else { (middle..100, 0..middle) };
            let each = written.len().div_ceil(parts);
            let portion = |part: usize| {
                let reads = (0..draw.int(0..=2)).map(|_| range(draw, read.clone())).collect();
                let start = written.end.min(written.start + part * each);
                let writes = start..written.end.min(start + each);
                let touched = Touched { reads, writes };
                let middle = touched.writes.start + touched.writes.len() / 2;
                // What is read is read at the latest in one of two parts.
                let mut parts = vec![Touched { reads: Vec::new(), ..touched.clone() }; 2];
                (parts[0].writes.end, parts[1].writes.start) = (middle, middle);
                parts[usize::from(draw.of(&[true, false]))].reads = touched.reads.clone();
                let cut = Cut::whole(Portion::Channels(part..part + 1), touched);
                if draw.of(&[true, false]) { cut } else { Cut { parts, ..cut } }
            };
            (0..parts).map(portion).collect()
        };
        let ops = (0..30).map(op).collect();
        (threads, ops)
    }

    #[test]
    fn what_touches_the_same_bytes_keeps_its_order_and_nothing_waits_for_what_comes_later() {
        let draw = &mut Draw::new(1);
        for _ in 0..300 {
            let (threads, ops) = drawn(draw);
            let flow = Flow::new(threads, ops.clone());
            let (flow, end) = (&flow, ops.len());
            let all = |thread| flow.pieces(thread, 0..end).map(move |number| (number, flow.piece(thread, number)));
            for thread in 0..threads {
                // Of each thread, how many parts are surely done.
                let mut done = vec![0; threads];
                for (_, piece) in all(thread) {
                    for &(other, count) in &piece.needs {
                        assert!(other != thread && count <= flow.parts_before(other, piece.op));
                        assert!(count > done[other], "looked for twice");
                        done[other] = count;
                    }
                    for other in (0..threads).filter(|&other| other != thread) {
                        for (_, before) in all(other).filter(|(_, before)| before.op < piece.op) {
                            for (number, part) in before.parts.clone().zip(&ops[before.op][other].parts) {
                                let conflict = part.conflicts(&ops[piece.op][thread].touched);
                                assert!(!conflict || number < done[other], "op {} before op {}", before.op, piece.op);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_wait_for_their_neighbours_only() {
        // Two threads, eight rows of ten bytes: a window of three rows, one of one row, and an op that takes the whole.
        let at = |tensor: usize, rows: Range<usize>| 100 * tensor + 10 * rows.start..100 * tensor + 10 * rows.end;
        let op = |read: Range<usize>, rows: Range<usize>, tensor: usize| {
            let touched = Touched { reads: vec![at(tensor, read)], writes: at(tensor + 1, rows.clone()) };
            Cut::whole(Portion::Channels(rows), touched)
        };
        let flow = Flow::new(
            2,
            [
                vec![op(0..5, 0..4, 0), op(3..8, 4..8, 0)],
                vec![op(0..4, 0..4, 1), op(4..8, 4..8, 1)],
                vec![op(0..5, 0..4, 2), op(3..8, 4..8, 2)],
                vec![Cut::whole(Portion::Alone, Touched { reads: Vec::new(), writes: 0..1000 })],
            ],
        );
        let needs = |thread, op| &flow.piece(thread, flow.pieces(thread, op..op + 1).start).needs;
        assert_eq!([0, 1, 2, 3].map(|op| needs(0, op).as_slice()), [&[][..], &[], &[(1, 2)], &[(1, 3)]]);
        assert_eq!([0, 1, 2].map(|op| needs(1, op).as_slice()), [&[][..], &[], &[(0, 2)]]);
        assert!(flow.is_shared(2) && !flow.is_shared(3));
    }

    #[test]
    fn who_needs_a_part_waits_for_no_more() {
        // Two threads, eight rows: each writes that beside the other one's first.
        let write = |rows: Range<usize>| Touched { reads: Vec::new(), writes: rows };
        let cut = |all: Range<usize>, parts: [Range<usize>; 2]| {
            let parts = parts.map(write).to_vec();
            Cut { parts, ..Cut::whole(Portion::Channels(all.clone()), write(all)) }
        };
        let read = |rows: Range<usize>, own: Range<usize>| {
            Cut::whole(
                Portion::Channels(own.clone()),
                Touched { reads: vec![rows], writes: own.start + 8..own.end + 8 },
            )
        };
        let flow = Flow::new(
            2,
            [
                vec![cut(0..4, [3..4, 0..3]), cut(4..8, [4..5, 5..8])],
                vec![read(0..5, 0..4), read(2..8, 4..8)],
                vec![read(0..4, 0..4), read(4..8, 4..8)],
            ],
        );
        assert_eq!([0, 1].map(|thread| flow.piece(thread, 1).needs.as_slice()), [&[(1, 1)], &[(0, 2)]]);
        assert_eq!([0, 1, 2, 3].map(|op| flow.parts_before(0, op)), [0, 2, 3, 4]);
        assert_eq!(flow.piece(0, 2).needs, []);
    }
}
