//! A blueprint as the exporter's [`Network`], to be trained on, quantized and deployed. Enters: a blueprint and a value for
//! every parameter. Leaves: a checked network that computes the same. Refused: values of a wrong number or not finite.
//!
//! Three things look different there, and compute the same:
//! * The shifted half of a factorized reduction, a 1x1 convolution with stride 2 on `x[:, 1:, 1:]`, is a 2x2 convolution with
//!   stride 2 of which only the last tap is not zero: windows have no negative padding.
//! * BatchNorm behind the concatenation of a factorized reduction is two BatchNorms, one behind each convolution, so that
//!   each can be folded.
//! * States that no branch reaches are not concatenated as zeros; whoever reads the rest has no weights for them.

use super::blueprint::{Blueprint, Convolution, Layer, LayerOp, Parameter, ValueId};
use exporter::image::ImageWriteError;
use exporter::network::{
    BatchNorm, Conv2d, Dense, Encoding, Integers, Network, NetworkError, Op, Pool, Preprocessing, Shape, TensorId,
    Window,
};

/// Epsilon of BatchNorm.
pub const EPSILON: f32 = 1e-5;

/// Why the arena of a blueprint is not known.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The blueprint makes no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It makes no image.
    #[error(transparent)]
    Image(#[from] ImageWriteError),
}

impl Blueprint {
    /// The network with the values that `fill` gives for each of [`Self::parameters`]: [`Parameter::len`] of them in the
    /// order of its shape, for BatchNorm scales and then shifts. Running means are 0 and variances 1. Nodes are called as
    /// layers are.
    ///
    /// # Errors
    /// [`NetworkError`] naming the node.
    pub fn to_network(
        &self,
        name: &str,
        preprocessing: Preprocessing,
        labels: Vec<String>,
        fill: &mut Fill<'_>,
    ) -> Result<Network, NetworkError> {
        let [c, h, w] = self.shape(0);
        let network = Network::new(name, Shape::new(c, h, w), preprocessing, labels);
        let network = Assembly::new(self, network, true, fill).run()?;
        network.check()?;
        Ok(network)
    }
}

/// Bytes of the arena of the flash image, with 8-bit weights and activations, as the exporter plans it.
///
/// # Errors
/// [`ArenaError`].
pub fn arena_bytes(blueprint: &Blueprint) -> Result<u64, ArenaError> {
    Ok(exporter::image::arena(&in_integers(blueprint)?)?.bytes.into())
}

/// Whether that arena has at most so many bytes, which is mostly known long before there is a plan.
///
/// # Errors
/// [`ArenaError`].
pub(super) fn arena_fits(blueprint: &Blueprint, most: u64) -> Result<bool, ArenaError> {
    Ok(exporter::image::arena_fits(&in_integers(blueprint)?, most)?)
}

/// The network with 8-bit weights and activations. The plan depends on shapes alone: weights are zeros, and BatchNorm, which is
/// folded before there are integers, is left out.
fn in_integers(blueprint: &Blueprint) -> Result<Network, ArenaError> {
    let [c, h, w] = blueprint.shape(0);
    let preprocessing = Preprocessing { mean: vec![0.0; c], std: vec![1.0; c] };
    let network = Network::new("arena", Shape::new(c, h, w), preprocessing, vec![]);
    let mut zeros = |_: usize, parameter: &Parameter| vec![0.0; parameter.len()];
    let mut network = Assembly::new(blueprint, network, false, &mut zeros).run()?;
    let encoding = Encoding::asymmetric(8, false, -1.0, 1.0);
    for id in network.integer_tensors() {
        network.tensors[id].encoding = Some(encoding.clone());
    }
    let zeros = |weights: usize, channels: usize| {
        let weight = vec![encoding.zero_point[0] as i16; weights];
        Some(Integers { encoding: encoding.clone(), weight, bias: vec![0; channels] })
    };
    for node in &mut network.nodes {
        match &mut node.op {
            Op::Conv2d(conv) => conv.integers = zeros(conv.weight.len(), conv.out_channels),
            Op::Dense(dense) => dense.integers = zeros(dense.weight.len(), dense.out_features),
            _ => {}
        }
    }
    Ok(network)
}

