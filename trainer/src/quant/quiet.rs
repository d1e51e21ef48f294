//! Quiet channels: channels that a BatchNorm sees hardly any variance in, as those of a depthwise convolution behind a dead
//! ReLU. Folding multiplies their weights with up to `gamma / sqrt(epsilon)`, some hundred times what the other channels
//! get; with one scale a tensor they alone would then set it, and leave the others no integer but 0. Enters: weights,
//! statistics, what folding multiplies with. Leaves: weights of quiet channels that, folded, keep within the range of the
//! other channels. Nothing is refused.
//!
//! Not in the paper. What a quiet channel computes hardly depends on its weights, as its variance says; its BatchNorm goes on
//! to learn what constant it should give.

/// A channel is quiet if its variance is below this share of the layer's median.
const SHARE: f32 = 1e-3;

/// Slack that keeps a weight, once pulled in, from being rounded and pulled again.
const SLACK: f64 = 1e-6;

/// Pulls the weights of quiet channels in; whether any changed.
///
/// `weight` has one row for each of `factors`, which folding multiplies it with; `variance` is the running one. A second
/// call with the same statistics changes nothing.
pub(crate) fn restrain(weight: &mut [f32], factors: &[f64], variance: &[f32]) -> bool {
    let mut sorted = variance.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let bound = sorted[sorted.len() / 2] * SHARE;
    let quiet = |k: usize| variance[k] < bound;
    let row = weight.len() / factors.len();
    let folded = |k: usize, w: f32| f64::from(w) * factors[k];
    let loud = || weight.chunks_exact(row).enumerate().filter(|(k, _)| !quiet(*k));
    let [min, max] = loud()
        .flat_map(|(k, row)| row.iter().map(move |&w| folded(k, w)))
        .fold([0.0f64; 2], |[min, max], w| [min.min(w), max.max(w)]);
    let mut changed = false;
    for (k, row) in weight.chunks_exact_mut(row).enumerate().filter(|(k, _)| quiet(*k) && factors[*k] != 0.0) {
        for w in row {
            let value = folded(k, *w);
            if value > max + SLACK * max || value < min + SLACK * min {
                *w = (value.clamp(min, max) / factors[k]) as f32;
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three channels of two weights; the last hears next to nothing.
    const VARIANCE: [f32; 3] = [1.0, 2.0, 1e-6];

    #[test]
    fn a_quiet_channel_keeps_within_the_others_range() {
        let factors = [1.0, 0.5, 300.0];
        let mut weight = [0.5, -0.25, 1.0, 0.0, 0.1, -0.001];
        assert!(restrain(&mut weight, &factors, &VARIANCE));
        assert_eq!(weight[..4], [0.5, -0.25, 1.0, 0.0]);
        assert!((f64::from(weight[4]) * 300.0 - 0.5).abs() < 1e-6);
        assert!((f64::from(weight[5]) * 300.0 + 0.25).abs() < 1e-6);
        assert!(!restrain(&mut weight, &factors, &VARIANCE), "once is enough");
    }

    #[test]
    fn a_quiet_channel_that_widens_no_range_is_left_alone() {
        let mut weight = [0.5, -0.25, 1.0, 0.0, 0.001, -0.0005];
        assert!(!restrain(&mut weight, &[1.0, 0.5, 300.0], &VARIANCE));
    }

    #[test]
    fn channels_with_variance_are_left_alone() {
        let mut weight = [0.5, -0.25, 9.0, -9.0];
        assert!(!restrain(&mut weight, &[1.0, 20.0], &[1.0, 0.01]));
    }

    #[test]
    fn factors_that_turn_the_sign_keep_it() {
        let mut weight = [0.5, -0.25, 1.0, 0.0, 0.1, -0.1];
        assert!(restrain(&mut weight, &[1.0, 0.5, -300.0], &VARIANCE));
        let folded = weight[4..].iter().map(|&w| f64::from(w) * -300.0).collect::<Vec<_>>();
        assert!((folded[0] + 0.25).abs() < 1e-6 && (folded[1] - 0.5).abs() < 1e-6);
    }
}
