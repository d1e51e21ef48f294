//! Pooling over windows of 3 x 3 with padding 1, as the cells of the design spaces do. Enters: planes. Leaves: planes, or the
//! gradient. A maximum's gradient goes to the first of the largest; an average counts no padding.
//!
//! A plane is put into a frame of padding, its columns by phases as in [`super::depthwise`], so that each of the nine taps of
//! neighbouring windows lies side by side. Results are made block by block in registers, and gradients are gathered, not
//! scattered: nothing is written before it is whole.

use super::lines::copy;
use super::simd::simd;
use rayon::prelude::*;
use std::ops::Range;

/// Extents of one plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool3 {
    /// Height and width.
    pub input: [usize; 2],
    /// 1 or 2.
    pub stride: usize,
    /// Average instead of maximum.
    pub average: bool,
}

/// Planes that one task handles at least.
const TASK: usize = 16;

/// Values that are computed together.
const BLOCK: usize = 16;

/// Columns left of the first of a framed gradient: what the last tap reaches back.
const BACK: usize = 2;

impl Pool3 {
    /// Height and width of the result.
    pub(crate) fn output(&self) -> [usize; 2] {
        self.input.map(|n| (n - 1) / self.stride + 1)
    }

    /// Columns of one phase of the framed plane, whole blocks and what the last tap reaches beyond them.
    fn phase(&self) -> usize {
        ((self.input[1] + 1) / self.stride + 1).next_multiple_of(BLOCK) + 2
    }

    /// From one row of the framed plane to the next.
    fn row(&self) -> usize {
        self.stride * self.phase()
    }

    /// Where the taps of the first window lie in the framed plane, row by row.
    fn taps(&self) -> [usize; 9] {
        std::array::from_fn(|t| {
            let (row, column) = (t / 3, t % 3);
            row * self.row() + column % self.stride * self.phase() + column / self.stride
        })
    }

    /// A frame without its plane.
    fn frame(&self) -> Vec<f32> {
        vec![if self.average { 0.0 } else { f32::NEG_INFINITY }; (self.input[0] + 2) * self.row()]
    }

    /// From one row of a framed result to the next: [`BACK`], then as many columns as a phase has.
    fn result_row(&self) -> usize {
        BACK + self.phase()
    }

    /// For each row of the input, phase by phase, the windows that its first pixel is in: where in a framed result they lie, and
    /// which tap of them the pixel is.
    fn windows(&self) -> Vec<Vec<(usize, f32)>> {
        let (s, [oh, _]) = (self.stride, self.output());
        let of = |y: usize, phase: usize| {
            let rows = (0..3).filter(move |r| y + 1 >= *r && (y + 1 - r).is_multiple_of(s) && (y + 1 - r) / s < oh);
            let first = first_column(phase);
            rows.flat_map(move |r| {
                let row = (y + 1 - r) / s * self.result_row() + BACK + first;
                (phase..3).step_by(s).map(move |c| (row - c / s, (3 * r + c) as f32))
            })
        };
        (0..self.input[0] * s).map(|i| of(i / s, i % s).collect()).collect()
    }

    /// From one row of shares to the next.
    fn shares_row(&self) -> usize {
        self.output()[1].next_multiple_of(BLOCK)
    }

    /// One over the taps inside the plane, for each output, each row filled up to whole blocks.
    fn shares(&self) -> Vec<f32> {
        let [rows, columns] = [0, 1].map(|axis| {
            let taps = |o: usize| (0..3).filter(|t| (1..=self.input[axis]).contains(&(o * self.stride + t))).count();
            (0..self.output()[axis]).map(taps).collect::<Vec<_>>()
        });
        let mut shares = vec![0.0; rows.len() * self.shares_row()];
        for (shares, r) in shares.chunks_exact_mut(self.shares_row()).zip(rows) {
            shares.iter_mut().zip(&columns).for_each(|(share, c)| *share = 1.0 / (r * c) as f32);
        }
        shares
    }
}

