//! Batch normalization with the clamp behind it, and its gradients, one channel at a time: a channel of a batch fits
//! into the cache, so that statistics and result cost one walk through memory. Enters: `N C H W`. Leaves: the same, and
//! per-channel results. Channels are independent, and sums run in one fixed order.

use super::simd::{LANES, fold, simd};
use rayon::prelude::*;

/// Extents and limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// Channels.
    pub c: usize,
    /// Pixels of one channel of one image.
    pub pixels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// The clamp: values at or beyond a limit pass no gradient.
    pub limits: [f32; 2],
}

simd! {
    /// Sum of `x - shift` and of its square.
    fn moments<'a>(x: &'a [f32], shift: f32) -> [f64; 2] {
        let (mut sum, mut square) = ([0f32; LANES], [0f32; LANES]);
        let mut chunks = x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for i in 0..LANES {
                let d = chunk[i] - shift;
                sum[i] += d;
                square[i] = d.mul_add(d, square[i]);
            }
        }
        for (i, v) in chunks.remainder().iter().enumerate() {
            let d = v - shift;
            sum[i] += d;
            square[i] = d.mul_add(d, square[i]);
        }
        [fold(&sum), fold(&square)]
    }
}

simd! {
    fn affine<'a>(x: &'a [f32], y: &'a mut [f32], scale: f32, shift: f32, limits: [f32; 2]) {
        for (y, x) in y.iter_mut().zip(x) {
            let v = x.mul_add(scale, shift);
            let v = if v < limits[0] { limits[0] } else { v };
            *y = if v > limits[1] { limits[1] } else { v };
        }
    }
}

simd! {
    /// Sums of `dy` and of `dy * (x - mean)` over what the clamp lets through.
    fn gradient_sums<'a>(x: &'a [f32], dy: &'a [f32], scale: f32, shift: f32, mean: f32, limits: [f32; 2]) -> [f64; 2] {
        let (mut sum, mut product) = ([0f32; LANES], [0f32; LANES]);
        let mut add = |i: usize, x: f32, dy: f32| {
            let v = x.mul_add(scale, shift);
            let d = if (v > limits[0]) & (v < limits[1]) { dy } else { 0.0 };
            sum[i] += d;
            product[i] = d.mul_add(x - mean, product[i]);
        };
        let (mut xs, mut dys) = (x.chunks_exact(LANES), dy.chunks_exact(LANES));
        for (x, dy) in (&mut xs).zip(&mut dys) {
            for i in 0..LANES {
                add(i, x[i], dy[i]);
            }
        }
        for (i, (x, dy)) in xs.remainder().iter().zip(dys.remainder()).enumerate() {
            add(i, *x, *dy);
        }
        [fold(&sum), fold(&product)]
    }
}

simd! {
    /// `dx = scale * (masked dy - a - (x - mean) * b)`.
    fn gradient<'a>(
        x: &'a [f32],
        dy: &'a [f32],
        dx: &'a mut [f32],
        scale: f32,
        shift: f32,
        mean: f32,
        limits: [f32; 2],
        a: f32,
        b: f32,
    ) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let v = x.mul_add(scale, shift);
            let d = if (v > limits[0]) & (v < limits[1]) { *dy } else { 0.0 };
            *dx = scale * (d - a - (x - mean) * b);
        }
    }
}

/// Scale and shift of a channel, as every kernel here computes them.
fn scale_and_shift(gamma: f32, beta: f32, mean: f32, variance: f32, epsilon: f64) -> (f32, f32) {
    let scale = (f64::from(gamma) / (f64::from(variance) + epsilon).sqrt()) as f32;
    (scale, beta - mean * scale)
}

/// The planes of each channel, image by image.
fn planes<'a>(y: &'a mut [f32], norm: &Norm) -> Vec<Vec<&'a mut [f32]>> {
    let images = y.len() / (norm.c * norm.pixels);
    let mut channels: Vec<Vec<&mut [f32]>> = (0..norm.c).map(|_| Vec::with_capacity(images)).collect();
    for (i, plane) in y.chunks_exact_mut(norm.pixels).enumerate() {
        channels[i % norm.c].push(plane);
    }
    channels
}

