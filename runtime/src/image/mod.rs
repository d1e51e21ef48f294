//! The flash image: what is stored, how it is written, how it is read in place.
//!
//! Enters: the bytes of a `model.intact`, from anywhere. [`Image::check`] refuses, with an [`ImageError`], whatever an
//! accessor or a kernel relies on and does not find; it takes time in proportion to the file and to the square of the
//! number of ops, and no memory. Leaves: an [`Image`], that is the same bytes, of which every accessor can read without
//! failing. `docs/flash-image.md` states each field.

mod check;
mod crc32;
#[cfg(all(target_arch = "aarch64", any(test, feature = "std")))]
mod crc32_arm;
mod error;
mod layout;
#[cfg(any(test, feature = "std"))]
pub(crate) mod packed;
pub mod repr;
mod show;
mod view;

pub use crc32::{Crc32, crc32};
pub use error::{Fault, ImageError, Place};
#[cfg(any(test, feature = "std"))]
pub use packed::PackedWeights;
pub use view::{Op, Table, Tensor, Weights};

use core::fmt;
use repr::{HeaderRepr, OpRepr, Span, TensorRepr, WeightsRepr};

/// First bytes of every image. The line break shows a transfer that took the file for text.
pub const MAGIC: [u8; 8] = *b"INTACT\r\n";

/// Version of the format, the only one.
pub const VERSION: u32 = 1;

/// Where every span but those of texts starts: at a multiple of this, in the file and in the arena.
pub const ALIGN: u32 = 16;

/// Most ops that an image may have: bounds the time that a hostile image can take to be checked.
pub const MAX_OPS: u32 = 2048;

/// Most tensors that an image may have.
pub const MAX_TENSORS: u32 = 4096;

/// Most inputs that an op may have.
pub const MAX_INPUTS: u32 = 32;

/// A checked image.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    bytes: &'a [u8],
    header: HeaderRepr,
}

impl fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({:?}, {} bytes)", self.name(), self.bytes.len())
    }
}

impl<'a> Image<'a> {
    /// Checks everything that accessors and kernels rely on: magic, version, length, CRC, contract, every index, every
    /// span, shapes against windows, encodings, constants, and that in the arena no op reads bytes that were never written
    /// or have been overwritten.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[inline(never)]
    pub fn check(bytes: &'a [u8]) -> Result<Self, ImageError> {
        check::check(bytes)
    }

    /// An image that [`check`](Self::check) has accepted before, elsewhere: firmware is built with one file, which is checked
    /// while it is built, and so need not carry the check. Looks at magic, version, length, contract and the CRC, which must be
    /// `crc`, the [`Self::crc`] of the image that was checked.
    ///
    /// What comes of the CRC of an image that was never checked are panics and wrong integers, nothing worse.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[inline(never)]
    pub fn known(bytes: &'a [u8], crc: u32) -> Result<Self, ImageError> {
        check::known(bytes, crc)
    }

    /// The CRC-32 that the file carries, of all its other bytes.
    pub fn crc(&self) -> u32 {
        let field = self.bytes[layout::CRC..].first_chunk();
        u32::from_le_bytes(*field.expect("the file has a header"))
    }

    /// The header's fields.
    pub const fn header(&self) -> &HeaderRepr {
        &self.header
    }

