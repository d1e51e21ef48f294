//! Weights packed for an executor: by whoever writes the image, or when a network is prepared. Enters: an image. Leaves: one that holds
//! the packed weights besides ([`pack`]), or one that no longer does ([`portable`]); in memory, what [`Prepared`](super::Prepared)
//! multiplies with. Any machine packs for any: the same image gives the same bytes. Refused: what the image check refuses, and files
//! beyond 4 GiB.

use super::Bytes;
use crate::{
    Image, ImageError,
    image::{PackedWeights, packed, seal},
    kernels::{
        conv2d::packed::Packed,
        simd::{
            Row,
            packing::{Packing, Sink, Source},
        },
    },
};
use std::fmt;

/// Why weights are not packed into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackError {
    /// The file is no sound image.
    Image(ImageError),
    /// So many bytes, more than the format holds.
    Length(u64),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::Length(found) => {
                write!(f, "the flash image with packed weights: found {found} bytes, expected at most {}", u32::MAX)
            }
        }
    }
}

impl std::error::Error for PackError {}

impl From<ImageError> for PackError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// The image with its weights packed in each of those orders, and in no other. Without any it is the [`portable`] one.
///
/// # Errors
/// [`PackError`].
pub fn pack(file: &[u8], packings: &[Packing]) -> Result<Vec<u8>, PackError> {
    let mut file = portable(file)?;
    let mut packings = packings.to_vec();
    packings.sort_unstable();
    packings.dedup();
    if packings.is_empty() {
        return Ok(file);
    }
    let image = Image::check(&file)?;
    let packed: Vec<(Packing, Sink)> = packings.into_iter().map(|packing| (packing, sink(&image, packing))).collect();
    packed::append(&mut file, &packed).map_err(PackError::Length)?;
    seal(&mut file).map_err(|length| PackError::Length(length as u64))?;
    Image::check(&file)?;
    Ok(file)
}

/// The image without packed weights: byte for byte the one to which they were added.
///
/// # Errors
/// That of the image check.
pub fn portable(file: &[u8]) -> Result<Vec<u8>, ImageError> {
    let image = Image::check(file)?;
    let mut portable = file[..image.portable_len()].to_vec();
    if portable.len() < file.len() {
        seal(&mut portable).expect("an image has a header");
        Image::check(&portable)?;
    }
    Ok(portable)
}

fn sink(image: &Image, packing: Packing) -> Sink {
    let mut sink = Sink::default();
    image.ops().for_each(|op| Packed::pack(packing, &op, &mut sink));
    sink
}

/// Where the weights lie that a network is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the image, unpacked, as every executor can read them.
    Plain,
    /// In the image, packed for the executor.
    Image,
    /// In memory of so many bytes, packed when the network was prepared.
    Memory(usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("weights as they are in the image"),
            Self::Image => f.write_str("weights packed for them in the image"),
            Self::Memory(bytes) => write!(f, "weights packed on loading, {bytes} bytes in memory"),
        }
    }
}

/// The packed rows of a network.
#[derive(Debug)]
pub(super) enum Rows<'i> {
    None,
    Image(&'i [Row]),
    Memory(Bytes),
}

impl<'i> Rows<'i> {
    /// Those of the image, if it has them in the order `packing`, or packed now; `read` is given what else was packed.
    pub(super) fn new<T>(image: &Image<'i>, packing: Option<Packing>, read: impl FnOnce(Source) -> T) -> (Self, T) {
        let Some(packing) = packing else { return (Self::None, read(Source::new(&[], 0))) };
        if let Some(found) = image.packed().find(|found: &PackedWeights| found.packing == packing) {
            return (Self::Image(found.rows), read(found.source()));
        }
        let Sink { words, rows } = sink(image, packing);
        let read = read(Source::new(&words, rows.len()));
        (Self::Memory(Bytes::copy(rows.as_flattened())), read)
    }

    pub(super) fn rows(&self) -> &[Row] {
        match self {
            Self::None => &[],
            Self::Image(rows) => rows,
            Self::Memory(bytes) => bytes.as_chunks().0,
        }
    }

    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::None => Origin::Plain,
            Self::Image(_) => Origin::Image,
            Self::Memory(bytes) => Origin::Memory(bytes.len()),
        }
    }
}
