//! Weights in the order in which they are multiplied: which orders there are, and how a network's weights are written down in one
//! of them. Enters: layer after layer what is packed. Leaves: [`Sink::words`] and [`Sink::rows`], and from those the same layers again.
//! Refused, when they are read: fewer or more than the layers take, and places of no input. What is read may come from a hostile
//! file: whatever says *where* inputs are read is made anew from the shapes, and no more is taken from it than which of those places.
//!
//! Plain Rust, for any core on any core: an exporter packs for a Raspberry Pi what the Pi would pack for itself, byte for byte.

use super::{Form, LANES, Row};
use core::ops::Range;

/// An order of weights. The number of a variant is its tag in a flash image and never changes: another order has another tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Packing {
    /// Differences as i16, for `packed` and `avx2`.
    Words = 1,
    /// Bytes in panels of 64 channels, for `avx512vnni`.
    Bytes = 2,
    /// Groups of rows that are chained where 16 bits hold their products, for `neon`.
    Pairs = 4,
    /// Groups of rows, for `dotprod`.
    Signed = 5,
    /// Pairs of rows, eight weights to a channel, for `i8mm`.
    Eights = 6,
    /// [`Self::Bytes`] with rows that fill tile registers where a channel has 80 weights or more, for `amx`. (3 was that of 132 or more.)
    Tiles = 7,
}

/// Shape of an order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) form: Form,
    /// Blocks of [`LANES`] channels that a panel has at most.
    pub(crate) max_blocks: usize,
    /// Rows of weights that are multiplied at once, at most.
    pub(crate) max_group: usize,
}

impl Packing {
    /// All there are, in the order of their tags.
    pub const ALL: [Self; 6] = [Self::Words, Self::Bytes, Self::Pairs, Self::Signed, Self::Eights, Self::Tiles];

    /// Its tag in a flash image.
    pub const fn tag(self) -> u32 {
        self as u32
    }

    /// That of a tag.
    pub fn from_tag(tag: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|packing| packing.tag() == tag)
    }

    /// The executors that read it.
    pub const fn executors(self) -> &'static [&'static str] {
        match self {
            Self::Words => &["packed", "avx2"],
            Self::Bytes => &["avx512vnni"],
            Self::Tiles => &["amx"],
            Self::Pairs => &["neon"],
            Self::Signed => &["dotprod"],
            Self::Eights => &["i8mm"],
        }
    }

    pub(crate) const fn layout(self) -> Layout {
        let (form, max_blocks, max_group) = match self {
            Self::Words => (Form::Words, 1, 1),
            Self::Bytes => (Form::Bytes, 4, 1),
            Self::Tiles => (Form::Bytes, 4, TILE),
            Self::Pairs => (Form::Pairs, 1, 1),
            Self::Signed => (Form::Signed, 1, 1),
            Self::Eights => (Form::Eights, 1, 1),
        };
        Layout { form, max_blocks, max_group }
    }
}

/// Pixels of a tile register, and rows of weights, at most.
pub(crate) const TILE: usize = 16;

/// Takes packed layers.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// Counts, places and biases, little-endian.
    pub(crate) words: Vec<[u8; 4]>,
    /// Weights.
    pub(crate) rows: Vec<Row>,
}

impl Sink {
    /// Appends numbers. All of them count weights of an image or what those are multiplied with, of which u32 holds the number.
    pub(crate) fn numbers(&mut self, numbers: impl IntoIterator<Item = usize>) {
        self.words.extend(numbers.into_iter().map(|number| (number as u32).to_le_bytes()));
    }

    /// Appends biases, as they are multiplied.
    pub(crate) fn biases(&mut self, biases: &[[i32; LANES]]) {
        self.words.extend(biases.as_flattened().iter().map(|bias| bias.to_le_bytes()));
    }
}

/// Packed layers do not have what the ops need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// They end before this layer does, or go on behind the last one: words or rows that are there, and that are needed.
    Length { found: usize, expected: usize },
    /// A number, and the least above all that would do.
    Number { found: usize, end: usize },
}

/// Gives packed layers back, in the order in which they were put.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    words: &'a [[u8; 4]],
    /// Rows that are not taken yet.
    rows: Range<usize>,
}

impl<'a> Source<'a> {
    /// Of so many rows.
    pub(crate) const fn new(words: &'a [[u8; 4]], rows: usize) -> Self {
        Self { words, rows: 0..rows }
    }

    fn words(&mut self, count: usize) -> Result<&'a [[u8; 4]], Spoiled> {
        let too_few = Spoiled::Length { found: self.words.len(), expected: count };
        let (words, rest) = self.words.split_at_checked(count).ok_or(too_few)?;
        self.words = rest;
        Ok(words)
    }

    /// The next number, below `end`.
    pub(crate) fn number(&mut self, end: usize) -> Result<usize, Spoiled> {
        let [word] = *self.words(1)? else { unreachable!("one word was asked for") };
        below(u32::from_le_bytes(word) as usize, end)
    }

    /// The next `count` numbers, each below `end`.
    pub(crate) fn numbers(
        &mut self,
        count: usize,
        end: usize,
    ) -> Result<impl Iterator<Item = Result<usize, Spoiled>> + use<'a>, Spoiled> {
        Ok(self.words(count)?.iter().map(move |word| below(u32::from_le_bytes(*word) as usize, end)))
    }

    /// How many numbers come next; no more than there are.
    pub(crate) fn count(&mut self) -> Result<usize, Spoiled> {
        self.number(self.words.len())
    }

    /// The biases of so many blocks.
    pub(crate) fn biases(&mut self, blocks: usize) -> Result<Vec<[i32; LANES]>, Spoiled> {
        let words = self.words(blocks * LANES)?.as_chunks::<LANES>().0;
        Ok(words.iter().map(|block| block.map(i32::from_le_bytes)).collect())
    }

    /// The next `count` rows.
    pub(crate) fn rows(&mut self, count: usize) -> Result<Range<usize>, Spoiled> {
        let too_few = Spoiled::Length { found: self.rows.len(), expected: count };
        if count > self.rows.len() {
            return Err(too_few);
        }
        let start = self.rows.start;
        self.rows.start += count;
        Ok(start..self.rows.start)
    }

    /// Whether all was taken.
    pub(crate) fn end(&self) -> Result<(), Spoiled> {
        match self.words.len() + self.rows.len() {
            0 => Ok(()),
            found => Err(Spoiled::Length { found, expected: 0 }),
        }
    }
}

fn below(found: usize, end: usize) -> Result<usize, Spoiled> {
    if found < end { Ok(found) } else { Err(Spoiled::Number { found, end }) }
}
