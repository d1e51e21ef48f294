//! SimQuant with ranges of the batch: what networks need whose parameters are predicted anew in every step, so that nothing
//! can be averaged. Enters: burn tensors. Leaves: burn tensors that know their gradient. Refused, by panic as in burn:
//! shapes that do not fit each other.
//!
//! Tensorwise, asymmetric, uniform (Eq. 1 to 3 of the paper): 0 is always in the range, so that it has an integer; a tensor
//! of nothing but zeros passes as it is; ranges are constants to the gradient. NoiseQuant (Eq. 5) puts uniform noise of one
//! step in the place of rounding.

use super::{Kernels, NormOptions, OPEN, Statistics};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use exporter::network::Window;

/// A quantizer that takes its range from the tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dynamic {
    /// 1 to 8.
    pub bits: u8,
    /// Share of the values cut off at either end; 0 for the smallest and the largest.
    pub cut: f32,
    /// Whether a range with values of both signs has a level for each ([`both_signs`]).
    pub both_signs: bool,
    /// Noise instead of rounding, from this seed.
    pub noise: Option<u64>,
}

impl Dynamic {
    /// Rounding, from the smallest to the largest value.
    pub const fn absolute(bits: u8) -> Self {
        Self { bits, cut: 0.0, both_signs: false, noise: None }
    }

    /// Largest integer.
    pub(super) fn top(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// Whether values outside the range pass no gradient.
    pub(super) fn ends(&self) -> bool {
        self.cut > 0.0 || self.both_signs
    }
}

/// A range `[low, high]` around 0, moved by a step if its zero point would be the first or the last of the integers 0 to `top`
/// though it holds values of both signs. With two bits that is common, and then all values of one sign round to 0: a sum that
/// is mostly negative has nothing left behind a ReLU. Ranges of one sign stay as they are.
pub fn both_signs([low, high]: [f32; 2], top: f32) -> [f32; 2] {
    let step = (high - low) / top;
    let zero_point = (-low / step).round_ties_even();
    let inner = zero_point.max(1.0).min(top - 1.0);
    if low < 0.0 && high > 0.0 && zero_point != inner { [-(inner * step), (top - inner) * step] } else { [low, high] }
}

/// A convolution with the BatchNorm behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvNorm {
    /// Of the convolution, which has one group.
    pub window: Window,
    /// Added to the variance; positive.
    pub epsilon: f64,
    /// Of the folded weights.
    pub weights: Dynamic,
}

/// Operations with a gradient.
#[backend_extension(Flex, Autodiff)]
pub trait SimulatedOps: Backend {
    /// See [`requantize`].
    fn train_requantize(x: FloatTensor<Self>, relu: bool, form: Dynamic) -> FloatTensor<Self>;

    /// See [`conv_norm`].
    fn train_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: ConvNorm,
    ) -> FloatTensor<Self>;
}

/// `x`, or `max(x, 0)`, on the grid of its own range. The gradient passes within the range, and where a ReLU lets it.
pub fn requantize<const D: usize>(x: Tensor<D>, relu: bool, form: Dynamic) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::train_requantize(x.into_dispatch(), relu, form))
}

/// Convolution and BatchNorm, folded by the statistics of this batch and then quantized (Eq. 4 with the batch's variance):
///
/// `conv(x, Q(w gamma / sqrt(var + epsilon))) + beta - gamma mean / sqrt(var + epsilon)`, with mean and biased variance of
/// `conv(x, w)`. The gradient goes through mean and variance too.
pub fn conv_norm(x: Tensor<4>, weight: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, options: ConvNorm) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::train_conv_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        options,
    ))
}

#[derive(Debug)]
struct Requantize;
impl<B: Kernels> Backward<B, 1> for Requantize {
    type State = (FloatTensor<B>, FloatTensor<B>, bool, Dynamic);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([node], (x, range, relu, form)) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            let dx = if relu || form.ends() { B::requantize_gradient(x, range, dy, relu, form) } else { dy };
            grads.register::<B>(node.id, dx);
        }
    }
}

