//! Output scales with which no sum and no mean lies halfway between two integers. Enters: an Add or AveragePool with the
//! encodings around it. Leaves: the output's scale, larger by at most 0.4 %, mostly by less than 0.01 %. Refuses nothing: where
//! no scale in reach will do, it takes the one that keeps farthest from ties.
//!
//! Engines compute both ops in f32, each in its own order, and so round what lies on a tie, or within their rounding
//! errors of one, either way. There are few enough inputs to look at all of them.

use crate::network::{Encoding, Op, Window};

/// How far from a tie, in steps of the output, every result is to lie. f32 arithmetic on sums of bytes errs by less.
pub(super) const CLEARANCE: f64 = 5e-5;

/// Scales that are tried, each larger than the one before by [`STEP`] of the first.
const TRIES: u32 = 1024;
const STEP: f64 = 1.0 / (1 << 18) as f64;

/// Moves the scale of what `op` writes off the ties of what it reads.
pub(super) fn avoid(op: &Op, inputs: &[&Encoding], output: &mut Encoding) {
    let Some(results) = results(op, inputs) else { return };
    let first = f64::from(output.scale[0]);
    let scale = |k: u32| (first * (1.0 + f64::from(k) * STEP)) as f32;
    let mut best = (0.0, output.scale[0]);
    for scale in (0..TRIES).map(scale) {
        let clearance = clearance(&results, scale, output, best.0);
        if clearance > best.0 {
            best = (clearance, scale);
        }
        if best.0 >= CLEARANCE {
            break;
        }
    }
    output.scale[0] = best.1;
}

/// Every real value that an Add or AveragePool of these inputs can give.
fn results(op: &Op, inputs: &[&Encoding]) -> Option<Vec<f64>> {
    match (op, inputs) {
        (Op::Add, [a, b]) => Some(sums(a, b)),
        (Op::AveragePool(pool), [x]) => Some(means(&pool.window, x)),
        _ => None,
    }
}

/// How many of them lie within so many steps of a tie, of those that the output can hold.
#[cfg(test)]
pub(super) fn count(op: &Op, inputs: &[&Encoding], output: &Encoding, steps: f64) -> usize {
    let near = |result: &&f64| clearance(&[**result], output.scale[0], output, 0.0) < steps;
    results(op, inputs).iter().flatten().filter(near).count()
}

/// The distance of the result that lies nearest to a tie, in steps of `scale`; less than the truth where that is not above
/// `least`, and results that the output cannot hold do not count.
fn clearance(results: &[f64], scale: f32, output: &Encoding, least: f64) -> f64 {
    let scale = f64::from(scale);
    let [low, high] = [output.qmin() - 1, output.qmax() + 1].map(|q| f64::from(q - output.zero_point[0]));
    let mut nearest = 0.5;
    for step in results.iter().map(|result| result / scale).filter(|step| (low..=high).contains(step)) {
        nearest = f64::min(nearest, (step - step.floor() - 0.5).abs());
        if nearest <= least {
            break;
        }
    }
    nearest
}

/// The real values of all integers.
fn values(x: &Encoding) -> impl Iterator<Item = f64> + '_ {
    (x.qmin()..=x.qmax()).map(|q| f64::from(q - x.zero_point[0]) * f64::from(x.scale[0]))
}

fn sums(a: &Encoding, b: &Encoding) -> Vec<f64> {
    values(a).flat_map(|a| values(b).map(move |b| a + b)).collect()
}

/// The means over every number of taps that can lie in the image.
fn means(window: &Window, x: &Encoding) -> Vec<f64> {
    let taps = (window.kernel[0] * window.kernel[1]) as i32;
    let first = if window.padding == [0; 4] { taps } else { 1 };
    let [low, high] = [x.qmin(), x.qmax()].map(|q| q - x.zero_point[0]);
    (first..=taps)
        .flat_map(|n| (n * low..=n * high).map(move |sum| f64::from(sum) * f64::from(x.scale[0]) / f64::from(n)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Pool;

    fn encoding(scale: f32, zero_point: i32) -> Encoding {
        Encoding { bits: 8, signed: false, scale: vec![scale], zero_point: vec![zero_point] }
    }

    /// Every mean of two by two between equal scales that is no quarter lies on a tie.
    #[test]
    fn means_between_equal_scales_leave_their_ties() {
        let (input, mut output) = (encoding(0.05, 3), encoding(0.05, 3));
        let pool = Op::AveragePool(Pool { window: Window::square(2, 2, 0) });
        let Op::AveragePool(Pool { window }) = &pool else { unreachable!() };
        let on_ties = means(window, &input);
        assert_eq!(clearance(&on_ties, output.scale[0], &output, 0.0), 0.0);
        avoid(&pool, &[&input], &mut output);
        assert!(clearance(&on_ties, output.scale[0], &output, 0.0) >= CLEARANCE);
        assert!(output.scale[0] > 0.05 && output.scale[0] < 0.05 * 1.001, "{}", output.scale[0]);
    }

    #[test]
    fn sums_leave_their_ties() {
        for (i, scales) in [[0.03f32, 0.03, 0.06], [0.1, 0.05, 0.1], [0.0371, 0.0113, 0.0419]].into_iter().enumerate() {
            let inputs = [encoding(scales[0], 7), encoding(scales[1], 130)];
            let before = encoding(scales[2], 64);
            let mut after = before.clone();
            avoid(&Op::Add, &[&inputs[0], &inputs[1]], &mut after);
            let sums = sums(&inputs[0], &inputs[1]);
            assert!(clearance(&sums, after.scale[0], &after, 0.0) >= CLEARANCE, "{scales:?}");
            assert!(after.scale[0] >= before.scale[0] && after.scale[0] < before.scale[0] * 1.004);
            assert_eq!(after.zero_point, before.zero_point);
            // The first two begin on ties, and so must move.
            assert!(i == 2 || after.scale != before.scale, "{scales:?}");
        }
    }

    #[test]
    fn other_ops_keep_their_scale() {
        let (input, mut output) = (encoding(0.05, 3), encoding(0.05, 3));
        avoid(&Op::GlobalAveragePool, &[&input], &mut output);
        avoid(&Op::RELU, &[&input], &mut output);
        assert_eq!(output, input);
    }
}
