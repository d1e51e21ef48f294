//! The int8 file. Enters: a quantized network: every tensor that exists in integers has an 8 bit encoding, every
//! convolution and dense layer its integers. Leaves: an ONNX file in QDQ form in which every operator stands between
//! DequantizeLinear and QuantizeLinear. Refuses: what [`quantize::check`] refuses, widths other than 8 bit, and pairs of
//! activations and weights that engines refuse or compute wrongly.
//!
//! One QuantizeLinear for each tensor, one DequantizeLinear for each reader of it: engines fuse node by node and want to
//! own what they fuse. A fused Clamp needs no node where the limits of its output's encoding already are its limits;
//! otherwise it becomes a Clip of the *integers*, since a float Clip would keep engines from fusing the operator
//! before it.

use super::{Rank, Sheet, WriteOptions, check, node};
use crate::network::{Encoding, Fused, Integers, Network, Op, TensorId};
use crate::onnx::builder::{Attribute, Element};
use crate::onnx::{QUANTIZED, WriteError, metadata};
use crate::quantize::{self, clamp_limits};

/// Writes `network` as an int8 ONNX file in QDQ form.
///
/// # Errors
/// [`WriteError`] naming the node or tensor that is not ready.
pub fn write_qdq(network: &Network, options: &WriteOptions) -> Result<Vec<u8>, WriteError> {
    check(network)?;
    quantize::check(network)?;
    let mut writer = Writer { sheet: Sheet::new(network, options), values: vec![None; network.tensors.len()] };
    let input = writer.fresh(network.input)?;
    writer.quantize(&network.tensors[network.input].name.clone(), &input, Rank::Image);
    writer.values[network.input] = Some(input);
    for group in network.fused() {
        let output = writer.group(&group)?;
        writer.values[group.output] = Some(output);
    }
    let output = writer.value(network.output)?;
    let name = &network.tensors[network.output].name;
    writer.dequantize(&output, name);
    Ok(writer.sheet.finish(output.rank, &metadata::pairs(network, true)))
}

/// A tensor's integers in the file.
#[derive(Clone)]
struct Value<'n> {
    /// The tensor's name, for the names of nodes around it.
    tensor: &'n str,
    id: TensorId,
    name: String,
    rank: Rank,
    encoding: &'n Encoding,
    /// Names of scale and zero point.
    scale: String,
    zero_point: String,
}

struct Writer<'n> {
    sheet: Sheet<'n>,
    values: Vec<Option<Value<'n>>>,
}

