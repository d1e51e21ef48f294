//! Where each activation lies in the arena.
//!
//! *Enters*: how large the tensors are and in which steps they are written and read. *Leaves*: offsets, multiples of
//! [`ALIGN`], such that two tensors that are alive in one step share no byte, unless one step is allowed to write over
//! what it reads for the last time (in its very place, or from below, row by row); and the arena's size, with the bound below which no plan can go. *Refused*: arenas
//! beyond u32.

mod place;
#[cfg(test)]
mod tests;

use place::{Buffer, Placement};

/// Offsets are multiples of this.
pub const ALIGN: u64 = runtime::image::ALIGN as u64;

/// Where a step may put its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Apart from everything that it reads.
    Apart,
    /// Over an input that nobody reads later: the step works element by element.
    Over,
    /// Where its one input is, so many bytes on: the step moves nothing.
    Within(u64),
    /// Where its inputs are, which lie side by side: the step moves nothing.
    Around,
    /// Over its one input if nobody reads that later, by at least so many bytes below it: the step works row by row.
    Below(u64),
}

/// One step of a run.
#[derive(Clone, Debug)]
pub struct Step {
    /// Tensors read.
    pub inputs: Vec<usize>,
    /// Tensor written.
    pub output: usize,
    /// Where that may be.
    pub place: Output,
    /// Bytes needed while the step runs, and no longer.
    pub scratch: u64,
}

/// A plan of the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Offset of each tensor.
    pub tensors: Vec<u32>,
    /// Offset of each step's scratch; 0 for a step without.
    pub scratch: Vec<u32>,
    /// Size of the arena.
    pub bytes: u32,
    /// Most bytes that are alive in any one step: no plan that shares as this one does can be smaller.
    pub lower_bound: u32,
    /// Whether no such plan is smaller: `bytes` is `lower_bound`, or the search has seen them all.
    pub optimal: bool,
}

/// The arena would be larger than u32 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the activations need an arena of {bytes} bytes, expected at most {}", u32::MAX)]
pub struct TooLarge {
    /// Bytes needed.
    pub bytes: u64,
}

/// Plans the arena for tensors of `sizes` bytes. `input` is written before the first step, `output` is read after the
/// last one.
///
/// # Errors
/// [`TooLarge`].
///
/// # Panics
/// If a step names a tensor that has no size.
pub fn plan(sizes: &[u64], steps: &[Step], input: usize, output: usize) -> Result<Plan, TooLarge> {
    let (shared, mut buffers) = buffers(sizes, steps, input, output);
    let mut placed = place::place(&buffers);
    // Row by row is a little slower, so only steps that do not fit otherwise keep the permission, if that costs no bytes.
    for i in 0..buffers.len() {
        if buffers[i].over.is_some() && place::alive_apart(&buffers, buffers[i].first) <= placed.bytes {
            buffers[i].over = None;
        }
    }
    let fewer = place::place(&buffers);
    if fewer.bytes <= placed.bytes {
        placed = Placement { lower_bound: placed.lower_bound, optimal: placed.optimal, ..fewer };
    }
    let narrow = |bytes: u64| u32::try_from(bytes).map_err(|_| TooLarge { bytes: placed.bytes });
    let offsets: Vec<u32> = placed.offsets.iter().map(|&offset| narrow(offset)).collect::<Result<_, _>>()?;
    let (tensors, scratch) = offsets.split_at(sizes.len());
    Ok(Plan {
        tensors: shared.root.iter().zip(&shared.shift).map(|(&root, &shift)| tensors[root] + shift as u32).collect(),
        scratch: scratch.to_vec(),
        bytes: narrow(placed.bytes)?,
        lower_bound: narrow(placed.lower_bound)?,
        optimal: placed.optimal,
    })
}

/// What the arena of a [`plan`] has at least, without a plan: see [`Plan::lower_bound`].
///
/// # Panics
/// As [`plan`].
pub fn lower_bound(sizes: &[u64], steps: &[Step], input: usize, output: usize) -> u64 {
    place::least(&buffers(sizes, steps, input, output).1)
}

