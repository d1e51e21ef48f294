//! The micro-kernel of convolutions and dense layers. Enters: the inputs of `P` output pixels, the packed weights of `N`
//! blocks of channels. Leaves: all their sums, which stay in registers while the inputs are walked once.
#![allow(unsafe_code, reason = "inputs are read without a check for each of them")]

use super::{LANES, Row, Simd};

/// A piece of a pixel's inputs: `rows` times four bytes, from `offset` behind the pixel's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) offset: usize,
    pub(crate) rows: usize,
}

/// Which inputs of a pixel are multiplied, in the order of the rows of weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    /// End of the last byte that is read, behind the pixel's first one; no run ends later.
    reach: usize,
    rows: usize,
}

impl Runs {
    /// Appends a run, or makes the last one longer.
    pub(crate) fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.offset + 4 * last.rows == run.offset => last.rows += run.rows,
            _ => self.runs.push(run),
        }
        self.reach = self.reach.max(run.offset + 4 * run.rows);
        self.rows += run.rows;
    }
}

/// `sums[p][n] = bias[n] + sum x * weights[n]`; pixel `p` starts `p * step` bytes into `x`.
///
/// # Panics
/// When `x` is too short for the runs, or there are other than `runs.rows()` rows of weights.
#[inline(always)]
pub(crate) fn tile<V: Simd, const P: usize, const N: usize>(
    simd: V,
    x: &[u8],
    step: usize,
    runs: &Runs,
    weights: &[[Row; N]],
    bias: &[[i32; LANES]; N],
) -> [[V::Lanes; N]; P] {
    assert!((P - 1) * step + runs.reach <= x.len() && weights.len() == runs.rows);
    let mut sums = [bias.each_ref().map(|bias| simd.load(bias)); P];
    let mut weights = weights;
    for run in &runs.runs {
        let rows;
        (rows, weights) = weights.split_at(run.rows);
        let mut at = run.offset;
        for row in rows {
            for (p, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `at + 4` is at most `reach`, `p` at most `P - 1`, and their bytes were asserted to be there.
                let x = unsafe { x.as_ptr().add(at + p * step).cast::<[u8; 4]>().read() };
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = simd.dot(*sum, x, row);
                }
            }
            at += 4;
        }
    }
    sums
}
