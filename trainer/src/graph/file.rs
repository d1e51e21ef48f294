//! Many architectures in one file. Enters: a [`Request`] and packed architectures, or a file. Leaves: a file, or a set whose
//! every network has been read once. Refused, with place, found and expected: other files, other versions, files cut short,
//! lengthened or damaged in any bit.
//!
//! Layout, little-endian: [`MAGIC`]; format version `u16`, generator `u16`; space, split and switches (bit 0: 1x1, bit 1:
//! depthwise 7x7) `u8` each, a zero; seed `u64`; networks `u32`, bytes of all records `u32`; channels, size and classes of
//! the task `u16` each, a zero `u16`; caps of parameters, multiply-accumulates and arena `u64` each, all ones for none;
//! CRC-32 of all that. Then the length of each record `u8`, and their CRC-32. Then the records
//! ([`Architecture::to_bytes`]), each with its own.

use super::architecture::Architecture;
use super::blueprint::Task;
use super::sample::{GENERATOR, Request};
use super::space::{Caps, Space, Split, Switches};
use exporter::file::{WriteError, write_atomically};
use runtime::image::crc32;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// First bytes of every file. The line break shows a transfer that took the file for text.
pub(super) const MAGIC: [u8; 8] = *b"GRAPHS\r\n";

/// Version of the format.
const VERSION: u16 = 1;
/// Bytes before the lengths, CRC included.
const HEADER: usize = 68;

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum GraphSetError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are no set of architectures.
    #[error("{name}: {place}: found {found}, expected {expected}")]
    Format {
        /// The file, or what the caller calls the bytes.
        name: String,
        /// Where.
        place: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
}

/// Architectures, packed, with where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSet {
    request: Request,
    generator: u16,
    records: Vec<u8>,
    /// Network `i` is `records[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<u32>,
}

impl GraphSet {
    pub(super) fn new(request: Request, packed: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut set = Self { request, generator: GENERATOR, records: Vec::new(), offsets: vec![0] };
        for record in packed {
            set.records.extend(record);
            set.offsets.push(set.records.len() as u32);
        }
        set
    }

    /// What was asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Version of the generator that drew the networks; the same request gives the same networks only with the same.
    pub fn generator(&self) -> u16 {
        self.generator
    }

    /// Number of networks.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Network number `i`, if there are so many.
    pub fn get(&self, i: usize) -> Option<Architecture> {
        let record = *self.offsets.get(i)? as usize..*self.offsets.get(i + 1)? as usize;
        Some(Architecture::from_bytes(&self.records[record]).expect("every record has been read before"))
    }

    /// All networks, in order.
    pub fn iter(&self) -> impl Iterator<Item = Architecture> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Request { space, split, switches, caps, task, seed } = self.request;
        let mut bytes = Vec::with_capacity(HEADER + self.len() + 4 + self.records.len());
        bytes.extend(MAGIC);
        bytes.extend([VERSION, self.generator].map(u16::to_le_bytes).as_flattened());
        bytes.extend([space as u8, split as u8]);
        bytes.extend([u8::from(switches.convolution_1x1) | u8::from(switches.depthwise_7x7) << 1, 0]);
        bytes.extend(seed.to_le_bytes());
        bytes.extend([self.len() as u32, self.records.len() as u32].map(u32::to_le_bytes).as_flattened());
        let task = [task.channels, task.size, task.classes, 0].map(|n| (n as u16).to_le_bytes());
        bytes.extend(task.as_flattened());
        let caps =
            [Some(caps.parameters), caps.macs, caps.arena_bytes].map(|cap| cap.unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend(caps.as_flattened());
        bytes.extend(crc32(&bytes).to_le_bytes());
        let lengths: Vec<u8> = self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u8).collect();
        bytes.extend(&lengths);
        bytes.extend(crc32(&lengths).to_le_bytes());
        bytes.extend(&self.records);
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `name` is for messages.
    ///
    /// # Errors
    /// [`GraphSetError::Format`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, GraphSetError> {
        Reader { name, bytes }.read()
    }

    /// Writes a file beside `path` and renames it.
    ///
    /// # Errors
    /// [`WriteError`] naming the path.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        write_atomically(path, &self.to_bytes())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`GraphSetError`] naming the path.
    pub fn read(path: &Path) -> Result<Self, GraphSetError> {
        let bytes = std::fs::read(path).map_err(|source| GraphSetError::Read { path: path.into(), source })?;
        Self::from_bytes(&path.display().to_string(), &bytes)
    }
}

