//! Convolution and its two gradients as matrix products over unfolded images (im2col). Enters: activations `N C H W`,
//! weights `K C R S`, one group. Leaves: `N K OH OW`, or the gradient of either operand. Shapes are the caller's to check.
//!
//! Work is cut by image, never by thread, and the weight gradient is summed in a fixed order, so that every result is
//! the same on any number of threads.

use super::gemm::{Matrix, gemm};
use exporter::network::Window;
use rayon::prelude::*;
use std::cell::RefCell;

/// Columns that one product should have at least, to be worth packing the weights for.
const COLUMNS: usize = 256;
/// Partial sums of the weight gradient.
const PARTS: usize = 8;

thread_local! {
    /// Two buffers of each thread, so that images do not each allocate and clear their own.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Lends buffers of these lengths, with whatever is in them.
fn with_scratch<R>(lengths: [usize; 2], f: impl FnOnce(&mut [f32], &mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|[a, b]| {
        for (buffer, length) in [&mut *a, &mut *b].into_iter().zip(lengths) {
            if buffer.len() < length {
                buffer.resize(length, 0.0);
            }
        }
        f(&mut a[..lengths[0]], &mut b[..lengths[1]])
    })
}

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

    /// Whether the image is its own unfolding.
    fn is_pointwise(&self) -> bool {
        self.window == Window::square(1, 1, 0)
    }

    /// Of the convolution that makes the input's gradient from the output's, where one does.
    pub(super) fn turned(&self) -> Option<Self> {
        let Window { kernel: [kr, ks], stride, padding: [top, left, ..], dilation: [dy, dx] } = self.window;
        let (y, x) = ((dy * (kr - 1)).checked_sub(top)?, (dx * (ks - 1)).checked_sub(left)?);
        let window = Window { padding: [y, x, 0, 0], ..self.window };
        let turned = Self { c: self.k, input: self.output, k: self.c, output: self.input, window, ..*self };
        (stride == [1, 1]).then_some(turned)
    }

    /// Images of one block and rows of one block: several small images, or a part of a large one.
    fn block(&self) -> (usize, usize) {
        let columns = self.columns();
        if columns >= COLUMNS {
            (1, (2 * COLUMNS).div_ceil(self.output[1]).min(self.output[0]))
        } else {
            (COLUMNS.div_ceil(columns).min(self.n.div_ceil(2)).max(1), self.output[0])
        }
    }
}

/// Unfolds output rows `rows` of one image: row `(c, r, s)` of `unfolded`, `stride` elements apart.
fn unfold(x: &[f32], g: &Geometry, rows: std::ops::Range<usize>, unfolded: &mut [f32], stride: usize) {
    let ([h, w], [_, ow]) = (g.input, g.output);
    let Window { kernel: [kr, ks], stride: [sy, sx], padding: [top, left, ..], dilation: [dy, dx] } = g.window;
    let mut line = 0;
    for plane in x[..g.c * h * w].chunks_exact(h * w) {
        for r in 0..kr {
            for s in 0..ks {
                let out = &mut unfolded[line * stride..][..rows.len() * ow];
                line += 1;
                // Outputs whose tap lies inside the image, in a row.
                let first = left.saturating_sub(s * dx).div_ceil(sx).min(ow);
                let last = (w + left).saturating_sub(s * dx).div_ceil(sx).clamp(first, ow);
                if [sy, sx] == [1, 1] && ow == w && first < last {
                    shift(plane, [h, w], rows.clone(), [r * dy, s * dx], [top, left], out);
                    for out in out.chunks_exact_mut(ow) {
                        out[..first].fill(0.0);
                        out[last..].fill(0.0);
                    }
                    continue;
                }
                for (out, oy) in out.chunks_exact_mut(ow).zip(rows.clone()) {
                    let iy = (oy * sy + r * dy).wrapping_sub(top);
                    if iy >= h || first == last {
                        out.fill(0.0);
                        continue;
                    }
                    let source = &plane[iy * w..][..w][first * sx + s * dx - left..];
                    out[..first].fill(0.0);
                    if sx == 1 {
                        out[first..last].copy_from_slice(&source[..last - first]);
                    } else {
                        for (o, v) in out[first..last].iter_mut().zip(source.iter().step_by(sx)) {
                            *o = *v;
                        }
                    }
                    out[last..].fill(0.0);
                }
            }
        }
    }
}

/// One tap of a convolution that keeps the size: rows of the plane moved as one block. Columns that come from beside the
/// image get what lies before or behind them in memory; the caller clears them.
fn shift(
    plane: &[f32],
    [h, w]: [usize; 2],
    rows: std::ops::Range<usize>,
    tap: [usize; 2],
    pad: [usize; 2],
    out: &mut [f32],
) {
    let begin = pad[0].saturating_sub(tap[0]).clamp(rows.start, rows.end);
    let end = (h + pad[0]).saturating_sub(tap[0]).clamp(begin, rows.end);
    out[..(begin - rows.start) * w].fill(0.0);
    out[(end - rows.start) * w..].fill(0.0);
    if begin == end {
        return;
    }
    let out = &mut out[(begin - rows.start) * w..(end - rows.start) * w];
    // First element in the plane, plus `pad[1]` so that it cannot be negative.
    let from = (begin + tap[0] - pad[0]) * w + tap[1];
    let skip = pad[1].saturating_sub(from);
    let length = out.len().min((h * w + pad[1]).saturating_sub(from));
    out[skip..length].copy_from_slice(&plane[from + skip - pad[1]..from + length - pad[1]]);
}

