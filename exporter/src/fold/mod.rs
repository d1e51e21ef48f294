//! BatchNorm folded into the layer before it, padding into the convolutions behind it, and Clamps in a row into one.
//!
//! *Enters*: a network as trained. *Leaves*: the same function without BatchNorm ([`fold`]), and what folding changed on
//! given images ([`compare`]), which is rounding of floats and nothing else. A BatchNorm that does not stand right behind a
//! convolution or dense layer whose output nobody else reads becomes preprocessing, if it reads the image, or a convolution
//! of one pixel, channel by channel. *Refused*: parameters that leave float range. Clamps stay apart where the tensor
//! between them is read elsewhere or has an encoding of its own.
//!
//! With `f = gamma / sqrt(variance + epsilon)` for each channel: `w' = w * f` and `b' = (b - mean) * f + beta`, computed
//! in f64 and rounded once.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::execute::{ExecuteError, Executor, Mode, largest};
use crate::network::{BatchNorm, Conv2d, Dense, Network, NetworkError, Node, NodeId, Op, Preprocessing, Window};

/// Why BatchNorm cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
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
/// that a layer had stay, with a scale for each output channel (their biases do not follow). Of Clamps in a row one is left.
///
/// # Errors
/// [`FoldError`] naming the BatchNorm.
pub fn fold(network: &Network) -> Result<Network, FoldError> {
    network.check()?;
    let (consumers, mut producers) = (network.consumers(), network.producers());
    let mut folded = network.clone();
    let mut gone = vec![false; network.nodes.len()];
    for (id, node) in network.nodes.iter().enumerate() {
        let Op::BatchNorm(norm) = &node.op else { continue };
        // What folding has made of the input already.
        let input = folded.nodes[id].inputs[0];
        let alone = consumers[node.inputs[0]] == [id] && node.inputs[0] != network.output;
        if input == network.input && alone && into_preprocessing(&mut folded, norm) {
            let readers = folded.nodes.iter_mut().flat_map(|node| &mut node.inputs);
            readers.filter(|read| **read == node.output).for_each(|read| *read = input);
            if folded.output == node.output {
                folded.output = input;
            }
            gone[id] = true;
            continue;
        }
        let is_layer = |before: &NodeId| matches!(folded.nodes[*before].op, Op::Conv2d(_) | Op::Dense(_));
        let Some(before) = producers[input].filter(|before| alone && is_layer(before)) else {
            folded.nodes[id].op = depthwise(norm);
            continue;
        };
        let layer = &network.nodes[before];
        into_layer(&mut folded.nodes[before].op, norm).map_err(|channel| FoldError::Overflow {
            node: node.name.clone(),
            into: layer.name.clone(),
            channel,
        })?;
        folded.nodes[before].output = node.output;
        producers[node.output] = Some(before);
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
    let folded = padding(folded);
    folded.check()?;
    Ok(folded)
}

/// The network with every Pad in the windows behind it, where those are of convolutions only.
pub(crate) fn padding(mut network: Network) -> Network {
    let consumers = network.consumers();
    let mut gone = vec![false; network.nodes.len()];
    for (id, gone) in gone.iter_mut().enumerate() {
        let node = &network.nodes[id];
        let (Op::Pad { padding }, input, output) = (node.op.clone(), node.inputs[0], node.output) else { continue };
        let readers = &consumers[output];
        let all_convolutions = readers.iter().all(|&reader| matches!(network.nodes[reader].op, Op::Conv2d(_)));
        if readers.is_empty() || !all_convolutions || output == network.output {
            continue;
        }
        for &reader in readers {
            network.nodes[reader].inputs[0] = input;
            if let Op::Conv2d(conv) = &mut network.nodes[reader].op {
                conv.window.padding.iter_mut().zip(padding).for_each(|(own, more)| *own += more);
            }
        }
        *gone = true;
    }
    remove(&mut network, &gone);
    network
}

/// Factor and shift of each channel.
fn factors(norm: &BatchNorm) -> impl Iterator<Item = (f64, f64)> {
    (0..norm.gamma.len()).map(|c| {
        let factor = f64::from(norm.gamma[c]) / (f64::from(norm.variance[c]) + f64::from(norm.epsilon)).sqrt();
        (factor, f64::from(norm.beta[c]) - f64::from(norm.mean[c]) * factor)
    })
}

/// Puts a BatchNorm of the image into preprocessing: `(p - mean) / std * factor + shift` is `(p - mean') / std'` with
/// `std' = std / factor` and `mean' = mean - shift * std'`. False where that gives no preprocessing.
fn into_preprocessing(network: &mut Network, norm: &BatchNorm) -> bool {
    let old = &network.preprocessing;
    let pairs = factors(norm).zip(old.mean.iter().zip(&old.std)).map(|((factor, shift), (&mean, &std))| {
        let std = f64::from(std) / factor;
        ((f64::from(mean) - shift * std) as f32, std as f32)
    });
    let (mean, std): (Vec<f32>, Vec<f32>) = pairs.unzip();
    let fits = mean.iter().all(|mean| mean.is_finite()) && std.iter().all(|std| std.is_finite() && *std > 0.0);
    // What training has found for the tensor before is not true of the one behind.
    if !fits || network.tensors[network.input].encoding.is_some() {
        return false;
    }
    network.preprocessing = Preprocessing { mean, std };
    true
}

/// A BatchNorm that nothing can take up, as a convolution of one pixel.
fn depthwise(norm: &BatchNorm) -> Op {
    let channels = norm.gamma.len();
    let (weight, bias) = factors(norm).map(|(factor, shift)| (factor as f32, shift as f32)).unzip();
    Op::Conv2d(Conv2d {
        weight,
        bias: Some(bias),
        out_channels: channels,
        window: Window::square(1, 1, 0),
        groups: channels,
        integers: None,
    })
}

/// Limits of the one Clamp that does what `first` and then `second` do.
pub(crate) fn compose(first: (f32, f32), second: (f32, f32)) -> (f32, f32) {
    let limit = |value: f32| value.max(second.0).min(second.1);
    (limit(first.0), limit(first.1))
}

/// Changes weights and bias of a layer; the channel where that fails, if it does.
fn into_layer(op: &mut Op, norm: &BatchNorm) -> Result<(), usize> {
    let (Op::Conv2d(Conv2d { weight, bias, integers, .. }) | Op::Dense(Dense { weight, bias, integers, .. })) = op
    else {
        unreachable!("the caller has looked")
    };
    let channels = norm.gamma.len();
    integers.iter_mut().for_each(|integers| integers.widen(channels));
    let bias = bias.get_or_insert_with(|| vec![0.0; channels]);
    let row = weight.len() / channels;
    for (k, row) in weight.chunks_exact_mut(row).enumerate() {
        let factor = f64::from(norm.gamma[k]) / (f64::from(norm.variance[k]) + f64::from(norm.epsilon)).sqrt();
        row.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        integers.iter_mut().for_each(|integers| integers.multiply(k, factor));
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
