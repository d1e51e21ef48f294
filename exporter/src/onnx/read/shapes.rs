//! Arithmetic on shapes, as exporters write it for what is static all the same: Shape, then Gather, Slice, Concat and so on,
//! up to a Reshape. Enters: shapes of activations, constants. Leaves: constants. Refuses: what would need the number of
//! images, if the file leaves it open: it is 0 here, which a Reshape copies and nothing may be computed from.

use std::borrow::Cow;

use tract_onnx::pb::NodeProto;

use super::constants::Array;
use super::file::{INT64, dims, element_bits, integers};
use super::import::{Fault, Import, Value, attributes};
use super::layout::Layout;

/// Axes of any constant.
const MAX_RANK: usize = 8;

impl<'m> Import<'m> {
    /// Shape (opset 1; 15 with a part of it).
    pub(super) fn shape_values(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let values = match self.input(node, 0) {
            Some(Value::Constant(constant)) => constant.dims.clone(),
            _ => {
                let x = self.activation(node, 0)?;
                let shape = self.shape(x);
                let [c, h, w] = [shape.c, shape.h, shape.w].map(|extent| extent as i64);
                let batch = self.batch.unwrap_or(0);
                match x.layout {
                    Layout::Nchw => vec![batch, c, h, w],
                    Layout::Nhwc => vec![batch, h, w, c],
                    Layout::Vector | Layout::VectorOfNhwc(_) => vec![batch, shape.len() as i64],
                }
            }
        };
        let part = range(a.int("start", 0), a.int("end", i64::MAX), values.len());
        Ok(row(values.get(part).unwrap_or_default().to_vec()).store())
    }

    /// Add, Sub, Mul and Div of two constants of integers.
    pub(super) fn constant_arithmetic(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let (a, b) = (self.array(node, 0)?, self.array(node, 1)?);
        let (dims, len) = match (a.values.len(), b.values.len()) {
            (x, y) if x == y || y == 1 => (a.dims, x),
            (1, y) => (b.dims, y),
            _ => return Err("two constants of different shape".into()),
        };
        if a.data_type != b.data_type {
            return Err(Fault::Damaged("two constants of different types".into()));
        }
        if a.values.iter().chain(&b.values).any(|&value| value == 0) && self.batch.is_none() {
            return Err("computes with the number of images, which is open; export with a fixed one".into());
        }
        self.charge(len)?;
        let at = |values: &[i64], i: usize| values[if values.len() == 1 { 0 } else { i }];
        let result = (0..len).map(|i| {
            let (a, b) = (at(&a.values, i), at(&b.values, i));
            match node.op_type.as_str() {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                _ => a.checked_div(b),
            }
        });
        let values = result.collect::<Option<Vec<i64>>>().ok_or_else(|| Fault::Damaged("beyond 64 bits".into()))?;
        Ok(Array { data_type: a.data_type, dims, values }.store())
    }

