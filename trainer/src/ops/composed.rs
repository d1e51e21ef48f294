//! The operations of [`super::Kernels`] as compositions of burn's own: what a backend runs that has no kernels of ours, and
//! what ours are tested against. Enters and leaves: backend tensors, no tape.

use super::{Dynamic, NormOptions, Quantizer, Statistics, simulated};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{IntDType, Shape};
use burn_backend::{TensorData, get_device_settings};

/// See [`super::Kernels::survey`].
pub(super) fn survey<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let (c, count) = (shape[1], shape.num_elements() / shape[1]);
    let rows = B::float_reshape(B::float_swap_dims(x.clone(), 0, 1), Shape::new([c, count]));
    let [mean, variance] = moments::<B>(x);
    let flat = |t| B::float_reshape(t, Shape::new([c]));
    let (low, high) = (flat(B::float_min_dim(rows.clone(), 1)), flat(B::float_max_dim(rows, 1)));
    B::float_cat(vec![mean, variance, low, high], 0)
}

/// See [`super::Kernels::norm_forward`].
pub(super) fn norm_forward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    statistics: FloatTensor<B>,
    options: NormOptions,
) -> FloatTensor<B> {
    let y = clamp::<B>(affine::<B>(x, gamma, beta, halves::<B>(statistics), options.epsilon), options.limits);
    match options.quantizer {
        Some(quantizer) => fake_quantize_forward::<B>(y, quantizer),
        None => y,
    }
}

/// See [`super::Kernels::norm_gradient`].
pub(super) fn norm_gradient<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    statistics: FloatTensor<B>,
    dy: FloatTensor<B>,
    options: NormOptions,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let count = shape.num_elements() / shape[1];
    let flat = Shape::new([shape[1]]);
    let [mean, variance] = halves::<B>(statistics);
    let y = affine::<B>(x.clone(), gamma.clone(), beta, [mean.clone(), variance.clone()], options.epsilon);
    let dy = match options.quantizer {
        Some(quantizer) => fake_quantize_gradient::<B>(clamp::<B>(y.clone(), options.limits), dy, quantizer),
        None => dy,
    };
    let dy = pass_inside::<B>(y, dy, options.limits);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, options.epsilon.into()));
    let normal = B::float_div(B::float_sub(x, lift::<B>(mean)), lift::<B>(deviation.clone()));
    let mean_dy = per_channel_mean::<B>(dy.clone());
    let mean_product = per_channel_mean::<B>(B::float_mul(dy.clone(), normal.clone()));
    let mut inner = dy;
    if options.statistics == Statistics::Batch {
        inner = B::float_sub(inner, lift::<B>(mean_dy.clone()));
        inner = B::float_sub(inner, B::float_mul(normal, lift::<B>(mean_product.clone())));
    }
    let dx = B::float_mul(inner, lift::<B>(B::float_div(gamma, deviation)));
    let total = |mean| B::float_mul_scalar(B::float_reshape(mean, flat.clone()), (count as f64).into());
    (dx, B::float_cat(vec![total(mean_product), total(mean_dy)], 0))
}

/// See [`super::Kernels::fake_quantize_forward`].
pub(super) fn fake_quantize_forward<B: Backend>(x: FloatTensor<B>, q: Quantizer) -> FloatTensor<B> {
    let integers = B::float_sub_scalar(clamp::<B>(integers::<B>(x, q), q.limits), q.zero_point.into());
    B::float_mul_scalar(integers, q.scale.into())
}

/// See [`super::Kernels::fake_quantize_gradient`].
pub(super) fn fake_quantize_gradient<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
    q: Quantizer,
) -> FloatTensor<B> {
    // Integers: half a step beyond the limits is outside.
    pass_inside::<B>(integers::<B>(x, q), dy, [q.limits[0] - 0.5, q.limits[1] + 0.5])
}

/// See [`super::Kernels::add_forward`].
pub(super) fn add_forward<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, limits: [f32; 2]) -> FloatTensor<B> {
    clamp::<B>(B::float_add(a, b), limits)
}

