//! Networks without BatchNorm: what their weights are, that networks with it are left alone, that a start has the weights that
//! were trained.

use super::golden::{build, net_a, net_b};
use crate::data::plain;
use crate::graph::{Architecture, Blueprint, CellOp, LayerOp, Step, Task};
use crate::hypernet::{
    Config, Leaves, Mode, NormFree, Parameters, Setting, Start, Tensors, deviations, logits, predict,
};
use burn::tensor::{Device, Tensor, TensorData};
use exporter::network::{Op, Preprocessing};

const BOTH: NormFree = NormFree { standardized: true, scaled_sums: true };

fn parameters(norm_free: NormFree, classes: usize) -> Parameters {
    Parameters::init(Config { norm_free, ..Config::ghn2(classes) }, 1, 1.0).unwrap()
}

fn tensors(norm_free: NormFree, net: &Blueprint) -> Tensors {
    predict(&parameters(norm_free, 10), &[(net, Setting::FLOAT)], 10).unwrap().tensors.remove(0)
}

/// The weights of every layer with some.
fn weights<'a>(net: &'a Blueprint, tensors: &'a Tensors) -> impl Iterator<Item = (&'a str, LayerOp, usize, &'a [f32])> {
    let of = |layer: &'a crate::graph::Layer| {
        let parameter = layer.parameter?;
        let rows = net.parameters[parameter].shape[0];
        Some((layer.name.as_str(), layer.op, rows, tensors[parameter].as_slice()))
    };
    net.layers.iter().filter_map(of)
}

#[test]
fn standardized_channels_have_mean_and_length() {
    let net = build(&net_b());
    let plain = tensors(NormFree::default(), &net);
    let found = tensors(NormFree { standardized: true, scaled_sums: false }, &net);
    let mut lengths = std::collections::BTreeSet::new();
    for ((name, op, rows, weight), (.., before)) in weights(&net, &found).zip(weights(&net, &plain)) {
        let LayerOp::Convolution(conv) = op else {
            assert_eq!(weight, before, "{name}: linear layers stay as they are");
            continue;
        };
        for row in weight.chunks_exact(weight.len() / rows) {
            let mean = row.iter().sum::<f32>() / row.len() as f32;
            assert!(conv.depthwise || mean.abs() < 1e-6, "{name}: mean {mean}");
            // Half of the variance is each pixel's own, half is what all pixels under the kernel have in common.
            let own: f32 = row.iter().map(|w| w * w).sum();
            let common: f32 = row.chunks_exact(conv.kernel.pow(2)).map(|taps| taps.iter().sum::<f32>().powi(2)).sum();
            lengths.insert((name.to_owned(), (50.0 * (own + common)).round() as i32));
        }
    }
    // In hundredths, the epsilon takes some: images and depthwise results keep their variance; behind a ReLU 2 for a
    // depthwise channel and 2 / (1 - 1 / pi) else.
    let kinds = [("stem", 100), (".depthwise", 200), (".pointwise", 100), (".input", 293)];
    assert!(kinds.iter().all(|(kind, _)| lengths.iter().any(|(name, _)| name.contains(kind))), "{lengths:?}");
    for (name, hundredths) in &lengths {
        let near = kinds.iter().map(|(_, h)| h).find(|h| (*h * 17 / 20..=**h).contains(hundredths));
        assert!(near.is_some(), "{name}: {hundredths} hundredths");
        for (_, expected) in kinds.iter().filter(|(kind, _)| name.contains(kind)) {
            assert_eq!(near, Some(expected), "{name}: {hundredths} hundredths");
        }
    }
}

#[test]
fn networks_with_batch_norm_and_plain_forms_keep_their_bits() {
    let net = build(&net_a());
    assert_eq!(tensors(NormFree::default(), &net), tensors(BOTH, &net));
    let json = serde_json::to_string(&Config::ghn2(10)).unwrap();
    assert_eq!(json, r#"{"kernel":7,"classes":10,"bit_widths":false}"#, "files of older programs");
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), Config::ghn2(10));
    let config = Config { norm_free: BOTH, ..Config::ghn2(10) };
    assert_eq!(serde_json::from_str::<Config>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
}

/// Both branches of each step are convolutions, so sums can be divided by scaling what is added.
fn convolutions() -> Architecture {
    Architecture {
        width: 8,
        cells: 3,
        normal: vec![Step::new((CellOp::Separable3, 0), (CellOp::Convolution3, 1))],
        reduction: vec![Step::new((CellOp::Convolution3, 0), (CellOp::Dilated3, 1))],
        concat: vec![true],
        ..net_b()
    }
}

fn images(count: usize) -> (Vec<f32>, exporter::data::Dataset) {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    (plain(&data, 0..count, &Preprocessing::of(&data)), data)
}

fn run(net: &Blueprint, tensors: &Tensors, images: &[f32], mode: Mode) -> Vec<f32> {
    let device = Device::flex();
    let [c, h, w] = net.shape(0);
    let x = TensorData::new(images.to_vec(), [images.len() / (c * h * w), c, h, w]);
    let leaves = Leaves::new(net, tensors, &device, false);
    logits(net, &leaves, Tensor::from_data(x, &device), mode).into_data().try_to_vec().unwrap()
}

