//! Every operation against burn's own, values and gradients.

#![allow(clippy::single_range_in_vec_init, reason = "burn takes one range for each dimension")]

use super::{
    ConvNorm, Dynamic, NormOptions, OPEN, Quantizer, Statistics, add, batch_norm, both_signs, clamp, conv_norm, conv2d,
    fake_quantize, max_pool2, normalize, pool3, range, requantize, survey,
};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData, module};
use exporter::network::Window;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Values in -1..1 that look random.
fn leaf<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &device()).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// The largest difference, relative to the largest value.
fn distance<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let largest = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

/// Backward from a weighted sum, so that every output has its own gradient.
fn pull<const D: usize>(y: Tensor<D>) -> burn::tensor::Gradients {
    let weights = leaf(y.dims(), 99).detach();
    (y * weights).sum().backward()
}

fn check_conv(c: usize, k: usize, [h, w]: [usize; 2], window: Window, groups: usize) {
    let [r, s] = window.kernel;
    let (x, weight) = (leaf([5, c, h, w], 1), leaf([k, c / groups, r, s], 2));
    let [top, left, bottom, right] = window.padding;
    let padding = [(top, bottom), (left, right)];
    let options = ConvOptions::new_with_padding(window.stride, padding, window.dilation, groups);
    let ours = conv2d(x.clone(), weight.clone(), window, groups);
    let burns = module::conv2d(x.clone(), weight.clone(), None, options);
    let what = format!("{c}-{k} {h}x{w} {window:?} groups {groups}");
    assert!(distance(ours.clone(), burns.clone()) < 1e-5, "y of {what}");
    let (a, b) = (pull(ours), pull(burns));
    assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-5, "dx of {what}");
    assert!(distance(weight.grad(&a).unwrap(), weight.grad(&b).unwrap()) < 1e-5, "dw of {what}");
}

#[test]
fn convolution_and_its_gradients_equal_burns() {
    for (c, k, size) in [(3, 8, [32, 32]), (8, 5, [16, 16]), (6, 7, [9, 13]), (16, 24, [8, 8]), (4, 4, [3, 5])] {
        for (kernel, stride, padding, dilation) in [
            (3, 1, 1, 1),
            (3, 2, 1, 1),
            (1, 1, 0, 1),
            (1, 2, 0, 1),
            (3, 1, 2, 2),
            (3, 2, 2, 2),
            (3, 1, 0, 1),
            (2, 1, 1, 1),
        ] {
            let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, padding) };
            if window.output(size[0], size[1]).is_some() {
                check_conv(c, k, size, window, 1);
            }
        }
    }
}

#[test]
fn convolution_with_uneven_windows_equals_burns() {
    let window = Window { kernel: [3, 5], stride: [1, 2], padding: [0, 1, 2, 3], dilation: [2, 1] };
    check_conv(3, 4, [11, 14], window, 1);
    let same = Window { kernel: [1, 5], stride: [1, 1], padding: [0, 2, 0, 2], dilation: [1, 1] };
    check_conv(3, 4, [6, 7], same, 1);
    check_conv(3, 4, [40, 33], Window { padding: [3, 3, 3, 3], ..Window::square(3, 1, 3) }, 1);
}

#[test]
fn grouped_and_depthwise_convolution_equal_burns() {
    for stride in [1, 2] {
        for (kernel, dilation, size) in [(3, 1, [16, 16]), (3, 2, [13, 9]), (5, 1, [9, 20]), (7, 1, [8, 8])] {
            let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, dilation * (kernel / 2)) };
            check_conv(6, 6, size, window, 6);
            check_conv(6, 12, size, window, 6);
            check_conv(6, 4, size, window, 2);
        }
    }
}

