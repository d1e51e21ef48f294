//! What is written is what was there; what is read is what was written. Engines and checker have their say in `engines`,
//! files from elsewhere in `foreign`, and files that want to do harm in `hostile`.

mod agreement;
mod engines;
mod external;
mod foreign;
mod hostile;
mod node_cases;
mod onnx_runtime;
mod presets;
pub(crate) mod python;
mod qoperator;
mod seeds;
mod softmax;

use std::collections::HashMap;

use prost::Message;
use runtime::image::repr::HeaderRepr;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};

use super::{
    Batch, Imported, Preset, QUANTIZED, ReadOptions, Storage, WriteError, WriteOptions, read, summarize, write_float,
    write_qdq,
};
use crate::calibrate::Width;
use crate::image;
use crate::network::{Encoding, Network, Op};
use crate::pipeline::{Options, quantize_network};
use crate::quantize::{Scheme, Weights, quantize_each};
use crate::samples::{Sample, foreign, images, network};

/// The forms of 8 bit that the file can hold: unsigned per tensor, signed weights per channel, everything signed.
fn forms() -> [Options; 4] {
    let activations = |signed| Width { bits: 8, signed };
    let per_channel = |signed| Options::per_channel(8, activations(signed));
    [Options::mobile(8, 8), per_channel(false), per_channel(true), unfolded(8, 8)]
}

/// Weights rounded before BatchNorm is folded.
fn unfolded(weights: u8, activations: u8) -> Options {
    let mut options = Options::mobile(weights, activations);
    options.weights.scheme = Scheme::AsymmetricUnfolded;
    options
}

/// Bits of weights and activations that presets are made for.
const PRECISIONS: [[u8; 2]; 4] = [[8, 8], [4, 8], [4, 4], [2, 2]];

/// Forms below 8 bit: the usual widths and some that no type fits, in weights and activations, signed or not.
fn low_bit_forms() -> Vec<Options> {
    [(4, 8), (4, 4), (2, 2), (8, 4), (2, 8), (3, 6)]
        .into_iter()
        .flat_map(|(weights, bits)| {
            let per_channel = |signed| Options::per_channel(weights, Width { bits, signed });
            [Options::mobile(weights, bits), per_channel(false), per_channel(true), unfolded(weights, bits)]
        })
        .collect()
}

/// Seeds from here on give networks of all ops that a file from elsewhere may bring.
const FOREIGN: u64 = 1000;

fn float(seed: u64) -> Network {
    let sample = Sample { batch_norm: true, blocks: 1 + seed as usize % 6 };
    if seed < FOREIGN { network(seed, sample) } else { foreign(seed, sample) }
}

fn quantized(seed: u64, options: &Options) -> Network {
    let float = float(seed);
    let mut network = quantize_network(&float, &images(&float, 8, seed), options).unwrap().network;
    network.labels = (0..7).map(|i| format!("class \"{i}\" ä")).collect();
    network
}

fn write_int8(network: &Network) -> Vec<u8> {
    write_qdq(network, &WriteOptions::default()).unwrap()
}

fn read_back(bytes: &[u8]) -> Imported {
    read(bytes, "test.onnx", &ReadOptions::default()).unwrap()
}

fn decode(bytes: &[u8]) -> ModelProto {
    ModelProto::decode(bytes).unwrap()
}

/// The flash image without what names its origin, which a file cannot carry: the provenance hash and, with it, the CRC.
fn anonymous_image(network: &Network) -> Vec<u8> {
    let mut file = image::write(network).unwrap();
    let bytes: &mut [u8; HeaderRepr::BYTES] = (&mut file[..HeaderRepr::BYTES]).try_into().unwrap();
    let mut header = HeaderRepr::parse(bytes).unwrap();
    header.provenance = [0; 32];
    *bytes = header.emit();
    runtime::image::seal(&mut file).unwrap();
    file
}

#[test]
fn a_float_network_comes_back_as_it_was() {
    for seed in (0..40).chain(FOREIGN..FOREIGN + 40) {
        let network = float(seed);
        let bytes = write_float(&network, &WriteOptions::default()).unwrap();
        let imported = read_back(&bytes);
        assert_eq!(imported.network, network, "seed {seed}");
        assert_eq!((imported.quantized, imported.provenance), (false, Some(image::provenance(&network))));
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    }
}

