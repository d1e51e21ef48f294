//! The operators that compute, other than convolutions and dense layers. Enters: their attributes and inputs. Leaves: one
//! node of the network each. Refuses: attributes that mean something else than [`Op`] does, with what was found.

use std::borrow::Cow;

use tract_onnx::pb::{NodeProto, TensorProto};

use super::file::{Attributes, FLOAT, INT64, floats, node_name};
use super::import::{Activation, Fault, Form, Import, Value, attributes};
use super::layout::Layout;
use crate::network::{BatchNorm, Op, Pool, Window};

/// Beyond this a window is a damaged file.
const MAX_WINDOW: i64 = 65_535;

/// What a node says about its window; `auto_pad` is only known with the input.
pub(super) struct WindowAttributes {
    kernel: Option<[usize; 2]>,
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
    /// Missing pixels go after the image (`SAME_UPPER`) or before it (`SAME_LOWER`).
    same: Option<bool>,
}

impl WindowAttributes {
    pub(super) fn read(attributes: &Attributes) -> Result<Self, Fault> {
        fn list<const N: usize>(attributes: &Attributes, name: &str, least: i64) -> Result<Option<[usize; N]>, Fault> {
            let Some(values) = attributes.ints(name) else { return Ok(None) };
            let fits = values.len() == N && values.iter().all(|v| (least..=MAX_WINDOW).contains(v));
            if !fits {
                return Err(
                    format!("{name} {values:?}; expected {N} numbers from {least} up, for two dimensions").into()
                );
            }
            Ok(Some(std::array::from_fn(|i| values[i] as usize)))
        }
        let same = match attributes.string("auto_pad", "NOTSET") {
            "" | "NOTSET" | "VALID" => None,
            "SAME_UPPER" => Some(true),
            "SAME_LOWER" => Some(false),
            other => return Err(format!("auto_pad {other:?}").into()),
        };
        Ok(Self {
            kernel: list(attributes, "kernel_shape", 1)?,
            stride: list(attributes, "strides", 1)?.unwrap_or([1; 2]),
            padding: list(attributes, "pads", 0)?.unwrap_or([0; 4]),
            dilation: list(attributes, "dilations", 1)?.unwrap_or([1; 2]),
            same,
        })
    }

    /// The window on an input of `h w`; `kernel` is that of the weights, if there are any.
    pub(super) fn window(&self, h: usize, w: usize, kernel: Option<[usize; 2]>) -> Result<Window, Fault> {
        let kernel = match (self.kernel, kernel) {
            (Some(stated), Some(found)) if stated != found => {
                return Err(format!("kernel_shape {stated:?}, but weights of {found:?}").into());
            }
            (Some(kernel), _) | (None, Some(kernel)) => kernel,
            (None, None) => return Err(Fault::Damaged("kernel_shape is missing".into())),
        };
        if kernel.iter().any(|&k| k as i64 > MAX_WINDOW) {
            return Err(format!("a kernel of {kernel:?}").into());
        }
        let mut padding = self.padding;
        if let Some(upper) = self.same {
            for (i, size) in [h, w].into_iter().enumerate() {
                let reach = (kernel[i] - 1) * self.dilation[i] + 1;
                let covered = (size.div_ceil(self.stride[i]).max(1) - 1) * self.stride[i] + reach;
                let missing = covered.saturating_sub(size);
                let before = if upper { missing / 2 } else { missing.div_ceil(2) };
                (padding[i], padding[i + 2]) = (before, missing - before);
            }
        }
        Ok(Window { kernel, stride: self.stride, padding, dilation: self.dilation })
    }
}

impl<'m> Import<'m> {
    pub(super) fn constant(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        if let Some(tensor) = a.find("value").and_then(|v| v.t.as_ref()) {
            return Ok(Value::Constant(Cow::Borrowed(tensor)));
        }
        let (data_type, dims, float_data, int64_data) = if let Some(v) = a.find("value_float") {
            (FLOAT, vec![], vec![v.f], vec![])
        } else if let Some(v) = a.find("value_int") {
            (INT64, vec![], vec![], vec![v.i])
        } else if let Some(v) = a.find("value_floats") {
            (FLOAT, vec![v.floats.len() as i64], v.floats.clone(), vec![])
        } else if let Some(v) = a.find("value_ints") {
            (INT64, vec![v.ints.len() as i64], vec![], v.ints.clone())
        } else {
            return Err("only dense tensors and numbers are supported".into());
        };
        let name = node_name(node).to_string();
        Ok(Value::Constant(Cow::Owned(TensorProto {
            name,
            data_type,
            dims,
            float_data,
            int64_data,
            ..Default::default()
        })))
    }

