//! Numbers of the reference implementation of GHN-2, computed there in f64: graph, states, predictions, logits, loss and
//! gradients of two networks, with parameters from a formula.

use crate::graph::{Architecture, Blueprint, CellOp, Stem, Step, Task};
use crate::hypernet::{Config, HIDDEN, Leaves, Mode, Parameters, Prediction, Setting, cross_entropy, execute, predict};
use burn::tensor::{Device, Tensor, TensorData};

/// `0.1 sin(0.37 t + 0.013 j)` for element `j` of tensor `t`; ten times that for embeddings, and 1 more for LayerNorm.
fn parameters() -> Parameters {
    let mut p = Parameters::zeros(Config { kernel: 11, ..Config::ghn2(10) }).unwrap();
    for (t, entry) in p.entries().to_vec().into_iter().enumerate() {
        for (j, value) in p.values_mut()[entry.range].iter_mut().enumerate() {
            let v = 0.1 * (0.37 * t as f64 + 0.013 * j as f64).sin();
            *value = match t {
                0 => 1.0 + v,
                2..=4 => 10.0 * v,
                _ => v,
            } as f32;
        }
    }
    p
}

pub(super) fn net_a() -> Architecture {
    Architecture {
        cells: 4,
        width: 32,
        widening: 2,
        normal: vec![Step::new((CellOp::Separable3, 0), (CellOp::Convolution5, 1))],
        reduction: vec![Step::new((CellOp::MaxPool, 0), (CellOp::Skip, 1))],
        concat: vec![true],
        stem: Stem::Strided,
        stem_kernel: 3,
        batch_norm: true,
        global_average: true,
        hidden: Some(64),
    }
}

pub(super) fn net_b() -> Architecture {
    Architecture {
        normal: vec![
            Step::new((CellOp::Separable3, 0), (CellOp::Dilated5, 1)),
            Step::new((CellOp::None, 1), (CellOp::Convolution1, 2)),
        ],
        reduction: vec![
            Step::new((CellOp::MaxPool, 0), (CellOp::Skip, 1)),
            Step::new((CellOp::AveragePool, 2), (CellOp::None, 0)),
        ],
        concat: vec![true, true],
        stem: Stem::Simple { pool: true },
        batch_norm: false,
        hidden: None,
        ..net_a()
    }
}

pub(super) fn build(architecture: &Architecture) -> Blueprint {
    Blueprint::build(architecture, Task::CIFAR10).unwrap()
}

