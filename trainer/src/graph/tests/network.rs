//! The exporter's network computes what the blueprint says: against an interpreter that takes the blueprint at its word
//! (zeros concatenated, BatchNorm behind the concatenation, shifted reads), pixel by pixel.

use super::*;
use exporter::calibrate::{Clipping, Ranges, Width, calibrate};
use exporter::execute::{Executor, Mode};
use exporter::network::{Network, Op, Preprocessing};
use exporter::quantize::{Scheme, Weights, quantize};

/// Values that differ everywhere, of a size that keeps activations near 1.
fn values(index: usize, parameter: &Parameter) -> Vec<f32> {
    let fan_in: usize = parameter.shape[1..].iter().product();
    let wave = |i: usize| (0.7 * index as f32 + 1.3 * i as f32).sin();
    let value = |i: usize| match parameter.kind {
        ParameterKind::Norm if i < parameter.shape[0] => 1.0 + 0.3 * wave(i),
        ParameterKind::Weight => wave(i) * (3.0 / fan_in as f32).sqrt(),
        _ => 0.2 * wave(i),
    };
    (0..parameter.len()).map(value).collect()
}

fn network(blueprint: &Blueprint) -> Network {
    let preprocessing = Preprocessing { mean: vec![0.4, 0.5, 0.6], std: vec![0.25, 0.2, 0.3] };
    blueprint.to_network("net", preprocessing, vec![], &mut values).unwrap()
}

/// The logits by the blueprint, with running statistics of mean 0 and variance 1.
fn interpret(blueprint: &Blueprint, image: Vec<f32>) -> Vec<f32> {
    let mut all = vec![image];
    for layer in &blueprint.layers {
        let parameter = |which| {
            let index = layer.parameter.unwrap() + which;
            (values(index, &blueprint.parameters[index]), blueprint.parameters[index].shape)
        };
        let [_, height, width] = layer.inputs.first().map_or(layer.shape, |&input| blueprint.shape(input));
        let x = layer.inputs.first().map_or(&[][..], |&input| &all[input]);
        let at = |c: usize, y: isize, x_: isize| {
            let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x_);
            inside.then(|| x[(c * height + y as usize) * width + x_ as usize])
        };
        let [k, h, w] = layer.shape;
        let taps = |stride: usize, y: usize, x: usize, c: usize| {
            let near = move |o: usize, t: isize| (o * stride) as isize + t;
            (-1..2).flat_map(move |r| (-1..2).filter_map(move |s| at(c, near(y, r), near(x, s))))
        };
        let each = |f: &dyn Fn(usize, usize, usize) -> f32| -> Vec<f32> {
            (0..k * h * w).map(|i| f(i / (h * w), i / w % h, i % w)).collect()
        };
        let y: Vec<f32> = match layer.op {
            LayerOp::Relu => x.iter().map(|v| v.max(0.0)).collect(),
            LayerOp::Dropout | LayerOp::Flatten => x.to_vec(),
            LayerOp::Zeros => vec![0.0; k * h * w],
            LayerOp::Add => x.iter().zip(&all[layer.inputs[1]]).map(|(a, b)| a + b).collect(),
            LayerOp::Concat => layer.inputs.iter().flat_map(|&input| all[input].clone()).collect(),
            LayerOp::GlobalAverage => {
                x.chunks_exact(height * width).map(|c| c.iter().sum::<f32>() / c.len() as f32).collect()
            }
            LayerOp::MaxPool { stride } => each(&|c, y, x| taps(stride, y, x, c).fold(f32::NEG_INFINITY, f32::max)),
            LayerOp::AveragePool { stride } => {
                each(&|c, y, x| taps(stride, y, x, c).sum::<f32>() / taps(stride, y, x, c).count() as f32)
            }
            LayerOp::BatchNorm => {
                let (norm, _) = parameter(0);
                each(&|c, y, x| at(c, y as isize, x as isize).unwrap() / (1.0 + EPSILON).sqrt() * norm[c] + norm[k + c])
            }
            LayerOp::Linear => {
                let ((weight, _), (bias, _)) = (parameter(0), parameter(1));
                let row = |o: usize| weight[o * x.len()..].iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + bias[o];
                (0..k).map(row).collect()
            }
            LayerOp::Convolution(conv) => {
                let (weight, [_, columns, r, s]) = parameter(0);
                each(&|o, y, x| {
                    let mut sum = 0.0;
                    for i in 0..columns * r * s {
                        let (c, i, j) = (i / (r * s), i / s % r, i % s);
                        let near = |o: usize, tap: usize| {
                            (o * conv.stride + tap * conv.dilation + usize::from(conv.shifted)) as isize
                                - conv.padding as isize
                        };
                        let channel = if conv.depthwise { o } else { c };
                        let value = at(channel, near(y, i), near(x, j)).unwrap_or(0.0);
                        sum += weight[((o * columns + c) * r + i) * s + j] * value;
                    }
                    sum
                })
            }
        };
        all.push(y);
    }
    all.pop().unwrap()
}