/// Mean and biased variance of one channel of `images` planes with `count` values.
fn of_channel<'a>(images: usize, count: usize, plane: impl Fn(usize) -> &'a [f32]) -> (f32, f32) {
    let count = count as f64;
    let total: f64 = (0..images).map(|i| moments(plane(i), 0.0)[0]).sum();
    let mean = (total / count) as f32;
    // About the mean, so that nothing cancels; what the rounding of the mean leaves is taken off.
    let about = (0..images).map(|i| moments(plane(i), mean)).fold([0.0; 2], |s, v| [s[0] + v[0], s[1] + v[1]]);
    let rest = about[0] / count;
    (mean, (about[1] / count - rest * rest).max(0.0) as f32)
}

/// `[mean.., variance..]` of `c` channels.
pub(crate) fn statistics(x: &[f32], c: usize, pixels: usize) -> Vec<f32> {
    let images = x.len() / (c * pixels);
    let of = |channel: usize| of_channel(images, images * pixels, |i| &x[(i * c + channel) * pixels..][..pixels]);
    let found: Vec<(f32, f32)> = (0..c).into_par_iter().map(of).collect();
    found.iter().map(|s| s.0).chain(found.iter().map(|s| s.1)).collect()
}

/// Adds a value to each channel.
pub(crate) fn shift(y: &mut [f32], values: &[f32], pixels: usize) {
    y.par_chunks_exact_mut(pixels).enumerate().with_min_len(16).for_each(|(i, plane)| {
        let v = values[i % values.len()];
        plane.iter_mut().for_each(|y| *y += v);
    });
}

/// `y` and the statistics `[mean.., variance..]` used: those of the batch (biased variance), or `given` ones.
pub(crate) fn forward(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    given: Option<&[f32]>,
    norm: &Norm,
) -> (Vec<f32>, Vec<f32>) {
    let mut y = vec![0.0; x.len()];
    let per_image = norm.c * norm.pixels;
    let used: Vec<(f32, f32)> = planes(&mut y, norm)
        .into_par_iter()
        .enumerate()
        .map(|(c, planes)| {
            let plane = |image: usize| &x[image * per_image + c * norm.pixels..][..norm.pixels];
            let images = planes.len();
            let (mean, variance) = match given {
                Some(given) => (given[c], given[norm.c + c]),
                None => of_channel(images, images * norm.pixels, plane),
            };
            let (scale, shift) = scale_and_shift(gamma[c], beta[c], mean, variance, norm.epsilon);
            for (image, y) in planes.into_iter().enumerate() {
                affine(plane(image), y, scale, shift, norm.limits);
            }
            (mean, variance)
        })
        .collect();
    let statistics = used.iter().map(|s| s.0).chain(used.iter().map(|s| s.1)).collect();
    (y, statistics)
}

/// `dx`, and `[dgamma.., dbeta..]`. `of_batch` says whether the statistics came from `x` itself.
pub(crate) fn backward(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    statistics: &[f32],
    dy: &[f32],
    of_batch: bool,
    norm: &Norm,
) -> (Vec<f32>, Vec<f32>) {
    let mut dx = vec![0.0; x.len()];
    let per_image = norm.c * norm.pixels;
    let sums: Vec<(f32, f32)> = planes(&mut dx, norm)
        .into_par_iter()
        .enumerate()
        .map(|(c, planes)| {
            let at = |image: usize| image * per_image + c * norm.pixels..image * per_image + (c + 1) * norm.pixels;
            let (mean, variance) = (statistics[c], statistics[norm.c + c]);
            let (scale, shift) = scale_and_shift(gamma[c], beta[c], mean, variance, norm.epsilon);
            let sums = (0..planes.len())
                .map(|i| gradient_sums(&x[at(i)], &dy[at(i)], scale, shift, mean, norm.limits))
                .fold([0.0; 2], |s, v| [s[0] + v[0], s[1] + v[1]]);
            let inverse = 1.0 / (f64::from(variance) + norm.epsilon).sqrt();
            let count = (planes.len() * norm.pixels) as f64;
            let (a, b) = if of_batch {
                ((sums[0] / count) as f32, (sums[1] * inverse * inverse / count) as f32)
            } else {
                (0.0, 0.0)
            };
            for (image, dx) in planes.into_iter().enumerate() {
                gradient(&x[at(image)], &dy[at(image)], dx, scale, shift, mean, norm.limits, a, b);
            }
            ((sums[1] * inverse) as f32, sums[0] as f32)
        })
        .collect();
    let parameters = sums.iter().map(|s| s.0).chain(sums.iter().map(|s| s.1)).collect();
    (dx, parameters)
}
