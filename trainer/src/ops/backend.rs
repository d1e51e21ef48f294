//! What a backend computes for [`super::TrainOps`], with default bodies made of burn's own operations ([`composed`]).
//! Enters and leaves: backend tensors, no tape.

use super::{Dynamic, NormOptions, Quantizer, composed};
use burn::backend::{Backend, tensor::FloatTensor};
use burn::tensor::ops::ConvOptions;
use exporter::network::Window;

/// burn's form of a window.
pub(super) fn conv_options(window: &Window, groups: usize) -> ConvOptions<2> {
    let [top, left, bottom, right] = window.padding;
    ConvOptions::new_with_padding(window.stride, [(top, bottom), (left, right)], window.dilation, groups)
}

/// Forward and backward of every operation of [`super::TrainOps`].
pub trait Kernels: Backend {
    /// See [`super::conv2d`].
    fn conv2d_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, conv_options(&window, groups))
    }

    /// Gradient of [`Kernels::conv2d_forward`] by `x`.
    fn conv2d_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, weight, dy, conv_options(&window, groups))
    }

    /// Gradient of [`Kernels::conv2d_forward`] by `weight`.
    fn conv2d_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, weight, dy, conv_options(&window, groups))
    }

    /// Mean, biased variance, smallest and largest of each channel, `4C`.
    fn survey(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::survey::<Self>(x)
    }

    /// See [`super::normalize`].
    fn norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        composed::norm_forward::<Self>(x, gamma, beta, statistics, options)
    }

    /// Gradients of [`Kernels::norm_forward`]: `dx`, and `2C` values, those of gamma, then those of beta.
    fn norm_gradient(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::norm_gradient::<Self>(x, gamma, beta, statistics, dy, options)
    }

    /// See [`super::fake_quantize`].
    fn fake_quantize_forward(x: FloatTensor<Self>, q: Quantizer) -> FloatTensor<Self> {
        composed::fake_quantize_forward::<Self>(x, q)
    }

    /// Gradient of [`Kernels::fake_quantize_forward`] by `x`.
    fn fake_quantize_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>, q: Quantizer) -> FloatTensor<Self> {
        composed::fake_quantize_gradient::<Self>(x, dy, q)
    }

    /// See [`super::add`].
    fn add_forward(a: FloatTensor<Self>, b: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        composed::add_forward::<Self>(a, b, limits)
    }

    /// See [`super::clamp`].
    fn clamp_forward(x: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        composed::clamp::<Self>(x, limits)
    }

    /// Gradient of a clamp from its result `y`.
    fn clamp_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        composed::clamp_gradient::<Self>(y, dy, limits)
    }

    /// See [`super::max_pool2`].
    fn max_pool2_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::max_pool2_forward::<Self>(x)
    }

    /// Gradient of [`Kernels::max_pool2_forward`] by `x`.
    fn max_pool2_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::max_pool2_gradient::<Self>(x, dy)
    }

    /// See [`super::range`].
    fn range(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::range::<Self>(x)
    }

    /// See [`super::quantiles`].
    fn quantiles(x: FloatTensor<Self>, cut: f32) -> FloatTensor<Self> {
        composed::quantiles::<Self>(x, cut)
    }

    /// `x`, or `max(x, 0)`, on the grid of its range, and the range; see [`super::requantize`].
    fn requantize_forward(x: FloatTensor<Self>, relu: bool, form: Dynamic) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::requantize_forward::<Self>(x, relu, form)
    }

    /// Gradient of [`Kernels::requantize_forward`] by `x`.
    fn requantize_gradient(
        x: FloatTensor<Self>,
        range: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        relu: bool,
        form: Dynamic,
    ) -> FloatTensor<Self> {
        composed::requantize_gradient::<Self>(x, range, dy, relu, form)
    }

    /// Convolution with a bias for each output channel, one group.
    fn conv2d_shifted(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, weight, Some(bias), conv_options(&window, 1))
    }

    /// See [`super::pool3`].
    fn pool3_forward(x: FloatTensor<Self>, stride: usize, average: bool) -> FloatTensor<Self> {
        composed::pool3_forward::<Self>(x, stride, average)
    }

    /// Gradient of [`Kernels::pool3_forward`] by `x`.
    fn pool3_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>, stride: usize, average: bool) -> FloatTensor<Self> {
        composed::pool3_gradient::<Self>(x, dy, stride, average)
    }
}
