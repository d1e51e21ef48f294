//! The arena over time. Enters: a checked flash image. Leaves: a drawing, a line for each op: which bytes it reads, writes and works
//! in, which others are kept for a later op, and how many that are. Refuses nothing.

use crate::terminal::{columns, thousands};
use runtime::image::Image;
use std::ops::Range;

/// Characters that stand for the whole arena.
const WIDTH: usize = 64;

/// The drawing.
pub(crate) fn draw(image: &Image<'_>) -> String {
    let steps = steps(image);
    let peak = steps.iter().map(Step::live).max().unwrap_or(0);
    let arena = image.arena_bytes();
    let mut rows = vec![["op", "kind", "live bytes", "arena"].map(String::from).to_vec()];
    for step in &steps {
        let live = step.live();
        let mark = if live == peak { " peak" } else { "" };
        rows.push(vec![
            step.name.clone(),
            step.kind.into(),
            thousands(live as u64),
            format!("|{}|{mark}", step.bar(arena)),
        ]);
    }
    // The drawing is wide: what is behind it must not move it.
    let widest = rows.iter().map(|row| row[3].chars().count()).max().unwrap_or(0);
    for row in &mut rows {
        let missing = widest - row[3].chars().count();
        row[3] += &" ".repeat(missing);
    }
    format!(
        "arena {} bytes, at most {} of them live; a character is {} bytes\nr read, w written, x both, s scratch, k kept for a later op, . free\n\n{}",
        thousands(arena as u64),
        thousands(peak as u64),
        arena.div_ceil(WIDTH),
        columns(&rows)
    )
}

/// One op, and the bytes of the arena that mean something while it runs.
struct Step {
    name: String,
    kind: &'static str,
    read: Vec<Range<usize>>,
    written: Vec<Range<usize>>,
    scratch: Range<usize>,
    kept: Vec<Range<usize>>,
}

fn steps(image: &Image<'_>) -> Vec<Step> {
    let ops: Vec<_> = image.ops().collect();
    // The first and the last op that touches each tensor; the input is there before the first, the output after the last.
    let mut lives = vec![(usize::MAX, 0); image.tensors().len()];
    let mut touch = |tensor: usize, op: usize| {
        let (first, last) = lives[tensor];
        lives[tensor] = (first.min(op), last.max(op));
    };
    touch(image.input().index, 0);
    for (i, op) in ops.iter().enumerate() {
        op.inputs().for_each(|input| touch(input.index, i));
        touch(op.output().index, i);
    }
    touch(image.output().index, ops.len());
    let step = |(i, op): (usize, &runtime::image::Op<'_>)| {
        let read: Vec<usize> = op.inputs().map(|input| input.index).collect();
        let own = |tensor: usize| read.contains(&tensor) || tensor == op.output().index;
        let kept = image.tensors().filter(|t| lives[t.index].0 < i && i < lives[t.index].1 && !own(t.index));
        Step {
            name: op.name().to_owned(),
            kind: op.repr.kind.name(),
            read: op.inputs().map(|input| input.range()).collect(),
            written: vec![op.output().range()],
            scratch: op.scratch(),
            kept: kept.map(|tensor| tensor.range()).collect(),
        }
    };
    ops.iter().enumerate().map(step).collect()
}

impl Step {
    /// Bytes that are live, each counted once.
    fn live(&self) -> usize {
        let scratch = [self.scratch.clone()];
        let mut all: Vec<_> = [&self.read[..], &self.written, &self.kept, &scratch].concat();
        all.sort_by_key(|range| range.start);
        let mut end = 0;
        all.into_iter().fold(0, |sum, range| {
            let more = range.end.saturating_sub(range.start.max(end));
            end = end.max(range.end);
            sum + more
        })
    }

    fn bar(&self, arena: usize) -> String {
        let meets = |ranges: &[Range<usize>], part: &Range<usize>| {
            ranges.iter().any(|range| range.start < part.end && part.start < range.end)
        };
        let cell = |i: usize| {
            let part = i * arena / WIDTH..((i + 1) * arena / WIDTH).max(i * arena / WIDTH + 1);
            match (meets(&self.read, &part), meets(&self.written, &part)) {
                (true, true) => 'x',
                (true, false) => 'r',
                (false, true) => 'w',
                _ if meets(std::slice::from_ref(&self.scratch), &part) => 's',
                _ if meets(&self.kept, &part) => 'k',
                _ => '.',
            }
        };
        (0..WIDTH).map(cell).collect()
    }
}
