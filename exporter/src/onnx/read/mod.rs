//! Reading. Enters: the bytes of an ONNX file nobody vouches for, opset 9 to 25. Leaves: a [`Network`], float or quantized
//! as the file is, its numbers untouched. Refuses: damaged files, and files with anything that a network cannot hold; then
//! the error lists all of it.
//!
//! The bytes are decoded by tract's prost types, never by the crate that writes. Whatever the bytes are, the answer is a
//! network or an error: sizes are checked before anything is reserved, and a file cannot ask for more memory than a fixed
//! multiple of its own size.
//!
//! | ONNX | network |
//! |---|---|
//! | Conv, Gemm, MatMul, Add of a constant behind them | `Conv2d`, `Dense` |
//! | BatchNormalization | `BatchNorm` |
//! | Relu, Clip, Min, Max | `Clamp` |
//! | LeakyRelu, Sigmoid, HardSigmoid, HardSwish, Tanh, and `x * Sigmoid(x)` | `Function` |
//! | Mul, of two tensors or of an image and one value a channel | `Mul` |
//! | Add, Sub, Mul, Div of a constant | `BatchNorm`, which folds into the layer before it |
//! | Pad with zeros | padding of the convolution behind it, or `Pad` |
//! | MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean over height and width | the pools |
//! | Add, Concat of channels, Flatten | the same |
//! | QuantizeLinear, DequantizeLinear | encodings and integers; between two encodings, a `Clamp` without limits |
//! | QLinearConv, QLinearMatMul, and of `com.microsoft` QGemm, QLinearAdd, QLinearConcat and the QLinear pools | what they stand for between DequantizeLinear and QuantizeLinear |
//! | Clip of integers right behind QuantizeLinear, at the ends of a narrower width | that width |
//! | BitShift, BitwiseAnd, Cast, Gather, Slice, Reshape of constants | weights of 4 and 2 bits, packed in bytes |
//! | Reshape, Squeeze, Unsqueeze, Transpose (`N H W C` and `N C H W`), Identity, Dropout, Constant | nothing: other names for a tensor |
//! | Shape and what is computed from it | constants |
//! | Softmax over channels | `Softmax`; at the end of a float network, unless asked for, nothing: it ends with the logits |
//! | LogSoftmax at the end | nothing: the network ends with the logits |

mod constants;
mod elementwise;
mod external;
pub(super) mod file;
mod import;
mod layers;
mod layout;
mod ops;
mod parameters;
mod qoperator;
mod quantized;
mod shapes;
mod tidy;
mod wire;

use std::collections::HashSet;
use std::path::PathBuf;

use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, tensor_shape_proto::dimension::Value as Extent};

use super::{Finding, ReadError, metadata};
use crate::fold;
use crate::network::{Network, Preprocessing, Shape};
use file::{FLOAT, INT8, UINT8};
use import::{Activation, Form, Import, Value, check_size};
use layout::Layout;

/// What the caller knows and the file may not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// From pixels to the input; goes before what the file says. Needed for files that were not written here.
    pub preprocessing: Option<Preprocessing>,
    /// Class names; go before what the file says.
    pub labels: Option<Vec<String>>,
    /// Whether a Softmax at the end of a float network stays. Without it the network ends with the logits: their order is the
    /// same, and their integers say more of those behind the first.
    pub keep_softmax: bool,
    /// The folder that the file lies in: constants that it keeps in files beside it are read from there. Without it, and from
    /// anywhere else, they are refused.
    pub folder: Option<PathBuf>,
}

/// A network that came from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Checked.
    pub network: Network,
    /// Whether every tensor has an encoding and every layer its integers; otherwise none has.
    pub quantized: bool,
    /// Hash of the network that the file was written from, where the file says so.
    pub provenance: Option<[u8; 32]>,
    /// What a person should know: parts left out, numbers that the file had in another form.
    pub notes: Vec<String>,
}

