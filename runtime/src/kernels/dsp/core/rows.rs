//! Bytes become elements of columns, operands of weights, or copies. Enters: rows of bytes. Leaves: words, or bytes.

#![allow(unsafe_code, reason = "assembly")]

use super::{core_directive, twice};
use crate::{
    image::Weights,
    kernels::{
        columns::{PIXELS, Rows},
        dsp::{Slot, Source, group},
        linked::{absent, linked},
    },
};
use core::{arch::naked_asm, mem::size_of};

// What is wanted of the loops that widen inputs, for weights of so many bits.
const EIGHT: bool = linked("int8") || linked("uint8");
const FOUR: bool = linked("int4") || linked("uint4");
const TWO: bool = linked("int2") || linked("uint2");
const SIGNED: bool = linked("from-signed");
const UNSIGNED: bool = linked("from-unsigned");

#[inline]
pub(super) fn widen(source: Source, rows: Rows, slots: &mut [Slot], pixel: usize) {
    let group = group(source.bits);
    assert!(pixel < PIXELS && rows.rows > 0 && rows.run >= group);
    let slots = &mut slots[..((rows.rows - 1) * rows.to_step + rows.run) / 4];
    let args = Move {
        from: rows.bytes[..(rows.rows - 1) * rows.step + rows.run].as_ptr(),
        to: slots.as_flattened_mut()[2 * pixel..].as_mut_ptr().cast(),
        lift: twice(-source.zero_point),
        rows: rows.rows,
        count: rows.run / group,
        from_skip: rows.step.wrapping_sub(rows.run),
        to_skip: rows.to_step.wrapping_sub(rows.run) / 4 * size_of::<Slot>(),
    };
    let widen = match (source.bits, source.signed) {
        (8, true) if const { EIGHT && SIGNED } => widen_8_signed,
        (8, false) if const { EIGHT && UNSIGNED } => widen_8_unsigned,
        (4, true) if const { FOUR && SIGNED } => widen_4_signed,
        (4, false) if const { FOUR && UNSIGNED } => widen_4_unsigned,
        (2, true) if const { TWO && SIGNED } => widen_2_signed,
        (2, false) if const { TWO && UNSIGNED } => widen_2_unsigned,
        _ => absent(),
    };
    // SAFETY: reads whole groups of the rows, which lie in `bytes`; writes words `2 * pixel` and the next one of as many
    // slots as those have words, which lie in `slots`.
    unsafe { widen(&args) };
}

#[inline]
pub(super) fn copy(rows: Rows, to: &mut [u8]) {
    assert!(rows.rows > 0 && rows.run > 0);
    let args = Move {
        from: rows.bytes[..(rows.rows - 1) * rows.step + rows.run].as_ptr(),
        to: to[..(rows.rows - 1) * rows.to_step + rows.run].as_mut_ptr(),
        lift: 0,
        rows: rows.rows,
        count: rows.run,
        from_skip: rows.step.wrapping_sub(rows.run),
        to_skip: rows.to_step.wrapping_sub(rows.run),
    };
    // SAFETY: the rows lie in `bytes`, and their copies in `to`, by the slices above.
    unsafe { copy_rows(&args) };
}

pub(super) fn widen_weights(weights: &Weights, channels: usize, first: usize, widened: &mut [i16]) {
    let zero_points = [0, 1, 2, 3].map(|c| weights.zero_point(first + c));
    if weights.bits < 8 {
        // Packed weights are read one by one; there are few of them.
        for (tap, widened) in widened.chunks_exact_mut(4).enumerate() {
            for (place, c) in widened.iter_mut().zip([0, 2, 1, 3]) {
                *place = (weights.get(tap, channels, first + c) - zero_points[c]) as i16;
            }
        }
        return;
    }
    let count = widened.len() / 4;
    assert!(count > 0);
    let from = weights.data[first..][..(count - 1) * channels + 4].as_ptr();
    let lift = |c: usize| (-zero_points[c]) as u16 as u32 | ((-zero_points[c + 2]) as u32) << 16;
    let widen = if weights.signed { widen_weights_signed } else { widen_weights_unsigned };
    let lifts = [lift(0), lift(1)];
    // SAFETY: four bytes for each tap lie in `bytes`, by the slice above, and `widened` has four halves for each, from a multiple of
    // 4 on, as all blocks of the scratch have.
    unsafe { widen(&Blocks { from, to: widened.as_mut_ptr(), count, step: channels, lifts }) };
}

/// Rows that are widened or copied.
#[repr(C)]
struct Move {
    from: *const u8,
    to: *mut u8,
    /// `-zx` twice.
    lift: u32,
    rows: usize,
    /// Groups, or bytes, of a row.
    count: usize,
    /// From behind a row to the next one.
    from_skip: usize,
    to_skip: usize,
}

