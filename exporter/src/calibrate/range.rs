//! Which part of its values a tensor keeps. Enters: values with counts (weights, or the bins of an activation's histogram),
//! a [`Clipping`] and the [`Grid`] that the range is for. Leaves: smallest and largest value kept. Refuses: percentiles
//! that are none, widths that there are not.
//!
//! The two searches start from the smallest and largest value and only move an end where that lowers the cost, so that
//! they are never worse than min/max, measured as they measure:
//! - *MSE*: mean squared difference between a value and what its integer stands for, clipping included.
//! - *entropy*: Kullback-Leibler divergence from the values to what integers leave of them, as in TensorRT's calibrator
//!   (Migacz, 8-bit Inference with TensorRT, 2017): counts beyond the range fall on its outermost bins; those within
//!   are spread evenly over the bins that share an integer.

use super::{CalibrateError, Clipping};
use crate::network::Encoding;

/// Candidates for an end of the range in the first look: this many equal steps from 0 to the outermost value.
const COARSE: usize = 64;
/// Candidates between two neighbours of the first look.
const FINE: usize = 8;
/// Bins of a histogram whose entropy is measured.
const ENTROPY_BINS: usize = 2048;

/// Smallest and largest value.
pub type Range = (f32, f32);

/// The integers that a range is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// 2 to 8.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// Zero point in the middle, and as many integers on either side of it: `-limit..=limit` goes to
    /// `-(2^(bits-1)-1)..=2^(bits-1)-1`, shifted by `2^(bits-1)` if unsigned. The lowest integer is left out.
    pub symmetric: bool,
}

impl Grid {
    /// The encoding of a range, widened so that it holds 0, and if symmetric so that it is.
    ///
    /// # Panics
    /// As [`Encoding::asymmetric`].
    pub fn encode(self, (min, max): Range) -> Encoding {
        if !self.symmetric {
            return Encoding::asymmetric(self.bits, self.signed, min, max);
        }
        assert!(min.is_finite() && max.is_finite(), "range {min}..{max} is not finite");
        let scale = min.abs().max(max.abs()) / ((1 << (self.bits - 1)) - 1) as f32;
        let middle = if self.signed { 0 } else { 1 << (self.bits - 1) };
        Encoding::per_tensor(self.bits, self.signed, if scale > 0.0 { scale } else { 1.0 }, middle)
    }

    /// The encoding of shares of 1: as many steps to 1 as there are integers from the zero point on, so that 1 itself is one step
    /// too far. Asymmetric and with 8 bits it is what TFLite gives a Softmax.
    pub fn shares(self) -> Encoding {
        let mut encoding = self.encode((0.0, 1.0));
        encoding.scale[0] = 1.0 / (1u32 << (self.bits - u8::from(self.symmetric))) as f32;
        encoding
    }

    /// Smallest integer in use.
    pub fn lowest(self, encoding: &Encoding) -> i32 {
        encoding.qmin() + i32::from(self.symmetric)
    }

    /// # Errors
    /// [`CalibrateError::Parameter`] if there is no such width.
    pub(super) fn check(self, of: &str) -> Result<(), CalibrateError> {
        match self.bits {
            2..=8 => Ok(()),
            bits => Err(CalibrateError::Parameter(format!("{of} of {bits} bits, expected 2 to 8"))),
        }
    }
}

/// Limits of a list of finite weights; `(0, 0)` if there are none.
///
/// # Errors
/// [`CalibrateError::Parameter`]: percentiles or widths that are none.
pub fn range(values: &[f32], clipping: Clipping, grid: Grid) -> Result<Range, CalibrateError> {
    grid.check("weights")?;
    match clipping {
        Clipping::MinMax | Clipping::Percentile { .. } => percentile(values, clipping),
        _ if values.is_empty() => Ok((0.0, 0.0)),
        Clipping::Mse => Ok(search(values, &vec![1; values.len()], grid, squared_error)),
        Clipping::Entropy => {
            let (min, max) = percentile(values, Clipping::MinMax)?;
            let factor = if max > min { ENTROPY_BINS as f32 / (max - min) } else { 0.0 };
            let mut counts = vec![0; ENTROPY_BINS];
            for &x in values {
                counts[(((x - min) * factor) as usize).min(ENTROPY_BINS - 1)] += 1;
            }
            Ok(of_histogram((min, max), &counts, clipping, grid))
        }
    }
}

