//! What a backend computes for [`super::TrainOps`], with default bodies made of burn's own operations. Enters and leaves:
//! backend tensors, no tape.

use super::{NormOptions, Quantizer, Statistics};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{IntDType, Shape};
use burn_backend::get_device_settings;
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

    /// See [`super::batch_norm`].
    fn norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        running: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let c = x.shape()[1];
        let [mean, variance] = match options.statistics {
            Statistics::Running => halves::<Self>(running.clone()),
            Statistics::Batch => {
                let mean = per_channel_mean::<Self>(x.clone());
                let about = Self::float_sub(x.clone(), lift::<Self>(mean.clone()));
                [mean, per_channel_mean::<Self>(Self::float_mul(about.clone(), about))]
            }
        };
        let y = clamp::<Self>(
            affine::<Self>(x, gamma, beta, [mean.clone(), variance.clone()], options.epsilon),
            options.limits,
        );
        let flat = Shape::new([c]);
        let statistics =
            Self::float_cat(vec![Self::float_reshape(mean, flat.clone()), Self::float_reshape(variance, flat)], 0);
        (y, statistics)
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
        let shape = x.shape();
        let count = shape.num_elements() / shape[1];
        let flat = Shape::new([shape[1]]);
        let [mean, variance] = halves::<Self>(statistics);
        let y = affine::<Self>(x.clone(), gamma.clone(), beta, [mean.clone(), variance.clone()], options.epsilon);
        let dy = pass_inside::<Self>(y, dy, options.limits);
        let deviation = Self::float_sqrt(Self::float_add_scalar(variance, options.epsilon.into()));
        let normal = Self::float_div(Self::float_sub(x, lift::<Self>(mean)), lift::<Self>(deviation.clone()));
        let mean_dy = per_channel_mean::<Self>(dy.clone());
        let mean_product = per_channel_mean::<Self>(Self::float_mul(dy.clone(), normal.clone()));
        let mut inner = dy;
        if options.statistics == Statistics::Batch {
            inner = Self::float_sub(inner, lift::<Self>(mean_dy.clone()));
            inner = Self::float_sub(inner, Self::float_mul(normal, lift::<Self>(mean_product.clone())));
        }
        let dx = Self::float_mul(inner, lift::<Self>(Self::float_div(gamma, deviation)));
        let total = |mean| Self::float_mul_scalar(Self::float_reshape(mean, flat.clone()), (count as f64).into());
        (dx, Self::float_cat(vec![total(mean_product), total(mean_dy)], 0))
    }

    /// See [`super::fake_quantize`].
    fn fake_quantize_forward(x: FloatTensor<Self>, q: Quantizer) -> FloatTensor<Self> {
        let integers = Self::float_sub_scalar(clamp::<Self>(integers::<Self>(x, q), q.limits), q.zero_point.into());
        Self::float_mul_scalar(integers, q.scale.into())
    }

    /// Gradient of [`Kernels::fake_quantize_forward`] by `x`.
    fn fake_quantize_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>, q: Quantizer) -> FloatTensor<Self> {
        // Integers: half a step beyond the limits is outside.
        pass_inside::<Self>(integers::<Self>(x, q), dy, [q.limits[0] - 0.5, q.limits[1] + 0.5])
    }

    /// See [`super::add`].
    fn add_forward(a: FloatTensor<Self>, b: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        clamp::<Self>(Self::float_add(a, b), limits)
    }

    /// Gradient of a clamp from its result `y`.
    fn clamp_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        pass_inside::<Self>(y, dy, limits)
    }

    /// See [`super::max_pool2`].
    fn max_pool2_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1], false)
    }

    /// Gradient of [`Kernels::max_pool2_forward`] by `x`.
    fn max_pool2_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (kernel, none, one) = ([2, 2], [0, 0], [1, 1]);
        let pooled = Self::max_pool2d_with_indices(x.clone(), kernel, kernel, none, one, false, IntDType::I32);
        Self::max_pool2d_with_indices_backward(x, kernel, kernel, none, one, false, dy, pooled.indices).x_grad
    }

    /// See [`super::range`].
    fn range(x: FloatTensor<Self>) -> FloatTensor<Self> {
        // Adding 0 * sum(x * 0) turns any NaN or infinity of x into NaN.
        let poison = Self::float_sum(Self::float_mul_scalar(x.clone(), 0.0.into()));
        let both = Self::float_cat(vec![Self::float_min(x.clone()), Self::float_max(x)], 0);
        Self::float_add(both, poison)
    }
}

/// `1 C 1 1` from `C`, as it is if it already has four extents.
fn lift<B: Backend>(v: FloatTensor<B>) -> FloatTensor<B> {
    let c = v.shape().num_elements();
    B::float_reshape(v, Shape::new([1, c, 1, 1]))
}

/// The two halves of a vector.
fn halves<B: Backend>(both: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let c = both.shape()[0] / 2;
    [B::float_slice(both.clone(), &[(0..c).into()]), B::float_slice(both, &[(c..2 * c).into()])]
}

/// Unclamped integers.
fn integers<B: Backend>(x: FloatTensor<B>, q: Quantizer) -> FloatTensor<B> {
    B::float_add_scalar(B::float_round(B::float_div_scalar(x, q.scale.into())), q.zero_point.into())
}

/// Mean over everything but the channel, as a vector `C`.
fn per_channel_mean<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let [n, c, pixels] = [shape[0], shape[1], shape[2] * shape[3]];
    let x = B::float_mean_dim(B::float_reshape(x, Shape::new([n, c, pixels])), 2);
    B::float_reshape(B::float_mean_dim(x, 0), Shape::new([c]))
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`.
fn affine<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    [mean, variance]: [FloatTensor<B>; 2],
    epsilon: f64,
) -> FloatTensor<B> {
    let scale = B::float_div(gamma, B::float_sqrt(B::float_add_scalar(variance, epsilon.into())));
    let shift = B::float_sub(beta, B::float_mul(mean, scale.clone()));
    B::float_add(B::float_mul(x, lift::<B>(scale)), lift::<B>(shift))
}

/// Clamp that leaves infinite limits away.
fn clamp<B: Backend>(x: FloatTensor<B>, [min, max]: [f32; 2]) -> FloatTensor<B> {
    let x = if min.is_finite() { B::float_clamp_min(x, min.into()) } else { x };
    if max.is_finite() { B::float_clamp_max(x, max.into()) } else { x }
}

/// `dy` where `y` lies strictly inside the limits, 0 elsewhere.
fn pass_inside<B: Backend>(y: FloatTensor<B>, dy: FloatTensor<B>, [min, max]: [f32; 2]) -> FloatTensor<B> {
    let bools = get_device_settings::<B>(&y.device()).bool_dtype;
    let mut dy = dy;
    if min.is_finite() {
        dy = B::float_mask_fill(dy, B::float_lower_equal_elem(y.clone(), min.into(), bools), 0.0.into());
    }
    if max.is_finite() {
        dy = B::float_mask_fill(dy, B::float_greater_equal_elem(y, max.into(), bools), 0.0.into());
    }
    dy
}
