//! Sizes of the named networks, and what their first weights look like.

use super::{Init, NAMES, NetError, Task, by_name};
use exporter::network::{Network, Op, Preprocessing, Shape};

fn task(size: usize, classes: usize) -> Task {
    Task {
        input: Shape::new(3, size, size),
        preprocessing: Preprocessing { mean: vec![0.5; 3], std: vec![0.25; 3] },
        labels: (0..classes).map(|i| format!("class {i}")).collect(),
    }
}

fn build(name: &str, seed: u64) -> Network {
    by_name(name, &task(32, 10), Init::HeNormal, seed).unwrap()
}

#[test]
fn sizes_are_the_documented_ones() {
    let sizes = NAMES.map(|(name, _)| {
        let network = build(name, 1);
        (name, network.macs(), network.parameters())
    });
    // Counted by hand. ResNet-8: weights 432 + 2 * 2304 + (4608 + 9216 + 512) + (18432 + 36864 + 2048) + 640, 10 biases,
    // and 2 * 336 of BatchNorm; MLPerf Tiny gives 12.5 M MACs.
    assert_eq!(
        sizes,
        [("resnet8", 12_501_632, 78_042), ("mobilenet", 7_191_808, 78_186), ("vgg", 21_898_176, 162_994)]
    );
}

#[test]
fn seed_decides_the_weights() {
    for (name, _) in NAMES {
        assert_eq!(build(name, 3), build(name, 3));
        assert_ne!(build(name, 3), build(name, 4));
    }
}

#[test]
fn small_images_and_many_classes_are_built() {
    for (name, _) in NAMES {
        let network = by_name(name, &task(8, 37), Init::HeUniform, 0).unwrap();
        assert_eq!(network.tensors[network.output].shape, Shape::vector(37));
    }
}

#[test]
fn what_cannot_be_built_is_refused() {
    let error = by_name("resnet9", &task(32, 10), Init::HeNormal, 0).unwrap_err();
    assert_eq!(error.to_string(), "unknown network `resnet9`; known: resnet8, mobilenet, vgg");
    for (task, reason) in [(task(7, 10), "at least 8 x 8"), (task(32, 1), "at least 2")] {
        match by_name("vgg", &task, Init::HeNormal, 0) {
            Err(NetError::Input { name, reason: found }) => {
                assert!(name == "vgg" && found.contains(reason), "{found}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn first_weights_have_the_variance_of_their_scheme() {
    // 3x3, 64 to 64 channels: both fans are 576.
    let deviation = |init| {
        let network = by_name("resnet8", &task(32, 10), init, 5).unwrap();
        let node = network.nodes.iter().find(|node| node.name == "stack3_conv2").unwrap();
        let Op::Conv2d(conv) = &node.op else { panic!("{node:?}") };
        let count = conv.weight.len() as f64;
        let mean = conv.weight.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
        assert!(mean.abs() < 1e-3, "{init:?}: mean {mean}");
        (conv.weight.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / count).sqrt()
    };
    for (init, expected) in [
        (Init::HeNormal, (2.0f64 / 576.0).sqrt()),
        (Init::HeUniform, (2.0f64 / 576.0).sqrt()),
        (Init::GlorotNormal, (1.0f64 / 576.0).sqrt()),
        (Init::GlorotUniform { c: 6.0 }, (1.0f64 / 576.0).sqrt()),
        (Init::GlorotUniform { c: 36.0 }, (6.0f64 / 576.0).sqrt()),
        (Init::Normal { deviation: 0.02 }, 0.02),
        (Init::Uniform { limit: 0.03 }, 0.03 / 3f64.sqrt()),
    ] {
        let found = deviation(init);
        assert!((found / expected - 1.0).abs() < 0.02, "{init:?}: {found}, expected {expected}");
    }
}
