//! Where each field of a record lies: the only place in the project that knows. Enters: values, or a record's bytes.
//! Leaves: the other of the two. Refuses flags, kinds and fillers that have no meaning. The same offsets, in prose, are
//! in `docs/flash-image.md`.
//!
//! Everything is little-endian. Bytes without a field are 0, so that a record has exactly one form:
//! `parse(emit(v)) == v`, and `emit(parse(b)) == b` whenever `parse` accepts `b`.

#[cfg(any(test, feature = "std"))]
use super::repr::{FooterRepr, PackedRepr};
use super::{
    Fault,
    repr::{HeaderRepr, OpKind, OpRepr, Span, TensorRepr, WeightsRepr, WindowRepr},
};

/// Offset of the length field, u32.
pub(super) const LENGTH: usize = 12;
/// Offset of the CRC field, u32. The CRC covers every byte of the file but these four.
pub(super) const CRC: usize = 16;
/// Offset of [`HeaderRepr::arena_bytes`].
pub(super) const ARENA_BYTES: usize = 24;
/// Offset of the first header field that [`HeaderRepr::emit`] writes.
const FIELDS: usize = 20;
/// Offset of [`HeaderRepr::provenance`].
const PROVENANCE: usize = 96;
/// Offset of an op's window.
const WINDOW: usize = 36;
/// Offset of the window's padding, which is all that a Pad has of it.
const PADDING: usize = WINDOW + 8;
/// Offset of what only this kind of op has.
const OPERANDS: usize = 60;

/// Writes fields one behind the other.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&field);
        self.at += N;
    }

    fn u32(&mut self, value: u32) {
        self.put(value.to_le_bytes());
    }

    fn span(&mut self, span: Span) {
        self.u32(span.offset);
        self.u32(span.len);
    }

    fn u16s<const N: usize>(&mut self, values: [u16; N]) {
        values.into_iter().for_each(|value| self.put(value.to_le_bytes()));
    }
}

/// Reads fields one behind the other. The records have a fixed size, so that no read can miss.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes[self.at..].first_chunk().expect("records hold their fields");
        self.at += N;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.take())
    }

    fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.take())
    }

    fn i16(&mut self) -> i16 {
        i16::from_le_bytes(self.take())
    }

    fn span(&mut self) -> Span {
        Span { offset: self.u32(), len: self.u32() }
    }

    fn u16s<const N: usize>(&mut self) -> [u16; N] {
        core::array::from_fn(|_| u16::from_le_bytes(self.take()))
    }

    fn flag(&mut self) -> bool {
        self.take() != [0]
    }
}

impl HeaderRepr {
    /// Size of the header.
    pub const BYTES: usize = 128;

    /// The header, still without magic, version, length and CRC: [`seal`](super::seal) adds them to the finished file.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut w = Writer { bytes: &mut bytes, at: FIELDS };
        w.u32(self.contract);
        w.u32(self.arena_bytes);
        w.span(self.tensors);
        w.span(self.ops);
        w.u32(self.input);
        w.u32(self.output);
        w.span(self.input_tables);
        w.span(self.preprocessing);
        w.span(self.labels);
        w.span(self.name);
        w.at = PROVENANCE;
        w.put(self.provenance);
        bytes
    }

    /// The header's fields.
    ///
    /// # Errors
    /// [`Fault::Flags`] when bytes without a field are not 0.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, Fault> {
        let header = Self::fields(bytes);
        if header.emit()[FIELDS..] == bytes[FIELDS..] { Ok(header) } else { Err(Fault::Flags) }
    }

    /// [`Self::parse`] of bytes that it has accepted before.
    fn fields(bytes: &[u8; Self::BYTES]) -> Self {
        let mut r = Reader { bytes, at: FIELDS };
        Self {
            contract: r.u32(),
            arena_bytes: r.u32(),
            tensors: r.span(),
            ops: r.span(),
            input: r.u32(),
            output: r.u32(),
            input_tables: r.span(),
            preprocessing: r.span(),
            labels: r.span(),
            name: r.span(),
            provenance: {
                r.at = PROVENANCE;
                r.take()
            },
        }
    }
}

