//! ONNX's own test cases of quantization, from the `onnx` package of the check's Python environment. What `docs/onnx.md` does
//! not list as refused goes through the importer and the runtime and gives the integers that the case asks for; what it
//! lists is refused. A case that is new to both is a failure.
//!
//! The cases are single nodes whose parameters are inputs. All but the first become constants here; a QuantizeLinear or
//! DequantizeLinear of weights gets a dense layer that reads them, one column at a time, one of activations a MaxPool of one
//! pixel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use runtime::{Image, Session};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{self, Value as TypeValue};
use tract_onnx::pb::{
    AttributeProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto,
    attribute_proto::AttributeType,
};

use super::python;
use crate::image;
use crate::network::{Network, Op, Preprocessing};
use crate::onnx::read::file::{self, FLOAT, INT8, UINT8};
use crate::onnx::{ReadError, ReadOptions, read};

/// Beginnings of the names of the cases.
const OPERATORS: [&str; 7] = [
    "quantizelinear",
    "dequantizelinear",
    "qlinearconv",
    "qlinearmatmul",
    "convinteger",
    "matmulinteger",
    "dynamicquantizelinear",
];

/// How a case is run.
#[derive(Clone, Copy)]
enum As {
    /// The node as it is, on integers.
    Integers,
    /// QuantizeLinear of floats.
    Quantized,
    /// DequantizeLinear of integers.
    Dequantized,
    /// Either, of the weights of a layer.
    Weights,
}

/// The cases that are claimed.
const CLAIMED: [(&str, As); 14] = [
    ("dequantizelinear", As::Dequantized),
    ("dequantizelinear", As::Weights),
    ("dequantizelinear_int2", As::Weights),
    ("dequantizelinear_int4", As::Weights),
    ("dequantizelinear_uint2", As::Weights),
    ("dequantizelinear_uint4", As::Weights),
    ("qlinearconv", As::Integers),
    ("qlinearmatmul_2D_int8_float32", As::Integers),
    ("qlinearmatmul_2D_uint8_float32", As::Integers),
    ("quantizelinear", As::Quantized),
    ("quantizelinear_int2", As::Weights),
    ("quantizelinear_int4", As::Weights),
    ("quantizelinear_uint2", As::Weights),
    ("quantizelinear_uint4", As::Weights),
];

/// The folder of the cases; `None` without Python.
fn folder() -> Option<PathBuf> {
    let script = "import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), 'backend/test/data/node'))";
    let output = Command::new(python::interpreter()?).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}

/// A case: the node with all inputs but the first as constants, and what goes in and comes out.
struct Case {
    model: ModelProto,
    input: TensorProto,
    output: TensorProto,
}

impl Case {
    fn load(folder: &Path, name: &str) -> Self {
        let folder = folder.join(format!("test_{name}"));
        let bytes = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let tensor = |file: String| TensorProto::decode(&bytes(&file)[..]).unwrap();
        let mut model = ModelProto::decode(&bytes("model.onnx")[..]).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let values = graph.input.split_off(1);
        for (i, value) in values.iter().enumerate() {
            let constant = tensor(format!("test_data_set_0/input_{}.pb", i + 1));
            graph.initializer.push(TensorProto { name: value.name.clone(), ..constant });
        }
        graph.output.truncate(1);
        let set = |what: &str| tensor(format!("test_data_set_0/{what}_0.pb"));
        Self { input: set("input"), output: set("output"), model }
    }

    /// Reads a model whose input has so many channels, each pixel with the value that `mean` and `std` give.
    fn network(&self, model: &ModelProto, mean: Vec<f32>, std: f32) -> Result<Network, ReadError> {
        let preprocessing = Some(Preprocessing { std: vec![std; mean.len()], mean });
        read(&model.encode_to_vec(), "case.onnx", &ReadOptions { preprocessing, ..ReadOptions::default() })
            .map(|i| i.network)
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> NodeProto {
    let attribute = |&(name, values): &(&str, &[i64])| AttributeProto {
        name: name.into(),
        r#type: if values.len() == 1 { AttributeType::Int as i32 } else { AttributeType::Ints as i32 },
        i: values[0],
        ints: if values.len() == 1 { vec![] } else { values.to_vec() },
        ..Default::default()
    };
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&i| i.into()).collect(),
        output: vec![output.into()],
        attribute: attributes.iter().map(attribute).collect(),
        ..Default::default()
    }
}

