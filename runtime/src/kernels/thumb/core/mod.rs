//! The inner loops in assembly, in instructions that every Cortex-M has; a Cortex-M3 multiplies and adds in one of its own. Enters:
//! what [`Model`](super) takes. Leaves: the same bytes. Refuses nothing; what would reach outside a slice panics before the assembly
//! runs.
//!
//! Counted in instructions: 12 for 4 products on ARMv6-M (a weight, two words of columns, two shifts, four multiplications, four
//! additions), 3 each; 8 on a Cortex-M3, 2 each.

#![allow(unsafe_code, reason = "assembly")]

mod channels;

use super::{Depthwise, ELEMENT};
use crate::{
    arith::{Requantize, Requantizer},
    image::Weights,
    kernels::{
        channels::Channels,
        columns::{PIXELS, Rows},
        linked::{absent, linked},
        raw::{Raw, Source, Tile},
    },
};
use core::{arch::naked_asm, ops::Range};

/// The core's own instructions.
#[derive(Debug)]
pub(in crate::kernels) struct Core;

impl Raw for Core {
    const ELEMENT: usize = ELEMENT;

    fn signed(_: &Weights) -> bool {
        false
    }

    fn fill(columns: &mut [u8], len: usize, pixels: Range<usize>, value: u8) {
        for element in columns[..ELEMENT * len].chunks_exact_mut(ELEMENT) {
            pixels.clone().for_each(|p| element[2 * p] = value);
        }
    }

    fn copy(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]) {
        for (i, total) in totals.iter_mut().enumerate() {
            for row in 0..rows.rows {
                let from = &rows.bytes[i * source.step + row * rows.step..][..rows.run];
                let to = ELEMENT * (source.at + row * rows.to_step) + 2 * (source.pixel + i);
                let to = &mut columns[to..to + ELEMENT * (rows.run - 1) + 2];
                // SAFETY: a byte is read, and a half written, for each of a run that is at least one, within the slices above; the
                // columns start at a multiple of 4, as the scratch does.
                *total += unsafe { copy(from.as_ptr(), to.as_mut_ptr(), rows.run, source.flip.into()) };
            }
        }
    }

    fn total(weights: &Weights, k: usize, len: usize) -> i32 {
        if weights.bits < 8 {
            return (0..len).map(|i| weights.get(k, len, i)).sum();
        }
        let row = weights.data[k * len..(k + 1) * len].iter();
        if weights.signed { row.map(|&w| i32::from(w as i8)).sum() } else { row.map(|&w| i32::from(w)).sum() }
    }

    fn tile(tile: &Tile, y: &mut [u8]) {
        let weights = tile.weights;
        let bytes = weights.row_bytes(tile.len);
        let dot = match (weights.bits, weights.signed) {
            (8, false) if const { linked("uint8") } => dot_8_unsigned as Dot,
            (8, true) if const { linked("int8") } => dot_8_signed,
            (4, false) if const { linked("uint4") } => dot_4_unsigned,
            (4, true) if const { linked("int4") } => dot_4_signed,
            (2, false) if const { linked("uint2") } => dot_2_unsigned,
            (2, true) if const { linked("int2") } => dot_2_signed,
            _ => absent(),
        };
        let columns = &tile.columns[..ELEMENT * bytes * (8 / usize::from(weights.bits))];
        assert!(columns.as_ptr().addr().is_multiple_of(4));
        for k in tile.rows.clone() {
            let row = &weights.data[k * bytes..(k + 1) * bytes];
            let mut sums = [0; PIXELS];
            // SAFETY: the row has so many bytes, and the columns, at a multiple of 4, an element for each weight in them.
            unsafe { dot(&mut sums, columns.as_ptr(), row.as_ptr(), bytes) };
            let (constant, zero_point) = (tile.constants[k][0] as i32, weights.zero_point(k));
            let requantizer = Requantizer::new(weights.multipliers.f32(k), tile.finish.zero_point, tile.finish.clamp);
            for p in 0..tile.count {
                let acc = constant.wrapping_add(sums[p]).wrapping_sub(zero_point.wrapping_mul(tile.totals[p]));
                y[tile.starts[p] + k] = requantizer.apply(acc) as u8;
            }
        }
    }
}

impl Depthwise for Core {
    const LANES: usize = 1;
    const PARTIAL: bool = true;

    fn channels(channels: &Channels, y: &mut [u8]) {
        channels::run(channels, y);
    }
}

/// Sums, columns, weights, and how many bytes those are.
type Dot = unsafe extern "C" fn(*mut [i32; PIXELS], *const u8, *const u8, usize);

/// Four products: the weight is in `r0`, the columns are at `r1`, the sums in `r8` to `r11`.
#[cfg(not(intact_mla))]
macro_rules! products {
    () => {
        concat!(
            "ldm r1!, {{r2, r3}}\n lsrs r4, r2, #16\n lsrs r5, r3, #16\n",
            "muls r2, r0, r2\n muls r3, r0, r3\n muls r4, r0, r4\n muls r5, r0, r5\n",
            "add r8, r8, r2\n add r9, r9, r4\n add r10, r10, r3\n add r11, r11, r5\n",
        )
    };
}
#[cfg(intact_mla)]
macro_rules! products {
    () => {
        concat!(
            "ldm r1!, {{r2, r3}}\n lsrs r4, r2, #16\n lsrs r5, r3, #16\n",
            "mla r8, r0, r2, r8\n mla r9, r0, r4, r9\n mla r10, r0, r3, r10\n mla r11, r0, r5, r11\n",
        )
    };
}

