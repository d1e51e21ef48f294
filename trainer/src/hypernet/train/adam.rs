//! Adam with the decay in the gradient. Enters: parameters, their gradient, the memory. Leaves: both changed. Refuses
//! nothing: the caller has looked for values that are not finite.

use crate::hypernet::Parameters;
use rayon::prelude::*;

const BETA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;
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
            for ((((p, mean), square), average), grad) in p.iter_mut().zip(mean).zip(square).zip(average).zip(grad) {
                let g = grad * factor + decay * *p;
                *mean += (1.0 - BETA[0]) * (g - *mean);
                *square += (1.0 - BETA[1]) * (g * g - *square);
                *p -= rate * *mean / (square.sqrt() * root + EPSILON);
                *average += (1.0 - keep) * (*p - *average);
            }
        });
}
