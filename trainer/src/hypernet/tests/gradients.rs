//! Gradients against differences: through the hypernetwork alone, and through hypernetwork, network and loss.

use super::golden::{build, net_a, net_b};
use crate::data::{order, plain};
use crate::graph::{Architecture, CellOp, Step};
use crate::hypernet::train::{Images, Workers, gradient};
use crate::hypernet::{Config, Mode, NormFree, Parameters, Setting, predict};
use burn::tensor::Device;
use exporter::network::Preprocessing;

/// Between -1 and 1, from a formula.
fn wave(i: usize, frequency: f64) -> f32 {
    (frequency * (i as f64 + 1.0)).sin() as f32
}

fn parameters(smooth: bool) -> Parameters {
    let config = Config { bit_widths: true, ..Config::ghn2(10) };
    let mut p = Parameters::init(config, 3, 1.0).unwrap();
    // Every other feature in front of a ReLU is far on its one side, the rest on the other: differences meet no kink.
    let in_front = [
        "mlp.0",
        "mlp.1",
        "mlp_ve.0",
        "mlp_ve.1",
        "decoder.fc",
        "decoder.conv.0",
        "decoder.conv.1",
        "decoder_1d.0",
        "decoder_1d.1",
    ];
    let of =
        |name: &str| smooth && in_front.iter().any(|layer| name.trim_start_matches("gnn.") == format!("{layer}.bias"));
    for entry in p.entries().to_vec().into_iter().filter(|entry| of(entry.name)) {
        p.values_mut()[entry.range].iter_mut().enumerate().for_each(|(i, v)| *v += if i % 2 == 0 { 4.0 } else { -4.0 });
    }
    // Everything that begins at a constant is moved away from it.
    let ranges: Vec<_> = p.entries().iter().map(|entry| (entry.name, entry.range.clone())).collect();
    for (name, range) in ranges.into_iter().filter(|(name, _)| name.starts_with("ln") || name.ends_with("_bits")) {
        assert!(p.values()[range.clone()].iter().all(|v| *v == 0.0 || *v == 1.0), "{name}");
        p.values_mut()[range].iter_mut().enumerate().for_each(|(i, v)| *v += 0.2 * wave(i, 1.7));
    }
    p
}

/// The change of `f` along a direction within each tensor in turn, against what the gradient says.
fn check(p: &Parameters, grad: &Parameters, [step, tolerance, noise]: [f64; 3], f: impl Fn(&Parameters) -> f64) {
    for entry in p.entries() {
        // Along the gradient, so that there is something to see, and a little across.
        let own = &grad.values()[entry.range.clone()];
        let length = own.iter().map(|g| g * g).sum::<f32>().sqrt();
        let across = 0.3 / (own.len() as f32).sqrt();
        let direction: Vec<f32> = own.iter().enumerate().map(|(i, g)| g / length + across * wave(i, 0.7)).collect();
        let at = |step: f64| {
            let mut moved = p.clone();
            for (v, d) in moved.values_mut()[entry.range.clone()].iter_mut().zip(&direction) {
                *v += step as f32 * d;
            }
            f(&moved)
        };
        let found: f64 = own.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
        let expected = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (found - expected).abs() <= tolerance * expected.abs() + noise,
            "{}: found {found}, expected {expected}",
            entry.name
        );
    }
}

#[test]
fn predictions_by_every_tensor() {
    let (a, b) = (build(&net_a()), build(&net_b()));
    let nets = [(&a, Setting::new(4, 8)), (&b, Setting::FLOAT)];
    let mut p = parameters(true);
    p.set_norm_free(NormFree { standardized: true, scaled_sums: true });
    let prediction = predict(&p, &nets, 10).unwrap();
    let weight = |i: usize| wave(i, 0.31);
    let mut i = 0;
    let d_tensors: Vec<Vec<Vec<f32>>> = prediction
        .tensors
        .iter()
        .map(|net| {
            net.iter()
                .map(|t| {
                    t.iter()
                        .map(|_| {
                            i += 1;
                            weight(i)
                        })
                        .collect()
                })
                .collect()
        })
        .collect();
    let grad = prediction.backward(&p, &d_tensors);
    check(&p, &grad, [2e-3, 2e-2, 5e-2], |p| {
        let tensors = predict(p, &nets, 10).unwrap().tensors;
        tensors.iter().flatten().flatten().enumerate().map(|(i, v)| f64::from(*v) * f64::from(weight(i + 1))).sum()
    });
}

/// A small network with most operations.
fn small() -> Architecture {
    Architecture {
        width: 8,
        cells: 3,
        normal: vec![
            Step::new((CellOp::Separable3, 0), (CellOp::AveragePool, 1)),
            Step::new((CellOp::Convolution3, 2), (CellOp::Skip, 0)),
        ],
        reduction: vec![
            Step::new((CellOp::Skip, 0), (CellOp::Dilated3, 1)),
            Step::new((CellOp::None, 0), (CellOp::Skip, 2)),
        ],
        concat: vec![true, true],
        hidden: Some(32),
        ..net_a()
    }
}

#[test]
fn losses_of_a_meta_batch_by_every_tensor() {
    let (a, b) = (build(&small()), build(&Architecture { batch_norm: false, hidden: None, ..small() }));
    let mode = Mode { training: Some(5), ..Mode::test(Setting::FLOAT) };
    let nets = [(&a, mode), (&b, mode)];
    // Images with something in them: on plain waves BatchNorm makes the loss so rough that no difference shows its slope.
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let data = data.subset(order(data.len(), 0, 0).into_iter().take(48));
    let batch = |range: std::ops::Range<usize>| {
        let values = plain(&data, range.clone(), &Preprocessing::of(&data));
        Images { values, shape: [3, 32, 32], labels: data.labels()[range].to_vec() }
    };
    let (shared, own) = ([batch(0..32)], [batch(0..32), batch(16..48)]);
    let (p, device) = (parameters(false), Device::flex());
    let run = |images: &[Images], threads: usize, p: &Parameters| {
        gradient(p, &nets, images, 10, f32::INFINITY, &Workers::new(threads), &device).unwrap()
    };
    let scores_of = |images: &[Images]| {
        let (grad, scores) = run(images, 2, &p);
        let (one, three) = (run(images, 1, &p), run(images, 3, &p));
        assert_eq!((&grad, &scores), (&one.0, &three.1), "the number of threads does not matter");
        let loss = |p: &Parameters| run(images, 2, p).1.iter().map(|score| f64::from(score.loss)).sum::<f64>() / 2.0;
        check(&p, &grad, [3e-4, 5e-2, 5e-4], loss);
        scores
    };
    let (of_shared, of_own) = (scores_of(&shared), scores_of(&own));
    assert_eq!(of_shared[0], of_own[0], "the first network sees the same images");
    assert_ne!(of_shared[1].loss, of_own[1].loss, "the second one does not");
}
