//! What is in an ONNX file, for people. Enters: the bytes of any ONNX file. Leaves: a [`Summary`], which has a text and a
//! JSON form. Refuses: damaged files. Operators and types that cannot be imported are listed like all others.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Formatter, Result as FmtResult};

use serde::Serialize;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Extent;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, TensorProto, ValueInfoProto};

use super::ReadError;
use super::read::file;

/// An ONNX file at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Bytes of the file.
    pub bytes: usize,
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets: domain (empty for the default one) and version.
    pub opsets: Vec<(String, i64)>,
    /// What wrote the file, with its version.
    pub producer: String,
    /// Name of the graph.
    pub graph: String,
    /// The graph's inputs that are no constants.
    pub inputs: Vec<ValueSummary>,
    /// The graph's outputs.
    pub outputs: Vec<ValueSummary>,
    /// How often each operator occurs.
    pub operators: BTreeMap<String, usize>,
    /// Every node, in order.
    pub nodes: Vec<NodeSummary>,
    /// Every QuantizeLinear, and every DequantizeLinear of a constant, in order.
    pub quantization: Vec<QuantizationSummary>,
    /// Every constant of the graph, in order.
    pub initializers: Vec<InitializerSummary>,
    /// Bytes of the constants, by element type.
    pub initializer_bytes: BTreeMap<String, usize>,
    /// `metadata_props`, in order.
    pub metadata: Vec<(String, String)>,
}

/// An input, output or value between nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueSummary {
    /// Its name.
    pub name: String,
    /// Element type and shape, such as `FLOAT N x 3 x 32 x 32`.
    pub kind: String,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSummary {
    /// Its name, or that of its first output.
    pub name: String,
    /// Operator, with its domain where that is not the default one.
    pub op: String,
    /// Values read; empty for an optional one left out.
    pub inputs: Vec<String>,
    /// Values written, with type and shape where the file states them.
    pub outputs: Vec<ValueSummary>,
}

/// Scale and zero point of a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationSummary {
    /// The value that is stored in integers.
    pub value: String,
    /// Element type of the integers.
    pub element: String,
    /// How many scales there are: 1 for the whole value.
    pub scales: usize,
    /// Smallest and largest scale.
    pub scale: [f32; 2],
    /// Smallest and largest zero point.
    pub zero_point: [i64; 2],
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InitializerSummary {
    /// Its name.
    pub name: String,
    /// Element type and dims.
    pub kind: String,
    /// Bytes in the file.
    pub bytes: usize,
}

/// Lists what is in an ONNX file; `name` is the file's name in messages.
///
/// # Errors
/// [`ReadError::Damaged`].
pub fn summarize(bytes: &[u8], name: &str) -> Result<Summary, ReadError> {
    let damaged = |reason: String| ReadError::Damaged { file: name.into(), reason };
    let model = file::decode(bytes).map_err(damaged)?;
    let graph = model.graph.as_ref().ok_or_else(|| damaged("no graph".into()))?;
    file::check_constants(graph).map_err(damaged)?;
    let known: HashMap<&str, &ValueInfoProto> =
        graph.value_info.iter().chain(&graph.output).map(|v| (v.name.as_str(), v)).collect();
    let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();

    let mut operators = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in &graph.node {
        let op = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        *operators.entry(op.clone()).or_insert(0) += 1;
        let output = |name: &String| match known.get(name.as_str()) {
            Some(value) => value_summary(value),
            None => ValueSummary { name: name.clone(), kind: String::new() },
        };
        let outputs = node.output.iter().map(output).collect();
        nodes.push(NodeSummary { name: file::node_name(node).into(), op, inputs: node.input.clone(), outputs });
    }
    let mut initializer_bytes = BTreeMap::new();
    let mut initializers = Vec::new();
    for tensor in &graph.initializer {
        let kind = file::type_name(tensor.data_type);
        let bytes = stored_bytes(tensor);
        *initializer_bytes.entry(kind.clone()).or_insert(0) += bytes;
        let kind = with_shape(kind, tensor.dims.iter().map(i64::to_string));
        initializers.push(InitializerSummary { name: tensor.name.clone(), kind, bytes });
    }
    Ok(Summary {
        bytes: bytes.len(),
        ir_version: model.ir_version,
        opsets: model.opset_import.iter().map(|o| (o.domain.clone(), o.version)).collect(),
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().into(),
        graph: graph.name.clone(),
        inputs: graph.input.iter().filter(|i| !constants.contains_key(i.name.as_str())).map(value_summary).collect(),
        outputs: graph.output.iter().map(value_summary).collect(),
        operators,
        nodes,
        quantization: quantization(graph, &constants),
        initializers,
        initializer_bytes,
        metadata: model.metadata_props.iter().map(|p| (p.key.clone(), p.value.clone())).collect(),
    })
}