    /// ConstantOfShape, of integers.
    pub(super) fn constant_of_shape(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let shape = self.array(node, 0)?.values;
        let extents = shape.iter().map(|&extent| usize::try_from(extent).ok()).collect::<Option<Vec<usize>>>();
        let len = extents.as_ref().and_then(|dims| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
        let (Some(dims), Some(len)) = (extents, len) else {
            return Err(Fault::Damaged(format!("impossible dims {shape:?}")));
        };
        let Some(value) = attributes(node).find("value").and_then(|value| value.t.as_ref()) else {
            return Err("of floats; only integers are computed here".into());
        };
        self.charge(len)?;
        match integers(value)?[..] {
            [filler] => Ok(Array { data_type: value.data_type, dims, values: vec![filler; len] }.store()),
            _ => Err(Fault::Damaged("its value is not one element".into())),
        }
    }

    /// Concat of constants of one axis.
    pub(super) fn concat_constants(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let arrays = (0..node.input.len()).map(|i| self.array(node, i)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = arrays.first() else { return Err(Fault::Damaged("it has no input".into())) };
        let data_type = first.data_type;
        if arrays.iter().any(|array| array.dims.len() != 1 || array.data_type != data_type) {
            return Err("constants of one axis and one type only".into());
        }
        let values: Vec<i64> = arrays.into_iter().flat_map(|array| array.values).collect();
        self.charge(values.len())?;
        Ok(Array { data_type, dims: vec![values.len()], values }.store())
    }

    /// Squeeze and Unsqueeze of a constant of any type.
    pub(super) fn squeeze_constant(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let Some(Value::Constant(constant)) = self.input(node, 0) else { return Err(Fault::Downstream) };
        let mut constant = constant.clone().into_owned();
        let mut found = dims(&constant);
        let axes = match (attributes(node).ints("axes"), self.input(node, 1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(Value::Constant(axes))) => integers(axes)?,
            _ => return Err("the axes are computed or left out; name them".into()),
        };
        let unsqueeze = node.op_type == "Unsqueeze";
        let rank = found.len() + if unsqueeze { axes.len() } else { 0 };
        let wrong = || Fault::Damaged(format!("axes {axes:?} of {:?}", constant.dims));
        let from_front = |axis: i64| if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let places = axes.iter().map(|&axis| usize::try_from(from_front(axis)).ok().filter(|&axis| axis < rank));
        let mut places = places.collect::<Option<Vec<usize>>>().filter(|_| rank <= MAX_RANK).ok_or_else(wrong)?;
        places.sort_unstable();
        if unsqueeze {
            for place in places {
                if place > found.len() {
                    return Err(wrong());
                }
                found.insert(place, 1);
            }
        } else {
            for place in places.into_iter().rev() {
                if found.get(place) != Some(&1) {
                    return Err(wrong());
                }
                found.remove(place);
            }
        }
        self.charge(found.iter().product())?;
        constant.dims = found.iter().map(|&extent| extent as i64).collect();
        Ok(Value::Constant(Cow::Owned(constant)))
    }

    /// Transpose of a constant of whole bytes.
    pub(super) fn transpose_constant(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let Some(Value::Constant(constant)) = self.input(node, 0) else { return Err(Fault::Downstream) };
        let (found, mut result) = (dims(constant), constant.clone().into_owned());
        let order: Vec<usize> = match attributes(node).ints("perm") {
            Some(order) => order.iter().map(|&axis| usize::try_from(axis).unwrap_or(usize::MAX)).collect(),
            None => (0..found.len()).rev().collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted != (0..found.len()).collect::<Vec<_>>() || found.len() > MAX_RANK {
            return Err(Fault::Damaged(format!("permutation {order:?} of {found:?}")));
        }
        let bytes = element_bits(result.data_type).filter(|bits| bits % 8 == 0).map(|bits| bits as usize / 8);
        let (Some(bytes), false) = (bytes, super::file::is_external(&result)) else {
            return Err("a constant of less than a byte, or outside this file".into());
        };
        let len: usize = found.iter().product();
        self.charge(len)?;
        if result.raw_data.is_empty() {
            result.raw_data = super::file::raw(&result)?;
            (result.float_data, result.int32_data, result.int64_data) = (vec![], vec![], vec![]);
        }
        // How far apart neighbours along each axis lie.
        let mut steps = vec![1; found.len()];
        for axis in (1..found.len()).rev() {
            steps[axis - 1] = steps[axis] * found[axis];
        }
        let mut moved = Vec::with_capacity(result.raw_data.len());
        for mut i in 0..len {
            let mut from = 0;
            for &axis in order.iter().rev() {
                from += i % found[axis] * steps[axis];
                i /= found[axis];
            }
            moved.extend_from_slice(&result.raw_data[from * bytes..][..bytes]);
        }
        (result.raw_data, result.dims) = (moved, order.iter().map(|&axis| found[axis] as i64).collect());
        Ok(Value::Constant(Cow::Owned(result)))
    }
}

/// The places from `start` to `end`, counted from the back where negative, of so many.
pub(super) fn range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let at = |place: i64| (if place < 0 { place.saturating_add(len) } else { place }).clamp(0, len) as usize;
    at(start)..at(end)
}

fn row(values: Vec<i64>) -> Array {
    Array { data_type: INT64, dims: vec![values.len()], values }
}
