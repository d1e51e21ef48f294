//! Adam with the decay in the gradient. Enters: parameters, their gradient, the memory. Leaves: both changed. Refuses
//! nothing: the caller has looked for values that are not finite.

use crate::hypernet::Parameters;
use rayon::prelude::*;

const BETA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;
/// Smaller parameters count as 0. One that no network of the space uses has no gradient but the decay: it and both moments shrink to
/// the end of what f32 holds, where processors are a hundred times slower: 164,000 parameters after 10,000 steps, which made a step
/// take twice as long. This and the next two are far below what a step moves, and large enough that squares are none of those.
const TINY: f32 = 1e-12;
/// The same for first moments.
const TINY_MEAN: f32 = 1e-20;
/// The same for second moments.
const TINY_SQUARE: f32 = 1e-34;
/// Values that one task handles.
const CHUNK: usize = 32 * 1024;

/// One step, the `steps`th with this memory, counted from 1. The gradient is multiplied with `factor` first; the average
/// keeps a share `keep` of what it was.
pub(super) fn step(
    p: &mut Parameters,
    [mean, square, average]: &mut [Parameters; 3],
    grad: &Parameters,
    [factor, rate, decay, keep]: [f32; 4],
    steps: u64,
) {
    let [c1, c2] = BETA.map(|beta| 1.0 - f64::from(beta).powf(steps as f64));
    let rate = (f64::from(rate) / c1) as f32;
    let root = (1.0 / c2.sqrt()) as f32;
    p.values_mut()
        .par_chunks_mut(CHUNK)
        .zip(mean.values_mut().par_chunks_mut(CHUNK))
        .zip(square.values_mut().par_chunks_mut(CHUNK))
        .zip(average.values_mut().par_chunks_mut(CHUNK))
        .zip(grad.values().par_chunks(CHUNK))
        .for_each(|((((p, mean), square), average), grad)| {
            chunk(p, [mean, square, average], grad, [factor, rate, decay, keep, root]);
        });
}

fn chunk(
    p: &mut [f32],
    [mean, square, average]: [&mut [f32]; 3],
    grad: &[f32],
    [factor, rate, decay, keep, root]: [f32; 5],
) {
    for ((((p, mean), square), average), grad) in p.iter_mut().zip(mean).zip(square).zip(average).zip(grad) {
        let g = grad * factor + decay * *p;
        *mean = kept(*mean + (1.0 - BETA[0]) * (g - *mean), TINY_MEAN);
        *square = kept(*square + (1.0 - BETA[1]) * (g * g - *square), TINY_SQUARE);
        *p = kept(*p - rate * *mean / (square.sqrt() * root + EPSILON), TINY);
        *average = kept(*average + (1.0 - keep) * (*p - *average), TINY);
    }
}

/// The value, or 0 if it is smaller than that. Not a number stays.
fn kept(value: f32, tiny: f32) -> f32 {
    if value.abs() < tiny { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_gradient_comes_to_0_and_never_to_subnormal_numbers() {
        let mut p = [0.3, -2e-3, 1e-9, 0.0];
        let (mut mean, mut square, mut average) = ([0.02, -1.0, 1e-30, 0.0], [0.5, 1e-8, 1e-37, 0.0], p);
        for step in 0..200_000 {
            let memory = [&mut mean[..], &mut square[..], &mut average[..]];
            chunk(&mut p, memory, &[0.0; 4], [1.0, 1e-3, 1e-5, 0.999, 1.0]);
            let all = [p, mean, square, average];
            assert!(!all.as_flattened().iter().any(|v| v.is_subnormal()), "step {step}: {all:?}");
        }
        assert_eq!([p, mean, average], [[0.0; 4]; 3]);
        // Others are untouched by it, and what is not a number is seen.
        assert_eq!([1e-11, -1e-11].map(|v| kept(v, TINY)), [1e-11, -1e-11]);
        assert!(kept(f32::NAN, TINY).is_nan());
    }
}
