//! Parameters between a [`Network`] and the device. Enters: either. Leaves: the other. Nothing is refused: the network was
//! checked. Names are those of the checkpoint: `<node>.weight`, `.bias`, `.gamma`, `.beta`.

use burn::tensor::{Device, Tensor, TensorData};
use exporter::network::{Network, Op};

/// What a parameter is, which decides whether weight decay applies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of a convolution or dense layer.
    Weight,
    /// Of a convolution or dense layer.
    Bias,
    /// Scale of a BatchNorm.
    Gamma,
    /// Shift of a BatchNorm.
    Beta,
}

/// One trainable parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// As in checkpoints.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// A leaf of the tape, flat; layouts as in [`exporter::network`].
    pub value: Tensor<1>,
}

/// The elements of a tensor.
pub(crate) fn to_vec<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_to_vec::<f32>().expect("parameters are f32")
}

/// A tensor without tape.
pub(crate) fn to_tensor(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// Parameters, the index of each node's first one, and the running statistics of each BatchNorm.
pub(super) fn read(network: &Network, device: &Device) -> (Vec<Parameter>, Vec<usize>, Vec<Option<Tensor<1>>>) {
    let (mut parameters, mut first) = (Vec::new(), Vec::new());
    let mut running = vec![None; network.nodes.len()];
    for (id, node) in network.nodes.iter().enumerate() {
        first.push(parameters.len());
        let mut push = |role: Role, suffix: &str, values: &[f32]| {
            let value = to_tensor(values, device).autodiff().require_grad();
            parameters.push(Parameter { name: format!("{}.{suffix}", node.name), role, value });
        };
        let layer = match &node.op {
            Op::Conv2d(conv) => Some((&conv.weight, &conv.bias)),
            Op::Dense(dense) => Some((&dense.weight, &dense.bias)),
            Op::BatchNorm(norm) => {
                push(Role::Gamma, "gamma", &norm.gamma);
                push(Role::Beta, "beta", &norm.beta);
                running[id] = Some(to_tensor(&[&norm.mean[..], &norm.variance].concat(), device));
                None
            }
            _ => None,
        };
        if let Some((weight, bias)) = layer {
            push(Role::Weight, "weight", weight);
            if let Some(bias) = bias {
                push(Role::Bias, "bias", bias);
            }
        }
    }
    (parameters, first, running)
}

/// Puts the values back into a network of the same architecture.
pub(super) fn write(network: &mut Network, parameters: &[Parameter], running: &[Option<Tensor<1>>]) {
    let mut values = parameters.iter().map(|parameter| to_vec(&parameter.value));
    let mut next = || values.next().expect("as many parameters as were read");
    for (node, running) in network.nodes.iter_mut().zip(running) {
        match &mut node.op {
            Op::Conv2d(conv) => {
                (conv.weight, conv.integers) = (next(), None);
                conv.bias = conv.bias.take().map(|_| next());
            }
            Op::Dense(dense) => {
                (dense.weight, dense.integers) = (next(), None);
                dense.bias = dense.bias.take().map(|_| next());
            }
            Op::BatchNorm(norm) => {
                (norm.gamma, norm.beta) = (next(), next());
                let statistics = to_vec(running.as_ref().expect("every BatchNorm has statistics"));
                let (mean, variance) = statistics.split_at(norm.gamma.len());
                (norm.mean, norm.variance) = (mean.to_vec(), variance.to_vec());
            }
            _ => {}
        }
    }
}