/// See [`super::Kernels::clamp_gradient`].
pub(super) fn clamp_gradient<B: Backend>(y: FloatTensor<B>, dy: FloatTensor<B>, limits: [f32; 2]) -> FloatTensor<B> {
    pass_inside::<B>(y, dy, limits)
}

/// See [`super::Kernels::max_pool2_forward`].
pub(super) fn max_pool2_forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1], false)
}

/// See [`super::Kernels::max_pool2_gradient`].
pub(super) fn max_pool2_gradient<B: Backend>(x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    let (kernel, none, one) = ([2, 2], [0, 0], [1, 1]);
    let pooled = B::max_pool2d_with_indices(x.clone(), kernel, kernel, none, one, false, IntDType::I32);
    B::max_pool2d_with_indices_backward(x, kernel, kernel, none, one, false, dy, pooled.indices).x_grad
}

/// See [`super::Kernels::pool3_forward`].
pub(super) fn pool3_forward<B: Backend>(x: FloatTensor<B>, stride: usize, average: bool) -> FloatTensor<B> {
    let (kernel, stride, one) = ([3, 3], [stride; 2], [1, 1]);
    if average {
        B::avg_pool2d(x, kernel, stride, one, false, false)
    } else {
        B::max_pool2d(x, kernel, stride, one, one, false)
    }
}

/// See [`super::Kernels::pool3_gradient`].
pub(super) fn pool3_gradient<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
    stride: usize,
    average: bool,
) -> FloatTensor<B> {
    let (kernel, stride, one) = ([3, 3], [stride; 2], [1, 1]);
    if average {
        return B::avg_pool2d_backward(x, dy, kernel, stride, one, false, false);
    }
    let pooled = B::max_pool2d_with_indices(x.clone(), kernel, stride, one, one, false, IntDType::I32);
    B::max_pool2d_with_indices_backward(x, kernel, stride, one, one, false, dy, pooled.indices).x_grad
}

/// See [`super::Kernels::range`].
pub(super) fn range<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    // Adding 0 * sum(x * 0) turns any NaN or infinity of x into NaN.
    let poison = B::float_sum(B::float_mul_scalar(x.clone(), 0.0.into()));
    let both = B::float_cat(vec![B::float_min(x.clone()), B::float_max(x)], 0);
    B::float_add(both, poison)
}

/// See [`super::Kernels::quantiles`].
pub(super) fn quantiles<B: Backend>(x: FloatTensor<B>, cut: f32) -> FloatTensor<B> {
    let count = x.shape().num_elements();
    let poison = B::float_sum(B::float_mul_scalar(x.clone(), 0.0.into()));
    let sorted = B::float_sort(B::float_reshape(x, Shape::new([count])), 0, false);
    let both = [cut, 1.0 - cut].map(|share| quantile::<B>(sorted.clone(), count, share));
    B::float_add(B::float_cat(both.into(), 0), poison)
}

/// See [`super::Kernels::requantize_forward`].
pub(super) fn requantize_forward<B: Backend>(
    x: FloatTensor<B>,
    relu: bool,
    form: Dynamic,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let x = if relu { B::float_clamp_min(x, 0.0.into()) } else { x };
    let shape = x.shape();
    let count = shape.num_elements();
    let line = B::float_reshape(x, Shape::new([count]));
    let [low, high] = if form.cut > 0.0 {
        halves::<B>(quantiles::<B>(line.clone(), form.cut))
    } else {
        [B::float_min(line.clone()), B::float_max(line.clone())]
    };
    let (low, high) = (B::float_clamp_max(low, 0.0.into()), B::float_clamp_min(high, 0.0.into()));
    let (low, high) = if form.both_signs { both_signs::<B>(low, high, form.top()) } else { (low, high) };
    let range = B::float_cat(vec![low.clone(), high.clone()], 0);
    let step = B::float_div_scalar(B::float_sub(high.clone(), low.clone()), form.top().into());
    // Nothing but zeros: any step does.
    let bools = get_device_settings::<B>(&step.device()).bool_dtype;
    let step = B::float_mask_fill(step.clone(), B::float_equal_elem(step, 0.0.into(), bools), 1.0.into());
    let y = if let Some(seed) = form.noise {
        let noise = B::float_from_data(TensorData::new(simulated::noise(seed, count), [count]), &line.device());
        // x within the range: low + max(x - low, 0), then high - max(high - that, 0).
        let above = B::float_add(B::float_clamp_min(B::float_sub(line, low.clone()), 0.0.into()), low);
        let inside = B::float_sub(high.clone(), B::float_clamp_min(B::float_sub(high, above), 0.0.into()));
        B::float_add(inside, B::float_mul(noise, step))
    } else {
        let zero = B::float_round(B::float_neg(B::float_div(low, step.clone())));
        let integers = B::float_add(B::float_round(B::float_div(line, step.clone())), zero.clone());
        let integers = clamp::<B>(integers, [0.0, form.top()]);
        B::float_mul(B::float_sub(integers, zero), step)
    };
    (B::float_reshape(y, shape), range)
}

