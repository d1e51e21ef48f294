//! Integers against their definition, dead channels, and what is refused.

use super::*;
use crate::calibrate::{Ranges, Width, calibrate};
use crate::fold::fold;
use crate::network::{BatchNorm, Preprocessing, Shape, Window};
use crate::samples::{self, Sample};
use proptest::prelude::*;

const MOBILE: Weights = Weights { bits: 8, scheme: Scheme::AsymmetricPerTensor, clipping: Clipping::MinMax };
const PER_CHANNEL: Weights = Weights { scheme: Scheme::SymmetricPerChannel, ..MOBILE };

/// One 1x1 convolution from a 1-channel image, encodings given.
fn network(weight: Vec<f32>, bias: Vec<f32>, x: Encoding, y: Encoding) -> Network {
    let preprocessing = Preprocessing { mean: vec![0.0], std: vec![1.0] };
    let mut network = Network::new("n", Shape::new(1, 2, 2), preprocessing, Vec::new());
    let (window, out_channels) = (Window::square(1, 1, 0), weight.len());
    let conv = Conv2d { weight, bias: Some(bias), out_channels, window, groups: 1, integers: None };
    network.push("conv", Op::Conv2d(conv), &[0]).unwrap();
    network.tensors[0].encoding = Some(x);
    network.tensors[1].encoding = Some(y);
    network
}

fn u8_of(scale: f32) -> Encoding {
    Encoding::per_tensor(8, false, scale, 10)
}

fn integers(network: &Network) -> &Integers {
    let Op::Conv2d(conv) = &network.nodes[0].op else { panic!("{:?}", network.nodes[0]) };
    conv.integers.as_ref().unwrap()
}

#[test]
fn weights_and_bias_are_what_the_contract_says() {
    let float = || network(vec![-1.0, 0.5, 1.55], vec![0.3, -0.3, 0.0], u8_of(0.02), u8_of(0.05));
    let asymmetric = quantize(float(), MOBILE).unwrap();
    let found = integers(&asymmetric);
    assert_eq!(found.encoding, Encoding::asymmetric(8, false, -1.0, 1.55));
    assert_eq!((found.encoding.scale[0], found.encoding.zero_point[0]), (0.01, 100));
    assert_eq!(found.weight, [0, 150, 255]);
    // 0.3 / f32(0.02 * 0.01) = 1500.
    assert_eq!(found.bias, [1500, -1500, 0]);
    let symmetric = quantize(float(), PER_CHANNEL).unwrap();
    let found = integers(&symmetric);
    assert_eq!(found.encoding.scale, [1.0 / 127.0, 0.5 / 127.0, 1.55 / 127.0]);
    assert_eq!((&found.weight[..], &found.encoding.zero_point[..]), (&[-127i16, 127, 127][..], &[0; 3][..]));
}

#[test]
fn clipping_cuts_weights_off() {
    let mut weight: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
    weight[99] = 50.0;
    let float = network(weight, vec![0.0; 100], u8_of(0.02), u8_of(0.05));
    let clipped =
        quantize(float, Weights { clipping: Clipping::Percentile { low: 0.0, high: 98.0 }, ..MOBILE }).unwrap();
    let found = integers(&clipped);
    assert!((found.encoding.scale[0] * 255.0 - 0.9702).abs() < 1e-3, "{}", found.encoding.scale[0]);
    assert_eq!(found.weight[98..], [255, 255]);
}

#[test]
fn integers_are_within_half_a_step_of_the_weights() {
    for seed in 0..20 {
        let float = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 4 })).unwrap();
        let images = samples::images(&float, 4, seed);
        let width = Width { bits: 8, signed: seed % 2 == 0 };
        let float = calibrate(float, &images, width, Ranges::Measured(Clipping::MinMax)).unwrap();
        for bits in 2..=8 {
            for weights in [Weights { bits, ..MOBILE }, Weights { bits, ..PER_CHANNEL }] {
                let network = quantize(float.clone(), weights).unwrap();
                assert_eq!(quantize(network.clone(), weights).unwrap(), network, "twice is once");
                for node in &network.nodes {
                    let (weight, integers) = match &node.op {
                        Op::Conv2d(conv) => (&conv.weight, conv.integers.as_ref().unwrap()),
                        Op::Dense(dense) => (&dense.weight, dense.integers.as_ref().unwrap()),
                        _ => continue,
                    };
                    let row = weight.len() / integers.bias.len();
                    for (i, (&w, &q)) in weight.iter().zip(&integers.weight).enumerate() {
                        let (scale, _) = integers.encoding.channel(i / row);
                        let error = (integers.encoding.dequantize(i / row, q.into()) - w).abs();
                        // At the ends of an asymmetric range the rounding of the zero point adds half a step.
                        assert!(error <= 1.001 * scale, "{} {bits} bits: {w} as {q}", node.name);
                    }
                }
            }
        }
    }
}