fn close(found: impl Into<f64>, expected: f64, tolerance: f64, what: &str) {
    let found = found.into();
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1e-3),
        "{what}: found {found}, expected {expected}"
    );
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// A predicted tensor: layer, which tensor of its parameter, first three values, length.
type Sample = (&'static str, usize, [f64; 3], f64);

fn check_prediction(net: &Blueprint, found: &Prediction, sums: [f64; 2], samples: &[Sample]) {
    let states: f64 = found.states(0).iter().map(|&v| f64::from(v).abs()).sum();
    close(states, sums[0], 2e-5, "sum of absolute states");
    let tensors = &found.tensors[0];
    close(norm(&tensors.concat()), sums[1], 2e-5, "length of all parameters");
    for &(layer, which, first, length) in samples {
        let index = net.parameters.iter().position(|p| net.layers[p.layer].name == layer).unwrap();
        let bias = usize::from(layer.starts_with("head") && which == 1);
        let values = &tensors[index + bias];
        let values = match which {
            _ if layer.starts_with("head") => &values[..],
            _ if layer.ends_with("norm") => values.chunks_exact(values.len() / 2).nth(which).unwrap(),
            _ => &values[..],
        };
        for (i, expected) in first.into_iter().enumerate() {
            close(values[i], expected, 1e-4, &format!("{layer} {which} [{i}]"));
        }
        close(norm(values), length, 1e-4, &format!("{layer} {which}: length"));
    }
}

#[test]
fn net_a_predicted() {
    let net = build(&net_a());
    let found = predict(&parameters(), &[(&net, Setting::FLOAT)], 10).unwrap();
    let samples: [Sample; 8] = [
        ("stem.0.conv", 0, [0.211383, 0.211827, 0.211332], 15.4622),
        ("cell0.step0.left.0.depthwise", 0, [0.258598, 0.258992, 0.258334], 15.6398),
        ("cell2.input0.even", 0, [0.193671, 0.0653065, -0.22729], 36.3562),
        ("cell3.step0.right.conv", 0, [0.0193137, 0.0193186, 0.0192397], 43.0682),
        ("stem.0.norm", 0, [0.940688, 0.93305, 0.955845], 3.90818),
        ("stem.0.norm", 1, [0.00791898, 0.0186901, 0.00448027], 0.12869),
        ("head.linear1", 0, [0.863611, 0.742119, 0.839448], 27.6584),
        ("head.linear1", 1, [-0.0488575, -0.0351439, -0.011425], 0.0997048),
    ];
    check_prediction(&net, &found, [1877.97, 184.368], &samples);
    let hidden = net.parameters.iter().position(|p| net.layers[p.layer].name == "head.linear0").unwrap();
    close(norm(&found.tensors[0][hidden]), 36.0208, 1e-4, "hidden layer's weight");
    close(norm(&found.tensors[0][hidden + 1]), 0.229185, 1e-4, "hidden layer's bias");
}

#[test]
fn net_b_predicted() {
    let net = build(&net_b());
    let found = predict(&parameters(), &[(&net, Setting::FLOAT)], 10).unwrap();
    let samples: [Sample; 6] = [
        ("stem.conv", 0, [0.210698, 0.211008, 0.210316], 37.0526),
        ("cell0.step0.left.0.depthwise", 0, [0.258653, 0.259074, 0.258407], 15.6992),
        ("cell2.input0.even", 0, [0.136961, 0.0463787, -0.161127], 36.4084),
        ("cell3.step0.right.depthwise", 0, [0.154611, 0.154725, 0.154131], 31.0202),
        ("head.linear0", 0, [0.427184, 0.3671, 0.415206], 27.3574),
        ("head.linear0", 1, [-0.0491353, -0.0353009, -0.0113582], 0.100208),
    ];
    check_prediction(&net, &found, [1494.81, 191.573], &samples);
    assert_eq!(found.states(0).len(), net.graph.nodes.len() * HIDDEN);
}

/// The reference computes in f64, we in f32. These parameters make neighbouring weights nearly equal, so that much cancels:
/// changing each by one part in 10^7 moves the logits by 3 parts in 1000 and the lengths of gradients by 1 % (net A) to 15 %
/// (net B). Tolerances are of that size; [`super::gradients`] checks every gradient to a part in 1000.
///
/// Logits of two images, loss, and lengths of gradients: of modules as the reference counts them, and in all.
fn check_training(architecture: &Architecture, logits: [[f64; 4]; 2], loss: f64, gradients: [f64; 11], tolerance: f64) {
    let (net, p) = (build(architecture), parameters());
    let prediction = predict(&p, &[(&net, Setting::FLOAT)], 10).unwrap();
    let device = Device::flex().autodiff();
    let leaves = Leaves::new(&net, &prediction.tensors[0], &device, true);
    let mut x = Vec::new();
    for n in 0..2 {
        for c in 0..3 {
            for (h, w) in (0..32 * 32).map(|i| (i / 32, i % 32)) {
                let angle = 0.1 * f64::from((n + 1) * (c + 1)) + 0.05 * f64::from(h) - 0.07 * f64::from(w);
                x.push(angle.sin() as f32);
            }
        }
    }
    let x = Tensor::<4>::from_data(TensorData::new(x, [2, 3, 32, 32]), &device);
    let found = execute::logits(&net, &leaves, x, Mode::test(Setting::FLOAT));
    let values: Vec<f32> = found.to_data().try_to_vec().unwrap();
    for (image, expected) in logits.into_iter().enumerate() {
        for (i, expected) in expected.into_iter().enumerate() {
            close(values[image * 10 + i], expected, 5e-3, &format!("logit {i} of image {image}"));
        }
    }
    let mean = cross_entropy(found, &[3, 7]);
    close(mean.clone().into_scalar::<f32>(), loss, 5e-3, "loss");
    let d_tensors = leaves.gradients(&mut mean.backward());
    let grad = prediction.backward(&p, &[d_tensors]);
    let length = |slots: std::ops::RangeInclusive<usize>| {
        let of = |i: usize| grad.values()[grad.entries()[i].range.clone()].to_vec();
        norm(&slots.flat_map(of).collect::<Vec<_>>())
    };
    let modules = [2..=2, 3..=4, 5..=8, 9..=12, 13..=16, 0..=1, 17..=18, 19..=22, 23..=24, 25..=28, 29..=30];
    let names = ["embed", "shapes", "mlp", "mlp_ve", "gru", "ln", "fc", "conv", "class", "decoder_1d", "bias_class"];
    for ((slots, expected), name) in modules.into_iter().zip(gradients).zip(names) {
        close(length(slots), expected, tolerance, &format!("gradient of {name}"));
    }
}

#[test]
fn net_a_trained() {
    check_training(
        &net_a(),
        [[20.2256, -13.1264, -37.7696, -37.6104], [24.1727, -15.6428, -45.0773, -44.908]],
        42.8797,
        [1423.5, 1536.7, 156.65, 606.77, 7528.0, 68045.0, 42248.0, 489_600.0, 71.962, 12197.0, 0.25867],
        0.02,
    );
}

#[test]
fn net_b_trained() {
    check_training(
        &net_b(),
        [[47.9419, -30.4115, -88.5686, -88.5487], [39.1407, -24.6745, -72.1048, -72.1748]],
        97.8153,
        [272.42, 504.85, 53.364, 89.024, 1007.7, 6931.0, 18595.0, 1_680_800.0, 171.15, 0.42378, 0.25918],
        0.15,
    );
}
