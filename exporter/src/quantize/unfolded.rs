//! Weights that are rounded before BatchNorm is folded into them ([`Scheme::AsymmetricUnfolded`]).
//!
//! *Enters*: a network with its BatchNorms. *Leaves*: the same with integers in every layer, one scale and zero point a
//! tensor, and no BatchNorm with a negative scale, so that folding multiplies the scales of output channels and leaves
//! integers and zero points as they are. *Refused*: widths and percentiles outside their range.
//!
//! [`Scheme::AsymmetricUnfolded`]: super::Scheme::AsymmetricUnfolded

use super::{QuantizeError, Weights, integer_bias, least_scale};
use crate::calibrate::range;
use crate::network::{BatchNorm, Conv2d, Dense, Integers, Network, Op};

/// Rounds the weights of every convolution and dense layer; biases follow once activations have scales.
///
/// # Errors
/// [`QuantizeError`].
pub fn round_unfolded(mut network: Network, weights: Weights) -> Result<Network, QuantizeError> {
    network.check()?;
    let grid = weights.scheme.grid(weights.bits);
    for group in network.fused() {
        let norm = group.batch_norm.and_then(|id| match &network.nodes[id].op {
            Op::BatchNorm(norm) => Some((id, turned(norm))),
            _ => None,
        });
        let (Op::Conv2d(Conv2d { weight, bias, out_channels: k, integers, .. })
        | Op::Dense(Dense { weight, bias, out_features: k, integers })) = &mut network.nodes[group.head].op
        else {
            continue;
        };
        let row = weight.len() / *k;
        for channel in norm.iter().flat_map(|(_, (negative, _))| negative) {
            weight[channel * row..(channel + 1) * row].iter_mut().for_each(|w| *w = -*w);
            bias.iter_mut().for_each(|bias| bias[*channel] = -bias[*channel]);
        }
        let limits = range(weight, weights.clipping, grid).map_err(|e| QuantizeError::Parameter(e.to_string()))?;
        let encoding = grid.encode(limits);
        let rounded: Vec<i16> = weight.iter().map(|&w| encoding.quantize(0, w) as i16).collect();
        weight.iter_mut().zip(&rounded).for_each(|(w, &q)| *w = encoding.dequantize(0, q.into()));
        *integers = Some(Integers { bias: vec![0; *k], weight: rounded, encoding });
        if let Some((id, (_, norm))) = norm {
            network.nodes[id].op = Op::BatchNorm(norm);
        }
    }
    Ok(network)
}

/// The integers of a folded layer with their biases. A channel whose scale BatchNorm has made too small for its bias gets the
/// least scale that holds it, and the integers next to its weights there; it is (almost) dead. `scales` are the input's and
/// the output's.
pub(super) fn with_bias(mut integers: Integers, weight: &[f32], bias: Option<&[f32]>, scales: [f32; 2]) -> Integers {
    let channels = integers.bias.len();
    let row = weight.len() / channels;
    for k in 0..channels {
        let bias = bias.map_or(0.0, |bias| bias[k]);
        let least = least_scale(bias, scales);
        if integers.encoding.channel(k).0 < least {
            integers.widen(channels);
            integers.encoding.scale[k] = least;
            let of_channel = k * row..(k + 1) * row;
            for (stored, &weight) in integers.weight[of_channel.clone()].iter_mut().zip(&weight[of_channel]) {
                *stored = integers.encoding.quantize(k, weight) as i16;
            }
        }
        integers.bias[k] = integer_bias(bias, scales[0], integers.encoding.channel(k).0);
    }
    integers
}

/// The channels with a negative scale, and the BatchNorm that computes the same once the layer before turns their sign.
fn turned(norm: &BatchNorm) -> (Vec<usize>, BatchNorm) {
    let mut norm = norm.clone();
    let negative: Vec<usize> = (0..norm.gamma.len()).filter(|&c| norm.gamma[c] < 0.0).collect();
    for &c in &negative {
        (norm.gamma[c], norm.mean[c]) = (-norm.gamma[c], -norm.mean[c]);
    }
    (negative, norm)
}