/// A channel whose weights are (nearly) nothing, as weight decay leaves them behind BatchNorm, keeps its bias.
#[test]
fn dead_channels_keep_their_bias() {
    for tiny in [0.0, 1e-42, 1e-30, 1e-12] {
        for bias in [0.0, 1e-38, -2.0] {
            let float = network(vec![tiny, 1.0], vec![bias, 0.1], u8_of(0.02), u8_of(0.05));
            let quantized = quantize(float, PER_CHANNEL).unwrap();
            let found = integers(&quantized);
            let (input, (scale, _)) = (0.02, found.encoding.channel(0));
            let error = f64::from(found.bias[0]) * f64::from(input * scale) - f64::from(bias);
            assert!(error.abs() < 0.05 / 100.0, "weight {tiny:e}, bias {bias:e}: off by {error:e}");
        }
        let float = network(vec![tiny; 2], vec![3.0, -0.5], u8_of(0.02), u8_of(0.05));
        let quantized = quantize(float, MOBILE).unwrap();
        let found = integers(&quantized);
        for (bias, expected) in found.bias.iter().zip([3.0, -0.5]) {
            let real = f64::from(*bias) * f64::from(0.02 * found.encoding.scale[0]);
            assert!((real - expected).abs() < 1e-4, "{real}, not {expected}");
        }
    }
}

#[test]
fn refuses_accumulators_that_could_leave_32_bits() {
    let mut quantized = quantize(network(vec![1.0], vec![0.0], u8_of(0.02), u8_of(0.05)), PER_CHANNEL).unwrap();
    // 127 * |255 - 10| is reached by the weight alone.
    let room = i32::MAX - 127 * 245;
    let mut with = |bias: i32| {
        let Op::Conv2d(conv) = &mut quantized.nodes[0].op else { unreachable!() };
        conv.integers.as_mut().unwrap().bias[0] = bias;
        check(&quantized).map_err(|e| e.to_string())
    };
    assert_eq!((with(room), with(-room)), (Ok(()), Ok(())));
    for bias in [room + 1, -room - 1, i32::MIN] {
        let text = with(bias).unwrap_err();
        assert!(text.contains("node `conv`, channel 0") && text.contains("accumulator"), "{text}");
    }
}

#[test]
fn refuses_multipliers_outside_the_contract() {
    let far = network(vec![1.0], vec![0.0], u8_of(1e20), u8_of(1e-10));
    let text = quantize(far, MOBILE).unwrap_err().to_string();
    assert!(text.contains("node `conv`, channel 0: multiplier"), "{text}");
    let subnormal = network(vec![1.0], vec![0.0], u8_of(0.02), u8_of(1e-40));
    let text = quantize(subnormal, MOBILE).unwrap_err().to_string();
    assert!(text.contains("node `conv`: tensor `conv_output` has scale 1e-40"), "{text}");
    for (inputs, output) in [([1.0, 1e9], 1.0), ([f32::MAX, 1.0], f32::MIN_POSITIVE)] {
        assert!(add_multipliers(inputs, output).is_err(), "{inputs:?} / {output}");
    }
}

#[test]
fn refuses_what_is_not_calibrated_folded_or_quantized() {
    let mut float = network(vec![1.0], vec![0.0], u8_of(0.02), u8_of(0.05));
    assert!(check(&float).unwrap_err().to_string().contains("`conv` has no integer weights"));
    for id in [0, 1] {
        let mut float = float.clone();
        float.tensors[id].encoding = None;
        let text = quantize(float.clone(), MOBILE).unwrap_err().to_string();
        assert!(text.contains("node `conv`") && text.contains(&float.tensors[id].name), "{text}");
    }
    for bits in [0, 1, 9] {
        assert!(matches!(quantize(float.clone(), Weights { bits, ..MOBILE }), Err(QuantizeError::Parameter(_))));
    }
    let norm = samples::batch_norm(&mut samples::Random::new(1), 1);
    float.nodes[0].op = norm;
    assert!(check(&float).unwrap_err().to_string().contains("`conv` is a BatchNormalization"));
}