struct Reader<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn fault<T>(&self, place: impl Display, found: impl Display, expected: impl Display) -> Result<T, GraphSetError> {
        let (place, found, expected) = (place.to_string(), found.to_string(), expected.to_string());
        Err(GraphSetError::Format { name: self.name.into(), place, found, expected })
    }

    /// `N` bytes of the header, whose length has been looked at.
    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        *self.bytes[offset..].first_chunk().expect("fields lie within the header")
    }

    fn checksum(&self, place: &str, covered: &[u8], stored: [u8; 4]) -> Result<(), GraphSetError> {
        let (stored, computed) = (u32::from_le_bytes(stored), crc32(covered));
        if stored == computed {
            return Ok(());
        }
        self.fault(format!("checksum of the {place}"), format!("{stored:#010x}"), format!("{computed:#010x}"))
    }

    fn read(&self) -> Result<GraphSet, GraphSetError> {
        let length = self.bytes.len();
        if !self.bytes.starts_with(&MAGIC) {
            let start = self.bytes[..length.min(MAGIC.len())].escape_ascii();
            return self.fault("first bytes", format!("`{start}`"), format!("`{}`", MAGIC.escape_ascii()));
        }
        if length < HEADER {
            return self.fault("length", format!("{length} bytes"), format!("at least {HEADER}"));
        }
        let version = u16::from_le_bytes(self.at(8));
        if version != VERSION {
            return self.fault("format version", version, VERSION);
        }
        self.checksum("header", &self.bytes[..HEADER - 4], self.at(HEADER - 4))?;
        let request = self.request()?;
        let [networks, records] = [24, 28].map(|offset| u32::from_le_bytes(self.at(offset)) as usize);
        let expected = HEADER + networks + 4 + records;
        if length != expected {
            return self.fault("length", format!("{length} bytes"), expected);
        }
        let (lengths, rest) = self.bytes[HEADER..].split_at(networks);
        let (stored, records) = rest.split_at(4);
        self.checksum("lengths", lengths, *stored.first_chunk().expect("split at four"))?;
        let mut offsets = vec![0u32];
        for &bytes in lengths {
            offsets.push(offsets[offsets.len() - 1].saturating_add(bytes.into()));
        }
        let sum = offsets[networks] as usize;
        if sum != records.len() {
            return self.fault("sum of lengths", sum, records.len());
        }
        for (i, range) in offsets.windows(2).enumerate() {
            let record = &records[range[0] as usize..range[1] as usize];
            if let Err(error) = Architecture::from_bytes(record) {
                let at = HEADER + networks + 4 + range[0] as usize;
                return self.fault(format!("network {i} at byte {at}"), error, "a packed architecture");
            }
        }
        let generator = u16::from_le_bytes(self.at(10));
        Ok(GraphSet { request, generator, records: records.to_vec(), offsets })
    }

    fn request(&self) -> Result<Request, GraphSetError> {
        let [space, split, switches, zero] = self.at(12);
        let Some(&space) = Space::ALL.get(usize::from(space)) else {
            return self.fault("space", space, format!("below {}", Space::ALL.len()));
        };
        let Some(&split) = Split::ALL.get(usize::from(split)) else {
            return self.fault("split", split, format!("below {}", Split::ALL.len()));
        };
        if switches > 3 || zero != 0 || self.at(38) != [0, 0] {
            return self.fault("switches and reserved bytes", switches, "0 to 3, and zeros");
        }
        let switches = Switches { convolution_1x1: switches & 1 == 1, depthwise_7x7: switches & 2 == 2 };
        let [channels, size, classes] = [32, 34, 36].map(|offset| u16::from_le_bytes(self.at(offset)).into());
        let [parameters, macs, arena] = [40, 48, 56].map(|offset| u64::from_le_bytes(self.at(offset)));
        let limit = |cap: u64| (cap != u64::MAX).then_some(cap);
        let caps = Caps { parameters, macs: limit(macs), arena_bytes: limit(arena) };
        let seed = u64::from_le_bytes(self.at(16));
        Ok(Request { space, split, switches, caps, task: Task { channels, size, classes }, seed })
    }
}
