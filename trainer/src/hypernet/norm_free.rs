//! What keeps the signal alive in networks without BatchNorm. Enters: a blueprint, the tensors decoded for it, what is asked
//! for ([`NormFree`]). Leaves: the tensors that the network has, and from their gradients those of the decoded ones. Refuses
//! nothing; networks with BatchNorm pass unchanged, to the bit.
//!
//! Both forms are nothing but other weights: trained, tested, exported and run on a device are the same numbers.
//!
//! * *Standardized weights* (scaled weight standardization, Brock et al. 2021): each output channel of a convolution has mean 0
//!   and the length with which it keeps the variance of what it reads; a gain makes up for what a ReLU in front takes away. So
//!   neither the decoder's scale nor the mean behind a ReLU adds up from layer to layer. Pixels are taken to correlate under a
//!   kernel. A depthwise channel reads one channel alone: with mean 0 it would see edges only, and it keeps its own.
//! * *Scaled sums*: a sum of `n` signals counts as divided by `sqrt(n)`. There is no bias between a sum and the layers with
//!   weights that read it, and ReLU, pooling and concatenation pass a positive factor on; so it is these weights that are
//!   divided, each input channel by its own root.

use crate::graph::{Blueprint, LayerOp, ParameterKind};
use serde::{Deserialize, Serialize};
use std::f32::consts::PI;

/// Against division by zero; channels as decoded make variances around 0.03.
const EPSILON: f32 = 1e-4;
/// Of two pixels under one kernel. Predicted kernels are smooth, and so are features: independent pixels would promise too
/// small a result, and a few layers of depthwise convolutions would explode.
const CORRELATION: f32 = 0.5;

/// What is done to the weights of networks without BatchNorm. Part of a hypernetwork's form: wherever it predicts, it does this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormFree {
    /// Convolutions have standardized weights.
    pub standardized: bool,
    /// Sums are divided by the root of the number of their signals.
    pub scaled_sums: bool,
}

impl NormFree {
    /// Whether weights stay as decoded.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What either asks for.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            standardized: self.standardized || other.standardized,
            scaled_sums: self.scaled_sums || other.scaled_sums,
        }
    }
}

/// How one tensor is standardized, output channel by output channel.
#[derive(Clone, Copy, Debug)]
struct Standard {
    gain: f32,
    centred: bool,
    /// Weights of one input channel.
    taps: usize,
}

/// What becomes of one weight tensor.
#[derive(Debug)]
struct Change {
    parameter: usize,
    /// Output channels.
    rows: usize,
    standard: Option<Standard>,
    /// Factor of each input channel, or of each output channel of a depthwise convolution; all 1 if empty.
    factors: Vec<f32>,
    depthwise: bool,
    /// As decoded.
    decoded: Vec<f32>,
}

/// What was done to the tensors of one network; without changes as they were decoded.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    /// Changes the tensors of a network, if it is one without BatchNorm.
    pub(super) fn apply(net: &Blueprint, form: NormFree, tensors: &mut [Vec<f32>]) -> Self {
        if form.is_plain() || net.parameters.iter().any(|p| p.kind == ParameterKind::Norm) {
            return Self::default();
        }
        let signals = if form.scaled_sums { signals(net) } else { Vec::new() };
        let mut changes = Vec::new();
        for layer in &net.layers {
            let Some(parameter) = layer.parameter else { continue };
            let input = layer.inputs[0];
            let (depthwise, standard) = match layer.op {
                LayerOp::Convolution(conv) => {
                    let behind_relu = input > 0 && net.layers[input - 1].op == LayerOp::Relu;
                    let gain = match (behind_relu, conv.depthwise) {
                        (false, _) => 1.0,
                        // Half of the square, and of the variance 1/2 - 1/(2 pi), of a normal variable is left.
                        (true, true) => 2f32.sqrt(),
                        (true, false) => (2.0 / (1.0 - 1.0 / PI)).sqrt(),
                    };
                    let standard = Standard { gain, centred: !conv.depthwise, taps: conv.kernel.pow(2) };
                    (conv.depthwise, form.standardized.then_some(standard))
                }
                _ => (false, None),
            };
            let factor = |&n: &u32| 1.0 / (n as f32).sqrt();
            let factors = signals.get(input).filter(|n| n.iter().any(|&n| n > 1));
            let factors: Vec<f32> = factors.map(|n| n.iter().map(factor).collect()).unwrap_or_default();
            if standard.is_none() && factors.is_empty() {
                continue;
            }
            let rows = net.parameters[parameter].shape[0];
            let decoded = tensors[parameter].clone();
            let change = Change { parameter, rows, standard, factors, depthwise, decoded };
            change.forward(&mut tensors[parameter]);
            changes.push(change);
        }
        Self(changes)
    }

    /// Whether all tensors are as decoded.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of the gradients of the changed tensors those of the decoded ones.
    pub(super) fn backward(&self, gradients: &mut [Vec<f32>]) {
        self.0.iter().for_each(|change| change.backward(&mut gradients[change.parameter]));
    }
}

