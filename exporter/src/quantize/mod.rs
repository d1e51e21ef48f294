//! The integers of every layer.
//!
//! *Enters*: a network without BatchNorm whose activations have encodings, and the form that weights are to have.
//! *Leaves*: the network with [`Integers`] in every convolution and dense layer, checked so that the integer ops of
//! `docs/arithmetic.md` compute them without leaving their ranges ([`check`]). *Refused*, with the node's name: missing
//! encodings, accumulators that could leave i32, multipliers that the contract does not know.
//!
//! Weights that training has quantized already are quantized again, from the floats: same weights, same integers.

mod multiplier;
mod range;
pub mod size;
#[cfg(test)]
mod tests;
mod unfolded;

use serde::{Deserialize, Serialize};

use crate::calibrate::{CalibrateError, Clipping, Grid, range};
use crate::network::{Conv2d, Dense, Encoding, Integers, Network, NetworkError, Node, Op, TensorId};

pub use multiplier::{
    AddMultipliers, SoftmaxConstants, add_multipliers, clamp_limits, function_table, mean_multiplier, multiplier,
    softmax_constants, table,
};
pub use range::check;
pub use unfolded::round_unfolded;

/// Which integers weights become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// Unsigned, one scale and zero point for the layer: the paper's, and what every mobile engine takes.
    AsymmetricPerTensor,
    /// Two's complement, zero point 0, a scale for each output channel; `-2^(bits-1)` is not used.
    SymmetricPerChannel,
    /// Two's complement, zero point 0, one scale for the layer; `-2^(bits-1)` is not used.
    SymmetricPerTensor,
    /// Unsigned, a scale and zero point for each output channel. Few engines take it.
    AsymmetricPerChannel,
    /// Unsigned, one scale and zero point for the layer's weights as they are before BatchNorm is folded, which then
    /// multiplies the scale of each output channel: BatchNorm on the accumulator. Of engines only ONNX Runtime takes it.
    AsymmetricUnfolded,
}

impl Scheme {
    /// Whether every output channel has a scale of its own.
    pub fn is_per_channel(self) -> bool {
        matches!(self, Self::SymmetricPerChannel | Self::AsymmetricPerChannel | Self::AsymmetricUnfolded)
    }

    /// The integers of this width.
    pub fn grid(self, bits: u8) -> Grid {
        let symmetric = matches!(self, Self::SymmetricPerChannel | Self::SymmetricPerTensor);
        Grid { bits, signed: symmetric, symmetric }
    }
}

/// The form of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// 2 to 8.
    pub bits: u8,
    /// Signedness and granularity.
    pub scheme: Scheme,
    /// How ranges are cut off.
    pub clipping: Clipping,
}

/// Why a network cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A width or percentile outside its range.
    #[error("{0}")]
    Parameter(String),
    /// An activation without scale and zero point.
    #[error("node `{node}`: tensor `{tensor}` has no encoding; calibrate the network first")]
    NoEncoding {
        /// The node that reads or writes it.
        node: String,
        /// The tensor's name.
        tensor: String,
    },
    /// A layer without integers.
    #[error("node `{node}` has no integer weights; quantize the network first")]
    NoIntegers {
        /// The node's name.
        node: String,
    },
    /// BatchNorm has no integers.
    #[error("node `{node}` is a BatchNormalization; fold it first")]
    BatchNorm {
        /// The node's name.
        node: String,
    },
    /// An accumulator could overflow.
    #[error("node `{node}`, channel {channel}: the accumulator can reach {reach}, beyond 32 bits")]
    Accumulator {
        /// The node's name.
        node: String,
        /// Output channel.
        channel: usize,
        /// Bound of its magnitude.
        reach: u64,
    },
    /// A multiplier outside what the contract computes exactly.
    #[error(
        "node `{node}`, channel {channel}: multiplier {value:e} from scales {scales:?}, expected a normal float below 2^31"
    )]
    Multiplier {
        /// The node's name.
        node: String,
        /// Output channel, or number of taps of a mean.
        channel: usize,
        /// The multiplier.
        value: f32,
        /// The scales that it is made of: input, weight (if any), output.
        scales: Vec<f32>,
    },
    /// Integers that contradict the rest of the network.
    #[error("node `{node}`: {reason}")]
    Integers {
        /// The node's name.
        node: String,
        /// Found and expected.
        reason: String,
    },
}

/// Gives every convolution and dense layer its integers and checks the result ([`check`]).
///
/// # Errors
/// [`QuantizeError`] naming the node.
pub fn quantize(network: Network, weights: Weights) -> Result<Network, QuantizeError> {
    quantize_each(network, |_| weights)
}

