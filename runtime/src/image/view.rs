//! What a checked image holds, read in place. Enters: an [`Image`]. Leaves: records with the bytes they point to. Nothing
//! here can fail: whoever holds an [`Image`] holds a checked one.

use super::{
    Image,
    repr::{OpKind, OpRepr, Span, TensorRepr, WeightsRepr},
};
use crate::arith;

/// A table of four-byte numbers in the image.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(&'a [[u8; 4]]);

impl<'a> Table<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    /// Numbers in the table.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The table's bytes.
    #[cfg(any(intact_dsp, intact_mve))]
    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.0.as_flattened()
    }

    /// Number `i` of a table of i32. `i` is below [`Self::len`].
    #[inline]
    pub fn i32(self, i: usize) -> i32 {
        i32::from_le_bytes(self.0[i])
    }

    /// Number `i` of a table of u32. `i` is below [`Self::len`].
    #[inline]
    pub fn u32(self, i: usize) -> u32 {
        u32::from_le_bytes(self.0[i])
    }

    /// Number `i` of a table of f32. `i` is below [`Self::len`].
    #[inline]
    pub fn f32(self, i: usize) -> f32 {
        f32::from_le_bytes(self.0[i])
    }

    /// The span that the numbers `2 * i` and `2 * i + 1` make. `2 * i + 1` is below [`Self::len`].
    pub(crate) fn span(self, i: usize) -> Span {
        Span::new(self.u32(2 * i), self.u32(2 * i + 1))
    }
}

/// Weights and constants of a convolution or dense layer.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// 8, 4 or 2.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// Rows, each starting on a byte, packed from the low bits up.
    pub data: &'a [u8],
    /// Zero points (i32): one, or one for each output channel.
    pub zero_points: Table<'a>,
    /// Bias (i32) of each output channel.
    pub bias: Table<'a>,
    /// Multiplier (f32) of each output channel.
    pub multipliers: Table<'a>,
}

impl<'a> Weights<'a> {
    /// Zero point of output channel `k`.
    #[inline]
    pub fn zero_point(&self, k: usize) -> i32 {
        self.zero_points.i32(if self.zero_points.len() == 1 { 0 } else { k })
    }

    /// Bytes of a row of `len` weights.
    #[inline]
    pub const fn row_bytes(&self, len: usize) -> usize {
        (len * self.bits as usize).div_ceil(8)
    }

    /// Weight `i` of row `row`, in rows of `len` weights.
    #[inline]
    pub fn get(&self, row: usize, len: usize, i: usize) -> i32 {
        let bit = i * self.bits as usize;
        let byte = self.data[row * self.row_bytes(len) + bit / 8];
        // Up against the top of the byte, then down again: the second shift extends the sign, or does not.
        let high = byte << (8 - self.bits as usize - bit % 8);
        arith::widen(high, self.signed) >> (8 - self.bits)
    }
}

/// A record of the tensor table.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Place in the table.
    pub index: usize,
    /// The record.
    pub repr: TensorRepr,
    image: Image<'a>,
}

impl<'a> Tensor<'a> {
    pub(super) fn new(image: Image<'a>, index: usize, repr: TensorRepr) -> Self {
        Self { index, repr, image }
    }

    /// The tensor's name.
    pub fn name(&self) -> &'a str {
        self.image.text(self.repr.name)
    }

    /// Elements, and bytes in the arena.
    pub const fn len(&self) -> usize {
        self.repr.bytes as usize
    }

    /// Never: every extent is at least 1.
    pub const fn is_empty(&self) -> bool {
        self.repr.bytes == 0
    }

    /// `H W C`.
    // Once in flash.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn shape(&self) -> [usize; 3] {
        self.repr.shape.map(usize::from)
    }

    /// The bytes it takes in the arena.
    pub const fn range(&self) -> core::ops::Range<usize> {
        let start = self.repr.offset as usize;
        start..start + self.repr.bytes as usize
    }
}

/// A record of the op table.
#[derive(Clone, Copy, Debug)]
pub struct Op<'a> {
    /// Place in the table.
    pub index: usize,
    /// The record.
    pub repr: OpRepr,
    image: Image<'a>,
}

impl<'a> Op<'a> {
    pub(super) fn new(image: Image<'a>, index: usize, repr: OpRepr) -> Self {
        Self { index, repr, image }
    }

    /// The op's name: the ONNX node it comes from.
    pub fn name(&self) -> &'a str {
        self.image.text(self.repr.name)
    }

    /// How many tensors it reads, at least one.
    pub fn input_count(&self) -> usize {
        self.repr.inputs.len as usize / 4
    }

    /// Tensor read as operand `i`, which is below [`Self::input_count`].
    pub fn input(&self, i: usize) -> Tensor<'a> {
        self.image.tensor_at(self.image.table(self.repr.inputs).u32(i))
    }

    /// Tensors read, in the order of the operands.
    pub fn inputs(self) -> impl Iterator<Item = Tensor<'a>> {
        (0..self.input_count()).map(move |i| self.input(i))
    }

    /// Tensor written.
    // Once in flash.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn output(&self) -> Tensor<'a> {
        self.image.tensor_at(self.repr.output)
    }

    /// The bytes of the arena that the kernel may use while it runs.
    pub fn scratch(&self) -> core::ops::Range<usize> {
        let Span { offset, len } = self.repr.scratch;
        // An empty range inside another counts as overlapping it when slices are split.
        if len == 0 { 0..0 } else { offset as usize..(offset + len) as usize }
    }

    /// Multiply-accumulates, padding counted; 0 for what multiplies nothing.
    pub fn macs(&self) -> u64 {
        let (x, y) = (self.input(0), self.output());
        let terms = match self.repr.kind {
            OpKind::Conv2d { window, groups, .. } => {
                let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                taps * u64::from(x.repr.shape[2] / groups.max(1))
            }
            OpKind::Dense { .. } => x.repr.bytes.into(),
            _ => 0,
        };
        terms.saturating_mul(y.repr.bytes.into())
    }

    /// Ends of the clamp.
    pub fn clamp(&self) -> [i32; 2] {
        [self.repr.clamp_min.into(), self.repr.clamp_max.into()]
    }

    /// The weights that `repr`, taken from this op, describes.
    pub fn weights(&self, repr: WeightsRepr) -> Weights<'a> {
        self.image.weights(repr)
    }

    /// The table in the image that `span`, taken from this op, describes.
    pub fn table(&self, span: Span) -> Table<'a> {
        self.image.table(span)
    }

    /// The table of bytes in the image that `span`, taken from this op, describes; none for an empty span.
    pub fn byte_table(&self, span: Span) -> Option<&'a [u8; 256]> {
        self.image.slice(span).first_chunk()
    }
}