#[test]
fn integers_come_back_untouched() {
    for seed in (0..40).chain(FOREIGN..FOREIGN + 40) {
        for options in forms() {
            let network = quantized(seed, &options);
            let bytes = write_int8(&network);
            assert_eq!(bytes, write_int8(&network), "the same network gives the same bytes");
            let imported = read_back(&bytes);
            assert!(imported.quantized && imported.notes.is_empty(), "{:?}", imported.notes);
            assert_eq!(imported.provenance, Some(image::provenance(&network)));
            assert_eq!(imported.network.labels, network.labels);
            // The flash image holds all that is computed: integers, encodings, limits, names.
            let expected = anonymous_image(&network);
            assert!(anonymous_image(&imported.network) == expected, "seed {seed}, {options:?}");
            // And what came from a file goes into one and comes back to the last bit, floats included.
            let again = read_back(&write_int8(&imported.network));
            assert_eq!(again.network, imported.network, "seed {seed}, {options:?}");
        }
    }
}

/// The same with a width for each layer.
fn mixed(seed: u64) -> Network {
    let weights = Options::mobile(8, 8).weights;
    quantize_each(quantized(seed, &Options::mobile(8, 8)), |node| {
        let bits = [8, 4, 2][(node.name.len() + seed as usize) % 3];
        Weights { bits, ..weights }
    })
    .unwrap()
}

#[test]
fn low_bits_come_back_to_the_same_flash_image() {
    for storage in [Storage::Portable, Storage::Native] {
        let options = WriteOptions { storage, ..Default::default() };
        let come_back = |network: &Network, what: &dyn std::fmt::Debug| {
            let bytes = write_qdq(network, &options).unwrap();
            assert_eq!(bytes, write_qdq(network, &options).unwrap(), "the same network gives the same bytes");
            let imported = read_back(&bytes);
            assert!(imported.quantized && imported.notes.is_empty(), "{:?}", imported.notes);
            let (found, expected) = (anonymous_image(&imported.network), anonymous_image(network));
            assert!(found == expected, "{what:?}, {storage:?}");
            let again = read_back(&write_qdq(&imported.network, &options).unwrap());
            assert_eq!(again.network, imported.network, "{what:?}, {storage:?}");
        };
        for seed in 0..15 {
            for form in low_bit_forms() {
                come_back(&quantized(seed, &form), &(seed, form));
            }
            come_back(&mixed(seed), &seed);
        }
    }
}

/// What takes packed weights apart.
const UNPACKING: [&str; 6] = ["BitShift", "BitwiseAnd", "Cast", "Gather", "Reshape", "Slice"];

/// Every node that reads a value.
fn readers(model: &ModelProto) -> HashMap<&str, Vec<&NodeProto>> {
    let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for node in &model.graph.as_ref().unwrap().node {
        for input in &node.input {
            readers.entry(input).or_default().push(node);
        }
    }
    readers
}

