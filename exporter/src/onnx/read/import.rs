//! The state of an import. Enters: nodes, one after the other. Leaves: a network that grows, and a list of what it cannot
//! hold. Refuses: operators that are not in the table of [`Import::node`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::file::{Attributes, node_name};
use super::layout::Layout;
use super::parameters::Stored;
use crate::network::{Network, NetworkError, NodeId, Op, Shape, TensorId};
use crate::onnx::Finding;
use crate::onnx::names::Names;

/// Extents and elements beyond these are a damaged or hostile file, not a network for one image.
pub(super) const MAX_EXTENT: usize = 1 << 24;
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

/// Why a node gives no value.
pub(super) enum Fault {
    /// The file contradicts itself: reading stops.
    Damaged(String),
    /// It means something that a network cannot hold: reading goes on, to find the rest.
    Cannot(String),
    /// It reads what could not be imported, and that is already on the list.
    Downstream,
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Cannot(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Cannot(reason.into())
    }
}

/// What a name in the file stands for.
#[expect(clippy::large_enum_variant, reason = "one for each tensor of a graph: a box would only add an allocation")]
pub(super) enum Value<'m> {
    /// A constant as it lies in the file.
    Constant(Cow<'m, TensorProto>),
    /// A constant of integers with scale and zero point.
    Stored(Stored),
    /// A tensor of the network.
    Activation(Activation),
    /// Probabilities behind the logits: only the graph's output may follow.
    Tail(Activation),
    /// What a node would have computed that cannot be imported.
    Missing,
}

/// How a value of the file relates to a tensor of the network.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    pub(super) tensor: TensorId,
    pub(super) layout: Layout,
    pub(super) form: Form,
}

/// What the elements of an activation are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Floats as computed.
    Real,
    /// Floats that all are `(q - zero_point) * scale` of the tensor's encoding.
    Dequantized,
    /// The stored integers.
    Integers,
}

pub(super) struct Import<'m> {
    pub(super) graph: &'m GraphProto,
    pub(super) opset: i64,
    pub(super) network: Network,
    pub(super) values: HashMap<&'m str, Value<'m>>,
    /// Nodes that read each value.
    pub(super) readers: HashMap<&'m str, Vec<&'m NodeProto>>,
    pub(super) findings: Vec<Finding>,
    pub(super) notes: Vec<String>,
    /// Elements of constants that may still be copied: a file whose nodes share one constant could ask for any amount.
    pub(super) budget: usize,
    /// Whether there is a QuantizeLinear or DequantizeLinear.
    pub(super) quantized: bool,
    /// For each tensor the first node that reads it in [`Form::Real`].
    pub(super) real_reader: BTreeMap<TensorId, NodeId>,
    /// Of constants that nodes have made, bits of each element that are in use.
    pub(super) used_bits: HashMap<&'m str, u8>,
    /// Integers whose encoding the QuantizeLinear that gives them has brought.
    pub(super) fresh: HashSet<&'m str>,
    /// The Clamps that come from a Clip of integers.
    pub(super) integer_clips: Vec<NodeId>,
    /// Tensors that nobody reads any more, since their nodes have been put together.
    pub(super) superseded: Vec<TensorId>,
    /// Padding of the least value around the input of a MaxPool, by the name of that input.
    pub(super) pool_padding: HashMap<&'m str, [usize; 4]>,
    /// Images at a time, where the file says so.
    pub(super) batch: Option<i64>,
    /// Element type of the graph's input.
    pub(super) input_type: i32,
    pub(super) names: Names,
    /// Whether a Softmax at the end stays.
    pub(super) keep_softmax: bool,
}

