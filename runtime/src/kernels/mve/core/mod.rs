//! The inner loops in assembly. Enters: what [`Model`](super) takes. Leaves: the same bytes. Refuses nothing; what would reach
//! outside a slice panics before the assembly runs.
//!
//! Counted in instructions: 10 for 64 products (a vector of weights, four of columns, four multiplications, the loop), one of them
//! 0.16; 13 where weights are unpacked, 0.2. Loops end with a part of a vector, which the core masks by itself (`DLSTP`, `LETP`).
//! Vectors of floats round to nearest, ties to even, and flush what is smaller than 2^-126 to 0, which is what that would be rounded
//! to.

mod channels;
mod copy;
mod dot;
mod pixel;
mod sum;
mod tile;

use super::{Depthwise, Factors, Mve, Pixel, Sum, signed};
use crate::{
    image::Weights,
    kernels::{
        channels::Channels,
        columns::{Finish, Rows},
        raw::{Raw, Source, Tile},
    },
};
use core::{cell::Cell, ops::Range};

/// The core's own instructions.
#[derive(Debug)]
pub(in crate::kernels) struct Core;

/// What the assembler of naked functions, which goes by the target alone, has to be told of the core.
macro_rules! core_directive {
    () => {
        ".cpu cortex-m55"
    };
}

use core_directive;

impl Raw for Core {
    const ELEMENT: usize = 4;

    fn signed(weights: &Weights) -> bool {
        signed(weights)
    }

    fn fill(columns: &mut [u8], len: usize, pixels: Range<usize>, value: u8) {
        columns[pixels.start * len..pixels.end * len].fill(value);
    }

    fn copy(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]) {
        copy::run(rows, source, columns, totals);
    }

    fn total(weights: &Weights, k: usize, len: usize) -> i32 {
        copy::total(weights, k, len)
    }

    fn tile(tile: &Tile, y: &mut [u8]) {
        tile::run(tile, y);
    }
}

impl Depthwise for Core {
    const LANES: usize = 8;
    const PARTIAL: bool = true;

    fn prepare(weights: &Weights, channels: usize, first: usize, lanes: usize, widened: &mut [i16]) {
        channels::prepare(weights, channels, first, lanes, widened);
    }

    fn channels(channels: &Channels, y: &mut [u8]) {
        channels::run(channels, y);
    }
}

impl Mve for Core {
    fn sum(sum: &Sum, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
        sum::run(sum, inputs, y);
    }

    fn means(pixel: &Pixel, multiplier: f32, y: &mut [u8]) {
        pixel::means(pixel, multiplier, y);
    }

    fn largest(pixel: &Pixel, y: &mut [u8]) {
        pixel::largest(pixel, y);
    }

    fn dot(factors: &Factors) -> i32 {
        dot::run(factors)
    }
}

/// How sums become bytes: add, then the ends of the clamp.
#[repr(C)]
struct Ends {
    zero_point: i32,
    low: i32,
    high: i32,
}

impl Ends {
    fn new(finish: Finish) -> Self {
        let [low, high] = finish.clamp;
        Self { zero_point: finish.zero_point, low, high }
    }
}

/// Where the weights of a vector lie, packed in bytes, and how each is brought to the top of its lane and down again.
#[repr(C)]
struct Unpack {
    /// Bytes.
    offsets: [u8; 16],
    /// Bits, up.
    up: [u8; 16],
    /// Bits, down: negative, as vectors are shifted to the right.
    down: [i8; 16],
}

impl Unpack {
    /// Of weights of 4 or 2 bits; others need none.
    fn of(bits: u8) -> &'static Self {
        if bits < 4 { const { &Self::new(2) } } else { const { &Self::new(4) } }
    }

    const fn new(bits: u8) -> Self {
        let mut unpack = Self { offsets: [0; 16], up: [0; 16], down: [bits as i8 - 8; 16] };
        let mut i = 0;
        while i < 16 {
            let at = i as u8 * bits;
            (unpack.offsets[i], unpack.up[i]) = (at / 8, 8 - bits - at % 8);
            i += 1;
        }
        unpack
    }
}
