//! Max pooling over windows of 2 x 2 that do not overlap. Enters: planes. Leaves: planes of half the size, or the
//! gradient, given to the first of the largest. An odd last row or column is not read, as in ONNX with floor.

use rayon::prelude::*;

/// `y` of `n` planes of `h x w`.
pub(crate) fn forward(x: &[f32], [h, w]: [usize; 2]) -> Vec<f32> {
    let (oh, ow) = (h / 2, w / 2);
    let mut y = vec![0.0; x.len() / (h * w) * oh * ow];
    y.par_chunks_mut(oh * ow).zip(x.par_chunks(h * w)).with_min_len(16).for_each(|(y, x)| {
        for (y, rows) in y.chunks_exact_mut(ow).zip(x.chunks_exact(2 * w)) {
            let (a, b) = rows.split_at(w);
            for ((y, a), b) in y.iter_mut().zip(a.chunks_exact(2)).zip(b.chunks_exact(2)) {
                *y = a[0].max(a[1]).max(b[0].max(b[1]));
            }
        }
    });
    y
}

/// `dx` from the same `x`.
pub(crate) fn backward(x: &[f32], dy: &[f32], [h, w]: [usize; 2]) -> Vec<f32> {
    let (oh, ow) = (h / 2, w / 2);
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(h * w).zip(x.par_chunks(h * w)).zip(dy.par_chunks(oh * ow)).with_min_len(16).for_each(
        |((dx, x), dy)| {
            for ((dx, x), dy) in dx.chunks_exact_mut(2 * w).zip(x.chunks_exact(2 * w)).zip(dy.chunks_exact(ow)) {
                for (i, dy) in dy.iter().enumerate() {
                    let at = [2 * i, 2 * i + 1, w + 2 * i, w + 2 * i + 1];
                    let mut best = at[0];
                    for j in at {
                        if x[j] > x[best] {
                            best = j;
                        }
                    }
                    dx[best] = *dy;
                }
            }
        },
    );
    dx
}
