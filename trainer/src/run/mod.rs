//! A [`Network`] with burn tensors for parameters.
//!
//! *Enters*: a checked network, batches `N C H W`. *Leaves*: logits on the tape, running statistics, ranges, and at the
//! end the network again, with what was learned. *Refused*: activations that are not finite where ranges are taken.
//!
//! Nodes run in the fused groups of [`Network::fused`], so that exactly the tensors that will exist in integers are
//! quantized, and only those.

mod parameters;
mod settle;
#[cfg(test)]
mod tests;

use crate::ops::{self, NormOptions, Quantizer, Statistics};
use crate::quant::{QuantError, Ranges, Simulation, input_encoding, restrain, simulate};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Device, Tensor, TensorData, activation, module};
use exporter::network::{Function, Fused, Network, NetworkError, NodeId, Op, Window};
use exporter::quantize::Scheme;
pub use parameters::{Parameter, Role};
pub(crate) use parameters::{to_tensor, to_vec};
pub(crate) use settle::BATCH;
pub use settle::settle;

/// How one batch runs.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// What BatchNorm normalizes with.
    pub statistics: Statistics,
    /// Quantize weights and, with [`Self::activations`], activations.
    pub simulation: Option<Simulation>,
    /// Quantize activations too; false while ranges are still being collected.
    pub activations: bool,
    /// Whether ranges and running statistics take this batch in, and with which share.
    pub observe: Option<Momentum>,
}

/// Shares with which one batch enters the moving averages, each in `0..=1`.
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    /// Of running means and variances.
    pub statistics: f32,
    /// Of ranges.
    pub ranges: f32,
}

impl Pass {
    /// As deployed: running statistics, and quantized as `simulation` says.
    pub const fn deployed(simulation: Option<Simulation>) -> Self {
        Self { statistics: Statistics::Running, simulation, activations: true, observe: None }
    }
}

/// A network being trained.
#[derive(Debug)]
pub struct Model {
    network: Network,
    groups: Vec<Fused>,
    /// The last group that reads each tensor.
    last_use: Vec<usize>,
    parameters: Vec<Parameter>,
    /// For each node the index of its first parameter.
    first: Vec<usize>,
    /// For each BatchNorm `2C`: running means, then running variances; without tape.
    running: Vec<Option<Tensor<1>>>,
    ranges: Ranges,
    device: Device,
}

impl Model {
    /// Takes the parameters of a network onto a device (without autodiff; the tape is added where it is needed).
    ///
    /// # Errors
    /// [`NetworkError`]: not a network.
    pub fn new(network: Network, device: &Device) -> Result<Self, NetworkError> {
        network.check()?;
        let (parameters, first, running) = parameters::read(&network, device);
        let groups = network.fused();
        let mut last_use = vec![0; network.tensors.len()];
        for (i, group) in groups.iter().enumerate() {
            for &input in &network.nodes[group.head].inputs {
                last_use[input] = i;
            }
        }
        last_use[network.output] = groups.len();
        let ranges = Ranges::new(network.tensors.len());
        Ok(Self { groups, last_use, parameters, first, running, ranges, device: device.clone(), network })
    }

    /// What is being trained, in the order of the nodes.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Gives parameter `i` a new value of the same length.
    pub fn set_parameter(&mut self, i: usize, value: Tensor<1>) {
        self.parameters[i].value = value.autodiff().require_grad();
    }

    /// The architecture; its parameters are those it had at the start (see [`Self::to_network`]).
    pub fn architecture(&self) -> &Network {
        &self.network
    }

    /// Ranges of activations.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Replaces the ranges, as when training resumes.
    pub fn set_ranges(&mut self, ranges: Ranges) {
        self.ranges = ranges;
    }

