//! What quantization saves. Enters: a quantized network. Leaves: bytes of each layer's parameters and of each activation,
//! as floats and as integers. Refuses nothing: what has no integers counts as floats in both columns.

use serde::Serialize;

use crate::network::{Conv2d, Dense, Integers, Network, Op};

/// Bytes of one layer's parameters or of one activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Name of the node or tensor.
    pub name: String,
    /// As f32.
    pub float: u64,
    /// As integers: packed weights, with each output channel's row starting on a byte, i32 bias, and a scale (4 bytes) and
    /// zero point (one byte) for each pair of the encoding; activations one byte an element.
    pub integer: u64,
}

/// Bytes of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// One for each convolution and dense layer, in order.
    pub layers: Vec<Size>,
    /// One for each tensor that exists in integers, in order.
    pub activations: Vec<Size>,
}

impl Sizes {
    /// Sum over the layers: float, integer.
    pub fn parameters(&self) -> (u64, u64) {
        self.layers.iter().fold((0, 0), |(float, integer), size| (float + size.float, integer + size.integer))
    }
}

/// Counts the bytes.
pub fn sizes(network: &Network) -> Sizes {
    let layer = |node: &crate::network::Node| match &node.op {
        Op::Conv2d(Conv2d { weight, bias, out_channels: k, integers, .. })
        | Op::Dense(Dense { weight, bias, out_features: k, integers }) => {
            let float = 4 * (weight.len() + bias.as_ref().map_or(0, Vec::len)) as u64;
            let integer = integers.as_ref().map_or(float, |integers| packed(integers, *k));
            Some(Size { name: node.name.clone(), float, integer })
        }
        _ => None,
    };
    let activation = |id: usize| {
        let tensor = &network.tensors[id];
        let float = 4 * tensor.shape.len() as u64;
        let integer = if tensor.encoding.is_some() { tensor.shape.len() as u64 } else { float };
        Size { name: tensor.name.clone(), float, integer }
    };
    Sizes {
        layers: network.nodes.iter().filter_map(layer).collect(),
        activations: network.integer_tensors().into_iter().map(activation).collect(),
    }
}

fn packed(integers: &Integers, channels: usize) -> u64 {
    at_width(integers.weight.len(), channels, integers.encoding.scale.len(), integers.encoding.bits)
}

/// [`Size::integer`] of a layer with so many weights, output channels, and scales, with weights of `bits`.
pub fn at_width(weights: usize, channels: usize, scales: usize, bits: u8) -> u64 {
    let row_bits = weights / channels * usize::from(bits);
    (channels * row_bits.div_ceil(8) + 4 * channels + 5 * scales) as u64
}
