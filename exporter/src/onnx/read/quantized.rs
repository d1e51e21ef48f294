//! QuantizeLinear, DequantizeLinear (opset 10 to 25) and Clip of integers. Enters: their scales and zero points. Leaves:
//! encodings of tensors, constants of integers, and a Clamp where a tensor goes from one encoding to another. Refuses:
//! types other than 8, 4 and 2 bit (bias: 32 bit), blocks, scales that are computed or differ by channel of an activation, and
//! files that quantize in parts only.

use std::rc::Rc;

use tract_onnx::pb::NodeProto;

use super::file::{FLOAT, INT8, INT32, UINT8, dims, floats, integers, node_name, type_name, width};
use super::import::{Activation, Fault, Form, Import, Value, attributes};
use super::parameters::{Stored, stored_values};
use crate::network::{Encoding, Op, TensorId};
use crate::onnx::{Finding, QUANTIZED};

/// Scale and zero point of a node, as they are in the file.
struct Scales {
    scale: Vec<f32>,
    /// As many as there are scales.
    zero_point: Vec<i32>,
    /// Type of the zero point; `None` where it is left out.
    data_type: Option<i32>,
}

impl Scales {
    /// As the encoding of an activation.
    fn encoding(&self, data_type: i32) -> Result<Encoding, Fault> {
        let (bits, signed) = expect_width(data_type)?;
        match (&self.scale[..], &self.zero_point[..]) {
            (&[scale], &[zero_point]) => Ok(Encoding::per_tensor(bits, signed, scale, zero_point)),
            _ => Err(format!("{} scales for an activation, expected one", self.scale.len()).into()),
        }
    }
}

impl<'m> Import<'m> {
    pub(super) fn quantize_linear(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        check_attributes(node)?;
        let axis = attributes(node).int("axis", 1);
        let scales = self.scales(node)?;
        let data_type = scales.data_type.unwrap_or(UINT8);
        if let Some(Value::Constant(_)) = self.input(node, 0) {
            return self.quantize_constant(node, scales, data_type, axis);
        }
        if let Some(Value::Tail(x)) = self.input(node, 0) {
            return Ok(Value::Tail(*x));
        }
        let x = self.activation(node, 0)?;
        let encoding = scales.encoding(data_type)?;
        let tensor = &mut self.network.tensors[x.tensor];
        let tensor = match (&tensor.encoding, x.form) {
            (_, Form::Integers) => return Err("its input is integers already".into()),
            // What is in a narrower encoding stays in it.
            (Some(found), Form::Dequantized) if is_within(found, &encoding) => {
                // Behind an op that keeps its encoding; anything else here is another name for the same integers.
                if node.input.first() == Some(&tensor.name) {
                    self.name_integers(x.tensor, node);
                }
                x.tensor
            }
            (Some(found), Form::Real) if *found == encoding => x.tensor,
            (Some(found), Form::Real) => {
                let (name, found) = (&tensor.name, found.clone());
                return Err(format!("`{name}` is quantized twice: as {found:?} and as {encoding:?}").into());
            }
            (None, _) => {
                tensor.encoding = Some(encoding);
                self.name_integers(x.tensor, node);
                self.fresh.extend(node.output.first().map(String::as_str));
                x.tensor
            }
            (Some(_), Form::Dequantized) => {
                self.fresh.extend(node.output.first().map(String::as_str));
                self.push_requantization(node, x, encoding)?
            }
        };
        Ok(Value::Activation(Activation { tensor, form: Form::Integers, ..x }))
    }