fn scalar(name: &str, data_type: i32, value: f32) -> TensorProto {
    let mut tensor = TensorProto { name: name.into(), data_type, ..Default::default() };
    if data_type == FLOAT {
        tensor.float_data = vec![value]
    } else {
        tensor.int32_data = vec![value as i32]
    }
    tensor
}

/// Gives a value other dims: the operators work element by element.
fn set_dims(value: &mut ValueInfoProto, dims: &[usize]) {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let Some(TypeValue::TensorType(type_proto::Tensor { shape, .. })) =
        value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        panic!("no tensor")
    };
    *shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
}

/// What the runtime makes of each input.
fn run(network: &Network, inputs: &[Vec<u8>], pixels: bool) -> Vec<i32> {
    let file = image::write(network).unwrap();
    let image = Image::check(&file).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap();
    let mut found = Vec::new();
    for input in inputs {
        let output = if pixels { session.run_pixels(input) } else { session.run_quantized(input) }.unwrap();
        found.extend((0..output.len()).map(|i| output.integer(i)));
    }
    found
}

fn integers(tensor: &TensorProto) -> Vec<i64> {
    file::integers(tensor).unwrap()
}

fn bytes(tensor: &TensorProto) -> Vec<u8> {
    integers(tensor).into_iter().map(|v| v as u8).collect()
}

fn check(case: &Case, how: As, name: &str) {
    match how {
        As::Integers => {
            let channels = if name == "qlinearconv" { 1 } else { 4 };
            let network = case.network(&case.model, vec![0.0; channels], 1.0).unwrap();
            let size = network.tensors[network.input].shape.len();
            let inputs: Vec<Vec<u8>> = bytes(&case.input).chunks(size).map(<[u8]>::to_vec).collect();
            let found: Vec<i64> = run(&network, &inputs, false).into_iter().map(i64::from).collect();
            assert_eq!(found, integers(&case.output), "{name}");
        }
        As::Quantized => {
            let values = file::floats(&case.input).unwrap();
            let mut model = case.model.clone();
            let graph = model.graph.as_mut().unwrap();
            set_dims(&mut graph.input[0], &[1, values.len(), 1, 1]);
            graph.node.push(node("MaxPool", &[&graph.output[0].name], "end", &[("kernel_shape", &[1, 1])]));
            graph.output[0].name = "end".into();
            // Each value as what the pixel 0 of its channel becomes.
            let network = case.network(&model, values.iter().map(|v| -v).collect(), 1.0).unwrap();
            let found = run(&network, &[vec![0; values.len()]], true);
            assert_eq!(found.into_iter().map(i64::from).collect::<Vec<_>>(), integers(&case.output), "{name}");
        }
        As::Dequantized => {
            let stored = bytes(&case.input);
            let mut model = case.model.clone();
            let graph = model.graph.as_mut().unwrap();
            set_dims(&mut graph.input[0], &[1, stored.len(), 1, 1]);
            let (real, scales) = (graph.output[0].name.clone(), graph.node[0].input[1..].to_vec());
            graph.node.push(node("MaxPool", &[&real], "largest", &[("kernel_shape", &[1, 1])]));
            graph.node.push(node("QuantizeLinear", &["largest", &scales[0], &scales[1]], "end", &[]));
            graph.output[0].name = "end".into();
            let network = case.network(&model, vec![0.0; stored.len()], 1.0).unwrap();
            let encoding = network.tensors[network.output].encoding.clone().unwrap();
            let found = run(&network, &[stored], false).into_iter().map(|q| encoding.dequantize(0, q));
            assert_eq!(found.collect::<Vec<f32>>(), file::floats(&case.output).unwrap(), "{name}");
        }
        As::Weights => weights(case, name),
    }
}