#[cfg(any(test, feature = "std"))]
impl PackedRepr {
    /// Size of a record of packed weights.
    pub const BYTES: usize = 16;

    /// The record.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut w = Writer { bytes: &mut bytes, at: 0 };
        [self.tag, self.offset, self.words, self.rows].into_iter().for_each(|field| w.u32(field));
        bytes
    }

    /// The record's fields.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Self {
        let mut r = Reader { bytes, at: 0 };
        Self { tag: r.u32(), offset: r.u32(), words: r.u32(), rows: r.u32() }
    }
}

#[cfg(any(test, feature = "std"))]
impl FooterRepr {
    /// Size of the footer.
    pub const BYTES: usize = 16;

    /// Its last bytes, with which no text ends.
    const MAGIC: [u8; 8] = *b"\xffPACKED\n";

    /// The footer.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut w = Writer { bytes: &mut bytes, at: 0 };
        w.u32(self.portable);
        w.u32(self.count);
        w.put(Self::MAGIC);
        bytes
    }

    /// The footer's fields; none where there is no footer.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let mut r = Reader { bytes, at: 0 };
        let footer = Self { portable: r.u32(), count: r.u32() };
        (r.take() == Self::MAGIC).then_some(footer)
    }
}

impl TensorRepr {
    /// Size of a tensor record.
    pub const BYTES: usize = 32;

    /// The record.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut w = Writer { bytes: &mut bytes, at: 0 };
        w.u32(self.offset);
        w.u32(self.bytes);
        w.u16s(self.shape);
        w.put([self.bits, u8::from(self.signed)]);
        w.put(self.scale.to_le_bytes());
        w.put(self.zero_point.to_le_bytes());
        w.span(self.name);
        bytes
    }

    /// The record's fields.
    ///
    /// # Errors
    /// [`Fault::Flags`] when a flag is neither 0 nor 1.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, Fault> {
        let tensor = Self::fields(bytes);
        if tensor.emit() == *bytes { Ok(tensor) } else { Err(Fault::Flags) }
    }

    /// [`Self::parse`] of bytes that it has accepted before.
    pub(super) fn fields(bytes: &[u8; Self::BYTES]) -> Self {
        let mut r = Reader { bytes, at: 0 };
        Self {
            offset: r.u32(),
            bytes: r.u32(),
            shape: r.u16s(),
            bits: r.take::<1>()[0],
            signed: r.flag(),
            scale: r.f32(),
            zero_point: r.i32(),
            name: r.span(),
        }
    }
}

impl OpKind {
    /// The kind's tag in the image.
    const fn tag(&self) -> u8 {
        match self {
            Self::Conv2d { .. } => 1,
            Self::Dense { .. } => 2,
            Self::MaxPool { .. } => 3,
            Self::AveragePool { .. } => 4,
            Self::GlobalAveragePool { .. } => 5,
            Self::Add { .. } => 6,
            Self::Concat { .. } => 7,
            Self::Lookup { .. } => 8,
            Self::Reshape => 9,
            Self::Mul { .. } => 10,
            Self::Pad { .. } => 11,
            Self::Softmax { .. } => 12,
        }
    }
}

impl OpRepr {
    /// Size of an op record.
    pub const BYTES: usize = 96;

