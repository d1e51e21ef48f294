//! The inner loops in assembly, for cores with the DSP instructions and a float unit. Enters: what [`Model`](super) takes.
//! Leaves: the same bytes. Refuses nothing; what would reach outside a slice panics before the assembly runs.
//!
//! Counted in instructions: 13 for 16 products of 8-bit weights (a word of weights becomes two operands in 3, eight operands
//! of columns are loaded in 2, 8 multiply), one of them 0.81; 4-bit weights take as many. Rounding is the float unit's: to
//! nearest, ties to even, is its mode after reset and nothing here changes it.

mod channels;
mod rows;
mod sum;
mod tile;

use super::{Depthwise, Dsp, Slot, Source, Sum, Tile};
use crate::{
    image::Weights,
    kernels::{
        channels::Channels,
        columns::{Finish, Rows},
    },
};
use core::cell::Cell;

/// The core's own instructions.
#[derive(Debug)]
pub(in crate::kernels) struct Core;

/// What the assembler of naked functions, which goes by the target alone, has to be told of the core.
macro_rules! core_directive {
    () => {
        // Every core that has these kernels has what a Cortex-M33 has, but for the instructions of ARMv8-M, which are not used.
        ".cpu cortex-m33\n.fpu fpv4-sp-d16"
    };
}

/// Accumulators `r0` to `r3`, multipliers `m0` to `m3`: to `usat8(q + r7)`.
macro_rules! requantize {
    ($m0:literal, $m1:literal, $m2:literal, $m3:literal) => {
        concat!(
            "vmov s0, s1, r0, r1\n vmov s2, s3, r2, r3\n",
            "vcvt.f32.s32 s0, s0\n vcvt.f32.s32 s1, s1\n vcvt.f32.s32 s2, s2\n vcvt.f32.s32 s3, s3\n",
            "vmul.f32 s0, s0, ",
            $m0,
            "\n vmul.f32 s1, s1, ",
            $m1,
            "\n",
            "vmul.f32 s2, s2, ",
            $m2,
            "\n vmul.f32 s3, s3, ",
            $m3,
            "\n",
            "vcvtr.s32.f32 s0, s0\n vcvtr.s32.f32 s1, s1\n vcvtr.s32.f32 s2, s2\n vcvtr.s32.f32 s3, s3\n",
            "vmov r0, r1, s0, s1\n vmov r2, r3, s2, s3\n",
            "qadd r0, r0, r7\n qadd r1, r1, r7\n qadd r2, r2, r7\n qadd r3, r3, r7\n",
            "usat r0, #8, r0\n usat r1, #8, r1\n usat r2, #8, r2\n usat r3, #8, r3\n",
        )
    };
}

use {core_directive, requantize};

/// `Finish` as the assembly wants it: `low + min(usat8(q + add), high)`.
#[repr(C)]
struct Ends {
    add: i32,
    high: u32,
    low: i32,
}

impl Ends {
    fn new(finish: Finish) -> Self {
        let [low, high] = finish.clamp;
        Self { add: finish.zero_point - low, high: (high - low) as u32, low }
    }

    /// The same with `high` and `low` in each of four bytes.
    fn in_bytes(finish: Finish) -> Self {
        let Self { add, high, low } = Self::new(finish);
        Self { add, high: high * 0x0101_0101, low: (low as u8 as u32 * 0x0101_0101) as i32 }
    }
}

/// Two halves of a word, alike.
fn twice(value: i32) -> u32 {
    value as u16 as u32 * 0x1_0001
}

impl Depthwise for Core {
    const LANES: usize = 4;
    const PARTIAL: bool = false;

    #[inline(always)]
    fn prepare(weights: &Weights, channels: usize, first: usize, _: usize, widened: &mut [i16]) {
        rows::widen_weights(weights, channels, first, widened);
    }

    #[inline(always)]
    fn channels(channels: &Channels, y: &mut [u8]) {
        channels::run(channels, y);
    }
}

impl Dsp for Core {
    #[inline(always)]
    fn widen(source: Source, rows: Rows, slots: &mut [Slot], pixel: usize) {
        rows::widen(source, rows, slots, pixel);
    }

    #[inline(always)]
    fn copy(rows: Rows, to: &mut [u8]) {
        rows::copy(rows, to);
    }

    #[inline(always)]
    fn tile(tile: &Tile, y: &mut [u8]) {
        tile::run(tile, y);
    }

    #[inline(always)]
    fn sum(sum: &Sum, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
        sum::run(sum, inputs, y);
    }
}
