//! Do the integers stay in range? Enters: a quantized network, from `quantize` or from a file. Leaves: nothing, or the
//! first op that `docs/arithmetic.md` could not compute, with its name.

use runtime::arith::{accumulator_bound, reach};

use crate::network::{Encoding, Integers, Network, Node, Op};

use super::{QuantizeError, add_multipliers, encoding, mean_multiplier, multiplier, softmax_constants};

/// Checks encodings, integers, accumulators and multipliers of every integer op.
///
/// The accumulator of channel `k` is bounded by what these weights can do: `|bias| + sum |w - zw| * max |x - zx|`.
///
/// # Errors
/// [`QuantizeError`] naming the node.
pub fn check(network: &Network) -> Result<(), QuantizeError> {
    network.check()?;
    if let Some(node) = network.nodes.iter().find(|node| matches!(node.op, Op::BatchNorm(_))) {
        return Err(QuantizeError::BatchNorm { node: node.name.clone() });
    }
    for group in network.fused() {
        let node = &network.nodes[group.head];
        for id in node.inputs.iter().chain([&group.output]) {
            let scale = encoding(network, node, *id)?.scale[0];
            if !scale.is_normal() {
                let reason =
                    format!("tensor `{}` has scale {scale:e}, expected a normal float", network.tensors[*id].name);
                return Err(QuantizeError::Integers { node: node.name.clone(), reason });
            }
        }
        let x = encoding(network, node, node.inputs[0])?;
        let y = encoding(network, node, group.output)?;
        let shape = network.tensors[node.inputs[0]].shape;
        match &node.op {
            Op::Conv2d(conv) => layer(node, conv.integers.as_ref(), conv.weight.len(), conv.out_channels, x, y)?,
            Op::Dense(dense) => layer(node, dense.integers.as_ref(), dense.weight.len(), dense.out_features, x, y)?,
            Op::AveragePool(pool) => mean(node, 1..=pool.window.kernel.iter().product(), x, y)?,
            Op::GlobalAveragePool => mean(node, shape.pixels()..=shape.pixels(), x, y)?,
            Op::Add => {
                let inputs = [x.scale[0], encoding(network, node, node.inputs[1])?.scale[0]];
                let scales = || vec![inputs[0], inputs[1], y.scale[0]];
                add_multipliers(inputs, y.scale[0]).map_err(|value| refuse(node, 0, value, scales()))?;
            }
            Op::Mul => {
                let scales = [x.scale[0], encoding(network, node, node.inputs[1])?.scale[0], y.scale[0]];
                multiplier(scales[0], scales[1], scales[2]).map_err(|value| refuse(node, 0, value, scales.to_vec()))?;
            }
            Op::Softmax => {
                softmax_constants(x, y).map_err(|value| refuse(node, 0, value, vec![x.scale[0], y.scale[0]]))?;
            }
            op if op.keeps_encoding() && x != y => {
                let reason = format!("{} from {x:?} to {y:?}: both must share one encoding", node.op.name());
                return Err(QuantizeError::Integers { node: node.name.clone(), reason });
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse(node: &Node, channel: usize, value: f32, scales: Vec<f32>) -> QuantizeError {
    QuantizeError::Multiplier { node: node.name.clone(), channel, value, scales }
}

/// Largest `|x - zx|` that the encoding can hold.
fn largest(x: &Encoding) -> u32 {
    reach(x.bits, x.signed, x.zero_point[0])
}

fn layer(
    node: &Node,
    integers: Option<&Integers>,
    weights: usize,
    channels: usize,
    x: &Encoding,
    y: &Encoding,
) -> Result<(), QuantizeError> {
    let integers = integers.ok_or_else(|| QuantizeError::NoIntegers { node: node.name.clone() })?;
    shape(integers, weights, channels).map_err(|reason| QuantizeError::Integers { node: node.name.clone(), reason })?;
    for (k, row) in integers.weight.chunks_exact(weights / channels).enumerate() {
        let (scale, zero_point) = integers.encoding.channel(k);
        let centred = row.iter().map(|&w| i32::from(w) - zero_point);
        bound(node, k, accumulator_bound(integers.bias[k], largest(x), centred))?;
        let scales = [x.scale[0], scale, y.scale[0]];
        multiplier(scales[0], scales[1], scales[2]).map_err(|value| refuse(node, k, value, scales.to_vec()))?;
    }
    Ok(())
}

/// Do lengths and values fit? Those from a file may not.
fn shape(integers: &Integers, weights: usize, channels: usize) -> Result<(), String> {
    let e = &integers.encoding;
    let pairs = if e.is_per_channel() { channels } else { 1 };
    if integers.weight.len() != weights || integers.bias.len() != channels {
        let (w, b) = (integers.weight.len(), integers.bias.len());
        return Err(format!("{w} integer weights and {b} biases, expected {weights} and {channels}"));
    }
    if !(2..=8).contains(&e.bits) || e.scale.len() != pairs || e.zero_point.len() != pairs {
        return Err(format!("{e:?} is no encoding of weights with {channels} channels"));
    }
    if !e.scale.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err("a scale of the weights is not positive and finite".into());
    }
    let limits = e.qmin()..=e.qmax();
    if let Some(value) =
        integers.weight.iter().map(|&w| i32::from(w)).chain(e.zero_point.iter().copied()).find(|w| !limits.contains(w))
    {
        return Err(format!("weight or zero point {value} outside {limits:?}"));
    }
    Ok(())
}

fn mean(node: &Node, taps: std::ops::RangeInclusive<usize>, x: &Encoding, y: &Encoding) -> Result<(), QuantizeError> {
    bound(node, 0, *taps.end() as u64 * u64::from(largest(x)))?;
    for n in taps {
        mean_multiplier(x.scale[0], y.scale[0], n)
            .map_err(|value| refuse(node, n, value, vec![x.scale[0], y.scale[0]]))?;
    }
    Ok(())
}

fn bound(node: &Node, channel: usize, reach: u64) -> Result<(), QuantizeError> {
    if reach > i32::MAX as u64 {
        return Err(QuantizeError::Accumulator { node: node.name.clone(), channel, reach });
    }
    Ok(())
}
