//! One op: whether its constants fit its tensors. Enters: an op record whose tensors are sound. Refuses: wrong numbers of
//! inputs, shapes that the op does not make, spans of the wrong length, constants outside the limits of the contract,
//! accumulators that could leave i32, and outputs or scratch that overlap what is read.

use super::{Checker, at_most, equal, product};
use crate::{
    arith,
    image::{
        Fault, ImageError, MAX_INPUTS, Op,
        repr::{OpKind, Span, TensorRepr, WeightsRepr, WindowRepr},
    },
    kernels,
};

/// The weights of one layer: rows, and where in them the weights of an output channel are.
#[derive(Clone, Copy)]
struct Rows {
    count: u64,
    len: u64,
    /// A row is a tap of every channel, not a channel with every tap.
    depthwise: bool,
}

impl Checker<'_> {
    pub(super) fn op(&self, op: &Op) -> Result<(), ImageError> {
        self.text(op.repr.name)?;
        self.tensor_index(op.repr.output)?;
        let most = match op.repr.kind {
            OpKind::Add { .. } | OpKind::Mul { .. } => 2..=2,
            OpKind::Concat { .. } | OpKind::Reshape => 1..=MAX_INPUTS.into(),
            _ => 1..=1,
        };
        self.span(op.repr.inputs, at_most(u64::MAX))?;
        self.require(Fault::SpanLength, op.repr.inputs.len % 4, equal(0))?;
        self.require(Fault::Inputs, op.input_count() as i64, most)?;
        for i in 0..op.input_count() {
            self.tensor_index(op.table(op.repr.inputs).u32(i))?;
        }
        let y = op.output().repr;
        let (low, high) = arith::limits(y.bits, y.signed);
        self.require(Fault::Clamp, op.repr.clamp_min, low.into()..=high.into())?;
        self.require(Fault::Clamp, op.repr.clamp_max, op.repr.clamp_min.into()..=high.into())?;
        self.kind(op, &op.input(0).repr, &y)?;
        self.regions(op, &y)
    }

    fn kind(&self, op: &Op, x: &TensorRepr, y: &TensorRepr) -> Result<(), ImageError> {
        let [h, w, c] = x.shape.map(u64::from);
        let k = u64::from(y.shape[2]);
        match op.repr.kind {
            OpKind::Conv2d { window, groups, weights } => {
                self.window(&window, x, y)?;
                for channels in [x.shape[2], y.shape[2]] {
                    self.require(Fault::Groups, groups, 1..=channels.into())?;
                    self.require(Fault::Groups, channels % groups, equal(0))?;
                }
                let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                let depthwise = kernels::scratch::is_depthwise(groups, x.shape[2], y.shape[2]);
                let rows = if depthwise {
                    Rows { count: taps, len: c, depthwise }
                } else {
                    Rows { count: k, len: taps * (c / u64::from(groups)), depthwise }
                };
                self.weights(op, &weights, rows, x, k)
            }
            OpKind::Dense { weights } => {
                self.vector(y, k)?;
                self.weights(op, &weights, Rows { count: k, len: h * w * c, depthwise: false }, x, k)
            }
            OpKind::MaxPool { window } => {
                self.pool(&window, x, y)?;
                self.same_encoding(op, x, y)
            }
            OpKind::AveragePool { window, multipliers } => {
                self.pool(&window, x, y)?;
                let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                self.span(multipliers, equal(product(&[4, taps])))?;
                self.multipliers(op, multipliers)?;
                self.accumulator(x, taps.min(h * w))
            }
            OpKind::GlobalAveragePool { multiplier } => {
                self.vector(y, c)?;
                self.multiplier(multiplier)?;
                self.accumulator(x, h * w)
            }
            OpKind::Add { multipliers, shift } => {
                self.same_shape(x, y)?;
                self.same_shape(&op.input(1).repr, y)?;
                for multiplier in multipliers {
                    self.require(Fault::AddMultiplier, multiplier, 0..=arith::ADD_MULTIPLIER_MAX.into())?;
                }
                self.require(Fault::Shift, shift, 0..=arith::ADD_SHIFT_MAX.into())
            }
            OpKind::Mul { multiplier } => {
                self.same_shape(x, y)?;
                let gate = op.input(1).repr;
                // A gate is one pixel, whatever the extents of the first input.
                match gate.shape {
                    [1, 1, _] => self.require(Fault::OutputShape, y.shape[2], equal(gate.shape[2]))?,
                    _ => self.same_shape(&gate, y)?,
                }
                self.multiplier(multiplier)
            }
            OpKind::Pad { padding } => {
                for axis in [0, 1] {
                    let extent = [x.shape[axis], padding[axis], padding[axis + 2]].map(i64::from).iter().sum::<i64>();
                    self.require(Fault::OutputShape, y.shape[axis], equal(extent))?;
                }
                self.require(Fault::OutputShape, y.shape[2], equal(x.shape[2]))?;
                self.copies(op, x, y)
            }
            OpKind::Concat { tables } => self.concat(op, tables, y),
            OpKind::Lookup { table } => {
                self.same_shape(x, y)?;
                let table = self.span(table, equal(256))?;
                self.entries(table, y, op.clamp())
            }
            OpKind::Softmax { table, multiplier, shift } => {
                self.same_shape(x, y)?;
                self.require(Fault::AddMultiplier, multiplier, 0..=arith::ADD_MULTIPLIER_MAX.into())?;
                self.require(Fault::Shift, shift, 0..=arith::SOFTMAX_SHIFT_MAX.into())?;
                self.span(table, equal(4 << x.bits))?;
                // The largest integer of a pixel is 1 at least, so that no sum is 0.
                let (table, one) = (op.table(table), i64::from(arith::SOFTMAX_ONE));
                let least = |i: usize| if i == 0 { one } else { 0 };
                (0..table.len()).try_for_each(|i| self.require(Fault::TableEntry, table.u32(i), least(i)..=one))
            }
            OpKind::Reshape => self.reshape(op, y),
        }
    }

    /// Whether `y` is what the window makes of `x`, channels aside.
    fn window(&self, window: &WindowRepr, x: &TensorRepr, y: &TensorRepr) -> Result<(), ImageError> {
        for extent in [window.kernel, window.stride, window.dilation].into_iter().flatten() {
            self.require(Fault::Extent, extent, 1..=u16::MAX.into())?;
        }
        for axis in [0, 1] {
            let padding = i64::from(window.padding[axis]) + i64::from(window.padding[axis + 2]);
            let reach = i64::from(window.dilation[axis]) * (i64::from(window.kernel[axis]) - 1) + 1;
            let room = i64::from(x.shape[axis]) + padding - reach;
            self.require(Fault::OutputShape, y.shape[axis], equal(room.div_euclid(window.stride[axis].into()) + 1))?;
        }
        Ok(())
    }

    /// A window in which every position has a tap inside the image.
    fn pool(&self, window: &WindowRepr, x: &TensorRepr, y: &TensorRepr) -> Result<(), ImageError> {
        self.window(window, x, y)?;
        self.require(Fault::OutputShape, y.shape[2], equal(x.shape[2]))?;
        for axis in [0, 1] {
            self.require(Fault::Extent, window.dilation[axis], equal(1))?;
            for padding in [window.padding[axis], window.padding[axis + 2]] {
                self.require(Fault::Padding, padding, 0..=i64::from(window.kernel[axis]) - 1)?;
            }
        }
        Ok(())
    }

    fn vector(&self, y: &TensorRepr, len: u64) -> Result<(), ImageError> {
        self.require(Fault::OutputShape, y.shape[0], equal(1))?;
        self.require(Fault::OutputShape, y.shape[1], equal(1))?;
        self.require(Fault::OutputShape, y.shape[2], equal(product(&[len])))
    }

    fn same_shape(&self, x: &TensorRepr, y: &TensorRepr) -> Result<(), ImageError> {
        x.shape.iter().zip(y.shape).try_for_each(|(&x, y)| self.require(Fault::OutputShape, y, equal(x)))
    }

    fn same_encoding(&self, op: &Op, x: &TensorRepr, y: &TensorRepr) -> Result<(), ImageError> {
        let encoding = |t: &TensorRepr| (t.bits, t.signed, t.scale.to_bits(), t.zero_point);
        if encoding(x) == encoding(y) {
            Ok(())
        } else {
            Err(ImageError::none(self.place, Fault::OutputEncoding, op.output().index as i64))
        }
    }

    /// Whether the bytes of `x` may stand in `y` as they are: one encoding, and no clamp.
    fn copies(&self, op: &Op, x: &TensorRepr, y: &TensorRepr) -> Result<(), ImageError> {
        self.same_encoding(op, x, y)?;
        let (low, high) = arith::limits(y.bits, y.signed);
        self.require(Fault::Clamp, op.repr.clamp_min, equal(low))?;
        self.require(Fault::Clamp, op.repr.clamp_max, equal(high))
    }

    /// The inputs lie side by side, and the output is some of their bytes, or all.
    fn reshape(&self, op: &Op, y: &TensorRepr) -> Result<(), ImageError> {
        let start = i64::from(op.input(0).repr.offset);
        let mut end = start;
        for x in op.inputs().map(|x| x.repr) {
            self.require(Fault::OutputOffset, x.offset, equal(end))?;
            end += i64::from(x.bytes);
        }
        self.require(Fault::ArenaBytes, y.bytes, 1..=end - start)?;
        self.require(Fault::OutputOffset, y.offset, start..=end - i64::from(y.bytes))?;
        op.inputs().try_for_each(|x| self.copies(op, &x.repr, y))
    }

    fn concat(&self, op: &Op, tables: Span, y: &TensorRepr) -> Result<(), ImageError> {
        self.span(tables, equal(8 * op.input_count() as i64))?;
        let mut channels = 0;
        for (i, x) in op.inputs().map(|x| x.repr).enumerate() {
            self.require(Fault::OutputShape, y.shape[0], equal(x.shape[0]))?;
            self.require(Fault::OutputShape, y.shape[1], equal(x.shape[1]))?;
            channels += i64::from(x.shape[2]);
            let table = op.table(tables).span(i);
            if table.is_empty() {
                self.copies(op, &x, y)?;
            } else {
                self.entries(self.span(table, equal(256))?, y, op.clamp())?;
            }
        }
        self.require(Fault::OutputShape, y.shape[2], equal(channels))
    }

    fn weights(&self, op: &Op, repr: &WeightsRepr, rows: Rows, x: &TensorRepr, k: u64) -> Result<(), ImageError> {
        if ![2, 4, 8].contains(&repr.bits) {
            return Err(ImageError::none(self.place, Fault::Bits, repr.bits.into()));
        }
        let row_bytes = product(&[rows.len, repr.bits.into()]) as u64;
        self.span(repr.data, equal(product(&[rows.count, row_bytes.div_ceil(8)])))?;
        let table = 4 * k as i64;
        self.span(repr.zero_points, equal(if repr.zero_points.len == 4 { 4 } else { table }))?;
        self.span(repr.bias, equal(table))?;
        self.span(repr.multipliers, equal(table))?;
        self.multipliers(op, repr.multipliers)?;
        let weights = op.weights(*repr);
        let (low, high) = arith::limits(repr.bits, repr.signed);
        for i in 0..weights.zero_points.len() {
            self.require(Fault::ZeroPoint, weights.zero_points.i32(i), low.into()..=high.into())?;
        }
        let reach = arith::reach(x.bits, x.signed, x.zero_point);
        let (count, len) = (rows.count as usize, rows.len as usize);
        for k in 0..k as usize {
            let zero_point = weights.zero_point(k);
            let bias = weights.bias.i32(k);
            let bound = if rows.depthwise {
                arith::accumulator_bound(bias, reach, (0..count).map(|row| weights.get(row, len, k) - zero_point))
            } else {
                arith::accumulator_bound(bias, reach, (0..len).map(|i| weights.get(k, len, i) - zero_point))
            };
            self.require(Fault::Accumulator, bound as i64, at_most(i32::MAX as u64))?;
        }
        Ok(())
    }

    /// The accumulator of a sum of `count` elements of `x`.
    fn accumulator(&self, x: &TensorRepr, count: u64) -> Result<(), ImageError> {
        let bound = u64::from(arith::reach(x.bits, x.signed, x.zero_point)) * count;
        self.require(Fault::Accumulator, bound as i64, at_most(i32::MAX as u64))
    }

    fn multipliers(&self, op: &Op, span: Span) -> Result<(), ImageError> {
        let table = op.table(span);
        (0..table.len()).try_for_each(|i| self.multiplier(table.f32(i)))
    }

    fn multiplier(&self, multiplier: f32) -> Result<(), ImageError> {
        if arith::is_multiplier(multiplier) {
            Ok(())
        } else {
            Err(ImageError::none(self.place, Fault::Multiplier, multiplier.to_bits().into()))
        }
    }

    /// Scratch large enough and apart from inputs and output, output apart from inputs. A reshape moves nothing; an Add, Mul,
    /// Lookup or Softmax, which write a byte when they have read it for the last time, may write over an input of the same place; and what has a window, which works row by
    /// row, may write over its input from far enough below.
    fn regions(&self, op: &Op, y: &TensorRepr) -> Result<(), ImageError> {
        let scratch = op.repr.scratch;
        self.arena(scratch)?;
        let least = kernels::column_bytes(&op.repr.kind, &op.input(0).repr, y);
        self.require(Fault::Scratch, scratch.len, product(&[least])..=i64::MAX)?;
        let written = Span::new(y.offset, y.bytes);
        let apart = |a: Span, b: Span| {
            if a.overlaps(b) {
                Err(ImageError::none(self.place, Fault::Overlap, a.offset.max(b.offset).into()))
            } else {
                Ok(())
            }
        };
        apart(scratch, written)?;
        for x in op.inputs() {
            let read = Span::new(x.repr.offset, x.repr.bytes);
            apart(scratch, read)?;
            let over = match op.repr.kind {
                OpKind::Reshape => true,
                OpKind::Add { .. } | OpKind::Mul { .. } | OpKind::Lookup { .. } | OpKind::Softmax { .. } => {
                    read == written
                }
                OpKind::Conv2d { window, .. } | OpKind::MaxPool { window } | OpKind::AveragePool { window, .. } => {
                    u64::from(read.offset) >= u64::from(written.offset) + kernels::lead(&window, &x.repr, y, 1)
                }
                _ => false,
            };
            if !over {
                apart(written, read)?;
            }
        }
        Ok(())
    }
}
