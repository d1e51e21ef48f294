//! Which layer suffers from quantization, and which width each should get.
//!
//! *Enters*: a quantized network that still has its float weights, and images (labels where accuracy is wanted).
//! *Leaves*: for each part of it, what quantizing that part alone does to the outputs ([`alone`]); and from the same
//! measure for several widths, the order in which layers are best made narrower ([`Widths`]). *Refused*: what the executor
//! and [`crate::quantize`] refuse.

#[cfg(test)]
mod tests;
mod widths;

use serde::Serialize;

use crate::execute::{ExecuteError, Executor, Mode, largest};
use crate::network::{Network, NodeId, Op, TensorId};
use crate::quantize::QuantizeError;

pub use widths::{LayerWidths, Step, Widths, first_that};

/// Why sensitivity cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum SensitivityError {
    /// The network cannot be run.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// A layer cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Images and labels do not fit.
    #[error("{labels} labels for {images} images")]
    Labels {
        /// Labels given.
        labels: usize,
        /// Images given.
        images: usize,
    },
}

/// How far outputs are from those of the float network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Mean squared difference of the outputs (the paper's QMSE).
    pub qmse: f64,
    /// Mean over the images of the cross entropy between the softmax of the float outputs and that of these (the paper's
    /// QCE), in nats.
    pub qce: f64,
    /// Images whose largest output is another one.
    pub flips: usize,
    /// Images whose largest output is the label's; `None` without labels.
    pub correct: Option<usize>,
}

/// What quantizing one part of the network does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// Name of the node, or of the network's input.
    pub place: String,
    /// ONNX operator; `input` for the input.
    pub op: &'static str,
    /// Of its weights, if it has any.
    pub weight_bits: Option<u8>,
    /// Of what it writes.
    pub activation_bits: Option<u8>,
    /// Its weights.
    pub weights: usize,
    /// Against the network in floats.
    pub effect: Effect,
}

/// A reference to compare with: the outputs of the float network.
pub struct Reference<'a> {
    logits: Vec<f32>,
    classes: usize,
    images: &'a [u8],
    labels: Option<&'a [u16]>,
}

impl<'a> Reference<'a> {
    /// Runs the network in floats. `images` is `N H W C`, `labels` one for each image.
    ///
    /// # Errors
    /// [`SensitivityError`].
    pub fn new(network: &Network, images: &'a [u8], labels: Option<&'a [u16]>) -> Result<Self, SensitivityError> {
        let logits = Executor::new(network, Mode::Float)?.logits(images)?;
        let classes = network.tensors[network.output].shape.len();
        let count = logits.len() / classes;
        match labels {
            Some(labels) if labels.len() != count => {
                Err(SensitivityError::Labels { labels: labels.len(), images: count })
            }
            _ => Ok(Self { logits, classes, images, labels }),
        }
    }

    /// The effect of what a network has in encodings and integers, the rest being float.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub fn effect(&self, network: &Network) -> Result<Effect, ExecuteError> {
        Ok(self.compare(&Executor::new(network, Mode::Partial)?.logits(self.images)?))
    }

    /// Of the float network itself.
    pub fn float(&self) -> Effect {
        self.compare(&self.logits)
    }

    /// Images compared.
    pub fn images(&self) -> usize {
        self.logits.len() / self.classes
    }

    fn compare(&self, logits: &[f32]) -> Effect {
        let rows = || self.logits.chunks_exact(self.classes).zip(logits.chunks_exact(self.classes));
        let squares: f64 = self.logits.iter().zip(logits).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        let answers = || rows().map(|(_, row)| largest(row));
        Effect {
            qmse: squares / logits.len().max(1) as f64,
            qce: rows().map(|(a, b)| cross_entropy(a, b)).sum::<f64>() / self.images().max(1) as f64,
            flips: rows().filter(|(a, b)| largest(a) != largest(b)).count(),
            correct: self
                .labels
                .map(|labels| answers().zip(labels).filter(|(answer, label)| *answer == usize::from(**label)).count()),
        }
    }
}

/// Cross entropy between the softmax of `expected` and that of `found`.
fn cross_entropy(expected: &[f32], found: &[f32]) -> f64 {
    let log_sum = |row: &[f32]| {
        let most = row.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(f64::from(x)));
        most + row.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>().ln()
    };
    let (a, b) = (log_sum(expected), log_sum(found));
    expected.iter().zip(found).map(|(&x, &y)| (f64::from(x) - a).exp() * (b - f64::from(y))).sum()
}

/// Each part of a quantized network on its own: its weights and what it writes are quantized, everything else is float.
/// In the order of the network, the input first; parts that only pass on what they read are left out. `progress` is called
/// after each.
///
/// # Errors
/// [`SensitivityError`].
pub fn alone(
    quantized: &Network,
    reference: &Reference,
    progress: impl Fn(),
) -> Result<Vec<Sensitivity>, SensitivityError> {
    let bits = |id: TensorId| quantized.tensors[id].encoding.as_ref().map(|encoding| encoding.bits);
    let name = &quantized.tensors[quantized.input].name;
    let mut found = vec![Sensitivity {
        place: name.clone(),
        op: "input",
        weight_bits: None,
        activation_bits: bits(quantized.input),
        weights: 0,
        effect: reference.effect(&only(quantized, None, Some(quantized.input)))?,
    }];
    progress();
    for group in quantized.fused() {
        let head = &quantized.nodes[group.head];
        if head.op.keeps_encoding() {
            continue;
        }
        let integers = match &head.op {
            Op::Conv2d(conv) => conv.integers.as_ref(),
            Op::Dense(dense) => dense.integers.as_ref(),
            _ => None,
        };
        found.push(Sensitivity {
            place: head.name.clone(),
            op: head.op.name(),
            weight_bits: integers.map(|integers| integers.encoding.bits),
            activation_bits: bits(group.output),
            weights: integers.map_or(0, |integers| integers.weight.len()),
            effect: reference.effect(&only(quantized, Some(group.head), Some(group.output)))?,
        });
        progress();
    }
    Ok(found)
}

/// The network with integers in one node and an encoding on one tensor, and none elsewhere.
fn only(network: &Network, node: Option<NodeId>, tensor: Option<TensorId>) -> Network {
    let mut only = network.clone();
    for (_, other) in only.nodes.iter_mut().enumerate().filter(|(id, _)| Some(*id) != node) {
        match &mut other.op {
            Op::Conv2d(conv) => conv.integers = None,
            Op::Dense(dense) => dense.integers = None,
            _ => {}
        }
    }
    for (_, other) in only.tensors.iter_mut().enumerate().filter(|(id, _)| Some(*id) != tensor) {
        other.encoding = None;
    }
    only
}
