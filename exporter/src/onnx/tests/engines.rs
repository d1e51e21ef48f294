//! What others make of our files: the official checker, ONNX Runtime, tract.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;
use tract_onnx::prelude::*;

use super::agreement::{Comparison, Values, runtime_values};
use super::{float, forms, low_bit_forms, python, quantized};
use crate::execute::{Executor, Mode};
use crate::network::Network;
use crate::onnx::{Batch, QUANTIZED, Storage, WriteOptions, write_float, write_qdq};
use crate::pipeline::Options;
use crate::samples::images;

/// What the input tensor of each image is: `N C H W`.
fn floats(network: &Network, images: &[u8]) -> Vec<f32> {
    let shape = network.tensors[network.input].shape;
    let p = &network.preprocessing;
    let value =
        |image: &[u8], c: usize, pixel: usize| (f32::from(image[pixel * shape.c + c]) / 255.0 - p.mean[c]) / p.std[c];
    images
        .chunks_exact(shape.len())
        .flat_map(|image| (0..shape.len()).map(move |i| value(image, i / shape.pixels(), i % shape.pixels())))
        .collect()
}

fn store(path: &Path, values: &[f32]) {
    std::fs::write(path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

fn load(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// One network on its way through ONNX Runtime.
struct Case {
    name: String,
    network: Network,
    pixels: Vec<u8>,
}

/// A form for people.
fn label(options: &Options) -> String {
    format!("W{} {:?}, {}", options.weights.bits, options.weights.scheme, options.activations)
}

/// What ONNX Runtime made of a case.
struct Ran {
    /// Every integer tensor.
    values: Values,
    /// The line that the script printed.
    line: Value,
}

/// Runs every case; `None` without Python.
fn onnx_runtime(cases: &[Case], storage: Storage, arguments: &[&str]) -> Option<Vec<Ran>> {
    let folder = tempfile::tempdir().unwrap();
    let path = |case: &Case, extension: &str| folder.path().join(format!("{}.{extension}", case.name));
    let mut arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    arguments.push("--values".into());
    for case in cases {
        let options = WriteOptions { batch: Batch::Any, storage, ..Default::default() };
        let bytes = write_qdq(&case.network, &options).unwrap();
        std::fs::write(path(case, "onnx"), bytes).unwrap();
        store(&path(case, "in"), &floats(&case.network, &case.pixels));
        arguments.push(path(case, "onnx").into_os_string());
    }
    let lines = python::run("onnx_check.py", &arguments)?;
    assert_eq!(lines.lines().count(), cases.len());
    let ran = cases.iter().zip(lines.lines()).map(|(case, line)| {
        let line: Value = serde_json::from_str(line).unwrap();
        let bytes = std::fs::read(path(case, "values")).unwrap();
        let mut bytes = &bytes[..];
        let mut found = Values::new();
        for value in line["values"].as_array().unwrap() {
            let (name, size) = (value[0].as_str().unwrap(), value[1].as_u64().unwrap() as usize);
            let (value, rest) = bytes.split_at(size);
            bytes = rest;
            let Some(name) = name.strip_suffix(QUANTIZED) else { continue };
            let Some(tensor) = case.network.tensors.iter().find(|tensor| tensor.name == name) else { continue };
            let signed = tensor.encoding.as_ref().unwrap().signed;
            found.insert(name.into(), value.iter().map(|&b| runtime::arith::widen(b, signed)).collect());
        }
        assert!(bytes.is_empty());
        // What stands before the graph's output is what the output says.
        let output = &case.network.tensors[case.network.output];
        let encoding = output.encoding.as_ref().unwrap();
        let stored: Vec<i32> = load(&path(case, "out")).into_iter().map(|v| encoding.quantize(0, v)).collect();
        assert_eq!(found[&output.name], stored);
        Ran { values: found, line }
    });
    Some(ran.collect())
}

/// Drawn networks of one form.
fn cases(networks: u64, options: &Options, images_each: usize) -> Vec<Case> {
    let case = |seed: u64| {
        let network = quantized(seed, options);
        Case { name: seed.to_string(), pixels: images(&network, images_each, seed + 1), network }
    };
    (0..networks).map(case).collect()
}

/// Compares op for op. An element may differ by one step if its exact value lies on a tie, or `from_tie` steps from one,
/// and its op is in `ops`; returns how many do, and of how many elements of those ops.
fn agree(cases: &[Case], ran: &[Ran], ops: &[&str], from_tie: f64) -> [usize; 2] {
    let mut comparison = Comparison::default();
    for (case, ran) in cases.iter().zip(ran) {
        comparison.add(&case.network, &runtime_values(&case.network, &case.pixels), &ran.values);
    }
    for op in ["Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool"] {
        assert!(comparison.elements.get(op).is_some_and(|&n| n > 100), "{op} was not compared");
    }
    for d in &comparison.differences {
        let allowed = ops.contains(&d.op) && d.ours.abs_diff(d.theirs) == 1 && d.from_tie <= from_tie;
        assert!(allowed, "{d:?}");
    }
    [comparison.differences.len(), ops.iter().map(|op| comparison.elements[op]).sum()]
}

/// ONNX Runtime's kernels for Add and AveragePool compute in f32 and so round what lies on a tie either way; all others
/// compute the contract of `docs/arithmetic.md`.
#[test]
fn onnx_runtime_computes_the_integers_of_the_runtime() {
    for options in forms() {
        let cases = cases(30, &options, 64);
        // On x86 signed activations are fused only when asked for.
        let arguments = &["--signed"][..usize::from(options.activations.signed)];
        let Some(ran) = onnx_runtime(&cases, Storage::Portable, arguments) else { return };
        let [different, all] = agree(&cases, &ran, &["Add", "AveragePool"], 1e-5);
        println!("{}: {different} of {all} results of Add and AveragePool differ, each on a tie", label(&options));
        assert!(different * 100 <= all);
    }
}

/// Without optimization ONNX Runtime computes every op in f32 between DequantizeLinear and QuantizeLinear: whatever rounds
/// may then go either way on a tie.
#[test]
fn onnx_runtime_without_fusion_differs_on_ties_only() {
    for options in forms() {
        let cases = cases(30, &options, 16);
        let Some(ran) = onnx_runtime(&cases, Storage::Portable, &["--level", "off"]) else { return };
        let ops = ["Add", "AveragePool", "Conv", "Gemm", "GlobalAveragePool"];
        let [different, all] = agree(&cases, &ran, &ops, 5e-5);
        println!("{}: {different} of {all} results differ, each on a tie", label(&options));
        assert!(different * 100 <= all);
    }
}

/// Packed bytes at the default level: 8 bit kernels on the integers of the runtime, whatever the width.
#[test]
fn onnx_runtime_fuses_packed_bytes_into_integer_kernels() {
    for options in low_bit_forms() {
        let cases = cases(12, &options, 16);
        let signed = options.activations.signed;
        let Some(ran) = onnx_runtime(&cases, Storage::Portable, &["--signed"][..usize::from(signed)]) else { return };
        let [different, all] = agree(&cases, &ran, &["Add", "AveragePool"], 1e-5);
        println!("{}: {different} of {all} results of Add and AveragePool differ, each on a tie", label(&options));
        for (case, Ran { line, .. }) in cases.iter().zip(&ran) {
            assert_eq!(line["float"], serde_json::json!([]), "seed {}, {}: {line}", case.name, label(&options));
        }
    }
}

/// ONNX's own types, at the level that is safe for them: everything in float.
#[test]
fn onnx_runtime_computes_native_types() {
    for options in low_bit_forms() {
        let cases = cases(12, &options, 16);
        let Some(ran) = onnx_runtime(&cases, Storage::Native, &["--level", "basic"]) else { return };
        let ops = ["Add", "AveragePool", "Conv", "Gemm", "GlobalAveragePool"];
        let [different, all] = agree(&cases, &ran, &ops, 5e-5);
        println!("{}: {different} of {all} results differ, each on a tie", label(&options));
    }
}

#[test]
fn onnx_runtime_fuses_everything_into_integer_kernels() {
    // Signed activations are left out: on x86 ONNX Runtime fuses them only when told to (session.qdqisint8allowed).
    for options in &forms()[..2] {
        let cases = cases(30, options, 1);
        let Some(ran) = onnx_runtime(&cases, Storage::Portable, &[]) else { return };
        for (case, Ran { line, .. }) in cases.iter().zip(&ran) {
            assert_eq!(line["float"], serde_json::json!([]), "seed {}: {line}", case.name);
        }
    }
}

#[test]
fn tract_computes_the_float_network() {
    for seed in 0..20 {
        let network = float(seed);
        let pixels = images(&network, 3, seed);
        let expected = Executor::new(&network, Mode::Float).unwrap().logits(&pixels).unwrap();
        let bytes = write_float(&network, &WriteOptions { batch: Batch::Fixed(3), ..Default::default() }).unwrap();
        let model = tract_onnx::onnx().model_for_read(&mut &bytes[..]).unwrap();
        let model = model.into_optimized().unwrap().into_runnable().unwrap();
        let shape = network.tensors[network.input].shape;
        let input = Tensor::from_shape(&[3, shape.c, shape.h, shape.w], &floats(&network, &pixels)).unwrap();
        let output = model.run(tvec!(input.into())).unwrap();
        let found = output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1.0f32, |a, b| a.max(b.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-4 * largest, "seed {seed}: {a} and {b}");
        }
    }
}