#[test]
fn refuses_integers_that_contradict_the_network() {
    let good = quantize(network(vec![1.0, -1.0], vec![0.0; 2], u8_of(0.02), u8_of(0.05)), PER_CHANNEL).unwrap();
    let faults: [fn(&mut Integers); 7] = [
        |i| i.weight[1] = 128,
        |i| i.encoding.zero_point[0] = -129,
        |i| i.weight.truncate(1),
        |i| i.bias.push(0),
        |i| i.encoding.scale[1] = f32::NAN,
        |i| i.encoding.scale.push(1.0),
        |i| i.encoding.bits = 9,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let mut bad = good.clone();
        let Op::Conv2d(conv) = &mut bad.nodes[0].op else { unreachable!() };
        fault(conv.integers.as_mut().unwrap());
        let error = check(&bad).unwrap_err();
        assert!(matches!(error, QuantizeError::Integers { .. }), "fault {number}: {error}");
    }
}

#[test]
fn a_clamp_becomes_limits() {
    let e = Encoding::per_tensor(8, false, 0.1, 20);
    assert_eq!(clamp_limits(&e, None), (0, 255));
    assert_eq!(clamp_limits(&e, Some((0.0, f32::INFINITY))), (20, 255));
    assert_eq!(clamp_limits(&e, Some((f32::NEG_INFINITY, 6.0))), (0, 80));
    assert_eq!(clamp_limits(&e, Some((-100.0, -1.0))), (0, 10));
}

#[test]
fn tables_go_from_one_encoding_to_another() {
    let (x, y) = (Encoding::per_tensor(8, true, 0.5, -3), Encoding::per_tensor(4, true, 1.0, 2));
    let map = table(&x, &y, (-8, 5));
    for byte in 0..=255u8 {
        let real = f64::from(i32::from(byte as i8) + 3) * 0.5;
        let expected = (real.round_ties_even() as i32 + 2).clamp(-8, 5);
        assert_eq!(map[usize::from(byte)] as i8, expected as i8, "{byte}");
    }
}

#[test]
fn counts_bytes() {
    let quantized = quantize(
        network(vec![1.0, -1.0, 0.5], vec![0.0; 3], u8_of(0.02), u8_of(0.05)),
        Weights { bits: 4, ..PER_CHANNEL },
    )
    .unwrap();
    let found = size::sizes(&quantized);
    // Three rows of one nibble, three biases, three pairs of scale and zero point.
    assert_eq!(found.layers, [size::Size { name: "conv".into(), float: 24, integer: 3 + 12 + 15 }]);
    let activations: Vec<_> = found.activations.iter().map(|size| (size.float, size.integer)).collect();
    assert_eq!((activations, found.parameters()), (vec![(16, 4), (48, 12)], (24, 30)));
}

proptest! {
    /// Any pair of positive floats: the largest shift that fits, quotients exact to half a unit, or refused.
    #[test]
    fn add_multipliers_are_as_fine_as_fits(bits in any::<[u32; 3]>()) {
        let [a, b, y] = bits.map(|bits| f32::from_bits(bits & 0x7fff_ffff));
        prop_assume!([a, b, y].iter().all(|s| s.is_finite() && *s > 0.0));
        let quotients = [a, b].map(|s| f64::from(s) / f64::from(y));
        let fits = |shift: u8| quotients.iter().all(|q| (q * 2f64.powi(shift.into())).round_ties_even() <= 4_194_304.0);
        match add_multipliers([a, b], y) {
            Ok(AddMultipliers { multipliers, shift }) => {
                prop_assert!(shift <= 30 && fits(shift) && (shift == 30 || !fits(shift + 1)));
                for (m, q) in multipliers.into_iter().zip(quotients) {
                    prop_assert!((f64::from(m) - q * 2f64.powi(shift.into())).abs() <= 0.5);
                }
            }
            Err(value) => prop_assert!(!fits(0) && f64::from(value) > 4_194_304.0, "{value}"),
        }
    }

    #[test]
    fn multipliers_are_normal_or_refused(bits in any::<[u32; 3]>(), taps in 1usize..70_000) {
        let [x, w, y] = bits.map(|bits| f32::from_bits(bits & 0x7fff_ffff));
        let fine = |m: f32| m.is_normal() && m > 0.0 && m < 2_147_483_648.0;
        for (found, expected) in [
            (multiplier(x, w, y), x * w / y),
            (mean_multiplier(x, y, taps), x / (y * taps as f32)),
        ] {
            match found {
                Ok(m) => prop_assert!(fine(m) && m == expected),
                Err(m) => prop_assert!(!fine(m) && (m == expected || m.is_nan())),
            }
        }
    }
}

