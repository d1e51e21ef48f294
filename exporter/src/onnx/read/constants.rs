//! Constants that nodes compute: how packed weights are taken apart, and reshaped ones. Enters: BitShift, BitwiseAnd, Cast,
//! Gather, Reshape and Slice of constants. Leaves: constants, and how many bits of each element are in use. Refuses: other
//! types than integers (Reshape: none), more than one axis of Slice, shifts to the left.

use std::borrow::Cow;

use tract_onnx::pb::{NodeProto, TensorProto};

use super::file::{FLOAT, INT8, INT32, INT64, UINT8, dims, element_bits, integers, type_name};
use super::import::{Fault, Import, Value, attributes};

/// A constant of integers.
pub(super) struct Array {
    pub(super) data_type: i32,
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<i64>,
}

impl Array {
    /// As a constant that lies in a file.
    pub(super) fn store<'m>(self) -> Value<'m> {
        let bytes = element_bits(self.data_type).unwrap_or(64) as usize / 8;
        Value::Constant(Cow::Owned(TensorProto {
            data_type: self.data_type,
            dims: self.dims.iter().map(|&d| d as i64).collect(),
            raw_data: self.values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(bytes)).collect(),
            ..Default::default()
        }))
    }
}

impl<'m> Import<'m> {
    /// Whether input `i` is a constant.
    pub(super) fn is_constant(&self, node: &NodeProto, i: usize) -> bool {
        matches!(self.input(node, i), Some(Value::Constant(_)))
    }

    /// Input `i` as a constant of integers.
    pub(super) fn array(&self, node: &NodeProto, i: usize) -> Result<Array, Fault> {
        let Some(Value::Constant(constant)) = self.input(node, i) else {
            return Err(format!("input {i} is computed or left out; supported for constants only").into());
        };
        Ok(Array { data_type: constant.data_type, dims: dims(constant), values: integers(constant)? })
    }

    /// Lets go of the constants that only `node` has read, and takes them off the bill.
    pub(super) fn release(&mut self, node: &'m NodeProto) {
        for name in &node.input {
            let alone = self.readers.get(name.as_str()).is_some_and(|readers| readers.len() == 1);
            if let (true, Some(value @ Value::Constant(Cow::Owned(_)))) = (alone, self.values.get_mut(name.as_str()))
                && let Value::Constant(constant) = std::mem::replace(value, Value::Missing)
            {
                self.budget = self.budget.saturating_add(dims(&constant).iter().product());
            }
        }
    }

    /// Remembers how many bits of each element of the node's output are in use.
    fn uses_bits(&mut self, node: &'m NodeProto, bits: u8) {
        if let Some(output) = node.output.first() {
            self.used_bits.insert(output, bits);
        }
    }

    /// The output has the elements of input `i`, as far as bits go.
    fn keeps_bits(&mut self, node: &'m NodeProto, i: usize) {
        if let Some(&bits) = node.input.get(i).and_then(|name| self.used_bits.get(name.as_str())) {
            self.uses_bits(node, bits);
        }
    }

    pub(super) fn bit_shift(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let direction = attributes(node).string("direction", "");
        if direction != "RIGHT" {
            return Err(format!("direction {direction:?}, expected \"RIGHT\"").into());
        }
        let shift = |a: i64, b: i64| if (0..8).contains(&b) { a >> b } else { 0 };
        self.bitwise(node, shift)
    }

    pub(super) fn bitwise_and(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let mask = self.array(node, 1)?;
        if let [mask @ (1 | 3 | 7 | 15 | 31 | 63 | 127)] = mask.values[..] {
            self.uses_bits(node, mask.count_ones() as u8);
        }
        self.bitwise(node, |a, b| a & b)
    }