#[test]
fn batch_norm_and_its_gradients_equal_burns() {
    for shape in [[4, 3, 8, 8], [3, 5, 7, 3], [7, 2, 1, 1], [9, 1, 33, 2]] {
        let (x, gamma, beta) = (leaf(shape, 1), leaf([shape[1]], 2), leaf([shape[1]], 3));
        let running = leaf([2 * shape[1]], 4).detach();
        let options = NormOptions { epsilon: 1e-5, limits: OPEN, statistics: Statistics::Batch, quantizer: None };
        let (ours, statistics) = batch_norm(x.clone(), gamma.clone(), beta.clone(), running, options);
        let burns = module::batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-5);
        let expected = Tensor::cat(vec![burns.mean, burns.variance], 0);
        assert!(distance(statistics, expected) < 1e-5, "statistics of {shape:?}");
        assert!(distance(ours.clone(), burns.output.clone()) < 1e-5, "y of {shape:?}");
        let (a, b) = (pull(ours), pull(burns.output));
        assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-4, "dx of {shape:?}");
        assert!(distance(gamma.grad(&a).unwrap(), gamma.grad(&b).unwrap()) < 1e-4, "dgamma of {shape:?}");
        assert!(distance(beta.grad(&a).unwrap(), beta.grad(&b).unwrap()) < 1e-5, "dbeta of {shape:?}");
    }
}

#[test]
fn clamp_behind_batch_norm_equals_burns() {
    for (statistics, limits) in
        [(Statistics::Batch, [0.0, f32::INFINITY]), (Statistics::Batch, [-0.5, 0.5]), (Statistics::Running, [0.0, 0.6])]
    {
        let (x, gamma, beta) = (leaf([3, 4, 6, 7], 1), leaf([4], 2), leaf([4], 3));
        let running = leaf([8], 4).detach().abs() + 0.1;
        let options = NormOptions { epsilon: 1e-3, limits, statistics, quantizer: None };
        let (ours, _) = batch_norm(x.clone(), gamma.clone(), beta.clone(), running.clone(), options);
        let plain = match statistics {
            Statistics::Batch => module::batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-3).output,
            Statistics::Running => {
                let row = |t: Tensor<1>| t.reshape([1, 4, 1, 1]);
                let (mean, variance) = (running.clone().slice([0..4]), running.slice([4..8]));
                (x.clone() - row(mean)) / row(variance + 1e-3).sqrt() * row(gamma.clone()) + row(beta.clone())
            }
        };
        let low = plain.clamp_min(limits[0]);
        let burns = if limits[1].is_finite() { low.clamp_max(limits[1]) } else { low };
        assert!(distance(ours.clone(), burns.clone()) < 1e-5, "y with {limits:?}");
        let (a, b) = (pull(ours), pull(burns));
        assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-4, "dx with {limits:?}");
        assert!(distance(gamma.grad(&a).unwrap(), gamma.grad(&b).unwrap()) < 1e-4, "dgamma with {limits:?}");
        assert!(distance(beta.grad(&a).unwrap(), beta.grad(&b).unwrap()) < 1e-4, "dbeta with {limits:?}");
    }
}

#[test]
fn a_survey_knows_the_range_of_the_normalized() {
    for shape in [[4, 3, 8, 8], [3, 5, 7, 3], [7, 2, 1, 1]] {
        let (x, gamma, beta) = (leaf(shape, 1), leaf([shape[1]], 2), leaf([shape[1]], 3));
        let found = survey(x.clone());
        for limits in [OPEN, [0.0, f32::INFINITY], [-0.5, 0.5]] {
            let options = NormOptions { epsilon: 1e-5, limits, statistics: Statistics::Batch, quantizer: None };
            let y = normalize(x.clone(), gamma.clone(), beta.clone(), found.statistics.clone(), options);
            let [g, b, s] = [gamma.clone(), beta.clone(), found.statistics.clone()].map(values);
            assert_eq!(found.range(&g, &b, &s, &options), range(y), "{shape:?} {limits:?}");
        }
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let x = Tensor::cat(vec![leaf([2, 3, 4, 4], 1), Tensor::full([1, 3, 4, 4], bad, &device())], 0);
        let options = NormOptions { epsilon: 1e-5, limits: OPEN, statistics: Statistics::Running, quantizer: None };
        let range = survey(x).range(&[1.0; 3], &[0.0; 3], &[1.0; 6], &options);
        assert!(range.iter().all(|v| v.is_nan()), "{bad}");
    }
}

