//! Who reads what, and which nodes become one integer op. Enters: a checked network. Leaves: consumers and fused groups.

use super::{Network, NodeId, Op, TensorId};

/// Nodes that one integer op computes together: a head (convolution, dense, add, pool, ...) and what is fused behind it
/// (BatchNorm, then Clamp). Only the tensor that the last node writes exists in integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The op that computes.
    pub head: NodeId,
    /// The BatchNorm right behind it, until it is folded.
    pub batch_norm: Option<NodeId>,
    /// The Clamp at the end.
    pub clamp: Option<NodeId>,
    /// What the group writes: the one tensor of the group that has an encoding.
    pub output: TensorId,
}

impl Network {
    /// The nodes that read each tensor.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.tensors.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                consumers[input].push(id);
            }
        }
        consumers
    }

    /// The node that writes each tensor; `None` for the input.
    pub fn producers(&self) -> Vec<Option<NodeId>> {
        let mut producers = vec![None; self.tensors.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            producers[node.output] = Some(id);
        }
        producers
    }

    /// The tensors that exist in integers: the input, then what each fused group writes, in order.
    pub fn integer_tensors(&self) -> Vec<TensorId> {
        std::iter::once(self.input).chain(self.fused().into_iter().map(|group| group.output)).collect()
    }

    /// The integer ops, in order. BatchNorm joins a convolution or dense layer that nobody else reads; a Clamp joins any
    /// head but MaxPool, Pad, Flatten, Concat and Softmax under the same condition, unless the tensor between them has an encoding of its
    /// own (imported files may quantize there). What joins nothing is a group of its own.
    pub fn fused(&self) -> Vec<Fused> {
        let consumers = self.consumers();
        let only_reader = |tensor: TensorId| match consumers[tensor][..] {
            [one] if tensor != self.output => Some(one),
            _ => None,
        };
        let mut taken = vec![false; self.nodes.len()];
        let mut groups = Vec::new();
        for (id, node) in self.nodes.iter().enumerate() {
            if taken[id] {
                continue;
            }
            let mut group = Fused { head: id, batch_norm: None, clamp: None, output: node.output };
            if matches!(node.op, Op::Conv2d(_) | Op::Dense(_))
                && let Some(next) = only_reader(group.output)
                && matches!(self.nodes[next].op, Op::BatchNorm(_))
            {
                (group.batch_norm, group.output, taken[next]) = (Some(next), self.nodes[next].output, true);
            }
            let alone = matches!(
                node.op,
                Op::MaxPool(_) | Op::Pad { .. } | Op::Flatten | Op::Concat | Op::Softmax | Op::Clamp { .. }
            );
            if !alone
                && self.tensors[group.output].encoding.is_none()
                && let Some(next) = only_reader(group.output)
                && matches!(self.nodes[next].op, Op::Clamp { .. })
            {
                (group.clamp, group.output, taken[next]) = (Some(next), self.nodes[next].output, true);
            }
            groups.push(group);
        }
        groups
    }
}