impl<'n> Writer<'n> {
    /// Scale, zero point and name of a tensor about to be written; its rank is set by whoever writes it.
    fn fresh(&mut self, id: TensorId) -> Result<Value<'n>, WriteError> {
        let tensor = &self.sheet.network.tensors[id];
        let fault = |reason: String| WriteError::Tensor { tensor: tensor.name.clone(), reason };
        let encoding = tensor.encoding.as_ref().ok_or_else(|| fault("has no encoding".into()))?;
        if encoding.bits != 8 {
            return Err(fault(format!("{} bit activations; this form holds 8 bit", encoding.bits)));
        }
        let builder = &mut self.sheet.builder;
        let scale = builder.floats(&format!("{}_scale", tensor.name), &[], &encoding.scale);
        let zero_point = [i64::from(encoding.zero_point[0])];
        let zero_point = builder.integers(&format!("{}_zero_point", tensor.name), element(encoding), &[], &zero_point);
        let name = builder.value(&format!("{}{QUANTIZED}", tensor.name));
        Ok(Value { tensor: &tensor.name, id, name, rank: Rank::Image, encoding, scale, zero_point })
    }

    fn value(&self, id: TensorId) -> Result<Value<'n>, WriteError> {
        let tensor = &self.sheet.network.tensors[id].name;
        let missing = || WriteError::Tensor { tensor: tensor.clone(), reason: "does not exist in integers".into() };
        self.values[id].clone().ok_or_else(missing)
    }

    /// QuantizeLinear from a float value into `to`.
    fn quantize(&mut self, from: &str, to: &Value, rank: Rank) {
        let dims = self.sheet.dims(to.id, rank);
        let builder = &mut self.sheet.builder;
        let node = format!("{}_QuantizeLinear", to.tensor);
        builder.node("QuantizeLinear", &node, &[from, &to.scale, &to.zero_point], &to.name, vec![]);
        builder.describe(&to.name, element(to.encoding), &dims);
    }

    /// DequantizeLinear into the float value `to`, whose name is reserved.
    fn dequantize(&mut self, from: &Value, to: &str) {
        let node = format!("{}_DequantizeLinear", from.tensor);
        let inputs = [from.name.as_str(), &from.scale, &from.zero_point];
        self.sheet.builder.node("DequantizeLinear", &node, &inputs, to, vec![]);
    }

    /// A DequantizeLinear of its own for one reader.
    fn read(&mut self, from: &Value) -> String {
        let to = self.sheet.builder.value(&format!("{}_dequantized", from.tensor));
        self.dequantize(from, &to);
        to
    }

    /// The same integers in another rank.
    fn reshape(&mut self, from: &Value<'n>, rank: Rank) -> Value<'n> {
        if from.rank == rank {
            return from.clone();
        }
        let float = self.read(from);
        let reshaped = self.sheet.reshape(from.id, &float, rank);
        let name = self.sheet.builder.value(&format!("{}_reshaped{QUANTIZED}", from.tensor));
        let to = Value { name, rank, ..from.clone() };
        self.quantize(&reshaped, &to, rank);
        to
    }

    /// Writes what one fused group computes and returns its output.
    fn group(&mut self, group: &Fused) -> Result<Value<'n>, WriteError> {
        let network = self.sheet.network;
        let head = &network.nodes[group.head];
        let inputs = head.inputs.iter().map(|&i| self.value(i)).collect::<Result<Vec<_>, _>>()?;
        let rank = node::input_rank(&head.op, &inputs.iter().map(|i| i.rank).collect::<Vec<_>>());
        let mut output = self.fresh(group.output)?;
        output.rank = node::output_rank(&head.op, rank);
        let clamp = group.clamp.map_or(&head.op, |clamp| &network.nodes[clamp].op);
        let limits = limits(clamp, output.encoding);
        if let Op::Clamp { .. } = head.op {
            self.lookup(&inputs[0], &output, limits, &head.name);
            return Ok(output);
        }
        let mut names = Vec::new();
        for input in &inputs {
            let input = self.reshape(input, rank);
            names.push(self.read(&input));
        }
        match &head.op {
            Op::Conv2d(conv) => {
                let [r, s] = conv.window.kernel;
                let dims = [conv.out_channels, conv.weight.len() / (conv.out_channels * r * s), r, s];
                names.extend(self.parameters(&head.name, conv.integers.as_ref(), &dims, inputs[0].encoding)?);
            }
            Op::Dense(dense) => {
                let dims = [dense.out_features, dense.weight.len() / dense.out_features];
                names.extend(self.parameters(&head.name, dense.integers.as_ref(), &dims, inputs[0].encoding)?);
            }
            _ => {}
        }
        let builder = &mut self.sheet.builder;
        let real = builder.value(&format!("{}_real", output.tensor));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        builder.node(head.op.name(), &head.name, &names, &real, node::attributes(&head.op));
        match limits {
            None => self.quantize(&real, &output, output.rank),
            Some(limits) => {
                let name = self.sheet.builder.value(&format!("{}_unclamped", output.tensor));
                let unclamped = Value { name, ..output.clone() };
                self.quantize(&real, &unclamped, output.rank);
                let clamp = group.clamp.map_or(&head.name, |clamp| &network.nodes[clamp].name);
                self.clip(&unclamped, &output, limits, clamp);
            }
        }
        Ok(output)
    }

    /// A Clamp that stands alone: from one encoding to another, then the limits.
    fn lookup(&mut self, input: &Value<'n>, output: &Value<'n>, limits: Option<[i32; 2]>, node: &str) {
        // A Clip is there in any case: without it engines merge the two encodings around DequantizeLinear ->
        // QuantizeLinear into one and so change the values.
        let limits = limits.unwrap_or([output.encoding.qmin(), output.encoding.qmax()]);
        if input.encoding == output.encoding {
            return self.clip(input, output, limits, node);
        }
        let float = self.read(input);
        let name = self.sheet.builder.value(&format!("{}_unclamped", output.tensor));
        let unclamped = Value { name, ..output.clone() };
        self.quantize(&float, &unclamped, output.rank);
        self.clip(&unclamped, output, limits, node);
    }

    /// Clip of integers (ONNX Clip, opset 12 and later).
    fn clip(&mut self, from: &Value, to: &Value, limits: [i32; 2], node: &str) {
        let dims = self.sheet.dims(to.id, to.rank);
        let builder = &mut self.sheet.builder;
        let [min, max] = [("min", limits[0]), ("max", limits[1])].map(|(what, limit)| {
            builder.integers(&format!("{node}_{what}"), element(to.encoding), &[], &[i64::from(limit)])
        });
        builder.node("Clip", node, &[&from.name, &min, &max], &to.name, vec![]);
        builder.describe(&to.name, element(to.encoding), &dims);
    }

    /// Adds weights and bias and returns their dequantized names.
    fn parameters(
        &mut self,
        node: &str,
        integers: Option<&Integers>,
        dims: &[usize],
        input: &Encoding,
    ) -> Result<[String; 2], WriteError> {
        let fault = |reason: String| WriteError::Node { node: node.into(), reason };
        let integers = integers.ok_or_else(|| fault("has no integer weights".into()))?;
        form(integers, input).map_err(fault)?;
        let Integers { encoding, weight, bias } = integers;
        let weight: Vec<i64> = weight.iter().map(|&w| i64::from(w)).collect();
        let zero_points: Vec<i64> = encoding.zero_point.iter().map(|&z| i64::from(z)).collect();
        let kind = element(encoding);
        let weight = self.parameter(&format!("{node}_weight"), kind, dims, &weight, &encoding.scale, &zero_points);
        let scales: Vec<f32> = encoding.scale.iter().map(|s| input.scale[0] * s).collect();
        let bias: Vec<i64> = bias.iter().map(|&b| i64::from(b)).collect();
        let zeros = vec![0; scales.len()];
        let bias = self.parameter(&format!("{node}_bias"), Element::I32, &dims[..1], &bias, &scales, &zeros);
        Ok([weight, bias])
    }

    /// An integer initializer and its DequantizeLinear, along axis 0 if there is more than one scale.
    fn parameter(
        &mut self,
        name: &str,
        element: Element,
        dims: &[usize],
        values: &[i64],
        scales: &[f32],
        zero_points: &[i64],
    ) -> String {
        let builder = &mut self.sheet.builder;
        let (per, attributes) = match scales {
            [_] => (vec![], vec![]),
            _ => (vec![scales.len()], vec![("axis", Attribute::Int(0))]),
        };
        let stored = builder.integers(&format!("{name}{QUANTIZED}"), element, dims, values);
        let scale = builder.floats(&format!("{name}_scale"), &per, scales);
        let zero_point = builder.integers(&format!("{name}_zero_point"), element, &per, zero_points);
        let output = builder.value(name);
        let node = format!("{name}_DequantizeLinear");
        builder.node("DequantizeLinear", &node, &[&stored, &scale, &zero_point], &output, attributes);
        output
    }
}