/// Reads an ONNX file; `file` is its name in messages.
///
/// # Errors
/// [`ReadError`]: damaged, or with parts that cannot be imported, all of them named.
pub fn read(bytes: &[u8], file: &str, options: &ReadOptions) -> Result<Imported, ReadError> {
    let damaged = |reason: String| ReadError::Damaged { file: file.into(), reason };
    let mut model = file::decode(bytes).map_err(damaged)?;
    let mut stored = bytes.len();
    if let Some(graph) = &mut model.graph {
        if let Some(folder) = &options.folder {
            stored += external::load(graph, folder).map_err(damaged)?;
        }
        qoperator::expand(graph);
    }
    let graph = model.graph.as_ref().ok_or_else(|| damaged("no graph".into()))?;
    file::check_constants(graph).map_err(damaged)?;
    let pairs = model.metadata_props.iter().map(|p| (p.key.as_str(), p.value.as_str()));
    let found = metadata::parse(pairs).map_err(damaged)?;
    let opset = opset(&model).map_err(damaged)?;

    let (input, output) = (graph_inputs(graph), &graph.output);
    let mut findings = Vec::new();
    let unsupported = |findings| ReadError::Unsupported { file: file.into(), findings };
    let ([input], [output]) = (&input[..], &output[..]) else {
        let reason = format!("{} inputs and {} outputs, expected one of each", input.len(), output.len());
        findings.push(Finding { place: "graph".into(), op: String::new(), reason });
        return Err(unsupported(findings));
    };
    let name = if graph.name.is_empty() { "imported" } else { &graph.name };
    let nothing = Preprocessing { mean: Vec::new(), std: Vec::new() };
    let network = Network::new(name, Shape::new(1, 1, 1), nothing, Vec::new());
    // A byte holds up to four weights, and each is there up to four times: unpacked before and after a step, as it is
    // stored, and as a float.
    let mut import = Import::new(graph, opset, network, 16 * stored);
    import.keep_softmax = options.keep_softmax;
    let value = import.graph_input(input).unwrap_or_else(|reason| {
        findings.push(Finding { place: format!("input `{}`", input.name), op: String::new(), reason });
        Value::Missing
    });
    import.define(&input.name, value).map_err(damaged)?;
    for node in &graph.node {
        import.node(node).map_err(damaged)?;
    }
    if import.quantized && import.findings.is_empty() && findings.is_empty() {
        import.check_complete();
    }
    findings.append(&mut import.findings);
    match import.values.get(output.name.as_str()) {
        Some(Value::Activation(x) | Value::Tail(x)) if is_plain(&import, *x) => {
            if import.quantized && x.form == Form::Real && findings.is_empty() {
                let reason = "is never quantized; put QuantizeLinear and DequantizeLinear before it".into();
                findings.push(Finding { place: format!("output `{}`", output.name), op: String::new(), reason });
            }
            import.network.output = x.tensor;
        }
        Some(Value::Missing) => {}
        Some(_) => {
            let reason = "is no activation in N C H W or N C".into();
            findings.push(Finding { place: format!("output `{}`", output.name), op: String::new(), reason });
        }
        None => return Err(damaged(format!("no node gives the output `{}`", output.name))),
    }
    if !findings.is_empty() {
        return Err(unsupported(findings));
    }

    let Import { mut network, notes, quantized, integer_clips, superseded, .. } = import;
    network.tensors[network.output].name.clone_from(&output.name);
    let mut network = fold::padding(tidy::tidy(network, &integer_clips, superseded));
    let channels = network.tensors[network.input].shape.c;
    network.labels = options.labels.clone().unwrap_or(found.labels);
    network.preprocessing = options
        .preprocessing
        .clone()
        .or(found.preprocessing)
        .ok_or_else(|| ReadError::NoPreprocessing { file: file.into(), channels })?;
    let shape = network.tensors[network.input].shape;
    if found.size.is_some_and(|size| size != [shape.h, shape.w]) {
        return Err(damaged(format!("metadata says height and width {:?}, the input is {shape}", found.size)));
    }
    network.check().map_err(|fault| ReadError::Network { file: file.into(), fault })?;
    Ok(Imported { network, quantized, provenance: found.provenance, notes })
}

/// Version of the default operator set. The error is text.
fn opset(model: &ModelProto) -> Result<i64, String> {
    let mut versions = model.opset_import.iter().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    match versions.next().map(|o| o.version) {
        Some(version @ 9..=25) => Ok(version),
        Some(version) => Err(format!("opset {version}; 9 to 25 are read")),
        None => Err("no version of the default operator set; 9 to 25 are read".into()),
    }
}

/// The inputs that are no constants: until IR 4 constants were listed among the inputs.
fn graph_inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().filter(|i| !constants.contains(i.name.as_str())).collect()
}

/// Whether the elements are those of the network's tensor, in its order.
fn is_plain(import: &Import, x: Activation) -> bool {
    let one_pixel = import.network.tensors[x.tensor].shape.pixels() == 1;
    matches!(x.layout, Layout::Nchw | Layout::Vector) || one_pixel
}

impl<'m> Import<'m> {
    /// Makes the graph's input the network's. The error is text.
    fn graph_input(&mut self, input: &'m ValueInfoProto) -> Result<Value<'m>, String> {
        let Some(TypeValue::TensorType(kind)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Err("is no tensor".into());
        };
        if ![FLOAT, UINT8, INT8].contains(&kind.elem_type) {
            return Err(format!("is of type {}, expected FLOAT, UINT8 or INT8", file::type_name(kind.elem_type)));
        }
        let extents: Vec<Option<usize>> = kind
            .shape
            .iter()
            .flat_map(|s| &s.dim)
            .map(|d| match d.value {
                Some(Extent::DimValue(extent)) => usize::try_from(extent).ok().filter(|&e| e > 0),
                _ => None,
            })
            .collect();
        let (shape, layout) = match extents[..] {
            [_, Some(h), Some(w), Some(c)] if self.is_nhwc(&input.name) => (Shape::new(c, h, w), Layout::Nhwc),
            [_, Some(c), Some(h), Some(w)] => (Shape::new(c, h, w), Layout::Nchw),
            [_, Some(c)] => (Shape::vector(c), Layout::Vector),
            _ => {
                let shown: Vec<String> = extents.iter().map(|e| e.map_or("?".into(), |e| e.to_string())).collect();
                let shown = shown.join(" x ");
                return Err(format!("has the shape {shown}; expected N x C x H x W or N x C, all but N fixed"));
            }
        };
        check_size(shape)?;
        let batch = kind.shape.as_ref().and_then(|s| s.dim.first()).and_then(|d| d.value.as_ref());
        self.batch = match batch {
            Some(Extent::DimValue(batch)) if *batch > 0 => Some(*batch),
            _ => None,
        };
        self.input_type = kind.elem_type;
        let tensor = self.network.input;
        self.network.tensors[tensor].shape = shape;
        self.network.tensors[tensor].name.clone_from(&input.name);
        let form = if kind.elem_type == FLOAT { Form::Real } else { Form::Integers };
        Ok(Value::Activation(Activation { tensor, layout, form }))
    }
}