/// Gives a parameter, with its index, its values.
pub type Fill<'f> = dyn FnMut(usize, &Parameter) -> Vec<f32> + 'f;

/// What a value of the blueprint is in the network.
#[derive(Clone)]
struct Tensor {
    id: TensorId,
    /// Which channels are there; all, if nothing is said.
    kept: Option<Vec<usize>>,
}

/// A network in the making.
struct Assembly<'b, 'f> {
    blueprint: &'b Blueprint,
    network: Network,
    fill: &'b mut Fill<'f>,
    /// Without, BatchNorm is left out.
    norms: bool,
    /// For each value its tensor; none for zeros.
    tensors: Vec<Option<Tensor>>,
}

impl<'b, 'f> Assembly<'b, 'f> {
    fn new(blueprint: &'b Blueprint, network: Network, norms: bool, fill: &'b mut Fill<'f>) -> Self {
        let tensors = vec![Some(Tensor { id: network.input, kept: None })];
        Self { blueprint, network, fill, norms, tensors }
    }

    fn run(mut self) -> Result<Network, NetworkError> {
        for layer in &self.blueprint.layers {
            let tensor = self.layer(layer)?;
            self.tensors.push(tensor);
        }
        Ok(self.network)
    }

    fn layer(&mut self, layer: &Layer) -> Result<Option<Tensor>, NetworkError> {
        if layer.op == LayerOp::Concat {
            return self.concat(layer);
        }
        let inputs: Vec<Tensor> = layer.inputs.iter().filter_map(|&input| self.tensors[input].clone()).collect();
        let Some(x) = inputs.first().cloned() else {
            return Ok(None);
        };
        let mut kept = None;
        let op = match layer.op {
            LayerOp::Convolution(conv) => {
                let weight = self.values(layer, 0)?;
                let weight =
                    if conv.depthwise { weight } else { columns(weight, conv.kernel.pow(2), layer.shape[0], &x) };
                Op::Conv2d(convolution(conv, weight, layer.shape[0]))
            }
            LayerOp::Linear => {
                let weight = columns(self.values(layer, 0)?, 1, layer.shape[0], &x);
                let bias = Some(self.values(layer, 1)?);
                Op::Dense(Dense { weight, bias, out_features: layer.shape[0], integers: None })
            }
            LayerOp::BatchNorm if self.norms && !self.is_concat(layer.inputs[0]) => {
                Op::BatchNorm(norm(&self.values(layer, 0)?, 0..layer.shape[0]))
            }
            // In front of the concatenation, or folded.
            LayerOp::BatchNorm | LayerOp::Dropout => return Ok(Some(x)),
            LayerOp::Relu | LayerOp::GlobalAverage => {
                kept = x.kept;
                if layer.op == LayerOp::Relu { Op::RELU } else { Op::GlobalAveragePool }
            }
            LayerOp::Flatten => {
                let [_, h, w] = self.blueprint.shape(layer.inputs[0]);
                kept = x.kept.map(|kept| kept.iter().flat_map(|c| c * h * w..(c + 1) * h * w).collect());
                Op::Flatten
            }
            LayerOp::MaxPool { stride } => Op::MaxPool(Pool { window: Window::square(3, stride, 1) }),
            LayerOp::AveragePool { stride } => Op::AveragePool(Pool { window: Window::square(3, stride, 1) }),
            LayerOp::Add => Op::Add,
            LayerOp::Concat | LayerOp::Zeros => return Ok(None),
        };
        let ids: Vec<TensorId> = inputs.iter().map(|x| x.id).collect();
        Ok(Some(Tensor { id: self.network.push(&layer.name, op, &ids)?, kept }))
    }