#[test]
fn networks_compute_what_blueprints_say() {
    let image: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let edge = [Split::Id, Split::BnFree].map(|split| nets(Space::Edge, split, 4));
    for net in edge.into_iter().flatten().chain([net_with_zeros(), Architecture { width: 4, ..net_b() }]) {
        let blueprint = build(&net);
        let network = network(&blueprint);
        let executor = Executor::new(&network, Mode::Float).unwrap();
        let mut workspace = executor.workspace();
        let logits = executor.run(&image, &mut workspace).unwrap().to_vec();
        let pixels: Vec<f32> = (0..3)
            .flat_map(|c| image.iter().skip(c).step_by(3).map(move |&pixel| (c, pixel)))
            .map(|(c, pixel)| network.preprocessing.value(c, pixel))
            .collect();
        let expected = interpret(&blueprint, pixels);
        let scale = expected.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
        for (found, expected) in logits.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4 * scale, "{net}: found {logits:?}, expected {expected:?}");
        }
        let distinct = expected.iter().any(|v| (v - expected[0]).abs() > 1e-3 * scale);
        assert!(distinct, "{net}: logits {expected:?} would hide a wrong order");
    }
}

#[test]
fn networks_have_the_blueprints_parameters_but_for_taps_and_columns_that_are_zero() {
    for net in nets(Space::Edge, Split::Id, 30).into_iter().chain([net_a(), net_b()]) {
        let blueprint = build(&net);
        let network = network(&blueprint);
        if blueprint.layers.iter().any(|layer| layer.op == LayerOp::Zeros) {
            assert!(network.parameters() < blueprint.parameter_count() * 2, "{net}");
            continue;
        }
        let shifted = |layer: &&Layer| matches!(layer.op, LayerOp::Convolution(conv) if conv.shifted);
        let (mut taps, mut macs) = (0, 0);
        for layer in blueprint.layers.iter().filter(shifted) {
            let weights = blueprint.parameters[layer.parameter.unwrap()].len() as u64;
            taps += 3 * weights;
            macs += 3 * weights * (layer.shape[1] * layer.shape[2]) as u64;
        }
        assert_eq!(network.parameters(), blueprint.parameter_count() + taps, "{net}");
        assert_eq!(network.macs(), blueprint.macs().total() + macs, "{net}");
    }
}

#[test]
fn unreached_states_are_not_in_the_network() {
    let network = network(&build(&net_with_zeros()));
    for node in &network.nodes {
        let channels = node.inputs.iter().map(|&id| network.tensors[id].shape.c).sum::<usize>();
        // Cell 0 makes 8 of 16 channels, cell 3 the same of 64: what reads them has no columns for the rest.
        match (node.name.as_str(), &node.op) {
            ("cell1.input1.conv", Op::Conv2d(conv)) => assert_eq!((channels, conv.weight.len()), (8, 16 * 8)),
            ("head.linear0", Op::Dense(dense)) => assert_eq!(dense.weight.len(), 16 * 32 * 64),
            (name, Op::Concat) => assert!(!name.contains("cell0"), "{name}"),
            _ => {}
        }
    }
}

#[test]
fn wrong_numbers_of_values_are_refused() {
    let preprocessing = Preprocessing { mean: vec![0.0; 3], std: vec![1.0; 3] };
    let mut one = |_: usize, _: &Parameter| vec![0.5];
    let error = build(&net_a()).to_network("net", preprocessing, vec![], &mut one).unwrap_err().to_string();
    assert_eq!(error, "node `stem.0.conv`: found 1 values, expected 432");
}

#[test]
fn no_plan_is_below_the_least_arena() {
    for net in nets(Space::Edge, Split::Id, 40).into_iter().chain([net_a(), net_b(), net_with_zeros()]) {
        let blueprint = build(&net);
        let (least, planned) = (blueprint.least_arena_bytes(), arena_bytes(&blueprint).unwrap());
        assert!(least <= planned && planned < 4 * least, "{net}: {least} and {planned} bytes");
    }
}

#[test]
fn arenas_are_those_of_flash_images() {
    let image: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 31 % 253) as u8).collect();
    for net in nets(Space::Edge, Split::Id, 12).into_iter().chain([net_a(), net_b(), net_with_zeros()]) {
        let blueprint = build(&net);
        let folded = exporter::fold::fold(&network(&blueprint)).unwrap();
        let width = Width { bits: 8, signed: false };
        let calibrated = calibrate(folded, &image, width, Ranges::Measured(Clipping::MinMax)).unwrap();
        let weights = Weights { bits: 8, scheme: Scheme::AsymmetricPerTensor, clipping: Clipping::MinMax };
        let file = exporter::image::write(&quantize(calibrated, weights).unwrap()).unwrap();
        let arena = runtime::image::Image::check(&file).unwrap().arena_bytes() as u64;
        assert_eq!(arena_bytes(&blueprint).unwrap(), arena, "{net}");
    }
}