#[test]
fn max_pool_equals_burns() {
    for shape in [[2, 3, 8, 8], [3, 2, 7, 5], [1, 1, 2, 2]] {
        let x = leaf(shape, 1);
        let ours = max_pool2(x.clone());
        let burns = module::max_pool2d(x.clone(), MaxPoolOptions::new([2, 2]));
        assert_eq!(values(ours.clone()), values(burns.clone()));
        let (a, b) = (pull(ours), pull(burns));
        assert_eq!(values(x.grad(&a).unwrap()), values(x.grad(&b).unwrap()), "{shape:?}");
    }
}

#[test]
fn sum_with_clamp_passes_the_gradient_inside_only() {
    let (a, b) = (leaf([1000], 1), leaf([1000], 2));
    let y = add(a.clone(), b.clone(), [0.0, 0.7]);
    let sums: Vec<f32> = values(a.clone()).iter().zip(values(b.clone())).map(|(a, b)| a + b).collect();
    assert_eq!(values(y.clone()), sums.iter().map(|v| v.clamp(0.0, 0.7)).collect::<Vec<_>>());
    let grads = y.sum().backward();
    let expected: Vec<f32> = sums.iter().map(|&v| f32::from(u8::from(v > 0.0 && v < 0.7))).collect();
    assert_eq!(values(a.grad(&grads).unwrap()), expected);
    assert_eq!(values(b.grad(&grads).unwrap()), expected);
}

#[test]
fn clamp_passes_the_gradient_inside_only() {
    let x = leaf([40_000], 1);
    for limits in [[0.0, f32::INFINITY], [-0.5, 0.25], [f32::NEG_INFINITY, 0.5]] {
        let y = clamp(x.clone(), limits);
        let clamped: Vec<f32> = values(x.clone()).iter().map(|v| v.clamp(limits[0], limits[1])).collect();
        assert_eq!(values(y.clone()), clamped);
        let expected: Vec<f32> =
            values(x.clone()).iter().map(|&v| f32::from(u8::from(v > limits[0] && v < limits[1]))).collect();
        assert_eq!(values(x.grad(&y.sum().backward()).unwrap()), expected);
    }
}

#[test]
fn fake_quantization_is_the_encodings_own() {
    let x = leaf([70_001], 5);
    let encoding = exporter::network::Encoding::asymmetric(4, false, -0.3, 0.9);
    let y = fake_quantize(x.clone(), Quantizer::from(&encoding));
    let input = values(x.clone());
    assert_eq!(values(y.clone()), input.iter().map(|&v| encoding.fake(0, v)).collect::<Vec<_>>());
    let passed = values(x.grad(&y.sum().backward()).unwrap());
    let (scale, zero_point) = encoding.channel(0);
    for (v, passed) in input.iter().zip(passed) {
        let free = (v / scale).round_ties_even() as i32 + zero_point;
        assert_eq!(passed, f32::from(u8::from((0..=15).contains(&free))), "{v}");
    }
}

#[test]
fn range_finds_both_ends_and_what_is_not_finite() {
    let mut all = values(leaf::<1>([50_000], 6));
    (all[33_333], all[17]) = (4.0, -3.0);
    let of = |all: &[f32]| range(Tensor::<1>::from_data(TensorData::new(all.to_vec(), [all.len()]), &Device::flex()));
    assert_eq!(of(&all), [-3.0, 4.0]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        all[49_999] = bad;
        assert!(of(&all).iter().all(|v| !v.is_finite()), "{bad}");
    }
}