    pub(super) fn dequantize_linear(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        check_attributes(node)?;
        let axis = attributes(node).int("axis", 1);
        match self.input(node, 0) {
            Some(Value::Tail(x)) => return Ok(Value::Tail(*x)),
            Some(Value::Stored(stored)) => {
                return match stored.dequantized {
                    false => Ok(Value::Stored(Stored { dequantized: true, ..stored.clone() })),
                    true => Err("its input is dequantized already".into()),
                };
            }
            Some(Value::Constant(constant)) => {
                let (data_type, dims) = (constant.data_type, dims(constant));
                let all = width(data_type).map(|(bits, _)| bits);
                let Some(all) = all.or((data_type == INT32).then_some(32)) else {
                    return Err(format!("type {}, expected INT32, or 8, 4 or 2 bit", type_name(data_type)).into());
                };
                let bits =
                    node.input.first().and_then(|name| self.used_bits.get(name.as_str())).copied().unwrap_or(all);
                let values = Rc::new(stored_values(constant)?);
                self.charge(values.len())?;
                let Scales { scale, zero_point, data_type: declared } = self.scales(node)?;
                if declared.is_some_and(|d| d != data_type) {
                    return Err(Fault::Damaged("its zero point and its input differ in type".into()));
                }
                let axis = along(axis, &dims, scale.len())?;
                return Ok(Value::Stored(Stored {
                    dims,
                    values,
                    data_type,
                    bits,
                    scale,
                    zero_point,
                    axis,
                    dequantized: true,
                }));
            }
            _ => {}
        }
        let x = self.activation(node, 0)?;
        if x.form != Form::Integers {
            return Err("its input is no integers".into());
        }
        let scales = self.scales(node)?;
        let tensor = &mut self.network.tensors[x.tensor];
        // The graph's own input has no encoding until here.
        let known = match &tensor.encoding {
            Some(encoding) if encoding.signed => INT8,
            Some(_) => UINT8,
            None => self.input_type,
        };
        let data_type = scales.data_type.unwrap_or(known);
        if width(data_type).map(|(_, signed)| signed) != width(known).map(|(_, signed)| signed) {
            return Err(Fault::Damaged("its zero point and its input differ in type".into()));
        }
        let encoding = scales.encoding(data_type)?;
        match &tensor.encoding {
            Some(found) if is_within(found, &encoding) => {}
            Some(found) => {
                let name = &tensor.name;
                return Err(format!("`{name}` was quantized as {found:?} and is dequantized as {encoding:?}").into());
            }
            None => tensor.encoding = Some(encoding),
        }
        Ok(Value::Activation(Activation { form: Form::Dequantized, ..x }))
    }

