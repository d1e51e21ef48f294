//! Depthwise convolution and its gradients, plane by plane, without unfolding. Enters: activations `N C H W`, weights
//! `K 1 R S`, where output channel `k` reads input channel `k / (K / C)`. Leaves: `N K OH OW`, or a gradient. Shapes are
//! the caller's to check.
//!
//! A padded plane is stored by column phases (columns 0, s, 2s, ..., then 1, s + 1, ... for stride s), so that every tap
//! reads neighbours whatever the stride. Sums over images run in order, so threads do not matter.

use super::conv::Geometry;
use super::lines::copy;
use super::simd::simd;
use exporter::network::Window;
use rayon::prelude::*;

/// Outputs of a row that are computed together.
const BLOCK: usize = 16;

/// Blocks that are computed together, so that none waits for its own last sum.
const SIDE: usize = 4;

/// Where things lie in a padded, phased plane.
#[derive(Clone, Debug)]
struct Layout {
    /// Columns of one phase, with slack for a last incomplete block.
    columns: usize,
    /// Columns of all phases: from one row to the next.
    row: usize,
    rows: usize,
    /// Where each tap of the first output reads, row by row.
    taps: Vec<usize>,
}

impl Layout {
    fn new(g: &Geometry) -> Self {
        let Window { kernel: [r, s], stride: [sy, sx], dilation: [dy, dx], .. } = g.window;
        let columns = g.output[1].next_multiple_of(BLOCK) + (s - 1) * dx / sx;
        let row = columns * sx;
        let tap = |i: usize| i / s * dy * row + (i % s * dx % sx) * columns + i % s * dx / sx;
        let taps = (0..r * s).map(tap).collect();
        Self { columns, row, rows: (g.output[0] - 1) * sy + (r - 1) * dy + 1, taps }
    }

    /// From one output row's taps to the next one's.
    fn step(&self, g: &Geometry) -> usize {
        g.window.stride[0] * self.row
    }

    /// Calls `f(index in the phased plane, index in the plane)` for all pixels that a tap can reach.
    fn each_pixel(&self, g: &Geometry, mut f: impl FnMut(usize, usize)) {
        let ([h, w], sx) = (g.input, g.window.stride[1]);
        let [top, left, ..] = g.window.padding;
        for y in 0..h.min(self.rows.saturating_sub(top)) {
            for x in 0..w {
                let column = (x + left) / sx;
                if column < self.columns {
                    f((y + top) * self.row + (x + left) % sx * self.columns + column, y * w + x);
                }
            }
        }
    }

    fn buffer(&self) -> Vec<f32> {
        vec![0.0; self.rows * self.row]
    }

    /// Reads a plane back from where [`Self::fill`] puts it.
    fn unfill(&self, g: &Geometry, phased: &[f32], plane: &mut [f32]) {
        if g.window.stride[1] == 1 {
            let ([h, w], [top, left, ..]) = (g.input, g.window.padding);
            let width = w.min(self.columns.saturating_sub(left));
            for y in 0..h.min(self.rows.saturating_sub(top)) {
                copy(&mut plane[y * w..][..width], &phased[(y + top) * self.row + left..][..width]);
            }
        } else {
            self.each_pixel(g, |from, to| plane[to] = phased[from]);
        }
    }

    /// Puts a plane where the taps find it; what lies around it is 0 in a new buffer and stays so.
    fn fill(&self, g: &Geometry, plane: &[f32], phased: &mut [f32]) {
        if g.window.stride[1] == 1 {
            let ([h, w], [top, left, ..]) = (g.input, g.window.padding);
            let width = w.min(self.columns.saturating_sub(left));
            for y in 0..h.min(self.rows.saturating_sub(top)) {
                copy(&mut phased[(y + top) * self.row + left..][..width], &plane[y * w..][..width]);
            }
        } else {
            self.each_pixel(g, |to, from| phased[to] = plane[from]);
        }
    }
}

simd! {
    fn forward_plane<'a>(phased: &'a [f32], layout: &'a Layout, weight: &'a [f32], g: &'a Geometry, y: &'a mut [f32]) {
        let ([oh, ow], step) = (g.output, layout.step(g));
        for oy in (0..oh).step_by(SIDE) {
            for block in (0..ow).step_by(BLOCK) {
                // Below the last row the last one again.
                let from: [usize; SIDE] = std::array::from_fn(|i| (oy + i).min(oh - 1) * step + block);
                let mut sums = [[0f32; BLOCK]; SIDE];
                for (weight, tap) in weight.iter().zip(&layout.taps) {
                    for (sum, from) in sums.iter_mut().zip(from) {
                        let x = &phased[from + tap..][..BLOCK];
                        for i in 0..BLOCK {
                            sum[i] = x[i].mul_add(*weight, sum[i]);
                        }
                    }
                }
                for (row, sum) in y[oy * ow..].chunks_exact_mut(ow).zip(&sums) {
                    let out = &mut row[block..ow.min(block + BLOCK)];
                    out.copy_from_slice(&sum[..out.len()]);
                }
            }
        }
    }
}

