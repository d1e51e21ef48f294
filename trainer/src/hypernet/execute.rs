//! Running a predicted network. Enters: a blueprint, its tensors as leaves of the tape, a batch `N C H W`, how to quantize.
//! Leaves: logits. Refuses nothing: blueprint and tensors were made for each other.
//!
//! BatchNorm always takes the statistics of the batch. With quantization it is folded into the convolution before it, anew
//! for every batch ([`crate::ops::conv_norm`]), or follows it ([`Normalization`]), and activations are quantized where a layer with weights, a sum, a
//! concatenation or a pooling reads them: after the ReLU if there is one in between. A value is quantized once, and results
//! that lie on the grid of what they read (ReLU, max pooling, slices) are not quantized again.

use super::Tensors;
use super::setting::Setting;
use crate::graph::{Blueprint, Convolution, EPSILON, Layer, LayerOp, ParameterKind, ValueId};
use crate::ops::{self, ConvNorm, Dynamic, NormOptions, Statistics};
use burn::tensor::{Device, Gradients, Tensor, TensorData, activation};
use exporter::network::Window;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Limits of a ReLU.
const RELU: [f32; 2] = [0.0, f32::INFINITY];

/// What stands for a rounded value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// SimQuant: the nearest integer, with the gradient passing straight through.
    #[default]
    Nearest,
    /// NoiseQuant (Eq. 5): uniform noise of one step.
    Noise,
    /// Noise on weights, rounding of activations (Eq. 6).
    NoiseOnWeights,
}

/// Where BatchNorm stands in a network with quantized weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Folded into the weights before they are quantized, by the statistics of the unquantized convolution (Eq. 4).
    #[default]
    Folded,
    /// Behind the convolution with quantized weights, by its own statistics. On a device it is each channel's multiplier and
    /// bias of the accumulator: integers of one scale a tensor, multipliers of one a channel.
    Accumulator,
}

/// Which values the range of a tensor leaves out: percentile clipping. Few levels need it: from the smallest to the largest
/// value, two bits round nearly everything to 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    /// Share of each weight tensor cut off at either end, 0 to 1/2; 0 for absolute ranges.
    pub weights: f32,
    /// The same of activations.
    pub activations: f32,
    /// Tensors of more bits keep their absolute range.
    pub up_to: u8,
    /// Whether activations of both signs have a level for each ([`ops::both_signs`]); those of more than `up_to` bits have
    /// anyway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both_signs: bool,
}

impl Ranges {
    /// From the smallest to the largest value.
    pub const ABSOLUTE: Self = Self { weights: 0.0, activations: 0.0, up_to: 8, both_signs: false };

    /// The share left out of a tensor of so many bits.
    pub(super) fn cut(&self, bits: u8, share: f32) -> f32 {
        if bits <= self.up_to { share } else { 0.0 }
    }

    /// Whether shares are in their range.
    pub fn check(&self) -> Result<(), String> {
        match [self.weights, self.activations].into_iter().find(|share| !(0.0..0.5).contains(share)) {
            Some(share) => Err(format!("share that ranges cut off: found {share}, expected 0 to 0.5")),
            None => Ok(()),
        }
    }
}

/// How one network runs on one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mode {
    /// Bit widths.
    pub setting: Setting,
    /// What stands for a rounded value.
    pub rounding: Rounding,
    /// Where BatchNorm stands.
    pub normalization: Normalization,
    /// Ranges of tensors.
    pub ranges: Ranges,
    /// Seed of noise and dropout in training; none for testing.
    pub training: Option<u64>,
}

impl Mode {
    /// As tested: rounded, without dropout.
    pub const fn test(setting: Setting) -> Self {
        let (normalization, ranges) = (Normalization::Folded, Ranges::ABSOLUTE);
        Self { setting, rounding: Rounding::Nearest, normalization, ranges, training: None }
    }

    /// Whether BatchNorm is part of the weights.
    fn folds(&self) -> bool {
        self.setting.weights > 0 && self.normalization == Normalization::Folded
    }

