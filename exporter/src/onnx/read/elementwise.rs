//! Operators that work element by element, and Pad. Enters: activation functions, Mul, Sub, Div, Min and Max, an Add of what is
//! no bias. Leaves: a `Function`, `Mul`, `Clamp` or `Pad`; a factor and a shift for each channel become a `BatchNorm`, which
//! folds into the layer before it. Refuses: constants that differ within a channel, pads other than zeros (and than what no
//! maximum sees) around height and width.
//!
//! What exporters write in pieces is put together again: `x * Sigmoid(x)`, `x * HardSigmoid(x)`, and HardSigmoid as Add, Clip
//! and Mul. In pieces each would be rounded to 8 bits.

use std::rc::Rc;

use tract_onnx::pb::NodeProto;

use super::file::{floats, integers};
use super::import::{Activation, Fault, Form, Import, Value, attributes};
use super::layout::Layout;
use super::parameters::{Layer, Parameter};
use crate::network::{BatchNorm, Conv2d, Function, NodeId, Op, Pool, TensorId, Window};

impl<'m> Import<'m> {
    /// An activation function.
    pub(super) fn function(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let function = match node.op_type.as_str() {
            "LeakyRelu" => Function::LeakyRelu { alpha: a.float("alpha", 0.01) },
            "Sigmoid" => Function::Sigmoid,
            "HardSigmoid" => Function::HardSigmoid { alpha: a.float("alpha", 0.2), beta: a.float("beta", 0.5) },
            "HardSwish" => Function::HardSwish,
            _ => Function::Tanh,
        };
        let x = self.activation(node, 0)?;
        self.computed(node, Op::Function(function), &[x])
    }

    /// Mul, Sub, Div, and Add of a constant that is no bias: with a constant, of two activations (Mul only), or of two
    /// constants.
    pub(super) fn arithmetic(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let is_constant = |i| matches!(self.input(node, i), Some(Value::Constant(_) | Value::Stored(_)));
        match (node.op_type.as_str(), is_constant(0), is_constant(1)) {
            (_, true, true) => self.constant_arithmetic(node),
            ("Mul", false, false) => {
                let inputs = [self.activation(node, 0)?, self.activation(node, 1)?];
                self.multiply(node, inputs)
            }
            ("Mul" | "Add", first, _) => self.affine(node, usize::from(!first)),
            ("Sub" | "Div", false, true) => self.affine(node, 1),
            ("Sub", true, false) => self.affine(node, 0),
            (op, ..) => {
                Err(format!("{op} of two activations, or of a constant by one, has no integer form here").into())
            }
        }
    }