/// See [`simulated::both_signs`].
fn both_signs<B: Backend>(low: FloatTensor<B>, high: FloatTensor<B>, top: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let bools = get_device_settings::<B>(&low.device()).bool_dtype;
    let step = B::float_div_scalar(B::float_sub(high.clone(), low.clone()), top.into());
    let zero_point = B::float_round(B::float_neg(B::float_div(low.clone(), step.clone())));
    let inner = clamp::<B>(zero_point.clone(), [1.0, top - 1.0]);
    let negative = B::float_lower_elem(low.clone(), 0.0.into(), bools);
    let both = B::bool_and(negative, B::float_greater_elem(high.clone(), 0.0.into(), bools));
    let moved = B::bool_and(both, B::float_not_equal(zero_point, inner.clone(), bools));
    let [first, last] = [inner.clone(), B::float_add_scalar(inner, (-top).into())]
        .map(|integer| B::float_neg(B::float_mul(integer, step.clone())));
    (B::float_mask_where(low, moved.clone(), first), B::float_mask_where(high, moved, last))
}

/// See [`super::Kernels::requantize_gradient`].
pub(super) fn requantize_gradient<B: Backend>(
    x: FloatTensor<B>,
    range: FloatTensor<B>,
    dy: FloatTensor<B>,
    relu: bool,
    form: Dynamic,
) -> FloatTensor<B> {
    let bools = get_device_settings::<B>(&x.device()).bool_dtype;
    let mut dy = dy;
    if relu {
        dy = B::float_mask_fill(dy, B::float_lower_equal_elem(x.clone(), 0.0.into(), bools), 0.0.into());
    }
    if form.ends() {
        let shape = Shape::from(vec![1; x.shape().len()]);
        let [low, high] = halves::<B>(range).map(|end| B::float_reshape(end, shape.clone()));
        dy = B::float_mask_fill(dy, B::float_lower(x.clone(), low, bools), 0.0.into());
        dy = B::float_mask_fill(dy, B::float_greater(x, high, bools), 0.0.into());
    }
    dy
}

/// Mean and biased variance of each channel.
fn moments<B: Backend>(x: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let mean = per_channel_mean::<B>(x.clone());
    let about = B::float_sub(x, lift::<B>(mean.clone()));
    [mean, per_channel_mean::<B>(B::float_mul(about.clone(), about))]
}

/// Between the two neighbours in a sorted vector, linearly.
fn quantile<B: Backend>(sorted: FloatTensor<B>, count: usize, share: f32) -> FloatTensor<B> {
    let (at, part) = simulated::place(count, share);
    let one = |i: usize| B::float_slice(sorted.clone(), &[(i..i + 1).into()]);
    let (low, high) = (one(at), one((at + 1).min(count - 1)));
    B::float_add(low.clone(), B::float_mul_scalar(B::float_sub(high, low), part.into()))
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
pub(super) fn clamp<B: Backend>(x: FloatTensor<B>, [min, max]: [f32; 2]) -> FloatTensor<B> {
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
