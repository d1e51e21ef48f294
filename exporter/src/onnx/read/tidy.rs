//! What integer Clips become, and last touches. Enters: an imported network, with one Clamp for each Clip of integers.
//! Leaves: the same values with those Clamps part of the op before them, as the exporter makes networks; every name used
//! once. Refuses nothing.

use crate::fold::compose;
use crate::network::{Network, NodeId, Op, TensorId};
use crate::onnx::names::Names;

/// Joins the Clamps `clips` with what they read, where nobody else reads it, and drops the tensors `superseded`, which
/// nobody reads any more.
pub(super) fn tidy(mut network: Network, clips: &[NodeId], superseded: Vec<TensorId>) -> Network {
    let (consumers, producers) = (network.consumers(), network.producers());
    let mut dropped = superseded;
    // The producer of each tensor, as far as clips have been joined to it.
    for &clip in clips {
        let (read, written) = (network.nodes[clip].inputs[0], network.nodes[clip].output);
        let Some(producer) = producers[read] else { continue };
        if consumers[read].len() != 1 || read == network.output {
            continue;
        }
        let Op::Clamp { min, max } = network.nodes[clip].op else { continue };
        let name = network.nodes[clip].name.clone();
        let before = &mut network.nodes[producer];
        match &mut before.op {
            // Limits in steps compose: quantization keeps order.
            Op::Clamp { min: lower, max: upper } => {
                if (*lower, *upper) == (f32::NEG_INFINITY, f32::INFINITY) {
                    before.name = name;
                }
                let limits = compose((*lower, *upper), (min, max));
                // This node takes the place of both: it reads what the first read.
                let inputs = before.inputs.clone();
                let name = before.name.clone();
                network.nodes[clip].op = Op::Clamp { min: limits.0, max: limits.1 };
                network.nodes[clip].inputs = inputs;
                network.nodes[clip].name = name;
                dropped.push(read);
            }
            Op::MaxPool(_) | Op::Pad { .. } | Op::Flatten | Op::Concat | Op::Softmax => {}
            // One fused group, in which only the last tensor exists in integers.
            _ => network.tensors[read].encoding = None,
        }
        debug_assert!(network.tensors[written].encoding.is_some());
    }
    let mut kept = without(network, &dropped);
    let mut names = Names::default();
    for id in [kept.input, kept.output] {
        let name = names.unused(&kept.tensors[id].name);
        kept.tensors[id].name = name;
    }
    for id in (0..kept.tensors.len()).filter(|&id| id != kept.input && id != kept.output) {
        let name = names.unused(&kept.tensors[id].name);
        kept.tensors[id].name = name;
    }
    kept
}

/// The network without some tensors and the nodes that write them, which nobody reads any more.
fn without(network: Network, dropped: &[TensorId]) -> Network {
    if dropped.is_empty() {
        return network;
    }
    let mut keep = vec![true; network.tensors.len()];
    for &tensor in dropped {
        keep[tensor] = false;
    }
    let mut number = 0;
    let renumbered: Vec<TensorId> = keep
        .iter()
        .map(|&kept| {
            number += usize::from(kept);
            number.max(1) - 1
        })
        .collect();
    let Network { name, tensors, nodes, input, output, preprocessing, labels, trained } = network;
    let tensors = tensors.into_iter().zip(&keep).filter(|(_, kept)| **kept).map(|(tensor, _)| tensor).collect();
    let nodes = nodes
        .into_iter()
        .filter(|node| keep[node.output])
        .map(|mut node| {
            node.inputs.iter_mut().for_each(|i| *i = renumbered[*i]);
            node.output = renumbered[node.output];
            node
        })
        .collect();
    let (input, output) = (renumbered[input], renumbered[output]);
    Network { name, tensors, nodes, input, output, preprocessing, labels, trained }
}
