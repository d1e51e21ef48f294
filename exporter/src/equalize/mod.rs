//! Cross-layer equalization.
//!
//! *Enters*: a network in floats without BatchNorm. *Leaves*: the same function, with the weights of neighbouring layers
//! scaled against each other channel by channel, so that one scale for a layer serves all its channels ([`equalize`]).
//! *Refused*: networks with BatchNorm, which must be folded first.
//!
//! Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019), section 4.1. Between
//! two layers whose tensor nobody else reads may stand what commutes with a positive factor for each channel: ReLU, pools,
//! Flatten. A ReLU6 does not, and its pair is left alone. With `r1`, `r2` the largest magnitude of a channel's weights in the first
//! and second layer, the first is divided by `sqrt(r1 / r2)` and the second multiplied by it, pair after pair until nothing
//! moves any more.

#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::Serialize;

use crate::network::{Function, Network, NetworkError, NodeId, Op, Shape, TensorId};

/// Sweeps over all pairs, at most.
const SWEEPS: usize = 50;
/// A sweep whose factors all lie within this of 1 is the last.
const SETTLED: f64 = 1e-3;
/// Largest factor: beyond it a channel is dead, and its noise would be blown up.
const MOST: f64 = 1e4;

/// Why a network cannot be equalized.
#[derive(Debug, thiserror::Error)]
pub enum EqualizeError {
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// BatchNorm would undo it.
    #[error("node `{node}` is a BatchNormalization: fold it before equalizing the network")]
    BatchNorm {
        /// The node's name.
        node: String,
    },
}

/// Two layers that were scaled against each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Name of the layer whose output channels were scaled.
    pub first: String,
    /// Name of the layer whose input channels were scaled.
    pub second: String,
    /// Largest over smallest of the first layer's output channels, by the largest weight of each, before and after;
    /// channels without weights are left out.
    pub spread: [f64; 2],
}

/// Scales every pair. Encodings of the tensors between and integers of the layers are dropped, since they were of other
/// values.
///
/// # Errors
/// [`EqualizeError`].
pub fn equalize(mut network: Network) -> Result<(Network, Vec<Pair>), EqualizeError> {
    network.check()?;
    if let Some(node) = network.nodes.iter().find(|node| matches!(node.op, Op::BatchNorm(_))) {
        return Err(EqualizeError::BatchNorm { node: node.name.clone() });
    }
    let found = pairs(&network);
    let before: Vec<f64> = found.iter().map(|pair| spread(&network.nodes[pair.first].op)).collect();
    for _ in 0..SWEEPS {
        let moved = found.iter().map(|pair| balance(&mut network, pair)).fold(0.0, f64::max);
        if moved < SETTLED {
            break;
        }
    }
    let named = found.iter().zip(before).map(|(pair, before)| {
        for &id in &pair.between {
            network.tensors[id].encoding = None;
        }
        let name = |id: NodeId| network.nodes[id].name.clone();
        let after = spread(&network.nodes[pair.first].op);
        Pair { first: name(pair.first), second: name(pair.second), spread: [before, after] }
    });
    let named = named.collect();
    Ok((network, named))
}

struct Link {
    first: NodeId,
    second: NodeId,
    /// The tensors whose values are scaled.
    between: Vec<TensorId>,
}

/// Layers with nothing between them but what commutes with positive factors.
fn pairs(network: &Network) -> Vec<Link> {
    let consumers = network.consumers();
    let follow = |first: NodeId| {
        let mut between = vec![network.nodes[first].output];
        loop {
            let tensor = *between.last()?;
            let [next] = consumers[tensor][..] else { return None };
            if tensor == network.output {
                return None;
            }
            match network.nodes[next].op {
                Op::Conv2d(_) | Op::Dense(_) => return Some(Link { first, second: next, between }),
                Op::Clamp { min, max } if (min == 0.0 || min == f32::NEG_INFINITY) && max == f32::INFINITY => {}
                Op::Function(Function::LeakyRelu { .. }) | Op::Pad { .. } => {}
                Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool | Op::Flatten => {}
                _ => return None,
            }
            between.push(network.nodes[next].output);
        }
    };
    (0..network.nodes.len()).filter(|&id| is_layer(&network.nodes[id].op)).filter_map(follow).collect()
}