    /// The device, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The network with the parameters as they are now and, with a simulation, the encodings of the activations.
    ///
    /// # Errors
    /// [`QuantError`]: parameters that are not finite, ranges that are missing.
    pub fn to_network(&self, simulation: Option<&Simulation>) -> Result<Network, QuantError> {
        let mut network = self.network.clone();
        parameters::write(&mut network, &self.parameters, &self.running);
        network.tensors.iter_mut().for_each(|tensor| tensor.encoding = None);
        network.trained = simulation.map(|simulation| simulation.weights);
        if let Some(simulation) = simulation {
            network.tensors[network.input].encoding = Some(input_encoding(&network, simulation.activations));
            for group in &self.groups {
                let head = &self.network.nodes[group.head];
                let encoding = if head.op.keeps_encoding() {
                    network.tensors[head.inputs[0]].encoding.clone()
                } else {
                    Some(self.ranges.encoding(group.output, &head.op, simulation, &self.network)?)
                };
                network.tensors[group.output].encoding = encoding;
            }
        }
        match network.check() {
            Ok(()) => Ok(network),
            Err(fault) => Err(QuantError::NotFinite { name: fault.to_string() }),
        }
    }

    /// Logits `N K` of a batch `N C H W`. On the tape, parameters are leaves that want a gradient; off it, everything is
    /// computed without one.
    ///
    /// # Errors
    /// [`QuantError`]: values that are not finite, ranges that are missing.
    pub fn forward(&mut self, x: Tensor<4>, pass: &Pass, tape: bool) -> Result<Tensor<2>, QuantError> {
        let n = x.dims()[0];
        if pass.observe.is_some() && pass.simulation.is_some() {
            self.ranges.begin_batch();
        }
        let quantize = pass.simulation.filter(|_| pass.activations);
        let x = match quantize {
            Some(s) => ops::fake_quantize(x, Quantizer::from(&input_encoding(&self.network, s.activations))),
            None => x,
        };
        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.network.tensors.len()];
        values[self.network.input] = Some(if tape { x.autodiff() } else { x });
        for i in 0..self.groups.len() {
            let group = self.groups[i].clone();
            let head = &self.network.nodes[group.head];
            let inputs: Vec<Tensor<4>> =
                head.inputs.iter().map(|&id| values[id].clone().expect("a group runs after what it reads")).collect();
            for &id in &head.inputs {
                if self.last_use[id] == i {
                    values[id] = None;
                }
            }
            let y = self.group(&group, inputs, pass, tape)?;
            values[group.output] = Some(y);
        }
        let logits = values[self.network.output].take().expect("the last node writes the output");
        let classes = self.network.tensors[self.network.output].shape.len();
        Ok(logits.reshape([n, classes]))
    }

    /// A parameter of a node, on the tape or off it.
    fn parameter(&self, node: NodeId, which: usize, tape: bool) -> Tensor<1> {
        let value = self.parameters[self.first[node] + which].value.clone();
        if tape { value } else { value.inner() }
    }

    /// What rounds the values that a group writes, if the pass says so; takes in the range of this batch.
    fn quantizer(
        &mut self,
        group: &Fused,
        pass: &Pass,
        found: impl FnOnce(&Simulation) -> [f32; 2],
    ) -> Result<Option<Quantizer>, QuantError> {
        let op = &self.network.nodes[group.head].op;
        let Some(simulation) = pass.simulation.filter(|_| !op.keeps_encoding()) else { return Ok(None) };
        if let Some(momentum) = pass.observe {
            self.ranges.observe(group.output, found(&simulation), momentum.ranges, &self.network)?;
        }
        if !pass.activations {
            return Ok(None);
        }
        let encoding = self.ranges.encoding(group.output, op, &simulation, &self.network)?;
        Ok(Some(Quantizer::from(&encoding)))
    }

    /// What a fused group writes.
    fn group(
        &mut self,
        group: &Fused,
        inputs: Vec<Tensor<4>>,
        pass: &Pass,
        tape: bool,
    ) -> Result<Tensor<4>, QuantError> {
        let (x, limits) = self.head(group, inputs, pass, tape)?;
        let norm = match self.network.nodes[group.head].op {
            Op::BatchNorm(_) => Some(group.head),
            _ => group.batch_norm,
        };
        if let Some(norm) = norm {
            return self.norm(norm, group, x, limits, pass, tape);
        }
        let y = ops::clamp(x, limits);
        let quantizer = self.quantizer(group, pass, |simulation| range(y.clone(), simulation))?;
        Ok(match quantizer {
            Some(quantizer) => ops::fake_quantize(y, quantizer),
            None => y,
        })
    }

    /// What the head of a group computes, and the clamp that is still to come.
    fn head(
        &mut self,
        group: &Fused,
        inputs: Vec<Tensor<4>>,
        pass: &Pass,
        tape: bool,
    ) -> Result<(Tensor<4>, [f32; 2]), QuantError> {
        let limits = match group.clamp.map(|id| &self.network.nodes[id].op) {
            Some(&Op::Clamp { min, max }) => [min, max],
            _ => ops::OPEN,
        };
        let node = &self.network.nodes[group.head];
        let mut inputs = inputs.into_iter();
        let mut x = inputs.next().expect("every op reads something");
        match &node.op {
            Op::Conv2d(conv) => {
                let (k, c, [r, s]) = (conv.out_channels, x.dims()[1] / conv.groups, conv.window.kernel);
                let weight = self.weight(group, pass, tape)?.reshape([k, c, r, s]);
                x = ops::conv2d(x, weight, conv.window, conv.groups);
                if conv.bias.is_some() {
                    x = x + self.parameter(group.head, 1, tape).reshape([1, k, 1, 1]);
                }
            }
            Op::Dense(dense) => {
                let (n, k) = (x.dims()[0], dense.out_features);
                let weight = self.weight(group, pass, tape)?;
                let features = weight.dims()[0] / k;
                let mut y = x.reshape([n, features]).matmul(weight.reshape([k, features]).transpose());
                if dense.bias.is_some() {
                    y = y + self.parameter(group.head, 1, tape).reshape([1, k]);
                }
                x = y.reshape([n, k, 1, 1]);
            }
            Op::BatchNorm(_) => {}
            Op::Clamp { min, max } => return Ok((x, [*min, *max])),
            Op::MaxPool(pool) if pool.window == Window::square(2, 2, 0) => x = ops::max_pool2(x),
            Op::MaxPool(pool) => {
                x = match cell_stride(&pool.window) {
                    Some(stride) => ops::pool3(x, stride, false),
                    None => module::max_pool2d(x, max_pool(&pool.window)),
                }
            }
            Op::AveragePool(pool) => {
                x = match cell_stride(&pool.window) {
                    Some(stride) => ops::pool3(x, stride, true),
                    None => module::avg_pool2d(x, average_pool(&pool.window)),
                }
            }
            Op::GlobalAveragePool => {
                let [n, c, h, w] = x.dims();
                x = x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c, 1, 1]);
            }
            Op::Add => return Ok((ops::add(x, inputs.next().expect("Add reads two"), limits), ops::OPEN)),
            Op::Mul => x = x * inputs.next().expect("Mul reads two"),
            Op::Function(function) => x = apply(*function, x),
            Op::Pad { padding: [top, left, bottom, right] } => {
                x = x.pad((*left, *right, *top, *bottom), PadMode::Constant(0.0));
            }
            Op::Concat => x = Tensor::cat(std::iter::once(x).chain(inputs).collect(), 1),
            Op::Softmax => x = activation::softmax(x, 1),
            Op::Flatten => {
                let [n, c, h, w] = x.dims();
                x = x.reshape([n, c * h * w, 1, 1]);
            }
        }
        Ok((x, limits))
    }

    /// The weights of a layer, quantized if the pass says so.
    fn weight(&self, group: &Fused, pass: &Pass, tape: bool) -> Result<Tensor<1>, QuantError> {
        let weight = self.parameter(group.head, 0, tape);
        let Some(simulation) = pass.simulation else { return Ok(weight) };
        let channels = match &self.network.nodes[group.head].op {
            Op::Conv2d(conv) => conv.out_channels,
            Op::Dense(dense) => dense.out_features,
            other => unreachable!("{} has no weights", other.name()),
        };
        let factors = match group.batch_norm {
            Some(norm) => self.folding_factors(norm),
            None => vec![1.0; channels],
        };
        let floats = parameters::to_vec(&self.parameters[self.first[group.head]].value);
        let name = &self.parameters[self.first[group.head]].name;
        let simulated = simulate(name, &floats, &factors, simulation.weights)?;
        let place = |values: Vec<f32>| {
            let length = values.len();
            let tensor: Tensor<1> = Tensor::from_data(TensorData::new(values, [length]), &self.device);
            if tape { tensor.autodiff() } else { tensor }
        };
        Ok(ops::straight_through(weight, place(simulated.values), place(simulated.mask)))
    }

    /// Keeps parameters where `simulation` deploys them as they are simulated. To be called whenever statistics or weights have
    /// moved; twice is as good as once. Where one scale serves a whole folded tensor, weights of channels that carry nothing
    /// are pulled back into the range of the others; see [`crate::quant`]. Of a BatchNorm on the accumulator no scale stays
    /// negative: the layer's weights turn their sign instead, which changes nothing that is computed.
    pub fn restrain(&mut self, simulation: &Simulation) {
        match simulation.weights.scheme {
            Scheme::AsymmetricPerTensor => self.pull_in(),
            Scheme::AsymmetricUnfolded => self.turn(),
            _ => {}
        }
    }

    fn turn(&mut self) {
        for group in 0..self.groups.len() {
            let (head, Some(norm)) = (self.groups[group].head, self.groups[group].batch_norm) else { continue };
            let gamma = parameters::to_vec(&self.parameters[self.first[norm]].value);
            let negative: Vec<bool> = gamma.iter().map(|&g| g < 0.0).collect();
            if !negative.contains(&true) {
                continue;
            }
            let turned = |mut values: Vec<f32>| {
                let row = values.len() / negative.len();
                let rows = values.chunks_exact_mut(row).zip(&negative).filter(|(_, negative)| **negative);
                rows.flat_map(|(row, _)| row).for_each(|v| *v = -*v);
                values
            };
            // Weights, bias if there is one, scales.
            let of_layer = self.first[head]..self.first.get(head + 1).copied().unwrap_or(self.parameters.len());
            for which in of_layer.chain([self.first[norm]]) {
                let values = turned(parameters::to_vec(&self.parameters[which].value));
                self.set_parameter(which, to_tensor(&values, &self.device));
            }
            let running = parameters::to_vec(self.running[norm].as_ref().expect("every BatchNorm has statistics"));
            let (mean, variance) = running.split_at(gamma.len());
            let running = [turned(mean.to_vec()), variance.to_vec()].concat();
            self.running[norm] = Some(to_tensor(&running, &self.device));
        }
    }

    fn pull_in(&mut self) {
        for group in 0..self.groups.len() {
            let (head, Some(norm)) = (self.groups[group].head, self.groups[group].batch_norm) else { continue };
            let factors = self.folding_factors(norm);
            let running = parameters::to_vec(self.running[norm].as_ref().expect("every BatchNorm has statistics"));
            let which = self.first[head];
            let mut weight = parameters::to_vec(&self.parameters[which].value);
            if restrain(&mut weight, &factors, &running[factors.len()..]) {
                self.set_parameter(which, to_tensor(&weight, &self.device));
            }
        }
    }

    /// `gamma / sqrt(running variance + epsilon)`, as folding computes it.
    fn folding_factors(&self, norm: NodeId) -> Vec<f64> {
        let Op::BatchNorm(op) = &self.network.nodes[norm].op else { unreachable!("the group says so") };
        let gamma = parameters::to_vec(&self.parameters[self.first[norm]].value);
        let running = parameters::to_vec(self.running[norm].as_ref().expect("every BatchNorm has statistics"));
        let variance = &running[gamma.len()..];
        let factor = |(&g, &v): (&f32, &f32)| f64::from(g) / (f64::from(v) + f64::from(op.epsilon)).sqrt();
        gamma.iter().zip(variance).map(factor).collect()
    }

    /// BatchNorm, clamp and quantizer; takes statistics and range of the batch in.
    fn norm(
        &mut self,
        norm: NodeId,
        group: &Fused,
        x: Tensor<4>,
        limits: [f32; 2],
        pass: &Pass,
        tape: bool,
    ) -> Result<Tensor<4>, QuantError> {
        let Op::BatchNorm(op) = &self.network.nodes[norm].op else { unreachable!("the group says so") };
        let mut options =
            NormOptions { epsilon: f64::from(op.epsilon), limits, statistics: pass.statistics, quantizer: None };
        let (gamma, beta) = (self.parameter(norm, 0, tape), self.parameter(norm, 1, tape));
        let running = self.running[norm].clone().expect("every BatchNorm has statistics");
        let of_batch = pass.statistics == Statistics::Batch;
        let survey = (of_batch || pass.observe.is_some()).then(|| ops::survey(x.clone()));
        let statistics = match &survey {
            Some(survey) if of_batch => survey.statistics.clone(),
            _ if tape => running.clone().autodiff(),
            _ => running.clone(),
        };
        options.quantizer = self.quantizer(group, pass, |simulation| match &survey {
            Some(survey) if simulation.cut == 0.0 => {
                let [gamma, beta, statistics] = [&gamma, &beta, &statistics].map(parameters::to_vec);
                survey.range(&gamma, &beta, &statistics, &options)
            }
            _ => {
                let [gamma, beta, statistics] =
                    [&gamma, &beta, &statistics].map(|t| if tape { t.clone().inner() } else { t.clone() });
                let x = if tape { x.clone().inner() } else { x.clone() };
                range(ops::normalize(x, gamma, beta, statistics, options), simulation)
            }
        })?;
        if let (Some(momentum), true) = (pass.observe, of_batch) {
            let found = if tape { statistics.clone().inner() } else { statistics.clone() };
            self.running[norm] = Some(running.clone() + (found - running) * momentum.statistics);
        }
        Ok(ops::normalize(x, gamma, beta, statistics, options))
    }
}

