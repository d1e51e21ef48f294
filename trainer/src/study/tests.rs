//! Cases from every kind of start, and the table of known results.

use super::{Case, Found, Source, Study, table};
use crate::graph::{Request, Sampler, Space, Split, Task};
use crate::hypernet::{Config, Normalization, Parameters, Setting};
use crate::nets::Init;
use burn::tensor::Device;

#[test]
fn every_start_is_trained_the_same_way_and_twice_to_the_same_bits() {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let (train, test) = (data.subset(0..128), data.subset(128..192));
    let task = Task { channels: 3, size: 32, classes: 10 };
    let request = Request { task, ..Request::new(Space::Edge, Split::Id, 1) };
    let (net, _) = Sampler::new(request).unwrap().draw(3).unwrap();
    let p = Parameters::init(Config { bit_widths: true, ..Config::ghn2(10) }, 1, 1.0).unwrap();
    let device = Device::flex();
    let normalization = Normalization::Folded;
    let study = Study { train: &train, test: &test, epochs: 2, rate: 0.02, batch: 32, normalization, device: &device };
    let run = |start: &str, source, normalization| {
        let case = Case { net: 3, setting: Setting::new(4, 4), start: start.into(), seed: 7 };
        let found = Study { normalization, ..study }.run(&case, &net, source).unwrap();
        assert_eq!((&found.case, found.accuracy.len()), (&case, 3));
        assert!(found.accuracy.iter().all(|a| (0.0..=1.0).contains(a)));
        found.accuracy
    };
    let quantized = run("ghn-qat", Source::Quantized(&p), normalization);
    assert_eq!(quantized, run("ghn-qat", Source::Quantized(&p), normalization));
    run("ghn-q", Source::Float(&p), normalization);
    let random = run("random", Source::Random(Init::HeNormal), normalization);
    assert_ne!(random, run("random", Source::Random(Init::HeNormal), Normalization::Accumulator));
}

#[test]
fn the_table_compares_what_all_starts_have() {
    let found = |start: &str, net, seed, accuracy: [f64; 2]| Found {
        case: Case { net, setting: Setting::new(2, 2), start: start.into(), seed },
        accuracy: accuracy.into(),
        seconds: 1.0,
    };
    let all = [
        found("a", 0, 1, [0.1, 0.5]),
        found("a", 0, 2, [0.1, 0.7]),
        found("a", 1, 1, [0.2, 0.9]),
        found("b", 0, 1, [0.3, 0.4]),
        found("b", 0, 2, [0.3, 0.4]),
    ];
    let lines: Vec<String> = table(&all, &[0, 1]).lines().map(Into::into).collect();
    let expected = [
        "| w2a2, 1 networks, 2 runs each; epochs | 0 | 1 |",
        "| --- | --- | --- |",
        "| a | 10.0 ± 0.0 | 60.0 ± 14.1 |",
        "| b | 30.0 ± 0.0 | 40.0 ± 0.0 |",
        "| a less b | -20.0 | +20.0 |",
        "",
    ];
    assert_eq!(lines, expected);

    // Networks 0 and 1 are 10 and 30 points apart: 20, and the error of that mean 14.1 / sqrt 2.
    let two = [
        found("a", 0, 1, [0.1, 0.5]),
        found("a", 1, 1, [0.2, 0.9]),
        found("b", 0, 1, [0.1, 0.4]),
        found("b", 1, 1, [0.2, 0.6]),
    ];
    let text = table(&two, &[0, 1]);
    assert!(text.contains("| a | 15.0 | 70.0 |\n"), "{text}");
    assert!(text.contains("| a less b | +0.0 ± 0.0 | +20.0 ± 10.0 |\n"), "{text}");
}
