//! BatchNorm folded into the layer before it, and Clamps in a row into one.
//!
//! *Enters*: a network as trained. *Leaves*: the same function without BatchNorm ([`fold`]), and what folding changed on
//! given images ([`compare`]), which is rounding of floats and nothing else. *Refused*: a BatchNorm that does not stand
//! right behind a convolution or dense layer whose output nobody else reads. Clamps stay apart where the tensor between
//! them is read elsewhere or has an encoding of its own.
//!
//! With `f = gamma / sqrt(variance + epsilon)` for each channel: `w' = w * f` and `b' = (b - mean) * f + beta`, computed
//! in f64 and rounded once.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::execute::{ExecuteError, Executor, Mode, largest};
use crate::network::{BatchNorm, Network, NetworkError, Node, NodeId, Op};

/// Why BatchNorm cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Nothing to fold into.
    #[error("BatchNormalization `{node}` has nothing to fold into: {reason}")]
    Alone {
        /// The BatchNorm's name.
        node: String,
        /// What stands before it, and what should.
        reason: String,
    },
    /// Folding would leave float range.
    #[error("BatchNormalization `{node}`, folded into `{into}`: channel {channel} gets parameters beyond f32")]
    Overflow {
        /// The BatchNorm's name.
        node: String,
        /// The layer's name.
        into: String,
        /// The channel.
        channel: usize,
    },
}

/// The network without BatchNorm. A layer writes what its BatchNorm wrote; the tensor between them is gone. Integers
/// that a folded layer had are dropped, since they were another weight's. Of Clamps in a row one is left.
///
/// # Errors
/// [`FoldError`] naming the BatchNorm.
pub fn fold(network: &Network) -> Result<Network, FoldError> {
    network.check()?;
    let (consumers, producers) = (network.consumers(), network.producers());
    let mut folded = network.clone();
    let mut gone = vec![false; network.nodes.len()];
    for (id, node) in network.nodes.iter().enumerate() {
        let Op::BatchNorm(norm) = &node.op else { continue };
        let input = node.inputs[0];
        let name = &network.tensors[input].name;
        let alone = |reason: String| FoldError::Alone { node: node.name.clone(), reason };
        let Some(before) = producers[input] else {
            return Err(alone(format!("it reads `{name}`, the network's input; expected a Conv or Gemm before it")));
        };
        let layer = &network.nodes[before];
        if !matches!(layer.op, Op::Conv2d(_) | Op::Dense(_)) {
            let found = layer.op.name();
            return Err(alone(format!("it reads the output of `{}`, a {found}; expected a Conv or Gemm", layer.name)));
        }
        if let Some(&other) = consumers[input].iter().find(|&&other| other != id) {
            return Err(alone(format!("`{name}` is also read by `{}`", network.nodes[other].name)));
        }
        if input == network.output {
            return Err(alone(format!("`{name}` is also the network's output")));
        }
        into_layer(&mut folded.nodes[before].op, norm).map_err(|channel| FoldError::Overflow {
            node: node.name.clone(),
            into: layer.name.clone(),
            channel,
        })?;
        folded.nodes[before].output = node.output;
        gone[id] = true;
    }
    for (id, node) in network.nodes.iter().enumerate() {
        let input = node.inputs[0];
        let alone = consumers[input].len() == 1 && input != network.output && network.tensors[input].encoding.is_none();
        if let (&Op::Clamp { min, max }, Some(before), true) = (&node.op, producers[input], alone)
            && let Op::Clamp { min: lower, max: upper } = folded.nodes[before].op
        {
            let (min, max) = compose((lower, upper), (min, max));
            // Limits that leave one value only are not what a Clamp may have.
            if min < max {
                let Node { name, inputs, .. } = folded.nodes[before].clone();
                folded.nodes[id] = Node { name, op: Op::Clamp { min, max }, inputs, output: node.output };
                gone[before] = true;
            }
        }
    }
    remove(&mut folded, &gone);
    folded.check()?;
    Ok(folded)
}

/// Limits of the one Clamp that does what `first` and then `second` do.
pub(crate) fn compose(first: (f32, f32), second: (f32, f32)) -> (f32, f32) {
    let limit = |value: f32| value.max(second.0).min(second.1);
    (limit(first.0), limit(first.1))
}

/// Changes weights and bias of a layer; the channel where that fails, if it does.
fn into_layer(op: &mut Op, norm: &BatchNorm) -> Result<(), usize> {
    let (weight, bias) = match op {
        Op::Conv2d(conv) => {
            conv.integers = None;
            (&mut conv.weight, &mut conv.bias)
        }
        Op::Dense(dense) => {
            dense.integers = None;
            (&mut dense.weight, &mut dense.bias)
        }
        _ => unreachable!("the caller has looked"),
    };
    let channels = norm.gamma.len();
    let bias = bias.get_or_insert_with(|| vec![0.0; channels]);
    let row = weight.len() / channels;
    for (k, row) in weight.chunks_exact_mut(row).enumerate() {
        let factor = f64::from(norm.gamma[k]) / (f64::from(norm.variance[k]) + f64::from(norm.epsilon)).sqrt();
        row.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        bias[k] = ((f64::from(bias[k]) - f64::from(norm.mean[k])) * factor + f64::from(norm.beta[k])) as f32;
        if !bias[k].is_finite() || !row.iter().all(|w| w.is_finite()) {
            return Err(k);
        }
    }
    Ok(())
}

/// Takes out nodes, and the tensors that nobody writes any more.
fn remove(network: &mut Network, gone: &[bool]) {
    let mut id: NodeId = 0;
    network.nodes.retain(|_| {
        id += 1;
        !gone[id - 1]
    });
    let producers = network.producers();
    let mut moved = vec![0; network.tensors.len()];
    let (mut old, mut new) = (0, 0);
    let input = network.input;
    network.tensors.retain(|_| {
        let kept = old == input || producers[old].is_some();
        moved[old] = new;
        new += usize::from(kept);
        old += 1;
        kept
    });
    for node in &mut network.nodes {
        node.inputs.iter_mut().for_each(|input| *input = moved[*input]);
        node.output = moved[node.output];
    }
    (network.input, network.output) = (moved[network.input], moved[network.output]);
}

/// How far the logits of two networks lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Images compared.
    pub images: usize,
    /// Largest `|after - before|` of any logit.
    pub largest: f32,
    /// The same over the largest `|before|` of any logit; 0 if that is 0.
    pub relative: f32,
    /// Images whose largest logit is another one.
    pub flips: usize,
}

/// Runs both networks in floats; `images` is `N H W C`.
///
/// # Errors
/// [`ExecuteError`]: pixels that are not whole images of both networks.
pub fn compare(before: &Network, after: &Network, images: &[u8]) -> Result<Difference, ExecuteError> {
    let logits = |network| Executor::new(network, Mode::Float)?.logits(images);
    let (old, new) = (logits(before)?, logits(after)?);
    let classes = before.tensors[before.output].shape.len();
    let most = old.iter().zip(&new).fold(0.0f32, |most, (a, b)| most.max((b - a).abs()));
    let scale = old.iter().fold(0.0f32, |most, a| most.max(a.abs()));
    let pairs = || old.chunks_exact(classes).zip(new.chunks_exact(classes));
    Ok(Difference {
        images: pairs().count(),
        largest: most,
        relative: if scale > 0.0 { most / scale } else { 0.0 },
        flips: pairs().filter(|(a, b)| largest(a) != largest(b)).count(),
    })
}
