//! Folding against a hand-computed case, against the float executor on random networks, and where it is refused.

use super::*;
use crate::network::{Encoding, Pool, Shape};
use crate::samples::{self, Random, Sample};

fn empty(channels: usize) -> Network {
    let preprocessing = Preprocessing { mean: vec![0.5; channels], std: vec![0.25; channels] };
    Network::new("n", Shape::new(channels, 4, 4), preprocessing, Vec::new())
}

#[test]
fn computes_the_textbook_case() {
    let mut network = empty(1);
    let norm = BatchNorm {
        gamma: vec![3.0, -2.0],
        beta: vec![0.25, 1.0],
        mean: vec![1.0, -4.0],
        variance: vec![3.75, 0.0],
        epsilon: 0.25,
    };
    let conv = crate::network::Conv2d {
        weight: vec![2.0, -0.5],
        bias: Some(vec![0.5, 7.0]),
        out_channels: 2,
        window: Window::square(1, 1, 0),
        groups: 1,
        integers: None,
    };
    let x = network.push("conv", Op::Conv2d(conv), &[0]).unwrap();
    network.push("norm", Op::BatchNorm(norm), &[x]).unwrap();
    let folded = fold(&network).unwrap();
    let [node] = &folded.nodes[..] else { panic!("{:?}", folded.nodes) };
    let Op::Conv2d(conv) = &node.op else { panic!("{node:?}") };
    // Factors 3 / 2 and -2 / 0.5.
    assert_eq!(conv.weight, [3.0, 2.0]);
    assert_eq!(conv.bias, Some(vec![(0.5 - 1.0) * 1.5 + 0.25, (7.0 + 4.0) * -4.0 + 1.0]));
    assert_eq!((node.name.as_str(), folded.tensors[folded.output].name.as_str()), ("conv", "norm_output"));
    assert_eq!(folded.tensors.len(), 2);
}

#[test]
fn leaves_the_same_function() {
    let mut folded_norms = 0;
    for seed in 0..40 {
        let mut network = samples::network(seed, Sample { batch_norm: true, blocks: 5 });
        for (i, tensor) in network.tensors.iter_mut().enumerate() {
            tensor.encoding = Some(Encoding::per_tensor(8, false, 1.0 + i as f32, 0));
        }
        let folded = fold(&network).unwrap();
        assert!(!folded.nodes.iter().any(|node| matches!(node.op, Op::BatchNorm(_))));
        folded_norms += network.nodes.len() - folded.nodes.len();
        // What is kept, keeps its name and encoding.
        for tensor in &folded.tensors {
            assert!(network.tensors.contains(tensor), "{tensor:?}");
        }
        let difference = compare(&network, &folded, &samples::images(&network, 5, seed)).unwrap();
        assert!(difference.relative < 1e-5, "seed {seed}: {difference:?}");
        assert_eq!((difference.images, difference.flips), (5, 0), "seed {seed}");
    }
    assert!(folded_norms > 40, "the samples hold {folded_norms} BatchNorms only");
}

#[test]
fn sees_a_difference_where_there_is_one() {
    let network = samples::network(1, Sample { batch_norm: false, blocks: 3 });
    let images = samples::images(&network, 3, 1);
    assert_eq!(compare(&network, &network, &images).unwrap().largest, 0.0);
    let mut other = network.clone();
    let Some(Op::Dense(dense)) = other.nodes.last_mut().map(|node| &mut node.op) else { panic!("no classifier") };
    dense.bias.as_mut().unwrap()[3] += 1000.0;
    let difference = compare(&network, &other, &images).unwrap();
    assert!((difference.largest - 1000.0).abs() < 0.01 && difference.relative > 1.0, "{difference:?}");
    assert_eq!(difference.flips, 3);
}

/// A BatchNorm that no layer can take up.
#[test]
fn a_batch_norm_alone_becomes_preprocessing_or_a_layer() {
    let mut random = Random::new(5);
    let norm = samples::batch_norm(&mut random, 2);
    let positive = match norm.clone() {
        Op::BatchNorm(norm) => {
            Op::BatchNorm(BatchNorm { gamma: norm.gamma.iter().map(|g| g.abs() + 0.1).collect(), ..norm })
        }
        other => other,
    };
    let same = |network: &Network| {
        let folded = fold(network).unwrap();
        let difference = compare(network, &folded, &samples::images(network, 3, 1)).unwrap();
        assert!(difference.relative < 1e-5, "{difference:?}");
        folded
    };
    let ops = |network: &Network| network.nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>();

    // Of the image, twice: a factor below zero is no deviation.
    let mut network = empty(2);
    for (name, norm) in [("first", &positive), ("second", &positive), ("third", &norm)] {
        network.push(name, norm.clone(), &[network.output]).unwrap();
    }
    network.push("relu", Op::RELU, &[network.output]).unwrap();
    let folded = same(&network);
    assert_eq!(ops(&folded), ["Conv", "Relu"]);
    assert_ne!(folded.preprocessing, network.preprocessing);

    // Two of them behind a Relu are one layer.
    let mut network = empty(2);
    let x = network.push("relu", Op::RELU, &[0]).unwrap();
    let y = network.push("norm", norm.clone(), &[x]).unwrap();
    network.push("again", norm.clone(), &[y]).unwrap();
    assert_eq!(ops(&same(&network)), ["Relu", "Conv"]);

    // What somebody else reads stays.
    let mut network = empty(2);
    let conv = samples::conv(&mut random, Shape::new(2, 4, 4), 2, 1, Window::square(1, 1, 0));
    let x = network.push("conv", conv, &[0]).unwrap();
    let y = network.push("norm", norm, &[x]).unwrap();
    network.push("sum", Op::Add, &[x, y]).unwrap();
    assert_eq!(ops(&same(&network)), ["Conv", "Conv", "Add"]);
    network.nodes.pop();
    network.tensors.pop();
    network.output = x;
    assert_eq!(ops(&same(&network)), ["Conv", "Conv"]);
}

