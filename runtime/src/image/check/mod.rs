//! Everything that accessors and kernels rely on. Enters: bytes from anywhere. Leaves: an [`Image`], or the first thing
//! that is wrong. The order is: file, header, tensors, ops one by one (`op`), then what they do to each other's bytes in
//! the arena (`plan`), then weights that the file holds packed once more. Each step relies on the ones before it.

mod op;
mod plan;

use super::{
    ALIGN, Fault, Image, ImageError, MAGIC, MAX_OPS, MAX_TENSORS, Place, VERSION, checksum,
    error::require,
    layout,
    repr::{HeaderRepr, OpRepr, Span, TensorRepr},
};
use crate::arith;
use core::ops::RangeInclusive;

pub(super) fn check(bytes: &[u8]) -> Result<Image<'_>, ImageError> {
    let image = file(bytes)?;
    let checker = Checker { image, place: Place::Header };
    checker.tables()?;
    for tensor in image.tensors() {
        Checker { image, place: Place::Tensor(tensor.index as u32) }.tensor(&tensor.repr)?;
    }
    checker.header()?;
    for op in image.ops() {
        Checker { image, place: Place::Op(op.index as u32) }.op(&op)?;
    }
    plan::check(image)?;
    #[cfg(any(test, feature = "std"))]
    super::packed::check(image)?;
    Ok(image)
}

/// A file of which `check` has said before that it is sound: those bytes, as far as their CRC tells, and no others.
pub(super) fn known(bytes: &[u8], crc: u32) -> Result<Image<'_>, ImageError> {
    let image = file(bytes)?;
    require(Place::Header, Fault::Checksum, image.crc(), equal(crc))?;
    Ok(image)
}

/// The file as a whole: magic, version, length, CRC, contract.
fn file(bytes: &[u8]) -> Result<Image<'_>, ImageError> {
    let place = Place::Header;
    let length = bytes.len() as i64;
    let Some(record) = bytes.first_chunk::<{ HeaderRepr::BYTES }>() else {
        return Err(ImageError::new(place, Fault::Length, length, HeaderRepr::BYTES as i64..=i64::MAX));
    };
    let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| record[at + i]));
    for (i, expected) in MAGIC.as_chunks().0.iter().enumerate() {
        require(place, Fault::Magic, word(4 * i), equal(u32::from_le_bytes(*expected)))?;
    }
    require(place, Fault::Version, word(MAGIC.len()), equal(VERSION))?;
    require(place, Fault::Length, length, equal(word(layout::LENGTH)))?;
    require(place, Fault::Checksum, checksum(bytes), equal(word(layout::CRC)))?;
    let header = HeaderRepr::parse(record).map_err(|fault| ImageError::none(place, fault, 0))?;
    require(place, Fault::Contract, header.contract, equal(arith::CONTRACT))?;
    Ok(Image { bytes, header })
}

/// One value and no other.
fn equal(value: impl Into<i64>) -> RangeInclusive<i64> {
    let value = value.into();
    value..=value
}

/// Up to and including `value`; values that i64 does not hold are never reached.
fn at_most(value: u64) -> RangeInclusive<i64> {
    i64::MIN..=i64::try_from(value).unwrap_or(i64::MAX)
}

/// A product that cannot overflow: what i64 does not hold is taken for its greatest value, which no length equals.
fn product(factors: &[u64]) -> i64 {
    let product = factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor));
    i64::try_from(product).unwrap_or(i64::MAX)
}

/// The image under check and the record being looked at.
#[derive(Clone, Copy)]
struct Checker<'a> {
    image: Image<'a>,
    place: Place,
}

impl<'a> Checker<'a> {
    fn require(&self, fault: Fault, found: impl Into<i64>, expected: RangeInclusive<i64>) -> Result<(), ImageError> {
        require(self.place, fault, found, expected)
    }

