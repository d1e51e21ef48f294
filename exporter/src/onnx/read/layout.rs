//! Order of the axes. Enters: nodes that only move elements. Leaves: the same tensor under another [`Layout`], or a
//! Flatten. Refuses: permutations and shapes that are neither `N C H W`, `N H W C` nor a vector.
//!
//! A network knows `C H W` only. Files that come from TensorFlow begin with `N H W C` and a Transpose; both are names for the
//! same tensor here, and a dense layer behind a flattened `H W C` image gets its weights reordered.

use tract_onnx::pb::NodeProto;

use super::import::{Activation, Fault, Form, Import, Value, attributes, check_size};
use crate::network::{Op, Shape};
use crate::onnx::QUANTIZED;

/// How a value of the file lays out a tensor `C H W` of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `N C H W`.
    Nchw,
    /// `N H W C`.
    Nhwc,
    /// `N (C H W)`.
    Vector,
    /// `N (H W C)` of an image of this shape.
    VectorOfNhwc(Shape),
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nchw => "N C H W",
            Self::Nhwc => "N H W C",
            Self::Vector => "a vector",
            Self::VectorOfNhwc(_) => "a vector in H W C order",
        })
    }
}

impl Layout {
    /// Where the channels are.
    pub(super) fn channel_axis(self) -> i64 {
        if self == Self::Nhwc { 3 } else { 1 }
    }

    fn rank(self) -> i64 {
        if matches!(self, Self::Nchw | Self::Nhwc) { 4 } else { 2 }
    }

    /// `axis` counted from the front; ONNX also counts from the back.
    pub(super) fn axis(self, axis: i64) -> i64 {
        if axis < 0 { axis.saturating_add(self.rank()) } else { axis }
    }
}

impl<'m> Import<'m> {
    /// Identity, and Dropout in inference.
    pub(super) fn identity(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        match self.input(node, 0) {
            Some(Value::Constant(constant)) => Ok(Value::Constant(constant.clone())),
            Some(Value::Tail(x)) => Ok(Value::Tail(*x)),
            _ => Ok(Value::Activation(self.activation(node, 0)?)),
        }
    }

    pub(super) fn transpose(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let permutation = attributes(node).ints("perm");
        let x = self.activation(node, 0)?;
        let layout = match (x.layout, permutation) {
            (Layout::Nhwc, Some([0, 3, 1, 2])) => Layout::Nchw,
            (Layout::Nchw, Some([0, 2, 3, 1])) => Layout::Nhwc,
            (layout, Some([0, 1, 2, 3] | [0, 1])) => layout,
            (layout, _) => {
                let reason = "only N H W C to N C H W and back is supported";
                return Err(format!("permutation {permutation:?} of {layout}; {reason}").into());
            }
        };
        Ok(Value::Activation(Activation { layout, ..x }))
    }

    pub(super) fn flatten(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let axis = attributes(node).int("axis", 1);
        let x = self.activation(node, 0)?;
        if x.layout.axis(axis) != 1 {
            return Err(format!("axis {axis}, expected 1").into());
        }
        self.vector(node, x)
    }

    pub(super) fn reshape(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let allow_zero = attributes(node).int("allowzero", 0) != 0;
        let x = self.activation(node, 0)?;
        let target = match self.input(node, 1) {
            Some(Value::Constant(constant)) => super::file::integers(constant)?,
            Some(Value::Missing) => return Err(Fault::Downstream),
            _ => return Err("the target shape is computed; export with static shapes".into()),
        };
        let shape = self.shape(x);
        let is_vector = shape.pixels() == 1;
        let unsupported = || {
            let reason = "only N C H W to a vector and back is supported";
            Fault::from(format!("from {} of {shape} to {target:?}; {reason}", x.layout))
        };
        // The batch comes first and is kept: 0 copies it, -1 infers it, and a number is the batch of the export.
        let Some((_, rest)) = target.split_first() else { return Err(unsupported()) };
        if allow_zero && target.contains(&0) {
            return Err(unsupported());
        }
        match *rest {
            [n] if n == shape.len() as i64 || (n == -1 && target[0] != -1) => {
                // A vector already, or a dense layer that reads images as they are.
                let alias = is_vector || self.only_read_by_dense(&node.output);
                if !alias {
                    return self.vector(node, x);
                }
                check_size(Shape::vector(shape.len()))?;
                let layout = match x.layout {
                    Layout::Nhwc if !is_vector => Layout::VectorOfNhwc(shape),
                    Layout::VectorOfNhwc(_) => x.layout,
                    _ => Layout::Vector,
                };
                Ok(Value::Activation(Activation { layout, ..x }))
            }
            [c, 1, 1] if is_vector && [shape.c as i64, -1, 0].contains(&c) => {
                Ok(Value::Activation(Activation { layout: Layout::Nchw, ..x }))
            }
            [1, 1, c] if is_vector && [shape.c as i64, -1].contains(&c) => {
                Ok(Value::Activation(Activation { layout: Layout::Nhwc, ..x }))
            }
            [h, w, c] if x.layout == Layout::Nhwc && [c, h, w] == [shape.c, shape.h, shape.w].map(|e| e as i64) => {
                Ok(Value::Activation(x))
            }
            [c, h, w] if x.layout == Layout::Nchw && [c, h, w] == [shape.c, shape.h, shape.w].map(|e| e as i64) => {
                Ok(Value::Activation(x))
            }
            _ => Err(unsupported()),
        }
    }

