//! The quantized file. Enters: a quantized network: every tensor that exists in integers has an encoding, every
//! convolution and dense layer its integers. Leaves: an ONNX file in which every operator stands between DequantizeLinear
//! and QuantizeLinear, unless the form asked for has one that works on integers ([`super::qoperator`]). Refuses: what
//! [`quantize::check`] refuses, and pairs of activations and weights that engines refuse or compute wrongly.
//!
//! One QuantizeLinear for each tensor, one DequantizeLinear for each reader of it: engines fuse node by node and want to
//! own what they fuse. A fused Clamp needs no node where the limits of its output's encoding already are its limits;
//! otherwise it becomes a Clip of the *integers*, since a float Clip would keep engines from fusing the operator
//! before it. Clip knows no type below a byte, so that with those a float Clip it is; nothing fuses there anyway.

use super::storage::is_narrow;
use super::{DEQUANTIZED, Form, LIMIT, REAL, Rank, SCALE, Sheet, WriteOptions, ZERO_POINT, check, node};
use crate::network::{Encoding, Fused, Integers, Network, Node, Op, TensorId};
use crate::onnx::builder::{Attribute, Element};
use crate::onnx::{Preset, QUANTIZED, WriteError, metadata};
use crate::quantize::{self, clamp_limits};

/// Writes `network` as a quantized ONNX file.
///
/// # Errors
/// [`WriteError`] naming the node or tensor that is not ready.
pub fn write_qdq(network: &Network, options: &WriteOptions) -> Result<Vec<u8>, WriteError> {
    check(network)?;
    quantize::check(network)?;
    let (sheet, values) = (Sheet::new(network, options), vec![None; network.tensors.len()]);
    let mut writer = Writer { sheet, values, preset: options.preset, form: options.form };
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
pub(super) struct Value<'n> {
    /// The tensor's name, for the names of nodes around it.
    pub(super) tensor: &'n str,
    pub(super) id: TensorId,
    pub(super) name: String,
    pub(super) rank: Rank,
    pub(super) encoding: &'n Encoding,
    pub(super) element: Element,
    /// Names of scale and zero point.
    pub(super) scale: String,
    pub(super) zero_point: String,
}

pub(super) struct Writer<'n> {
    pub(super) sheet: Sheet<'n>,
    values: Vec<Option<Value<'n>>>,
    preset: Option<Preset>,
    pub(super) form: Form,
}

/// Limits that a value is held to, and the name of the node that does it.
pub(super) type Limits<'a> = Option<([i32; 2], &'a str)>;