    fn multiply(&mut self, node: &'m NodeProto, inputs: [Activation; 2]) -> Result<Value<'m>, Fault> {
        if let Some(value) = self.swish(node, inputs) {
            return Ok(value);
        }
        let [a, b] = inputs;
        let gate = |x: Activation, of: Activation| self.shape(x).pixels() == 1 && self.shape(of).pixels() > 1;
        let inputs = if gate(a, b) { [b, a] } else { [a, b] };
        if a.layout != b.layout {
            return Err(format!("multiplies {} and {}", a.layout, b.layout).into());
        }
        self.computed(node, Op::Mul, &inputs)
    }

    /// `x * Sigmoid(x)` and `x * HardSigmoid(x)`, where nobody else reads the function's value.
    fn swish(&mut self, node: &'m NodeProto, inputs: [Activation; 2]) -> Option<Value<'m>> {
        for (x, y) in [(inputs[0], inputs[1]), (inputs[1], inputs[0])] {
            let Some(producer) = self.alone(y) else { continue };
            let function = match self.network.nodes[producer].op {
                Op::Function(Function::Sigmoid) => Function::Silu,
                Op::Function(Function::HardSigmoid { alpha, beta: 0.5 }) if (alpha * 6.0 - 1.0).abs() < 1e-6 => {
                    Function::HardSwish
                }
                _ => continue,
            };
            if self.network.nodes[producer].inputs == [x.tensor] && x.layout == y.layout {
                self.replace(node, producer, Op::Function(function));
                return Some(Value::Activation(y));
            }
        }
        None
    }

    /// The node that gives `x`, if only one node reads it, in floats.
    fn alone(&self, x: Activation) -> Option<NodeId> {
        let tensor = &self.network.tensors[x.tensor];
        let read_once = self.readers.get(tensor.name.as_str()).is_some_and(|readers| readers.len() == 1)
            && self.graph.output.iter().all(|output| output.name != tensor.name);
        // Every node is followed by the one tensor that it writes: tensor 0 is the input.
        x.tensor.checked_sub(1).filter(|_| read_once && x.form == Form::Real && tensor.encoding.is_none())
    }

    /// Lets node `id` compute what `node` does.
    fn replace(&mut self, node: &'m NodeProto, id: NodeId, op: Op) {
        let name = self.names.unused(super::file::node_name(node));
        let replaced = &mut self.network.nodes[id];
        (replaced.op, replaced.name) = (op, name);
        let output = replaced.output;
        if let Some(name) = node.output.first() {
            self.network.tensors[output].name.clone_from(name);
        }
    }

    /// `x * factor + shift`, one operator of it, with the constant at input `constant`.
    fn affine(&mut self, node: &'m NodeProto, constant: usize) -> Result<Value<'m>, Fault> {
        let x = self.activation(node, 1 - constant)?;
        if let Some(Value::Stored(_)) = self.input(node, constant) {
            return self.multiply_stored(node, x, constant);
        }
        let values = self.by_channel(node, constant, x)?;
        let (zeros, ones) = (vec![0.0; values.len()], vec![1.0; values.len()]);
        let negative = |values: &[f32]| values.iter().map(|v| -v).collect::<Vec<f32>>();
        let (gamma, beta) = match (node.op_type.as_str(), constant) {
            ("Mul", _) => (values, zeros),
            ("Div", _) => (values.iter().map(|v| 1.0 / v).collect(), zeros),
            ("Sub", 0) => (negative(&ones), values),
            ("Sub", _) => (ones, negative(&values)),
            _ => (ones, values),
        };
        if let Some(value) = self.hard_sigmoid(node, x, &gamma, &beta) {
            return Ok(value);
        }
        let (mean, variance) = (vec![0.0; gamma.len()], vec![0.0; gamma.len()]);
        // A deviation of sqrt(0 + 1), exactly 1.
        self.computed(node, Op::BatchNorm(BatchNorm { gamma, beta, mean, variance, epsilon: 1.0 }), &[x])
    }

    /// A factor behind a Clip from 0 behind an Add: HardSigmoid, if it reaches 1.
    fn hard_sigmoid(&mut self, node: &'m NodeProto, x: Activation, gamma: &[f32], beta: &[f32]) -> Option<Value<'m>> {
        let uniform = |values: &[f32]| values.first().copied().filter(|first| values.iter().all(|v| v == first));
        let (alpha, 0.0) = (uniform(gamma)?, uniform(beta)?) else { return None };
        let clip = self.alone(x)?;
        let Op::Clamp { min: 0.0, max } = self.network.nodes[clip].op else { return None };
        let shifted = self.network.nodes[clip].inputs[0];
        let add = self.alone(Activation { tensor: shifted, form: Form::Real, ..x })?;
        let Op::BatchNorm(BatchNorm { gamma: factor, beta: shift, epsilon: 1.0, .. }) = &self.network.nodes[add].op
        else {
            return None;
        };
        let (1.0, shift) = (uniform(factor)?, uniform(shift)?) else { return None };
        if (alpha * max - 1.0).abs() > 1e-6 {
            return None;
        }
        let read = self.network.nodes[add].inputs.clone();
        // The usual 1/6 and 1/2 exactly, however the file has rounded the product.
        let beta = if (alpha * shift - 0.5).abs() < 1e-6 { 0.5 } else { alpha * shift };
        self.replace(node, clip, Op::Function(Function::HardSigmoid { alpha, beta }));
        self.network.nodes[clip].inputs = read;
        self.superseded.push(shifted);
        Some(Value::Activation(x))
    }

    /// A constant in integers times an activation in integers is a convolution of one pixel, channel by channel.
    fn multiply_stored(&mut self, node: &'m NodeProto, x: Activation, constant: usize) -> Result<Value<'m>, Fault> {
        if node.op_type != "Mul" {
            let reason = "adds or divides by a constant in integers that is no bias; fold it into a layer";
            return Err(reason.into());
        }
        let parameter = self.parameter(node, constant)?.ok_or(Fault::Downstream)?;
        let channels = self.shape(x).c;
        let Parameter::Stored(mut stored) = parameter else { return Err(Fault::Downstream) };
        if stored.scale.len() != 1 {
            return Err(format!("a constant with {} scales, expected one", stored.scale.len()).into());
        }
        self.check_channels(x, &stored.dims, stored.values.len())?;
        if let [value] = stored.values[..] {
            self.charge(channels)?;
            stored.values = Rc::new(vec![value; channels]);
        }
        stored.dims = vec![channels, 1, 1, 1];
        let Layer { weight, bias, integers } = self.layer(node, x, Parameter::Stored(stored), None)?;
        let window = Window::square(1, 1, 0);
        let conv = Conv2d { weight, bias, out_channels: channels, window, groups: channels, integers };
        self.computed(node, Op::Conv2d(conv), &[x])
    }

    /// Input `i`, a constant, as one value for each channel of `x`.
    fn by_channel(&mut self, node: &'m NodeProto, i: usize, x: Activation) -> Result<Vec<f32>, Fault> {
        if x.form != Form::Real {
            return Err("its constant is float, though its input is quantized; quantize it too".into());
        }
        let channels = self.shape(x).c;
        let Some(Parameter::Float { dims, values }) = self.parameter(node, i)? else { return Err(Fault::Downstream) };
        self.check_channels(x, &dims, values.len())?;
        self.charge(channels)?;
        Ok(if let [value] = values[..] { vec![value; channels] } else { values })
    }

    /// Whether a constant of these dims has one value, or one for each channel of `x`.
    fn check_channels(&self, x: Activation, dims: &[usize], len: usize) -> Result<(), Fault> {
        let shape = self.shape(x);
        let behind = match x.layout {
            Layout::Nchw => 2,
            Layout::Vector if shape.pixels() > 1 => usize::MAX,
            Layout::VectorOfNhwc(_) => usize::MAX,
            Layout::Nhwc | Layout::Vector => 0,
        };
        // Where the channels are, counted from the last axis.
        let fits = dims.len().checked_sub(1).and_then(|last| last.checked_sub(behind)).map(|at| dims[at]);
        if len == 1 || (len == shape.c && fits == Some(len)) {
            return Ok(());
        }
        Err(format!(
            "a constant of dims {dims:?} and {} of {shape}; expected one value, or one for each channel",
            x.layout
        )
        .into())
    }

    /// Min and Max of an activation and one number.
    pub(super) fn min_max(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let constant = if self.is_constant(node, 0) { 0 } else { 1 };
        let (x, Some(Value::Constant(limit)), 2) =
            (self.activation(node, 1 - constant)?, self.input(node, constant), node.input.len())
        else {
            return Err("only an activation and one number are supported".into());
        };
        let (&[limit], true) = (&floats(limit)?[..], x.form == Form::Real) else {
            return Err("only floats, and one number as the limit, are supported".into());
        };
        let (min, max) = if node.op_type == "Min" { (f32::NEG_INFINITY, limit) } else { (limit, f32::INFINITY) };
        if !limit.is_finite() {
            return Err(format!("limit {limit}").into());
        }
        self.computed(node, Op::Clamp { min, max }, &[x])
    }

    pub(super) fn pad(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let mode = a.string("mode", "constant");
        if mode != "constant" {
            return Err(format!("mode {mode:?}; only zeros around the image are supported (mode \"constant\")").into());
        }
        let x = self.activation(node, 0)?;
        let rank = if matches!(x.layout, Layout::Nchw | Layout::Nhwc) { 4 } else { 2 };
        let constant = |import: &Self, i: usize| match import.input(node, i) {
            None => Ok(None),
            Some(Value::Constant(constant)) => Ok(Some(constant.clone())),
            _ => Err(Fault::from(format!("input {i} is computed; export with static pads"))),
        };
        // Until opset 11 all are attributes.
        let (pads, value) = if self.opset < 11 {
            (a.ints("pads").unwrap_or_default().to_vec(), Some(a.float("value", 0.0)))
        } else {
            let pads = constant(self, 1)?.ok_or_else(|| Fault::Damaged("its pads are missing".into()))?;
            (integers(&pads)?, self.pad_value(node, x)?)
        };
        let axes = match constant(self, 3)? {
            Some(axes) => integers(&axes)?.into_iter().map(|axis| x.layout.axis(axis)).collect(),
            None => (0..rank).collect::<Vec<i64>>(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(Fault::Damaged(format!("{} pads for {} axes", pads.len(), axes.len())));
        }
        let mut padding = [0; 4];
        for (i, &axis) in axes.iter().chain(&axes).enumerate() {
            let place = match (x.layout, axis) {
                (Layout::Nchw, 2 | 3) => Some(axis - 2),
                (Layout::Nhwc, 1 | 2) => Some(axis - 1),
                _ => None,
            };
            let extent = usize::try_from(pads[i]).ok().filter(|&extent| extent <= usize::from(u16::MAX));
            match (place, extent) {
                (_, Some(0)) => {}
                (Some(place), Some(extent)) => padding[place as usize + if i < axes.len() { 0 } else { 2 }] = extent,
                _ => {
                    let reason = "expected zeros around height and width only";
                    return Err(format!("pads {pads:?} along axes {axes:?} of {}; {reason}", x.layout).into());
                }
            }
        }
        if padding == [0; 4] {
            return Ok(Value::Activation(x));
        }
        match value {
            Some(0.0) => {
                let tensor = self.push(node, Op::Pad { padding }, &[x])?;
                let form = self.keep_encoding(x, tensor);
                Ok(Value::Activation(Activation { tensor, form, ..x }))
            }
            Some(value) if value <= f32::MIN && x.layout == Layout::Nchw => self.pad_pool(node, x, padding),
            Some(value) => Err(format!("pads with {value}, expected 0").into()),
            None => Err("pads integers with something else than their zero point".into()),
        }
    }

    /// What is put around the image, as a float; `None` for integers that are not the zero point.
    fn pad_value(&self, node: &'m NodeProto, x: Activation) -> Result<Option<f32>, Fault> {
        let value = match self.input(node, 2) {
            None => Value::Missing,
            Some(Value::Constant(constant)) => Value::Constant(constant.clone()),
            Some(Value::Stored(stored)) => match (&stored.values[..], &stored.zero_point[..]) {
                ([value], [zero_point]) if value == zero_point => return Ok(Some(0.0)),
                _ => return Err("pads with another value than 0".into()),
            },
            _ => return Err("pads with a value that is computed".into()),
        };
        match (value, x.form) {
            (Value::Constant(constant), Form::Integers) => {
                let zero_point = self.network.tensors[x.tensor].encoding.as_ref().map(|e| i64::from(e.zero_point[0]));
                Ok((integers(&constant)?.first().copied() == zero_point).then_some(0.0))
            }
            (Value::Constant(constant), _) => Ok(floats(&constant)?.first().copied()),
            // Left out it is 0, which for integers is the zero point only if that is 0.
            (_, Form::Integers) => {
                let encoding = self.network.tensors[x.tensor].encoding.as_ref();
                Ok(encoding.is_some_and(|e| e.zero_point[0] == 0).then_some(0.0))
            }
            _ => Ok(Some(0.0)),
        }
    }

    /// Padding that no maximum sees belongs to the MaxPool behind it.
    fn pad_pool(&mut self, node: &'m NodeProto, x: Activation, padding: [usize; 4]) -> Result<Value<'m>, Fault> {
        let Some(output) = node.output.first() else { return Err(Fault::Downstream) };
        let readers = self.readers.get(output.as_str()).map_or(&[][..], Vec::as_slice);
        if readers.is_empty() || readers.iter().any(|reader| reader.op_type != "MaxPool") {
            return Err("pads with the least value before something else than MaxPool".into());
        }
        self.pool_padding.insert(output, padding);
        Ok(Value::Activation(x))
    }

    /// Maximum over the whole image.
    pub(super) fn global_max_pool(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let x = self.image(node, 0)?;
        let shape = self.shape(x);
        let window = Window { kernel: [shape.h, shape.w], ..Window::square(1, 1, 0) };
        let tensor: TensorId = self.push(node, Op::MaxPool(Pool { window }), &[x])?;
        let form = self.keep_encoding(x, tensor);
        Ok(Value::Activation(Activation { tensor, form, ..x }))
    }
}