/// What other backends run, on the CPU backend, against the kernels that it runs itself.
mod composed {
    use super::super::{Dynamic, Kernels, NormOptions, OPEN, Quantizer, Statistics, composed};
    use burn::backend::{Flex, ops::FloatTensorOps};
    use burn_backend::TensorData;
    use burn_flex::FlexTensor;

    fn tensor(shape: &[usize], seed: u32) -> FlexTensor {
        let count = shape.iter().product();
        FlexTensor::from_data(TensorData::new(super::values(super::leaf([count], seed)), shape.to_vec()))
    }

    fn same(a: FlexTensor, b: FlexTensor, what: &str) {
        let values = |t: FlexTensor| t.into_data().try_to_vec::<f32>().unwrap();
        let (a, b) = (values(a), values(b));
        assert_eq!(a.len(), b.len(), "{what}");
        let largest = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        let apart = a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(apart <= 1e-5 * largest, "{what}: {apart} of {largest}");
    }

    #[test]
    fn norm_is_the_same() {
        let shape = [4, 3, 7, 6];
        let [x, gamma, beta, dy] =
            [(&shape[..], 1), (&[3], 2), (&[3], 3), (&shape, 4)].map(|(s, seed)| tensor(s, seed));
        let running = FlexTensor::from_data(TensorData::new(vec![0.1f32, -0.2, 0.3, 0.5, 0.6, 0.7], [6]));
        let of_batch = Flex::float_slice(Flex::survey(x.clone()), &[(0..6).into()]);
        let quantizer = Quantizer { scale: 0.1, zero_point: 3.0, limits: [0.0, 7.0] };
        for (statistics, used) in [(Statistics::Batch, of_batch), (Statistics::Running, running)] {
            for limits in [OPEN, [0.0, f32::INFINITY], [-0.4, 0.6]] {
                for quantizer in [None, Some(quantizer)] {
                    let options = NormOptions { epsilon: 1e-3, limits, statistics, quantizer };
                    let all = || (x.clone(), gamma.clone(), beta.clone(), used.clone());
                    let (x, g, b, s) = all();
                    let y = composed::norm_forward::<Flex>(x, g, b, s, options);
                    let (x, g, b, s) = all();
                    // A step apart where rounding is between two, hence rarely.
                    same(Flex::norm_forward(x, g, b, s, options), y, "y");
                    let (x, g, b, s) = all();
                    let (dx, parameters) = composed::norm_gradient::<Flex>(x, g, b, s, dy.clone(), options);
                    let (x, g, b, s) = all();
                    let (our_dx, our_parameters) = Flex::norm_gradient(x, g, b, s, dy.clone(), options);
                    same(our_dx, dx, "dx");
                    same(our_parameters, parameters, "parameters");
                }
            }
        }
    }

    #[test]
    fn surveys_are_the_same() {
        for shape in [[4, 3, 7, 6], [5, 2, 1, 1], [3, 4, 16, 16]] {
            let x = tensor(&shape, 7);
            same(Flex::survey(x.clone()), composed::survey::<Flex>(x), &format!("{shape:?}"));
        }
    }

