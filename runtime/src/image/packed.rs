//! Weights that an image holds once more, packed for some executors, behind all that every reader reads. Enters: a file. Leaves: the
//! packed weights in place; a file with them ([`append`]), and one without ([`portable_len`] bytes of it, sealed again). Refused, by
//! [`Image::check`](super::Image::check): what is not where it must be. A reader without the feature `std`, a firmware's,
//! knows nothing of them and needs not.
//!
//! The file ends with a record for each order of weights, and a footer with a magic number that no text ends with.

use super::{
    Fault, Image, ImageError, Place,
    error::require,
    repr::{FooterRepr, HeaderRepr, PackedRepr},
};
use crate::kernels::{
    conv2d::packed::Packed,
    simd::{
        Row,
        packing::{Packing, Sink, Source, Spoiled},
    },
};

/// Where the words and rows of packed weights begin: at a multiple of this.
const ROW: usize = size_of::<Row>();

/// Weights packed in one order.
#[derive(Clone, Copy, Debug)]
pub struct PackedWeights<'a> {
    /// The order.
    pub packing: Packing,
    pub(crate) words: &'a [[u8; 4]],
    pub(crate) rows: &'a [Row],
}

impl<'a> PackedWeights<'a> {
    /// Bytes in the file.
    pub const fn bytes(&self) -> usize {
        size_of_val(self.words).next_multiple_of(ROW) + size_of_val(self.rows)
    }

    /// All layers, first to last.
    pub(crate) const fn source(&self) -> Source<'a> {
        Source::new(self.words, self.rows.len())
    }
}

/// What is wrong with packed weights at `place`.
fn error(place: Place, spoiled: Spoiled) -> ImageError {
    match spoiled {
        Spoiled::Length { found, expected: 0 } => ImageError::new(place, Fault::PackedLength, found as i64, 0..=0),
        Spoiled::Length { found, expected } => {
            ImageError::new(place, Fault::PackedLength, found as i64, expected as i64..=i64::MAX)
        }
        Spoiled::Number { found, end } => ImageError::new(place, Fault::PackedNumber, found as i64, 0..=end as i64 - 1),
    }
}

/// The footer, and the bytes of the records before it.
fn footer(file: &[u8]) -> Option<(FooterRepr, &[u8])> {
    let (rest, footer) = file.split_last_chunk()?;
    Some((FooterRepr::parse(footer)?, rest))
}

/// Bytes of the file before anything was appended.
pub(super) fn portable_len(file: &[u8]) -> usize {
    footer(file).map_or(file.len(), |(footer, _)| (footer.portable as usize).min(file.len()))
}

/// Records with the packed weights that they tell of, first to last; an error where one is wrong.
pub(super) fn each(file: &[u8]) -> impl Iterator<Item = Result<PackedWeights<'_>, ImageError>> {
    let (footer, rest) = footer(file).unwrap_or((FooterRepr { portable: 0, count: 0 }, &[]));
    let records = rest.len().saturating_sub((footer.count as usize).saturating_mul(PackedRepr::BYTES));
    let mut begin = (footer.portable as usize).next_multiple_of(ROW);
    let mut least = 1;
    rest[records..].as_chunks().0.iter().enumerate().map(move |(i, record)| {
        let place = Place::Packed(i as u32);
        let record = PackedRepr::parse(record);
        require(place, Fault::Packing, record.tag, least..=u32::MAX.into())?;
        let Some(packing) = Packing::from_tag(record.tag) else {
            return Err(ImageError::none(place, Fault::Packing, record.tag.into()));
        };
        least = i64::from(record.tag) + 1;
        require(place, Fault::PackedPlace, record.offset, begin as i64..=begin as i64)?;
        let words = 4 * record.words as usize;
        let rows = begin + words.next_multiple_of(ROW);
        let end = rows + ROW * record.rows as usize;
        require(place, Fault::PackedPlace, end as i64, i64::MIN..=records as i64)?;
        let weights = PackedWeights {
            packing,
            words: rest[begin..begin + words].as_chunks().0,
            rows: rest[rows..end].as_chunks().0,
        };
        begin = end;
        Ok(weights)
    })
}

/// Checks what is behind the portable part of the file, if there is anything.
pub(super) fn check(image: Image<'_>) -> Result<(), ImageError> {
    let Some((footer, rest)) = footer(image.bytes) else { return Ok(()) };
    let place = Place::Header;
    let records = u64::from(footer.count) * PackedRepr::BYTES as u64;
    require(place, Fault::Count, footer.count, 1..=Packing::ALL.len() as i64)?;
    let behind = rest.len() as i64 - records as i64;
    require(place, Fault::PackedPlace, footer.portable, HeaderRepr::BYTES as i64..=behind)?;
    let mut end = (footer.portable as usize).next_multiple_of(ROW);
    for (i, weights) in each(image.bytes).enumerate() {
        let (place, weights) = (Place::Packed(i as u32), weights?);
        let mut source = weights.source();
        let mut layers = image.ops();
        let read = layers.try_for_each(|op| Packed::read(weights.packing, &op, &mut source).map(drop));
        read.and_then(|()| source.end()).map_err(|spoiled| error(place, spoiled))?;
        end += weights.bytes();
    }
    require(place, Fault::PackedPlace, end as i64, behind..=behind)
}

/// Appends packed weights, in the order of their tags, to a file without any; it must be sealed anew.
///
/// # Errors
/// The length in bytes, when it is more than u32 holds.
pub(crate) fn append(file: &mut Vec<u8>, packed: &[(Packing, Sink)]) -> Result<(), u64> {
    let portable = file.len() as u64;
    let mut records = Vec::new();
    for (packing, sink) in packed {
        file.resize(file.len().next_multiple_of(ROW), 0);
        let [offset, words, rows] = [file.len(), sink.words.len(), sink.rows.len()].map(|n| n as u32);
        file.extend_from_slice(sink.words.as_flattened());
        file.resize(file.len().next_multiple_of(ROW), 0);
        file.extend_from_slice(sink.rows.as_flattened());
        records.extend(PackedRepr { tag: packing.tag(), offset, words, rows }.emit());
    }
    file.extend(records);
    file.extend(FooterRepr { portable: portable as u32, count: packed.len() as u32 }.emit());
    if u32::try_from(file.len()).is_ok() { Ok(()) } else { Err(file.len() as u64) }
}

#[cfg(test)]
mod tests;