    fn noise(&self, index: usize) -> u64 {
        self.training.unwrap_or(0).wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn weights(&self, index: usize) -> Option<Dynamic> {
        let noise = (self.rounding != Rounding::Nearest).then(|| self.noise(2 * index));
        let bits = self.setting.weights;
        (bits > 0).then(|| Dynamic {
            cut: self.ranges.cut(bits, self.ranges.weights),
            noise,
            ..Dynamic::absolute(bits)
        })
    }

    fn activations(&self, index: usize) -> Option<Dynamic> {
        let noise = (self.rounding == Rounding::Noise).then(|| self.noise(2 * index + 1));
        let bits = self.setting.activations;
        let both_signs = self.ranges.both_signs && bits <= self.ranges.up_to;
        (bits > 0).then(|| Dynamic { bits, cut: self.ranges.cut(bits, self.ranges.activations), both_signs, noise })
    }
}

/// Parameters on the tape.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has a few dozen")]
enum Leaf {
    Convolution(Tensor<4>),
    Linear(Tensor<2>),
    Bias(Tensor<1>),
    Norm(Tensor<1>, Tensor<1>),
}

/// The parameters of one network as leaves.
#[derive(Debug)]
pub struct Leaves(Vec<Leaf>);

impl Leaves {
    /// Puts tensors onto a device: onto its tape (the device is then one with autodiff) if they are to have gradients.
    pub fn new(net: &Blueprint, tensors: &Tensors, device: &Device, gradients: bool) -> Self {
        fn on_tape<const D: usize>(t: Tensor<D>, gradients: bool) -> Tensor<D> {
            if gradients { t.require_grad() } else { t }
        }
        let leaf = |(parameter, values): (&crate::graph::Parameter, &Vec<f32>)| {
            let [k, c, ..] = parameter.shape;
            let vector =
                |v: &[f32]| on_tape(Tensor::<1>::from_data(TensorData::new(v.to_vec(), [v.len()]), device), gradients);
            match (parameter.kind, net.layers[parameter.layer].op) {
                (ParameterKind::Norm, _) => Leaf::Norm(vector(&values[..k]), vector(&values[k..])),
                (ParameterKind::Bias, _) => Leaf::Bias(vector(values)),
                (_, LayerOp::Linear) => {
                    Leaf::Linear(on_tape(Tensor::from_data(TensorData::new(values.clone(), [k, c]), device), gradients))
                }
                _ => {
                    let data = TensorData::new(values.clone(), parameter.shape);
                    Leaf::Convolution(on_tape(Tensor::from_data(data, device), gradients))
                }
            }
        };
        Self(net.parameters.iter().zip(tensors).map(leaf).collect())
    }

    /// The gradient of each tensor, in the form of [`Tensors`].
    pub fn gradients(&self, gradients: &mut Gradients) -> Tensors {
        fn take<const D: usize>(leaf: &Tensor<D>, gradients: &mut Gradients) -> Vec<f32> {
            match leaf.grad_remove(gradients) {
                Some(gradient) => gradient.into_data().try_to_vec().expect("the backend computes in f32"),
                None => vec![0.0; leaf.dims().iter().product()],
            }
        }
        let of = |leaf: &Leaf| match leaf {
            Leaf::Convolution(t) => take(t, gradients),
            Leaf::Linear(t) => take(t, gradients),
            Leaf::Bias(t) => take(t, gradients),
            Leaf::Norm(gamma, beta) => [take(gamma, gradients), take(beta, gradients)].concat(),
        };
        self.0.iter().map(of).collect()
    }

    fn convolution(&self, i: usize) -> Tensor<4> {
        match &self.0[i] {
            Leaf::Convolution(t) => t.clone(),
            other => unreachable!("parameter {i} is {other:?}"),
        }
    }

    fn linear(&self, i: usize) -> (Tensor<2>, Tensor<1>) {
        match (&self.0[i], &self.0[i + 1]) {
            (Leaf::Linear(weight), Leaf::Bias(bias)) => (weight.clone(), bias.clone()),
            other => unreachable!("parameter {i} is {other:?}"),
        }
    }