simd! {
    /// Adds one plane's part of the weight gradient. The rows of `dy` are filled up with 0 to whole blocks.
    fn weight_plane<'a>(phased: &'a [f32], layout: &'a Layout, dy: &'a [f32], g: &'a Geometry, totals: &'a mut [f64]) {
        let (wide, step) = (g.output[1].next_multiple_of(BLOCK), layout.step(g));
        for (taps, totals) in layout.taps.chunks(SIDE).zip(totals.chunks_mut(SIDE)) {
            // Of an incomplete handful the first tap again.
            let taps: [usize; SIDE] = std::array::from_fn(|i| *taps.get(i).unwrap_or(&taps[0]));
            let mut sums = [[0f32; BLOCK]; SIDE];
            for (oy, row) in dy.chunks_exact(wide).enumerate() {
                for (block, dy) in row.chunks_exact(BLOCK).enumerate() {
                    for (sum, tap) in sums.iter_mut().zip(taps) {
                        let x = &phased[oy * step + tap + block * BLOCK..][..BLOCK];
                        for i in 0..BLOCK {
                            sum[i] = x[i].mul_add(dy[i], sum[i]);
                        }
                    }
                }
            }
            for (total, lanes) in totals.iter_mut().zip(&sums) {
                *total += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
            }
        }
    }
}

simd! {
    /// Adds what every tap read back to where it came from.
    fn scatter_plane<'a>(dy: &'a [f32], layout: &'a Layout, weight: &'a [f32], g: &'a Geometry, phased: &'a mut [f32]) {
        for (oy, dy) in dy.chunks_exact(g.output[1]).enumerate() {
            for (weight, tap) in weight.iter().zip(&layout.taps) {
                for (x, dy) in phased[oy * layout.step(g) + tap..].iter_mut().zip(dy) {
                    *x = dy.mul_add(*weight, *x);
                }
            }
        }
    }
}

fn pixels([h, w]: [usize; 2]) -> usize {
    h * w
}

/// `y` of `x`.
pub(crate) fn forward(x: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    let (layout, taps, multiplier) = (Layout::new(g), pixels(g.window.kernel), g.k / g.c);
    let mut y = vec![0.0; g.n * g.k * pixels(g.output)];
    y.par_chunks_exact_mut(pixels(g.output)).enumerate().with_min_len(4).for_each_init(
        || layout.buffer(),
        |phased, (plane, y)| {
            let x = &x[plane / multiplier * pixels(g.input)..][..pixels(g.input)];
            layout.fill(g, x, phased);
            forward_plane(phased, &layout, &weight[plane % g.k * taps..][..taps], g, y);
        },
    );
    y
}

/// Gradient of the input.
pub(crate) fn input_gradient(weight: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    if let (Some(turned), true) = (g.turned(), g.k == g.c) {
        // The convolution of dy with the kernels turned around.
        let taps = pixels(g.window.kernel);
        let weight: Vec<f32> = weight.chunks_exact(taps).flat_map(|kernel| kernel.iter().rev().copied()).collect();
        return forward(dy, &weight, &turned);
    }
    let (layout, taps, multiplier) = (Layout::new(g), pixels(g.window.kernel), g.k / g.c);
    let mut dx = vec![0.0; g.n * g.c * pixels(g.input)];
    dx.par_chunks_exact_mut(pixels(g.input)).enumerate().with_min_len(4).for_each_init(
        || layout.buffer(),
        |phased, (plane, dx)| {
            phased.fill(0.0);
            for output in plane * multiplier..(plane + 1) * multiplier {
                let dy = &dy[output * pixels(g.output)..][..pixels(g.output)];
                scatter_plane(dy, &layout, &weight[output % g.k * taps..][..taps], g, phased);
            }
            layout.unfill(g, phased, dx);
        },
    );
    dx
}

/// Gradient of the weights.
pub(crate) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (layout, taps, multiplier) = (Layout::new(g), pixels(g.window.kernel), g.k / g.c);
    let mut dw = vec![0.0; g.k * taps];
    let wide = g.output[1].next_multiple_of(BLOCK);
    let buffers = || (layout.buffer(), vec![0.0; g.output[0] * wide]);
    dw.par_chunks_exact_mut(taps).enumerate().for_each_init(buffers, |(phased, padded), (k, dw)| {
        let mut totals = vec![0f64; taps];
        for image in 0..g.n {
            let x = &x[(image * g.c + k / multiplier) * pixels(g.input)..][..pixels(g.input)];
            layout.fill(g, x, phased);
            let dy = &dy[(image * g.k + k) * pixels(g.output)..][..pixels(g.output)];
            for (padded, row) in padded.chunks_exact_mut(wide).zip(dy.chunks_exact(g.output[1])) {
                copy(&mut padded[..row.len()], row);
            }
            weight_plane(phased, &layout, padded, g, &mut totals);
        }
        for (dw, total) in dw.iter_mut().zip(totals) {
            *dw = total as f32;
        }
    });
    dw
}