impl Change {
    fn forward(&self, weights: &mut [f32]) {
        if let Some(standard) = self.standard {
            let row = weights.len() / self.rows;
            weights.chunks_exact_mut(row).for_each(|row| standard.forward(row));
        }
        self.multiply(weights);
    }

    fn backward(&self, gradient: &mut [f32]) {
        self.multiply(gradient);
        if let Some(standard) = self.standard {
            let row = gradient.len() / self.rows;
            let rows = gradient.chunks_exact_mut(row).zip(self.decoded.chunks_exact(row));
            rows.for_each(|(d, w)| standard.backward(w, d));
        }
    }

    /// Multiplies each value by the factor of its channel.
    fn multiply(&self, values: &mut [f32]) {
        if self.factors.is_empty() {
            return;
        }
        // A depthwise convolution has one input channel for each output channel.
        let channels = if self.depthwise { 1 } else { self.rows };
        for row in values.chunks_exact_mut(values.len() / channels) {
            let taps = row.len() / self.factors.len();
            for (taps, factor) in row.chunks_exact_mut(taps).zip(&self.factors) {
                taps.iter_mut().for_each(|v| *v *= factor);
            }
        }
    }
}

impl Standard {
    fn mean(self, row: &[f32]) -> f32 {
        if self.centred && row.len() > 1 { row.iter().sum::<f32>() / row.len() as f32 } else { 0.0 }
    }

    /// The row less its mean, and the variance that it makes of inputs with variance 1 of which two pixels under one kernel
    /// correlate by [`CORRELATION`]; times 1/2 its gradient.
    fn variance(self, row: &[f32]) -> (Vec<f32>, f32, Vec<f32>) {
        let mean = self.mean(row);
        let centred: Vec<f32> = row.iter().map(|w| w - mean).collect();
        let slope = |taps: &[f32]| {
            let sum: f32 = taps.iter().sum();
            taps.iter().map(|w| (1.0 - CORRELATION) * w + CORRELATION * sum).collect::<Vec<_>>()
        };
        let slope: Vec<f32> = centred.chunks_exact(self.taps).flat_map(slope).collect();
        let variance = centred.iter().zip(&slope).map(|(w, s)| w * s).sum();
        (centred, variance, slope)
    }

    fn forward(self, row: &mut [f32]) {
        let (centred, variance, _) = self.variance(row);
        let factor = self.gain / (variance + EPSILON).sqrt();
        row.iter_mut().zip(centred).for_each(|(out, w)| *out = factor * w);
    }

    /// `d` is the gradient of the row that [`Self::forward`] made of `row`, and becomes that of `row`.
    fn backward(self, row: &[f32], d: &mut [f32]) {
        let (centred, variance, slope) = self.variance(row);
        let factor = self.gain / (variance + EPSILON).sqrt();
        let share = centred.iter().zip(&*d).map(|(w, d)| w * d).sum::<f32>() / (variance + EPSILON);
        d.iter_mut().zip(slope).for_each(|(d, slope)| *d = factor * (*d - share * slope));
        let mean = self.mean(d);
        d.iter_mut().for_each(|d| *d -= mean);
    }
}

/// For each value, and of it for each channel, how many outputs of convolutions it is the sum of.
fn signals(net: &Blueprint) -> Vec<Vec<u32>> {
    let mut signals = vec![vec![1; net.shape(0)[0]]];
    for layer in &net.layers {
        let of = |i: usize| signals[layer.inputs[i]].clone();
        let own = match layer.op {
            LayerOp::Add => of(0).iter().zip(of(1)).map(|(a, b)| a + b).collect(),
            LayerOp::Concat => layer.inputs.iter().flat_map(|&part| signals[part].iter().copied()).collect(),
            LayerOp::Flatten => {
                let [_, h, w] = net.shape(layer.inputs[0]);
                of(0).iter().flat_map(|&n| std::iter::repeat_n(n, h * w)).collect()
            }
            LayerOp::Relu
            | LayerOp::MaxPool { .. }
            | LayerOp::AveragePool { .. }
            | LayerOp::GlobalAverage
            | LayerOp::Dropout => of(0),
            LayerOp::Convolution(_) | LayerOp::Linear | LayerOp::Zeros | LayerOp::BatchNorm => vec![1; layer.shape[0]],
        };
        signals.push(own);
    }
    signals
}
