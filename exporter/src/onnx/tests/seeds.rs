//! The seeds of the fuzz target `onnx_read`: one small file of each form that is written, with all operators among them. They
//! are replayed here, and so are the files of `tests/data/foreign`. Renewed by `INTACT_BLESS=1 cargo test -p intact-exporter
//! seeds`.

use std::path::{Path, PathBuf};

use super::{FOREIGN, foreign};
use crate::network::{Network, Op};
use crate::onnx::{Form, Preset, Storage, WriteOptions, exercise, write_float, write_qdq};
use crate::pipeline::quantize_network;
use crate::samples::{self, Sample};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/onnx_read")
}

/// Name and bytes of each seed.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let network = |seed| samples::foreign(FOREIGN + seed, Sample { batch_norm: true, blocks: 3 });
    let ending_in_shares = |seed| {
        let mut network = network(seed);
        network.push("shares", Op::Softmax, &[network.output]).unwrap();
        network
    };
    let quantized = |float: Network, preset: Preset, [weights, activations]: [u8; 2], options: WriteOptions| {
        let integers = quantize_network(&float, &samples::images(&float, 4, 1), &preset.options(weights, activations));
        write_qdq(&preset.arrange(integers.unwrap().network), &WriteOptions { preset: Some(preset), ..options })
    };
    let default = WriteOptions::default();
    let native = WriteOptions { storage: Storage::Native, ..default };
    let operators = WriteOptions { form: Form::OnnxRuntime, ..default };
    let files = [
        ("float", write_float(&network(1), &default)),
        ("float-more", write_float(&network(6), &default)),
        ("w8a8", quantized(network(2), Preset::Mobile, [8, 8], default)),
        ("w4a4-packed", quantized(network(3), Preset::MobilePerChannel, [4, 4], default)),
        ("w2a2-native", quantized(network(4), Preset::Mobile, [2, 2], native)),
        ("operators", quantized(network(5), Preset::Mobile, [8, 8], operators)),
        ("softmax", quantized(ending_in_shares(2), Preset::Mobile, [8, 8], default)),
        ("softmax-operators", quantized(ending_in_shares(7), Preset::Xnnpack, [8, 8], operators)),
    ];
    files.into_iter().map(|(name, bytes)| (format!("{name}.onnx"), bytes.unwrap())).collect()
}

#[test]
fn seeds_and_foreign_files_give_an_answer() {
    for (name, bytes) in seeds() {
        let path = folder().join(&name);
        if std::env::var_os("INTACT_BLESS").is_some() {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let found = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found.len() < 40_000, "{name} is a large seed: {} bytes", found.len());
        exercise(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // Whatever lies there, what fuzzing has found among it: an answer, not a panic.
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let _ = exercise(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 6);
    for bytes in foreign::files() {
        exercise(&bytes).unwrap();
    }
}