/// Whether the arena of a [`plan`] has at most so many bytes; the answer mostly comes long before there is a plan.
///
/// # Panics
/// As [`plan`].
pub fn fits(sizes: &[u64], steps: &[Step], input: usize, output: usize, most: u64) -> bool {
    let buffers = buffers(sizes, steps, input, output).1;
    place::least(&buffers) <= most
        && (place::within(&buffers, most).bytes <= most
            || plan(sizes, steps, input, output).is_ok_and(|plan| u64::from(plan.bytes) <= most))
}

/// What is to be placed: tensors that share their bytes once, then the scratch of each step.
fn buffers(sizes: &[u64], steps: &[Step], input: usize, output: usize) -> (Shared, Vec<Buffer>) {
    let shared = Shared::new(sizes, steps, input, output);
    let scratch = |(i, step): (usize, &Step)| Buffer { bytes: round(step.scratch), first: i, last: i, over: None };
    let buffers = shared.buffers.iter().copied().chain(steps.iter().enumerate().map(scratch)).collect();
    (shared, buffers)
}

fn round(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

/// Which tensors share their bytes.
struct Shared {
    /// For each tensor the first of those it shares with.
    root: Vec<usize>,
    /// Bytes from where that starts.
    shift: Vec<u64>,
    /// What is to be placed, for each root; empty for other tensors.
    buffers: Vec<Buffer>,
}

impl Shared {
    fn new(sizes: &[u64], steps: &[Step], input: usize, output: usize) -> Self {
        let mut root: Vec<usize> = (0..sizes.len()).collect();
        let mut shift = vec![0; sizes.len()];
        for step in steps.iter().filter(|step| step.place == Output::Around) {
            let mut bytes = 0;
            for &input in &step.inputs {
                (root[input], shift[input]) = (step.output, bytes);
                bytes += sizes[input];
            }
        }
        for step in steps {
            if let Output::Within(bytes) = step.place {
                let input = step.inputs[0];
                (root[step.output], shift[step.output]) = (root[input], shift[input] + bytes);
            }
        }
        let own = |i: usize| if root[i] == i { round(sizes[i]) } else { 0 };
        let mut buffers: Vec<Buffer> =
            (0..sizes.len()).map(|i| Buffer { bytes: own(i), first: usize::MAX, last: 0, over: None }).collect();
        let mut touch = |tensor: usize, step: usize| {
            let buffer = &mut buffers[root[tensor]];
            (buffer.first, buffer.last) = (buffer.first.min(step), buffer.last.max(step));
        };
        touch(input, 0);
        for (i, step) in steps.iter().enumerate() {
            touch(step.output, i);
            step.inputs.iter().for_each(|&input| touch(input, i));
        }
        touch(output, steps.len());
        // Every buffer's last step is known now, reshapes included, so that a step can tell whether it is the last reader.
        for (i, step) in steps.iter().enumerate().filter(|(_, step)| step.place == Output::Over) {
            let to = root[step.output];
            let dies_here = |from: &usize| {
                buffers[*from].last == i && buffers[to].first == i && buffers[*from].bytes == buffers[to].bytes
            };
            if let Some(from) = step.inputs.iter().map(|&input| root[input]).find(dies_here).filter(|from| *from != to)
            {
                buffers[from].last = buffers[to].last;
                buffers[to].bytes = 0;
                root.iter_mut().filter(|root| **root == to).for_each(|root| *root = from);
            }
        }
        for (i, step) in steps.iter().enumerate() {
            let Output::Below(lead) = step.place else { continue };
            let (from, to) = (root[step.inputs[0]], root[step.output]);
            let whole =
                [step.inputs[0], step.output].iter().all(|&tensor| buffers[root[tensor]].bytes == round(sizes[tensor]));
            if buffers[from].last == i && buffers[to].first == i && from != to && whole {
                buffers[to].over = Some((from, round(lead)));
            }
        }
        Self { root, shift, buffers }
    }
}