    #[test]
    fn elementwise_operations_are_the_same() {
        let (x, b, dy) = (tensor(&[3, 1111], 1), tensor(&[3, 1111], 2), tensor(&[3, 1111], 3));
        let q = Quantizer { scale: 0.07, zero_point: 9.0, limits: [0.0, 15.0] };
        let (ours, theirs) =
            (Flex::fake_quantize_forward(x.clone(), q), composed::fake_quantize_forward::<Flex>(x.clone(), q));
        same(ours, theirs, "fake quantization");
        let ours = Flex::fake_quantize_gradient(x.clone(), dy.clone(), q);
        same(ours, composed::fake_quantize_gradient::<Flex>(x.clone(), dy.clone(), q), "its gradient");
        for limits in [[0.0, 0.5], [0.0, f32::INFINITY], OPEN] {
            let y = Flex::add_forward(x.clone(), b.clone(), limits);
            same(y.clone(), composed::add_forward::<Flex>(x.clone(), b.clone(), limits), "sum");
            same(Flex::clamp_forward(x.clone(), limits), composed::clamp::<Flex>(x.clone(), limits), "clamp");
            let ours = Flex::clamp_gradient(y.clone(), dy.clone(), limits);
            same(ours, composed::clamp_gradient::<Flex>(y, dy.clone(), limits), "its gradient");
        }
        same(Flex::range(x.clone()), composed::range::<Flex>(x.clone()), "range");
        same(Flex::quantiles(x.clone(), 0.03), composed::quantiles::<Flex>(x, 0.03), "quantiles");
    }

    #[test]
    fn requantization_is_the_same() {
        for (shift, cut, both_signs) in [
            (0.0, 0.0, false),
            (0.0, 0.03, true),
            (-0.8, 0.0, true),
            (-0.8, 0.03, true),
            (0.8, 0.03, true),
            (2.0, 0.0, true),
        ] {
            let form = Dynamic { cut, both_signs, ..Dynamic::absolute(2) };
            let x: Vec<f32> = super::values(super::leaf([630], 4)).into_iter().map(|x| x + shift).collect();
            let (x, dy) = (FlexTensor::from_data(TensorData::new(x, [630])), tensor(&[630], 5));
            for relu in [false, true] {
                let (y, range) = Flex::requantize_forward(x.clone(), relu, form);
                let (same_y, same_range) = composed::requantize_forward::<Flex>(x.clone(), relu, form);
                same(y, same_y, &format!("y of {relu} {form:?}"));
                same(range.clone(), same_range, &format!("range of {relu} {form:?}"));
                let dx = Flex::requantize_gradient(x.clone(), range.clone(), dy.clone(), relu, form);
                let same_dx = composed::requantize_gradient::<Flex>(x.clone(), range, dy.clone(), relu, form);
                same(dx, same_dx, &format!("dx of {relu} {form:?}"));
            }
        }
    }

    #[test]
    fn max_pooling_is_the_same() {
        let (x, dy) = (tensor(&[2, 3, 9, 6], 1), tensor(&[2, 3, 4, 3], 2));
        same(Flex::max_pool2_forward(x.clone()), composed::max_pool2_forward::<Flex>(x.clone()), "y");
        let theirs = composed::max_pool2_gradient::<Flex>(x.clone(), dy.clone());
        same(Flex::max_pool2_gradient(x, dy), theirs, "dx");
    }
}

/// SimQuant of burn's own operations: the range cut as [`Dynamic`] says, the gradient passing within it.
fn requantized<const D: usize>(x: Tensor<D>, relu: bool, form: Dynamic) -> Tensor<D> {
    let x = if relu { x.clamp_min(0.0) } else { x };
    let mut sorted = values(x.clone());
    sorted.sort_by(f32::total_cmp);
    let quantile = |share: f64| {
        let at = share * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        low + (high - low) * (at - at.floor()) as f32
    };
    let (low, high) = (quantile(form.cut.into()).min(0.0), quantile(1.0 - f64::from(form.cut)).max(0.0));
    let [low, high] = if form.both_signs { both_signs([low, high], form.top()) } else { [low, high] };
    let step = (high - low) / form.top();
    let zero = (-low / step).round_ties_even();
    let x = x.clamp(low, high);
    let q = ((x.clone().detach() / step).round() + zero).clamp(0.0, form.top());
    x.clone() + ((q - zero) * step - x.detach())
}

