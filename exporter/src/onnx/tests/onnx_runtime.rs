//! ONNX Runtime on our files: does it load them, what does it fuse, and does it compute the integers of the runtime?

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use super::agreement::{Comparison, Values, runtime_values};
use super::presets::{self, preset_network};
use super::{FOREIGN, PRECISIONS, engines::floats, forms, low_bit_forms, python, quantized};
use crate::calibrate::{Clipping, Ranges};
use crate::network::Network;
use crate::onnx::{Batch, Preset, QUANTIZED, Storage, WriteOptions, write_qdq};
use crate::pipeline::{Options, quantize_network};
use crate::samples::images;

fn store(path: &Path, values: &[f32]) {
    std::fs::write(path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

fn load(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// One network on its way through ONNX Runtime.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) network: Network,
    pub(super) pixels: Vec<u8>,
}

/// What ONNX Runtime made of a case.
pub(super) struct Ran {
    /// Every integer tensor.
    pub(super) values: Values,
    /// The line that the script printed.
    pub(super) line: Value,
}

/// Runs every case; `None` without Python.
pub(super) fn run(cases: &[Case], options: &WriteOptions, arguments: &[&str]) -> Option<Vec<Ran>> {
    let folder = tempfile::tempdir().unwrap();
    let path = |case: &Case, extension: &str| folder.path().join(format!("{}.{extension}", case.name));
    let mut arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    arguments.push("--values".into());
    for case in cases {
        let bytes = write_qdq(&case.network, &WriteOptions { batch: Batch::Any, ..*options }).unwrap();
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

/// Networks drawn from so many seeds.
pub(super) fn cases(seeds: u64, images_each: usize, network: impl Fn(u64) -> Network) -> Vec<Case> {
    let case = |seed: u64| {
        let network = network(seed);
        Case { name: seed.to_string(), pixels: images(&network, images_each, seed + 1), network }
    };
    (0..seeds).map(case).collect()
}

/// On x86 signed activations are fused only when asked for.
fn signed(options: &Options) -> &'static [&'static str] {
    if options.activations.signed { &["--signed"] } else { &[] }
}

/// The ops that may differ, on ties, where engines round in float because nothing is fused. Add and AveragePool round in
/// float everywhere, but what they give lies on no tie (`calibrate::ties`).
const UNFUSED: [&str; 3] = ["Conv", "Gemm", "GlobalAveragePool"];

pub(super) fn compare(cases: &[Case], ran: &[Ran]) -> Comparison {
    let mut comparison = Comparison::default();
    for (case, ran) in cases.iter().zip(ran) {
        comparison.add(&case.network, &runtime_values(&case.network, &case.pixels), &ran.values);
    }
    comparison
}

/// Compares op for op. An element may differ by one step if its exact value lies on a tie, or `from_tie` steps from one,
/// and its op is in `ops`; returns how many do, and of how many elements.
pub(super) fn agree(cases: &[Case], ran: &[Ran], ops: &[&str], from_tie: f64) -> [usize; 2] {
    let comparison = compare(cases, ran);
    if cases.len() > 1 {
        for op in ["Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool"] {
            assert!(comparison.elements.get(op).is_some_and(|&n| n > 100), "{op} was not compared");
        }
    }
    for d in &comparison.differences {
        let allowed = ops.contains(&d.op) && d.ours.abs_diff(d.theirs) == 1 && d.from_tie <= from_tie;
        assert!(allowed, "{d:?}");
    }
    [comparison.differences.len(), comparison.elements.values().sum()]
}

/// Compares op for op, to the last bit; returns of how many elements.
pub(super) fn agree_exactly(cases: &[Case], ran: &[Ran]) -> usize {
    agree(cases, ran, &[], 0.0)[1]
}

/// ONNX Runtime's fused kernels compute the contract of `docs/arithmetic.md`. Those for Add and AveragePool compute in f32 and
/// would round what lies on a tie either way; the scales that we choose let nothing lie there.
#[test]
fn computes_the_integers_of_the_runtime() {
    for options in forms() {
        let cases = cases(30, 64, |seed| quantized(seed, &options));
        let Some(ran) = run(&cases, &WriteOptions::default(), signed(&options)) else { return };
        println!("{:?}: none of {} results differ", options.weights.scheme, agree_exactly(&cases, &ran));
    }
}

/// Networks of all ops that a file from elsewhere may bring: functions in tables, products and padding agree too.
#[test]
fn computes_the_integers_of_the_runtime_on_foreign_networks() {
    let mut compared = std::collections::HashMap::<&str, usize>::new();
    for options in forms() {
        let cases = cases(40, 8, |seed| quantized(FOREIGN + seed, &options));
        for (arguments, ops, from_tie) in [(signed(&options), &[][..], 0.0), (&["--level", "off"], &UNFUSED, 5e-5)] {
            let Some(ran) = run(&cases, &WriteOptions::default(), arguments) else { return };
            agree(&cases, &ran, ops, from_tie);
            for (op, count) in compare(&cases, &ran).elements {
                *compared.entry(op).or_default() += count;
            }
        }
    }
    for op in ["Mul", "Pad", "LeakyRelu", "HardSwish", "Silu", "Sigmoid", "HardSigmoid", "Tanh"] {
        println!("{op}: {:?} elements", compared.get(op));
        assert!(compared.get(op).is_some_and(|count| *count > 1000), "{op} was not compared");
    }
}

/// Without optimization ONNX Runtime computes every op in f32 between DequantizeLinear and QuantizeLinear: whatever rounds
/// may then go either way on a tie.
#[test]
fn without_fusion_differs_on_ties_only() {
    for options in forms() {
        let cases = cases(30, 16, |seed| quantized(seed, &options));
        let Some(ran) = run(&cases, &WriteOptions::default(), &["--level", "off"]) else { return };
        let [different, all] = agree(&cases, &ran, &UNFUSED, 5e-5);
        println!("{:?}: {different} of {all} results differ, each on a tie", options.weights.scheme);
        assert!(different * 10_000 <= all);
    }
}

/// Portable files at the default level are all integer kernels, whatever the width; native ones load and agree at the
/// level that is safe for them.
fn check(preset: Preset, bits: [u8; 2], cases: &[Case]) -> Option<[usize; 2]> {
    let options = presets::options(preset);
    if options.storage == Storage::Native && bits != [8, 8] {
        return Some(agree(cases, &run(cases, &options, &["--level", "basic"])?, &UNFUSED, 5e-5));
    }
    let ran = run(cases, &options, signed(&preset.options(bits[0], bits[1])))?;
    for (case, Ran { line, .. }) in cases.iter().zip(&ran) {
        assert_eq!(line["float"], serde_json::json!([]), "{}, {} {bits:?}", case.name, preset.name());
    }
    Some([0, agree_exactly(cases, &ran)])
}

#[test]
fn every_preset_and_precision_fuses_and_agrees() {
    for preset in Preset::ALL {
        for bits in PRECISIONS {
            let cases = cases(12, 16, |seed| preset_network(seed, preset, bits));
            let Some([different, all]) = check(preset, bits, &cases) else { return };
            println!("{} {bits:?}: {different} of {all} differ, each on a tie", preset.name());
        }
    }
}

/// A network that has learned something: ResNet-8.
#[test]
fn a_trained_network_agrees_in_every_preset_and_precision() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/resnet8-cifar10.safetensors");
    let (network, _) = crate::checkpoint::load(&path).unwrap();
    let data = crate::data::shapes10::draw(3, crate::data::Split::Test, 6).unwrap();
    for preset in Preset::ALL {
        for bits in PRECISIONS {
            let mut options = preset.options(bits[0], bits[1]);
            options.ranges = Some(Ranges::Measured(Clipping::MinMax));
            let quantized = quantize_network(&network, data.images(), &options).unwrap().network;
            let name = "resnet8".into();
            let case = Case { name, network: preset.arrange(quantized), pixels: data.images().to_vec() };
            let Some([different, all]) = check(preset, bits, &[case]) else { return };
            println!("{} {bits:?}: {different} of {all} differ, each on a tie", preset.name());
        }
    }
}

/// Every width that a file can hold in packed bytes, among them those that no ONNX type fits.
#[test]
fn odd_widths_agree() {
    for options in low_bit_forms()
        .into_iter()
        .filter(|o| ![[4, 8], [4, 4], [2, 2]].contains(&[o.weights.bits, o.activations.bits]))
    {
        let cases = cases(12, 16, |seed| quantized(seed, &options));
        let Some(ran) = run(&cases, &WriteOptions::default(), signed(&options)) else { return };
        agree_exactly(&cases, &ran);
    }
}

/// ONNX's own types in all forms, at the level that is safe for them: everything in float.
#[test]
fn native_types_agree() {
    for options in low_bit_forms() {
        let cases = cases(12, 16, |seed| quantized(seed, &options));
        let native = WriteOptions { storage: Storage::Native, ..Default::default() };
        let Some(ran) = run(&cases, &native, &["--level", "basic"]) else { return };
        agree(&cases, &ran, &UNFUSED, 5e-5);
    }
}
