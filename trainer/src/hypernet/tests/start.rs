//! Networks to be trained on: what they compute, that no channel is another's copy, how long their weights are.

use super::golden::net_a;
use crate::data::plain;
use crate::graph::{Architecture, Blueprint, LayerOp, Request, Sampler, Space, Split, Task};
use crate::hypernet::{self, CHANNELS, Leaves, Mode, Parameters, Setting, Start, Tensors, logits, predict};
use crate::ops::Statistics;
use crate::run::{Model, Pass};
use burn::tensor::{Device, Tensor, TensorData};
use exporter::network::{Op, Preprocessing};

/// One whose signals are large enough that BatchNorm's epsilon is nothing to them.
fn trained() -> Parameters {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../checkpoints/ghn-edge.safetensors");
    hypernet::load(&path).unwrap().parameters
}

#[test]
fn a_start_computes_what_was_predicted_and_no_channel_is_a_copy() {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let p = trained();
    let device = Device::flex();
    let values = plain(&data, 0..64, &Preprocessing::of(&data));
    let x = || {
        let shape = [64, 3, data.height(), data.width()];
        Tensor::<4>::from_data(TensorData::new(values.clone(), shape), &device)
    };
    let setting = Setting::new(4, 4);
    // Narrow enough that nothing is repeated; and wide enough that much is.
    for architecture in [Architecture { width: 8, ..net_a() }, net_a()] {
        let start = Start {
            parameters: &p,
            architecture: &architecture,
            setting,
            simulation: None,
            s_max: 10,
            data: &data,
            batches: 3,
            seed: 5,
        };
        let network = start.network("net", &device).unwrap();
        assert_eq!(network.labels, data.classes());
        let mut variances: Vec<f32> = Vec::new();
        for node in &network.nodes {
            match &node.op {
                Op::Conv2d(conv) if conv.groups == 1 && conv.out_channels > CHANNELS => {
                    let row = conv.weight.len() / conv.out_channels;
                    assert_ne!(conv.weight[..row], conv.weight[CHANNELS * row..][..row], "{}", node.name);
                }
                // All of this network's convolutions stand before BatchNorm.
                Op::Conv2d(conv) if conv.groups == 1 => {
                    let fan_in = (conv.weight.len() / conv.out_channels) as f32;
                    let square = conv.weight.iter().map(|w| w * w).sum::<f32>() / conv.weight.len() as f32;
                    assert!((square * fan_in - 2.0).abs() < 1e-3, "{}: {square} of {fan_in}", node.name);
                }
                Op::BatchNorm(norm) => variances.extend(&norm.variance),
                _ => {}
            }
        }
        assert!(variances.iter().all(|v| *v > 0.0) && variances.iter().any(|v| *v != 1.0), "of batches");
        let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
        let blueprint = Blueprint::build(&architecture, task).unwrap();
        let tensors = &predict(&p, &[(&blueprint, setting)], 10).unwrap().tensors[0];
        let leaves = Leaves::new(&blueprint, tensors, &device, false);
        let expected: Vec<f32> =
            logits(&blueprint, &leaves, x(), Mode::test(Setting::FLOAT)).into_data().try_to_vec().unwrap();
        let pass = Pass { statistics: Statistics::Batch, simulation: None, activations: false, observe: None };
        let mut model = Model::new(network, &device).unwrap();
        let found: Vec<f32> = model.forward(x(), &pass, false).unwrap().into_data().try_to_vec().unwrap();
        let size = expected.iter().map(|v| v.abs()).sum::<f32>() / expected.len() as f32;
        let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / found.len() as f32;
        let tolerance = if architecture.width == 8 { 1e-4 } else { 0.2 };
        assert!(error <= tolerance * size, "width {}: error {error} of {size}", architecture.width);
    }
}

#[test]
fn a_free_length_changes_nothing() {
    let task = Task { channels: 3, size: 32, classes: 10 };
    let data =
        exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap().subset(0..16);
    let p = trained();
    let device = Device::flex();
    let x = || {
        let values = plain(&data, 0..16, &Preprocessing::of(&data));
        Tensor::<4>::from_data(TensorData::new(values, [16, 3, data.height(), data.width()]), &device)
    };
    let mut reductions = 0;
    for (split, index) in [(Split::Id, 0), (Split::Id, 1), (Split::Deep, 2), (Split::Wide, 3), (Split::BnFree, 0)] {
        let (architecture, _) = Sampler::new(Request::new(Space::Edge, split, 1)).unwrap().draw(index).unwrap();
        let net = Blueprint::build(&architecture, task).unwrap();
        let free = net.free_lengths();
        // What BatchNorm is folded into, and the depthwise halves in front of those.
        let depthwise = |p: &crate::graph::Parameter| matches!(net.layers[p.layer].op, LayerOp::Convolution(conv) if conv.depthwise);
        let pointwise = net.parameters.iter().zip(&free).filter(|(p, free)| **free && !depthwise(p)).count();
        assert_eq!(pointwise, net.normed_convolutions().0, "{split} {index}");
        reductions += net.layers.iter().filter(|l| matches!(l.op, LayerOp::Convolution(conv) if conv.shifted)).count();
        let tensors = predict(&p, &[(&net, Setting::FLOAT)], 10).unwrap().tensors.remove(0);
        let run = |tensors: &Tensors| -> Vec<f32> {
            let leaves = Leaves::new(&net, tensors, &device, false);
            logits(&net, &leaves, x(), Mode::test(Setting::FLOAT)).into_data().try_to_vec().unwrap()
        };
        let mut other = tensors.clone();
        for (i, tensor) in other.iter_mut().enumerate().filter(|(i, _)| free[*i]) {
            let factor = [0.7, 3.3, 11.0][i % 3];
            tensor.iter_mut().for_each(|w| *w *= factor);
        }
        let (expected, found) = (run(&tensors), run(&other));
        let size = expected.iter().map(|v| v.abs()).sum::<f32>();
        let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum::<f32>();
        assert!(error <= 0.01 * size, "{split} {index}: error {error} of {size}");
    }
    assert!(reductions > 0);
}
