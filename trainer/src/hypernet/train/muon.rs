//! Muon (Jordan et al. 2024): a matrix moves along the orthogonal matrix nearest to its momentum, so that all its directions
//! learn at the same pace. Enters: a matrix, its gradient, its momentum. Leaves: both changed. Refuses nothing: the caller has
//! looked for values that are not finite.
//!
//! The step is `rate * 0.2 * sqrt(longer side)` times that matrix: its values are then about as large as those of a step of
//! Adam at the same rate (Liu et al. 2025), and one rate serves all parameters.

use crate::hypernet::linear::transposed;
use crate::ops::kernels::gemm::{Matrix, gemm};
use rayon::prelude::*;

const MOMENTUM: f32 = 0.95;
/// Root mean square of a step at a rate of 1.
const SIZE: f32 = 0.2;
/// Of `a x + b x^3 + c x^5`, which brings singular values from 1e-3 to 1 to 0.7 to 1.2 when it is applied [`ROUNDS`] times.
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ROUNDS: usize = 5;
/// Rows that one task handles.
const CHUNK: usize = 512;

/// Changes a matrix of so many columns. The gradient is multiplied with `factor` first.
pub(super) fn update([p, momentum]: [&mut [f32]; 2], grad: &[f32], columns: usize, [factor, rate, decay]: [f32; 3]) {
    let mut ahead = Vec::with_capacity(p.len());
    for ((p, m), g) in p.iter().zip(momentum).zip(grad) {
        let g = g * factor + decay * p;
        *m = MOMENTUM * *m + g;
        ahead.push(MOMENTUM * *m + g);
    }
    let step = rate * SIZE * ((p.len() / columns).max(columns) as f32).sqrt();
    let direction = orthogonal(ahead, columns);
    p.iter_mut().zip(direction).for_each(|(p, d)| *p -= step * d);
}

/// The orthogonal matrix nearest to this one, roughly: `U V^T` of `U S V^T` with singular values of 0.7 to 1.2 for 1. What is
/// beyond 1,000 times smaller than the rest stays small.
///
/// All rounds are made on the Gram matrix of the shorter side, since each is a polynomial of it.
fn orthogonal(mut m: Vec<f32>, columns: usize) -> Vec<f32> {
    let length = m.par_chunks(1 << 14).map(|part| part.iter().map(|v| v * v).sum::<f32>()).collect::<Vec<_>>();
    let length = length.iter().sum::<f32>().sqrt();
    if length == 0.0 {
        return m;
    }
    m.iter_mut().for_each(|v| *v /= length);
    let rows = m.len() / columns;
    let tall = rows >= columns;
    let side = rows.min(columns);
    let m = if tall { m } else { transposed(&m, columns) };
    let mut gram = gram(&m, side);
    let [a, b, c] = POLYNOMIAL;
    let mut all: Option<Vec<f32>> = None;
    for _ in 0..ROUNDS {
        let square = product(&gram, &gram, side);
        let mut round: Vec<f32> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
        round.iter_mut().step_by(side + 1).for_each(|v| *v += a);
        gram = product(&product(&round, &gram, side), &round, side);
        all = Some(all.map_or_else(|| round.clone(), |all| product(&all, &round, side)));
    }
    let result = product(&m, &all.expect("there is a round"), side);
    if tall { result } else { transposed(&result, side) }
}

/// `m^T m` of a matrix of so many columns, with the same bits on any number of threads.
fn gram(m: &[f32], columns: usize) -> Vec<f32> {
    let part = |m: &[f32]| {
        let mut sum = vec![0.0; columns * columns];
        let of = |row, column| Matrix { data: m, row, column };
        gemm([columns, columns, m.len() / columns], &mut sum, columns, false, of(1, columns), of(columns, 1));
        sum
    };
    let parts: Vec<Vec<f32>> = m.par_chunks(CHUNK * columns).map(part).collect();
    let mut parts = parts.into_iter();
    let first = parts.next().expect("a matrix has rows");
    parts.fold(first, |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
        sum
    })
}

/// `a b`, `b` a square of so many rows.
fn product(a: &[f32], b: &[f32], side: usize) -> Vec<f32> {
    let mut result = vec![0.0; a.len()];
    let by_row = |data| Matrix { data, row: side, column: 1 };
    result.par_chunks_mut(CHUNK * side).zip(a.par_chunks(CHUNK * side)).for_each(|(result, a)| {
        gemm([a.len() / side, side, side], result, side, false, by_row(a), by_row(b));
    });
    result
}

#[cfg(test)]
mod tests {
    use super::{orthogonal, update};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn random(len: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// `|q^T x|^2 / |x|^2`, `q x` for tall matrices: what singular values do to one direction.
    fn gain(q: &[f32], [rows, columns]: [usize; 2], x: &[f32]) -> f64 {
        let at = |i: usize, j: usize| f64::from(if rows >= columns { q[i * columns + j] } else { q[j * columns + i] });
        let image = (0..rows.max(columns)).map(|i| (0..x.len()).map(|j| at(i, j) * f64::from(x[j])).sum::<f64>());
        image.map(|v| v * v).sum::<f64>() / x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()
    }

    #[test]
    fn singular_values_come_near_1_whatever_the_scale() {
        for (shape, scale) in [([64, 16], 1e-6), ([16, 64], 1e4), ([1300, 20], 1.0), ([1, 7], 3.0), ([32, 32], 1.0)] {
            let [rows, columns] = shape;
            let m: Vec<f32> = random(rows * columns, 1).into_iter().map(|v| v * scale).collect();
            let q = orthogonal(m, columns);
            for seed in 0..20 {
                let gain = gain(&q, shape, &random(rows.min(columns), 100 + seed)).sqrt();
                let least = if rows == columns { 0.1 } else { 0.65 };
                assert!((least..1.25).contains(&gain), "{shape:?}: {gain}");
            }
        }
    }

    #[test]
    fn rows_without_a_gradient_stay() {
        let mut m = random(40 * 8, 2);
        m[8 * 5..8 * 9].fill(0.0);
        let q = orthogonal(m, 8);
        assert!(q[8 * 5..8 * 9].iter().all(|v| *v == 0.0));
        assert_eq!(orthogonal(vec![0.0; 6], 2), [0.0; 6]);
    }

    /// `|A X - B|^2` of a badly scaled `A`, by its gradient alone.
    #[test]
    fn a_quadratic_falls() {
        let (a, wanted) = ([1.0, 0.3, 0.1, 0.03], random(16, 3));
        let (mut x, mut momentum) = (vec![0.0; 16], vec![0.0; 16]);
        let loss = |x: &[f32]| (0..16).map(|i| (a[i / 4] * (x[i] - wanted[i])).powi(2)).sum::<f32>();
        let first = loss(&x);
        for step in 0..300 {
            let grad: Vec<f32> = (0..16).map(|i| 2.0 * a[i / 4].powi(2) * (x[i] - wanted[i])).collect();
            let rate = 0.1 * (1.0 - step as f32 / 300.0);
            update([&mut x, &mut momentum], &grad, 4, [1.0, rate, 0.0]);
        }
        assert!(loss(&x) < 0.01 * first, "{first} to {}", loss(&x));
    }
}