    /// The record.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut w = Writer { bytes: &mut bytes, at: 4 };
        w.put(self.clamp_min.to_le_bytes());
        w.put(self.clamp_max.to_le_bytes());
        w.span(self.inputs);
        w.u32(self.output);
        w.span(self.scratch);
        w.span(self.name);
        if let OpKind::Conv2d { window, groups, .. } = self.kind {
            emit_window(&mut w, &window);
            w.u16s([groups]);
        } else if let OpKind::MaxPool { window } | OpKind::AveragePool { window, .. } = self.kind {
            emit_window(&mut w, &window);
        } else if let OpKind::Pad { padding } = self.kind {
            w.at = PADDING;
            w.u16s(padding);
        }
        w.at = OPERANDS;
        let (mut bits, mut signed, mut shift) = (0, false, 0);
        match self.kind {
            OpKind::Conv2d { weights, .. } | OpKind::Dense { weights } => {
                (bits, signed) = (weights.bits, weights.signed);
                for span in [weights.data, weights.zero_points, weights.bias, weights.multipliers] {
                    w.span(span);
                }
            }
            OpKind::AveragePool { multipliers: span, .. }
            | OpKind::Concat { tables: span }
            | OpKind::Lookup { table: span } => w.span(span),
            OpKind::GlobalAveragePool { multiplier } | OpKind::Mul { multiplier } => w.put(multiplier.to_le_bytes()),
            OpKind::Add { multipliers, shift: by } => {
                multipliers.into_iter().for_each(|multiplier| w.put(multiplier.to_le_bytes()));
                shift = by;
            }
            OpKind::Softmax { table, multiplier, shift: by } => {
                w.span(table);
                w.put(multiplier.to_le_bytes());
                shift = by;
            }
            OpKind::MaxPool { .. } | OpKind::Pad { .. } | OpKind::Reshape => {}
        }
        w.at = 0;
        w.put([self.kind.tag(), bits, u8::from(signed), shift]);
        bytes
    }

    /// The record's fields.
    ///
    /// # Errors
    /// [`Fault::Kind`] for a kind that is not known, [`Fault::Flags`] for a flag that is neither 0 nor 1 and for bytes
    /// without a field that are not 0.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, Fault> {
        let op = Self::fields(bytes);
        match op.emit() {
            emitted if emitted == *bytes => Ok(op),
            [tag, ..] if tag != bytes[0] => Err(Fault::Kind),
            _ => Err(Fault::Flags),
        }
    }

    /// [`Self::parse`] of bytes that it has accepted before. A kind that is not known is read as a reshape, whose tag
    /// then gives it away.
    pub(super) fn fields(bytes: &[u8; Self::BYTES]) -> Self {
        let mut r = Reader { bytes, at: 0 };
        let [tag, bits] = r.take();
        let signed = r.flag();
        let [shift] = r.take();
        let (clamp_min, clamp_max) = (r.i16(), r.i16());
        let (inputs, output) = (r.span(), r.u32());
        let (scratch, name) = (r.span(), r.span());
        let mut r = Reader { bytes, at: WINDOW };
        let window = WindowRepr { kernel: r.u16s(), stride: r.u16s(), padding: r.u16s(), dilation: r.u16s() };
        let [groups] = r.u16s();
        let mut r = Reader { bytes, at: OPERANDS };
        let weights = |mut r: Reader| WeightsRepr {
            bits,
            signed,
            data: r.span(),
            zero_points: r.span(),
            bias: r.span(),
            multipliers: r.span(),
        };
        let kind = match tag {
            1 => OpKind::Conv2d { window, groups, weights: weights(r) },
            2 => OpKind::Dense { weights: weights(r) },
            3 => OpKind::MaxPool { window },
            4 => OpKind::AveragePool { window, multipliers: r.span() },
            5 => OpKind::GlobalAveragePool { multiplier: r.f32() },
            6 => OpKind::Add { multipliers: [r.i32(), r.i32()], shift },
            7 => OpKind::Concat { tables: r.span() },
            8 => OpKind::Lookup { table: r.span() },
            10 => OpKind::Mul { multiplier: r.f32() },
            11 => OpKind::Pad { padding: window.padding },
            12 => OpKind::Softmax { table: r.span(), multiplier: r.i32(), shift },
            _ => OpKind::Reshape,
        };
        Self { kind, inputs, output, clamp_min, clamp_max, scratch, name }
    }
}

fn emit_window(w: &mut Writer, window: &WindowRepr) {
    w.at = WINDOW;
    w.u16s(window.kernel);
    w.u16s(window.stride);
    w.u16s(window.padding);
    w.u16s(window.dilation);
}
