//! Quantiles of a tensor without sorting it. Enters: a flat slice. Leaves: the values that a share of all lies below and above.
//! Refuses nothing: values that are not finite make both NaN.
//!
//! A sorted sample says between which two values a rank lies, nearly always. One walk counts what lies below them and keeps what
//! lies between, a hundredth of all; the rank is found among those. If the sample misled, everything is searched.

use super::simd::simd;
use crate::ops::simulated::place;
use rayon::prelude::*;

/// Values of the sample.
const SAMPLE: usize = 2048;
/// Standard deviations of a sample's rank that the bracket reaches either way.
const DEVIATIONS: f64 = 4.0;
/// Values that one task looks at.
const CHUNK: usize = 64 * 1024;
/// Values that are counted, then looked at again for those between.
const BLOCK: usize = 1024;
/// Values that are looked at together.
const LANES: usize = 16;

/// Two values with a rank between them, and what was found of all others.
#[derive(Clone, Debug)]
struct Bracket {
    ends: [f32; 2],
    /// Values below the first end, up to it, and up to the second.
    counts: [usize; 3],
    /// Values strictly between.
    between: Vec<f32>,
}

simd! {
    /// How many are below `ends[0]`, up to it, up to `ends[1]`; and 0 if all are finite, NaN if not.
    fn count<'a>(x: &'a [f32], ends: [f32; 2]) -> ([u32; 3], f32) {
        let (mut counts, mut poison) = ([[0u32; LANES]; 3], [0f32; LANES]);
        let mut see = |i: usize, v: f32| {
            counts[0][i] += u32::from(v < ends[0]);
            counts[1][i] += u32::from(v <= ends[0]);
            counts[2][i] += u32::from(v <= ends[1]);
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
        (counts.map(|lanes| lanes.iter().sum()), poison.iter().sum())
    }
}

simd! {
    /// Puts the values strictly between the ends, few of many, side by side; returns how many there are.
    fn keep<'a>(x: &'a [f32], ends: [f32; 2], kept: &'a mut [f32; BLOCK]) -> usize {
        let ([first, last], mut length) = (ends, 0);
        for chunk in x.chunks(LANES) {
            let mut any = 0;
            for v in chunk {
                any |= u32::from(first < *v) & u32::from(*v < last);
            }
            if any == 0 {
                continue;
            }
            for v in chunk {
                kept[length] = *v;
                length += usize::from(first < *v && *v < last);
            }
        }
        length
    }
}

impl Bracket {
    /// Of the rank that share `share` of a sorted sample has among many more.
    fn new(sorted: &[f32], share: f32) -> Self {
        let count = sorted.len() as f64;
        let share = f64::from(share);
        let reach = DEVIATIONS * (share * (1.0 - share) * count).sqrt() + 2.0;
        let at = |rank: f64| sorted[rank.clamp(0.0, count - 1.0) as usize];
        let ends = [at((share * count - reach).floor()), at((share * count + reach).ceil())];
        Self { ends, counts: [0; 3], between: Vec::new() }
    }

    /// Takes values in; false if one is not finite.
    fn see(&mut self, x: &[f32]) -> bool {
        let mut finite = true;
        let mut kept = [0f32; BLOCK];
        for block in x.chunks(BLOCK) {
            let (counts, poison) = count(block, self.ends);
            finite &= poison == 0.0;
            for (sum, count) in self.counts.iter_mut().zip(counts) {
                *sum += count as usize;
            }
            if counts[1] < counts[2] {
                let length = keep(block, self.ends, &mut kept);
                self.between.extend_from_slice(&kept[..length]);
            }
        }
        finite
    }

    fn join(&mut self, other: Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.between.extend(other.between);
    }

    /// The value of a rank, if it lies in the bracket.
    fn rank(&mut self, rank: usize) -> Option<f32> {
        let [below, first, last] = self.counts;
        match rank {
            _ if rank < below => None,
            _ if rank < first => Some(self.ends[0]),
            _ if rank - first < self.between.len() => {
                Some(*self.between.select_nth_unstable_by(rank - first, f32::total_cmp).1)
            }
            _ if rank < last => Some(self.ends[1]),
            _ => None,
        }
    }
}

/// The values that a share of all lies below and above, interpolated linearly between neighbours; NaN if any is not finite.
pub(crate) fn quantiles(x: &[f32], cut: f32) -> [f32; 2] {
    // Odd, so that it does not take the same column of every row.
    let step = x.len().div_ceil(SAMPLE) | 1;
    let mut sample: Vec<f32> = x.iter().copied().step_by(step).collect();
    sample.sort_unstable_by(f32::total_cmp);
    let shares = [cut, 1.0 - cut];
    let brackets = shares.map(|share| Bracket::new(&sample, share));
    let parts: Vec<([Bracket; 2], bool)> = x
        .par_chunks(CHUNK)
        .map(|x| {
            let mut brackets = brackets.clone();
            let mut finite = true;
            for block in x.chunks(BLOCK) {
                brackets.iter_mut().for_each(|bracket| finite &= bracket.see(block));
            }
            (brackets, finite)
        })
        .collect();
    if !parts.iter().all(|part| part.1) {
        return [f32::NAN; 2];
    }
    let mut brackets = brackets;
    for (part, _) in parts {
        brackets.iter_mut().zip(part).for_each(|(bracket, part)| bracket.join(part));
    }
    let [mut low, mut high] = brackets;
    [(&mut low, shares[0]), (&mut high, shares[1])].map(|(bracket, share)| {
        let (at, part) = place(x.len(), share);
        let mut rank = |rank: usize| bracket.rank(rank).unwrap_or_else(|| search(x, rank));
        let (low, high) = (rank(at), rank((at + 1).min(x.len() - 1)));
        low + (high - low) * part
    })
}

/// The value of a rank among all.
fn search(x: &[f32], rank: usize) -> f32 {
    *x.to_vec().select_nth_unstable_by(rank, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(x: &[f32], cut: f32) -> [f32; 2] {
        let mut sorted = x.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        [cut, 1.0 - cut].map(|share| {
            let (at, part) = place(x.len(), share);
            let (low, high) = (sorted[at], sorted[(at + 1).min(x.len() - 1)]);
            low + (high - low) * part
        })
    }

    /// Values that look random, in -1..1.
    fn noise(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        for count in [1, 2, 17, 2048, 2049, 5000, 70_001, 300_000] {
            let noise = noise(count);
            let relu: Vec<f32> = noise.iter().map(|v| v.max(0.0)).collect();
            // What a sample of every so many-th value misses.
            let rare: Vec<f32> = (0..count).map(|i| if i % 2 == 1 { noise[i] } else { 0.5 }).collect();
            let sorted: Vec<f32> = (0..count).map(|i| i as f32).collect();
            for x in [noise, relu, rare, sorted, vec![2.5; count]] {
                for cut in [0.0, 0.001, 0.03, 0.25, 0.5] {
                    assert_eq!(quantiles(&x, cut), expected(&x, cut), "{cut} of {count}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_seen_anywhere() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = noise(10_001);
            x[10_000] = bad;
            assert!(quantiles(&x, 0.03).iter().all(|v| v.is_nan()), "{bad}");
        }
    }
}
