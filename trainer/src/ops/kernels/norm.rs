//! Batch normalization with the clamp and the quantizer behind it, and its gradients, one channel at a time. Enters: `N C H W`.
//! Leaves: the same, and per-channel results. Channels are independent, and sums run in one fixed order.
//!
//! [`survey`] finds what a channel holds in one walk through memory; from its extremes the caller knows the range of the result
//! before there is one. Of what lies between convolution and quantized result nothing is stored.

use super::simd::{LANES, fold, simd};
use crate::ops::Quantizer;
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
    /// The quantizer behind the clamp: values beyond its integers pass no gradient.
    pub quantizer: Option<Quantizer>,
}

impl Norm {
    /// Smallest and largest normalized value that passes a gradient.
    fn passing(&self) -> [f32; 2] {
        let [low, high] = [self.limits[0].next_up(), self.limits[1].next_down()];
        match self.quantizer.map(|quantizer| quantizer.inside()) {
            Some(inside) => [low.max(inside[0]), high.min(inside[1])],
            None => [low, high],
        }
    }
}

simd! {
    /// Sum of a plane and of the squares about its mean, which is returned too; widens the extremes to its own.
    fn survey_plane<'a>(x: &'a [f32], low: &'a mut [f32; LANES], high: &'a mut [f32; LANES]) -> (f64, f32, f64) {
        let mut sum = [0f32; LANES];
        let mut see = |i: usize, v: f32| {
            sum[i] += v;
            low[i] = if v < low[i] { v } else { low[i] };
            high[i] = if v > high[i] { v } else { high[i] };
        };
        let mut chunks = x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (i, v) in chunk.iter().enumerate() {
                see(i, *v);
            }
        }
        for (i, v) in chunks.remainder().iter().enumerate() {
            see(i, *v);
        }
        let sum = fold(&sum);
        let mean = (sum / x.len() as f64) as f32;
        let mut square = [0f32; LANES];
        let mut chunks = x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for i in 0..LANES {
                let d = chunk[i] - mean;
                square[i] = d.mul_add(d, square[i]);
            }
        }
        for (i, v) in chunks.remainder().iter().enumerate() {
            let d = v - mean;
            square[i] = d.mul_add(d, square[i]);
        }
        (sum, mean, fold(&square))
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
    fn affine_quantized<'a>(x: &'a [f32], y: &'a mut [f32], scale: f32, shift: f32, limits: [f32; 2], q: Quantizer) {
        for (y, x) in y.iter_mut().zip(x) {
            let v = x.mul_add(scale, shift);
            let v = if v < limits[0] { limits[0] } else { v };
            let v = if v > limits[1] { limits[1] } else { v };
            *y = q.fake(v);
        }
    }
}

simd! {
    /// Sums of `dy` and of `dy * (x - mean)` over what passes.
    fn gradient_sums<'a>(x: &'a [f32], dy: &'a [f32], scale: f32, shift: f32, mean: f32, pass: [f32; 2]) -> [f64; 2] {
        let (mut sum, mut product) = ([0f32; LANES], [0f32; LANES]);
        let mut add = |i: usize, x: f32, dy: f32| {
            let v = x.mul_add(scale, shift);
            let d = if (v >= pass[0]) & (v <= pass[1]) { dy } else { 0.0 };
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
    /// `scale * (passed dy - a - (x - mean) * b)` in the place of `dy`.
    fn gradient<'a>(
        x: &'a [f32],
        dy: &'a mut [f32],
        scale: f32,
        shift: f32,
        mean: f32,
        pass: [f32; 2],
        a: f32,
        b: f32,
    ) {
        for (dy, x) in dy.iter_mut().zip(x) {
            let v = x.mul_add(scale, shift);
            let d = if (v >= pass[0]) & (v <= pass[1]) { *dy } else { 0.0 };
            *dy = scale * (d - a - (x - mean) * b);
        }
    }
}