/// Scales and zero points that are constants of the graph.
fn quantization(graph: &GraphProto, constants: &HashMap<&str, &TensorProto>) -> Vec<QuantizationSummary> {
    let mut found = Vec::new();
    for node in &graph.node {
        let input = |i: usize| node.input.get(i).and_then(|name| constants.get(name.as_str()));
        let value = match node.op_type.as_str() {
            "QuantizeLinear" => node.output.first(),
            "DequantizeLinear" if input(0).is_some() => node.input.first(),
            _ => None,
        };
        let (Some(value), Some(scale)) = (value, input(1)) else { continue };
        let Ok(scales) = file::floats(scale) else { continue };
        let zero_points = input(2).and_then(|z| file::integers(z).ok()).unwrap_or_else(|| vec![0]);
        let element = input(2).or(input(0)).map_or_else(|| "UINT8".into(), |t| file::type_name(t.data_type));
        found.push(QuantizationSummary {
            value: value.clone(),
            element,
            scales: scales.len(),
            scale: [scales.iter().copied().fold(f32::INFINITY, f32::min), scales.iter().copied().fold(0.0, f32::max)],
            zero_point: [
                zero_points.iter().copied().min().unwrap_or(0),
                zero_points.iter().copied().max().unwrap_or(0),
            ],
        });
    }
    found
}

fn stored_bytes(tensor: &TensorProto) -> usize {
    tensor.raw_data.len()
        + 4 * (tensor.float_data.len() + tensor.int32_data.len())
        + 8 * (tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len())
        + tensor.string_data.iter().map(Vec::len).sum::<usize>()
}

fn value_summary(value: &ValueInfoProto) -> ValueSummary {
    let kind = match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::TensorType(tensor)) => {
            let extents = tensor.shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
                Some(Extent::DimValue(extent)) => extent.to_string(),
                Some(Extent::DimParam(name)) => name.clone(),
                None => "?".into(),
            });
            with_shape(file::type_name(tensor.elem_type), extents)
        }
        None => String::new(),
    };
    ValueSummary { name: value.name.clone(), kind }
}

fn with_shape(kind: String, extents: impl Iterator<Item = String>) -> String {
    let extents: Vec<String> = extents.collect();
    if extents.is_empty() { format!("{kind} scalar") } else { format!("{kind} {}", extents.join(" x ")) }
}

/// Text from a file nobody vouches for, fit for a terminal and for one line.
fn safe(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut safe: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        safe.push_str("...");
    }
    safe
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let opsets: Vec<String> = self
            .opsets
            .iter()
            .map(|(d, v)| if d.is_empty() { v.to_string() } else { format!("{} {v}", safe(d)) })
            .collect();
        writeln!(
            f,
            "ONNX, IR {}, opset {}, {} bytes, by {}",
            self.ir_version,
            opsets.join(", "),
            self.bytes,
            safe(&self.producer)
        )?;
        writeln!(f, "graph {}", safe(&self.graph))?;
        for (what, values) in [("input", &self.inputs), ("output", &self.outputs)] {
            for value in values {
                writeln!(f, "{what:<7} {}  {}", safe(&value.name), safe(&value.kind))?;
            }
        }
        writeln!(f, "\n{} nodes", self.nodes.len())?;
        for (op, count) in &self.operators {
            writeln!(f, "  {count:>5}  {}", safe(op))?;
        }
        writeln!(f, "\nnodes other than QuantizeLinear and DequantizeLinear")?;
        for node in self.nodes.iter().filter(|n| !matches!(n.op.as_str(), "QuantizeLinear" | "DequantizeLinear")) {
            let kinds: Vec<String> = node.outputs.iter().map(|o| safe(&o.kind)).collect();
            writeln!(f, "  {:<18} {}  {}", safe(&node.op), safe(&node.name), kinds.join(", "))?;
        }
        if !self.quantization.is_empty() {
            writeln!(f, "\nencodings")?;
            for q in &self.quantization {
                let range = |low: String, high: String| if low == high { low } else { format!("{low}..{high}") };
                writeln!(
                    f,
                    "  {:<5} {:>4} scale{} {:<24} zero point {:<9} {}",
                    safe(&q.element),
                    q.scales,
                    if q.scales == 1 { " " } else { "s" },
                    range(format!("{:e}", q.scale[0]), format!("{:e}", q.scale[1])),
                    range(q.zero_point[0].to_string(), q.zero_point[1].to_string()),
                    safe(&q.value)
                )?;
            }
        }
        let total: usize = self.initializer_bytes.values().sum();
        writeln!(f, "\n{} constants, {total} bytes", self.initializers.len())?;
        for (kind, bytes) in &self.initializer_bytes {
            writeln!(f, "  {bytes:>9}  {}", safe(kind))?;
        }
        if !self.metadata.is_empty() {
            writeln!(f, "\nmetadata")?;
            for (key, value) in &self.metadata {
                writeln!(f, "  {} = {}", safe(key), safe(value))?;
            }
        }
        Ok(())
    }
}
