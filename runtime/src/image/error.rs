//! Why an image is refused. Enters: the place, what is wrong there, the value found and the values expected. Leaves: two
//! words for a device ([`ImageError::words`]) or a sentence for people (`Display`).

use core::{fmt, ops::RangeInclusive};

/// What part of the image is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The header, or the file as a whole.
    Header,
    /// A record of the tensor table.
    Tensor(u32),
    /// A record of the op table.
    Op(u32),
    /// A record of packed weights.
    #[cfg(any(test, feature = "std"))]
    Packed(u32),
}

/// Declares [`Fault`] so that the text of a variant is also its documentation.
macro_rules! faults {
    ($($variant:ident = $code:literal, $text:literal;)*) => {
        /// What is wrong there. The number of a variant never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Fault {
            $(#[doc = $text] $variant = $code,)*
        }

        impl Fault {
            /// The same words as the documentation of the variant.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Every fault there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    };
}

faults! {
    Magic = 1, "magic number of an Intact image, half of it";
    Version = 2, "format version";
    Length = 3, "length of the file in bytes";
    Checksum = 4, "CRC-32 over the file";
    Contract = 5, "arithmetic contract";
    Flags = 6, "a flag or a filler byte without a meaning, in the record at byte";
    Count = 7, "records in the table";
    Span = 8, "end of a span of bytes, in a file of that length";
    Alignment = 9, "alignment: offset modulo 16";
    SpanLength = 10, "length of a span in bytes";
    Utf8 = 11, "text that is not UTF-8: first bad byte at offset";
    Labels = 12, "labels, each ended by a line feed";
    TensorIndex = 13, "tensor index";
    Kind = 14, "unknown kind of op: tag";
    Inputs = 15, "number of inputs";
    Extent = 16, "extent of a shape or window";
    Bits = 17, "bits of an encoding";
    Scale = 18, "scale (its f32 bits) that is not positive, normal and finite";
    ZeroPoint = 19, "zero point";
    ArenaBytes = 20, "bytes of the tensor";
    ArenaEnd = 21, "end of the bytes in the arena";
    OutputShape = 22, "extent of the output";
    OutputEncoding = 23, "encoding of the output, which must equal that of the input: tensor";
    OutputOffset = 24, "arena offset of a reshape, whose output is made of its inputs' bytes, side by side";
    Groups = 25, "groups, which must divide input and output channels";
    Padding = 26, "padding of a pool, in a kernel of that extent";
    Clamp = 27, "end of the clamp";
    Multiplier = 28, "multiplier (its f32 bits) that is not positive, normal and below 2^31";
    AddMultiplier = 29, "multiplier of an Add or Softmax";
    Shift = 30, "shift of an Add or Softmax";
    TableEntry = 31, "entry of a table";
    Accumulator = 32, "largest accumulator";
    Scratch = 33, "bytes of scratch";
    Overlap = 34, "the bytes written overlap the bytes read: offset";
    Overwritten = 35, "the input is no longer there, overwritten by op";
    NeverWritten = 36, "the input was never written: tensor";
    Packing = 37, "order of packed weights, that is known and behind the one before it: tag";
    PackedPlace = 38, "where packed weights begin or end";
    PackedLength = 39, "words or rows of packed weights, of which the layers take others";
    PackedNumber = 40, "a count or an input among packed weights";
}

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
    /// The value there.
    pub found: i64,
    /// The least and the greatest value that would do; the least is above the greatest if none would.
    pub expected: [i64; 2],
}

impl ImageError {
    pub(super) fn new(place: Place, fault: Fault, found: i64, expected: RangeInclusive<i64>) -> Self {
        Self { place, fault, found, expected: [*expected.start(), *expected.end()] }
    }

    /// A fault for which no value would do.
    pub(super) fn none(place: Place, fault: Fault, found: i64) -> Self {
        Self { place, fault, found, expected: [1, 0] }
    }

    /// For a device that can say no more than two words: the fault (low byte) with the table (0 header, 1 tensors, 2 ops, 3 packed
    /// weights; next byte), and the record's index in that table.
    pub const fn words(&self) -> [u32; 2] {
        let (table, index) = match self.place {
            Place::Header => (0, 0),
            Place::Tensor(index) => (1, index),
            Place::Op(index) => (2, index),
            #[cfg(any(test, feature = "std"))]
            Place::Packed(index) => (3, index),
        };
        [self.fault as u32 | table << 8, index]
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Header => f.write_str("header")?,
            Place::Tensor(index) => write!(f, "tensor {index}")?,
            Place::Op(index) => write!(f, "op {index}")?,
            #[cfg(any(test, feature = "std"))]
            Place::Packed(index) => write!(f, "packed weights {index}")?,
        }
        write!(f, ": {}: ", self.fault.text())?;
        match self.fault {
            Fault::Magic | Fault::Checksum | Fault::Scale | Fault::Multiplier => {
                write!(f, "found {:#010x}", self.found)?
            }
            _ => write!(f, "found {}", self.found)?,
        }
        match self.expected {
            [low, high] if low > high => Ok(()),
            [only, high] if only == high && matches!(self.fault, Fault::Magic | Fault::Checksum) => {
                write!(f, ", expected {only:#010x}")
            }
            [only, high] if only == high => write!(f, ", expected {only}"),
            [i64::MIN, high] => write!(f, ", expected at most {high}"),
            [low, i64::MAX] => write!(f, ", expected at least {low}"),
            [low, high] => write!(f, ", expected {low} to {high}"),
        }
    }
}

impl core::error::Error for ImageError {}

/// `Ok` when `found` lies within `expected`.
pub(super) fn require(
    place: Place,
    fault: Fault,
    found: impl Into<i64>,
    expected: RangeInclusive<i64>,
) -> Result<(), ImageError> {
    let found = found.into();
    if expected.contains(&found) { Ok(()) } else { Err(ImageError::new(place, fault, found, expected)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_says_place_found_and_expected() {
        let cases = [
            (
                ImageError::new(Place::Op(3), Fault::Shift, 31, 0..=30),
                "op 3: shift of an Add or Softmax: found 31, expected 0 to 30",
            ),
            (
                ImageError::new(Place::Header, Fault::Checksum, 0x12, 0xabcd..=0xabcd),
                "header: CRC-32 over the file: found 0x00000012, expected 0x0000abcd",
            ),
            (
                ImageError::new(Place::Tensor(0), Fault::ArenaEnd, 99, i64::MIN..=64),
                "tensor 0: end of the bytes in the arena: found 99, expected at most 64",
            ),
            (
                ImageError::none(Place::Op(7), Fault::Overwritten, 5),
                "op 7: the input is no longer there, overwritten by op: found 5",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(cases[0].0.words(), [0x21e, 3]);
    }

    #[test]
    fn codes_are_distinct_and_in_order() {
        assert!(Fault::ALL.windows(2).all(|pair| pair[0] as u8 + 1 == pair[1] as u8));
    }
}
