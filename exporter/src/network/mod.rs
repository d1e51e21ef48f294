//! The one in-memory form of a network between training and deployment.
//!
//! *Enters*: what the trainer built, or what the ONNX reader read. *Leaves*: the same network, refined by passes:
//! `fold` removes BatchNorm, `calibrate` gives every activation an [`Encoding`], `quantize` gives every convolution and
//! dense layer its integers; then the ONNX and flash-image writers read it. *Refused* by [`Network::check`]: cycles,
//! shapes that do not fit, values that are not finite, tensors without a producer.
//!
//! Letters: `N` batch (always left out here: everything is per image), `C` channels, `H` height, `W` width, `K` output
//! channels, `R` kernel height, `S` kernel width. Activations are `C H W`; convolution weights `K C/groups R S`; dense
//! weights `K C`. All as in ONNX.

mod check;
mod encoding;
mod function;
mod limit;
mod op;
mod shape;
mod topology;

pub use check::NetworkError;
pub use encoding::Encoding;
pub use function::Function;
pub use op::{BatchNorm, Conv2d, Dense, Integers, Op, Pool, Window};
pub use shape::Shape;
pub use topology::Fused;

use crate::quantize::Weights;
use serde::{Deserialize, Serialize};

/// Index into [`Network::tensors`].
pub type TensorId = usize;
/// Index into [`Network::nodes`].
pub type NodeId = usize;

/// An activation: a value that flows between nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Unique, not empty; used in ONNX files and in every message.
    pub name: String,
    /// `C H W` of one image; a vector of `n` features is `n 1 1`.
    pub shape: Shape,
    /// How the tensor is stored in integers; `None` until calibrated, and for tensors that exist only inside a fused
    /// group (see [`Network::fused`]).
    pub encoding: Option<Encoding>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique, not empty; used in ONNX files and in every message.
    pub name: String,
    /// What it computes, with its parameters.
    pub op: Op,
    /// The activations it reads, in ONNX order.
    pub inputs: Vec<TensorId>,
    /// The one activation it writes.
    pub output: TensorId,
}

/// How pixels become the values of the input tensor: `x = (pixel / 255 - mean[c]) / std[c]`, pixel in `0..=255`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Mean of each channel, of pixels scaled to `0..=1`; as many as the input has channels.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, of pixels scaled to `0..=1`; positive.
    pub std: Vec<f32>,
}

/// A feed-forward network for one image at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// For people and file names.
    pub name: String,
    /// Every activation.
    pub tensors: Vec<Tensor>,
    /// In topological order: a node reads only the input and what earlier nodes wrote.
    pub nodes: Vec<Node>,
    /// The image.
    pub input: TensorId,
    /// The logits.
    pub output: TensorId,
    /// From pixels to the input tensor. Channel order is RGB.
    pub preprocessing: Preprocessing,
    /// Class names; empty, or one for each logit.
    pub labels: Vec<String>,
    /// The form of the weights that training had in the loop; `None` where it had none. As the encodings of the activations,
    /// it is what quantization takes unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<Weights>,
}

impl Network {
    /// A network that so far has only its input.
    pub fn new(name: impl Into<String>, input: Shape, preprocessing: Preprocessing, labels: Vec<String>) -> Self {
        let tensor = Tensor { name: "input".into(), shape: input, encoding: None };
        let (name, tensors, nodes) = (name.into(), vec![tensor], Vec::new());
        Self { name, tensors, nodes, input: 0, output: 0, preprocessing, labels, trained: None }
    }

    /// Appends a node, derives its output shape and makes its output the network's output.
    ///
    /// # Errors
    /// [`NetworkError`] when the inputs do not fit the op.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[TensorId]) -> Result<TensorId, NetworkError> {
        let name = name.into();
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.tensors[i].shape).collect();
        let shape = op.output_shape(&shapes).map_err(|reason| NetworkError::Node { node: name.clone(), reason })?;
        let output = self.tensors.len();
        self.tensors.push(Tensor { name: format!("{name}_output"), shape, encoding: None });
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        self.output = output;
        Ok(output)
    }

    /// Multiply-accumulates of one image, over convolutions and dense layers.
    pub fn macs(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| match &node.op {
                Op::Conv2d(conv) => {
                    let out = self.tensors[node.output].shape;
                    out.len() as u64 * (conv.weight.len() / out.c) as u64
                }
                Op::Dense(dense) => dense.weight.len() as u64,
                _ => 0,
            })
            .sum()
    }

    /// Trainable parameters: weights, biases, and scale and shift of BatchNorm.
    pub fn parameters(&self) -> u64 {
        self.nodes.iter().map(|node| node.op.parameters() as u64).sum()
    }
}