    /// Squeeze of `N C 1 1`.
    pub(super) fn squeeze(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let attribute = attributes(node).ints("axes");
        let x = self.activation(node, 0)?;
        let axes = match (attribute, self.input(node, 1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(Value::Constant(constant))) => super::file::integers(constant)?,
            _ => return Err("the axes are computed or left out; name them".into()),
        };
        let mut axes: Vec<i64> = axes.iter().map(|&a| x.layout.axis(a)).collect();
        axes.sort_unstable();
        let pixels = if x.layout == Layout::Nhwc { [1, 2] } else { [2, 3] };
        if axes != pixels || self.shape(x).pixels() != 1 || x.layout.rank() != 4 {
            return Err(
                format!("axes {axes:?} of {} {}; expected height and width of 1", x.layout, self.shape(x)).into()
            );
        }
        Ok(Value::Activation(Activation { layout: Layout::Vector, ..x }))
    }

    /// Unsqueeze of `N C` to one pixel.
    pub(super) fn unsqueeze(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let x = self.activation(node, 0)?;
        let axes = match (attributes(node).ints("axes"), self.input(node, 1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(Value::Constant(constant))) => super::file::integers(constant)?,
            _ => return Err("the axes are computed; export with static shapes".into()),
        };
        let mut places: Vec<i64> =
            axes.iter().map(|&axis| if axis < 0 { axis.saturating_add(4) } else { axis }).collect();
        places.sort_unstable();
        let layout = match places[..] {
            [2, 3] => Layout::Nchw,
            [1, 2] => Layout::Nhwc,
            _ => return Err(format!("axes {axes:?}; expected height and width").into()),
        };
        if self.shape(x).pixels() != 1 || x.layout.rank() != 2 {
            return Err(format!("reads {} of {}, expected a vector", x.layout, self.shape(x)).into());
        }
        Ok(Value::Activation(Activation { layout, ..x }))
    }

    /// Appends a Flatten.
    fn vector(&mut self, node: &'m NodeProto, x: Activation) -> Result<Value<'m>, Fault> {
        let shape = self.shape(x);
        let layout = match x.layout {
            Layout::Nhwc if shape.pixels() > 1 => Layout::VectorOfNhwc(shape),
            Layout::VectorOfNhwc(_) => x.layout,
            _ => Layout::Vector,
        };
        let tensor = self.push(node, Op::Flatten, &[x])?;
        Ok(Value::Activation(Activation { tensor, layout, form: self.keep_encoding(x, tensor) }))
    }

    /// The output of an op that only moves or picks elements has the encoding of its input.
    pub(super) fn keep_encoding(&mut self, x: Activation, output: usize) -> Form {
        if x.form != Form::Real {
            self.network.tensors[output].encoding = self.network.tensors[x.tensor].encoding.clone();
        }
        if let (Form::Integers, Some(name)) = (x.form, self.network.tensors[output].name.strip_suffix(QUANTIZED)) {
            self.network.tensors[output].name = name.into();
        }
        x.form
    }

    /// Whether behind QuantizeLinear, DequantizeLinear and Identity there are only Gemm and MatMul.
    fn only_read_by_dense(&self, outputs: &'m [String]) -> bool {
        let readers = self.operators_behind(outputs.first().map_or("", String::as_str), &[]);
        !readers.is_empty() && readers.iter().all(|r| matches!(r.op_type.as_str(), "Gemm" | "MatMul"))
    }

    /// Whether the graph's input `name` is `N H W C`: all that reads it transposes it so.
    pub(super) fn is_nhwc(&self, name: &'m str) -> bool {
        let readers = self.operators_behind(name, &["Add", "Div", "Mul", "Sub"]);
        let transposes = |r: &&NodeProto| r.op_type == "Transpose" && attributes(r).ints("perm") == Some(&[0, 3, 1, 2]);
        !readers.is_empty() && readers.iter().all(transposes)
    }

    /// The nodes that read a value, looking through QuantizeLinear, DequantizeLinear, Identity and `others`.
    fn operators_behind(&self, name: &'m str, others: &[&str]) -> Vec<&'m NodeProto> {
        let mut names = vec![name];
        let mut found = Vec::new();
        // Each name can come up once in a sound graph; an unsound one must not keep us here.
        let mut steps = self.graph.node.len();
        while let Some(name) = names.pop() {
            for &reader in self.readers.get(name).into_iter().flatten() {
                let op = reader.op_type.as_str();
                if !matches!(op, "QuantizeLinear" | "DequantizeLinear" | "Identity") && !others.contains(&op) {
                    found.push(reader);
                } else if steps > 0 {
                    steps -= 1;
                    names.extend(reader.output.first().map(String::as_str));
                }
            }
        }
        found
    }
}