    /// QuantizeLinear of float weights, as files have it that come out of quantization-aware training.
    fn quantize_constant(
        &mut self,
        node: &'m NodeProto,
        scales: Scales,
        data_type: i32,
        axis: i64,
    ) -> Result<Value<'m>, Fault> {
        let Some(Value::Constant(constant)) = self.input(node, 0) else { return Err(Fault::Downstream) };
        let (dims, floats) = (dims(constant), floats(constant)?);
        let (bits, signed) = expect_width(data_type)?;
        self.charge(floats.len())?;
        let Scales { scale, zero_point, .. } = scales;
        let axis = along(axis, &dims, scale.len())?;
        let encoding = Encoding { bits, signed, scale, zero_point };
        // Elements that share an index of `axis` lie `inner` at a time, `channels` times, again and again.
        let inner: usize = dims.iter().skip(axis + 1).product();
        let channels = encoding.scale.len();
        let quantize = |(i, &v): (usize, &f32)| encoding.quantize(i / inner.max(1) % channels, v);
        let values = Rc::new(floats.iter().enumerate().map(quantize).collect());
        let Encoding { scale, zero_point, .. } = encoding;
        Ok(Value::Stored(Stored { dims, values, data_type, bits, scale, zero_point, axis, dequantized: false }))
    }

    /// Inputs 1 and 2 of QuantizeLinear or DequantizeLinear.
    fn scales(&self, node: &'m NodeProto) -> Result<Scales, Fault> {
        let constant = |i: usize| match self.input(node, i) {
            Some(Value::Constant(constant)) => Ok(Some(constant)),
            Some(Value::Missing) => Err(Fault::Downstream),
            Some(_) => Err(Fault::from(format!("input {i} is computed; scales and zero points must be constants"))),
            None => Ok(None),
        };
        let Some(scale) = constant(1)? else { return Err(Fault::Damaged("its scale is missing".into())) };
        if scale.data_type != FLOAT || scale.dims.len() > 1 {
            let (kind, dims) = (type_name(scale.data_type), &scale.dims);
            return Err(format!("scale of type {kind} and dims {dims:?}; expected FLOAT, a scalar or one axis").into());
        }
        let scale = floats(scale)?;
        if scale.is_empty() {
            return Err(Fault::Damaged("its scale holds no element".into()));
        }
        if let Some(s) = scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(format!("scale {s}, expected a positive number").into());
        }
        let Some(zero_point) = constant(2)? else {
            return Ok(Scales { zero_point: vec![0; scale.len()], scale, data_type: None });
        };
        let data_type = zero_point.data_type;
        if data_type != INT32 {
            expect_width(data_type)?;
        }
        let zero_point: Vec<i32> = integers(zero_point)?.into_iter().map(|z| z as i32).collect();
        if zero_point.len() != scale.len() {
            return Err(Fault::Damaged(format!("{} scales and {} zero points", scale.len(), zero_point.len())));
        }
        Ok(Scales { scale, zero_point, data_type: Some(data_type) })
    }

    /// From one encoding to another: a Clamp without limits.
    fn push_requantization(
        &mut self,
        node: &'m NodeProto,
        x: Activation,
        encoding: Encoding,
    ) -> Result<TensorId, Fault> {
        let tensor = self.push(node, Op::Clamp { min: f32::NEG_INFINITY, max: f32::INFINITY }, &[x])?;
        self.network.tensors[tensor].encoding = Some(encoding);
        self.name_integers(tensor, node);
        Ok(tensor)
    }

    /// Names a tensor after its integers, which `node` gives.
    fn name_integers(&mut self, tensor: TensorId, node: &NodeProto) {
        if let (false, Some(output)) = (tensor == self.network.input, node.output.first()) {
            let name = output.strip_suffix(QUANTIZED).filter(|n| !n.is_empty()).unwrap_or(output);
            self.network.tensors[tensor].name = name.into();
        }
    }

    /// Clip and Relu of integers: limits in steps instead of values.
    pub(super) fn clamp_integers(
        &mut self,
        node: &'m NodeProto,
        x: Activation,
        limits: [i64; 2],
    ) -> Result<Value<'m>, Fault> {
        let Some(encoding) = self.network.tensors[x.tensor].encoding.clone() else {
            return Err("clips integers whose scale is not known yet".into());
        };
        if let Some(narrow) = self.narrower(node, &encoding, limits) {
            let tensor = x.tensor;
            self.network.tensors[tensor].encoding = Some(narrow);
            self.name_integers(tensor, node);
            // From one encoding to another: the Clip is the last node of the op.
            if let Some(last) = self.network.nodes.last_mut().filter(|last| last.output == tensor)
                && let Op::Clamp { min: f32::NEG_INFINITY, max: f32::INFINITY } = last.op
            {
                last.name = self.names.unused(node_name(node));
            }
            return Ok(Value::Activation(x));
        }
        let (qmin, qmax) = (encoding.qmin(), encoding.qmax());
        let [lo, hi] = limits.map(|l| l.clamp(i64::from(qmin), i64::from(qmax)) as i32);
        // What lies at the limits of the encoding limits nothing. The Clamp stays all the same: an op of its own in a file
        // that was written here is one again.
        let min = if lo == qmin { f32::NEG_INFINITY } else { encoding.dequantize(0, lo) };
        let max = if hi == qmax { f32::INFINITY } else { encoding.dequantize(0, hi) };
        let tensor = self.push(node, Op::Clamp { min, max }, &[Activation { form: Form::Dequantized, ..x }])?;
        self.network.tensors[tensor].encoding = Some(encoding);
        self.name_integers(tensor, node);
        self.integer_clips.push(self.network.nodes.len() - 1);
        Ok(Value::Activation(Activation { tensor, ..x }))
    }

    /// The encoding of fewer bits that a Clip right behind QuantizeLinear makes of `encoding`, if nobody else reads what is
    /// clipped and the limits are that encoding's. (A tensor of 8 bit with just these limits reads the same: its integers
    /// are.)
    fn narrower(&self, node: &NodeProto, encoding: &Encoding, limits: [i64; 2]) -> Option<Encoding> {
        let from = node.input.first()?.as_str();
        let alone = self.readers.get(from).is_some_and(|readers| readers.len() == 1)
            && self.graph.output.iter().all(|output| output.name != from);
        if !alone || !self.fresh.contains(from) {
            return None;
        }
        let zero_point = encoding.zero_point[0];
        (2..encoding.bits).map(|bits| Encoding { bits, ..encoding.clone() }).find(|narrow| {
            let (low, high) = (narrow.qmin(), narrow.qmax());
            [low, high].map(i64::from) == limits && (low..=high).contains(&zero_point)
        })
    }

    /// After the last node of a quantized file: is everything quantized?
    pub(super) fn check_complete(&mut self) {
        let mut found = Vec::new();
        let network = &self.network;
        let mut fault = |place: &str, op: &str, reason: String| {
            found.push(Finding { place: place.into(), op: op.into(), reason });
        };
        for group in network.fused() {
            let (head, tensor) = (&network.nodes[group.head], &network.tensors[group.output]);
            let unquantized = match &head.op {
                Op::Conv2d(conv) => conv.integers.is_none(),
                Op::Dense(dense) => dense.integers.is_none(),
                Op::BatchNorm(_) => true,
                _ => false,
            };
            if unquantized || group.batch_norm.is_some() {
                fault(&head.name, head.op.name(), "computes in float in a quantized file; quantize it too".into());
            } else if tensor.encoding.is_none() {
                let reason = format!("its result `{}` is never quantized; put QuantizeLinear behind it", tensor.name);
                fault(&head.name, head.op.name(), reason);
            }
        }
        for (&tensor, &node) in &self.real_reader {
            let (tensor, node) = (&network.tensors[tensor], &network.nodes[node]);
            if tensor.encoding.is_some() {
                let reason = format!("reads `{}` before its QuantizeLinear, others behind it", tensor.name);
                fault(&node.name, node.op.name(), reason);
            }
        }
        if network.tensors[network.input].encoding.is_none() {
            fault("input", "", format!("`{}` is never quantized", network.tensors[network.input].name));
        }
        self.findings.extend(found);
    }
}

