//! Comparing two executors on the same images. Enters: labels, and logits of both. Leaves: flips in each direction, an
//! exact McNemar test, differences in steps of the output's encoding (LSB). Refuses nothing: lengths are the caller's.

use serde::Serialize;

/// How the answers of two executors to the same images differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// Images that both have seen.
    pub(crate) images: usize,
    /// Right before, wrong after.
    pub(crate) right_to_wrong: usize,
    /// Wrong before, right after.
    pub(crate) wrong_to_right: usize,
    /// Wrong before and after, with another answer.
    pub(crate) wrong_to_wrong: usize,
    /// Two-sided exact McNemar test on the first two counts: how likely so uneven a split is by chance.
    pub(crate) mcnemar_p: f64,
    /// Images on which at least one logit differs.
    pub(crate) images_with_difference: usize,
    /// Largest difference of a logit, in steps of the output's encoding.
    pub(crate) largest_lsb: f64,
    /// Mean absolute difference of all logits, in the same steps.
    pub(crate) mean_lsb: f64,
}

/// Index of the largest logit; the lowest index wins a tie, as everywhere in this project.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in logits.iter().enumerate() {
        if value > logits[best] {
            best = i;
        }
    }
    best
}

/// Compares `before` and `after` (`N` rows of `classes` logits each) on the first rows that both have.
pub(crate) fn compare(before: &[f32], after: &[f32], labels: &[u16], classes: usize, step: f32) -> Comparison {
    let mut c = Comparison {
        images: 0,
        right_to_wrong: 0,
        wrong_to_right: 0,
        wrong_to_wrong: 0,
        mcnemar_p: 1.0,
        images_with_difference: 0,
        largest_lsb: 0.0,
        mean_lsb: 0.0,
    };
    for ((a, b), &label) in before.chunks_exact(classes).zip(after.chunks_exact(classes)).zip(labels) {
        c.images += 1;
        let (was, is, label) = (argmax(a), argmax(b), usize::from(label));
        if was != is {
            match (was == label, is == label) {
                (true, _) => c.right_to_wrong += 1,
                (_, true) => c.wrong_to_right += 1,
                _ => c.wrong_to_wrong += 1,
            }
        }
        let mut differs = false;
        for (&x, &y) in a.iter().zip(b) {
            let lsb = f64::from((x - y).abs()) / f64::from(step);
            differs |= lsb > 0.0;
            c.largest_lsb = c.largest_lsb.max(lsb);
            c.mean_lsb += lsb;
        }
        c.images_with_difference += usize::from(differs);
    }
    c.mean_lsb /= (c.images * classes).max(1) as f64;
    c.mcnemar_p = mcnemar(c.right_to_wrong, c.wrong_to_right);
    c
}

/// Two-sided exact binomial test of `a` against `b` with probability one half each.
fn mcnemar(a: usize, b: usize) -> f64 {
    let n = a + b;
    // Logarithms of the binomial coefficients keep thousands of flips from overflowing.
    let mut log_coefficient = 0.0f64;
    let mut tail = 0.0f64;
    for k in 0..=a.min(b) {
        if k > 0 {
            log_coefficient += ((n - k + 1) as f64).ln() - (k as f64).ln();
        }
        tail += (log_coefficient - n as f64 * std::f64::consts::LN_2).exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn mcnemar_equals_binomial_tables() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert!((mcnemar(1, 9) - 0.021484375).abs() < 1e-12);
        assert!((mcnemar(10, 0) - 0.001953125).abs() < 1e-12);
        assert!(mcnemar(5_000, 5_200) > 0.04);
    }

    #[test]
    fn counts_each_direction() {
        // Labels 0 0 1; answers 0 1 0, then 1 0 2.
        let before = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
        let after = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let c = compare(&before, &after, &[0, 0, 1], 3, 0.5);
        assert_eq!((c.right_to_wrong, c.wrong_to_right, c.wrong_to_wrong), (1, 1, 1));
        assert_eq!((c.images, c.images_with_difference, c.largest_lsb), (3, 3, 2.0));
    }
}
