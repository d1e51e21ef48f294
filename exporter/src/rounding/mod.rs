//! Rounding that looks at what the layer reads.
//!
//! *Enters*: a quantized network that still has its float weights, and images. *Leaves*: the same network with integers that
//! bring each layer's outputs nearer to those of its float weights ([`compensate`]); encodings stay. *Refused*: what the
//! executor refuses.
//!
//! Rounding every weight to its nearest integer is best for the weights, not for the sums they are part of: the error of one
//! weight can make up for another's where their inputs go together. With `H` the inputs' second moments over the images,
//! the error of an output channel is `e' H e` for its rounding errors `e`. Starting from the nearest integers, one weight
//! after the other moves to the integer that is best with all others fixed, until none moves: the error never grows.
//! (Behdin et al., QuantEase, 2023; the measure is that of Optimal Brain Compression and GPTQ.) Layers are done from the input
//! on, each on what the quantized layers before it give.

#[cfg(test)]
mod tests;

use rayon::prelude::*;
use serde::Serialize;

use crate::execute::{ExecuteError, Executor, Mode, Workspace, columns, product};
use crate::network::{Conv2d, Dense, Encoding, Integers, Network, NodeId, Op};
use crate::quantize::{QuantizeError, check};

/// Looks at all weights, at most.
const SWEEPS: usize = 40;
/// Weights of an output channel beyond which a layer keeps its nearest integers: `H` has the square of it.
const MOST: usize = 2304;

/// Why weights cannot be rounded.
#[derive(Debug, thiserror::Error)]
pub enum RoundingError {
    /// The network cannot be run.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The integers leave what the integer ops compute.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
}

/// What happened to one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rounding {
    /// The layer's name.
    pub node: String,
    /// Weights that are no longer at their nearest integer; `None` if the layer has too many weights for each output.
    pub moved: Option<usize>,
    /// Mean squared error of the layer's outputs on its own inputs, with nearest integers and after; variance only if means
    /// were left out.
    pub error: [f64; 2],
}

/// Rounds every layer. With `means_corrected`, errors that are the same for all inputs do not count, because
/// [`crate::correct`] will take them into the bias. `progress` is called after each layer.
///
/// # Errors
/// [`RoundingError`].
pub fn compensate(
    mut network: Network,
    images: &[u8],
    means_corrected: bool,
    progress: impl Fn(),
) -> Result<(Network, Vec<Rounding>), RoundingError> {
    let mut roundings = Vec::new();
    for id in 0..network.nodes.len() {
        let (taps, groups) = match &network.nodes[id].op {
            Op::Conv2d(conv) => (conv.weight.len() / conv.out_channels, conv.groups),
            Op::Dense(dense) => (dense.weight.len() / dense.out_features, 1),
            _ => continue,
        };
        let name = network.nodes[id].name.clone();
        if taps > MOST {
            roundings.push(Rounding { node: name, moved: None, error: [0.0; 2] });
            progress();
            continue;
        }
        let moments = moments(&Executor::new(&network, Mode::Simulated)?, images, id, taps, groups)?;
        let input = network.tensors[network.nodes[id].inputs[0]].encoding.clone();
        let step = input.map_or(1.0, |encoding| f64::from(encoding.scale[0]));
        if let Op::Conv2d(Conv2d { weight, integers: Some(integers), .. })
        | Op::Dense(Dense { weight, integers: Some(integers), .. }) = &mut network.nodes[id].op
        {
            let (moved, error) = round(weight, integers, &moments, groups, means_corrected);
            let error = error.map(|error| error * step * step);
            roundings.push(Rounding { node: name, moved: Some(moved), error });
        }
        progress();
    }
    check(&network)?;
    Ok((network, roundings))
}

/// Sums over all positions of all images of what one layer reads, in steps of its input's encoding.
struct Moments {
    taps: usize,
    positions: f64,
    /// For each group, `taps taps`.
    second: Vec<Vec<i64>>,
    /// For each group, `taps`.
    first: Vec<Vec<i64>>,
}

impl Moments {
    /// Mean of the products of two taps of a group, less that of their means if asked for: row-major.
    fn matrix(&self, group: usize, centred: bool) -> Vec<f64> {
        let (second, first) = (&self.second[group], &self.first[group]);
        let mean = |i: usize| if centred { first[i] as f64 / self.positions } else { 0.0 };
        (0..second.len())
            .map(|i| second[i] as f64 / self.positions - mean(i / self.taps) * mean(i % self.taps))
            .collect()
    }
}