/// The first column of a phase that holds a pixel: phase 0 begins with the padding.
fn first_column(phase: usize) -> usize {
    usize::from(phase == 0)
}

simd! {
    /// Puts a plane into its frame, whose padding stays as it is.
    fn fill<'a>(g: Pool3, plane: &'a [f32], frame: &'a mut [f32]) {
        let [_, w] = g.input;
        for (row, framed) in plane.chunks_exact(w).zip(frame.chunks_exact_mut(g.row()).skip(1)) {
            if g.stride == 1 {
                copy(&mut framed[1..=w], row);
                continue;
            }
            // Pixels 0, 2, ... are of phase 1; 1, 3, ... of phase 0, behind the padding.
            let (odd, even) = framed.split_at_mut(g.phase());
            for ((even, odd), pair) in even.iter_mut().zip(&mut odd[1..]).zip(row.chunks_exact(2)) {
                (*even, *odd) = (pair[0], pair[1]);
            }
            if w % 2 == 1 {
                even[w / 2] = row[w - 1];
            }
        }
    }
}

simd! {
    /// Reads a row back from its phases.
    fn unfill<'a>(g: Pool3, framed: &'a [f32], row: &'a mut [f32]) {
        let w = row.len();
        if g.stride == 1 {
            copy(row, &framed[1..=w]);
            return;
        }
        let (odd, even) = framed.split_at(g.phase());
        for ((even, odd), pair) in even.iter().zip(&odd[1..]).zip(row.chunks_exact_mut(2)) {
            (pair[0], pair[1]) = (*even, *odd);
        }
        if w % 2 == 1 {
            row[w - 1] = even[w / 2];
        }
    }
}

simd! {
    fn averages<'a>(frame: &'a [f32], g: Pool3, shares: &'a [f32], y: &'a mut [f32]) {
        let ([_, ow], taps, step) = (g.output(), g.taps(), g.stride * g.row());
        for (oy, (row, shares)) in y.chunks_exact_mut(ow).zip(shares.chunks_exact(g.shares_row())).enumerate() {
            let frame = &frame[oy * step..];
            for (block, (out, shares)) in row.chunks_mut(BLOCK).zip(shares.chunks_exact(BLOCK)).enumerate() {
                let mut sum = [0f32; BLOCK];
                for tap in taps {
                    let x = &frame[tap + block * BLOCK..][..BLOCK];
                    for i in 0..BLOCK {
                        sum[i] += x[i];
                    }
                }
                for i in 0..BLOCK {
                    sum[i] *= shares[i];
                }
                out.copy_from_slice(&sum[..out.len()]);
            }
        }
    }
}

simd! {
    fn maxima<'a>(frame: &'a [f32], g: Pool3, y: &'a mut [f32]) {
        let (taps, step) = (g.taps(), g.stride * g.row());
        for (oy, row) in y.chunks_exact_mut(g.output()[1]).enumerate() {
            let frame = &frame[oy * step..];
            for (block, out) in row.chunks_mut(BLOCK).enumerate() {
                let mut most = [f32::NEG_INFINITY; BLOCK];
                for tap in taps {
                    let x = &frame[tap + block * BLOCK..][..BLOCK];
                    for i in 0..BLOCK {
                        most[i] = if x[i] > most[i] { x[i] } else { most[i] };
                    }
                }
                out.copy_from_slice(&most[..out.len()]);
            }
        }
    }
}

simd! {
    /// Which tap is the first of the largest, for each window, into a framed result.
    fn first_largest<'a>(frame: &'a [f32], g: Pool3, largest: &'a mut [f32]) {
        let ([oh, ow], taps, step) = (g.output(), g.taps(), g.stride * g.row());
        for (oy, row) in largest.chunks_exact_mut(g.result_row()).take(oh).enumerate() {
            let frame = &frame[oy * step..];
            for (block, out) in row[BACK..][..ow].chunks_mut(BLOCK).enumerate() {
                let (mut most, mut first) = ([f32::NEG_INFINITY; BLOCK], [0f32; BLOCK]);
                for (t, tap) in taps.into_iter().enumerate() {
                    let x = &frame[tap + block * BLOCK..][..BLOCK];
                    for i in 0..BLOCK {
                        let larger = x[i] > most[i];
                        most[i] = if larger { x[i] } else { most[i] };
                        first[i] = if larger { t as f32 } else { first[i] };
                    }
                }
                out.copy_from_slice(&first[..out.len()]);
            }
        }
    }
}