    /// The bytes of a span that must lie in the file.
    fn inside(&self, span: Span) -> Result<&'a [u8], ImageError> {
        self.require(Fault::Span, span.end() as i64, at_most(self.image.bytes.len() as u64))?;
        Ok(self.image.slice(span))
    }

    /// The bytes of a span that must lie in the file, aligned, and have one of the given lengths.
    fn span(&self, span: Span, len: RangeInclusive<i64>) -> Result<&'a [u8], ImageError> {
        self.require(Fault::SpanLength, span.len, len)?;
        self.aligned(span.offset)?;
        self.inside(span)
    }

    fn aligned(&self, offset: u32) -> Result<(), ImageError> {
        self.require(Fault::Alignment, offset % ALIGN, equal(0))
    }

    fn text(&self, span: Span) -> Result<&'a str, ImageError> {
        let bytes = self.inside(span)?;
        str::from_utf8(bytes).map_err(|error| ImageError::none(self.place, Fault::Utf8, error.valid_up_to() as i64))
    }

    /// A table of records of `size` bytes, `1 ..= most` of them, each in its one form.
    fn records<const N: usize>(
        &self,
        span: Span,
        most: u32,
        place: impl Fn(u32) -> Place,
        parse: impl Fn(&[u8; N]) -> Result<(), Fault>,
    ) -> Result<(), ImageError> {
        let bytes = self.span(span, at_most(u64::MAX))?;
        self.require(Fault::SpanLength, span.len % N as u32, equal(0))?;
        self.require(Fault::Count, span.len / N as u32, 1..=most.into())?;
        for (i, record) in bytes.as_chunks::<N>().0.iter().enumerate() {
            parse(record).map_err(|fault| {
                let found = if fault == Fault::Kind { record[0].into() } else { span.offset as i64 + (i * N) as i64 };
                ImageError::none(place(i as u32), fault, found)
            })?;
        }
        Ok(())
    }

    /// The two tables, and the indices that point into them from the header.
    fn tables(&self) -> Result<(), ImageError> {
        let header = &self.image.header;
        self.records(header.tensors, MAX_TENSORS, Place::Tensor, |record| TensorRepr::parse(record).map(drop))?;
        self.records(header.ops, MAX_OPS, Place::Op, |record| OpRepr::parse(record).map(drop))?;
        self.tensor_index(header.input)?;
        self.tensor_index(header.output)
    }

    fn tensor_index(&self, index: u32) -> Result<(), ImageError> {
        self.require(Fault::TensorIndex, index, 0..=self.image.tensors().len() as i64 - 1)
    }

    fn tensor(&self, tensor: &TensorRepr) -> Result<(), ImageError> {
        self.text(tensor.name)?;
        for extent in tensor.shape {
            self.require(Fault::Extent, extent, 1..=u16::MAX.into())?;
        }
        self.require(Fault::Bits, tensor.bits, 2..=8)?;
        if !(tensor.scale.is_normal() && tensor.scale > 0.0) {
            return Err(ImageError::none(self.place, Fault::Scale, tensor.scale.to_bits().into()));
        }
        let (low, high) = arith::limits(tensor.bits, tensor.signed);
        self.require(Fault::ZeroPoint, tensor.zero_point, low.into()..=high.into())?;
        self.require(Fault::ArenaBytes, tensor.bytes, equal(product(&tensor.shape.map(u64::from))))?;
        self.arena(Span::new(tensor.offset, tensor.bytes))
    }

    /// A span of the arena.
    fn arena(&self, span: Span) -> Result<(), ImageError> {
        self.aligned(span.offset)?;
        self.require(Fault::ArenaEnd, span.end() as i64, at_most(self.image.header.arena_bytes.into()))
    }

    /// What hangs on the header, once the tensors are known to be sound.
    fn header(&self) -> Result<(), ImageError> {
        let header = &self.image.header;
        let (input, output) = (self.image.input().repr, self.image.output().repr);
        let channels = i64::from(input.shape[2]);
        let tables = self.span(header.input_tables, equal(256 * channels))?;
        self.entries(tables, &input, arith::limits(input.bits, input.signed).into())?;
        self.span(header.preprocessing, equal(8 * channels))?;
        self.text(header.name)?;
        let labels = self.text(header.labels)?;
        if !labels.is_empty() {
            let ended = labels.split_inclusive('\n').filter(|label| label.ends_with('\n')).count();
            let count = labels.split_terminator('\n').count();
            self.require(Fault::Labels, count as i64, equal(output.bytes))?;
            self.require(Fault::Labels, ended as i64, equal(output.bytes))?;
        }
        Ok(())
    }

    /// Tables of bytes that are stored in `tensor`: each within `low ..= high`.
    fn entries(&self, table: &[u8], tensor: &TensorRepr, [low, high]: [i32; 2]) -> Result<(), ImageError> {
        table.iter().try_for_each(|&byte| {
            self.require(Fault::TableEntry, arith::widen(byte, tensor.signed), low.into()..=high.into())
        })
    }
}

#[cfg(test)]
mod tests;
