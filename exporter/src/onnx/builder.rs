//! The only module that knows `onnx-protobuf`. Enters: nodes, initializers and values in plain Rust types. Leaves: the
//! bytes of an ONNX model, the same for the same calls. Refuses nothing: what may be written is decided by the callers.
//!
//! The crate writes proto3 without presence (a scalar that is 0 is not on the wire) and refers to a symbol of protobuf
//! 3.4.0, a release whose *parser* has a known flaw (RUSTSEC-2024-0437). So it only ever writes; files are read by
//! [`super::read`]. Replacing the crate means replacing this file.

use std::collections::HashMap;

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use protobuf::{EnumOrUnknown, MessageField};

use super::names::Names;

/// Element type of a value, with its number in ONNX's `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I32 = 6,
    I64 = 7,
    /// Since opset 21. These four are packed in `raw_data`, the first element in the low bits.
    U4 = 21,
    I4 = 22,
    /// Since opset 25.
    U2 = 25,
    I2 = 26,
}

impl Element {
    fn bits(self) -> usize {
        match self {
            Self::U2 | Self::I2 => 2,
            Self::U4 | Self::I4 => 4,
            Self::U8 | Self::I8 => 8,
            Self::F32 | Self::I32 => 32,
            Self::I64 => 64,
        }
    }
}

/// One extent of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    /// Known.
    Fixed(usize),
    /// Known only when the model runs.
    Named(&'static str),
}

/// Value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

/// Where an operator is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    Standard,
    /// `com.microsoft`, version 1.
    Microsoft,
}

const MICROSOFT: &str = "com.microsoft";

/// A graph in the making. Names that are asked for twice get a number behind them.
pub(super) struct Builder {
    graph: GraphProto,
    values: Names,
    nodes: Names,
    shared: HashMap<(i32, Vec<usize>, Vec<u8>), String>,
}

impl Builder {
    pub(super) fn new(graph_name: &str) -> Self {
        let graph = GraphProto { name: graph_name.into(), ..Default::default() };
        Self { graph, values: Names::default(), nodes: Names::default(), shared: HashMap::new() }
    }

    /// Reserves a name for a value.
    pub(super) fn value(&mut self, wanted: &str) -> String {
        self.values.unused(wanted)
    }

    /// A name for a value that nobody looks for: `prefix` and a number.
    pub(super) fn numbered(&mut self, prefix: &'static str) -> String {
        self.values.numbered(prefix)
    }

    /// Declares the input of the graph; its name must have been reserved.
    pub(super) fn input(&mut self, name: &str, element: Element, dims: &[Dim]) {
        self.graph.input.push(value_info(name, element, dims));
    }

    /// Declares the output of the graph; its name must have been reserved.
    pub(super) fn output(&mut self, name: &str, element: Element, dims: &[Dim]) {
        self.graph.output.push(value_info(name, element, dims));
    }

    /// States type and shape of a value between nodes.
    pub(super) fn describe(&mut self, name: &str, element: Element, dims: &[Dim]) {
        self.graph.value_info.push(value_info(name, element, dims));
    }

    /// Adds floats and returns the name they got. No `dims`: a scalar.
    pub(super) fn floats(&mut self, wanted: &str, dims: &[usize], values: &[f32]) -> String {
        let name = self.value(wanted);
        self.initializer(name, Element::F32, dims, float_bytes(values))
    }

    /// Adds integers, each within the limits of `element`, and returns the name they got. No `dims`: a scalar.
    pub(super) fn integers(&mut self, wanted: &str, element: Element, dims: &[usize], values: &[i64]) -> String {
        let name = self.value(wanted);
        self.initializer(name, element, dims, integer_bytes(element, values))
    }

    /// [`Self::floats`] that are there once, however often they are asked for; the name is `prefix` and a number.
    pub(super) fn shared_floats(&mut self, prefix: &'static str, dims: &[usize], values: &[f32]) -> String {
        self.share(prefix, Element::F32, dims, float_bytes(values))
    }

    /// [`Self::integers`], likewise.
    pub(super) fn shared_integers(
        &mut self,
        prefix: &'static str,
        element: Element,
        dims: &[usize],
        values: &[i64],
    ) -> String {
        self.share(prefix, element, dims, integer_bytes(element, values))
    }