/// The products of the weights in the byte at `r6 + $at`.
macro_rules! byte {
    (8, unsigned, $at:literal) => {
        concat!("ldrb r0, [r6, #", $at, "]\n", products!())
    };
    (8, signed, $at:literal) => {
        concat!("ldrb r0, [r6, #", $at, "]\n sxtb r0, r0\n", products!())
    };
    (4, $sign:tt, $at:literal) => {
        concat!("ldrb r7, [r6, #", $at, "]\n", byte!(@ $sign, "28", "28"), byte!(@ $sign, "24", "28"))
    };
    (2, $sign:tt, $at:literal) => {
        concat!(
            "ldrb r7, [r6, #", $at, "]\n",
            byte!(@ $sign, "30", "30"), byte!(@ $sign, "28", "30"), byte!(@ $sign, "26", "30"), byte!(@ $sign, "24", "30"),
        )
    };
    // Up against the top of the word, then down again.
    (@ unsigned, $up:literal, $down:literal) => {
        concat!("lsls r0, r7, #", $up, "\n lsrs r0, r0, #", $down, "\n", products!())
    };
    (@ signed, $up:literal, $down:literal) => {
        concat!("lsls r0, r7, #", $up, "\n asrs r0, r0, #", $down, "\n", products!())
    };
}

/// A row against four columns: `$at` are the bytes of a round.
macro_rules! dot {
    ($name:ident, $bits:tt, $sign:tt, $round:literal, $($at:literal)+) => {
        /// # Safety
        /// So many bytes of weights can be read, and an element of the columns, at a multiple of 4, for each weight in them; the
        /// sums can be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(sums: *mut [i32; PIXELS], columns: *const u8, weights: *const u8, bytes: usize) {
            naked_asm!(
                "push {{r4, r5, r6, r7, lr}}",
                "mov r4, r8",
                "mov r5, r9",
                "mov r6, r10",
                "mov r7, r11",
                "push {{r4, r5, r6, r7}}",
                "push {{r0}}",
                "mov r6, r2",
                "adds r2, r2, r3",
                "mov lr, r2",
                concat!("movs r4, #", $round, " - 1"),
                "bics r3, r3, r4",
                "adds r3, r3, r6",
                "mov r12, r3",
                "movs r4, #0",
                "mov r8, r4",
                "mov r9, r4",
                "mov r10, r4",
                "mov r11, r4",
                "2:",
                "cmp r6, r12",
                "beq 3f",
                $(byte!($bits, $sign, $at),)+
                concat!("adds r6, r6, #", $round),
                "b 2b",
                // Bytes that are left over.
                "3:",
                "cmp r6, lr",
                "beq 4f",
                byte!($bits, $sign, "0"),
                "adds r6, r6, #1",
                "b 3b",
                "4:",
                "pop {{r0}}",
                "mov r2, r9",
                "mov r3, r11",
                "lsls r4, r2, #16",
                "lsls r5, r3, #16",
                "mov r6, r8",
                "mov r7, r10",
                "subs r4, r6, r4",
                "subs r5, r7, r5",
                "str r4, [r0, #0]",
                "str r2, [r0, #4]",
                "str r5, [r0, #8]",
                "str r3, [r0, #12]",
                "pop {{r4, r5, r6, r7}}",
                "mov r8, r4",
                "mov r9, r5",
                "mov r10, r6",
                "mov r11, r7",
                "pop {{r4, r5, r6, r7, pc}}",
            )
        }
    };
}

dot!(dot_8_unsigned, 8, unsigned, "8", "0" "1" "2" "3" "4" "5" "6" "7");
dot!(dot_8_signed, 8, signed, "8", "0" "1" "2" "3" "4" "5" "6" "7");
dot!(dot_4_unsigned, 4, unsigned, "4", "0" "1" "2" "3");
dot!(dot_4_signed, 4, signed, "4", "0" "1" "2" "3");
dot!(dot_2_unsigned, 2, unsigned, "2", "0" "1");
dot!(dot_2_signed, 2, signed, "2", "0" "1");

/// Bytes become halves, one for each element, and are summed up.
///
/// # Safety
/// `run` bytes can be read, and as many halves written, at a multiple of 2, [`ELEMENT`] bytes from each other.
#[unsafe(naked)]
unsafe extern "C" fn copy(from: *const u8, to: *mut u8, run: usize, flip: u32) -> i32 {
    naked_asm!(
        "push {{r4, r5, lr}}",
        "movs r5, #0",
        "2:",
        "subs r2, r2, #4",
        "blo 3f",
        "ldrb r4, [r0, #0]\n eors r4, r4, r3\n strh r4, [r1, #0]\n adds r5, r5, r4",
        "ldrb r4, [r0, #1]\n eors r4, r4, r3\n strh r4, [r1, #8]\n adds r5, r5, r4",
        "ldrb r4, [r0, #2]\n eors r4, r4, r3\n strh r4, [r1, #16]\n adds r5, r5, r4",
        "ldrb r4, [r0, #3]\n eors r4, r4, r3\n strh r4, [r1, #24]\n adds r5, r5, r4",
        "adds r0, r0, #4",
        "adds r1, r1, #32",
        "b 2b",
        "3:",
        "adds r2, r2, #4",
        "beq 5f",
        "4:",
        "ldrb r4, [r0, #0]\n eors r4, r4, r3\n strh r4, [r1, #0]\n adds r5, r5, r4",
        "adds r0, r0, #1",
        "adds r1, r1, #8",
        "subs r2, r2, #1",
        "bne 4b",
        "5:",
        "mov r0, r5",
        "pop {{r4, r5, pc}}",
    )
}
