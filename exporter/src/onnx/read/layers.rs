//! Convolutions and dense layers. Enters: Conv, Gemm, MatMul, and Add of a constant behind one of them. Leaves: `Conv2d` and
//! `Dense` with weights in the network's layout. Refuses: other than two dimensions, computed weights, alpha and beta
//! other than 1.

use tract_onnx::pb::NodeProto;

use super::import::{Activation, Fault, Form, Import, Value, attributes};
use super::layout::Layout;
use super::ops::WindowAttributes;
use super::parameters::{Layer, Parameter};
use crate::network::{Conv2d, Dense, Op};

impl<'m> Import<'m> {
    pub(super) fn conv(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let window = WindowAttributes::read(&a)?;
        let groups = usize::try_from(a.int("group", 1)).unwrap_or(0);
        let x = self.image(node, 0)?;
        let weights = self.parameter(node, 1)?.ok_or_else(|| Fault::Damaged("its weights are missing".into()))?;
        let bias = self.parameter(node, 2)?;
        let shape = self.shape(x);
        let &[out_channels, per_group, r, s] = weights.dims() else {
            return Err(format!("weights of dims {:?}; only two dimensions are supported", weights.dims()).into());
        };
        if per_group.checked_mul(groups) != Some(shape.c) {
            return Err(format!("weights for {per_group} channels in {groups} groups, input of {shape}").into());
        }
        let window = window.window(shape.h, shape.w, Some([r, s]))?;
        let Layer { weight, bias, integers } = self.layer(node, x, weights, bias)?;
        self.computed(node, Op::Conv2d(Conv2d { weight, bias, out_channels, window, groups, integers }), &[x])
    }

    pub(super) fn gemm(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let (alpha, beta) = (a.float("alpha", 1.0), a.float("beta", 1.0));
        if a.int("transA", 0) != 0 {
            return Err("transA is not 0".into());
        }
        let columns_are_outputs = a.int("transB", 0) == 0;
        let x = self.activation(node, 0)?;
        let bias = self.parameter(node, 2)?.map(|bias| bias.times("beta", beta)).transpose()?;
        self.dense(node, x, columns_are_outputs, alpha, bias)
    }

    pub(super) fn mat_mul(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let x = self.activation(node, 0)?;
        self.dense(node, x, true, 1.0, None)
    }

    fn dense(
        &mut self,
        node: &'m NodeProto,
        x: Activation,
        columns_are_outputs: bool,
        alpha: f32,
        bias: Option<Parameter>,
    ) -> Result<Value<'m>, Fault> {
        let mut weights = self.parameter(node, 1)?.ok_or_else(|| Fault::Damaged("its weights are missing".into()))?;
        let dims = weights.dims().to_vec();
        if dims.len() != 2 {
            return Err(format!("weights of dims {dims:?}, expected a matrix").into());
        }
        weights = weights.times("alpha", alpha)?;
        if columns_are_outputs {
            weights = weights.transposed();
        }
        let (out_features, features) = (weights.dims()[0], weights.dims()[1]);
        let shape = self.shape(x);
        if features != shape.len() {
            return Err(format!("weights of dims {dims:?} for {} inputs", shape.len()).into());
        }
        match x.layout {
            Layout::Vector => {}
            Layout::VectorOfNhwc(image) => {
                let place = |c: usize, pixel: usize| pixel * image.c + c;
                let order: Vec<usize> =
                    (0..image.c).flat_map(|c| (0..image.pixels()).map(move |pixel| place(c, pixel))).collect();
                weights = weights.with_columns(&order);
            }
            layout => return Err(format!("reads {layout}, expected a vector; put Flatten before it").into()),
        }
        let Layer { weight, bias, integers } = self.layer(node, x, weights, bias)?;
        let tensor = self.push(node, Op::Dense(Dense { weight, bias, out_features, integers }), &[x])?;
        Ok(Value::Activation(Activation { tensor, layout: Layout::Vector, form: Form::Real }))
    }

    /// Whether an Add of a constant is the bias of the layer right before it.
    pub(super) fn takes_bias(&self, node: &'m NodeProto, x: Activation, constant: usize) -> bool {
        let len = match self.input(node, constant) {
            Some(Value::Constant(constant)) => super::file::dims(constant).iter().product(),
            Some(Value::Stored(stored)) => stored.values.len(),
            _ => return false,
        };
        let read_once = self.readers.get(node.input[1 - constant].as_str()).is_some_and(|r| r.len() == 1);
        let Some(producer) = x.tensor.checked_sub(1).filter(|_| read_once && x.form == Form::Real) else {
            return false;
        };
        match &self.network.nodes[producer].op {
            Op::Conv2d(c) => c.bias.is_none() && c.out_channels == len,
            Op::Dense(d) => d.bias.is_none() && d.out_features == len,
            _ => false,
        }
    }

    /// Add of a constant: the bias of the layer right before it, which must have none yet.
    pub(super) fn add_bias(&mut self, node: &'m NodeProto, x: Activation, constant: usize) -> Result<Value<'m>, Fault> {
        let alone =
            || Fault::from("adds a constant to something else than a layer without bias that nobody else reads");
        let read_once = self.readers.get(node.input[1 - constant].as_str()).is_some_and(|r| r.len() == 1);
        // Every node is followed by the one tensor that it writes: tensor 0 is the input.
        let producer = x.tensor.checked_sub(1).filter(|_| read_once && x.form == Form::Real).ok_or_else(alone)?;
        let source = self.network.nodes[producer].inputs[0];
        let (weight, integers, existing, channels) = match &mut self.network.nodes[producer].op {
            Op::Conv2d(c) => (&mut c.weight, &mut c.integers, &c.bias, c.out_channels),
            Op::Dense(d) => (&mut d.weight, &mut d.integers, &d.bias, d.out_features),
            _ => return Err(alone()),
        };
        if existing.is_some() {
            return Err(alone());
        }
        let mut layer = Layer { weight: std::mem::take(weight), bias: None, integers: integers.take() };
        let result = self.bias_of(node, constant, x, source, channels, &mut layer);
        match &mut self.network.nodes[producer].op {
            Op::Conv2d(c) => (c.weight, c.bias, c.integers) = (layer.weight, layer.bias, layer.integers),
            Op::Dense(d) => (d.weight, d.bias, d.integers) = (layer.weight, layer.bias, layer.integers),
            _ => {}
        }
        result?;
        if let Some(output) = node.output.first() {
            self.network.tensors[x.tensor].name.clone_from(output);
        }
        Ok(Value::Activation(x))
    }

    /// Reads the constant and gives it to `layer`, which reads `source` and writes `x`.
    fn bias_of(
        &mut self,
        node: &'m NodeProto,
        constant: usize,
        x: Activation,
        source: usize,
        channels: usize,
        layer: &mut Layer,
    ) -> Result<(), Fault> {
        let bias = self.parameter(node, constant)?.ok_or(Fault::Downstream)?;
        // One value for each channel, and 1 along every other axis, counted from the last.
        let mut dims = bias.dims().to_vec();
        let behind = if x.layout == Layout::Nchw { 2 } else { 0 };
        let tail = dims.split_off(dims.len().saturating_sub(behind));
        let channels_last = dims.pop();
        if channels_last != Some(channels) || tail.len() != behind || tail.iter().chain(&dims).any(|&d| d != 1) {
            return Err(format!("adds a constant of dims {:?} to {channels} channels", bias.dims()).into());
        }
        let form = if layer.integers.is_some() { Form::Dequantized } else { Form::Real };
        self.set_bias(node, Activation { tensor: source, form, ..x }, layer, bias)
    }
}