/// Limits of a list of weights by [`Clipping::MinMax`] or [`Clipping::Percentile`], for which no [`Grid`] matters.
///
/// # Errors
/// [`CalibrateError::Parameter`]: percentiles that are none, or a method that needs a grid.
pub fn percentile(values: &[f32], clipping: Clipping) -> Result<Range, CalibrateError> {
    let (low, high) = match clipping {
        Clipping::Percentile { low, high } => (low, high),
        Clipping::MinMax => {
            let limits = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
            return Ok(if values.is_empty() { (0.0, 0.0) } else { limits });
        }
        Clipping::Mse | Clipping::Entropy => {
            let reason = format!("{clipping:?} is no pair of percentiles");
            return Err(CalibrateError::Parameter(reason));
        }
    };
    check_percentiles(low, high)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    if sorted.is_empty() {
        return Ok((0.0, 0.0));
    }
    let at = |percent: f64| {
        let position = percent / 100.0 * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
        (f64::from(below) + (f64::from(above) - f64::from(below)) * position.fract()) as f32
    };
    Ok((at(low), at(high)))
}

/// The same for values that have been counted in equal bins between `limits`. Percentiles must have been checked.
pub(super) fn of_histogram(limits: Range, counts: &[u64], clipping: Clipping, grid: Grid) -> Range {
    match clipping {
        Clipping::MinMax => limits,
        Clipping::Percentile { low, high } => (quantile(limits, counts, low), quantile(limits, counts, high)),
        Clipping::Mse => {
            let (values, counts) = bins(limits, counts, counts.len());
            within(limits, search(&values, &counts, grid, squared_error))
        }
        Clipping::Entropy => {
            let (values, counts) = bins(limits, counts, ENTROPY_BINS);
            within(limits, search(&values, &counts, grid, divergence))
        }
    }
}

pub(super) fn check_percentiles(low: f64, high: f64) -> Result<(), CalibrateError> {
    if 0.0 <= low && low < high && high <= 100.0 {
        return Ok(());
    }
    Err(CalibrateError::Parameter(format!("percentiles {low} and {high}, expected 0 <= low < high <= 100")))
}

/// Outermost bins that are kept whole reach to the limits, not to their own centre.
fn within((min, max): Range, (low, high): Range) -> Range {
    (low.max(min), high.min(max))
}

/// Centre and count of every bin that is not empty, the outermost at the limits themselves; `wanted` bins at most, each made
/// of as many neighbours.
fn bins((min, max): Range, counts: &[u64], wanted: usize) -> (Vec<f32>, Vec<u64>) {
    let width = counts.len().div_ceil(wanted.max(1)).max(1);
    let step = (f64::from(max) - f64::from(min)) / counts.len() as f64;
    let centre = |bin: usize| (f64::from(min) + (bin as f64 + 0.5) * width as f64 * step) as f32;
    let merged = counts.chunks(width).map(|counts| counts.iter().sum::<u64>()).enumerate();
    let (mut values, counts): (Vec<f32>, Vec<u64>) =
        merged.filter(|(_, count)| *count > 0).map(|(bin, count)| (centre(bin), count)).unzip();
    if let Some(first) = values.first_mut() {
        *first = min;
    }
    if let Some(last) = values.last_mut() {
        *last = max;
    }
    (values, counts)
}

/// The value below which `percent` of the counted values lie, taken as evenly spread within a bin.
fn quantile((min, max): Range, counts: &[u64], percent: f64) -> f32 {
    let wanted = percent / 100.0 * counts.iter().sum::<u64>() as f64;
    let mut below = 0.0;
    for (bin, &count) in counts.iter().enumerate() {
        let count = count as f64;
        if count > 0.0 && below + count >= wanted {
            let position = (bin as f64 + ((wanted - below) / count).clamp(0.0, 1.0)) / counts.len() as f64;
            let value = f64::from(min) + (f64::from(max) - f64::from(min)) * position;
            return (value as f32).clamp(min, max);
        }
        below += count;
    }
    max
}

/// What a range costs: values in ascending order for [`divergence`], in any order for [`squared_error`].
type Cost = fn(&[f32], &[u64], Grid, Range) -> f64;