    pub(super) fn pool(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let window = WindowAttributes::read(&a)?;
        if window.dilation != [1, 1] {
            return Err(format!("dilations {:?}, expected 1", window.dilation).into());
        }
        let (ceil, counts_padding) = (a.int("ceil_mode", 0) != 0, a.int("count_include_pad", 0) != 0);
        if a.int("storage_order", 0) != 0 {
            return Err("storage_order is not 0".into());
        }
        let x = self.image(node, 0)?;
        let shape = self.shape(x);
        let mut window = window.window(shape.h, shape.w, None)?;
        if let Some(padding) = node.input.first().and_then(|name| self.pool_padding.get(name.as_str())) {
            window.padding.iter_mut().zip(padding).for_each(|(own, more)| *own += more);
        }
        let stated = window.padding;
        if ceil {
            for (i, size) in [(0, shape.h), (1, shape.w)] {
                // The last window may hang over, if it begins in the image or in the padding before it.
                let (before, stride) = (window.padding[i], window.stride[i]);
                let rest = (size + before + window.padding[i + 2]).checked_sub(window.kernel[i]);
                let last = rest.map_or(0, |rest| rest.div_ceil(stride) * stride);
                if last < size + before {
                    window.padding[i + 2] = (last + window.kernel[i]).saturating_sub(size + before);
                }
            }
        }
        if node.op_type == "MaxPool" {
            let tensor = self.push(node, Op::MaxPool(Pool { window }), &[x])?;
            let form = self.keep_encoding(x, tensor);
            return Ok(Value::Activation(Activation { tensor, form, ..x }));
        }
        if counts_padding && stated != [0; 4] {
            if window.padding != stated {
                return Err("count_include_pad together with ceil_mode, where the last window hangs over".into());
            }
            // Zeros that are counted are pixels.
            let tensor = self.push(node, Op::Pad { padding: stated }, &[x])?;
            let form = self.keep_encoding(x, tensor);
            self.network.tensors[tensor].name.push_str("_padded");
            let window = Window { padding: [0; 4], ..window };
            return self.computed(node, Op::AveragePool(Pool { window }), &[Activation { tensor, form, ..x }]);
        }
        self.computed(node, Op::AveragePool(Pool { window }), &[x])
    }

    pub(super) fn global_average_pool(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let x = self.image(node, 0)?;
        self.computed(node, Op::GlobalAveragePool, &[x])
    }

    /// ReduceMean over height and width: a global average pool.
    pub(super) fn reduce_mean(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let (attribute, keep) = (a.ints("axes"), a.int("keepdims", 1) != 0);
        let x = self.activation(node, 0)?;
        let axes = match (attribute, self.input(node, 1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(Value::Constant(constant))) => super::file::integers(constant)?,
            _ => return Err("the axes are computed or left out; name them".into()),
        };
        let mut sorted: Vec<i64> = axes.iter().map(|&axis| x.layout.axis(axis)).collect();
        sorted.sort_unstable();
        let (pixels, kept) = match x.layout {
            Layout::Nchw => ([2, 3], Layout::Nchw),
            Layout::Nhwc => ([1, 2], Layout::Nhwc),
            _ => return Err(format!("reads {}; only means over height and width are supported", x.layout).into()),
        };
        if sorted != pixels {
            return Err(format!("axes {axes:?} of {}; only means over height and width are supported", x.layout).into());
        }
        let tensor = self.push(node, Op::GlobalAveragePool, &[x])?;
        let layout = if keep { kept } else { Layout::Vector };
        Ok(Value::Activation(Activation { tensor, layout, form: Form::Real }))
    }

