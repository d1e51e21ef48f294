//! The executor against the exporter's: the same functions, in floats and simulated.

use super::{Model, Momentum, Pass};
use crate::nets::{Init, Task, by_name};
use crate::ops::Statistics;
use crate::quant::{QuantError, Simulation};
use burn::tensor::{Device, Tensor, TensorData};
use exporter::data::{Dataset, Split, shapes10};
use exporter::execute::{Executor, Mode};
use exporter::network::{BatchNorm, Conv2d, Dense, Network, Op, Pool, Preprocessing, Shape, TensorId, Window};
use exporter::pipeline::{Options, quantize_network};
use exporter::quantize::Scheme;

/// Numbers between -1 and 1 that look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn preprocessing() -> Preprocessing {
    Preprocessing { mean: vec![0.5; 3], std: vec![0.25; 3] }
}

/// Every op that a network can hold, fused and not.
fn every_op() -> Network {
    let mut n = Network::new("every op", Shape::new(3, 32, 32), preprocessing(), vec![]);
    let conv = |c: usize, k: usize, window: Window, groups: usize, bias: bool, seed: u32| {
        let weights = k * c / groups * window.kernel[0] * window.kernel[1];
        let size = (2.0 * k as f32 / weights as f32).sqrt();
        let weight = numbers(weights, seed).iter().map(|w| size * w).collect();
        Op::Conv2d(Conv2d {
            weight,
            bias: bias.then(|| numbers(k, seed + 1)),
            out_channels: k,
            window,
            groups,
            integers: None,
        })
    };
    let norm = |c: usize, seed: u32| {
        Op::BatchNorm(BatchNorm {
            gamma: numbers(c, seed),
            beta: numbers(c, seed + 1),
            mean: numbers(c, seed + 2),
            variance: numbers(c, seed + 3).iter().map(|v| v.abs() + 0.2).collect(),
            epsilon: 1e-3,
        })
    };
    let mut push = |name: &str, op: Op, inputs: &[TensorId]| n.push(name, op, inputs).unwrap();
    let uneven = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2] };
    let a = push("a", conv(3, 6, uneven, 1, true, 1), &[0]);
    let a = push("a_norm", norm(6, 3), &[a]);
    let a = push("a_clip", Op::Clamp { min: -0.5, max: 2.0 }, &[a]);
    let b = push("b", conv(6, 6, Window::square(3, 1, 1), 6, false, 9), &[a]);
    let b = push("b_norm", norm(6, 11), &[b]);
    let sum = push("sum", Op::Add, &[b, a]);
    let sum = push("sum_relu", Op::RELU, &[sum]);
    let c = push("c", conv(6, 4, Window::square(1, 1, 0), 2, true, 21), &[sum]);
    let both = push("both", Op::Concat, &[c, sum, a]);
    let both = push("both_relu", Op::RELU, &[both]);
    let max =
        push("max", Op::MaxPool(Pool { window: Window { padding: [1, 0, 1, 1], ..Window::square(3, 2, 0) } }), &[both]);
    let mean = push(
        "mean",
        Op::AveragePool(Pool { window: Window { padding: [0, 1, 1, 0], ..Window::square(2, 2, 0) } }),
        &[max],
    );
    let wide = push("wide", conv(16, 8, Window { dilation: [2, 2], ..Window::square(3, 1, 2) }, 1, true, 31), &[mean]);
    let wide = push("wide_relu", Op::RELU, &[wide]);
    let flat = push("flat", Op::Flatten, &[wide]);
    let features = n.tensors[flat].shape.c;
    let dense = |c: usize, k: usize, seed| {
        let weight = numbers(k * c, seed).iter().map(|w| w * (2.0 / c as f32).sqrt()).collect();
        Op::Dense(Dense { weight, bias: Some(numbers(k, seed + 1)), out_features: k, integers: None })
    };
    let hidden = n.push("hidden", dense(features, 12, 41), &[flat]).unwrap();
    let hidden = n.push("hidden_relu", Op::RELU, &[hidden]).unwrap();
    n.push("logits", dense(12, 10, 51), &[hidden]).unwrap();
    n.check().unwrap();
    n
}

fn images(count: usize) -> Dataset {
    shapes10::draw(1, Split::Train, count).unwrap()
}

fn batch(data: &Dataset, network: &Network) -> Tensor<4> {
    let values: Vec<f32> = (0..data.len()).flat_map(|i| network.preprocessing.normalize(data.image(i))).collect();
    Tensor::from_data(TensorData::new(values, [data.len(), 3, 32, 32]), &Device::flex())
}

fn logits(model: &mut Model, x: Tensor<4>, pass: &Pass, tape: bool) -> Vec<f32> {
    model.forward(x, pass, tape).unwrap().into_data().try_to_vec().unwrap()
}