/// A dense layer with the case's values as weights. Its input is one column at a time, so that its output is that column.
fn weights(case: &Case, name: &str) {
    let mut model = case.model.clone();
    let graph = model.graph.as_mut().unwrap();
    let quantizes = graph.node[0].op_type == "QuantizeLinear";
    let input = graph.input[0].name.clone();
    let dims: Vec<i64> = if case.input.dims.len() == 2 { case.input.dims.clone() } else { vec![1, case.input.dims[0]] };
    let (rows, columns) = (dims[0] as usize, dims[1] as usize);
    graph.initializer.push(TensorProto { name: input, dims, ..case.input.clone() });
    let mut real = graph.output[0].name.clone();
    let scales = graph.node[0].input[1..].to_vec();
    let expected: Vec<f32> = if quantizes {
        graph.node.push(node("DequantizeLinear", &[&real, &scales[0], &scales[1]], "real", &[("axis", &[0])]));
        real = "real".into();
        let constant = |name: &str| graph.initializer.iter().find(|t| t.name == name).unwrap();
        let (scale, zero) = (file::floats(constant(&scales[0])).unwrap(), integers(constant(&scales[1])));
        let value = |(i, q): (usize, &i64)| (q - zero[i / columns]) as f32 * scale[i / columns];
        integers(&case.output).iter().enumerate().map(value).collect()
    } else {
        file::floats(&case.output).unwrap()
    };
    // A power of two, so that all that follows is exact.
    let most = expected.iter().fold(1.0f32, |most, v| most.max(v.abs()));
    let step = (most / 127.0).log2().ceil().exp2();
    let (mut image, mut end) = (graph.input[0].clone(), graph.output[0].clone());
    (image.name, end.name) = ("image".into(), "end".into());
    if let Some(TypeValue::TensorType(kind)) = image.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
        kind.elem_type = FLOAT;
    }
    set_dims(&mut image, &[1, columns]);
    graph.initializer.extend([
        scalar("one", FLOAT, 1.0),
        scalar("none", UINT8, 0.0),
        scalar("step", FLOAT, step),
        scalar("middle", INT8, 0.0),
    ]);
    graph.node.extend([
        node("QuantizeLinear", &["image", "one", "none"], "stored", &[]),
        node("DequantizeLinear", &["stored", "one", "none"], "value", &[]),
        node("Gemm", &["value", &real], "product", &[("transB", &[1])]),
        node("QuantizeLinear", &["product", "step", "middle"], "end", &[]),
    ]);
    (graph.input, graph.output) = (vec![image], vec![end]);
    // A pixel is its own value.
    let network = case.network(&model, vec![0.0; columns], 1.0 / 255.0).unwrap();
    if quantizes {
        let Op::Dense(dense) = &network.nodes[0].op else { panic!("no dense layer") };
        let stored = dense.integers.as_ref().unwrap().weight.iter().map(|&w| i64::from(w));
        assert_eq!(stored.collect::<Vec<_>>(), integers(&case.output), "{name}");
    }
    let one = |column: usize| (0..columns).map(|i| u8::from(i == column)).collect();
    let found = run(&network, &(0..columns).map(one).collect::<Vec<_>>(), true);
    let output = network.tensors[network.output].encoding.as_ref().unwrap();
    for (i, q) in found.into_iter().enumerate() {
        let (row, column) = (i % rows, i / rows);
        assert_eq!(q, output.quantize(0, expected[row * columns + column]), "{name}, row {row}, column {column}");
    }
}

/// The cases that the documentation says are refused: names in the first column of the table under its heading.
fn documented() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/onnx.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("## ONNX's own test cases").expect("docs/onnx.md has the section");
    let section = section.split("\n## ").next().unwrap();
    let mut refused = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (names, reason) = (cells.next().unwrap(), cells.next().unwrap());
        for name in names.split('`').skip(1).step_by(2) {
            assert!(refused.insert(name.to_string(), reason.to_string()).is_none(), "`{name}` is listed twice");
        }
    }
    refused
}

#[test]
fn cases_of_onnx_pass_or_are_listed_as_refused() {
    let Some(folder) = folder() else { return };
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_ours = |name: &String| OPERATORS.iter().any(|op| name == op || name.starts_with(&format!("{op}_")));
    let found: BTreeSet<String> =
        names.filter_map(|n| n.strip_prefix("test_").map(String::from)).filter(is_ours).collect();
    let refused = documented();
    let known: BTreeSet<String> =
        CLAIMED.iter().map(|(name, _)| (*name).into()).chain(refused.keys().cloned()).collect();
    assert_eq!(found, known, "a case that is neither claimed nor listed in docs/onnx.md, or is no case any more");
    for (name, how) in CLAIMED {
        assert!(!refused.contains_key(name), "{name} is claimed and listed as refused");
        check(&Case::load(&folder, name), how, name);
    }
    for (name, reason) in &refused {
        let case = Case::load(&folder, name);
        let error = case.network(&case.model, vec![0.0; 3], 1.0).expect_err(name);
        assert!(matches!(error, ReadError::Unsupported { .. }), "{name}: {error}");
        println!("{name} ({reason}): {error}");
    }
}
