//! Bytes that start at a multiple of a cache line, where vector instructions read them fastest. Enters: a length, other bytes, or a
//! file. Leaves: the bytes. Refused: files that cannot be read.

use std::{
    fs::File,
    io::{self, Read},
    ops::{Deref, DerefMut},
    path::Path,
};

/// Where bytes start: at a multiple of this.
const ALIGN: usize = 64;

/// Bytes that start at a multiple of 64.
#[derive(Debug)]
pub struct Bytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { bytes, start, len }
    }

    /// Those bytes.
    pub fn copy(from: &[u8]) -> Self {
        let mut bytes = Self::zeros(from.len());
        bytes.copy_from_slice(from);
        bytes
    }

    /// A file's: a flash image that is read so is run with the weights that it holds packed where they lie.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = Self::zeros(len);
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