    pub(super) fn batch_normalization(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let epsilon = a.float("epsilon", 1e-5);
        if a.int("training_mode", 0) != 0 {
            return Err("training_mode; export for inference".into());
        }
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(format!("epsilon {epsilon}, expected a positive number").into());
        }
        let x = self.activation(node, 0)?;
        if x.layout.channel_axis() != 1 {
            return Err(format!("reads {}, expected the channels behind the batch", x.layout).into());
        }
        let c = self.shape(x).c;
        let [gamma, beta, mean, variance] = [
            self.vector_of(node, 1, c)?,
            self.vector_of(node, 2, c)?,
            self.vector_of(node, 3, c)?,
            self.vector_of(node, 4, c)?,
        ];
        self.computed(node, Op::BatchNorm(BatchNorm { gamma, beta, mean, variance, epsilon }), &[x])
    }

    /// Relu and Clip.
    pub(super) fn clamp(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let x = self.activation(node, 0)?;
        let is_relu = node.op_type == "Relu";
        if x.form == Form::Integers {
            let limit = |i: usize, none: i64| match self.input(node, i) {
                _ if is_relu => Ok(none.max(0)),
                None => Ok(none),
                Some(Value::Constant(constant)) => match super::file::integers(constant)?[..] {
                    [limit] => Ok(limit),
                    _ => Err(Fault::from(format!("limit {i} is no scalar"))),
                },
                _ => Err(Fault::from(format!("limit {i} is computed, expected a constant"))),
            };
            let limits = [limit(1, i64::MIN)?, limit(2, i64::MAX)?];
            return self.clamp_integers(node, x, limits);
        }
        let limit = |i: usize, name: &str, none: f32| match self.input(node, i) {
            _ if is_relu => Ok(none.max(0.0)),
            // Until opset 11 the limits are attributes.
            _ if self.opset < 11 => Ok(a.float(name, none)),
            None => Ok(none),
            Some(Value::Constant(constant)) => match floats(constant)?[..] {
                [limit] => Ok(limit),
                _ => Err(Fault::from(format!("`{name}` is no scalar"))),
            },
            _ => Err(Fault::from(format!("`{name}` is computed, expected a constant"))),
        };
        let (mut min, mut max) = (limit(1, "min", f32::NEG_INFINITY)?, limit(2, "max", f32::INFINITY)?);
        // The ends of f32 are how some exporters write "no limit".
        if min == f32::MIN {
            min = f32::NEG_INFINITY;
        }
        if max == f32::MAX {
            max = f32::INFINITY;
        }
        if min.is_nan() || max.is_nan() || min >= max {
            return Err(format!("limits {min}..{max}").into());
        }
        if (min, max) == (f32::NEG_INFINITY, f32::INFINITY) {
            return Ok(Value::Activation(x));
        }
        let tensor = self.push(node, Op::Clamp { min, max }, &[x])?;
        Ok(Value::Activation(Activation { tensor, form: Form::Real, ..x }))
    }

    pub(super) fn concat(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let axis = attributes(node).int("axis", 1);
        let inputs = (0..node.input.len()).map(|i| self.activation(node, i)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = inputs.first() else { return Err(Fault::Damaged("it has no input".into())) };
        let layout = first.layout;
        if inputs.iter().any(|x| x.layout != layout) || matches!(layout, Layout::VectorOfNhwc(_)) {
            return Err("its inputs differ in the order of their axes".into());
        }
        if layout.axis(axis) != layout.channel_axis() {
            return Err(format!("axis {axis} of {layout}; only channels can be put together").into());
        }
        self.computed(node, Op::Concat, &inputs)
    }

    /// Add of two activations; a constant becomes the bias of the layer before.
    pub(super) fn add(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let is_constant = |i| matches!(self.input(node, i), Some(Value::Constant(_) | Value::Stored(_)));
        match (is_constant(0), is_constant(1)) {
            (true, true) => return self.arithmetic(node),
            (false, false) => {}
            (first, _) => {
                let constant = usize::from(!first);
                let x = self.activation(node, 1 - constant)?;
                return match self.takes_bias(node, x, constant) {
                    true => self.add_bias(node, x, constant),
                    false => self.arithmetic(node),
                };
            }
        }
        let inputs = [self.activation(node, 0)?, self.activation(node, 1)?];
        if inputs[0].layout != inputs[1].layout {
            return Err(format!("adds {} and {}", inputs[0].layout, inputs[1].layout).into());
        }
        self.computed(node, Op::Add, &inputs)
    }

    /// Softmax over channels. At the end and not quantized it is left out unless it was asked for: the network ends with the logits.
    /// So is a LogSoftmax.
    pub(super) fn softmax(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        // That of a quantized operator says whose Softmax it is.
        let opset = a.int("opset", self.opset);
        let axis = a.int("axis", if opset < 13 { 1 } else { -1 });
        let x = self.activation(node, 0)?;
        let (layout, one) = (x.layout, self.shape(x).pixels() == 1);
        // Until opset 12 over all axes from this one on.
        let classes = match layout {
            Layout::Nhwc if opset < 13 && one => (1..=3).contains(&layout.axis(axis)),
            Layout::Nchw if opset < 13 => one && layout.axis(axis) == 1,
            Layout::Vector | Layout::VectorOfNhwc(_) if !one => false,
            _ => layout.axis(axis) == layout.channel_axis(),
        };
        if !classes {
            return Err(
                format!("axis {axis} of {layout} {}; only over classes, that is channels", self.shape(x)).into()
            );
        }
        if node.op_type == "Softmax" && (self.keep_softmax || !self.ends(node)) {
            return self.computed(node, Op::Softmax, &[x]);
        }
        let (name, op) = (node_name(node), &node.op_type);
        self.notes.push(format!("`{name}` ({op}) is left out: the network ends with the logits"));
        Ok(Value::Tail(x))
    }

    /// Whether nobody reads what `node` gives but the graph's output, under whatever name.
    fn ends(&self, node: &NodeProto) -> bool {
        let readers = node.output.first().and_then(|output| self.readers.get(output.as_str()));
        readers.into_iter().flatten().all(|reader| matches!(reader.op_type.as_str(), "Dropout" | "Identity"))
    }

    /// A node whose output is computed anew, in the layout of its first input.
    pub(super) fn computed(&mut self, node: &'m NodeProto, op: Op, inputs: &[Activation]) -> Result<Value<'m>, Fault> {
        let tensor = self.push(node, op, inputs)?;
        let layout = inputs.first().map_or(Layout::Nchw, |x| x.layout);
        Ok(Value::Activation(Activation { tensor, layout, form: Form::Real }))
    }
}
