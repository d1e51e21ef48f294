//! An architecture in about twenty bytes. Enters: an [`Architecture`]. Leaves: bit-packed fields and a CRC-32, as stored
//! in files, or the same in hexadecimal, to be passed on as text. Refused, with the field: other versions, damage, values
//! that no architecture has, bits left over. Equal architectures have equal codes and the other way round.
//!
//! Bits from the least significant of each byte: version 4, cells 6, width / 2 11, widening - 1 1, stem 2 (simple, simple
//! with pool, strided), (stem kernel - 3) / 2 2, BatchNorm 1, global average 1, hidden layer 1 and if so its features 12,
//! steps - 1 3, concatenation 1 for each step but the last, then for each step of the normal and the reduction cell twice
//! state 3 and operation 4. Then zero bits to a whole byte, then the CRC-32 of all that, little-endian.

use super::architecture::{Architecture, ArchitectureError, CellOp, Stem, Step};
use runtime::image::crc32;

/// Version of the packing.
const VERSION: u32 = 1;
/// Bytes of the checksum.
const CRC: usize = 4;

/// Why bytes are no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too short, too long, damaged, or not of this version.
    #[error("{place}: found {found}, expected {expected}")]
    Field {
        /// Which part.
        place: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Fields that make no architecture.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
}

fn fault<T>(place: &'static str, found: impl ToString, expected: impl ToString) -> Result<T, CodeError> {
    Err(CodeError::Field { place, found: found.to_string(), expected: expected.to_string() })
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    bits: usize,
}

impl Writer {
    fn put(&mut self, value: impl Into<u32>, bits: usize) {
        let value = value.into();
        for bit in 0..bits {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.bits / 8] |= ((value >> bit & 1) as u8) << (self.bits % 8);
            self.bits += 1;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    bits: usize,
}

impl Reader<'_> {
    fn take(&mut self, place: &'static str, bits: usize) -> Result<u32, CodeError> {
        let mut value = 0;
        for bit in 0..bits {
            let Some(byte) = self.bytes.get(self.bits / 8) else {
                return fault(place, format!("{} bytes", self.bytes.len()), "more");
            };
            value |= u32::from(byte >> (self.bits % 8) & 1) << bit;
            self.bits += 1;
        }
        Ok(value)
    }

    fn flag(&mut self, place: &'static str) -> Result<bool, CodeError> {
        Ok(self.take(place, 1)? == 1)
    }
}

impl Architecture {
    /// The packed form; under 40 bytes.
    ///
    /// # Errors
    /// [`ArchitectureError`]: fields out of range, which have no packed form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArchitectureError> {
        self.check()?;
        let mut w = Writer::default();
        w.put(VERSION, 4);
        w.put(self.cells, 6);
        w.put(self.width / 2, 11);
        w.put(self.widening - 1, 1);
        let stem: u32 = match self.stem {
            Stem::Simple { pool: false } => 0,
            Stem::Simple { pool: true } => 1,
            Stem::Strided => 2,
        };
        w.put(stem, 2);
        w.put((self.stem_kernel - 3) / 2, 2);
        w.put(self.batch_norm, 1);
        w.put(self.global_average, 1);
        w.put(self.hidden.is_some(), 1);
        if let Some(hidden) = self.hidden {
            w.put(hidden, 12);
        }
        w.put(self.normal.len() as u32 - 1, 3);
        for &taken in &self.concat[..self.concat.len() - 1] {
            w.put(taken, 1);
        }
        for (op, state) in self.normal.iter().chain(&self.reduction).flat_map(|step| step.branches) {
            w.put(state, 3);
            w.put(op as u32, 4);
        }
        let crc = crc32(&w.bytes);
        w.bytes.extend(crc.to_le_bytes());
        Ok(w.bytes)
    }

    /// Reads the packed form.
    ///
    /// # Errors
    /// [`CodeError`] with place, found and expected.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodeError> {
        let Some((packed, crc)) = bytes.split_last_chunk::<CRC>() else {
            return fault("length", format!("{} bytes", bytes.len()), format!("at least {CRC}"));
        };
        let (stored, computed) = (u32::from_le_bytes(*crc), crc32(packed));
        if stored != computed {
            return fault("checksum", format!("{stored:#010x}"), format!("{computed:#010x}"));
        }
        let mut r = Reader { bytes: packed, bits: 0 };
        let version = r.take("version", 4)?;
        if version != VERSION {
            return fault("version", version, VERSION);
        }
        let cells = r.take("cells", 6)? as u8;
        let width = r.take("width", 11)? as u16 * 2;
        let widening = r.take("widening", 1)? as u8 + 1;
        let stem = match r.take("stem", 2)? {
            0 => Stem::Simple { pool: false },
            1 => Stem::Simple { pool: true },
            2 => Stem::Strided,
            other => return fault("stem", other, "0 to 2"),
        };
        let stem_kernel = r.take("stem_kernel", 2)? as u8 * 2 + 3;
        let batch_norm = r.flag("batch_norm")?;
        let global_average = r.flag("global_average")?;
        let hidden = if r.flag("hidden")? { Some(r.take("hidden", 12)? as u16) } else { None };
        let steps = r.take("steps", 3)? as usize + 1;
        let mut concat = Vec::with_capacity(steps);
        for _ in 1..steps {
            concat.push(r.flag("concat")?);
        }
        concat.push(true);
        let [normal, reduction] = [cell(&mut r, "normal", steps)?, cell(&mut r, "reduction", steps)?];
        if packed.len() != r.bits.div_ceil(8) {
            return fault("length", format!("{} bytes", packed.len()), r.bits.div_ceil(8));
        }
        let rest = r.take("padding", packed.len() * 8 - r.bits)?;
        if rest != 0 {
            return fault("padding", format!("{rest:#b}"), "zero bits");
        }
        let architecture = Self {
            cells,
            width,
            widening,
            normal,
            reduction,
            concat,
            stem,
            stem_kernel,
            batch_norm,
            global_average,
            hidden,
        };
        architecture.check()?;
        Ok(architecture)
    }

    /// The packed form in hexadecimal, about 45 characters.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn to_code(&self) -> Result<String, ArchitectureError> {
        Ok(self.to_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads what [`Self::to_code`] wrote; upper case is taken too.
    ///
    /// # Errors
    /// [`CodeError`] with place, found and expected.
    pub fn from_code(code: &str) -> Result<Self, CodeError> {
        let mut bytes = Vec::with_capacity(code.len() / 2);
        for pair in code.as_bytes().chunks(2) {
            let byte = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'));
            match byte.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                Some(byte) => bytes.push(byte),
                None => return fault("code", String::from_utf8_lossy(pair), "pairs of hexadecimal digits"),
            }
        }
        Self::from_bytes(&bytes)
    }
}

fn cell(r: &mut Reader<'_>, place: &'static str, steps: usize) -> Result<Vec<Step>, CodeError> {
    let mut branch = || {
        let state = r.take(place, 3)? as u8;
        let op = r.take(place, 4)? as usize;
        match CellOp::ALL.get(op) {
            Some(&op) => Ok((op, state)),
            None => fault(place, format!("operation {op}"), format!("below {}", CellOp::ALL.len())),
        }
    };
    // Not `Step::new`, which would bring branches in a wrong order into the right one: then two codes would be one net.
    (0..steps).map(|_| Ok(Step { branches: [branch()?, branch()?] })).collect()
}
