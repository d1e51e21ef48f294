//! Depthwise convolution and its gradients, plane by plane, without unfolding. Enters: activations `N C H W`, weights
//! `K 1 R S`, where output channel `k` reads input channel `k / (K / C)`. Leaves: `N K OH OW`, or a gradient. Shapes are
//! the caller's to check.
//!
//! A padded plane is stored by column phases (columns 0, s, 2s, ..., then 1, s + 1, ... for stride s), so that every tap
//! reads neighbours whatever the stride. Sums over images run in order, so threads do not matter.

use super::conv::Geometry;
use super::simd::simd;
use exporter::network::Window;
use rayon::prelude::*;

/// Outputs of a row that are computed together.
const BLOCK: usize = 16;

/// Where things lie in a padded, phased plane.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Layout {
    /// Columns of one phase, with slack for a last incomplete block.
    columns: usize,
    /// Columns of all phases: from one row to the next.
    row: usize,
    rows: usize,
}

impl Layout {
    fn new(g: &Geometry) -> Self {
        let Window { kernel: [r, s], stride: [sy, sx], dilation: [dy, dx], .. } = g.window;
        let columns = g.output[1].next_multiple_of(BLOCK) + (s - 1) * dx / sx;
        Self { columns, row: columns * sx, rows: (g.output[0] - 1) * sy + (r - 1) * dy + 1 }
    }

    /// Start of the phased row that tap `(r, s)` of output row `oy` reads.
    fn tap(&self, g: &Geometry, oy: usize, r: usize, s: usize) -> usize {
        let Window { stride: [sy, sx], dilation: [dy, dx], .. } = g.window;
        (oy * sy + r * dy) * self.row + (s * dx % sx) * self.columns + s * dx / sx
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

    /// Reads a plane back from where [`Self::fill`] puts it.
    fn unfill(&self, g: &Geometry, phased: &[f32], plane: &mut [f32]) {
        if g.window.stride[1] == 1 {
            let ([h, w], [top, left, ..]) = (g.input, g.window.padding);
            let width = w.min(self.columns.saturating_sub(left));
            for y in 0..h.min(self.rows.saturating_sub(top)) {
                plane[y * w..][..width].copy_from_slice(&phased[(y + top) * self.row + left..][..width]);
            }
        } else {
            self.each_pixel(g, |from, to| plane[to] = phased[from]);
        }
    }

    fn fill(&self, g: &Geometry, plane: &[f32], phased: &mut Vec<f32>) {
        phased.clear();
        phased.resize(self.rows * self.row, 0.0);
        if g.window.stride[1] == 1 {
            let ([h, w], [top, left, ..]) = (g.input, g.window.padding);
            let width = w.min(self.columns.saturating_sub(left));
            for y in 0..h.min(self.rows.saturating_sub(top)) {
                phased[(y + top) * self.row + left..][..width].copy_from_slice(&plane[y * w..][..width]);
            }
        } else {
            self.each_pixel(g, |to, from| phased[to] = plane[from]);
        }
    }
}

simd! {
    fn forward_plane<'a>(phased: &'a [f32], layout: Layout, weight: &'a [f32], g: &'a Geometry, y: &'a mut [f32]) {
        let [kr, ks] = g.window.kernel;
        for (oy, row) in y.chunks_exact_mut(g.output[1]).enumerate() {
            for (block, out) in row.chunks_mut(BLOCK).enumerate() {
                let mut sum = [0f32; BLOCK];
                for r in 0..kr {
                    for s in 0..ks {
                        let weight = weight[r * ks + s];
                        let x = &phased[layout.tap(g, oy, r, s) + block * BLOCK..][..BLOCK];
                        for i in 0..BLOCK {
                            sum[i] = x[i].mul_add(weight, sum[i]);
                        }
                    }
                }
                out.copy_from_slice(&sum[..out.len()]);
            }
        }
    }
}

simd! {
    /// Adds one plane's part of the weight gradient, lane by lane.
    fn weight_plane<'a>(
        phased: &'a [f32],
        layout: Layout,
        dy: &'a [f32],
        g: &'a Geometry,
        sums: &'a mut [[f32; BLOCK]],
    ) {
        let [kr, ks] = g.window.kernel;
        for (oy, row) in dy.chunks_exact(g.output[1]).enumerate() {
            for (block, part) in row.chunks(BLOCK).enumerate() {
                let mut dy = [0f32; BLOCK];
                dy[..part.len()].copy_from_slice(part);
                for r in 0..kr {
                    for s in 0..ks {
                        let sum = &mut sums[r * ks + s];
                        let x = &phased[layout.tap(g, oy, r, s) + block * BLOCK..][..BLOCK];
                        for i in 0..BLOCK {
                            sum[i] = x[i].mul_add(dy[i], sum[i]);
                        }
                    }
                }
            }
        }
    }
}

simd! {
    /// Adds what every tap read back to where it came from.
    fn scatter_plane<'a>(dy: &'a [f32], layout: Layout, weight: &'a [f32], g: &'a Geometry, phased: &'a mut [f32]) {
        let [kr, ks] = g.window.kernel;
        for (oy, dy) in dy.chunks_exact(g.output[1]).enumerate() {
            for r in 0..kr {
                for s in 0..ks {
                    let weight = weight[r * ks + s];
                    for (x, dy) in phased[layout.tap(g, oy, r, s)..].iter_mut().zip(dy) {
                        *x = dy.mul_add(weight, *x);
                    }
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
        Vec::new,
        |phased, (plane, y)| {
            let x = &x[plane / multiplier * pixels(g.input)..][..pixels(g.input)];
            layout.fill(g, x, phased);
            forward_plane(phased, layout, &weight[plane % g.k * taps..][..taps], g, y);
        },
    );
    y
}

/// Gradient of the input.
pub(crate) fn input_gradient(weight: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (layout, taps, multiplier) = (Layout::new(g), pixels(g.window.kernel), g.k / g.c);
    let mut dx = vec![0.0; g.n * g.c * pixels(g.input)];
    dx.par_chunks_exact_mut(pixels(g.input)).enumerate().with_min_len(4).for_each_init(
        Vec::new,
        |phased, (plane, dx)| {
            phased.clear();
            phased.resize(layout.rows * layout.row, 0.0);
            for output in plane * multiplier..(plane + 1) * multiplier {
                let dy = &dy[output * pixels(g.output)..][..pixels(g.output)];
                scatter_plane(dy, layout, &weight[output % g.k * taps..][..taps], g, phased);
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
    dw.par_chunks_exact_mut(taps).enumerate().for_each_init(Vec::new, |phased, (k, dw)| {
        let mut total = vec![0f64; taps];
        for image in 0..g.n {
            let mut sums = vec![[0f32; BLOCK]; taps];
            let x = &x[(image * g.c + k / multiplier) * pixels(g.input)..][..pixels(g.input)];
            layout.fill(g, x, phased);
            weight_plane(phased, layout, &dy[(image * g.k + k) * pixels(g.output)..][..pixels(g.output)], g, &mut sums);
            for (total, lanes) in total.iter_mut().zip(&sums) {
                *total += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
            }
        }
        for (dw, total) in dw.iter_mut().zip(total) {
            *dw = total as f32;
        }
    });
    dw
}
