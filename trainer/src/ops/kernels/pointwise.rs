//! Ops that treat every element alike: fake quantization (Eq. 1 of the paper) with its straight-through gradient, sum
//! with clamp, range. Enters: flat slices. Leaves: flat vectors. Elements are independent, so threads cannot matter.

use super::simd::{LANES, simd};
use crate::ops::Quantizer;
use rayon::prelude::*;

simd! {
    fn noisy_chunk<'a>(x: &'a [f32], noise: &'a [f32], y: &'a mut [f32], range: [f32; 2], step: f32) {
        for ((y, x), noise) in y.iter_mut().zip(x).zip(noise) {
            let v = if *x < range[0] { range[0] } else { *x };
            let v = if v > range[1] { range[1] } else { v };
            *y = noise.mul_add(step, v);
        }
    }
}

simd! {
    fn pass_chunk<'a>(x: &'a [f32], dy: &'a mut [f32], range: [f32; 2]) {
        for (dy, x) in dy.iter_mut().zip(x) {
            *dy = if (*x >= range[0]) & (*x <= range[1]) { *dy } else { 0.0 };
        }
    }
}

/// Elements that one task handles.
const CHUNK: usize = 16 * 1024;

simd! {
    fn fake_chunk<'a>(x: &'a [f32], y: &'a mut [f32], q: Quantizer) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = q.fake(*x);
        }
    }
}

simd! {
    fn add_chunk<'a>(a: &'a [f32], b: &'a [f32], y: &'a mut [f32], limits: [f32; 2]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            let v = a + b;
            let v = if v < limits[0] { limits[0] } else { v };
            *y = if v > limits[1] { limits[1] } else { v };
        }
    }
}

simd! {
    fn clamp_chunk<'a>(x: &'a [f32], y: &'a mut [f32], limits: [f32; 2]) {
        for (y, x) in y.iter_mut().zip(x) {
            let v = if *x < limits[0] { limits[0] } else { *x };
            *y = if v > limits[1] { limits[1] } else { v };
        }
    }
}

simd! {
    /// Smallest and largest; NaN if there is one, so that it is not lost.
    fn range_chunk<'a>(x: &'a [f32]) -> [f32; 2] {
        let (mut low, mut high, mut poison) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0f32; LANES]);
        let mut see = |i: usize, v: f32| {
            low[i] = if v < low[i] { v } else { low[i] };
            high[i] = if v > high[i] { v } else { high[i] };
            // 0 for every finite number, NaN for all others.
            poison[i] += v * 0.0;
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
        let poison: f32 = poison.iter().sum();
        [low.iter().copied().fold(f32::INFINITY, f32::min) + poison, high.iter().copied().fold(f32::NEG_INFINITY, f32::max) + poison]
    }
}

/// `y = (clamp(RNE(x / scale) + zero_point) - zero_point) * scale`.
pub(crate) fn fake_quantize(x: &[f32], q: Quantizer) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| fake_chunk(x, y, q));
    y
}

/// `clamp(a + b)`.
pub(crate) fn add(a: &[f32], b: &[f32], limits: [f32; 2]) -> Vec<f32> {
    let mut y = vec![0.0; a.len()];
    y.par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK))
        .zip(b.par_chunks(CHUNK))
        .for_each(|((y, a), b)| add_chunk(a, b, y, limits));
    y
}

/// `x` within limits.
pub(crate) fn clamp(x: &[f32], limits: [f32; 2]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| clamp_chunk(x, y, limits));
    y
}

/// Smallest and largest element; NaN if any element is not finite.
pub(crate) fn range(x: &[f32]) -> [f32; 2] {
    let parts: Vec<[f32; 2]> = x.par_chunks(CHUNK).map(range_chunk).collect();
    parts.into_iter().fold([f32::INFINITY, f32::NEG_INFINITY], |all, part| {
        if part[0].is_nan() || all[0].is_nan() {
            return [f32::NAN; 2];
        }
        [all[0].min(part[0]), all[1].max(part[1])]
    })
}

/// `clamp(x) + step * noise`.
pub(crate) fn noisy(x: &[f32], noise: &[f32], range: [f32; 2], step: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .zip(noise.par_chunks(CHUNK))
        .for_each(|((y, x), noise)| noisy_chunk(x, noise, y, range, step));
    y
}

/// Passes the gradient where `x` is in the range, its ends included, and puts 0 in its place elsewhere.
pub(crate) fn pass_within(x: &[f32], dy: &mut [f32], range: [f32; 2]) {
    dy.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(dy, x)| pass_chunk(x, dy, range));
}