    /// What is there of the parts, normalized if the concatenation is.
    fn concat(&mut self, layer: &Layer) -> Result<Option<Tensor>, NetworkError> {
        let value = self.tensors.len();
        let behind = self.blueprint.layers.iter().find(|l| l.op == LayerOp::BatchNorm && l.inputs == [value]);
        let norms = match behind {
            Some(behind) if self.norms => Some(self.values(behind, 0)?),
            _ => None,
        };
        let (mut ids, mut kept, mut channels) = (Vec::new(), Vec::new(), 0);
        for &part in &layer.inputs {
            let own = self.blueprint.shape(part)[0];
            let range = channels..channels + own;
            channels += own;
            let Some(mut x) = self.tensors[part].clone() else { continue };
            if let Some(values) = &norms {
                let name = format!("{}.norm", self.blueprint.layers[part - 1].name);
                x.id = self.network.push(name, Op::BatchNorm(norm(values, range.clone())), &[x.id])?;
            }
            ids.push(x.id);
            kept.extend(range);
        }
        let kept = (kept.len() < channels).then_some(kept);
        match ids[..] {
            [] => Ok(None),
            [id] => Ok(Some(Tensor { id, kept })),
            _ => Ok(Some(Tensor { id: self.network.push(&layer.name, Op::Concat, &ids)?, kept })),
        }
    }

    fn is_concat(&self, value: ValueId) -> bool {
        value > 0 && self.blueprint.layers[value - 1].op == LayerOp::Concat
    }

    /// Values of a layer's parameter, or of the one after it.
    fn values(&mut self, layer: &Layer, which: usize) -> Result<Vec<f32>, NetworkError> {
        let fault = |reason| NetworkError::Node { node: layer.name.clone(), reason };
        let index = layer.parameter.ok_or_else(|| fault("it has no parameter".into()))? + which;
        let parameter = &self.blueprint.parameters[index];
        let values = (self.fill)(index, parameter);
        match values.len() == parameter.len() {
            true => Ok(values),
            false => Err(fault(format!("found {} values, expected {}", values.len(), parameter.len()))),
        }
    }
}

/// Of a weight `rows C taps` the columns of the channels that are there.
fn columns(weight: Vec<f32>, taps: usize, rows: usize, x: &Tensor) -> Vec<f32> {
    let Some(kept) = &x.kept else { return weight };
    let row = |row: &[f32]| kept.iter().flat_map(|c| &row[c * taps..(c + 1) * taps]).copied().collect::<Vec<_>>();
    weight.chunks_exact(weight.len() / rows).flat_map(row).collect()
}

fn convolution(conv: Convolution, weight: Vec<f32>, out_channels: usize) -> Conv2d {
    let Convolution { kernel, stride, padding, dilation, depthwise, shifted } = conv;
    let groups = if depthwise { out_channels } else { 1 };
    if shifted {
        // `x[:, 1:, 1:]` at `2 i` is the last tap of a 2x2 window at `2 i`.
        let weight = weight.iter().flat_map(|&w| [0.0, 0.0, 0.0, w]).collect();
        let window = Window::square(2, stride, 0);
        return Conv2d { weight, bias: None, out_channels, window, groups, integers: None };
    }
    let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, padding) };
    Conv2d { weight, bias: None, out_channels, window, groups, integers: None }
}

/// BatchNorm of some channels; `values` are all scales, then all shifts.
fn norm(values: &[f32], channels: std::ops::Range<usize>) -> BatchNorm {
    let (gamma, beta) = values.split_at(values.len() / 2);
    BatchNorm {
        mean: vec![0.0; channels.len()],
        variance: vec![1.0; channels.len()],
        gamma: gamma[channels.clone()].to_vec(),
        beta: beta[channels].to_vec(),
        epsilon: EPSILON,
    }
}
