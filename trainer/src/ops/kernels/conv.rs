//! Convolution and its two gradients, one group. Enters: activations `N C H W`, weights `K C R S`. Leaves: `N K OH OW`, or the
//! gradient of either operand. Shapes are the caller's to check.
//!
//! Images become lines ([`super::lines`]), or are their own if the kernel has one tap, and lines are multiplied in registers
//! ([`super::shifted`]). Only the input's gradient of a strided convolution is a matrix product that is folded back (col2im).
//! Work is cut by image, never by thread, and the weight gradient is summed in a fixed order, so that every result is
//! the same on any number of threads.

use super::gemm::{Matrix, gemm};
use super::lines::{BLOCK, Layout, copy};
use super::shifted::{Packed, Pairs, dots, sums};
use exporter::network::Window;
use rayon::prelude::*;

/// Positions that one group of images should have for sums of lines, and for products of lines.
const SUMS: usize = 256;
const DOTS: usize = 512;
/// Partial sums of the weight gradient.
const PARTS: usize = 8;

/// Extents of one convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output channels.
    pub k: usize,
    /// Output height and width.
    pub output: [usize; 2],
    /// Kernel, stride, padding, dilation.
    pub window: Window,
}

impl Geometry {
    fn columns(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Length of one unfolded column.
    fn depth(&self) -> usize {
        self.c * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Whether the images are lines as they are.
    fn is_lines(&self) -> bool {
        self.window == Window::square(1, 1, 0) && self.columns().is_multiple_of(BLOCK)
    }

    /// Of the convolution that makes the input's gradient from the output's, where one does.
    pub(super) fn turned(&self) -> Option<Self> {
        let Window { kernel: [kr, ks], stride, padding: [top, left, ..], dilation: [dy, dx] } = self.window;
        let (y, x) = ((dy * (kr - 1)).checked_sub(top)?, (dx * (ks - 1)).checked_sub(left)?);
        let window = Window { padding: [y, x, 0, 0], ..self.window };
        let turned = Self { c: self.k, input: self.output, k: self.c, output: self.input, window, ..*self };
        (stride == [1, 1]).then_some(turned)
    }

    /// Lines of as many images as have `positions`, and how many images that are.
    fn group(&self, positions: usize) -> (Layout, usize) {
        let images = (positions / Layout::new(self, 1).plane).clamp(1, self.n.div_ceil(2));
        (Layout::new(self, images), images)
    }
}

/// Adds what every tap of every output reads, `C R S` lines, to where it came from.
fn fold(unfolded: &[f32], g: &Geometry, x: &mut [f32]) {
    let ([h, w], [_, ow]) = (g.input, g.output);
    let Window { kernel: [kr, ks], stride: [sy, sx], padding: [top, left, ..], dilation: [dy, dx] } = g.window;
    let mut lines = unfolded.chunks_exact(g.columns());
    for plane in x.chunks_exact_mut(h * w) {
        for r in 0..kr {
            for s in 0..ks {
                let line = lines.next().expect("one line for each tap");
                let first = left.saturating_sub(s * dx).div_ceil(sx).min(ow);
                let last = (w + left).saturating_sub(s * dx).div_ceil(sx).clamp(first, ow);
                if first == last {
                    continue;
                }
                for (source, oy) in line.chunks_exact(ow).zip(0..) {
                    let iy = (oy * sy + r * dy).wrapping_sub(top);
                    if iy >= h {
                        continue;
                    }
                    let out = &mut plane[iy * w..][..w][first * sx + s * dx - left..];
                    for (o, v) in out.iter_mut().step_by(sx).zip(&source[first..last]) {
                        *o += *v;
                    }
                }
            }
        }
    }
}

/// `y = w * x`.
pub(crate) fn forward(x: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    let columns = g.columns();
    let weight = Packed::new(weight, g.depth());
    let mut y = vec![0.0; g.n * g.k * columns];
    if g.is_lines() {
        let reads: Vec<usize> = (0..g.c).map(|c| c * columns).collect();
        y.par_chunks_mut(g.k * columns)
            .zip(x.par_chunks(g.c * columns))
            .for_each(|(y, x)| sums(x, &reads, &weight, y, columns, columns));
        return y;
    }
    let (layout, images) = g.group(SUMS);
    let reads = layout.reads(g.c);
    let stride = layout.positions(images);
    y.par_chunks_mut(images * g.k * columns).zip(x.par_chunks(images * g.c * g.pixels())).for_each_init(
        || (vec![0.0; g.c * layout.channel()], vec![0.0; g.k * stride]),
        |(lines, product), (y, x)| {
            for (image, x) in x.chunks_exact(g.c * g.pixels()).enumerate() {
                layout.fill(image, x, lines);
            }
            sums(lines, &reads, &weight, product, stride, layout.positions(y.len() / (g.k * columns)));
            for (i, y) in y.chunks_exact_mut(columns).enumerate() {
                let product = &product[i % g.k * stride + i / g.k * layout.plane..];
                for (y, product) in y.chunks_exact_mut(g.output[1]).zip(product.chunks(layout.row)) {
                    copy(y, &product[..y.len()]);
                }
            }
        },
    );
    y
}

/// Gradient of the input.
pub(crate) fn input_gradient(weight: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    if let Some(turned_g) = g.turned() {
        // The convolution of dy with the kernel turned around and its channels exchanged.
        let taps = g.window.kernel[0] * g.window.kernel[1];
        let mut turned = vec![0.0; weight.len()];
        for (i, taps_in) in weight.chunks_exact(taps).enumerate() {
            let (k, c) = (i / g.c, i % g.c);
            for (out, v) in turned[(c * g.k + k) * taps..][..taps].iter_mut().zip(taps_in.iter().rev()) {
                *out = *v;
            }
        }
        return forward(dy, &turned, &turned_g);
    }
    let (columns, depth) = (g.columns(), g.depth());
    let mut dx = vec![0.0; g.n * g.c * g.pixels()];
    let transposed = Matrix { data: weight, row: 1, column: depth };
    dx.par_chunks_mut(g.c * g.pixels()).zip(dy.par_chunks(g.k * columns)).for_each_init(
        || vec![0.0; depth * columns],
        |unfolded, (dx, dy)| {
            let dy = Matrix { data: dy, row: columns, column: 1 };
            gemm([depth, columns, g.k], unfolded, columns, false, transposed, dy);
            fold(unfolded, g, dx);
        },
    );
    dx
}

/// Gradient of the weights.
pub(crate) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (columns, per_x, per_dy) = (g.columns(), g.c * g.pixels(), g.k * g.columns());
    let (layout, images) = g.group(DOTS);
    let blocks = g.n.div_ceil(images);
    let parts = PARTS.min(blocks);
    let reads = if g.is_lines() { (0..g.c).map(|c| c * columns).collect() } else { layout.reads(g.c) };
    let stride = layout.positions(images);
    let partial: Vec<Vec<f32>> = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut dw = vec![0.0; g.k * g.depth()];
            let copies = usize::from(!g.is_lines());
            let (mut lines, mut rows) = (vec![0.0; copies * g.c * layout.channel()], vec![0.0; copies * g.k * stride]);
            for block in part * blocks / parts..(part + 1) * blocks / parts {
                let range = block * images..((block + 1) * images).min(g.n);
                let x = &x[range.start * per_x..range.end * per_x];
                let dy = &dy[range.start * per_dy..range.end * per_dy];
                if g.is_lines() {
                    let apart = [per_x, per_dy];
                    let (images, positions) = (range.len(), columns);
                    dots(Pairs { lines: x, dy, stride: columns, images, apart, positions }, &reads, &mut dw);
                    continue;
                }
                for (image, x) in x.chunks_exact(per_x).enumerate() {
                    layout.fill(image, x, &mut lines);
                }
                if range.len() < images {
                    rows.fill(0.0);
                }
                for (i, dy) in dy.chunks_exact(columns).enumerate() {
                    let rows = &mut rows[i % g.k * stride + i / g.k * layout.plane..];
                    for (row, dy) in rows.chunks_mut(layout.row).zip(dy.chunks_exact(g.output[1])) {
                        copy(&mut row[..dy.len()], dy);
                    }
                }
                let positions = layout.positions(range.len());
                let pairs = Pairs { lines: &lines, dy: &rows, stride, images: 1, apart: [0; 2], positions };
                dots(pairs, &reads, &mut dw);
            }
            dw
        })
        .collect();
    super::sum(partial)
}