/// One scale and zero point a tensor before folding; behind it the same integers, with a scale for each channel, and the
/// function of the rounded weights.
#[test]
fn weights_rounded_before_folding_keep_their_integers() {
    let form = Weights { bits: 4, scheme: Scheme::AsymmetricUnfolded, clipping: Clipping::MinMax };
    let (mut layers, mut turned) = (0, 0);
    for seed in 0..30 {
        let float = samples::network(seed, Sample { batch_norm: true, blocks: 5 });
        let rounded = round_unfolded(float.clone(), form).unwrap();
        let folded = fold(&rounded).unwrap();
        let images = samples::images(&float, 5, seed);
        assert!(crate::fold::compare(&rounded, &folded, &images).unwrap().relative < 1e-5, "seed {seed}");
        turned +=
            float.nodes.iter().zip(&rounded.nodes).filter(|(a, b)| matches!(a.op, Op::BatchNorm(_)) && a != b).count();
        let (width, ranges) = (Width { bits: 8, signed: false }, Ranges::Measured(Clipping::MinMax));
        let calibrated = calibrate(folded, &images, width, ranges).unwrap();
        let quantized = quantize(calibrated, form).unwrap();
        for node in &quantized.nodes {
            let before = rounded.nodes.iter().find(|other| other.name == node.name).unwrap();
            let (Op::Conv2d(Conv2d { integers: Some(a), .. }), Op::Conv2d(Conv2d { integers: Some(b), weight, .. })) =
                (&before.op, &node.op)
            else {
                continue;
            };
            let row = weight.len() / b.bias.len();
            assert!(b.encoding.zero_point.iter().all(|&z| z == a.encoding.zero_point[0]));
            for (i, (&q, &w)) in b.weight.iter().zip(weight).enumerate() {
                let value = b.encoding.dequantize(i / row, q.into());
                assert!((value - w).abs() <= 1e-5 * w.abs(), "seed {seed}, {}: {value} for {w}", node.name);
            }
            layers += usize::from(a.weight == b.weight);
        }
    }
    assert!(layers > 60 && turned > 20, "{layers} layers, {turned} BatchNorms with negative scales");
}

/// A scale of 0, or one too small for the bias, leaves a channel that gives its bias.
#[test]
fn a_dead_channel_of_a_batch_norm_on_the_accumulator_gives_its_bias() {
    let mut float = network(vec![0.5, -0.25, 1.0], vec![0.0; 3], u8_of(0.02), u8_of(0.05));
    float.tensors.iter_mut().for_each(|tensor| tensor.encoding = None);
    let gamma = vec![1.0, 0.0, 1e-30];
    let norm = BatchNorm { gamma, beta: vec![0.5; 3], mean: vec![0.0; 3], variance: vec![1.0; 3], epsilon: 0.0 };
    float.push("norm", Op::BatchNorm(norm), &[1]).unwrap();
    let form = Weights { scheme: Scheme::AsymmetricUnfolded, ..MOBILE };
    let mut folded = fold(&round_unfolded(float, form).unwrap()).unwrap();
    (folded.tensors[0].encoding, folded.tensors[1].encoding) = (Some(u8_of(0.02)), Some(u8_of(0.05)));
    let quantized = quantize(folded, form).unwrap();
    let found = integers(&quantized);
    for k in 1..3 {
        let (scale, zero_point) = found.encoding.channel(k);
        assert_eq!(i32::from(found.weight[k]), zero_point);
        assert!((f64::from(found.bias[k]) * f64::from(0.02 * scale) - 0.5).abs() < 1e-3);
    }
    assert_ne!(i32::from(found.weight[0]), found.encoding.zero_point[0]);
}

#[test]
fn weights_that_were_not_rounded_before_folding_are_refused() {
    let form = Weights { scheme: Scheme::AsymmetricUnfolded, ..MOBILE };
    let error = quantize(network(vec![1.0], vec![0.0], u8_of(0.1), u8_of(0.1)), form).unwrap_err().to_string();
    assert!(error.contains("node `conv`") && error.contains("rounded to 8 bits before folding"), "{error}");
}
