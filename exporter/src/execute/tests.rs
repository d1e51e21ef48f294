//! The executor against the definition of each op, node by node, on random networks in both modes.

use super::*;
use crate::calibrate::{Clipping, Ranges, Width, calibrate};
use crate::fold::fold;
use crate::network::{Preprocessing, Shape};
use crate::quantize::{Scheme, Weights, quantize};
use crate::samples::{self, Sample};

/// Float weights of a node, or what its integers stand for.
fn weight(node: &Node, mode: Mode) -> Option<Vec<f64>> {
    let (float, integers) = match &node.op {
        Op::Conv2d(conv) => (&conv.weight, &conv.integers),
        Op::Dense(dense) => (&dense.weight, &dense.integers),
        _ => return None,
    };
    if mode == Mode::Float {
        return Some(float.iter().map(|&w| f64::from(w)).collect());
    }
    let integers = integers.as_ref().unwrap();
    let row = float.len() / integers.bias.len();
    let value = |(i, &w): (usize, &i16)| {
        let (scale, zero_point) = integers.encoding.channel(i / row);
        f64::from(i32::from(w) - zero_point) * f64::from(scale)
    };
    Some(integers.weight.iter().enumerate().map(value).collect())
}

/// Runs one image and compares every node with its definition, on the inputs that the executor gave it. Returns how many
/// values were rounded to another step, of how many.
fn check_nodes(network: &Network, mode: Mode, image: &[u8]) -> (usize, usize) {
    let executor = Executor::new(network, mode).unwrap();
    let mut workspace = executor.workspace();
    executor.run(image, &mut workspace).unwrap();
    let (mut other, mut count) = (0, 0);
    for node in &network.nodes {
        let inputs: Vec<&[f32]> = node.inputs.iter().map(|&id| workspace.tensor(id)).collect();
        let expected = samples::reference(network, node, weight(node, mode).as_deref(), &inputs);
        let found = workspace.tensor(node.output);
        assert_eq!(found.len(), expected.len(), "{}", node.name);
        let encoding = if mode == Mode::Simulated { network.tensors[node.output].encoding.as_ref() } else { None };
        for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
            count += 1;
            let Some(encoding) = encoding else {
                let error = (f64::from(found) - expected).abs();
                assert!(error <= 2e-5 * expected.abs().max(1.0), "{}[{i}]: {found}, not {expected}", node.name);
                continue;
            };
            let (found, expected) = (encoding.quantize(0, found), encoding.quantize(0, expected as f32));
            assert!((found - expected).abs() <= 1, "{}[{i}]: {found}, not {expected}", node.name);
            other += usize::from(found != expected);
        }
    }
    (other, count)
}

#[test]
fn computes_what_each_op_is_defined_to() {
    for seed in 0..60 {
        let sample = Sample { batch_norm: true, blocks: 4 };
        let network = if seed < 30 { samples::network(seed, sample) } else { samples::foreign(seed, sample) };
        check_nodes(&network, Mode::Float, &samples::images(&network, 1, seed));
    }
}

#[test]
fn simulates_what_the_encodings_say() {
    let (mut other, mut count) = (0, 0);
    for seed in 0..60 {
        let network = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 4 })).unwrap();
        let images = samples::images(&network, 4, seed);
        let bits = [8, 4, 2][seed as usize % 3];
        let width = Width { bits: 8, signed: seed % 2 == 1 };
        let scheme = [Scheme::AsymmetricPerTensor, Scheme::SymmetricPerChannel][seed as usize / 2 % 2];
        let network = calibrate(network, &images, width, Ranges::Measured(Clipping::MinMax)).unwrap();
        let network = quantize(network, Weights { bits, scheme, clipping: Clipping::MinMax }).unwrap();
        let counts = check_nodes(&network, Mode::Simulated, &images[..images.len() / 4]);
        (other, count) = (other + counts.0, count + counts.1);
    }
    // Sums in another order differ in the last bits, and so do a few roundings.
    assert!(other * 2000 < count, "{other} of {count} values rounded otherwise");
}

#[test]
fn fakes_exactly_as_the_encoding_does() {
    let mut random = samples::Random::new(7);
    for bits in 2..=8 {
        for signed in [false, true] {
            let (min, max) = (random.uniform(-3.0, 0.0), random.uniform(0.0, 5.0));
            let encoding = Encoding::asymmetric(bits, signed, min, max);
            let fake = Fake::new(&encoding);
            let ties = (-600..600).map(|i| i as f32 * 0.5 * encoding.scale[0]);
            let noise = (0..2000).map(|_| random.uniform(-6.0, 9.0)).collect::<Vec<_>>();
            for x in ties.chain(noise).chain([f32::MAX, f32::MIN, 0.0, -0.0, f32::MIN_POSITIVE, 1e-45]) {
                assert_eq!(fake.apply(x).to_bits(), encoding.fake(0, x).to_bits(), "{x} in {encoding:?}");
            }
        }
    }
}

#[test]
fn batches_do_not_depend_on_threads() {
    let network = samples::network(3, Sample { batch_norm: true, blocks: 4 });
    let executor = Executor::new(&network, Mode::Float).unwrap();
    let images = samples::images(&network, 50, 3);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| executor.logits(&images).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let mut workspace = executor.workspace();
    let image = &images[images.len() / 50 * 17..][..images.len() / 50];
    assert_eq!(executor.run(image, &mut workspace).unwrap(), &one[17 * 7..18 * 7]);
    assert_eq!(executor.classify(&images).unwrap()[17], largest(&one[17 * 7..18 * 7]));
}

#[test]
fn refuses_what_cannot_be_simulated() {
    let mut network = samples::network(3, Sample { batch_norm: true, blocks: 4 });
    let text = |network: &Network| Executor::new(network, Mode::Simulated).err().unwrap().to_string();
    assert!(text(&network).contains("tensor `input` has no encoding"));
    for tensor in &mut network.tensors {
        tensor.encoding = Some(Encoding::per_tensor(8, false, 0.1, 3));
    }
    assert!(text(&network).contains("has no integer weights") || text(&network).contains("BatchNormalization"));
}

#[test]
fn refuses_pixels_that_are_no_images() {
    let preprocessing = Preprocessing { mean: vec![0.0; 3], std: vec![1.0; 3] };
    let mut network = Network::new("n", Shape::new(3, 4, 5), preprocessing, Vec::new());
    network.push("pool", Op::GlobalAveragePool, &[0]).unwrap();
    let executor = Executor::new(&network, Mode::Float).unwrap();
    for bytes in [0, 59, 61, 90] {
        let text = executor.logits(&vec![0; bytes]).unwrap_err().to_string();
        assert!(text.contains(&format!("{bytes} bytes")) && text.contains("4x5x3"), "{text}");
    }
    assert!(executor.run(&[0; 120], &mut executor.workspace()).is_err());
}

#[test]
fn the_first_of_equal_logits_wins() {
    assert_eq!(largest(&[1.0, 3.0, 3.0, -1.0]), 1);
}
