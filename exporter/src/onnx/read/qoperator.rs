//! Quantized operators become the float ones they stand for. Enters: a graph. Leaves: the graph with QLinearConv,
//! QLinearMatMul, and `com.microsoft`'s QGemm, QLinearAdd, QLinearMul, QLinearConcat, QLinearAveragePool, QLinearGlobalAveragePool,
//! QLinearLeakyRelu, QLinearSigmoid and QLinearSoftmax replaced by DequantizeLinear, the operator and QuantizeLinear, so that nothing else need know them. Refuses nothing: a
//! node with inputs missing, or a bias whose scales are no initializers, stays as it is and is named by the importer.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType};

use super::file::{Attributes, FLOAT, INT32, floats, node_name};

/// Replaces all such nodes.
pub(super) fn expand(graph: &mut GraphProto) {
    let known = |node: &NodeProto| float_operator(node).is_some();
    if !graph.node.iter().any(known) {
        return;
    }
    let scales: HashMap<String, Vec<f32>> = graph
        .initializer
        .iter()
        .filter(|t| t.data_type == FLOAT && t.dims.len() <= 1)
        .filter_map(|t| Some((t.name.clone(), floats(t).ok()?)))
        .collect();
    let nodes = std::mem::take(&mut graph.node);
    for (index, node) in nodes.into_iter().enumerate() {
        match float_operator(&node).and_then(|op| Expansion::new(index, &node, op, &scales)) {
            Some(expansion) => {
                graph.node.extend(expansion.nodes);
                graph.initializer.extend(expansion.constants);
            }
            None => graph.node.push(node),
        }
    }
}

/// The operator that a quantized one stands for.
fn float_operator(node: &NodeProto) -> Option<&'static str> {
    Some(match (node.domain.as_str(), node.op_type.as_str()) {
        ("" | "ai.onnx", "QLinearConv") => "Conv",
        ("" | "ai.onnx", "QLinearMatMul") => "MatMul",
        ("com.microsoft", "QGemm") => "Gemm",
        ("com.microsoft", "QLinearAdd") => "Add",
        ("com.microsoft", "QLinearMul") => "Mul",
        ("com.microsoft", "QLinearLeakyRelu") => "LeakyRelu",
        ("com.microsoft", "QLinearSigmoid") => "Sigmoid",
        ("com.microsoft", "QLinearSoftmax") => "Softmax",
        ("com.microsoft", "QLinearConcat") => "Concat",
        ("com.microsoft", "QLinearAveragePool") => "AveragePool",
        ("com.microsoft", "QLinearGlobalAveragePool") => "GlobalAveragePool",
        _ => return None,
    })
}

/// The nodes that one node becomes.
struct Expansion {
    index: usize,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Expansion {
    fn new(index: usize, node: &NodeProto, op: &str, scales: &HashMap<String, Vec<f32>>) -> Option<Self> {
        let mut expansion = Self { index, nodes: Vec::new(), constants: Vec::new() };
        let attributes = Attributes(&node.attribute);
        if attributes.int("channels_last", 0) != 0 {
            return None;
        }
        let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
        // Value, scale, zero point of each input; scale and zero point of the output; bias.
        let (values, output, bias) = match (op, &inputs[..]) {
            ("Conv", [inputs @ .., ys, yz]) if inputs.len() == 6 => (inputs.to_vec(), [*ys, *yz], None),
            ("Conv", [inputs @ .., ys, yz, bias]) if inputs.len() == 6 => (inputs.to_vec(), [*ys, *yz], Some(*bias)),
            ("Gemm", [inputs @ .., bias, ys, yz]) if inputs.len() == 6 => (inputs.to_vec(), [*ys, *yz], Some(*bias)),
            ("Concat", [ys, yz, inputs @ ..]) => (inputs.to_vec(), [*ys, *yz], None),
            ("Conv" | "Gemm" | "Concat", _) => return None,
            (_, [inputs @ .., ys, yz]) => (inputs.to_vec(), [*ys, *yz], None),
            _ => return None,
        };
        let expected = match op {
            "Conv" | "Gemm" | "MatMul" | "Add" | "Mul" => 2,
            "Concat" => values.len() / 3,
            _ => 1,
        };
        if values.is_empty() || values.len() != 3 * expected {
            return None;
        }
        // Scales for each output channel lie along this axis of the weights.
        let axis = match op {
            "Conv" => 0,
            "Gemm" => i64::from(attributes.int("transB", 0) == 0),
            _ => 1,
        };
        let mut names: Vec<String> =
            values.chunks_exact(3).enumerate().map(|(i, value)| expansion.dequantize(i, value, axis)).collect();
        if let Some(bias) = bias.filter(|bias| !bias.is_empty()) {
            names.push(expansion.bias(bias, scales.get(values[1])?, scales.get(values[4])?));
        }
        let real = expansion.name("real");
        expansion.nodes.push(NodeProto {
            name: node_name(node).into(),
            op_type: op.into(),
            input: names,
            output: vec![real.clone()],
            attribute: node.attribute.clone(),
            ..Default::default()
        });
        expansion.nodes.push(NodeProto {
            name: expansion.name("QuantizeLinear"),
            op_type: "QuantizeLinear".into(),
            input: [real.as_str(), output[0], output[1]].map(Into::into).to_vec(),
            output: node.output.clone(),
            ..Default::default()
        });
        Some(expansion)
    }

    /// A name for a value of this node. It is short, whatever the node's is: a node may have many inputs.
    fn name(&self, what: &str) -> String {
        format!("#{}/{what}", self.index)
    }

    fn dequantize(&mut self, i: usize, inputs: &[&str], axis: i64) -> String {
        let output = self.name(&format!("input_{i}"));
        let attribute =
            AttributeProto { name: "axis".into(), r#type: AttributeType::Int as i32, i: axis, ..Default::default() };
        self.nodes.push(NodeProto {
            name: output.clone(),
            op_type: "DequantizeLinear".into(),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec![output.clone()],
            attribute: vec![attribute],
            ..Default::default()
        });
        output
    }

    /// The bias of an accumulator is in steps of input scale * weight scale.
    fn bias(&mut self, bias: &str, input: &[f32], weights: &[f32]) -> String {
        let products: Vec<f32> = weights.iter().map(|w| input.first().unwrap_or(&0.0) * w).collect();
        let dims = if products.len() == 1 { vec![] } else { vec![products.len() as i64] };
        let (scale, zero) = (self.name("bias_scale"), self.name("bias_zero_point"));
        self.constants.push(TensorProto {
            name: zero.clone(),
            data_type: INT32,
            dims: dims.clone(),
            int32_data: vec![0; products.len()],
            ..Default::default()
        });
        self.constants.push(TensorProto {
            name: scale.clone(),
            data_type: FLOAT,
            dims,
            float_data: products,
            ..Default::default()
        });
        self.dequantize(2, &[bias, &scale, &zero], 0)
    }
}