/// Moves one end after the other towards 0 for as long as the cost falls.
fn search(values: &[f32], counts: &[u64], grid: Grid, cost: Cost) -> Range {
    let (min, max) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let cost = |range: Range| cost(values, counts, grid, range);
    let limit = min.abs().max(max.abs());
    let whole = if grid.symmetric { (-limit, limit) } else { (min, max) };
    let mut best = (cost(whole), whole);
    let look = |candidate: Range, best: &mut (f64, Range)| {
        let found = cost(candidate);
        if found < best.0 {
            *best = (found, candidate);
        }
    };
    if grid.symmetric {
        shrink(limit, |limit, best| look((-limit, limit), best), &mut best, |(_, high)| high);
        return (best.1.0.max(min), best.1.1.min(max));
    }
    // An end on the far side of 0 is 0 already: the encoding holds 0 whatever the range.
    for _ in 0..2 {
        let before = best.0;
        if max > 0.0 {
            let low = best.1.0;
            shrink(max, |high, best| look((low, high), best), &mut best, |(_, high)| high);
        }
        if min < 0.0 {
            let high = best.1.1;
            shrink(min, |low, best| look((low, high), best), &mut best, |(low, _)| low);
        }
        if best.0 == before {
            break;
        }
    }
    best.1
}

/// Looks at an end from `limit` down to 0 in coarse steps, then in fine ones around the best.
fn shrink(
    limit: f32,
    mut look: impl FnMut(f32, &mut (f64, Range)),
    best: &mut (f64, Range),
    end: impl Fn(Range) -> f32,
) {
    let share = |position: usize, steps: usize| limit * (position as f32 / steps as f32);
    for position in (1..COARSE).rev() {
        look(share(position, COARSE), best);
    }
    let found = (end(best.1) / limit * (COARSE * FINE) as f32).round() as usize;
    for position in found.saturating_sub(FINE).max(1)..(found + FINE).min(COARSE * FINE) {
        look(share(position, COARSE * FINE), best);
    }
}

/// Sum of `count * (x - fake(x))^2`.
fn squared_error(values: &[f32], counts: &[u64], grid: Grid, range: Range) -> f64 {
    let round = Rounded::new(grid, range);
    let term = |(&x, &count): (&f32, &u64)| {
        let error = f64::from(x - round.step(x) * round.scale);
        error * error * count as f64
    };
    values.iter().zip(counts).map(term).sum()
}

/// Kullback-Leibler divergence from the values to what is left of them. `values` ascend.
fn divergence(values: &[f32], counts: &[u64], grid: Grid, range: Range) -> f64 {
    let round = Rounded::new(grid, range);
    let (low, high) = (round.low * round.scale, round.high * round.scale);
    // Half a step beyond the outermost integer still rounds to it.
    let reach = round.scale / 2.0;
    let first = values.partition_point(|&x| x < low - reach);
    let end = values.partition_point(|&x| x <= high + reach);
    if first >= end {
        return f64::INFINITY;
    }
    let total: f64 = counts.iter().map(|&count| count as f64).sum();
    let inside: f64 = counts[first..end].iter().map(|&count| count as f64).sum();
    let sum = |counts: &[u64]| counts.iter().map(|&count| count as f64).sum::<f64>();
    let (below, above) = (sum(&counts[..first]), sum(&counts[end..]));
    let mut divergence = 0.0;
    let mut start = first;
    while start < end {
        let step = round.step(values[start]);
        let stop = start + values[start..end].iter().take_while(|&&x| round.step(x) == step).count().max(1);
        let spread = sum(&counts[start..stop]) / (stop - start) as f64 / inside;
        for (i, &count) in (start..stop).zip(&counts[start..stop]) {
            let outliers = if i == first { below } else { 0.0 } + if i + 1 == end { above } else { 0.0 };
            let p = (count as f64 + outliers) / total;
            divergence += p * (p / spread).ln();
        }
        start = stop;
    }
    divergence
}

/// An encoding in the form in which rounding is one line.
struct Rounded {
    scale: f32,
    low: f32,
    high: f32,
}

impl Rounded {
    fn new(grid: Grid, range: Range) -> Self {
        let encoding = grid.encode(range);
        let zero = encoding.zero_point[0];
        let low = (grid.lowest(&encoding) - zero) as f32;
        Self { scale: encoding.scale[0], low, high: (encoding.qmax() - zero) as f32 }
    }

    /// Steps from the zero point.
    fn step(&self, x: f32) -> f32 {
        (x / self.scale).clamp(self.low, self.high).round_ties_even()
    }
}