impl<'m> Import<'m> {
    pub(super) fn new(graph: &'m GraphProto, opset: i64, network: Network, budget: usize) -> Self {
        let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in &graph.node {
            for input in node.input.iter().filter(|i| !i.is_empty()) {
                readers.entry(input).or_default().push(node);
            }
        }
        let quantized = graph.node.iter().any(|n| matches!(n.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear"));
        let constants = graph.initializer.iter().map(|t| (t.name.as_str(), Value::Constant(Cow::Borrowed(t))));
        Self {
            graph,
            opset,
            network,
            values: constants.collect(),
            readers,
            findings: Vec::new(),
            notes: Vec::new(),
            budget,
            quantized,
            real_reader: BTreeMap::new(),
            used_bits: HashMap::new(),
            fresh: HashSet::new(),
            integer_clips: Vec::new(),
            superseded: Vec::new(),
            pool_padding: HashMap::new(),
            batch: None,
            input_type: super::file::FLOAT,
            names: Names::default(),
            keep_softmax: false,
        }
    }

    /// Imports one node. The error is text about a damaged file.
    pub(super) fn node(&mut self, node: &'m NodeProto) -> Result<(), String> {
        let place = node_name(node);
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            if !self.values.contains_key(input.as_str()) {
                return Err(format!(
                    "node `{place}` ({}) reads `{input}`, which nothing before it gives: a missing value, or a cycle",
                    node.op_type
                ));
            }
        }
        let result = match (node.domain.as_str(), node.op_type.as_str()) {
            ("" | "ai.onnx", op) => match op {
                "Add" => self.add(node),
                "AveragePool" | "MaxPool" => self.pool(node),
                "BatchNormalization" => self.batch_normalization(node),
                "BitShift" => self.bit_shift(node),
                "BitwiseAnd" => self.bitwise_and(node),
                "Cast" => self.cast(node),
                "Clip" | "Relu" => self.clamp(node),
                "Concat" if self.is_constant(node, 0) => self.concat_constants(node),
                "Concat" => self.concat(node),
                "Constant" => self.constant(node),
                "ConstantOfShape" => self.constant_of_shape(node),
                "Conv" => self.conv(node),
                "DequantizeLinear" => self.dequantize_linear(node),
                "Dropout" | "Identity" => self.identity(node),
                "Flatten" => self.flatten(node),
                "Gather" => self.gather(node),
                "Gemm" => self.gemm(node),
                "Div" | "Mul" | "Sub" => self.arithmetic(node),
                "GlobalMaxPool" => self.global_max_pool(node),
                "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Sigmoid" | "Tanh" => self.function(node),
                "Max" | "Min" => self.min_max(node),
                "Pad" => self.pad(node),
                "Shape" => self.shape_values(node),
                "Squeeze" | "Unsqueeze" if self.is_constant(node, 0) => self.squeeze_constant(node),
                "Transpose" if self.is_constant(node, 0) => self.transpose_constant(node),
                "Unsqueeze" => self.unsqueeze(node),
                "GlobalAveragePool" => self.global_average_pool(node),
                "MatMul" => self.mat_mul(node),
                "QuantizeLinear" => self.quantize_linear(node),
                "ReduceMean" => self.reduce_mean(node),
                "Reshape" if self.is_constant(node, 0) => self.reshape_constant(node),
                "Reshape" => self.reshape(node),
                "Slice" => self.slice(node),
                "LogSoftmax" | "Softmax" => self.softmax(node),
                "Squeeze" => self.squeeze(node),
                "Transpose" => self.transpose(node),
                _ => Err(Fault::from("this operator has no integer form here; replace or remove it before the export")),
            },
            (domain, _) => Err(Fault::from(format!(
                "operator of domain `{domain}`; export with the standard operators only (opset 9 to 25)"
            ))),
        };
        let value = match result {
            Ok(value) => value,
            Err(Fault::Damaged(reason)) => return Err(format!("node `{place}` ({}): {reason}", node.op_type)),
            Err(Fault::Cannot(reason)) => {
                self.findings.push(Finding { place: place.into(), op: node.op_type.clone(), reason });
                Value::Missing
            }
            Err(Fault::Downstream) => Value::Missing,
        };
        let Some((first, others)) = node.output.split_first() else {
            return Err(format!("node `{place}` ({}) has no output", node.op_type));
        };
        self.define(first, value)?;
        self.release(node);
        for other in others.iter().filter(|o| !o.is_empty()) {
            if self.readers.contains_key(other.as_str()) {
                let reason = format!("its output `{other}` is read; only the first output is supported");
                self.findings.push(Finding { place: place.into(), op: node.op_type.clone(), reason });
            }
            self.define(other, Value::Missing)?;
        }
        Ok(())
    }

    /// Gives a name its value. The error is text about a damaged file.
    pub(super) fn define(&mut self, name: &'m str, value: Value<'m>) -> Result<(), String> {
        match self.values.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(format!("value `{name}` is given twice")),
        }
    }