#[test]
fn quantized_files_keep_the_rules_that_engines_fuse_by() {
    let presets = Preset::ALL.into_iter().flat_map(|preset| PRECISIONS.map(|bits| (preset, bits)));
    for (preset, bits) in presets {
        for seed in 0..4 {
            let network = presets::preset_network(seed, preset, bits);
            let options = WriteOptions { preset: Some(preset), ..Default::default() };
            let model = decode(&write_qdq(&network, &options).unwrap());
            assert_eq!((model.ir_version, model.opset_import[0].version), (9, 19));
            let graph = model.graph.as_ref().unwrap();
            let (readers, constants) = (readers(&model), &graph.initializer);
            let constant = |name: &str| constants.iter().find(|t| t.name == name);
            let floats = |name: &str| super::read::file::floats(constant(name).unwrap()).unwrap();
            let scale_of = |dequantized: &str| {
                let node = graph.node.iter().find(|n| n.output[0] == dequantized).unwrap();
                assert_eq!(node.op_type, "DequantizeLinear");
                floats(&node.input[1])
            };
            let producer = |value: &String| {
                let node = graph.node.iter().find(|n| n.output[0] == *value);
                node.map_or("none", |node| node.op_type.as_str())
            };
            for node in &graph.node {
                let op = node.op_type.as_str();
                match op {
                    "DequantizeLinear" => {
                        // Each belongs to one reader, and its parameters are constants: scalars, or one axis of weights.
                        let out = node.output[0].as_str();
                        let uses = readers.get(out).map_or(0, Vec::len) + usize::from(graph.output[0].name == out);
                        assert_eq!(uses, 1, "{out}");
                        let (scale, zero) = (constant(&node.input[1]).unwrap(), constant(&node.input[2]).unwrap());
                        assert_eq!(scale.dims, zero.dims);
                        assert_eq!(scale.dims.is_empty(), node.attribute.is_empty());
                        let is_parameter = !node.input[0].ends_with(QUANTIZED);
                        assert!(scale.dims.is_empty() || is_parameter, "{}", node.input[0]);
                    }
                    "QuantizeLinear" => assert!(constant(&node.input[1]).unwrap().dims.is_empty()),
                    "Clip" => {
                        // Of integers: the value it reads comes from QuantizeLinear or another Clip.
                        assert_ne!(constant(&node.input[1]).unwrap().data_type, super::read::file::FLOAT);
                    }
                    "Relu" => panic!("`{}`: ReLU is the range of the encoding", node.name),
                    // Weights being taken apart: of constants, or of what was made of them.
                    "BitShift" => assert!(constant(&node.input[0]).is_some(), "{}", node.output[0]),
                    "BitwiseAnd" | "Cast" | "Gather" | "Slice" => {
                        let before =
                            node.input.iter().filter(|i| constant(i).is_none()).map(producer).collect::<Vec<_>>();
                        assert!(before.len() == 1 && UNPACKING.contains(&before[0]), "{op} behind {before:?}");
                    }
                    "Reshape" if UNPACKING.contains(&producer(&node.input[0])) => {}
                    _ => {
                        for input in node.input.iter().filter(|i| constant(i).is_none()) {
                            scale_of(input);
                        }
                        let behind = &readers[node.output[0].as_str()];
                        assert!(behind.len() == 1 && behind[0].op_type == "QuantizeLinear", "{}", node.name);
                    }
                }
                if matches!(op, "Conv" | "Gemm") {
                    // The bias scale is the product in f32, to the last bit.
                    let (x, w) = (scale_of(&node.input[0]), scale_of(&node.input[1]));
                    let product: Vec<f32> = w.iter().map(|w| x[0] * w).collect();
                    assert_eq!(scale_of(&node.input[2]), product, "{}", node.name);
                }
                if op == "Add" {
                    let quantize = readers[node.output[0].as_str()][0];
                    let zero = super::read::file::integers(constant(&quantize.input[2]).unwrap()).unwrap();
                    assert_eq!(zero[0] % 2, 0, "{}: an odd zero point behind Add", node.name);
                }
            }
        }
    }
}

/// Scales, zero points, shapes and limits that are equal are one constant, and what nobody looks for has a short name or
/// none: below 8 bit the weights of a small network are not more than its names.
#[test]
fn files_say_nothing_twice() {
    for preset in Preset::ALL {
        let network = presets::preset_network(3, preset, [4, 8]);
        let options = WriteOptions { preset: Some(preset), ..Default::default() };
        let model = decode(&write_qdq(&network, &options).unwrap());
        let graph = model.graph.as_ref().unwrap();
        let is_shared = |t: &&TensorProto| !t.name.contains('_');
        let mut shared: Vec<_> =
            graph.initializer.iter().filter(is_shared).map(|t| (t.data_type, &t.dims, &t.raw_data)).collect();
        let count = shared.len();
        shared.sort_unstable();
        shared.dedup();
        assert_eq!(shared.len(), count, "{preset:?}");
        assert!(graph.initializer.iter().filter(|t| !is_shared(t)).all(|t| {
            network.nodes.iter().any(|n| t.name == format!("{}_weight", n.name) || t.name == format!("{}_bias", n.name))
        }));
        for node in &graph.node {
            let is_step = ["QuantizeLinear", "DequantizeLinear"].contains(&node.op_type.as_str());
            let is_step = is_step || UNPACKING.contains(&node.op_type.as_str());
            assert!(!is_step || node.name.is_empty(), "{}", node.name);
            for (name, value) in node.attribute.iter().map(|a| (a.name.as_str(), &a.ints)) {
                let default = match name {
                    "strides" | "dilations" => value.iter().all(|&v| v == 1),
                    "pads" => value.iter().all(|&v| v == 0),
                    _ => false,
                };
                assert!(!default, "{}: {name} {value:?} is what it is without saying so", node.name);
            }
        }
        assert!(model.doc_string.is_empty() && graph.doc_string.is_empty());
    }
}