/// The same with a form of the weights for each convolution and dense layer.
///
/// # Errors
/// [`QuantizeError`] naming the node.
pub fn quantize_each(mut network: Network, weights: impl Fn(&Node) -> Weights) -> Result<Network, QuantizeError> {
    network.check()?;
    for group in network.fused() {
        let node = &network.nodes[group.head];
        if !matches!(node.op, Op::Conv2d(_) | Op::Dense(_)) {
            continue;
        }
        let scales =
            [encoding(&network, node, node.inputs[0])?.scale[0], encoding(&network, node, group.output)?.scale[0]];
        let (weights, name) = (weights(node), node.name.clone());
        match &mut network.nodes[group.head].op {
            Op::Conv2d(Conv2d { weight, bias, out_channels: k, integers, .. })
            | Op::Dense(Dense { weight, bias, out_features: k, integers }) => {
                *integers = Some(match (weights.scheme, integers.take()) {
                    (Scheme::AsymmetricUnfolded, Some(rounded)) if rounded.encoding.bits == weights.bits => {
                        unfolded::with_bias(rounded, weight, bias.as_deref(), scales)
                    }
                    (Scheme::AsymmetricUnfolded, _) => {
                        return Err(QuantizeError::Integers {
                            node: name,
                            reason: format!("expected weights rounded to {} bits before folding", weights.bits),
                        });
                    }
                    _ => layer(weight, bias.as_deref(), *k, scales, weights)?,
                });
            }
            _ => unreachable!("matched above"),
        }
    }
    check(&network)?;
    Ok(network)
}

/// The encoding of a tensor that a node reads or writes.
fn encoding<'n>(network: &'n Network, node: &Node, id: TensorId) -> Result<&'n Encoding, QuantizeError> {
    let tensor = &network.tensors[id];
    tensor
        .encoding
        .as_ref()
        .ok_or_else(|| QuantizeError::NoEncoding { node: node.name.clone(), tensor: tensor.name.clone() })
}

/// Weights and bias of one layer with `channels` outputs. `scales` are the input's and the output's.
fn layer(
    weight: &[f32],
    bias: Option<&[f32]>,
    channels: usize,
    scales: [f32; 2],
    weights: Weights,
) -> Result<Integers, QuantizeError> {
    let bias = |k: usize| bias.map_or(0.0, |bias| bias[k]);
    let row = weight.len() / channels;
    let grid = weights.scheme.grid(weights.bits);
    // A layer's weights, or each channel's, with the channels that share a scale.
    let encode = |values: &[f32], channels: std::ops::Range<usize>| -> Result<Encoding, CalibrateError> {
        let (min, max) = range(values, weights.clipping, grid)?;
        let mut encoding = grid.encode((min, max));
        let least = channels.map(|k| least_scale(bias(k), scales)).fold(0.0, f32::max);
        // All zero: any scale will do, and the least one keeps most of the bias.
        let own = if min == 0.0 && max == 0.0 { 0.0 } else { encoding.scale[0] };
        encoding.scale[0] = own.max(least);
        Ok(encoding)
    };
    let parameter = |e: CalibrateError| QuantizeError::Parameter(e.to_string());
    let encoding = if weights.scheme.is_per_channel() {
        let rows = weight.chunks_exact(row).enumerate().map(|(k, row)| encode(row, k..k + 1));
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(parameter)?;
        let (scale, zero_point) = rows.iter().map(|e| (e.scale[0], e.zero_point[0])).unzip();
        Encoding { bits: weights.bits, signed: grid.signed, scale, zero_point }
    } else {
        encode(weight, 0..channels).map_err(parameter)?
    };
    let lowest = grid.lowest(&encoding);
    let mut quantized = Vec::with_capacity(weight.len());
    for (k, row) in weight.chunks_exact(row).enumerate() {
        quantized.extend(row.iter().map(|&w| encoding.quantize(k, w).max(lowest) as i16));
    }
    Ok(Integers {
        weight: quantized,
        bias: (0..channels).map(|k| integer_bias(bias(k), scales[0], encoding.channel(k).0)).collect(),
        encoding,
    })
}

/// In steps of `f32(input * weight)` scale.
fn integer_bias(bias: f32, input: f32, weight: f32) -> i32 {
    // The cast saturates.
    (f64::from(bias) / f64::from(input * weight)).round_ties_even() as i32
}

/// Gives integer biases to float biases that have changed; weights and encodings stay. Layers without integers stay so.
///
/// # Errors
/// [`QuantizeError`] naming the node.
pub fn update_biases(mut network: Network) -> Result<Network, QuantizeError> {
    for id in 0..network.nodes.len() {
        let node = &network.nodes[id];
        let is_layer = matches!(node.op, Op::Conv2d(_) | Op::Dense(_));
        let input = if is_layer { encoding(&network, node, node.inputs[0])?.scale[0] } else { continue };
        if let Op::Conv2d(Conv2d { bias, integers: Some(integers), .. })
        | Op::Dense(Dense { bias, integers: Some(integers), .. }) = &mut network.nodes[id].op
        {
            let Integers { encoding, bias: stored, .. } = integers;
            for (k, stored) in stored.iter_mut().enumerate() {
                *stored = integer_bias(bias.as_ref().map_or(0.0, |bias| bias[k]), input, encoding.channel(k).0);
            }
        }
    }
    check(&network)?;
    Ok(network)
}

/// The least weight scale with which the bias, in steps of `input * weight` scale, stays within `2^30`, and a multiplier
/// `input * weight / output` is at least `2^-40`, below which no 32-bit accumulator moves the output by a step. Only
/// layers or channels that are (almost) dead come below it; without it their bias would leave i32.
fn least_scale(bias: f32, [input, output]: [f32; 2]) -> f32 {
    let (bias, input, output) = (f64::from(bias.abs()), f64::from(input), f64::from(output));
    (bias / (input * f64::from(1 << 30))).max(output / (input * (1u64 << 40) as f64)) as f32
}
