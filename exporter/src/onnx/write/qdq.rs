//! The quantized file. Enters: a quantized network: every tensor that exists in integers has an encoding, every
//! convolution and dense layer its integers. Leaves: an ONNX file in QDQ form in which every operator stands between
//! DequantizeLinear and QuantizeLinear. Refuses: what [`quantize::check`] refuses, and pairs of activations and weights
//! that engines refuse or compute wrongly.
//!
//! One QuantizeLinear for each tensor, one DequantizeLinear for each reader of it: engines fuse node by node and want to
//! own what they fuse. A fused Clamp needs no node where the limits of its output's encoding already are its limits;
//! otherwise it becomes a Clip of the *integers*, since a float Clip would keep engines from fusing the operator
//! before it. Clip knows no type below a byte, so that with those a float Clip it is; nothing fuses there anyway.

use super::{Rank, Sheet, WriteOptions, check, node};
use crate::network::{Encoding, Fused, Integers, Network, Op, TensorId};
use crate::onnx::builder::{Attribute, Element};
use crate::onnx::{Preset, QUANTIZED, WriteError, metadata};
use crate::quantize::{self, clamp_limits};

/// Writes `network` as a quantized ONNX file in QDQ form.
///
/// # Errors
/// [`WriteError`] naming the node or tensor that is not ready.
pub fn write_qdq(network: &Network, options: &WriteOptions) -> Result<Vec<u8>, WriteError> {
    check(network)?;
    quantize::check(network)?;
    let (sheet, values) = (Sheet::new(network, options), vec![None; network.tensors.len()]);
    let mut writer = Writer { sheet, values, preset: options.preset };
    let input = writer.fresh(network.input)?;
    writer.settle(&network.tensors[network.input].name, &input, None);
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
    element: Element,
    /// Names of scale and zero point.
    scale: String,
    zero_point: String,
}

impl Value<'_> {
    /// Whether an element is less than a byte.
    fn is_narrow(&self) -> bool {
        !matches!(self.element, Element::U8 | Element::I8)
    }
}

struct Writer<'n> {
    sheet: Sheet<'n>,
    values: Vec<Option<Value<'n>>>,
    preset: Option<Preset>,
}

