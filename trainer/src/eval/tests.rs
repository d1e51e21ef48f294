//! Figures against their definitions.

use super::{Images, Score, Summary, Table, Test, network, score};
use crate::graph::{Blueprint, Request, Sampler, Space, Split, Task};
use crate::hypernet::{Config, Normalization, Parameters, Ranges, Setting};
use burn::tensor::Device;

#[test]
fn standard_errors_are_of_the_population() {
    let found = Summary::of(&[1.0, 3.0, 5.0, 7.0]);
    // Variance 5, divided by 4 networks.
    assert_eq!(found, Summary { mean: 4.0, error: 1.25f64.sqrt(), max: 7.0 });
}

#[test]
fn scores_of_logits_that_are_known() {
    // Six classes, two images. Image 0: label 1 first. Image 1: label 0, ranked sixth, and in floats first.
    let float = [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let found = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let s = score(Setting::new(2, 2), &float, &found, &[1, 0]);
    assert_eq!((s.top1, s.top5, s.float_top1), (0.5, 0.5, 1.0));
    assert_eq!(s.decrease(), 50.0);
    assert!((s.qmse - (1.0 + 9.0) / 12.0).abs() < 1e-12);
    let same = score(Setting::FLOAT, &float, &float, &[1, 0]);
    assert_eq!((same.qmse, same.decrease()), (0.0, 0.0));
    // Of a distribution under itself: its entropy, which no other distribution undercuts.
    assert!(same.qce < s.qce && same.qce > 0.0);
}

#[test]
fn a_tie_counts_for_the_first() {
    let s = score(Setting::FLOAT, &[1.0, 1.0], &[1.0, 1.0], &[1]);
    assert_eq!((s.top1, s.top5), (0.0, 1.0));
}

#[test]
fn the_table_has_a_row_for_each_width_and_a_column_for_each_split() {
    let one = |setting, top1| Score { setting, top1, top5: 0.9, float_top1: 0.5, qmse: 0.25, qce: 1.5 };
    let net = |top1| vec![one(Setting::FLOAT, top1), one(Setting::new(4, 8), top1 / 2.0)];
    let mut table = Table::default();
    table.push("id", &[net(0.4), net(0.6)]);
    table.push("deep", &[net(0.2)]);
    let text = table.markdown();
    assert!(text.starts_with(
        "| top-1, % | id | deep |\n| --- | --- | --- |\n| float | 50.0 ± 7.1; 60.0 | 20.0 ± 0.0; 20.0 |\n"
    ));
    assert!(text.contains("| w4a8 | 25.0 ± 3.5; 30.0 | 10.0 ± 0.0; 10.0 |"), "{text}");
    let json = serde_json::to_string(&table).unwrap();
    assert_eq!(serde_json::from_str::<Table>(&json).unwrap(), table);
}

#[test]
fn a_predicted_network_is_scored_at_every_width() {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let images = Images::new(&data, 48, 0);
    let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
    let request = Request { task, ..Request::new(Space::Edge, Split::Id, 1) };
    let (net, _) = Sampler::new(request).unwrap().draw(0).unwrap();
    let net = Blueprint::build(&net, task).unwrap();
    let settings = [Setting::FLOAT, Setting::new(8, 8), Setting::new(2, 2)];
    for bit_widths in [false, true] {
        let config = Config { bit_widths, ..Config::ghn2(task.classes) };
        let p = Parameters::init(config, 1, 1.0).unwrap();
        let device = Device::flex();
        let test = Test {
            settings: &settings,
            asked: None,
            ranges: Ranges::ABSOLUTE,
            normalization: Normalization::Folded,
            s_max: 10,
            images: &images,
            batch: 16,
            device: &device,
        };
        let run = |batch| network(&p, &net, &Test { batch, ..test }).unwrap();
        let scores = run(16);
        assert_eq!(scores.iter().map(|s| s.setting).collect::<Vec<_>>(), settings);
        let [float, w8a8, w2a2] = scores[..] else { panic!("three settings") };
        // The fewer the bits, the larger the error; widths whose embeddings are still zero change no weights.
        assert!(float.qmse == 0.0 && w8a8.qmse > 0.0 && w2a2.qmse > 10.0 * w8a8.qmse, "{scores:?}");
        assert!(scores.iter().all(|s| s.float_top1 == float.top1 && s.top5 >= s.top1), "{scores:?}");
        assert_eq!(scores, run(16));
        assert_ne!(scores, run(48), "BatchNorm goes by the batch");
    }
}

#[test]
fn ghn_q_is_asked_for_floats_and_tested_at_every_width() {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let images = Images::new(&data, 32, 0);
    let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
    let request = Request { task, ..Request::new(Space::Edge, Split::Id, 1) };
    let (net, _) = Sampler::new(request).unwrap().draw(0).unwrap();
    let net = Blueprint::build(&net, task).unwrap();
    let narrow = Parameters::zeros(Config::ghn2(task.classes)).unwrap().len();
    let mut p = Parameters::init(Config { bit_widths: true, ..Config::ghn2(task.classes) }, 1, 1.0).unwrap();
    // What stands for the widths comes last, and begins at zero.
    for (i, value) in p.values_mut()[narrow..].iter_mut().enumerate() {
        *value += 0.1 * (i % 11) as f32;
    }
    let device = Device::flex();
    let scores = |asked| {
        let test = Test {
            settings: &[Setting::FLOAT, Setting::new(8, 8), Setting::new(4, 4)],
            asked,
            ranges: Ranges::ABSOLUTE,
            normalization: Normalization::Folded,
            s_max: 10,
            images: &images,
            batch: 32,
            device: &device,
        };
        network(&p, &net, &test).unwrap()
    };
    let (own, floats) = (scores(None), scores(Some(Setting::FLOAT)));
    assert_eq!(own[0], floats[0]);
    assert!(floats.iter().all(|score| score.float_top1 == floats[0].top1), "{floats:?}");
    assert!(own[1].qce != floats[1].qce && own[2].qmse != floats[2].qmse, "{own:?}, {floats:?}");
}
