//! [`Kernels`] for burn's CPU backend, on the slices behind its tensors. Enters: `f32` tensors of any layout, made
//! contiguous first. Leaves: contiguous tensors.

use super::backend::conv_options;
use super::kernels::{conv, depthwise, norm, pointwise, pool, pool3, quantile};
use super::{Dynamic, Kernels, NormOptions, Quantizer, Statistics, TrainOps, simulated};
use burn::backend::{Flex, TensorMetadata, ops::ModuleOps, tensor::FloatTensor};
use burn_backend::TensorData;
use burn_flex::FlexTensor;
use conv::Geometry;
use exporter::network::Window;

/// The elements of a contiguous tensor.
fn elements(tensor: &FlexTensor) -> &[f32] {
    let (start, end) = tensor.layout().contiguous_offsets().expect("the tensor was made contiguous");
    &tensor.storage::<f32>()[start..end]
}

fn tensor(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

fn geometry(x: &FlexTensor, weight: &FlexTensor, window: Window) -> Geometry {
    let [n, c, h, w] = x.shape().dims();
    let output = window.output(h, w).expect("the window fits into the image");
    Geometry { n, c, input: [h, w], k: weight.shape()[0], output, window }
}

fn norm_geometry(x: &FlexTensor, options: &NormOptions) -> norm::Norm {
    let [_, c, h, w] = x.shape().dims();
    let NormOptions { epsilon, limits, quantizer, .. } = *options;
    norm::Norm { c, pixels: h * w, epsilon, limits, quantizer }
}

fn map(x: FlexTensor, f: impl FnOnce(&[f32]) -> Vec<f32>) -> FlexTensor {
    let x = x.to_contiguous();
    let shape: Vec<usize> = x.shape().to_vec();
    tensor(f(elements(&x)), shape)
}

/// Changes the elements of a tensor, in their place if nobody else reads them.
fn change<T>(tensor: FlexTensor, f: impl FnOnce(&mut [f32]) -> T) -> (FlexTensor, T) {
    let mut tensor = tensor.to_contiguous();
    let (start, end) = tensor.layout().contiguous_offsets().expect("the tensor was made contiguous");
    let found = f(&mut tensor.storage_mut::<f32>()[start..end]);
    (tensor, found)
}

/// Which of the kernels computes a convolution.
enum Form {
    Dense,
    Depthwise,
    /// Several groups of several channels: burn's own convolution.
    Grouped,
}

impl Form {
    fn of(weight: &FlexTensor, groups: usize) -> Self {
        match (groups, weight.shape()[1]) {
            (1, _) => Self::Dense,
            (_, 1) => Self::Depthwise,
            _ => Self::Grouped,
        }
    }
}

impl Kernels for Flex {
    fn conv2d_forward(x: FlexTensor, weight: FlexTensor, window: Window, groups: usize) -> FlexTensor {
        let kernel = match Form::of(&weight, groups) {
            Form::Dense => conv::forward,
            Form::Depthwise => depthwise::forward,
            Form::Grouped => return Self::conv2d(x, weight, None, conv_options(&window, groups)),
        };
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let g = geometry(&x, &weight, window);
        tensor(kernel(elements(&x), elements(&weight), &g), [g.n, g.k, g.output[0], g.output[1]])
    }

    fn conv2d_input_gradient(
        x: FlexTensor,
        weight: FlexTensor,
        dy: FlexTensor,
        window: Window,
        groups: usize,
    ) -> FlexTensor {
        let kernel = match Form::of(&weight, groups) {
            Form::Dense => conv::input_gradient,
            Form::Depthwise => depthwise::input_gradient,
            Form::Grouped => return Self::conv2d_x_backward(x, weight, dy, conv_options(&window, groups)),
        };
        let (weight, dy) = (weight.to_contiguous(), dy.to_contiguous());
        let g = geometry(&x, &weight, window);
        tensor(kernel(elements(&weight), elements(&dy), &g), [g.n, g.c, g.input[0], g.input[1]])
    }

    fn conv2d_weight_gradient(
        x: FlexTensor,
        weight: FlexTensor,
        dy: FlexTensor,
        window: Window,
        groups: usize,
    ) -> FlexTensor {
        let kernel = match Form::of(&weight, groups) {
            Form::Dense => conv::weight_gradient,
            Form::Depthwise => depthwise::weight_gradient,
            Form::Grouped => return Self::conv2d_weight_backward(x, weight, dy, conv_options(&window, groups)),
        };
        let (x, dy) = (x.to_contiguous(), dy.to_contiguous());
        let g = geometry(&x, &weight, window);
        let shape: Vec<usize> = weight.shape().to_vec();
        tensor(kernel(elements(&x), elements(&dy), &g), shape)
    }

    fn survey(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let [_, c, h, w] = x.shape().dims();
        tensor(norm::survey(elements(&x), c, h * w), [4 * c])
    }

    fn norm_forward(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        statistics: FlexTensor,
        options: NormOptions,
    ) -> FlexTensor {
        let [x, gamma, beta, statistics] = [x, gamma, beta, statistics].map(|t| t.to_contiguous());
        let norm = norm_geometry(&x, &options);
        let y = norm::forward(elements(&x), elements(&gamma), elements(&beta), elements(&statistics), &norm);
        let shape: Vec<usize> = x.shape().to_vec();
        tensor(y, shape)
    }

    fn norm_gradient(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        statistics: FlexTensor,
        dy: FlexTensor,
        options: NormOptions,
    ) -> (FlexTensor, FlexTensor) {
        let [x, gamma, beta, statistics] = [x, gamma, beta, statistics].map(|t| t.to_contiguous());
        let norm = norm_geometry(&x, &options);
        let of_batch = options.statistics == Statistics::Batch;
        let [x, gamma, beta, statistics] = [&x, &gamma, &beta, &statistics].map(elements);
        let (dx, parameters) = change(dy, |dy| norm::backward(x, gamma, beta, statistics, dy, of_batch, &norm));
        (dx, tensor(parameters, [2 * norm.c]))
    }

    fn fake_quantize_forward(x: FlexTensor, quantizer: Quantizer) -> FlexTensor {
        map(x, |x| pointwise::fake_quantize(x, quantizer))
    }

    fn fake_quantize_gradient(x: FlexTensor, dy: FlexTensor, quantizer: Quantizer) -> FlexTensor {
        let x = x.to_contiguous();
        change(dy, |dy| pointwise::pass_within(elements(&x), dy, quantizer.inside())).0
    }

    fn add_forward(a: FlexTensor, b: FlexTensor, limits: [f32; 2]) -> FlexTensor {
        let b = b.to_contiguous();
        map(a, |a| pointwise::add(a, elements(&b), limits))
    }

    fn clamp_forward(x: FlexTensor, limits: [f32; 2]) -> FlexTensor {
        map(x, |x| pointwise::clamp(x, limits))
    }

    fn clamp_gradient(y: FlexTensor, dy: FlexTensor, limits: [f32; 2]) -> FlexTensor {
        let y = y.to_contiguous();
        let inside = [limits[0].next_up(), limits[1].next_down()];
        change(dy, |dy| pointwise::pass_within(elements(&y), dy, inside)).0
    }

    fn max_pool2_forward(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let [n, c, h, w] = x.shape().dims();
        tensor(pool::forward(elements(&x), [h, w]), [n, c, h / 2, w / 2])
    }

    fn max_pool2_gradient(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (x, dy) = (x.to_contiguous(), dy.to_contiguous());
        let [n, c, h, w] = x.shape().dims();
        tensor(pool::backward(elements(&x), elements(&dy), [h, w]), [n, c, h, w])
    }

    fn pool3_forward(x: FlexTensor, stride: usize, average: bool) -> FlexTensor {
        let x = x.to_contiguous();
        let [n, c, h, w] = x.shape().dims();
        let g = pool3::Pool3 { input: [h, w], stride, average };
        let [oh, ow] = g.output();
        tensor(pool3::forward(elements(&x), g), [n, c, oh, ow])
    }

    fn pool3_gradient(x: FlexTensor, dy: FlexTensor, stride: usize, average: bool) -> FlexTensor {
        let (x, dy) = (x.to_contiguous(), dy.to_contiguous());
        let [n, c, h, w] = x.shape().dims();
        let g = pool3::Pool3 { input: [h, w], stride, average };
        tensor(pool3::backward(elements(&x), elements(&dy), g), [n, c, h, w])
    }

    fn range(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        tensor(pointwise::range(elements(&x)).to_vec(), [2])
    }

    fn quantiles(x: FlexTensor, cut: f32) -> FlexTensor {
        let x = x.to_contiguous();
        tensor(quantile::quantiles(elements(&x), cut).to_vec(), [2])
    }

    fn requantize_forward(x: FlexTensor, relu: bool, form: Dynamic) -> (FlexTensor, FlexTensor) {
        let x = x.to_contiguous();
        let [low, high] =
            if form.cut > 0.0 { quantile::quantiles(elements(&x), form.cut) } else { pointwise::range(elements(&x)) };
        let low = if relu { low * 0.0 } else { low };
        // Comparisons that keep NaN.
        let range = [if low > 0.0 { 0.0 } else { low }, if high < 0.0 { 0.0 } else { high }];
        let range = if form.both_signs { simulated::both_signs(range, form.top()) } else { range };
        let step = (range[1] - range[0]) / form.top();
        let step = if step == 0.0 { 1.0 } else { step };
        let y = if let Some(seed) = form.noise {
            let noise = simulated::noise(seed, elements(&x).len());
            pointwise::noisy(elements(&x), &noise, range, step)
        } else {
            let zero_point = (-range[0] / step).round_ties_even();
            pointwise::fake_quantize(elements(&x), Quantizer { scale: step, zero_point, limits: [0.0, form.top()] })
        };
        let shape: Vec<usize> = x.shape().to_vec();
        (tensor(y, shape), tensor(range.to_vec(), [2]))
    }

    fn requantize_gradient(x: FlexTensor, range: FlexTensor, dy: FlexTensor, relu: bool, form: Dynamic) -> FlexTensor {
        let (x, range) = (x.to_contiguous(), elements(&range).to_vec());
        let low = if form.ends() { range[0] } else { f32::NEG_INFINITY };
        let high = if form.ends() { range[1] } else { f32::INFINITY };
        // The smallest positive number, or the smallest in the range.
        let low = if relu { low.max(f32::from_bits(1)) } else { low };
        change(dy, |dy| pointwise::pass_within(elements(&x), dy, [low, high])).0
    }

    fn conv2d_shifted(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, window: Window) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|t| t.to_contiguous());
        let g = geometry(&x, &weight, window);
        let mut y = conv::forward(elements(&x), elements(&weight), &g);
        norm::shift(&mut y, elements(&bias), g.output[0] * g.output[1]);
        tensor(y, [g.n, g.k, g.output[0], g.output[1]])
    }
}

impl TrainOps for Flex {
    fn train_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_forward(x, weight, window, groups)
    }

    fn train_survey(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::survey(x)
    }

    fn train_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        Self::norm_forward(x, gamma, beta, statistics, options)
    }

    fn train_fake_quantize(x: FloatTensor<Self>, quantizer: Quantizer) -> FloatTensor<Self> {
        Self::fake_quantize_forward(x, quantizer)
    }

    fn train_straight_through(
        _: FloatTensor<Self>,
        value: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        value
    }

    fn train_add(a: FloatTensor<Self>, b: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        Self::add_forward(a, b, limits)
    }

    fn train_clamp(x: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        Self::clamp_forward(x, limits)
    }

    fn train_max_pool2(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::max_pool2_forward(x)
    }

    fn train_range(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::range(x)
    }

    fn train_quantiles(x: FloatTensor<Self>, cut: f32) -> FloatTensor<Self> {
        Self::quantiles(x, cut)
    }
}