impl<'n> Writer<'n> {
    /// Scale, zero point and name of a tensor about to be written; its rank is set by whoever writes it.
    fn fresh(&mut self, id: TensorId) -> Result<Value<'n>, WriteError> {
        let tensor = &self.sheet.network.tensors[id];
        let fault = |reason: String| WriteError::Tensor { tensor: tensor.name.clone(), reason };
        let encoding = tensor.encoding.as_ref().ok_or_else(|| fault("has no encoding".into()))?;
        let element = self.sheet.storage.activation(encoding);
        self.sheet.needs(element);
        let builder = &mut self.sheet.builder;
        let scale = builder.floats(&format!("{}_scale", tensor.name), &[], &encoding.scale);
        let zero_point = [i64::from(encoding.zero_point[0])];
        let zero_point = builder.integers(&format!("{}_zero_point", tensor.name), element, &[], &zero_point);
        let name = builder.value(&format!("{}{QUANTIZED}", tensor.name));
        Ok(Value { tensor: &tensor.name, id, name, rank: Rank::Image, encoding, element, scale, zero_point })
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
        builder.describe(&to.name, to.element, &dims);
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
        if head.op.keeps_encoding() {
            self.quantize(&real, &output, output.rank);
        } else {
            let clamp = group.clamp.map_or(&head.name, |clamp| &network.nodes[clamp].name);
            self.settle(&real, &output, limits.map(|limits| (limits, clamp.as_str())));
        }
        Ok(output)
    }

    /// From floats to the integers of `to`, within its encoding and within the limits, which a node of that name stands for.
    fn settle(&mut self, real: &str, to: &Value<'n>, limits: Option<([i32; 2], &str)>) {
        let full = [to.encoding.qmin(), to.encoding.qmax()];
        if to.is_narrow() {
            let real = match limits {
                Some((limits, name)) => self.clip_floats(real, to, limits, name),
                None => real.to_string(),
            };
            return self.quantize(&real, to, to.rank);
        }
        let width = format!("{}_width", to.tensor);
        let overhangs = self.sheet.storage.overhangs(to.encoding) && limits.is_none_or(|(limits, _)| limits != full);
        let clips: Vec<_> = overhangs.then_some((full, width.as_str())).into_iter().chain(limits).collect();
        // What stands before a Clip has a name of its own.
        let mut values: Vec<Value> = clips
            .iter()
            .map(|_| Value { name: self.sheet.builder.value(&format!("{}_unclamped", to.tensor)), ..to.clone() })
            .collect();
        values.push(to.clone());
        self.quantize(real, &values[0], to.rank);
        for (pair, (limits, name)) in values.windows(2).zip(clips) {
            self.clip(&pair[0], &pair[1], limits, name);
        }
    }

    /// A Clamp that stands alone: from one encoding to another, then the limits.
    fn lookup(&mut self, input: &Value<'n>, output: &Value<'n>, limits: Option<[i32; 2]>, node: &str) {
        // A Clip is there in any case: without it engines merge the two encodings around DequantizeLinear ->
        // QuantizeLinear into one and so change the values.
        let limits = limits.unwrap_or([output.encoding.qmin(), output.encoding.qmax()]);
        if input.encoding == output.encoding && !output.is_narrow() {
            return self.clip(input, output, limits, node);
        }
        let float = self.read(input);
        self.settle(&float, output, Some((limits, node)));
    }

    /// Clip of floats to what `limits` stand for.
    fn clip_floats(&mut self, from: &str, to: &Value, limits: [i32; 2], node: &str) -> String {
        let builder = &mut self.sheet.builder;
        let [min, max] = [("min", limits[0]), ("max", limits[1])]
            .map(|(what, limit)| builder.floats(&format!("{node}_{what}"), &[], &[to.encoding.dequantize(0, limit)]));
        let output = builder.value(&format!("{}_clipped", to.tensor));
        builder.node("Clip", node, &[from, &min, &max], &output, vec![]);
        output
    }

    /// Clip of integers (ONNX Clip, opset 12 and later).
    fn clip(&mut self, from: &Value, to: &Value, limits: [i32; 2], node: &str) {
        let dims = self.sheet.dims(to.id, to.rank);
        let builder = &mut self.sheet.builder;
        let [min, max] = [("min", limits[0]), ("max", limits[1])]
            .map(|(what, limit)| builder.integers(&format!("{node}_{what}"), to.element, &[], &[i64::from(limit)]));
        builder.node("Clip", node, &[&from.name, &min, &max], &to.name, vec![]);
        builder.describe(&to.name, to.element, &dims);
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
        form(integers, input, self.preset).map_err(fault)?;
        let Integers { encoding, weight, bias } = integers;
        let weight: Vec<i64> = weight.iter().map(|&w| i64::from(w)).collect();
        let zero_points: Vec<i64> = encoding.zero_point.iter().map(|&z| i64::from(z)).collect();
        let name = format!("{node}_weight");
        let (stored, element) = self.sheet.weights(&name, encoding, dims, &weight);
        let weight = self.parameter(&name, &stored, element, &encoding.scale, &zero_points);
        let scales: Vec<f32> = encoding.scale.iter().map(|s| input.scale[0] * s).collect();
        let bias: Vec<i64> = bias.iter().map(|&b| i64::from(b)).collect();
        let zeros = vec![0; scales.len()];
        let name = format!("{node}_bias");
        let stored = self.sheet.builder.integers(&format!("{name}{QUANTIZED}"), Element::I32, &dims[..1], &bias);
        let bias = self.parameter(&name, &stored, Element::I32, &scales, &zeros);
        Ok([weight, bias])
    }

    /// A DequantizeLinear of the constant `stored`, along axis 0 if there is more than one scale.
    fn parameter(&mut self, name: &str, stored: &str, element: Element, scales: &[f32], zero_points: &[i64]) -> String {
        let builder = &mut self.sheet.builder;
        let (per, attributes) = match scales {
            [_] => (vec![], vec![]),
            _ => (vec![scales.len()], vec![("axis", Attribute::Int(0))]),
        };
        let scale = builder.floats(&format!("{name}_scale"), &per, scales);
        let zero_point = builder.integers(&format!("{name}_zero_point"), element, &per, zero_points);
        let output = builder.value(name);
        let node = format!("{name}_DequantizeLinear");
        builder.node("DequantizeLinear", &node, &[stored, &scale, &zero_point], &output, attributes);
        output
    }
}

/// The limits of a Clamp in integers; `None` where they are the encoding's own, or where `op` is no Clamp.
fn limits(op: &Op, encoding: &Encoding) -> Option<[i32; 2]> {
    let Op::Clamp { min, max } = *op else { return None };
    let (low, high) = clamp_limits(encoding, Some((min, max)));
    ((low, high) != (encoding.qmin(), encoding.qmax())).then_some([low, high])
}

/// Whether engines take weights of this form together with this input.
fn form(integers: &Integers, input: &Encoding, preset: Option<Preset>) -> Result<(), String> {
    let encoding = &integers.encoding;
    if let Some((preset, reason)) = preset.and_then(|preset| Some((preset.name(), preset.refusal(encoding, input)?))) {
        return Err(format!("preset {preset}: {reason}"));
    }
    if encoding.signed && preset != Some(Preset::X86) && encoding.zero_point.iter().any(|&z| z != 0) {
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
