//! Equalization keeps the function and evens the channels out; where it must not touch anything, it does not.

use super::*;
use crate::execute::{Executor, Mode};
use crate::fold::{compare, fold};
use crate::network::{Conv2d, Encoding, Pool, Preprocessing, Window};
use crate::samples::{self, Random, Sample};

fn empty(channels: usize) -> Network {
    let preprocessing = Preprocessing { mean: vec![0.5; channels], std: vec![0.25; channels] };
    Network::new("n", Shape::new(channels, 6, 6), preprocessing, Vec::new())
}

/// A convolution whose output channels differ by powers of ten, so that one scale cannot serve them.
fn uneven(random: &mut Random, x: Shape, outputs: usize, groups: usize, window: Window) -> Op {
    let Op::Conv2d(mut conv) = samples::conv(random, x, outputs, groups, window) else { unreachable!() };
    let taps = conv.weight.len() / outputs;
    for (k, row) in conv.weight.chunks_exact_mut(taps).enumerate() {
        row.iter_mut().for_each(|w| *w *= 10f32.powi((k % 4) as i32 - 2));
    }
    conv.bias = Some(random.values(outputs, -0.1, 0.1));
    Op::Conv2d(conv)
}

/// Uneven convolutions with everything between them that may stand there.
fn chain(seed: u64) -> Network {
    let mut random = Random::new(seed);
    let mut network = empty(2);
    let same = Window::square(3, 1, 1);
    let mut layer = |network: &mut Network, name: &str, outputs, groups, window| {
        let op = uneven(&mut random, network.tensors[network.output].shape, outputs, groups, window);
        network.push(name, op, &[network.output]).unwrap()
    };
    layer(&mut network, "first", 8, 1, same);
    network.push("relu", Op::RELU, &[network.output]).unwrap();
    layer(&mut network, "depthwise", 8, 8, same);
    network.push("relu_2", Op::RELU, &[network.output]).unwrap();
    let pool = Pool { window: Window { padding: [1, 1, 0, 0], ..Window::square(2, 2, 0) } };
    network.push("pool", Op::MaxPool(pool), &[network.output]).unwrap();
    layer(&mut network, "grouped", 12, 4, same);
    network.push("average", Op::AveragePool(pool), &[network.output]).unwrap();
    network.push("flatten", Op::Flatten, &[network.output]).unwrap();
    let dense = samples::dense(&mut Random::new(seed), network.tensors[network.output].shape, 5);
    network.push("dense", dense, &[network.output]).unwrap();
    network
}

#[test]
fn keeps_the_function_and_evens_channels_out() {
    for seed in 0..10 {
        let network = chain(seed);
        let (equalized, pairs) = equalize(network.clone()).unwrap();
        let names: Vec<_> = pairs.iter().map(|pair| (pair.first.as_str(), pair.second.as_str())).collect();
        assert_eq!(names, [("first", "depthwise"), ("depthwise", "grouped"), ("grouped", "dense")]);
        let difference = compare(&network, &equalized, &samples::images(&network, 10, seed)).unwrap();
        assert!(difference.relative < 1e-5 && difference.flips == 0, "{difference:?}");
        for pair in &pairs {
            assert!(pair.spread[0] > 100.0 && pair.spread[1] < pair.spread[0] / 2.0, "{pair:?}");
        }
    }
}

/// Both layers end with the same largest weight of every channel between them.
#[test]
fn the_pair_shares_its_ranges() {
    let network = chain(3);
    let (equalized, _) = equalize(network).unwrap();
    let layer = |name: &str| equalized.nodes.iter().find(|node| node.name == name).unwrap();
    let (first, second) = (layer("grouped"), layer("dense"));
    let input = equalized.tensors[second.inputs[0]].shape;
    for channel in 0..12 {
        let r1 = largest(weight(&first.op), row(&first.op, channel));
        let r2 = largest(weight(&second.op), readers(&second.op, input, channel, 12).into_iter());
        assert!((r1 / r2).ln().abs() < 0.02, "channel {channel}: {r1} and {r2}");
    }
}

#[test]
fn random_networks_keep_their_function() {
    let mut pairs = 0;
    for seed in 0..40 {
        let network = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 5 })).unwrap();
        let (equalized, found) = equalize(network.clone()).unwrap();
        pairs += found.len();
        let difference = compare(&network, &equalized, &samples::images(&network, 5, seed)).unwrap();
        assert!(difference.relative < 1e-4 && difference.flips == 0, "seed {seed}: {difference:?}");
    }
    assert!(pairs > 20, "the samples hold {pairs} pairs only");
}

#[test]
fn leaves_alone_what_it_must_not_touch() {
    let mut random = Random::new(8);
    let window = Window::square(1, 1, 0);
    let pair = |between: &[Op], second_reader: bool| {
        let mut network = empty(2);
        let first = uneven(&mut random, Shape::new(2, 6, 6), 4, 1, window);
        let tensor = network.push("first", first, &[0]).unwrap();
        for (i, op) in between.iter().enumerate() {
            network.push(format!("between_{i}"), op.clone(), &[network.output]).unwrap();
        }
        let second = uneven(&mut random, Shape::new(4, 6, 6), 4, 1, window);
        let output = network.push("second", second, &[network.output]).unwrap();
        if second_reader {
            network.push("sum", Op::Add, &[tensor, output]).unwrap();
        }
        network
    };
    let mut pair = pair;
    for network in [
        pair(&[Op::Clamp { min: 0.0, max: 6.0 }], false),
        pair(&[Op::Clamp { min: -1.0, max: f32::INFINITY }], false),
        pair(&[], true),
    ] {
        assert_eq!(equalize(network.clone()).unwrap(), (network, Vec::new()));
    }
    assert_eq!(equalize(pair(&[Op::RELU], false)).unwrap().1.len(), 1);
}

#[test]
fn dead_channels_stay_as_they_are() {
    let mut network = chain(5);
    let Op::Conv2d(Conv2d { weight, bias, .. }) = &mut network.nodes[0].op else { unreachable!() };
    weight[..18].fill(0.0);
    bias.as_mut().unwrap()[0] = 0.75;
    let (equalized, _) = equalize(network.clone()).unwrap();
    let Op::Conv2d(conv) = &equalized.nodes[0].op else { unreachable!() };
    assert_eq!((&conv.weight[..18], conv.bias.as_ref().unwrap()[0]), (&[0.0; 18][..], 0.75));
    let images = samples::images(&network, 3, 5);
    assert!(compare(&network, &equalized, &images).unwrap().relative < 1e-5);
}

#[test]
fn drops_encodings_and_integers_of_other_values() {
    let mut network = chain(6);
    for tensor in &mut network.tensors {
        tensor.encoding = Some(Encoding::per_tensor(8, false, 0.1, 3));
    }
    let (equalized, _) = equalize(network).unwrap();
    let kept: Vec<_> = equalized
        .tensors
        .iter()
        .filter(|tensor| tensor.encoding.is_some())
        .map(|tensor| tensor.name.as_str())
        .collect();
    assert_eq!(kept, ["input", "dense_output"]);
    assert!(Executor::new(&equalized, Mode::Simulated).is_err());
}

#[test]
fn refuses_batch_norm() {
    let mut network = empty(2);
    let norm = samples::batch_norm(&mut Random::new(1), 2);
    network.push("norm", norm, &[0]).unwrap();
    let text = equalize(network).unwrap_err().to_string();
    assert_eq!(text, "node `norm` is a BatchNormalization: fold it before equalizing the network");
}
