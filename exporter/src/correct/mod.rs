//! Bias correction.
//!
//! *Enters*: a quantized network that still has its float weights, and images. *Leaves*: the same network with biases
//! that take back what quantization added to each output channel on average ([`correct`]), and how much that was.
//! *Refused*: what the executor refuses.
//!
//! Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019), section 4.2, in its
//! empirical form (appendix D): layer by layer from the input on, the mean of a channel in the simulated network, whose
//! layers before it are corrected already, is brought to its mean in the float network.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::execute::{ExecuteError, Executor, Mode, Workspace};
use crate::network::{Conv2d, Dense, Network, NodeId, Op};
use crate::quantize::{QuantizeError, update_biases};

/// Why biases cannot be corrected.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    /// It cannot be run.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// It cannot be quantized with the new biases.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
}

/// What happened to one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correction {
    /// The layer's name.
    pub node: String,
    /// Largest amount that a bias moved by.
    pub largest: f32,
    /// Mean over the channels of the amount.
    pub mean: f32,
}

/// Corrects the biases of every layer; integer weights stay. Afterwards the network's float biases are the corrected ones:
/// it is no longer the float network. `progress` is called after each layer.
///
/// # Errors
/// [`CorrectError`].
pub fn correct(
    mut network: Network,
    images: &[u8],
    progress: impl Fn(),
) -> Result<(Network, Vec<Correction>), CorrectError> {
    let layers: Vec<NodeId> =
        (0..network.nodes.len()).filter(|&id| matches!(network.nodes[id].op, Op::Conv2d(_) | Op::Dense(_))).collect();
    let expected = means(&Executor::new(&network, Mode::Float)?, images, &layers)?;
    let mut corrections = Vec::with_capacity(layers.len());
    for (&layer, expected) in layers.iter().zip(expected) {
        let found = means(&Executor::new(&network, Mode::Simulated)?, images, &[layer])?.remove(0);
        let amounts: Vec<f32> = expected.iter().zip(&found).map(|(e, f)| (e - f) as f32).collect();
        let node = &mut network.nodes[layer];
        if let Op::Conv2d(Conv2d { bias, .. }) | Op::Dense(Dense { bias, .. }) = &mut node.op {
            let bias = bias.get_or_insert_with(|| vec![0.0; amounts.len()]);
            bias.iter_mut().zip(&amounts).for_each(|(bias, amount)| *bias += amount);
        }
        corrections.push(Correction {
            node: node.name.clone(),
            largest: amounts.iter().fold(0.0, |most, amount| most.max(amount.abs())),
            mean: amounts.iter().map(|amount| amount.abs()).sum::<f32>() / amounts.len().max(1) as f32,
        });
        progress();
    }
    Ok((update_biases(network)?, corrections))
}

/// Mean of each output channel of some layers, before the clamp that is fused behind them.
fn means(executor: &Executor, images: &[u8], layers: &[NodeId]) -> Result<Vec<Vec<f64>>, ExecuteError> {
    // Sums in steps of 2^-40, so that they do not depend on their order.
    const STEP: f64 = (1u64 << 40) as f64;
    let network = executor.network();
    let shape = |layer: NodeId| network.tensors[network.nodes[layer].output].shape;
    let start = || layers.iter().map(|&layer| vec![0i128; shape(layer).c]).collect::<Vec<_>>();
    let step = |sums: &mut Vec<Vec<i128>>, _: usize, workspace: &Workspace| {
        for (sums, &layer) in sums.iter_mut().zip(layers) {
            let planes = workspace.tensor(network.nodes[layer].output).chunks_exact(shape(layer).pixels());
            for (sum, plane) in sums.iter_mut().zip(planes) {
                *sum += (plane.iter().map(|&x| f64::from(x)).sum::<f64>() * STEP) as i128;
            }
        }
        Ok::<_, ExecuteError>(())
    };
    let merge = |mut a: Vec<Vec<i128>>, b: Vec<Vec<i128>>| {
        a.iter_mut().flatten().zip(b.iter().flatten()).for_each(|(a, b)| *a += b);
        a
    };
    let sums = executor.fold(images, start, step, merge)?;
    let count = images.len() / network.tensors[network.input].shape.len();
    let mean = |(sums, &layer): (Vec<i128>, &NodeId)| {
        let values = (count * shape(layer).pixels()) as f64;
        sums.into_iter().map(|sum| sum as f64 / STEP / values).collect()
    };
    Ok(sums.into_iter().zip(layers).map(mean).collect())
}