simd! {
    /// A row of the input's gradient, by phases: what the windows give that the pixel is in, or is the largest of. `windows` are
    /// those of the row, `dy` and `taps` are framed.
    fn gather<'a>(dy: &'a [f32], taps: &'a [f32], g: Pool3, windows: &'a [Vec<(usize, f32)>], row: &'a mut [f32]) {
        for (p, (phase, windows)) in row.chunks_exact_mut(g.phase()).zip(windows).enumerate() {
            // The columns of this phase that hold pixels.
            let (first, count) = (first_column(p), (g.input[1] + p) / g.stride);
            for (block, out) in phase[first..][..count].chunks_mut(BLOCK).enumerate() {
                let mut sum = [0f32; BLOCK];
                for &(from, t) in windows {
                    let dy = &dy[from + block * BLOCK..][..BLOCK];
                    if g.average {
                        for i in 0..BLOCK {
                            sum[i] += dy[i];
                        }
                        continue;
                    }
                    let taps = &taps[from + block * BLOCK..][..BLOCK];
                    for i in 0..BLOCK {
                        // With `if` this becomes one branch a pixel.
                        let all_bits = u32::from(taps[i] == t).wrapping_neg();
                        sum[i] += f32::from_bits(dy[i].to_bits() & all_bits);
                    }
                }
                out.copy_from_slice(&sum[..out.len()]);
            }
        }
    }
}

/// `y` of planes of `g.input`.
pub(crate) fn forward(x: &[f32], g: Pool3) -> Vec<f32> {
    let [[h, w], [oh, ow]] = [g.input, g.output()];
    let shares = g.shares();
    let mut y = vec![0.0; x.len() / (h * w) * oh * ow];
    y.par_chunks_mut(oh * ow).zip(x.par_chunks(h * w)).with_min_len(TASK).for_each_init(
        || g.frame(),
        |frame, (y, x)| {
            fill(g, x, frame);
            if g.average {
                averages(frame, g, &shares, y);
            } else {
                maxima(frame, g, y);
            }
        },
    );
    y
}

/// `dx` from the same `x`.
pub(crate) fn backward(x: &[f32], dy: &[f32], g: Pool3) -> Vec<f32> {
    let [[h, w], [oh, ow]] = [g.input, g.output()];
    let (shares, windows) = (g.shares(), g.windows());
    let mut dx = vec![0.0; x.len()];
    let result = || vec![0f32; oh * g.result_row()];
    let columns: Range<usize> = BACK..BACK + ow;
    dx.par_chunks_mut(h * w).zip(x.par_chunks(h * w)).zip(dy.par_chunks(oh * ow)).with_min_len(TASK).for_each_init(
        || (g.frame(), result(), result(), vec![0f32; g.row()]),
        |(frame, taps, given, row), ((dx, x), dy)| {
            for (oy, (given, dy)) in given.chunks_exact_mut(g.result_row()).zip(dy.chunks_exact(ow)).enumerate() {
                let given = &mut given[columns.clone()];
                if g.average {
                    let shares = &shares[oy * g.shares_row()..];
                    given.iter_mut().zip(dy).zip(shares).for_each(|((g, d), share)| *g = d * share);
                } else {
                    copy(given, dy);
                }
            }
            if !g.average {
                fill(g, x, frame);
                first_largest(frame, g, taps);
            }
            for (dx, windows) in dx.chunks_exact_mut(w).zip(windows.chunks_exact(g.stride)) {
                gather(given, taps, g, windows, row);
                unfill(g, row, dx);
            }
        },
    );
    dx
}