    /// The file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The network's name.
    pub fn name(&self) -> &'a str {
        self.text(self.header.name)
    }

    /// Bytes of arena that a run needs, scratch included.
    pub const fn arena_bytes(&self) -> usize {
        self.header.arena_bytes as usize
    }

    /// The tensor that takes the picture.
    pub fn input(&self) -> Tensor<'a> {
        self.tensor_at(self.header.input)
    }

    /// The tensor that holds the logits.
    pub fn output(&self) -> Tensor<'a> {
        self.tensor_at(self.header.output)
    }

    /// Activations, in the order of the table.
    pub fn tensors(self) -> impl ExactSizeIterator<Item = Tensor<'a>> {
        let records = self.slice(self.header.tensors).as_chunks::<{ TensorRepr::BYTES }>().0;
        records.iter().enumerate().map(move |(i, record)| Tensor::new(self, i, TensorRepr::fields(record)))
    }

    /// Steps, in the order of execution.
    pub fn ops(self) -> impl DoubleEndedIterator<Item = Op<'a>> + ExactSizeIterator {
        let records = self.slice(self.header.ops).as_chunks::<{ OpRepr::BYTES }>().0;
        records.iter().enumerate().map(move |(i, record)| Op::new(self, i, OpRepr::fields(record)))
    }

    /// The weights once more, packed for some executors, if the file holds them.
    #[cfg(any(test, feature = "std"))]
    pub fn packed(&self) -> impl Iterator<Item = PackedWeights<'a>> + use<'a> {
        packed::each(self.bytes).map_while(Result::ok)
    }

    /// Bytes of the file without packed weights, which come last.
    #[cfg(any(test, feature = "std"))]
    pub fn portable_len(&self) -> usize {
        packed::portable_len(self.bytes)
    }

    /// Class names: none, or one for each logit.
    pub fn labels(&self) -> impl Iterator<Item = &'a str> {
        self.text(self.header.labels).split_terminator('\n')
    }

    /// Name of class `i`, when there are names and a class `i`.
    pub fn label(&self, i: usize) -> Option<&'a str> {
        self.labels().nth(i)
    }

    /// For each input channel the stored byte of each pixel value.
    pub fn input_tables(&self) -> &'a [[u8; 256]] {
        self.slice(self.header.input_tables).as_chunks().0
    }

    /// Means, then standard deviations, of the input channels, for pixels scaled to `0..=1`.
    pub fn preprocessing(&self) -> Table<'a> {
        self.table(self.header.preprocessing)
    }

    fn tensor_at(&self, index: u32) -> Tensor<'a> {
        let records = self.slice(self.header.tensors).as_chunks::<{ TensorRepr::BYTES }>().0;
        Tensor::new(*self, index as usize, TensorRepr::fields(&records[index as usize]))
    }

    fn weights(&self, repr: WeightsRepr) -> Weights<'a> {
        Weights {
            bits: repr.bits,
            signed: repr.signed,
            data: self.slice(repr.data),
            zero_points: self.table(repr.zero_points),
            bias: self.table(repr.bias),
            multipliers: self.table(repr.multipliers),
        }
    }

    fn table(&self, span: Span) -> Table<'a> {
        Table::new(self.slice(span))
    }

    fn text(&self, span: Span) -> &'a str {
        str::from_utf8(self.slice(span)).unwrap_or_default()
    }

    // Once in flash.
    #[cfg_attr(target_os = "none", inline(never))]
    fn slice(&self, span: Span) -> &'a [u8] {
        self.bytes.get(span.offset as usize..).and_then(|tail| tail.get(..span.len as usize)).unwrap_or_default()
    }
}

/// Completes a file whose header came from [`HeaderRepr::emit`]: magic, version, length and CRC.
///
/// # Errors
/// The length, when `file` is shorter than a header or longer than u32 holds.
pub fn seal(file: &mut [u8]) -> Result<(), usize> {
    let Some(length) = u32::try_from(file.len()).ok().filter(|_| file.len() >= HeaderRepr::BYTES) else {
        return Err(file.len());
    };
    file[..8].copy_from_slice(&MAGIC);
    file[8..layout::LENGTH].copy_from_slice(&VERSION.to_le_bytes());
    file[layout::LENGTH..layout::CRC].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(file);
    file[layout::CRC..layout::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// CRC-32 over all of the file but the field that holds it. The file is at least as long as a header.
fn checksum(file: &[u8]) -> u32 {
    Crc32::new().update(&file[..layout::CRC]).update(&file[layout::CRC + 4..]).finish()
}

/// Arena bytes that an image asks for, scratch included, for firmware that sizes a static array while it is built:
///
/// ```ignore
/// static MODEL: &[u8] = include_bytes!("model.intact");
/// const ARENA_BYTES: usize = runtime::image::arena_bytes(MODEL).expect("an Intact image");
/// ```
///
/// Only the magic is checked; `None` when it is missing.
pub const fn arena_bytes(file: &[u8]) -> Option<usize> {
    let Some(header) = file.first_chunk::<{ HeaderRepr::BYTES }>() else {
        return None;
    };
    let mut i = 0;
    while i < MAGIC.len() {
        if header[i] != MAGIC[i] {
            return None;
        }
        i += 1;
    }
    let (_, field) = header.split_at(layout::ARENA_BYTES);
    match field.first_chunk() {
        Some(field) => Some(u32::from_le_bytes(*field) as usize),
        None => None,
    }
}

#[cfg(test)]
mod tests;