    fn norm(&self, i: usize) -> (Tensor<1>, Tensor<1>) {
        match &self.0[i] {
            Leaf::Norm(gamma, beta) => (gamma.clone(), beta.clone()),
            other => unreachable!("parameter {i} is {other:?}"),
        }
    }
}

/// What a layer needs to know of its neighbours.
#[derive(Debug)]
struct Plan {
    /// For each value whether something other than a ReLU or BatchNorm reads it.
    read_plain: Vec<bool>,
    /// For each value whether a ReLU, and nothing else, reads it.
    read_by_relu: Vec<bool>,
    /// For each convolution the BatchNorm behind it, and where its channels begin there.
    norm: Vec<Option<(usize, usize)>>,
}

impl Plan {
    fn new(net: &Blueprint) -> Self {
        let readers = net.readers();
        let is = |i: usize, op: LayerOp| net.layers[i].op == op;
        let plain = |readers: &Vec<usize>| readers.iter().any(|&i| !is(i, LayerOp::Relu) && !is(i, LayerOp::BatchNorm));
        let mut norm = vec![None; net.layers.len()];
        let is_conv = |value: ValueId| value > 0 && matches!(net.layers[value - 1].op, LayerOp::Convolution(_));
        for (i, layer) in net.layers.iter().enumerate().filter(|(i, _)| is(*i, LayerOp::BatchNorm)) {
            let source = layer.inputs[0];
            let parameter = layer.parameter.expect("BatchNorm has a parameter");
            if readers[source] != [i] || source == 0 {
                continue;
            }
            if is_conv(source) {
                norm[source - 1] = Some((parameter, 0));
            } else if is(source - 1, LayerOp::Concat) {
                // A factorized reduction: each half is folded into its own convolution.
                let parts = &net.layers[source - 1].inputs;
                if parts.iter().all(|&part| is_conv(part) && readers[part].len() == 1) {
                    let mut first = 0;
                    for &part in parts {
                        norm[part - 1] = Some((parameter, first));
                        first += net.shape(part)[0];
                    }
                }
            }
        }
        let by_relu = |readers: &Vec<usize>| matches!(readers[..], [i] if is(i, LayerOp::Relu));
        let read_by_relu = readers.iter().map(by_relu).collect();
        Self { read_plain: readers.iter().map(plain).collect(), read_by_relu, norm }
    }

    /// Whether the convolutions behind this BatchNorm apply it.
    fn is_folded(&self, net: &Blueprint, layer: &Layer) -> bool {
        let applied = |value: ValueId| value > 0 && self.norm[value - 1].is_some();
        let source = layer.inputs[0];
        applied(source)
            || (source > 0 && net.layers[source - 1].op == LayerOp::Concat)
                && net.layers[source - 1].inputs.iter().all(|&part| applied(part))
    }
}

/// A value, and whether it lies on a grid.
#[derive(Clone)]
struct Value {
    tensor: Tensor<4>,
    on_grid: bool,
}

struct Executor<'a> {
    net: &'a Blueprint,
    plan: Plan,
    leaves: &'a Leaves,
    mode: Mode,
    values: Vec<Value>,
}

/// Logits, `N classes`.
pub fn logits(net: &Blueprint, leaves: &Leaves, x: Tensor<4>, mode: Mode) -> Tensor<2> {
    let last = values(net, leaves, x, mode).pop().expect("a network has layers").tensor;
    let [n, c, ..] = last.dims();
    last.reshape([n, c])
}

/// The image, and what every layer writes.
fn values(net: &Blueprint, leaves: &Leaves, x: Tensor<4>, mode: Mode) -> Vec<Value> {
    let image = Value { tensor: x, on_grid: mode.setting.activations == 0 };
    let mut executor = Executor { net, plan: Plan::new(net), leaves, mode, values: vec![image] };
    for i in 0..net.layers.len() {
        let value = executor.layer(i);
        executor.values.push(value);
    }
    executor.values
}

/// How much of what each layer writes differs from image to image, in floats and without dropout: the root mean square of the
/// difference to the mean of all images, of every unit. `images` are normalized, `N C H W`.
pub fn deviations(net: &Blueprint, tensors: &Tensors, images: &[f32], device: &Device) -> Vec<f64> {
    let leaves = Leaves::new(net, tensors, device, false);
    let [c, h, w] = net.shape(0);
    let shape = [images.len() / (c * h * w), c, h, w];
    let x = Tensor::from_data(TensorData::new(images.to_vec(), shape), device);
    let deviation = |value: Value| {
        let images = value.tensor.dims()[0];
        let values: Vec<f32> = value.tensor.into_data().try_to_vec().expect("the backend computes in f32");
        let (n, units) = (images as f64, values.len() / images);
        let mut sums = vec![[0.0; 2]; units];
        for image in values.chunks_exact(units) {
            for ([sum, square], &v) in sums.iter_mut().zip(image) {
                *sum += f64::from(v);
                *square += f64::from(v).powi(2);
            }
        }
        let variance = sums.iter().map(|[sum, square]| (square / n - (sum / n).powi(2)).max(0.0)).sum::<f64>();
        (variance / units as f64).sqrt()
    };
    values(net, &leaves, x, Mode::test(Setting::FLOAT)).into_iter().skip(1).map(deviation).collect()
}