#[test]
fn requantization_and_its_gradient_equal_burns() {
    for (relu, bits, cut) in [(false, 8, 0.0), (true, 4, 0.0), (false, 2, 0.0), (false, 4, 0.05), (true, 8, 0.05)] {
        let form = Dynamic { cut, ..Dynamic::absolute(bits) };
        let x = leaf([4, 3, 5, 7], 11);
        let (ours, burns) = (requantize(x.clone(), relu, form), requantized(x.clone(), relu, form));
        assert!(distance(ours.clone(), burns.clone()) < 1e-5, "y of {relu} {form:?}");
        let (a, b) = (pull(ours), pull(burns));
        assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-6, "dx of {relu} {form:?}");
    }
}

#[test]
fn values_of_both_signs_have_a_level_each() {
    // Zero points 3, 0, 1, and ranges of one sign; 255 of 8 bits.
    for (given, top, expected) in [
        ([-3.3, 0.3], 3.0, [-2.4, 1.2]),
        ([-0.5, 4.0], 3.0, [-1.5, 3.0]),
        ([-1.0, 2.0], 3.0, [-1.0, 2.0]),
        ([0.0, 2.0], 3.0, [0.0, 2.0]),
        ([-2.0, 0.0], 3.0, [-2.0, 0.0]),
        ([0.0, 0.0], 3.0, [0.0, 0.0]),
        ([-254.75, 0.25], 255.0, [-254.0, 1.0]),
    ] {
        let found = both_signs(given, top);
        let near = found.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5);
        assert!(near, "{given:?}: {found:?}, {expected:?}");
    }
    for (shift, cut) in [(-0.8, 0.0), (-0.8, 0.03), (0.8, 0.0), (0.8, 0.03), (0.0, 0.03)] {
        let form = Dynamic { cut, both_signs: true, ..Dynamic::absolute(2) };
        let x: Vec<f32> = values(leaf([4, 3, 5, 7], 12)).into_iter().map(|x| x + shift).collect();
        let x = Tensor::<4>::from_data(TensorData::new(x, [4, 3, 5, 7]), &device()).require_grad();
        let (ours, burns) = (requantize(x.clone(), false, form), requantized(x.clone(), false, form));
        assert!(distance(ours.clone(), burns.clone()) < 1e-5, "y of {shift} {cut}");
        let (a, b) = (pull(ours), pull(burns));
        assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-6, "dx of {shift} {cut}");
    }
    // What lies above the range that was cut reaches the level, and nothing does without one.
    let x: Vec<f32> = (0..192).map(|i| i as f32 / -60.0).chain([0.5; 6]).chain([0.9; 2]).collect();
    let x = Tensor::<1>::from_data(TensorData::new(x, [200]), &device());
    for both_signs in [false, true] {
        let form = Dynamic { cut: 0.03, both_signs, ..Dynamic::absolute(2) };
        let positive = values(requantize(x.clone(), false, form)).into_iter().filter(|y| *y > 0.0).count();
        assert_eq!(positive, if both_signs { 2 } else { 0 });
    }
}

