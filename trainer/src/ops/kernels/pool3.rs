//! Pooling over windows of 3 x 3 with padding 1, as the cells of the design spaces do. Enters: planes. Leaves: planes, or the
//! gradient. A maximum's gradient goes to the first of the largest; an average counts no padding.
//!
//! A plane is put into a frame of padding, so that each of the nine taps is a slice to go along.

use super::simd::simd;
use rayon::prelude::*;

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

impl Pool3 {
    /// Height and width of the result.
    pub(crate) fn output(&self) -> [usize; 2] {
        self.input.map(|n| (n - 1) / self.stride + 1)
    }

    fn frame(&self) -> usize {
        (self.input[0] + 2) * (self.input[1] + 2)
    }

    /// One over the taps inside the plane, for each output.
    fn shares(&self) -> Vec<f32> {
        let [rows, columns] = [0, 1].map(|axis| {
            let taps = |o: usize| (0..3).filter(|t| (1..=self.input[axis]).contains(&(o * self.stride + t))).count();
            (0..self.output()[axis]).map(taps).collect::<Vec<_>>()
        });
        rows.iter().flat_map(|r| columns.iter().map(move |c| 1.0 / (r * c) as f32)).collect()
    }

    fn fill(&self, plane: &[f32], frame: &mut Vec<f32>) {
        let [_, w] = self.input;
        frame.clear();
        frame.resize(self.frame(), if self.average { 0.0 } else { f32::NEG_INFINITY });
        for (row, framed) in plane.chunks_exact(w).zip(frame[w + 2..].chunks_exact_mut(w + 2)) {
            framed[1..=w].copy_from_slice(row);
        }
    }
}

simd! {
    fn sums<'a>(frame: &'a [f32], g: Pool3, y: &'a mut [f32]) {
        let (wide, [_, ow]) = (g.input[1] + 2, g.output());
        for (oy, row) in y.chunks_exact_mut(ow).enumerate() {
            row.fill(0.0);
            for t in 0..9 {
                let source = &frame[(oy * g.stride + t / 3) * wide + t % 3..];
                if g.stride == 1 {
                    for (y, v) in row.iter_mut().zip(source) {
                        *y += v;
                    }
                } else {
                    for (y, v) in row.iter_mut().zip(source.iter().step_by(g.stride)) {
                        *y += v;
                    }
                }
            }
        }
    }
}

simd! {
    /// The maximum of each window, and which tap it is.
    fn maxima<'a>(frame: &'a [f32], g: Pool3, y: &'a mut [f32], tap: &'a mut [f32]) {
        let (wide, [_, ow]) = (g.input[1] + 2, g.output());
        for ((oy, row), tap) in y.chunks_exact_mut(ow).enumerate().zip(tap.chunks_exact_mut(ow)) {
            row.fill(f32::NEG_INFINITY);
            for t in 0..9 {
                let source = &frame[(oy * g.stride + t / 3) * wide + t % 3..];
                let see = |y: &mut f32, tap: &mut f32, v: f32| {
                    let larger = v > *y;
                    *y = if larger { v } else { *y };
                    *tap = if larger { t as f32 } else { *tap };
                };
                if g.stride == 1 {
                    for ((y, tap), v) in row.iter_mut().zip(tap.iter_mut()).zip(source) {
                        see(y, tap, *v);
                    }
                } else {
                    for ((y, tap), v) in row.iter_mut().zip(tap.iter_mut()).zip(source.iter().step_by(g.stride)) {
                        see(y, tap, *v);
                    }
                }
            }
        }
    }
}

simd! {
    /// Adds `dy` to the taps: to all of them, or to the one given.
    fn scatter<'a>(dy: &'a [f32], tap: &'a [f32], g: Pool3, frame: &'a mut [f32]) {
        let (wide, [_, ow]) = (g.input[1] + 2, g.output());
        for ((oy, dy), tap) in dy.chunks_exact(ow).enumerate().zip(tap.chunks_exact(ow)) {
            for t in 0..9 {
                let target = &mut frame[(oy * g.stride + t / 3) * wide + t % 3..];
                let add = |x: &mut f32, dy: f32, tap: f32| {
                    *x += if g.average | (tap == t as f32) { dy } else { 0.0 };
                };
                if g.stride == 1 {
                    for ((x, dy), tap) in target.iter_mut().zip(dy).zip(tap) {
                        add(x, *dy, *tap);
                    }
                } else {
                    for ((x, dy), tap) in target.iter_mut().step_by(g.stride).zip(dy).zip(tap) {
                        add(x, *dy, *tap);
                    }
                }
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
        || (Vec::new(), vec![0.0; oh * ow]),
        |(frame, tap), (y, x)| {
            g.fill(x, frame);
            if g.average {
                sums(frame, g, y);
                y.iter_mut().zip(&shares).for_each(|(y, share)| *y *= share);
            } else {
                maxima(frame, g, y, tap);
            }
        },
    );
    y
}

/// `dx` from the same `x`.
pub(crate) fn backward(x: &[f32], dy: &[f32], g: Pool3) -> Vec<f32> {
    let [[h, w], [oh, ow]] = [g.input, g.output()];
    let shares = g.shares();
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(h * w).zip(x.par_chunks(h * w)).zip(dy.par_chunks(oh * ow)).with_min_len(TASK).for_each_init(
        || (Vec::new(), vec![0.0; oh * ow], vec![0.0; oh * ow]),
        |(frame, tap, given), ((dx, x), dy)| {
            given.copy_from_slice(dy);
            if g.average {
                given.iter_mut().zip(&shares).for_each(|(d, share)| *d *= share);
            } else {
                g.fill(x, frame);
                // Only the taps of the maxima are needed; `dx`, not written yet, has room for the maxima themselves.
                maxima(frame, g, &mut dx[..oh * ow], tap);
            }
            frame.clear();
            frame.resize(g.frame(), 0.0);
            scatter(given, tap, g, frame);
            for (dx, framed) in dx.chunks_exact_mut(w).zip(frame[w + 2..].chunks_exact(w + 2)) {
                dx.copy_from_slice(&framed[1..=w]);
            }
        },
    );
    dx
}