fn moments(
    executor: &Executor,
    images: &[u8],
    layer: NodeId,
    taps: usize,
    groups: usize,
) -> Result<Moments, ExecuteError> {
    let network = executor.network();
    let node = &network.nodes[layer];
    let (input, output) = (network.tensors[node.inputs[0]].shape, network.tensors[node.output].shape);
    let pixels = if matches!(node.op, Op::Conv2d(_)) { output.pixels() } else { 1 };
    // Simulated inputs are whole steps from their zero point: sums of integers, whatever their order.
    let step = network.tensors[node.inputs[0]].encoding.as_ref().map_or(1.0, |encoding| encoding.scale[0]);
    type Sums = (Vec<Vec<i64>>, Vec<Vec<i64>>);
    let start = || -> Sums { (vec![vec![0; taps * taps]; groups], vec![vec![0; taps]; groups]) };
    let add = |(second, first): &mut Sums, _: usize, workspace: &Workspace| {
        let x = workspace.tensor(node.inputs[0]);
        for group in 0..groups {
            let mut rows = match &node.op {
                Op::Conv2d(conv) => columns(conv, input, output, x, group),
                _ => x.to_vec(),
            };
            rows.iter_mut().for_each(|x| *x = (*x / step).round_ties_even());
            let products = product(&rows, pixels);
            second[group].iter_mut().zip(products).for_each(|(sum, x)| *sum += x as i64);
            let sums = rows.chunks_exact(pixels).map(|row| row.iter().map(|&x| x as i64).sum::<i64>());
            first[group].iter_mut().zip(sums).for_each(|(sum, x)| *sum += x);
        }
        Ok::<_, ExecuteError>(())
    };
    let merge = |mut a: Sums, b: Sums| {
        a.0.iter_mut().flatten().zip(b.0.iter().flatten()).for_each(|(a, b)| *a += b);
        a.1.iter_mut().flatten().zip(b.1.iter().flatten()).for_each(|(a, b)| *a += b);
        a
    };
    let (second, first) = executor.fold(images, start, add, merge)?;
    let count = images.len() / network.tensors[network.input].shape.len();
    Ok(Moments { taps, positions: (count * pixels) as f64, second, first })
}

/// Rounds all output channels of a layer; how many weights moved, and the mean error before and after.
fn round(
    weight: &[f32],
    integers: &mut Integers,
    moments: &Moments,
    groups: usize,
    centred: bool,
) -> (usize, [f64; 2]) {
    let outputs = integers.bias.len();
    let Integers { encoding, weight: stored, .. } = integers;
    let lowest = lowest(encoding, stored);
    let rows = outputs / groups;
    let per_group = moments.taps * rows;
    let mut sums = (0, [0.0; 2]);
    for (group, stored) in stored.chunks_exact_mut(per_group).enumerate() {
        let matrix = moments.matrix(group, centred);
        let results: Vec<(usize, [f64; 2])> = stored
            .par_chunks_exact_mut(moments.taps)
            .enumerate()
            .map(|(row, stored)| {
                let k = group * rows + row;
                let weight = &weight[k * moments.taps..(k + 1) * moments.taps];
                descend(weight, stored, encoding, k, lowest, &matrix)
            })
            .collect();
        for (moved, error) in results {
            sums.0 += moved;
            sums.1 = [sums.1[0] + error[0], sums.1[1] + error[1]];
        }
    }
    (sums.0, sums.1.map(|error| error / outputs as f64))
}

/// Symmetric weights leave the lowest integer out; those that do not use it are taken for symmetric.
fn lowest(encoding: &Encoding, stored: &[i16]) -> i32 {
    let symmetric = encoding.signed && encoding.zero_point.iter().all(|z| *z == 0);
    let used = stored.iter().any(|&q| i32::from(q) == encoding.qmin());
    encoding.qmin() + i32::from(symmetric && !used)
}

/// One output channel: weights that moved, and `e' H e` before and after.
fn descend(
    weight: &[f32],
    stored: &mut [i16],
    encoding: &Encoding,
    k: usize,
    lowest: i32,
    matrix: &[f64],
) -> (usize, [f64; 2]) {
    let taps = weight.len();
    let (scale, zero_point) = encoding.channel(k);
    let scale = f64::from(scale);
    let nearest = stored.to_vec();
    let real = |q: i32| f64::from(q - zero_point) * scale;
    let mut error: Vec<f64> = stored.iter().zip(weight).map(|(&q, &w)| real(i32::from(q)) - f64::from(w)).collect();
    let row = |i: usize| &matrix[i * taps..(i + 1) * taps];
    let mut slope: Vec<f64> = (0..taps).map(|i| row(i).iter().zip(&error).map(|(h, e)| h * e).sum::<f64>()).collect();
    let total = |error: &[f64], slope: &[f64]| error.iter().zip(slope).map(|(e, g)| e * g).sum::<f64>();
    let before = total(&error, &slope);
    for _ in 0..SWEEPS {
        let mut still = true;
        for i in 0..taps {
            let curvature = row(i)[i];
            if curvature <= 0.0 {
                continue;
            }
            let best = f64::from(weight[i]) + error[i] - slope[i] / curvature;
            let q = ((best / scale).round_ties_even() as i32).saturating_add(zero_point);
            let q = q.clamp(lowest, encoding.qmax());
            if q == i32::from(stored[i]) {
                continue;
            }
            let change = real(q) - real(i32::from(stored[i]));
            // Only what is better by more than the rounding of these sums.
            let gain = -change * (2.0 * slope[i] + change * curvature);
            if gain <= 1e-12 * before.abs() {
                continue;
            }
            stored[i] = q as i16;
            error[i] += change;
            slope.iter_mut().zip(row(i)).for_each(|(g, h)| *g += change * h);
            still = false;
        }
        if still {
            break;
        }
    }
    let moved = stored.iter().zip(&nearest).filter(|(a, b)| a != b).count();
    (moved, [before, total(&error, &slope)])
}