#[test]
fn folding_by_the_batch_and_its_gradients_equal_burns() {
    for (kernel, stride, bits, cut) in [(3, 1, 8, 0.0), (1, 1, 4, 0.0), (1, 2, 2, 0.0), (3, 2, 4, 0.02), (5, 1, 4, 0.1)]
    {
        let window = Window::square(kernel, stride, kernel / 2);
        let weights = Dynamic { cut, ..Dynamic::absolute(bits) };
        let (x, weight) = (leaf([4, 5, 8, 8], 1), leaf([6, 5, kernel, kernel], 2));
        let (gamma, beta) = (leaf([6], 3), leaf([6], 4));
        let options = ConvNorm { window, epsilon: 1e-5, weights };
        let ours = conv_norm(x.clone(), weight.clone(), gamma.clone(), beta.clone(), options);
        let burns_conv = |w: Tensor<4>| {
            let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1, 1], 1);
            module::conv2d(x.clone(), w, None, options)
        };
        let lift = |v: Tensor<1>| v.reshape([1, 6, 1, 1]);
        let y = burns_conv(weight.clone());
        let mean = |t: Tensor<4>| t.mean_dim(0).mean_dim(2).mean_dim(3);
        let about = y.clone() - mean(y.clone());
        let factor = lift(gamma.clone()) / (mean(about.clone() * about) + 1e-5).sqrt();
        let folded = weight.clone() * factor.clone().reshape([6, 1, 1, 1]);
        let burns = burns_conv(requantized(folded, false, weights)) + lift(beta.clone()) - mean(y) * factor;
        let what = format!("{kernel} {stride} {bits} {cut}");
        assert!(distance(ours.clone(), burns.clone()) < 1e-4, "y of {what}");
        let (a, b) = (pull(ours), pull(burns));
        assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-3, "dx of {what}");
        assert!(distance(weight.grad(&a).unwrap(), weight.grad(&b).unwrap()) < 1e-3, "dw of {what}");
        assert!(distance(gamma.grad(&a).unwrap(), gamma.grad(&b).unwrap()) < 1e-3, "dgamma of {what}");
        assert!(distance(beta.grad(&a).unwrap(), beta.grad(&b).unwrap()) < 1e-3, "dbeta of {what}");
    }
}

#[test]
fn noise_is_of_one_step_and_from_its_seed() {
    let x = leaf([2, 3, 40, 40], 5);
    let noisy = |seed| requantize(x.clone(), false, Dynamic { noise: Some(seed), ..Dynamic::absolute(4) });
    let [low, high] = range(x.clone());
    let step = (high - low) / 15.0;
    let error: Vec<f32> = values(noisy(1) - x.clone()).iter().map(|e| e / step).collect();
    assert!(error.iter().all(|e| e.abs() <= 0.5001));
    let mean = error.iter().sum::<f32>() / error.len() as f32;
    let variance = error.iter().map(|e| e * e).sum::<f32>() / error.len() as f32;
    // A uniform distribution of width 1: variance 1/12.
    assert!(mean.abs() < 0.02 && (variance - 1.0 / 12.0).abs() < 0.005, "{mean} {variance}");
    assert_eq!(values(noisy(1)), values(noisy(1)));
    assert_ne!(values(noisy(1)), values(noisy(2)));
    let gradient = x.grad(&pull(noisy(1))).unwrap();
    assert!(distance(gradient, leaf([2, 3, 40, 40], 99).detach().inner()) < 1e-6);
}

#[test]
fn pooling_of_cells_and_its_gradient_equal_burns() {
    for (size, stride) in [([8, 8], 1), ([8, 8], 2), ([5, 7], 1), ([7, 4], 2), ([1, 1], 1), ([2, 33], 2)] {
        for average in [false, true] {
            let x = leaf([3, 2, size[0], size[1]], 21);
            let ours = pool3(x.clone(), stride, average);
            let burns = if average {
                let options = AvgPoolOptions::new([3, 3]).with_stride([stride; 2]).with_padding([1, 1]);
                module::avg_pool2d(x.clone(), options.with_count_include_pad(false))
            } else {
                let options = MaxPoolOptions::new([3, 3]).with_stride([stride; 2]).with_padding([1, 1]);
                module::max_pool2d(x.clone(), options)
            };
            let what = format!("{size:?} stride {stride} average {average}");
            assert!(distance(ours.clone(), burns.clone()) < 1e-6, "y of {what}");
            let (a, b) = (pull(ours), pull(burns));
            assert!(distance(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-6, "dx of {what}");
        }
    }
}

#[test]
fn the_first_of_equal_values_gets_the_gradient() {
    let x = Tensor::<4>::zeros([1, 1, 4, 4], &device()).require_grad();
    let gradient = values(x.grad(&pool3(x.clone(), 1, false).sum().backward()).unwrap());
    // Each of the 16 windows gives 1 to its top left pixel inside the image.
    assert_eq!(gradient, [4.0, 2.0, 2.0, 0.0, 2.0, 1.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}
