//! Bytes become columns, and their sums. Enters: rows of bytes, or rows of weights. Leaves: bytes, totals.

#![allow(unsafe_code, reason = "assembly")]

use super::{Unpack, core_directive};
use crate::{
    image::Weights,
    kernels::{columns::Rows, raw::Source},
};
use core::arch::naked_asm;

#[inline]
pub(super) fn run(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]) {
    assert!(rows.rows > 0 && !totals.is_empty());
    let Rows { bytes, rows, run, step, to_step } = rows;
    let last = totals.len() - 1;
    let vectors = run.next_multiple_of(16);
    let to = source.pixel * source.len + source.at;
    let args = Move {
        from: bytes[..last * source.step + (rows - 1) * step + run].as_ptr(),
        to: columns[to..to + last * source.len + (rows - 1) * to_step + run].as_mut_ptr(),
        rows,
        run,
        skip: step.wrapping_sub(vectors),
        to_skip: to_step.wrapping_sub(vectors),
        flip: source.flip.into(),
        pixels: totals.len(),
        totals: totals.as_mut_ptr(),
        pixel_skip: source.step.wrapping_sub(rows * step),
        pixel_to_skip: source.len.wrapping_sub(rows * to_step),
    };
    let copy = if source.signed { copy_signed } else { copy_unsigned };
    // SAFETY: the rows of all pixels lie in `bytes`, and their copies in `columns`, by the slices above.
    unsafe { copy(&args) }
}

#[inline]
pub(super) fn total(weights: &Weights, k: usize, len: usize) -> i32 {
    let bytes = weights.row_bytes(len);
    let row = &weights.data[k * bytes..(k + 1) * bytes];
    if weights.bits < 8 {
        let total = if weights.signed { total_packed_signed } else { total_packed_unsigned };
        // SAFETY: so many weights can be read.
        return unsafe { total(row.as_ptr(), len, Unpack::of(weights.bits), 2 * usize::from(weights.bits)) };
    }
    let total = if weights.signed { total_signed } else { total_unsigned };
    // SAFETY: so many bytes can be read.
    unsafe { total(row.as_ptr(), len) }
}

/// Rows that are copied.
#[repr(C)]
struct Move {
    from: *const u8,
    to: *mut u8,
    rows: usize,
    run: usize,
    /// From behind the last vector of a row to the next row.
    skip: usize,
    to_skip: usize,
    flip: u32,
    pixels: usize,
    totals: *mut i32,
    /// From behind the last row of a pixel to the first of the next.
    pixel_skip: usize,
    pixel_to_skip: usize,
}

/// Copies rows and sums them up, one instruction for the sum of a vector.
macro_rules! copy {
    ($name:ident, $total:ident, $sum:literal) => {
        /// # Safety
        /// The rows can be read, and written where they are put; there is at least one pixel with at least one.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *const Move) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "add r9, r0, #28",
                "ldm r9, {{r9, r10, r11, r12}}",
                "ldm r0, {{r1, r2, r3, r4, r5, r6, r7}}",
                "vdup.8 q1, r7",
                // A pixel.
                "2:",
                "mov r7, r3",
                "ldr r0, [r10]",
                // A row.
                "3:",
                "wlstp.8 lr, r4, 5f",
                "4:",
                "vldrb.u8 q0, [r1], #16",
                "veor q0, q0, q1",
                "vstrb.8 q0, [r2], #16",
                concat!($sum, " r0, q0"),
                "letp lr, 4b",
                "5:",
                "add r1, r1, r5",
                "add r2, r2, r6",
                "subs r7, r7, #1",
                "bne 3b",
                "str r0, [r10], #4",
                "add r1, r1, r11",
                "add r2, r2, r12",
                "subs r9, r9, #1",
                "bne 2b",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
            )
        }

        /// # Safety
        /// So many bytes can be read.
        #[unsafe(naked)]
        unsafe extern "C" fn $total(bytes: *const u8, len: usize) -> i32 {
            naked_asm!(
                core_directive!(),
                "push {{r4, lr}}",
                "mov r2, r0",
                "mov r0, #0",
                "wlstp.8 lr, r1, 4f",
                "3:",
                "vldrb.u8 q0, [r2], #16",
                concat!($sum, " r0, q0"),
                "letp lr, 3b",
                "4:",
                "pop {{r4, pc}}",
            )
        }
    };
}

copy!(copy_signed, total_signed, "vaddva.s8");
copy!(copy_unsigned, total_unsigned, "vaddva.u8");

macro_rules! total_packed {
    ($name:ident, $type:literal) => {
        /// # Safety
        /// So many weights can be read, of `step` bytes sixteen.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(row: *const u8, len: usize, unpack: *const Unpack, step: usize) -> i32 {
            naked_asm!(
                core_directive!(),
                "push {{r4, lr}}",
                "vldrb.u8 q1, [r2]",
                "vldrb.u8 q2, [r2, #16]",
                "vldrb.u8 q3, [r2, #32]",
                "mov r2, #0",
                "wlstp.8 lr, r1, 3f",
                "2:",
                "vldrb.u8 q0, [r0, q1]",
                "add r0, r0, r3",
                "vshl.u8 q0, q0, q2",
                concat!("vshl.", $type, " q0, q0, q3"),
                concat!("vaddva.", $type, " r2, q0"),
                "letp lr, 2b",
                "3:",
                "mov r0, r2",
                "pop {{r4, pc}}",
            )
        }
    };
}

total_packed!(total_packed_signed, "s8");
total_packed!(total_packed_unsigned, "u8");