    fn share(&mut self, prefix: &'static str, element: Element, dims: &[usize], raw_data: Vec<u8>) -> String {
        let key = (element as i32, dims.to_vec(), raw_data);
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = self.numbered(prefix);
        self.initializer(name.clone(), element, dims, key.2.clone());
        self.shared.insert(key, name.clone());
        name
    }

    fn initializer(&mut self, name: String, element: Element, dims: &[usize], raw_data: Vec<u8>) -> String {
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            data_type: element as i32,
            dims: dims.iter().map(|&d| d as i64).collect(),
            raw_data,
            ..Default::default()
        });
        name
    }

    /// Adds a node of the default domain; an empty input is an optional one left out, and so is an empty name.
    pub(super) fn node(
        &mut self,
        op: &str,
        wanted: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        self.node_of(Domain::Standard, op, wanted, inputs, output, attributes);
    }

    /// Adds a node of any domain.
    pub(super) fn node_of(
        &mut self,
        domain: Domain,
        op: &str,
        wanted: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        let domain = if domain == Domain::Microsoft { MICROSOFT } else { "" };
        self.graph.node.push(NodeProto {
            name: if wanted.is_empty() { String::new() } else { self.nodes.unused(wanted) },
            op_type: op.into(),
            domain: domain.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![output.into()],
            attribute: attributes.into_iter().map(attribute).collect(),
            ..Default::default()
        });
    }

    /// The model's bytes.
    pub(super) fn finish(self, ir_version: i64, opset: i64, metadata: &[(&str, String)]) -> Vec<u8> {
        let mut opset_import = vec![OperatorSetIdProto { version: opset, ..Default::default() }];
        if self.graph.node.iter().any(|node| node.domain == MICROSOFT) {
            opset_import.push(OperatorSetIdProto { domain: MICROSOFT.into(), version: 1, ..Default::default() });
        }
        let model = ModelProto {
            ir_version,
            opset_import,
            producer_name: "intact".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: MessageField::some(self.graph),
            metadata_props: metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto {
                    key: (*key).into(),
                    value: value.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        model.write_to_bytes().expect("a message without required fields, written to memory, cannot fail")
    }
}

fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn integer_bytes(element: Element, values: &[i64]) -> Vec<u8> {
    match element.bits() {
        bits @ (2 | 4) => packed(values, bits),
        bits => values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(bits / 8)).collect(),
    }
}

/// `bits` (2 or 4) of each value, the first in the low bits of the first byte; the last byte is filled with zeros.
pub(super) fn packed(values: &[i64], bits: usize) -> Vec<u8> {
    let mask = (1 << bits) - 1;
    let byte = |part: &[i64]| part.iter().rev().fold(0, |byte, &v| byte << bits | (v & mask)) as u8;
    values.chunks(8 / bits).map(byte).collect()
}

fn value_info(name: &str, element: Element, dims: &[Dim]) -> ValueInfoProto {
    let dim = |dim: &Dim| {
        let value = match *dim {
            Dim::Fixed(extent) => dimension::Value::DimValue(extent as i64),
            Dim::Named(name) => dimension::Value::DimParam(name.into()),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let tensor =
        type_proto::Tensor { elem_type: element as i32, shape: MessageField::some(shape), ..Default::default() };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(kind), ..Default::default() }
}

fn attribute((name, value): (&'static str, Attribute)) -> AttributeProto {
    // The type is always stated: a value of 0 is not on the wire, and only the type tells that it is there.
    let kind = |kind: AttributeType| AttributeProto {
        name: name.into(),
        type_: EnumOrUnknown::new(kind),
        ..Default::default()
    };
    match value {
        Attribute::Int(i) => AttributeProto { i, ..kind(AttributeType::INT) },
        Attribute::Ints(ints) => AttributeProto { ints, ..kind(AttributeType::INTS) },
        Attribute::Float(f) => AttributeProto { f, ..kind(AttributeType::FLOAT) },
        Attribute::Text(s) => AttributeProto { s: s.into(), ..kind(AttributeType::STRING) },
    }
}
