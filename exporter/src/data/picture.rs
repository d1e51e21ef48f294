//! One picture file. Enters: a PNG or JPEG of any size and colour type, recognized by its content. Leaves: RGB bytes
//! of the size asked for. Refuses: what the decoder cannot read, and JPEGs that break off.
//!
//! Grey becomes three equal channels, 16 bits become 8, transparency is laid over white, and the EXIF orientation is
//! applied. A picture of another size is resized with the triangle filter (bilinear, widened when shrinking, so that
//! nothing is skipped); height and width are scaled independently, so nothing is cut off either.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::{DataError, Unreadable};

/// Longest side that can be asked for, in pixels.
const LONGEST: usize = 4096;

/// Reads a picture as `H W 3` RGB bytes, red first.
///
/// # Errors
/// [`DataError::Unreadable`] with the file's name; [`DataError::Size`] if a side is not 1 to 4096.
pub fn read_image(path: &Path, height: usize, width: usize) -> Result<Vec<u8>, DataError> {
    check_size([height, width])?;
    let picture = decode(path).map_err(|bad| DataError::Unreadable(vec![bad]))?;
    Ok(resize(picture, [height, width]))
}

/// Whether images of this size can be made.
pub(super) fn check_size([height, width]: [usize; 2]) -> Result<(), DataError> {
    let allowed = 1..=LONGEST;
    if allowed.contains(&height) && allowed.contains(&width) { Ok(()) } else { Err(DataError::Size { height, width }) }
}

/// The whole picture, at its own size.
pub(super) fn decode(path: &Path) -> Result<RgbImage, Unreadable> {
    let bad = |reason: String| Unreadable { file: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(bad("neither a PNG nor a JPEG".into())),
    };
    if format == ImageFormat::Jpeg && !has_end_of_image(&bytes) {
        return Err(bad(format!("the JPEG breaks off after {} bytes, without an end-of-image marker", bytes.len())));
    }
    let picture = oriented(ImageReader::with_format(Cursor::new(&bytes), format)).map_err(|e| bad(e.to_string()))?;
    Ok(if picture.color().has_alpha() { over_white(picture) } else { picture.into_rgb8() })
}

fn oriented(reader: ImageReader<Cursor<&Vec<u8>>>) -> image::ImageResult<DynamicImage> {
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether the marker `FF D9` follows the start of the scan. The decoder paints what is missing of a truncated JPEG
/// grey and reports success, so truncation is looked for here. Within a scan the marker cannot be data; before it, a
/// thumbnail has one of its own, so the segments in front are skipped by their lengths.
fn has_end_of_image(jpeg: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        match marker {
            START_OF_SCAN => return jpeg[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            // A fill byte in front of a marker.
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}

/// `H W 3` bytes at the size asked for; a picture that has it already is left as it is.
pub(super) fn resize(picture: RgbImage, [height, width]: [usize; 2]) -> Vec<u8> {
    if size(&picture) == [height, width] {
        return picture.into_raw();
    }
    imageops::resize(&picture, width as u32, height as u32, FilterType::Triangle).into_raw()
}

/// The same for bytes `H W 3` at the size `from`.
///
/// # Panics
/// If the number of bytes is another; a [`Dataset`](super::Dataset) has checked it.
pub(super) fn resize_bytes(image: Vec<u8>, from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let picture = RgbImage::from_raw(from[1] as u32, from[0] as u32, image);
    resize(picture.expect("as many bytes as the size says"), to)
}

/// Height and width.
pub(super) fn size(picture: &RgbImage) -> [usize; 2] {
    [picture.height() as usize, picture.width() as usize]
}

fn over_white(picture: DynamicImage) -> RgbImage {
    let picture = picture.into_rgba8();
    let mut rgb = RgbImage::new(picture.width(), picture.height());
    for (to, from) in rgb.pixels_mut().zip(picture.pixels()) {
        let alpha = u32::from(from.0[3]);
        to.0 = std::array::from_fn(|c| ((u32::from(from.0[c]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    rgb
}