/// Mean cross entropy.
pub fn cross_entropy(logits: Tensor<2>, labels: &[u16]) -> Tensor<1> {
    let device = logits.device();
    let labels: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
    let labels = Tensor::<2, burn::tensor::Int>::from_data(TensorData::new(labels.clone(), [labels.len(), 1]), &device);
    activation::log_softmax(logits, 1).gather(1, labels).mean().neg()
}

impl Executor<'_> {
    /// A value on its grid.
    fn quantized(&mut self, value: ValueId) -> Tensor<4> {
        if !self.values[value].on_grid {
            let form = self.mode.activations(value).expect("without widths every value counts as on its grid");
            let tensor = ops::requantize(self.values[value].tensor.clone(), false, form);
            self.values[value] = Value { tensor, on_grid: true };
        }
        self.values[value].tensor.clone()
    }

    /// What layer `i` writes, put on a grid.
    fn requantized(&self, i: usize, tensor: Tensor<4>) -> Value {
        let tensor = match self.mode.activations(i + 1) {
            Some(form) => ops::requantize(tensor, false, form),
            None => tensor,
        };
        Value { tensor, on_grid: true }
    }

    /// What layer `i` writes, to be put on a grid when it is read.
    fn plain(&self, tensor: Tensor<4>) -> Value {
        Value { tensor, on_grid: self.mode.setting.activations == 0 }
    }

    fn layer(&mut self, i: usize) -> Value {
        let net = self.net;
        let layer = &net.layers[i];
        let input = layer.inputs.first().copied().unwrap_or(0);
        match layer.op {
            LayerOp::Relu => self.relu(input),
            LayerOp::Convolution(conv) => self.convolution(i, layer, conv),
            LayerOp::BatchNorm => self.batch_norm(i, layer),
            LayerOp::MaxPool { stride } => {
                let tensor = ops::pool3(self.quantized(input), stride, false);
                Value { tensor, on_grid: true }
            }
            LayerOp::AveragePool { stride } => {
                let tensor = ops::pool3(self.quantized(input), stride, true);
                self.requantized(i, tensor)
            }
            LayerOp::Add => {
                let [a, b] = [layer.inputs[0], layer.inputs[1]].map(|input| self.quantized(input));
                self.requantized(i, ops::add(a, b, ops::OPEN))
            }
            LayerOp::Concat => {
                // In front of BatchNorm its parts are not read yet.
                if layer.inputs.iter().all(|&part| part > 0 && self.plan.norm[part - 1].is_some()) {
                    let parts = layer.inputs.iter().map(|&part| self.values[part].tensor.clone()).collect();
                    return self.plain(Tensor::cat(parts, 1));
                }
                let parts = layer.inputs.iter().map(|&part| self.quantized(part)).collect();
                self.requantized(i, Tensor::cat(parts, 1))
            }
            LayerOp::Zeros => {
                let x = &self.values[0].tensor;
                let [c, h, w] = layer.shape;
                let tensor = Tensor::zeros([x.dims()[0], c, h, w], &x.device());
                Value { tensor, on_grid: true }
            }
            LayerOp::GlobalAverage => {
                let x = self.quantized(input);
                let [n, c, h, w] = x.dims();
                self.requantized(i, x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c, 1, 1]))
            }
            LayerOp::Flatten => {
                let Value { tensor, on_grid } = self.values[input].clone();
                let [n, c, h, w] = tensor.dims();
                Value { tensor: tensor.reshape([n, c * h * w, 1, 1]), on_grid }
            }
            LayerOp::Linear => self.linear(i, layer),
            LayerOp::Dropout => self.dropout(i, input),
        }
    }

    fn relu(&self, input: ValueId) -> Value {
        let x = &self.values[input];
        if input > 0 && self.clamps(input - 1) {
            return x.clone();
        }
        let tensor = x.tensor.clone();
        match self.mode.activations(input) {
            Some(form) if !x.on_grid => {
                // Read by others too, it is quantized once, before.
                if self.plan.read_plain[input] {
                    let tensor = ops::clamp(ops::requantize(tensor, false, form), RELU);
                    return Value { tensor, on_grid: true };
                }
                Value { tensor: ops::requantize(tensor, true, form), on_grid: true }
            }
            _ => Value { tensor: ops::clamp(tensor, RELU), on_grid: true },
        }
    }

    fn convolution(&mut self, i: usize, layer: &Layer, conv: Convolution) -> Value {
        let mut x = self.quantized(layer.inputs[0]);
        if conv.shifted {
            let [n, c, h, w] = x.dims();
            x = x.slice([0..n, 0..c, 1..h, 1..w]);
        }
        let parameter = layer.parameter.expect("convolutions have weights");
        let weight = self.leaves.convolution(parameter);
        let window = Window { dilation: [conv.dilation; 2], ..Window::square(conv.kernel, conv.stride, conv.padding) };
        let groups = if conv.depthwise { layer.shape[0] } else { 1 };
        let y = match (self.mode.weights(i), self.plan.norm[i]) {
            (Some(weights), Some((norm, first))) if self.mode.folds() => {
                let (gamma, beta) = self.leaves.norm(norm);
                let (all, c) = (gamma.dims()[0], layer.shape[0]);
                let part = |v: Tensor<1>| if all == c { v } else { v.narrow(0, first, c) };
                let options = ConvNorm { window, epsilon: EPSILON.into(), weights };
                ops::conv_norm(x, weight, part(gamma), part(beta), options)
            }
            (Some(weights), _) => ops::conv2d(x, ops::requantize(weight, false, weights), window, groups),
            (None, _) => ops::conv2d(x, weight, window, groups),
        };
        self.plain(y)
    }

    /// Whether BatchNorm `i` does the work of the ReLU behind it.
    fn clamps(&self, i: usize) -> bool {
        let norm = &self.net.layers[i];
        norm.op == LayerOp::BatchNorm && !self.mode.folds() && self.plan.read_by_relu[i + 1]
    }

    fn batch_norm(&self, i: usize, layer: &Layer) -> Value {
        let x = self.values[layer.inputs[0]].tensor.clone();
        if self.mode.folds() && self.plan.is_folded(self.net, layer) {
            return self.plain(x);
        }
        let (gamma, beta) = self.leaves.norm(layer.parameter.expect("BatchNorm has a parameter"));
        let running = Tensor::zeros([2 * gamma.dims()[0]], &gamma.device());
        let limits = if self.clamps(i) { RELU } else { ops::OPEN };
        let options = NormOptions { epsilon: EPSILON.into(), limits, statistics: Statistics::Batch, quantizer: None };
        self.plain(ops::batch_norm(x, gamma, beta, running, options).0)
    }

    fn linear(&mut self, i: usize, layer: &Layer) -> Value {
        let x = self.quantized(layer.inputs[0]);
        let (mut weight, bias) = self.leaves.linear(layer.parameter.expect("linear layers have weights"));
        if let Some(form) = self.mode.weights(i) {
            weight = ops::requantize(weight, false, form);
        }
        let [n, c, ..] = x.dims();
        let y = x.reshape([n, c]).matmul(weight.transpose()) + bias.unsqueeze();
        let k = layer.shape[0];
        self.plain(y.reshape([n, k, 1, 1]))
    }

    fn dropout(&self, i: usize, input: ValueId) -> Value {
        let Value { tensor, on_grid } = self.values[input].clone();
        let Some(seed) = self.mode.training else { return Value { tensor, on_grid } };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(i as u64 + 1);
        let dims = tensor.dims();
        let kept: Vec<f32> =
            (0..dims.iter().product()).map(|_| if rng.next_u32() >> 31 == 0 { 2.0 } else { 0.0 }).collect();
        let kept = Tensor::from_data(TensorData::new(kept, dims), &tensor.device());
        Value { tensor: tensor * kept, on_grid }
    }
}
