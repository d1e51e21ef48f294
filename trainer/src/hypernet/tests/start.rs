//! Networks to be trained on: what they compute, and that no channel is another's copy.

use super::golden::net_a;
use crate::data::plain;
use crate::graph::{Architecture, Blueprint, Task};
use crate::hypernet::{CHANNELS, Config, Leaves, Mode, Parameters, Setting, Start, logits, predict};
use crate::ops::Statistics;
use crate::run::{Model, Pass};
use burn::tensor::{Device, Tensor, TensorData};
use exporter::network::{Op, Preprocessing};

#[test]
fn a_start_computes_what_was_predicted_and_no_channel_is_a_copy() {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let p = Parameters::init(Config { bit_widths: true, ..Config::ghn2(data.classes().len()) }, 1, 1.0).unwrap();
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