#[test]
fn padding_joins_convolutions_only() {
    let mut network = empty(2);
    let pad = Op::Pad { padding: [1, 0, 2, 3] };
    let x = network.push("pad", pad.clone(), &[0]).unwrap();
    let shape = network.tensors[x].shape;
    for name in ["one", "two"] {
        let conv = samples::conv(&mut Random::new(3), shape, 2, 1, Window::square(3, 2, 1));
        network.push(name, conv, &[x]).unwrap();
    }
    network.push("sum", Op::Add, &[x + 1, x + 2]).unwrap();
    let folded = fold(&network).unwrap();
    assert_eq!(folded.nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>(), ["Conv", "Conv", "Add"]);
    assert_eq!(compare(&network, &folded, &samples::images(&network, 2, 1)).unwrap().largest, 0.0);
    let Op::Conv2d(conv) = &folded.nodes[0].op else { panic!("no convolution") };
    assert_eq!(conv.window.padding, [2, 1, 3, 4]);

    let mut pooled = empty(2);
    let x = pooled.push("pad", pad, &[0]).unwrap();
    pooled.push("pool", Op::MaxPool(Pool { window: Window::square(2, 2, 0) }), &[x]).unwrap();
    assert_eq!(fold(&pooled).unwrap(), pooled);
}

#[test]
fn refuses_parameters_beyond_float() {
    let mut network = empty(1);
    let conv = samples::conv(&mut Random::new(1), Shape::new(1, 4, 4), 2, 1, Window::square(1, 1, 0));
    let x = network.push("conv", conv, &[0]).unwrap();
    let norm = BatchNorm {
        gamma: vec![1.0, 3e38],
        beta: vec![0.0; 2],
        mean: vec![0.0; 2],
        variance: vec![1.0, 0.0],
        epsilon: 1e-10,
    };
    network.push("norm", Op::BatchNorm(norm), &[x]).unwrap();
    let text = fold(&network).unwrap_err().to_string();
    assert!(text.contains("`norm`") && text.contains("`conv`") && text.contains("channel 1"), "{text}");
}

#[test]
fn clamps_in_a_row_become_one() {
    const NONE: f32 = f32::INFINITY;
    let limits = |first, second| {
        let mut network = empty(1);
        for (min, max) in [first, second] {
            network.push(format!("clamp{min}"), Op::Clamp { min, max }, &[network.output]).unwrap();
        }
        let folded = fold(&network).unwrap();
        folded.nodes.iter().map(|node| node.op.clone()).collect::<Vec<_>>()
    };
    let clamp = |min, max| Op::Clamp { min, max };
    assert_eq!(limits((0.0, NONE), (-1.0, 6.0)), [clamp(0.0, 6.0)]);
    assert_eq!(limits((-NONE, 3.0), (-1.0, 6.0)), [clamp(-1.0, 3.0)]);
    // One value is left of everything: two Clamps say so, one may not.
    assert_eq!(limits((0.0, 1.0), (2.0, 3.0)).len(), 2);
}

#[test]
fn clamps_stay_apart_where_the_tensor_between_is_wanted() {
    let mut network = empty(1);
    let relu = network.push("relu", Op::RELU, &[0]).unwrap();
    let clip = network.push("clip", Op::Clamp { min: -1.0, max: 1.0 }, &[relu]).unwrap();
    let mut quantized = network.clone();
    quantized.tensors[relu].encoding = Some(Encoding::per_tensor(8, false, 1.0, 0));
    assert_eq!(fold(&quantized).unwrap(), quantized);
    let mut read_twice = network.clone();
    read_twice.push("add", Op::Add, &[relu, clip]).unwrap();
    assert_eq!(fold(&read_twice).unwrap(), read_twice);
    assert_eq!(fold(&network).unwrap().nodes.len(), 1);
}

/// What a BatchNorm of either sign makes of integers stands for the weights it makes of floats.
#[test]
fn integers_follow_their_weights() {
    let encoding = Encoding::per_tensor(4, false, 0.25, 6);
    let weight: Vec<i16> = vec![0, 15, 6, 9];
    let floats = weight.iter().map(|&q| encoding.dequantize(0, q.into())).collect();
    let mut op = Op::Dense(Dense {
        weight: floats,
        bias: None,
        out_features: 2,
        integers: Some(crate::network::Integers { encoding, weight, bias: vec![0; 2] }),
    });
    let norm = BatchNorm {
        gamma: vec![3.0, -2.0],
        beta: vec![0.0; 2],
        mean: vec![0.0; 2],
        variance: vec![1.0; 2],
        epsilon: 0.0,
    };
    into_layer(&mut op, &norm).unwrap();
    let Op::Dense(Dense { weight, integers: Some(integers), .. }) = op else { panic!("{op:?}") };
    assert_eq!(integers.encoding.scale, [0.75, 0.5]);
    assert_eq!(integers.encoding.zero_point, [6, 9]);
    for (i, (&q, &w)) in integers.weight.iter().zip(&weight).enumerate() {
        assert_eq!(integers.encoding.dequantize(i / 2, q.into()), w);
    }
}