/// Type of the stored integers.
fn element(encoding: &Encoding) -> Element {
    if encoding.signed { Element::I8 } else { Element::U8 }
}

/// The limits of a Clamp in integers; `None` where they are the encoding's own, or where `op` is no Clamp.
fn limits(op: &Op, encoding: &Encoding) -> Option<[i32; 2]> {
    let Op::Clamp { min, max } = *op else { return None };
    let (low, high) = clamp_limits(encoding, Some((min, max)));
    ((low, high) != (encoding.qmin(), encoding.qmax())).then_some([low, high])
}

/// Whether engines take weights of this form together with this input.
fn form(integers: &Integers, input: &Encoding) -> Result<(), String> {
    let encoding = &integers.encoding;
    if encoding.bits != 8 {
        return Err(format!("{} bit weights; this form holds 8 bit", encoding.bits));
    }
    if encoding.signed && encoding.zero_point.iter().any(|&z| z != 0) {
        let reason = "which engines for phones refuse or ignore; quantize them unsigned, or symmetric";
        return Err(format!("signed weights with a zero point other than 0, {reason}"));
    }
    if input.signed && !encoding.signed {
        let reason = "which ONNX Runtime has no kernel for; make both signed, or the activations unsigned";
        return Err(format!("signed activations with unsigned weights, {reason}"));
    }
    match encoding.scale.iter().map(|s| input.scale[0] * s).find(|s| !s.is_normal()) {
        Some(scale) => Err(format!("input scale * weight scale is {scale:e}, which is no normal number")),
        None => Ok(()),
    }
}