    /// An operator on bytes, with the two inputs stretched to one shape.
    fn bitwise(&mut self, node: &NodeProto, operator: impl Fn(i64, i64) -> i64) -> Result<Value<'m>, Fault> {
        let (a, b) = (self.array(node, 0)?, self.array(node, 1)?);
        if [a.data_type, b.data_type] != [UINT8; 2] {
            let found = (type_name(a.data_type), type_name(b.data_type));
            return Err(format!("of {found:?}, expected UINT8").into());
        }
        let rank = a.dims.len().max(b.dims.len());
        let extent =
            |array: &Array, axis: usize| (axis + array.dims.len()).checked_sub(rank).map_or(1, |i| array.dims[i]);
        let mut dims = Vec::new();
        for axis in 0..rank {
            match (extent(&a, axis), extent(&b, axis)) {
                (x, y) if x == y || y == 1 => dims.push(x),
                (1, y) => dims.push(y),
                _ => return Err(Fault::Damaged(format!("dims {:?} and {:?} do not fit", a.dims, b.dims))),
            }
        }
        let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let len = len.ok_or_else(|| Fault::Damaged(format!("impossible dims {dims:?}")))?;
        self.charge(len)?;
        let element = |array: &Array, mut i: usize| {
            let (mut at, mut step) = (0, 1);
            for axis in (0..rank).rev() {
                let own = extent(array, axis);
                at += if own == 1 { 0 } else { i % dims[axis] * step };
                step *= own;
                i /= dims[axis];
            }
            array.values[at]
        };
        let values = (0..len).map(|i| operator(element(&a, i), element(&b, i))).collect();
        Ok(Array { data_type: UINT8, dims, values }.store())
    }

    pub(super) fn cast(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let to = attributes(node).int("to", 0);
        let array = self.array(node, 0)?;
        if to == i64::from(FLOAT) {
            self.charge(array.values.len())?;
            return Ok(Value::Constant(Cow::Owned(TensorProto {
                data_type: FLOAT,
                dims: array.dims.iter().map(|&d| d as i64).collect(),
                float_data: array.values.iter().map(|&v| v as f32).collect(),
                ..Default::default()
            })));
        }
        let wrap: fn(i64) -> i64 = match i32::try_from(to) {
            Ok(UINT8) => |v| (v as u8).into(),
            Ok(INT8) => |v| (v as i8).into(),
            Ok(INT32) => |v| (v as i32).into(),
            Ok(INT64) => |v| v,
            _ => return Err(format!("to type {to}; expected FLOAT, UINT8, INT8, INT32 or INT64").into()),
        };
        self.keeps_bits(node, 0);
        self.charge(array.values.len())?;
        let values = array.values.into_iter().map(wrap).collect();
        Ok(Array { data_type: to as i32, values, ..array }.store())
    }

    /// A table looked up: the values of bit patterns.
    pub(super) fn gather(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let axis = attributes(node).int("axis", 0);
        let (table, indices) = (self.array(node, 0)?, self.array(node, 1)?);
        if axis != 0 || table.dims.len() != 1 {
            return Err(format!("axis {axis} of {:?}; only a table of one axis is supported", table.dims).into());
        }
        let len = table.values.len() as i64;
        let look_up = |&index: &i64| {
            let at = if index < 0 { index.saturating_add(len) } else { index };
            usize::try_from(at).ok().and_then(|at| table.values.get(at)).copied()
        };
        self.charge(indices.values.len())?;
        let values: Option<Vec<i64>> = indices.values.iter().map(look_up).collect();
        let values = values.ok_or_else(|| Fault::Damaged(format!("an index beyond a table of {len}")))?;
        self.keeps_bits(node, 1);
        Ok(Array { data_type: table.data_type, dims: indices.dims, values }.store())
    }

    /// Slice of the first axis, with step 1 or back to front; until opset 10 by attributes.
    pub(super) fn slice(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let a = attributes(node);
        let list = |i: usize, name: &str| match a.ints(name) {
            Some(values) if self.opset < 10 => Ok(Some(values.to_vec())),
            _ if self.input(node, i).is_some() => self.array(node, i).map(|array| Some(array.values)),
            _ => Ok(None),
        };
        let Array { data_type, mut dims, values } = self.array(node, 0)?;
        let [start, end] = [list(1, "starts")?, list(2, "ends")?];
        let [axes, steps] = [list(3, "axes")?, list(4, "steps")?];
        let only_first = axes.is_none_or(|axes| axes == [0] || (axes == [-1] && dims.len() == 1));
        let (Some(&[start]), Some(&[end]), Some(&rows), true) =
            (start.as_deref(), end.as_deref(), dims.first(), only_first)
        else {
            return Err("only a part of the first axis of a constant is supported".into());
        };
        self.charge(values.len())?;
        let row = values.len().checked_div(rows).unwrap_or(0);
        let rows_of = |part: std::ops::Range<usize>| part.map(|i| &values[i * row..][..row]);
        let part: Vec<&[i64]> = match steps.as_deref() {
            None | Some([1]) => rows_of(super::shapes::range(start, end, rows)).collect(),
            Some([-1]) if start == -1 && end < -(rows as i64) => rows_of(0..rows).rev().collect(),
            _ => return Err("only step 1, and -1 for all of an axis, is supported".into()),
        };
        dims[0] = part.len();
        let values = part.concat();
        self.keeps_bits(node, 0);
        Ok(Array { data_type, dims, values }.store())
    }

    /// Reshape of a constant of any type.
    pub(super) fn reshape_constant(&mut self, node: &'m NodeProto) -> Result<Value<'m>, Fault> {
        let target = self.array(node, 1)?.values;
        let Some(Value::Constant(constant)) = self.input(node, 0) else { return Err(Fault::Downstream) };
        let found = dims(constant);
        let len: usize = found.iter().product();
        let copied = |(i, &extent): (usize, &i64)| match extent {
            0 => found.get(i).copied(),
            -1 => Some(1),
            extent => usize::try_from(extent).ok(),
        };
        let impossible = || Fault::Damaged(format!("from {found:?} to {target:?}"));
        let mut extents: Vec<usize> =
            target.iter().enumerate().map(copied).collect::<Option<_>>().ok_or_else(impossible)?;
        let known = extents.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(impossible)?;
        if let Some(open) = target.iter().position(|&extent| extent == -1) {
            extents[open] = len.checked_div(known).ok_or_else(impossible)?;
        }
        if extents.iter().product::<usize>() != len {
            return Err(impossible());
        }
        let mut reshaped = constant.clone().into_owned();
        self.charge(len)?;
        reshaped.dims = extents.iter().map(|&d| d as i64).collect();
        self.keeps_bits(node, 0);
        Ok(Value::Constant(Cow::Owned(reshaped)))
    }
}