/// Whether everything that `narrow` holds is the same integer in `wide`.
fn is_within(narrow: &Encoding, wide: &Encoding) -> bool {
    narrow.bits <= wide.bits && Encoding { bits: wide.bits, ..narrow.clone() } == *wide
}

/// Bits and signedness of a type for activations and weights.
fn expect_width(data_type: i32) -> Result<(u8, bool), Fault> {
    width(data_type).ok_or_else(|| format!("type {}, expected 8, 4 or 2 bit", type_name(data_type)).into())
}

/// Refuses the attributes of later opsets that change the meaning.
fn check_attributes(node: &NodeProto) -> Result<(), Fault> {
    for name in ["block_size", "output_dtype", "precision"] {
        let value = attributes(node).int(name, 0);
        // An integer output type says what the zero point says, FLOAT what is the default.
        let is_usual = i32::try_from(value).is_ok_and(|value| value == FLOAT || width(value).is_some());
        if value != 0 && !(name == "output_dtype" && is_usual) {
            return Err(format!("attribute {name} = {value} of `{}` is not supported", node_name(node)).into());
        }
    }
    Ok(())
}

/// The axis along which `scales` scales lie; 0 where there is only one.
fn along(axis: i64, dims: &[usize], scales: usize) -> Result<usize, Fault> {
    if scales == 1 {
        return Ok(0);
    }
    let axis = if axis < 0 { axis.saturating_add(dims.len() as i64) } else { axis };
    match usize::try_from(axis) {
        Ok(axis) if dims.get(axis) == Some(&scales) => Ok(axis),
        _ => Err(Fault::Damaged(format!("{scales} scales along axis {axis} of {dims:?}"))),
    }
}
