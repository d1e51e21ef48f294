//! The operations that training spends its time in, as one extension of burn's backends. Enters: burn tensors. Leaves:
//! burn tensors that know their gradient. Refused, by panic as in burn: shapes that do not fit each other; the executor
//! only makes calls that [`exporter::network::Network::check`] has approved.
//!
//! [`Kernels`] is what a backend computes, forward and backward. Its default bodies are compositions of burn's own
//! operations, so that a backend without code of ours works; `flex` overrides them with the kernels of this folder.
//! [`TrainOps`] is what a tape sees: it records one node for each call.

mod autodiff;
mod backend;
mod composed;
mod flex;
pub(crate) mod kernels;
mod pooling;
mod quantizer;
mod simulated;
mod survey;
#[cfg(test)]
mod tests;

pub use backend::Kernels;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use exporter::network::Window;
pub use pooling::{PoolOps, pool3};
pub use quantizer::Quantizer;
pub use simulated::{ConvNorm, Dynamic, SimulatedOps, both_signs, conv_norm, requantize};
pub use survey::{Survey, survey};

/// Limits of a clamp that does nothing.
pub const OPEN: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// Which statistics a BatchNorm normalizes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Mean and biased variance of the batch; the gradient flows through them.
    Batch,
    /// The ones given, as constants: what folding will use.
    Running,
}

/// Constants of a BatchNorm, of the clamp behind it and of the quantizer behind that.
#[derive(Clone, Copy, Debug)]
pub struct NormOptions {
    /// Added to the variance; positive.
    pub epsilon: f64,
    /// Limits of the clamp, infinite where there is none.
    pub limits: [f32; 2],
    /// Which statistics to use.
    pub statistics: Statistics,
    /// Of the clamped result, as [`fake_quantize`].
    pub quantizer: Option<Quantizer>,
}

/// Operations with a gradient. Layouts as in [`exporter::network`], with the batch `N` in front.
#[backend_extension(Flex, Autodiff)]
pub trait TrainOps: Backend {
    /// Convolution without bias: `x` is `N C H W`, `weight` is `K C/groups R S`.
    fn train_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self>;

    /// Means, biased variances, smallest and largest values of the channels, `4C`, without gradient.
    fn train_survey(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// BatchNorm by `statistics`, `2C`, clamp and quantizer; see [`normalize`].
    fn train_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self>;

    /// Fake quantization with the straight-through gradient; see [`fake_quantize`].
    fn train_fake_quantize(x: FloatTensor<Self>, quantizer: Quantizer) -> FloatTensor<Self>;

    /// `value`, with the gradient of `mask * x`.
    fn train_straight_through(
        x: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `clamp(a + b)`.
    fn train_add(a: FloatTensor<Self>, b: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self>;

    /// See [`clamp`].
    fn train_clamp(x: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self>;

    /// Max pooling over 2 x 2 windows, stride 2, no padding.
    fn train_max_pool2(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Smallest and largest element, as a vector of 2 without gradient; NaN if any element is not finite.
    fn train_range(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`quantiles`], as a vector of 2 without gradient.
    fn train_quantiles(x: FloatTensor<Self>, cut: f32) -> FloatTensor<Self>;
}

/// Convolution without bias: `x` is `N C H W`, `weight` is `K C/groups R S`.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, window: Window, groups: usize) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::train_conv2d(x.into_dispatch(), weight.into_dispatch(), window, groups))
}

/// BatchNorm and what [`NormOptions`] puts behind it. `running` is `2C` values: means, then biased variances; they are read
/// with [`Statistics::Running`] only. Returns the result and the statistics used, in the layout of `running`.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    running: Tensor<1>,
    options: NormOptions,
) -> (Tensor<4>, Tensor<1>) {
    let used = match options.statistics {
        Statistics::Batch => survey(x.clone()).statistics,
        Statistics::Running => running,
    };
    (normalize(x, gamma, beta, used.clone(), options), used)
}

/// BatchNorm by the statistics given: those of `x` itself, which the gradient then flows through, or constants, as
/// `options.statistics` says.
pub fn normalize(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    statistics: Tensor<1>,
    options: NormOptions,
) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::train_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        statistics.into_dispatch(),
        options,
    ))
}

/// Eq. 1 of the paper and back again: `(sat(RNE(x / scale) + zero_point) - zero_point) * scale`. The gradient passes
/// straight through where the integer was inside the limits, and is 0 elsewhere.
pub fn fake_quantize<const D: usize>(x: Tensor<D>, quantizer: Quantizer) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::train_fake_quantize(x.into_dispatch(), quantizer))
}

/// `value`, with the gradient of `mask * x`: for values that are computed elsewhere, as quantized weights are. The three
/// have one shape; neither `value` nor `mask` gets a gradient.
pub fn straight_through<const D: usize>(x: Tensor<D>, value: Tensor<D>, mask: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::train_straight_through(
        x.into_dispatch(),
        value.into_dispatch(),
        mask.into_dispatch(),
    ))
}

/// `clamp(a + b)` with limits that may be infinite.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>, limits: [f32; 2]) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::train_add(a.into_dispatch(), b.into_dispatch(), limits))
}

/// `x` within limits, which pass no gradient; both may be infinite.
pub fn clamp<const D: usize>(x: Tensor<D>, limits: [f32; 2]) -> Tensor<D> {
    match limits {
        OPEN => x,
        _ => Tensor::from_dispatch(Dispatch::train_clamp(x.into_dispatch(), limits)),
    }
}

/// Max pooling over 2 x 2 windows, stride 2, no padding; an odd last row or column is not read.
pub fn max_pool2(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::train_max_pool2(x.into_dispatch()))
}

/// Smallest and largest element; NaN if any element is not finite. No gradient.
pub fn range<const D: usize>(x: Tensor<D>) -> [f32; 2] {
    pair(Tensor::from_dispatch(Dispatch::train_range(x.into_dispatch())))
}

/// The values that a share of all elements, 0 to 1/2, lies below and above, interpolated linearly between neighbours; NaN if any
/// element is not finite. No gradient.
pub fn quantiles<const D: usize>(x: Tensor<D>, cut: f32) -> [f32; 2] {
    pair(Tensor::from_dispatch(Dispatch::train_quantiles(x.into_dispatch(), cut)))
}

fn pair(both: Tensor<1>) -> [f32; 2] {
    let both = both.into_data().try_to_vec::<f32>().expect("the backend computes in f32");
    [both[0], both[1]]
}
