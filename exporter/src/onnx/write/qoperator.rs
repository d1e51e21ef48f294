//! Operators that work on integers. Enters: one node with its inputs in integers. Leaves: one quantized operator in place of
//! DequantizeLinear, the float operator and QuantizeLinear, where the form asked for has one. Refuses: native types below a
//! byte, which these operators do not take.
//!
//! | node | `QOperator` | `OnnxRuntime` |
//! |---|---|---|
//! | Conv | QLinearConv (opset 10) | the same |
//! | Gemm | QLinearMatMul (opset 10) if all biases are 0 | QGemm |
//! | Add, Mul, Concat, AveragePool, GlobalAveragePool | none | QLinearAdd, QLinearMul, QLinearConcat, QLinearAveragePool, QLinearGlobalAveragePool |
//! | LeakyRelu, Sigmoid, Softmax | none | QLinearLeakyRelu, QLinearSigmoid, QLinearSoftmax |
//! | MaxPool, Flatten | none | the same on integers |

use super::qdq::{Limits, Value, Writer, layer};
use super::storage::is_narrow;
use super::{Form, OPSET, node};
use crate::network::{Dense, Function, Integers, Node, Op};
use crate::onnx::WriteError;
use crate::onnx::builder::{Attribute, Domain};

/// The operator's name, where it is defined, and its inputs.
type Operator = (&'static str, Domain, Vec<String>);

impl<'n> Writer<'n> {
    /// Writes a node as a quantized operator, if the form has one for it.
    pub(super) fn operator(
        &mut self,
        node: &Node,
        inputs: &[Value<'n>],
        output: &Value<'n>,
        limits: Limits,
    ) -> Result<bool, WriteError> {
        if self.form == Form::Qdq {
            return Ok(false);
        }
        let Some((op, domain, names)) = self.operator_and_inputs(node, inputs, output)? else { return Ok(false) };
        let weights = layer(node)?.map(|(integers, _)| ("its weights", self.sheet.storage.weight(&integers.encoding)));
        let activations = inputs.iter().chain([output]).map(|value| (value.tensor, value.element));
        if let Some((what, element)) = activations.chain(weights).find(|(_, element)| is_narrow(*element)) {
            let reason = format!("{op} takes bytes only, {what}: {element:?}; store the file portably");
            return Err(WriteError::Node { node: node.name.clone(), reason });
        }
        let attributes = attributes(&node.op);
        let dims = self.sheet.dims(output.id, output.rank);
        let write = |writer: &mut Self, first: &Value<'n>| {
            let builder = &mut writer.sheet.builder;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            builder.node_of(domain, op, &node.name, &names, &first.name, attributes);
            builder.describe(&first.name, first.element, &dims);
        };
        if node.op.keeps_encoding() {
            write(self, output);
        } else {
            self.within(output, limits, write);
        }
        Ok(true)
    }

    fn operator_and_inputs(
        &mut self,
        node: &Node,
        inputs: &[Value<'n>],
        output: &Value<'n>,
    ) -> Result<Option<Operator>, WriteError> {
        let own = |value: &Value| [value.name.clone(), value.scale.clone(), value.zero_point.clone()];
        let scales = |value: &Value| [value.scale.clone(), value.zero_point.clone()];
        let all: Vec<String> = inputs.iter().flat_map(own).collect();
        let microsoft = self.form == Form::OnnxRuntime;
        if let Some((integers, dims)) = layer(node)? {
            let encoding = inputs[0].encoding;
            let without_bias = integers.bias.iter().all(|&b| b == 0);
            let (op, [weight, scale, zero_point, bias]) = match &node.op {
                Op::Conv2d(_) => ("QLinearConv", self.constants(&node.name, integers, &dims, encoding)?),
                _ if microsoft => ("QGemm", self.constants(&node.name, integers, &dims, encoding)?),
                Op::Dense(dense) if without_bias => {
                    let (integers, dims) = transposed(integers, dense);
                    ("QLinearMatMul", self.constants(&node.name, &integers, &dims, encoding)?)
                }
                _ => return Ok(None),
            };
            let mut names = all;
            names.extend([weight, scale, zero_point]);
            match op {
                "QLinearConv" => names.extend(scales(output).into_iter().chain([bias])),
                "QGemm" => names.extend([bias].into_iter().chain(scales(output))),
                _ => names.extend(scales(output)),
            }
            let domain = if op == "QGemm" { Domain::Microsoft } else { Domain::Standard };
            return Ok(Some((op, domain, names)));
        }
        if !microsoft {
            return Ok(None);
        }
        let behind = || all.iter().cloned().chain(scales(output)).collect();
        Ok(Some(match &node.op {
            Op::Add => ("QLinearAdd", Domain::Microsoft, behind()),
            Op::Mul => ("QLinearMul", Domain::Microsoft, behind()),
            Op::Function(Function::LeakyRelu { .. }) => ("QLinearLeakyRelu", Domain::Microsoft, behind()),
            Op::Function(Function::Sigmoid) => ("QLinearSigmoid", Domain::Microsoft, behind()),
            Op::Softmax => ("QLinearSoftmax", Domain::Microsoft, behind()),
            Op::AveragePool(_) => ("QLinearAveragePool", Domain::Microsoft, behind()),
            Op::GlobalAveragePool => ("QLinearGlobalAveragePool", Domain::Microsoft, behind()),
            Op::Concat => {
                ("QLinearConcat", Domain::Microsoft, scales(output).into_iter().chain(all.iter().cloned()).collect())
            }
            Op::MaxPool(_) => ("MaxPool", Domain::Standard, vec![inputs[0].name.clone()]),
            Op::Flatten => ("Flatten", Domain::Standard, vec![inputs[0].name.clone()]),
            _ => return Ok(None),
        }))
    }
}

/// Those of the float operator, and what only the quantized one has.
fn attributes(op: &Op) -> Vec<(&'static str, Attribute)> {
    let mut attributes = node::attributes(op);
    if matches!(op, Op::GlobalAveragePool | Op::AveragePool(_)) {
        attributes.push(("channels_last", Attribute::Int(0)));
    }
    if *op == Op::Softmax {
        attributes.push(("opset", Attribute::Int(OPSET)));
    }
    attributes
}

/// The weights as `C K`, with dims.
fn transposed(integers: &Integers, dense: &Dense) -> (Integers, Vec<usize>) {
    let (k, c) = (dense.out_features, integers.weight.len() / dense.out_features);
    let weight = (0..c * k).map(|i| integers.weight[i % k * c + i / k]).collect();
    (Integers { weight, ..integers.clone() }, vec![c, k])
}
