//! Ranges of activations. Enters: a network and images. Leaves: one range for each integer tensor. Refuses: values that
//! are not finite.
//!
//! All but min/max take two passes: the first finds the limits, the second counts values in [`BINS`] equal bins between
//! them. Counts are integers, so that the result does not depend on who counted first; a percentile is exact to a bin,
//! that is 1/64 of a step of an 8-bit encoding.

use crate::execute::{Executor, Mode, Workspace};
use crate::network::{Network, TensorId};

use super::range::{Grid, Range, check_percentiles, of_histogram};
use super::{CalibrateError, Clipping};

const BINS: usize = 1 << 14;

/// For each tensor of the network its range, `None` for those that do not exist in integers.
pub(super) fn ranges(
    network: &Network,
    images: &[u8],
    clipping: Clipping,
    grid: Grid,
) -> Result<Vec<Option<Range>>, CalibrateError> {
    let executor = Executor::new(network, Mode::Float)?;
    let tensors = executor.integer_tensors();
    let mut found = limits(&executor, images)?;
    if let Clipping::Percentile { low, high } = clipping {
        check_percentiles(low, high)?;
    }
    if clipping != Clipping::MinMax {
        let counts = count(&executor, images, &found)?;
        found = found.into_iter().zip(&counts).map(|(range, c)| of_histogram(range, c, clipping, grid)).collect();
    }
    let mut ranges = vec![None; network.tensors.len()];
    for (&id, range) in tensors.iter().zip(found) {
        ranges[id] = Some(range);
    }
    ranges[network.input] = Some(input_range(network));
    Ok(ranges)
}

/// Smallest and largest value of each integer tensor.
fn limits(executor: &Executor, images: &[u8]) -> Result<Vec<Range>, CalibrateError> {
    let tensors = executor.integer_tensors();
    let step = |limits: &mut Vec<Range>, image: usize, workspace: &Workspace| {
        for (&id, range) in tensors.iter().zip(limits) {
            *range = extend(*range, workspace.tensor(id)).map_err(|value| not_finite(executor, id, image, value))?;
        }
        Ok(())
    };
    let merge = |a: Vec<Range>, b: Vec<Range>| a.iter().zip(&b).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1))).collect();
    executor.fold(images, || vec![(f32::INFINITY, f32::NEG_INFINITY); tensors.len()], step, merge)
}

/// The range with these values in it, or the first that is not finite.
fn extend(range: Range, values: &[f32]) -> Result<Range, f32> {
    match values.iter().find(|x| !x.is_finite()) {
        Some(&value) => Err(value),
        None => Ok(values.iter().fold(range, |(min, max), &x| (min.min(x), max.max(x)))),
    }
}

fn not_finite(executor: &Executor, id: TensorId, image: usize, value: f32) -> CalibrateError {
    CalibrateError::NotFinite { tensor: executor.network().tensors[id].name.clone(), image, value }
}

/// How many values of each tensor lie in each bin between its limits.
fn count(executor: &Executor, images: &[u8], limits: &[Range]) -> Result<Vec<Vec<u64>>, CalibrateError> {
    let tensors = executor.integer_tensors();
    let step = |counts: &mut Vec<Vec<u64>>, _: usize, workspace: &Workspace| {
        for ((&id, counts), &(min, max)) in tensors.iter().zip(counts).zip(limits) {
            let factor = if max > min { BINS as f32 / (max - min) } else { 0.0 };
            for &x in workspace.tensor(id) {
                counts[(((x - min) * factor) as usize).min(BINS - 1)] += 1;
            }
        }
        Ok(())
    };
    let merge = |mut a: Vec<Vec<u64>>, b: Vec<Vec<u64>>| {
        a.iter_mut().flatten().zip(b.iter().flatten()).for_each(|(a, b)| *a += b);
        a
    };
    executor.fold(images, || vec![vec![0; BINS]; tensors.len()], step, merge)
}

/// What preprocessing makes of the pixels 0 to 255, over all channels.
fn input_range(network: &Network) -> Range {
    let values = |c| [0, 255].map(|pixel| network.preprocessing.value(c, pixel));
    (0..network.tensors[network.input].shape.c)
        .flat_map(values)
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), x| (min.min(x), max.max(x)))
}