#[test]
fn shapes_are_static_unless_asked_for_otherwise() {
    let network = quantized(3, &Options::mobile(8, 8));
    for (batch, first) in [(Batch::Fixed(1), "1"), (Batch::Fixed(64), "64"), (Batch::Any, "N")] {
        let bytes = write_qdq(&network, &WriteOptions { batch, ..Default::default() }).unwrap();
        let summary = summarize(&bytes, "test.onnx").unwrap();
        let shape = network.tensors[0].shape;
        let kind = format!("FLOAT {first} x {} x {} x {}", shape.c, shape.h, shape.w);
        assert_eq!((summary.inputs[0].name.as_str(), summary.inputs[0].kind.as_str()), ("input", kind.as_str()));
        assert_eq!(summary.outputs[0].kind, format!("FLOAT {first} x 7"));
        assert_eq!(summary.outputs[0].name, network.tensors[network.output].name);
        assert_eq!(read_back(&bytes).network.macs(), network.macs());
    }
}

#[test]
fn a_summary_counts_what_is_in_the_file() {
    let network = quantized(4, &Options::mobile(8, 8));
    let bytes = write_int8(&network);
    let summary = summarize(&bytes, "test.onnx").unwrap();
    assert_eq!((summary.bytes, summary.ir_version), (bytes.len(), 9));
    assert_eq!(summary.opsets, [(String::new(), 19)]);
    let weights: usize = network
        .nodes
        .iter()
        .map(|node| match &node.op {
            Op::Conv2d(conv) => conv.weight.len(),
            Op::Dense(dense) => dense.weight.len(),
            _ => 0,
        })
        .sum();
    // Beside the weights, one byte for each zero point and Clip limit.
    assert!((weights..weights + 200).contains(&summary.initializer_bytes["UINT8"]), "{summary}");
    assert_eq!(summary.operators.values().sum::<usize>(), summary.nodes.len());
    let text = summary.to_string();
    for part in ["opset 19", "intact.arithmetic = ort-f32-rne", "Gemm", "UINT8"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(serde_json::to_string(&summary).unwrap().contains("\"initializer_bytes\""));
}

#[test]
fn a_summary_is_fit_for_a_terminal() {
    let mut model = decode(&write_int8(&quantized(4, &Options::mobile(8, 8))));
    model.producer_name = format!("\u{1b}[2J{}", "x".repeat(1000));
    let text = summarize(&model.encode_to_vec(), "test.onnx").unwrap().to_string();
    assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.len() < 600));
}

/// The message with which a network is refused, if it is.
fn refusal_of(network: &Network, options: &WriteOptions) -> Option<String> {
    write_qdq(network, options).err().map(|e: WriteError| e.to_string())
}

/// The message with which a changed network is refused.
fn refusal(change: impl Fn(&mut Network)) -> String {
    let mut network = quantized(5, &Options::per_channel(8, Width { bits: 8, signed: false }));
    change(&mut network);
    refusal_of(&network, &WriteOptions::default()).unwrap()
}

fn first_conv(network: &mut Network) -> &mut crate::network::Conv2d {
    let conv = |node: &mut crate::network::Node| matches!(node.op, Op::Conv2d(_));
    let index = network.nodes.iter_mut().position(conv).unwrap();
    match &mut network.nodes[index].op {
        Op::Conv2d(conv) => conv,
        _ => unreachable!(),
    }
}

#[test]
fn what_an_int8_file_cannot_hold_is_refused_by_name() {
    let encoding = |network: &mut Network, change: fn(&mut Encoding)| {
        change(network.tensors[0].encoding.as_mut().unwrap());
    };
    let cases: [(String, &str); 6] = [
        (refusal(|n| n.tensors[0].encoding = None), "`input` has no encoding"),
        (refusal(|n| encoding(n, |e| e.scale[0] = 1e-44)), "tensor `input` has scale"),
        (refusal(|n| first_conv(n).integers = None), "has no integer weights"),
        (refusal(|n| first_conv(n).integers.as_mut().unwrap().encoding.zero_point[0] = 3), "zero point other than 0"),
        (
            refusal(|n| {
                let encoding = &mut first_conv(n).integers.as_mut().unwrap().encoding;
                encoding.bits = 7;
            }),
            "outside",
        ),
        (write_qdq(&float(5), &WriteOptions::default()).unwrap_err().to_string(), "BatchNormalization"),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}