/// What the gradient of [`conv_norm`] reads.
#[derive(Debug)]
struct Folded<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    gamma: FloatTensor<B>,
    /// `conv(x, weight)`, and its means and variances.
    y: FloatTensor<B>,
    statistics: FloatTensor<B>,
    /// `gamma / sqrt(var + epsilon)`, `K 1 1 1`.
    factor: FloatTensor<B>,
    /// Folded weights: as they are, quantized, and their range.
    folded: FloatTensor<B>,
    quantized: FloatTensor<B>,
    range: FloatTensor<B>,
}

impl<B: Backend> Clone for Folded<B> {
    fn clone(&self) -> Self {
        Self {
            x: self.x.clone(),
            weight: self.weight.clone(),
            gamma: self.gamma.clone(),
            y: self.y.clone(),
            statistics: self.statistics.clone(),
            factor: self.factor.clone(),
            folded: self.folded.clone(),
            quantized: self.quantized.clone(),
            range: self.range.clone(),
        }
    }
}

/// The two halves of a vector.
fn halves<B: Backend>(both: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let c = both.shape()[0] / 2;
    [B::float_slice(both.clone(), &[(0..c).into()]), B::float_slice(both, &[(c..2 * c).into()])]
}

fn column<B: Backend>(v: FloatTensor<B>) -> FloatTensor<B> {
    let c = v.shape().num_elements();
    B::float_reshape(v, Shape::new([c, 1, 1, 1]))
}

fn flat<B: Backend>(v: FloatTensor<B>) -> FloatTensor<B> {
    let c = v.shape().num_elements();
    B::float_reshape(v, Shape::new([c]))
}

/// `1 / sqrt(variance + epsilon)`.
fn inverse_deviation<B: Backend>(variance: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    B::float_recip(B::float_sqrt(B::float_add_scalar(variance, epsilon.into())))
}

fn conv_norm_forward<B: Kernels>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    options: ConvNorm,
) -> (FloatTensor<B>, Folded<B>) {
    let y = B::conv2d_forward(x.clone(), weight.clone(), options.window, 1);
    let c = y.shape()[1];
    let statistics = B::float_slice(B::survey(y.clone()), &[(0..2 * c).into()]);
    let [mean, variance] = halves::<B>(statistics.clone());
    let scale = B::float_mul(gamma.clone(), inverse_deviation::<B>(variance, options.epsilon));
    let shift = B::float_sub(beta, B::float_mul(mean, scale.clone()));
    let factor = column::<B>(scale);
    let folded = B::float_mul(weight.clone(), factor.clone());
    let (quantized, range) = B::requantize_forward(folded.clone(), false, options.weights);
    let out = B::conv2d_shifted(x.clone(), quantized.clone(), shift, options.window);
    (out, Folded { x, weight, gamma, y, statistics, factor, folded, quantized, range })
}

