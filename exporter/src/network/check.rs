//! Is it a network at all? Enters: any [`Network`]. Leaves: nothing, or the first fault with the node's or tensor's name.

use super::{Network, Op};

/// Why a network is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A node does not fit its inputs, or holds a value that is not allowed.
    #[error("node `{node}`: {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// Found and expected.
        reason: String,
    },
    /// A tensor is wrong.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// Found and expected.
        reason: String,
    },
    /// The network as a whole is wrong.
    #[error("network `{network}`: {reason}")]
    Network {
        /// The network's name.
        network: String,
        /// Found and expected.
        reason: String,
    },
}

impl Network {
    /// Checks order, shapes, names, encodings and that every parameter is finite.
    ///
    /// # Errors
    /// The first fault found, in node order.
    pub fn check(&self) -> Result<(), NetworkError> {
        let whole = |reason: String| NetworkError::Network { network: self.name.clone(), reason };
        let channels = self.tensors.get(self.input).ok_or_else(|| whole("the input does not exist".into()))?.shape.c;
        let p = &self.preprocessing;
        if p.mean.len() != channels || p.std.len() != channels {
            return Err(whole(format!(
                "{} means and {} deviations for {channels} channels",
                p.mean.len(),
                p.std.len()
            )));
        }
        if !p.mean.iter().all(|v| v.is_finite()) || !p.std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return Err(whole(format!("preprocessing {p:?}: means must be finite, deviations positive")));
        }
        let mut written = vec![false; self.tensors.len()];
        written[self.input] = true;
        let mut names = std::collections::HashSet::new();
        for node in &self.nodes {
            let fault = |reason: String| NetworkError::Node { node: node.name.clone(), reason };
            if node.name.is_empty() || !names.insert(node.name.as_str()) {
                return Err(fault("the name is empty or used twice".into()));
            }
            for &input in &node.inputs {
                if !written.get(input).copied().unwrap_or(false) {
                    return Err(fault(format!("reads tensor {input} before any node has written it")));
                }
            }
            let shapes: Vec<_> = node.inputs.iter().map(|&i| self.tensors[i].shape).collect();
            let shape = node.op.output_shape(&shapes).map_err(&fault)?;
            let output =
                self.tensors.get(node.output).ok_or_else(|| fault("writes a tensor that does not exist".into()))?;
            if std::mem::replace(&mut written[node.output], true) {
                return Err(fault(format!("writes tensor `{}`, which is already written", output.name)));
            }
            if output.shape != shape {
                return Err(fault(format!("output shape: found {}, expected {shape}", output.shape)));
            }
            if let Some((what, index, value)) = not_finite(&node.op) {
                return Err(fault(format!("{what}[{index}] is {value}, expected a finite number")));
            }
        }
        for (tensor, written) in self.tensors.iter().zip(&written) {
            let fault = |reason: String| NetworkError::Tensor { tensor: tensor.name.clone(), reason };
            if !written {
                return Err(fault("no node writes it".into()));
            }
            if tensor.shape.is_empty() {
                return Err(fault(format!("shape {} holds no element", tensor.shape)));
            }
            if let Some(e) = &tensor.encoding {
                let valid = (2..=8).contains(&e.bits) && e.scale.len() == 1 && e.zero_point.len() == 1;
                if !(valid && e.scale[0].is_finite() && e.scale[0] > 0.0) {
                    return Err(fault(format!("{e:?} is no encoding of an activation")));
                }
                if !(e.qmin()..=e.qmax()).contains(&e.zero_point[0]) {
                    return Err(fault(format!("zero point {} outside {}..={}", e.zero_point[0], e.qmin(), e.qmax())));
                }
            }
        }
        if !written.get(self.output).copied().unwrap_or(false) {
            return Err(whole("the output does not exist".into()));
        }
        let classes = self.tensors[self.output].shape.len();
        if !self.labels.is_empty() && self.labels.len() != classes {
            return Err(whole(format!("{} labels for {classes} logits", self.labels.len())));
        }
        Ok(())
    }
}

/// The first parameter that is NaN or infinite.
fn not_finite(op: &Op) -> Option<(&'static str, usize, f32)> {
    if let Op::Function(function) = op {
        let found = function.parameters().into_iter().find(|(_, value)| !value.is_finite());
        return found.map(|(what, value)| (what, 0, value));
    }
    let none = Vec::new();
    let lists: Vec<(&'static str, &Vec<f32>)> = match op {
        Op::Conv2d(conv) => vec![("weight", &conv.weight), ("bias", conv.bias.as_ref().unwrap_or(&none))],
        Op::Dense(dense) => vec![("weight", &dense.weight), ("bias", dense.bias.as_ref().unwrap_or(&none))],
        Op::BatchNorm(norm) => {
            vec![("gamma", &norm.gamma), ("beta", &norm.beta), ("mean", &norm.mean), ("variance", &norm.variance)]
        }
        _ => vec![],
    };
    lists
        .into_iter()
        .find_map(|(what, values)| values.iter().position(|v| !v.is_finite()).map(|index| (what, index, values[index])))
}