/// The transpose of [`unfold`] over a whole image: adds what every tap read back to where it came from.
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
    let (columns, depth) = (g.columns(), g.depth());
    let (images, rows) = g.block();
    let mut y = vec![0.0; g.n * g.k * columns];
    let weight = Matrix { data: weight, row: depth, column: 1 };
    y.par_chunks_mut(images * g.k * columns).zip(x.par_chunks(images * g.c * g.pixels())).for_each(|(y, x)| {
        if g.is_pointwise() {
            for (y, x) in y.chunks_exact_mut(g.k * columns).zip(x.chunks_exact(g.c * columns)) {
                gemm([g.k, columns, depth], y, columns, false, weight, Matrix { data: x, row: columns, column: 1 });
            }
        } else if images == 1 {
            for row in (0..g.output[0]).step_by(rows) {
                let part = row..(row + rows).min(g.output[0]);
                let n = part.len() * g.output[1];
                with_scratch([depth * n, 0], |unfolded, _| {
                    unfold(x, g, part, unfolded, n);
                    let unfolded = Matrix { data: unfolded, row: n, column: 1 };
                    gemm([g.k, n, depth], &mut y[row * g.output[1]..], columns, false, weight, unfolded);
                });
            }
        } else {
            let n = x.len() / (g.c * g.pixels()) * columns;
            with_scratch([depth * n, g.k * n], |unfolded, product| {
                unfold_images(x, g, unfolded, n);
                gemm([g.k, n, depth], product, n, false, weight, Matrix { data: unfolded, row: n, column: 1 });
                for (i, y) in y.chunks_exact_mut(columns).enumerate() {
                    y.copy_from_slice(&product[i % g.k * n + i / g.k * columns..][..columns]);
                }
            });
        }
    });
    y
}

/// Unfolds whole images side by side.
fn unfold_images(x: &[f32], g: &Geometry, unfolded: &mut [f32], stride: usize) {
    for (image, x) in x.chunks_exact(g.c * g.pixels()).enumerate() {
        unfold(x, g, 0..g.output[0], &mut unfolded[image * g.columns()..], stride);
    }
}

/// Gradient of the input.
pub(crate) fn input_gradient(weight: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    if let (Some(turned_g), false) = (g.turned(), g.is_pointwise()) {
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
    dx.par_chunks_mut(g.c * g.pixels()).zip(dy.par_chunks(g.k * columns)).for_each(|(dx, dy)| {
        let dy = Matrix { data: dy, row: columns, column: 1 };
        if g.is_pointwise() {
            gemm([depth, columns, g.k], dx, columns, false, transposed, dy);
            return;
        }
        with_scratch([depth * columns, 0], |unfolded, _| {
            gemm([depth, columns, g.k], unfolded, columns, false, transposed, dy);
            fold(unfolded, g, dx);
        });
    });
    dx
}

/// Gradient of the weights. It is summed up transposed (`C R S K`): `gemm` then reads the unfolded image as it lies.
pub(crate) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (columns, depth) = (g.columns(), g.depth());
    let (images, rows) = g.block();
    let blocks = g.n.div_ceil(images);
    let parts = PARTS.min(blocks);
    let partial: Vec<Vec<f32>> = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut dw = vec![0.0; depth * g.k];
            // Adds unfolded `depth x n` times the transpose of dy, whose rows are `stride` apart.
            let mut add = |unfolded: &[f32], dy: &[f32], stride: usize, n: usize| {
                let unfolded = Matrix { data: unfolded, row: n, column: 1 };
                gemm([depth, g.k, n], &mut dw, g.k, true, unfolded, Matrix { data: dy, row: 1, column: stride });
            };
            for block in part * blocks / parts..(part + 1) * blocks / parts {
                let range = block * images..((block + 1) * images).min(g.n);
                let x = &x[range.start * g.c * g.pixels()..range.end * g.c * g.pixels()];
                let dy = &dy[range.start * g.k * columns..range.end * g.k * columns];
                if g.is_pointwise() {
                    for (x, dy) in x.chunks_exact(g.c * columns).zip(dy.chunks_exact(g.k * columns)) {
                        add(x, dy, columns, columns);
                    }
                } else if images == 1 {
                    for row in (0..g.output[0]).step_by(rows) {
                        let part = row..(row + rows).min(g.output[0]);
                        let n = part.len() * g.output[1];
                        with_scratch([depth * n, 0], |unfolded, _| {
                            unfold(x, g, part, unfolded, n);
                            add(unfolded, &dy[row * g.output[1]..], columns, n);
                        });
                    }
                } else {
                    let n = range.len() * columns;
                    with_scratch([depth * n, g.k * n], |unfolded, gathered| {
                        unfold_images(x, g, unfolded, n);
                        for (i, dy) in dy.chunks_exact(columns).enumerate() {
                            gathered[i % g.k * n + i / g.k * columns..][..columns].copy_from_slice(dy);
                        }
                        add(unfolded, gathered, n, n);
                    });
                }
            }
            dw
        })
        .collect();
    let transposed = super::sum(partial);
    let mut dw = vec![0.0; transposed.len()];
    for (k, row) in dw.chunks_exact_mut(depth).enumerate() {
        for (d, v) in row.iter_mut().enumerate() {
            *v = transposed[d * g.k + k];
        }
    }
    dw
}