impl<'n> Writer<'n> {
    /// Scale, zero point and name of a tensor about to be written; its rank is set by whoever writes it.
    fn fresh(&mut self, id: TensorId) -> Result<Value<'n>, WriteError> {
        let tensor = &self.sheet.network.tensors[id];
        let fault = |reason: String| WriteError::Tensor { tensor: tensor.name.clone(), reason };
        let encoding = tensor.encoding.as_ref().ok_or_else(|| fault("has no encoding".into()))?;
        let element = self.sheet.storage.activation(encoding);
        self.sheet.needs(element);
        let builder = &mut self.sheet.builder;
        let scale = builder.shared_floats(SCALE, &[], &encoding.scale);
        let zero_point = [i64::from(encoding.zero_point[0])];
        let zero_point = builder.shared_integers(ZERO_POINT, element, &[], &zero_point);
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
        builder.node("QuantizeLinear", "", &[from, &to.scale, &to.zero_point], &to.name, vec![]);
        builder.describe(&to.name, to.element, &dims);
    }

    /// DequantizeLinear into the float value `to`, whose name is reserved.
    fn dequantize(&mut self, from: &Value, to: &str) {
        let inputs = [from.name.as_str(), &from.scale, &from.zero_point];
        self.sheet.builder.node("DequantizeLinear", "", &inputs, to, vec![]);
    }

    /// A DequantizeLinear of its own for one reader.
    fn read(&mut self, from: &Value) -> String {
        let to = self.sheet.builder.numbered(DEQUANTIZED);
        self.dequantize(from, &to);
        to
    }

    /// The same integers in another rank.
    pub(super) fn reshape(&mut self, from: &Value<'n>, rank: Rank) -> Value<'n> {
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
        let clamp = group.clamp.map_or(head, |clamp| &network.nodes[clamp]);
        let limits = limits(&clamp.op, output.encoding);
        if let Op::Clamp { .. } = head.op {
            self.lookup(&inputs[0], &output, limits, &head.name);
            return Ok(output);
        }
        let limits = limits.map(|limits| (limits, clamp.name.as_str()));
        let inputs: Vec<Value> = inputs.iter().map(|input| self.reshape(input, rank)).collect();
        if self.operator(head, &inputs, &output, limits)? {
            return Ok(output);
        }
        let again = vec![&inputs[0]; node::reads(&head.op) - 1];
        let mut names: Vec<String> = again.into_iter().chain(&inputs).map(|input| self.read(input)).collect();
        if let Some((integers, dims)) = layer(head)? {
            names.extend(self.parameters(&head.name, integers, &dims, inputs[0].encoding)?);
        }
        let real = self.sheet.builder.numbered(REAL);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.sheet.operators(&head.op, &head.name, &names, &real);
        if head.op.keeps_encoding() {
            self.quantize(&real, &output, output.rank);
        } else {
            self.settle(&real, &output, limits);
        }
        Ok(output)
    }

    /// From floats to the integers of `to`, within its encoding and within the limits.
    fn settle(&mut self, real: &str, to: &Value<'n>, limits: Limits) {
        if is_narrow(to.element) {
            let real = match limits {
                Some((limits, name)) => self.clip_floats(real, to, limits, name),
                None => real.to_string(),
            };
            return self.quantize(&real, to, to.rank);
        }
        self.within(to, limits, |writer, first| writer.quantize(real, first, first.rank));
    }

    /// Writes integers with `write` and holds them to the encoding of `to` and to the limits.
    pub(super) fn within(&mut self, to: &Value<'n>, limits: Limits, write: impl FnOnce(&mut Self, &Value<'n>)) {
        let full = [to.encoding.qmin(), to.encoding.qmax()];
        let width = format!("{}_width", to.tensor);
        let overhangs = self.sheet.storage.overhangs(to.encoding) && limits.is_none_or(|(limits, _)| limits != full);
        let clips: Vec<_> = overhangs.then_some((full, width.as_str())).into_iter().chain(limits).collect();
        // What stands before a Clip has a name of its own.
        let mut values: Vec<Value> = clips
            .iter()
            .map(|_| Value { name: self.sheet.builder.value(&format!("{}_unclamped", to.tensor)), ..to.clone() })
            .collect();
        values.push(to.clone());
        write(self, &values[0]);
        for (pair, (limits, name)) in values.windows(2).zip(clips) {
            self.clip(&pair[0], &pair[1], limits, name);
        }
    }

    /// A Clamp that stands alone: from one encoding to another, then the limits.
    fn lookup(&mut self, input: &Value<'n>, output: &Value<'n>, limits: Option<[i32; 2]>, node: &str) {
        // A Clip is there in any case: without it engines merge the two encodings around DequantizeLinear ->
        // QuantizeLinear into one and so change the values.
        let limits = limits.unwrap_or([output.encoding.qmin(), output.encoding.qmax()]);
        if input.encoding == output.encoding && !is_narrow(output.element) {
            return self.clip(input, output, limits, node);
        }
        let float = self.read(input);
        self.settle(&float, output, Some((limits, node)));
    }

    /// Clip of floats to what `limits` stand for.
    fn clip_floats(&mut self, from: &str, to: &Value, limits: [i32; 2], node: &str) -> String {
        let builder = &mut self.sheet.builder;
        let [min, max] = limits.map(|limit| builder.shared_floats(LIMIT, &[], &[to.encoding.dequantize(0, limit)]));
        let output = builder.numbered(REAL);
        builder.node("Clip", node, &[from, &min, &max], &output, vec![]);
        output
    }

    /// Clip of integers (ONNX Clip, opset 12 and later).
    fn clip(&mut self, from: &Value, to: &Value, limits: [i32; 2], node: &str) {
        let dims = self.sheet.dims(to.id, to.rank);
        let builder = &mut self.sheet.builder;
        let [min, max] = limits.map(|limit| builder.shared_integers(LIMIT, to.element, &[], &[i64::from(limit)]));
        builder.node("Clip", node, &[&from.name, &min, &max], &to.name, vec![]);
        builder.describe(&to.name, to.element, &dims);
    }

    /// Adds weights and bias and returns their dequantized names.
    fn parameters(
        &mut self,
        node: &str,
        integers: &Integers,
        dims: &[usize],
        input: &Encoding,
    ) -> Result<[String; 2], WriteError> {
        let [weight, scale, zero_point, bias] = self.constants(node, integers, dims, input)?;
        let scales: Vec<f32> = integers.encoding.scale.iter().map(|s| input.scale[0] * s).collect();
        let per: Vec<usize> = scales.get(1).map(|_| scales.len()).into_iter().collect();
        let builder = &mut self.sheet.builder;
        let bias_scale = builder.shared_floats(SCALE, &per, &scales);
        let zeros = builder.shared_integers(ZERO_POINT, Element::I32, &per, &vec![0; scales.len()]);
        Ok([[weight, scale, zero_point], [bias, bias_scale, zeros]].map(|inputs| {
            // Along axis 0 if there is more than one scale.
            let attributes = if per.is_empty() { vec![] } else { vec![("axis", Attribute::Int(0))] };
            let output = builder.numbered(DEQUANTIZED);
            builder.node("DequantizeLinear", "", &inputs.each_ref().map(String::as_str), &output, attributes);
            output
        }))
    }

    /// Adds weights, their scales and zero points, and bias, all as they are stored, and returns their names.
    pub(super) fn constants(
        &mut self,
        node: &str,
        integers: &Integers,
        dims: &[usize],
        input: &Encoding,
    ) -> Result<[String; 4], WriteError> {
        form(integers, input, self.preset).map_err(|reason| WriteError::Node { node: node.into(), reason })?;
        let Integers { encoding, weight, bias } = integers;
        let weight: Vec<i64> = weight.iter().map(|&w| i64::from(w)).collect();
        let zero_points: Vec<i64> = encoding.zero_point.iter().map(|&z| i64::from(z)).collect();
        let bias: Vec<i64> = bias.iter().map(|&b| i64::from(b)).collect();
        let (weight, element) = self.sheet.weights(&format!("{node}_weight"), encoding, dims, &weight);
        let per: Vec<usize> = encoding.is_per_channel().then_some(encoding.scale.len()).into_iter().collect();
        let builder = &mut self.sheet.builder;
        let scale = builder.shared_floats(SCALE, &per, &encoding.scale);
        let zero_point = builder.shared_integers(ZERO_POINT, element, &per, &zero_points);
        let bias = builder.integers(&format!("{node}_bias"), Element::I32, &[bias.len()], &bias);
        Ok([weight, scale, zero_point, bias])
    }
}

/// Integers and dims of the weights of a convolution or dense layer; `None` for all other nodes.
pub(super) fn layer(node: &Node) -> Result<Option<(&Integers, Vec<usize>)>, WriteError> {
    let (integers, dims) = match &node.op {
        Op::Conv2d(conv) => {
            let [r, s] = conv.window.kernel;
            (&conv.integers, vec![conv.out_channels, conv.weight.len() / (conv.out_channels * r * s), r, s])
        }
        Op::Dense(dense) => (&dense.integers, vec![dense.out_features, dense.weight.len() / dense.out_features]),
        _ => return Ok(None),
    };
    let missing = || WriteError::Node { node: node.name.clone(), reason: "has no integer weights".into() };
    Ok(Some((integers.as_ref().ok_or_else(missing)?, dims)))
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