    /// The value of input `i`; `None` where it is left out.
    pub(super) fn input(&self, node: &NodeProto, i: usize) -> Option<&Value<'m>> {
        node.input.get(i).and_then(|name| self.values.get(name.as_str()))
    }

    /// Input `i` as an activation.
    pub(super) fn activation(&self, node: &NodeProto, i: usize) -> Result<Activation, Fault> {
        match self.input(node, i) {
            Some(Value::Activation(activation)) => Ok(*activation),
            Some(Value::Missing) => Err(Fault::Downstream),
            Some(Value::Tail(_)) => {
                Err("reads what a LogSoftmax or a Softmax that is left out gives; only the end of the graph can".into())
            }
            Some(Value::Constant(_) | Value::Stored(_)) => {
                Err(format!("input {i} (`{}`) is a constant, expected an activation", node.input[i]).into())
            }
            None => Err(Fault::Damaged(format!("input {i} is missing"))),
        }
    }

    /// Input `i` as an activation of floats in `N C H W`.
    pub(super) fn image(&self, node: &NodeProto, i: usize) -> Result<Activation, Fault> {
        let x = self.activation(node, i)?;
        match x.layout {
            Layout::Nchw => Ok(x),
            _ => Err(format!("input {i} (`{}`) is {}, expected N C H W", node.input[i], x.layout).into()),
        }
    }

    /// Shape of an activation in the network.
    pub(super) fn shape(&self, x: Activation) -> Shape {
        self.network.tensors[x.tensor].shape
    }

    /// Appends a node to the network; its output gets the name that it has in the file.
    pub(super) fn push(&mut self, node: &NodeProto, op: Op, inputs: &[Activation]) -> Result<TensorId, Fault> {
        if let Some(x) = inputs.iter().find(|x| x.form == Form::Integers)
            && !op.keeps_encoding()
        {
            let name = &self.network.tensors[x.tensor].name;
            return Err(format!("computes on the integers of `{name}`; put DequantizeLinear before it").into());
        }
        let ids: Vec<TensorId> = inputs.iter().map(|x| x.tensor).collect();
        let name = self.names.unused(node_name(node));
        let id = self.network.push(name, op, &ids).map_err(|fault| match fault {
            NetworkError::Node { reason, .. } => Fault::Cannot(reason),
            other => Fault::Cannot(other.to_string()),
        })?;
        for x in inputs.iter().filter(|x| x.form == Form::Real) {
            self.real_reader.entry(x.tensor).or_insert(self.network.nodes.len() - 1);
        }
        let tensor = &mut self.network.tensors[id];
        if let Some(output) = node.output.first() {
            tensor.name.clone_from(output);
        }
        check_size(tensor.shape)?;
        Ok(id)
    }

    /// Pays for `elements` copied elements of constants.
    pub(super) fn charge(&mut self, elements: usize) -> Result<(), Fault> {
        self.budget = self.budget.checked_sub(elements).ok_or_else(|| {
            Fault::Damaged(
                "constants are shared by so many nodes that the network would be far larger than the file".into(),
            )
        })?;
        Ok(())
    }
}

/// Refuses shapes beyond the limits.
pub(super) fn check_size(shape: Shape) -> Result<(), String> {
    let fits = [shape.c, shape.h, shape.w].iter().all(|&extent| extent <= MAX_EXTENT);
    if fits && shape.c as u128 * shape.h as u128 * shape.w as u128 <= MAX_ELEMENTS as u128 {
        Ok(())
    } else {
        Err(format!("a tensor of {shape}; at most {MAX_ELEMENTS} elements are supported"))
    }
}

/// Attributes of a node.
pub(super) fn attributes(node: &NodeProto) -> Attributes<'_> {
    Attributes(&node.attribute)
}