#[derive(Debug)]
struct Fold;
impl<B: Kernels> Backward<B, 4> for Fold {
    type State = (Folded<B>, ConvNorm);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([x_node, weight_node, gamma_node, beta_node], (s, options)) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        let window = options.window;
        let c = s.gamma.shape()[0];
        // The gradient of `y` if it were normalized without being quantized: with the weights' gradient passing
        // everywhere, that of the quantized form by the weights is the same.
        let norm =
            NormOptions { epsilon: options.epsilon, limits: OPEN, statistics: Statistics::Batch, quantizer: None };
        let zeros = B::float_mul_scalar(s.gamma.clone(), 0.0.into());
        let (plain, parameters) =
            B::norm_gradient(s.y.clone(), s.gamma.clone(), zeros, s.statistics.clone(), dy.clone(), norm);
        let [mut d_gamma, d_beta] = halves::<B>(parameters);
        // `plain` is `factor * dy` and a part through the statistics; the error of quantization goes with `dy`.
        let mut error = B::float_sub(s.quantized.clone(), s.folded.clone());
        let mut through = plain.clone();
        let mut d_weight = B::conv2d_weight_gradient(s.x.clone(), s.weight.clone(), plain, window, 1);
        if options.weights.ends() {
            // Folded weights that the range cut off pass nothing: `lost` is the gradient that the lines above gave them.
            let d_folded = B::conv2d_weight_gradient(s.x.clone(), s.weight.clone(), dy.clone(), window, 1);
            let kept = B::requantize_gradient(s.folded.clone(), s.range, d_folded.clone(), false, options.weights);
            let lost = B::float_sub(d_folded, kept);
            // Of the sum over a channel's lost gradient times weight: by gamma, and by the variance.
            let extents = s.weight.shape();
            let rows = Shape::new([c, extents.num_elements() / c]);
            let product = B::float_reshape(B::float_mul(lost.clone(), s.weight.clone()), rows);
            let product = flat::<B>(B::float_sum_dim(product, 1));
            let [mean, variance] = halves::<B>(s.statistics);
            let inverse = inverse_deviation::<B>(variance, options.epsilon);
            d_gamma = B::float_sub(d_gamma, B::float_mul(product.clone(), inverse.clone()));
            // d factor / d var = -factor / 2 (var + epsilon); var = mean of (y - mean)^2.
            let count = (s.y.shape().num_elements() / c) as f64;
            let cube = B::float_mul(B::float_mul(inverse.clone(), inverse.clone()), flat::<B>(s.factor.clone()));
            let slope = B::float_mul_scalar(B::float_mul(product, cube), (1.0 / count).into());
            let lift = |v: FloatTensor<B>| B::float_reshape(v, Shape::new([1, c, 1, 1]));
            let back = B::float_mul(B::float_sub(s.y, lift(mean)), lift(slope));
            let d_back = B::conv2d_weight_gradient(s.x.clone(), s.weight.clone(), back.clone(), window, 1);
            d_weight = B::float_sub(d_weight, B::float_mul(lost, s.factor));
            d_weight = B::float_add(d_weight, d_back);
            through = B::float_add(through, back);
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, d_weight);
        }
        if let Some(node) = x_node {
            let dx = B::conv2d_input_gradient(s.x.clone(), s.weight, through, window, 1);
            error = B::conv2d_input_gradient(s.x, error, dy, window, 1);
            grads.register::<B>(node.id, B::float_add(dx, error));
        }
        for (node, gradient) in [(gamma_node, d_gamma), (beta_node, d_beta)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl SimulatedOps for Flex {
    fn train_requantize(x: FloatTensor<Self>, relu: bool, form: Dynamic) -> FloatTensor<Self> {
        Self::requantize_forward(x, relu, form).0
    }

    fn train_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: ConvNorm,
    ) -> FloatTensor<Self> {
        conv_norm_forward::<Self>(x, weight, gamma, beta, options).0
    }
}

impl<B: Kernels, C: CheckpointStrategy> SimulatedOps for Autodiff<B, C> {
    fn train_requantize(x: FloatTensor<Self>, relu: bool, form: Dynamic) -> FloatTensor<Self> {
        let prepared = Requantize.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        let (y, range) = B::requantize_forward(x.clone(), relu, form);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((x, range, relu, form), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: ConvNorm,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), gamma.node(), beta.node()];
        let prepared = Fold.prepare::<C>(nodes).compute_bound().stateful();
        let [x, weight, gamma, beta] = [x, weight, gamma, beta].map(|t| t.into_primitive());
        let (y, folded) = conv_norm_forward::<B>(x, weight, gamma, beta, options);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((folded, options), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

/// Uniform in `[-1/2, 1/2)`: element `i` depends on the seed and `i` alone.
pub(super) fn noise(seed: u64, elements: usize) -> Vec<f32> {
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use rayon::prelude::*;
    const CHUNK: usize = 16 * 1024;
    let mut noise = vec![0.0; elements];
    noise.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(i as u64);
        chunk.iter_mut().for_each(|v| *v = (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5);
    });
    noise
}

/// Where a quantile lies among so many sorted values: the index below it, and the share of the way to the next.
pub(super) fn place(count: usize, share: f32) -> (usize, f32) {
    let at = f64::from(share) * (count - 1) as f64;
    (at.floor() as usize, (at - at.floor()) as f32)
}
