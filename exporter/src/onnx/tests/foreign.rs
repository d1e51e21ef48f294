//! Files from elsewhere: PyTorch's two exporters, tf2onnx, and ONNX Runtime's quantizer (`tests/data/foreign`, where the
//! scripts that made them are). A float file means what its framework computes; quantized here, ONNX Runtime computes the
//! integers of the runtime on it. A quantized file comes back with every integer it had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::{Image, Session};

use super::onnx_runtime::{Case, compare, run};
use super::{ReadOptions, WriteOptions, anonymous_image, read, read_back, write_qdq};
use crate::execute::{Executor, Mode};
use crate::image;
use crate::network::{Network, Op, Preprocessing};
use crate::onnx::Imported;
use crate::pipeline::{Options, quantize_network};
use crate::samples;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/foreign")
}

/// Every file, with the scores of its network for [`picture`].
pub(super) fn expected() -> BTreeMap<String, Vec<f32>> {
    let text = |name| std::fs::read_to_string(folder().join(name)).unwrap();
    let lists = ["torch.json", "tf.json"].map(|name| serde_json::from_str::<BTreeMap<String, Vec<f32>>>(&text(name)));
    let all: BTreeMap<_, _> = lists.into_iter().flat_map(Result::unwrap).collect();
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: std::collections::BTreeSet<String> = files.filter(|name| name.ends_with(".onnx")).collect();
    assert_eq!(found, all.keys().cloned().collect(), "a file without scores, or scores without a file");
    all
}

/// The bytes of every file, in the order of their names.
pub(super) fn files() -> Vec<Vec<u8>> {
    expected().into_keys().map(|name| std::fs::read(folder().join(name)).unwrap()).collect()
}

pub(super) fn import(name: &str) -> Imported {
    import_with(name, false)
}

/// The same, with the Softmax at its end if it is to stay.
pub(super) fn import_with(name: &str, keep_softmax: bool) -> Imported {
    let bytes = std::fs::read(folder().join(name)).unwrap();
    assert!(bytes.len() < 200_000, "{name} is too large for the repository");
    let preprocessing = Some(Preprocessing { mean: vec![0.0; 3], std: vec![1.0; 3] });
    read(&bytes, name, &ReadOptions { preprocessing, keep_softmax, ..ReadOptions::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// What the scripts give their networks, as pixels.
pub(super) fn picture(network: &Network) -> Vec<u8> {
    let shape = network.tensors[network.input].shape;
    let value = |i: usize| {
        let (c, x, y) = (i % shape.c, i / shape.c % shape.w, i / shape.c / shape.w);
        (31 * y + 17 * x + 89 * c + 7 * x * y) % 256
    };
    (0..shape.len()).map(|i| value(i) as u8).collect()
}

/// The scores of logits, where the file ends in a Softmax.
fn scores(imported: &Imported, logits: Vec<f32>) -> Vec<f32> {
    if !imported.notes.iter().any(|note| note.contains("Softmax")) {
        return logits;
    }
    let sum: f32 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x.exp() / sum).collect()
}

#[test]
fn float_files_mean_what_their_framework_computes() {
    let mut ops = std::collections::BTreeSet::new();
    for (name, expected) in expected().into_iter().filter(|(name, _)| !name.starts_with("ort-")) {
        let imported = import(&name);
        assert!(!imported.quantized);
        let network = &imported.network;
        let folded = crate::fold::fold(network).unwrap();
        for network in [network, &folded] {
            let logits = Executor::new(network, Mode::Float).unwrap().logits(&picture(network)).unwrap();
            let found = scores(&imported, logits);
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "{name}: {worst} from {expected:?}");
        }
        println!("{name}: {:?}", folded.nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>().join(" "));
        ops.extend(folded.nodes.iter().map(|node| node.op.name()));
        // A BatchNorm behind Concat, and arithmetic behind Clip, are layers of their own; nothing else is.
        let layers = |network: &Network| network.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d(_))).count();
        let more = if name.starts_with("torch-mixed") { 2 } else { 0 };
        assert_eq!(layers(&folded), layers(network) + more, "{name}");
    }
    for op in ["Mul", "Pad", "HardSwish", "HardSigmoid", "Silu", "Sigmoid", "LeakyRelu", "Tanh", "Clip", "Concat"] {
        assert!(ops.contains(op), "{op} is in none of the files");
    }
}

#[test]
fn quantized_here_they_are_the_same_integers_everywhere() {
    for options in [Options::mobile(8, 8), Options::per_channel(8, Options::mobile(8, 8).activations)] {
        let case = |name: String| {
            let float = import(&name).network;
            let pixels = [samples::images(&float, 15, 1), picture(&float)].concat();
            Case { network: quantize_network(&float, &pixels, &options).unwrap().network, name, pixels }
        };
        let names = expected().into_keys().filter(|name| !name.starts_with("ort-"));
        let cases: Vec<Case> = names.map(case).collect();
        for case in &cases {
            let back = read_back(&write_qdq(&case.network, &WriteOptions::default()).unwrap());
            assert!(back.quantized && back.notes.is_empty(), "{}: {:?}", case.name, back.notes);
            assert!(anonymous_image(&back.network) == anonymous_image(&case.network), "{}", case.name);
        }
        let Some(ran) = run(&cases, &WriteOptions::default(), &[]) else { return };
        let comparison = compare(&cases, &ran);
        assert!(comparison.differences.is_empty(), "{:?}", comparison.differences);
        println!("none of {} integers differ", comparison.elements.values().sum::<usize>());
    }
}

/// Static quantization by ONNX Runtime, QDQ and QOperator, signed and unsigned, per tensor and per channel.
#[test]
fn quantized_elsewhere_they_keep_their_integers() {
    for (name, expected) in expected().into_iter().filter(|(name, _)| name.starts_with("ort-")) {
        let imported = import(&name);
        assert!(imported.quantized, "{name}");
        let network = &imported.network;
        let file = image::write(network).unwrap_or_else(|error| panic!("{name}: {error}"));
        let image = Image::check(&file).unwrap();
        let mut arena = vec![0; image.arena_bytes()];
        let mut session = Session::new(image, &mut arena).unwrap();
        let output = session.run_pixels(&picture(network)).unwrap();
        let encoding = network.tensors[network.output].encoding.as_ref().unwrap();
        let found: Vec<i32> = (0..output.len()).map(|i| output.integer(i)).collect();
        let theirs: Vec<i32> = expected.iter().map(|&score| encoding.quantize(0, score)).collect();
        println!("{name}: {:?}", imported.notes);
        let steps: Vec<u32> = found.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
        println!("{name}: {steps:?}");
        assert!(steps.iter().all(|&step| step <= 1), "{name}: {found:?}, ONNX Runtime {theirs:?}");
    }
}