/// A function that works row by row and group by group: `$body` reads from `r0`, writes from `r1` on.
macro_rules! rows {
    ($name:ident, $body:expr) => {
        /// # Safety
        /// The rows can be read, and written where they are put; there is at least one, with at least one group.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *const Move) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "add r2, r0, #12",
                "ldm r2, {{r8, r9, r10, r11}}",
                "ldr r3, [r0, #8]",
                "ldrd r0, r1, [r0]",
                "2:",
                "mov r2, r9",
                "3:",
                $body,
                "subs r2, r2, #1",
                "bne 3b",
                "add r0, r0, r10",
                "add r1, r1, r11",
                "subs r8, r8, #1",
                "bne 2b",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                "/* {slot} */",
                slot = const size_of::<Slot>(),
            )
        }
    };
}

/// Copies rows, words first.
///
/// # Safety
/// As for what `rows!` makes.
#[unsafe(naked)]
unsafe extern "C" fn copy_rows(args: *const Move) {
    naked_asm!(
        core_directive!(),
        "push {{r8, r9, r10, r11}}",
        "add r2, r0, #12",
        "ldm r2, {{r8, r9, r10, r11}}",
        "ldrd r0, r1, [r0]",
        "2:",
        "subs r2, r9, #4",
        "blo 4f",
        "3:",
        "ldr r3, [r0], #4",
        "str r3, [r1], #4",
        "subs r2, r2, #4",
        "bhs 3b",
        "4:",
        "adds r2, r2, #4",
        "beq 6f",
        "5:",
        "ldrb r3, [r0], #1",
        "strb r3, [r1], #1",
        "subs r2, r2, #1",
        "bne 5b",
        "6:",
        "add r0, r0, r10",
        "add r1, r1, r11",
        "subs r8, r8, #1",
        "bne 2b",
        "pop {{r8, r9, r10, r11}}",
        "bx lr",
    )
}

/// Two words of bytes, half a group apart and at `$offset` in it, become two slots.
macro_rules! widen_half {
    ($extend:literal, $near:literal, $far:literal) => {
        concat!(
            "ldr r5, [r0, #", $near, "]\n ldr r7, [r0, #", $far, "]\n",
            $extend, " r4, r3, r5\n", $extend, " r5, r3, r5, ror #8\n",
            $extend, " r6, r3, r7\n", $extend, " r7, r3, r7, ror #8\n",
            // Of (0, 2), (1, 3), (4, 6), (5, 7): (0, 4), (1, 5), then (2, 6), (3, 7).
            "pkhbt r12, r4, r6, lsl #16\n pkhtb r6, r6, r4, asr #16\n pkhbt r4, r5, r7, lsl #16\n pkhtb r7, r7, r5, asr #16\n",
            "strd r12, r4, [r1], #{slot}\n strd r6, r7, [r1], #{slot}\n",
        )
    };
}

macro_rules! widen_8 {
    ($extend:literal) => {
        concat!(
            "ldr r5, [r0], #4\n",
            $extend,
            " r4, r3, r5\n",
            $extend,
            " r5, r3, r5, ror #8\n",
            "strd r4, r5, [r1], #{slot}\n",
        )
    };
}

macro_rules! widen_4 {
    ($extend:literal) => {
        concat!(widen_half!($extend, "0", "4"), "add r0, r0, #8\n")
    };
}

macro_rules! widen_2 {
    ($extend:literal) => {
        concat!(widen_half!($extend, "0", "8"), widen_half!($extend, "4", "12"), "add r0, r0, #16\n")
    };
}

rows!(widen_8_signed, widen_8!("sxtab16"));
rows!(widen_8_unsigned, widen_8!("uxtab16"));
rows!(widen_4_signed, widen_4!("sxtab16"));
rows!(widen_4_unsigned, widen_4!("uxtab16"));
rows!(widen_2_signed, widen_2!("sxtab16"));
rows!(widen_2_unsigned, widen_2!("uxtab16"));

/// Weights that are widened for blocks of four channels.
#[repr(C)]
struct Blocks {
    from: *const u8,
    to: *mut i16,
    count: usize,
    step: usize,
    lifts: [u32; 2],
}

macro_rules! widen_weights {
    ($name:ident, $extend:literal) => {
        /// # Safety
        /// Four bytes at each of the steps can be read, and as many pairs of words written; there is at least one.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(blocks: *const Blocks) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7}}",
                "ldm r0, {{r0, r1, r2, r3, r4, r5}}",
                "2:",
                "ldr r7, [r0]",
                "add r0, r0, r3",
                concat!($extend, " r6, r4, r7"),
                concat!($extend, " r7, r5, r7, ror #8"),
                "strd r6, r7, [r1], #8",
                "subs r2, r2, #1",
                "bne 2b",
                "pop {{r4, r5, r6, r7}}",
                "bx lr",
            )
        }
    };
}

widen_weights!(widen_weights_signed, "sxtab16");
widen_weights!(widen_weights_unsigned, "uxtab16");