#[test]
fn sums_are_divided() {
    let net = build(&convolutions());
    let (images, _) = images(8);
    let standardized = NormFree { standardized: true, scaled_sums: false };
    for form in [NormFree::default(), standardized] {
        let found = tensors(NormFree { scaled_sums: true, ..form }, &net);
        // Instead of the layers behind a sum, those in front of it.
        let mut expected = tensors(form, &net);
        let mut sums = 0;
        for layer in net.layers.iter().filter(|layer| layer.op == LayerOp::Add) {
            sums += 1;
            for &input in &layer.inputs {
                let parameter = net.layers[input - 1].parameter.expect("a convolution");
                expected[parameter].iter_mut().for_each(|w| *w /= 2f32.sqrt());
            }
        }
        assert_eq!(sums, 3);
        let [a, b] = [&found, &expected].map(|tensors| run(&net, tensors, &images, Mode::test(Setting::FLOAT)));
        let size = b.iter().map(|v| v.abs()).fold(0.0, f32::max);
        let distance = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(distance <= 1e-5 * size, "{form:?}: {distance} of {size}");
        // The last sum, divided here and not yet there, and not divided at all.
        let last = net.layers.iter().rposition(|layer| layer.op == LayerOp::Add).unwrap();
        let signal = |tensors: &Tensors| deviations(&net, tensors, &images, &Device::flex())[last];
        let [found, expected, plain] = [signal(&found), signal(&expected), signal(&tensors(form, &net))];
        assert!((found / expected - 2f64.sqrt()).abs() < 1e-4, "{form:?}: {found} and {expected}");
        assert!(plain > 1.3 * found, "{form:?}: {plain} and {found}");
    }
}

#[test]
fn sums_of_sums_count_every_signal() {
    // State 2 is a sum of two, state 3 of state 2 and a convolution: three.
    let architecture = Architecture {
        normal: vec![
            Step::new((CellOp::Convolution3, 0), (CellOp::Convolution1, 1)),
            Step::new((CellOp::Convolution1, 0), (CellOp::Skip, 2)),
        ],
        concat: vec![true, true],
        ..net_b()
    };
    let net = build(&Architecture { reduction: architecture.normal.clone(), ..architecture });
    let [plain, found] = [false, true].map(|scaled_sums| tensors(NormFree { scaled_sums, standardized: false }, &net));
    // The linear layer reads the last cell's two states, state 2 first.
    let (.., rows, last) = weights(&net, &found).last().unwrap();
    let (.., before) = weights(&net, &plain).last().unwrap();
    let columns = last.len() / rows;
    for (i, (after, before)) in last.iter().zip(before).enumerate() {
        let signals = if i % columns < columns / 2 { 2f32 } else { 3.0 };
        assert_eq!(*after, before * (1.0 / signals.sqrt()), "column {}", i % columns);
    }
}

#[test]
fn the_signal_stays_from_the_first_layer_to_the_last() {
    let (images, _) = images(16);
    // Deep, with sums of sums: at the start of a hypernetwork nothing comes through.
    let net = build(&Architecture { cells: 9, width: 16, hidden: Some(32), ..net_b() });
    let features = |form| {
        let found = deviations(&net, &tensors(form, &net), &images, &Device::flex());
        found[net.layers.iter().position(|layer| layer.op == LayerOp::Linear).unwrap() - 1]
    };
    let (plain, both) = (features(NormFree::default()), features(BOTH));
    assert!(plain < 1e-4, "plain: {plain}");
    assert!((0.02..5.0).contains(&both), "both: {both}");
}

#[test]
fn a_start_has_the_weights_that_were_trained() {
    let (_, data) = images(1);
    let architecture = Architecture { hidden: Some(32), ..convolutions() };
    let p = parameters(BOTH, data.classes().len());
    let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
    let net = Blueprint::build(&architecture, task).unwrap();
    let setting = Setting::new(4, 4);
    let trained = predict(&p, &[(&net, setting)], 10).unwrap().tensors.remove(0);
    let start = Start {
        parameters: &p,
        architecture: &architecture,
        setting,
        simulation: None,
        s_max: 10,
        data: &data,
        batches: 1,
        seed: 5,
    };
    let network = start.network("net", &Device::flex()).unwrap();
    let mut same = 0;
    for (name, _, _, weight) in weights(&net, &trained) {
        let node = network.nodes.iter().find(|node| node.name == name).unwrap();
        match &node.op {
            Op::Conv2d(conv) if conv.weight.len() == weight.len() => assert_eq!(conv.weight, weight, "{name}"),
            // The shifted half of a reduction: the last of four taps.
            Op::Conv2d(conv) => assert!(conv.weight.chunks_exact(4).map(|taps| taps[3]).eq(weight.iter().copied())),
            Op::Dense(dense) => assert_eq!(dense.weight, weight, "{name}"),
            other => panic!("{name} is {other:?}"),
        }
        same += 1;
    }
    assert!(same > 10);
}
