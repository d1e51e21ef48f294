//! The flash image: what is stored, how it is written, how it is read in place.

mod crc32;
mod error;
mod layout;
pub mod repr;

pub use crc32::{Crc32, crc32};
pub use error::{Fault, ImageError, Place};

/// First bytes of every image. The line break shows a transfer that took the file for text.
pub const MAGIC: [u8; 8] = *b"INTACT\r\n";

/// Version of the format, the only one.
pub const VERSION: u32 = 1;

/// Where every span but those of texts starts: at a multiple of this, in the file and in the arena.
pub const ALIGN: u32 = 16;

/// Completes a file whose header came from [`HeaderRepr::emit`](repr::HeaderRepr::emit): magic, version, length and CRC.
///
/// # Errors
/// The length, when `file` is shorter than a header or longer than u32 holds.
pub fn seal(file: &mut [u8]) -> Result<(), usize> {
    let Some(length) = u32::try_from(file.len()).ok().filter(|_| file.len() >= repr::HeaderRepr::BYTES) else {
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
    let Some(header) = file.first_chunk::<{ repr::HeaderRepr::BYTES }>() else {
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