fn is_layer(op: &Op) -> bool {
    matches!(op, Op::Conv2d(_) | Op::Dense(_))
}

/// Scales one pair; how far its largest factor is from 1, as `|ln|`.
fn balance(network: &mut Network, pair: &Link) -> f64 {
    let channels = outputs(&network.nodes[pair.first].op);
    let input = network.tensors[network.nodes[pair.second].inputs[0]].shape;
    let mut moved = 0.0f64;
    for channel in 0..channels {
        let own = row(&network.nodes[pair.first].op, channel);
        let read = readers(&network.nodes[pair.second].op, input, channel, channels);
        let r1 = largest(weight(&network.nodes[pair.first].op), own.clone());
        let r2 = largest(weight(&network.nodes[pair.second].op), read.iter().copied());
        if r1 == 0.0 || r2 == 0.0 {
            continue;
        }
        let factor = (r1 / r2).sqrt().clamp(1.0 / MOST, MOST);
        let (weight, bias) = parameters(&mut network.nodes[pair.first].op);
        own.for_each(|i| scale(&mut weight[i], 1.0 / factor));
        bias.iter_mut().for_each(|bias| scale(&mut bias[channel], 1.0 / factor));
        let (weight, _) = parameters(&mut network.nodes[pair.second].op);
        read.into_iter().for_each(|i| scale(&mut weight[i], factor));
        moved = moved.max(factor.ln().abs());
    }
    moved
}

fn scale(value: &mut f32, factor: f64) {
    // Stays finite: the larger of the two layers gets smaller, and no factor is beyond `MOST`.
    *value = (f64::from(*value) * factor).clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
}

fn largest(weight: &[f32], indices: impl Iterator<Item = usize>) -> f64 {
    indices.map(|i| f64::from(weight[i].abs())).fold(0.0, f64::max)
}

/// Largest over smallest output channel of a layer.
fn spread(op: &Op) -> f64 {
    let channels = (0..outputs(op)).map(|k| largest(weight(op), row(op, k))).filter(|r| *r > 0.0);
    let (least, most) = channels.fold((f64::INFINITY, 0.0f64), |(a, b), r| (a.min(r), b.max(r)));
    if most > 0.0 { most / least } else { 1.0 }
}

/// Weights of a layer; none of any other op.
fn weight(op: &Op) -> &[f32] {
    match op {
        Op::Conv2d(conv) => &conv.weight,
        Op::Dense(dense) => &dense.weight,
        _ => &[],
    }
}

/// Weights and bias of a layer, whose integers are dropped.
fn parameters(op: &mut Op) -> (&mut Vec<f32>, &mut Option<Vec<f32>>) {
    match op {
        Op::Conv2d(conv) => {
            conv.integers = None;
            (&mut conv.weight, &mut conv.bias)
        }
        Op::Dense(dense) => {
            dense.integers = None;
            (&mut dense.weight, &mut dense.bias)
        }
        _ => unreachable!("pairs are made of layers"),
    }
}

fn outputs(op: &Op) -> usize {
    match op {
        Op::Conv2d(conv) => conv.out_channels,
        Op::Dense(dense) => dense.out_features,
        _ => 0,
    }
}

/// The weights that make output channel `k`.
fn row(op: &Op, k: usize) -> Range<usize> {
    let taps = weight(op).len() / outputs(op);
    k * taps..(k + 1) * taps
}

/// The weights of a layer that read channel `channel` of `channels`; what a layer reads as a vector is an image of so
/// many channels, flattened.
fn readers(op: &Op, input: Shape, channel: usize, channels: usize) -> Vec<usize> {
    match op {
        Op::Conv2d(conv) => {
            let (group_c, group_k) = (input.c / conv.groups, conv.out_channels / conv.groups);
            let taps = conv.window.kernel[0] * conv.window.kernel[1];
            let (group, within) = (channel / group_c, channel % group_c);
            let rows = group * group_k..(group + 1) * group_k;
            rows.flat_map(|k| (k * group_c + within) * taps..(k * group_c + within + 1) * taps).collect()
        }
        Op::Dense(dense) => {
            let (row, pixels) = (input.len(), input.len() / channels);
            (0..dense.out_features).flat_map(|k| k * row + channel * pixels..k * row + (channel + 1) * pixels).collect()
        }
        _ => Vec::new(),
    }
}