/// Scale and shift of a channel, as every kernel here computes them.
pub(crate) fn scale_and_shift(gamma: f32, beta: f32, mean: f32, variance: f32, epsilon: f64) -> (f32, f32) {
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

/// Mean, biased variance, smallest and largest of one channel of `images` planes.
fn of_channel<'a>(images: usize, plane: impl Fn(usize) -> &'a [f32]) -> [f32; 4] {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let of_planes: Vec<(f64, f32, f64)> = (0..images).map(|i| survey_plane(plane(i), &mut low, &mut high)).collect();
    let pixels = plane(0).len() as f64;
    let count = images as f64 * pixels;
    let mean = of_planes.iter().map(|p| p.0).sum::<f64>() / count;
    // About the mean of each plane, then those about the mean of all, so that nothing cancels.
    let square: f64 = of_planes.iter().map(|p| p.2 + pixels * (f64::from(p.1) - mean).powi(2)).sum();
    let low = low.iter().copied().fold(f32::INFINITY, f32::min);
    let high = high.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    [mean as f32, (square / count) as f32, low, high]
}

/// `[mean.., variance.., smallest.., largest..]` of `c` channels; the variance is the biased one. Of a channel that is not
/// finite, mean or variance is not.
pub(crate) fn survey(x: &[f32], c: usize, pixels: usize) -> Vec<f32> {
    let images = x.len() / (c * pixels);
    let of = |channel: usize| of_channel(images, |i| &x[(i * c + channel) * pixels..][..pixels]);
    let found: Vec<[f32; 4]> = (0..c).into_par_iter().map(of).collect();
    (0..4).flat_map(|i| found.iter().map(move |f| f[i])).collect()
}

/// Adds a value to each channel.
pub(crate) fn shift(y: &mut [f32], values: &[f32], pixels: usize) {
    y.par_chunks_exact_mut(pixels).enumerate().with_min_len(16).for_each(|(i, plane)| {
        let v = values[i % values.len()];
        plane.iter_mut().for_each(|y| *y += v);
    });
}

/// `y`, with `statistics` `[mean.., variance..]`.
pub(crate) fn forward(x: &[f32], gamma: &[f32], beta: &[f32], statistics: &[f32], norm: &Norm) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let channels: Vec<(f32, f32)> = (0..norm.c)
        .map(|c| scale_and_shift(gamma[c], beta[c], statistics[c], statistics[norm.c + c], norm.epsilon))
        .collect();
    let planes = y.par_chunks_exact_mut(norm.pixels).zip(x.par_chunks_exact(norm.pixels));
    planes.enumerate().with_min_len(16).for_each(|(i, (y, x))| {
        let (scale, shift) = channels[i % norm.c];
        match norm.quantizer {
            Some(quantizer) => affine_quantized(x, y, scale, shift, norm.limits, quantizer),
            None => affine(x, y, scale, shift, norm.limits),
        }
    });
    y
}

/// Puts `dx` in the place of `dy`; `[dgamma.., dbeta..]`. `of_batch` says whether the statistics came from `x` itself.
pub(crate) fn backward(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    statistics: &[f32],
    dy: &mut [f32],
    of_batch: bool,
    norm: &Norm,
) -> Vec<f32> {
    let per_image = norm.c * norm.pixels;
    let pass = norm.passing();
    let sums: Vec<(f32, f32)> = planes(dy, norm)
        .into_par_iter()
        .enumerate()
        .map(|(c, planes)| {
            let at = |image: usize| image * per_image + c * norm.pixels..image * per_image + (c + 1) * norm.pixels;
            let (mean, variance) = (statistics[c], statistics[norm.c + c]);
            let (scale, shift) = scale_and_shift(gamma[c], beta[c], mean, variance, norm.epsilon);
            let sums = planes
                .iter()
                .enumerate()
                .map(|(i, dy)| gradient_sums(&x[at(i)], dy, scale, shift, mean, pass))
                .fold([0.0; 2], |s, v| [s[0] + v[0], s[1] + v[1]]);
            let inverse = 1.0 / (f64::from(variance) + norm.epsilon).sqrt();
            let count = (planes.len() * norm.pixels) as f64;
            let (a, b) = if of_batch {
                ((sums[0] / count) as f32, (sums[1] * inverse * inverse / count) as f32)
            } else {
                (0.0, 0.0)
            };
            for (image, dy) in planes.into_iter().enumerate() {
                gradient(&x[at(image)], dy, scale, shift, mean, pass, a, b);
            }
            ((sums[1] * inverse) as f32, sums[0] as f32)
        })
        .collect();
    sums.iter().map(|s| s.0).chain(sums.iter().map(|s| s.1)).collect()
}