/// Collects ranges, as the first steps of quantization do.
fn observe(model: &mut Model, x: Tensor<4>, simulation: Simulation) {
    let observe = Some(Momentum { statistics: 0.1, ranges: 0.1 });
    let pass = Pass { statistics: Statistics::Running, simulation: Some(simulation), activations: false, observe };
    model.forward(x, &pass, false).unwrap();
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn floats_are_the_exporters() {
    let data = images(5);
    for network in [every_op(), resnet8()] {
        let mut model = Model::new(network.clone(), &Device::flex()).unwrap();
        let x = batch(&data, &network);
        let expected = Executor::new(&network, Mode::Float).unwrap().logits(data.images()).unwrap();
        for tape in [false, true] {
            let found = logits(&mut model, x.clone(), &Pass::deployed(None), tape);
            assert!(largest_difference(&found, &expected) < 2e-5, "{} tape {tape}", network.name);
        }
    }
}

fn resnet8() -> Network {
    let labels = (0..10).map(|i| i.to_string()).collect();
    let task = Task { input: Shape::new(3, 32, 32), preprocessing: preprocessing(), labels };
    by_name("resnet8", &task, Init::HeNormal, 1).unwrap()
}

/// What training simulates is what export deploys: same encodings (but that scales behind Add and AveragePool move off ties, by
/// 0.4 % at most), same integers, and logits that differ by no more than the order of additions can move a value over a rounding
/// threshold.
#[test]
fn simulation_is_the_exporters() {
    let data = images(24);
    for network in [every_op(), resnet8()] {
        for (simulation, scheme) in [
            (Simulation::tensorwise(8, 8), Scheme::AsymmetricPerTensor),
            (Simulation::channelwise(8, 8), Scheme::SymmetricPerChannel),
            (Simulation::tensorwise(4, 8), Scheme::AsymmetricPerTensor),
            (Simulation::unfolded(8, 8), Scheme::AsymmetricUnfolded),
            (Simulation::unfolded(4, 8), Scheme::AsymmetricUnfolded),
        ] {
            let mut model = Model::new(network.clone(), &Device::flex()).unwrap();
            let x = batch(&data, &network);
            if scheme == Scheme::AsymmetricUnfolded {
                // Scales of BatchNorms turn positive, which computes the same.
                let floats = logits(&mut model, x.clone(), &Pass::deployed(None), false);
                model.restrain(&simulation);
                let turned = logits(&mut model, x.clone(), &Pass::deployed(None), false);
                assert!(largest_difference(&floats, &turned) < 2e-5, "{}", network.name);
            }
            observe(&mut model, x.clone(), simulation);
            let found = logits(&mut model, x, &Pass::deployed(Some(simulation)), false);
            let trained = model.to_network(Some(&simulation)).unwrap();
            let form = Options::mobile(8, 8);
            let options = Options { activations: simulation.activations, weights: simulation.weights, ..form };
            let mut quantized = quantize_network(&trained, data.images(), &options).unwrap().network;
            for tensor in &mut quantized.tensors {
                let ours = trained.tensors.iter().find(|t| t.name == tensor.name).unwrap();
                if let (Some(ours), Some(moved)) = (&ours.encoding, &mut tensor.encoding) {
                    let share = moved.scale[0] / ours.scale[0];
                    assert!((1.0..1.004).contains(&share), "{}: {share}", tensor.name);
                    // The rest of the comparison is about what training has seen.
                    moved.scale.clone_from(&ours.scale);
                }
                assert_eq!(ours.encoding, tensor.encoding, "{}", tensor.name);
            }
            let expected = Executor::new(&quantized, Mode::Simulated).unwrap().logits(data.images()).unwrap();
            let step = quantized.tensors[quantized.output].encoding.as_ref().unwrap().scale[0];
            let equal = found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() < 0.1 * step).count();
            let share = equal as f32 / found.len() as f32;
            let worst = largest_difference(&found, &expected) / step;
            assert!(share > 0.9 && worst < 3.5, "{} {scheme:?}: {share} equal, {worst} steps apart", network.name);
        }
    }
}

#[test]
fn batch_statistics_of_the_whole_set_are_learned() {
    let (data, network) = (images(16), resnet8());
    let mut model = Model::new(network.clone(), &Device::flex()).unwrap();
    let x = batch(&data, &network);
    let observe = Some(Momentum { statistics: 1.0, ranges: 1.0 });
    let pass = Pass { statistics: Statistics::Batch, simulation: None, activations: false, observe };
    let with_batch = logits(&mut model, x.clone(), &pass, true);
    // With momentum 1 the running statistics are the batch's own: the deployed function is the same one.
    let deployed = logits(&mut model, x, &Pass::deployed(None), false);
    assert!(largest_difference(&with_batch, &deployed) < 1e-3);
}

#[test]
fn quantization_needs_ranges() {
    let (data, network) = (images(2), resnet8());
    let mut model = Model::new(network.clone(), &Device::flex()).unwrap();
    let pass = Pass::deployed(Some(Simulation::tensorwise(8, 8)));
    let error = model.forward(batch(&data, &network), &pass, false).unwrap_err();
    assert_eq!(error, QuantError::NoRange { name: "stem_relu_output".into() });
}

#[test]
fn a_model_that_is_not_finite_gives_no_network() {
    let network = resnet8();
    let mut model = Model::new(network, &Device::flex()).unwrap();
    let length = model.parameters()[0].value.dims()[0];
    model.set_parameter(0, super::to_tensor(&vec![f32::NAN; length], &Device::flex()));
    assert!(model.to_network(None).unwrap_err().to_string().contains("stem"));
}