/// Range of what a batch writes.
fn range(y: Tensor<4>, simulation: &Simulation) -> [f32; 2] {
    match simulation.cut {
        0.0 => ops::range(y),
        cut => ops::quantiles(y, cut),
    }
}

/// Stride of a 3 x 3 window with padding 1, which has kernels of its own.
fn cell_stride(window: &Window) -> Option<usize> {
    [1, 2].into_iter().find(|&stride| *window == Window::square(3, stride, 1))
}

/// burn's form of the window of a max pooling.
fn max_pool(window: &Window) -> MaxPoolOptions<2> {
    let [top, left, bottom, right] = window.padding;
    let options = MaxPoolOptions::new(window.kernel).with_stride(window.stride);
    MaxPoolOptions { padding: [(top, bottom), (left, right)], ..options }
}

/// burn's form of the window of an average pooling that does not count padding.
fn average_pool(window: &Window) -> AvgPoolOptions<2> {
    let [top, left, bottom, right] = window.padding;
    let options = AvgPoolOptions::new(window.kernel).with_stride(window.stride).with_count_include_pad(false);
    AvgPoolOptions { padding: [(top, bottom), (left, right)], ..options }
}

/// An activation function, as [`Function::apply`].
fn apply(function: Function, x: Tensor<4>) -> Tensor<4> {
    match function {
        Function::LeakyRelu { alpha } => activation::leaky_relu(x, alpha.into()),
        Function::Sigmoid => activation::sigmoid(x),
        Function::HardSigmoid { alpha, beta } => activation::hard_sigmoid(x, alpha.into(), beta.into()),
        Function::HardSwish => x.clone() * activation::hard_sigmoid(x, 1.0 / 6.0, 0.5),
        Function::Silu => x.clone() * activation::sigmoid(x),
        Function::Tanh => activation::tanh(x),
    }
}
