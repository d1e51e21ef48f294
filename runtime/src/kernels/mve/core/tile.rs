//! Four columns against rows of weights. Enters: a [`Tile`]. Leaves: a byte of each pixel for each row.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, Unpack, core_directive};
use crate::kernels::{
    columns::PIXELS,
    linked::{absent, linked},
    raw::Tile,
};
use core::{arch::naked_asm, mem::offset_of};

#[inline]
pub(super) fn run(tile: &Tile, y: &mut [u8]) {
    let weights = tile.weights;
    let rows = tile.rows.clone();
    let row_bytes = weights.row_bytes(tile.len);
    let data = &weights.data[rows.start * row_bytes..rows.end * row_bytes];
    let columns = &tile.columns[..PIXELS * tile.len];
    let tables = 4 * rows.start..4 * rows.end;
    let each = weights.zero_points.len() > 1;
    assert!(tile.len > 0 && !rows.is_empty() && (1..=PIXELS).contains(&tile.count));
    let there = |p: usize| if p < tile.count { p } else { 0 };
    let pixels = [0, 1, 2, 3].map(there);
    let mut args = Args {
        columns: pixels.map(|p| columns[p * tile.len..].as_ptr()),
        len: tile.len,
        // Of a row's last vector, packed or not.
        beyond: 2 * usize::from(weights.bits) * tile.len.div_ceil(16) - row_bytes,
        weights: data.as_ptr(),
        constants: tile.constants[rows.clone()].as_ptr().cast(),
        multipliers: weights.multipliers.bytes()[tables.clone()].as_ptr(),
        zero_points: core::ptr::null(),
        zero_point_step: if each { 16 } else { 0 },
        zero_point: [weights.zero_point(rows.start); 4],
        rows: rows.len(),
        totals: pixels.map(|p| tile.totals[p].wrapping_neg()),
        out: pixels.map(|p| y[tile.starts[p] + rows.start..tile.starts[p] + rows.end].as_mut_ptr()),
        finish: Ends::new(tile.finish),
        step: 2 * usize::from(weights.bits),
        unpack: Unpack::of(weights.bits),
    };
    args.zero_points =
        if each { weights.zero_points.bytes()[tables].as_ptr() } else { args.zero_point.as_ptr().cast() };
    let run = match (weights.bits, weights.signed) {
        (8, true) if const { linked("int8") } => tile_signed as unsafe extern "C" fn(*mut Args),
        (8, false) if const { linked("uint8") } => tile_unsigned as _,
        (..8, true) if const { linked("int4") || linked("int2") } => tile_packed_signed as _,
        (..8, false) if const { linked("uint4") || linked("uint2") } => tile_packed_unsigned as _,
        _ => absent(),
    };
    // SAFETY: each column has `len` bytes and `data` has weights for each row of them; the tables have the rows' numbers, or
    // `zero_points` four that are read again and again; each pointer of `out` may be written at every row, by the slices
    // above. The args are this function's own.
    unsafe { run(&mut args) };
}

/// What a tile is made of.
#[repr(C)]
struct Args {
    columns: [*const u8; PIXELS],
    len: usize,
    /// From the end of a row to the end of its last vector.
    beyond: usize,
    weights: *const u8,
    constants: *const u8,
    multipliers: *const u8,
    zero_points: *const u8,
    /// Bytes from the zero points of four rows to those of the next: 0 when there is one for all.
    zero_point_step: usize,
    zero_point: [i32; 4],
    /// Rows still to come.
    rows: usize,
    /// Of each column, negative.
    totals: [i32; PIXELS],
    out: [*mut u8; PIXELS],
    finish: Ends,
    /// Bytes of a vector of packed weights.
    step: usize,
    unpack: *const Unpack,
}

/// Loads a vector of weights to `q0`.
macro_rules! weights {
    (whole) => {
        "vldrb.u8 q0, [r8], #16"
    };
    ($type:literal) => {
        concat!("vldrb.u8 q0, [r8, q5]\n add r8, r8, r10\n vshl.u8 q0, q0, q6\n vshl.", $type, " q0, q0, q7")
    };
}

/// What that needs.
macro_rules! prepare {
    (whole) => {
        ""
    };
    ($type:literal) => {
        "ldr r0, [r12, #{unpack}]\n vldrb.u8 q5, [r0]\n vldrb.u8 q6, [r0, #16]\n vldrb.u8 q7, [r0, #32]\n ldr r10, [r12, #{step}]"
    };
}

/// Back from the end of a row's last vector to that of the row.
macro_rules! back {
    (whole) => {
        "sub r8, r8, r10"
    };
    ($type:literal) => {
        "ldr r0, [r12, #{beyond}]\n sub r8, r8, r0"
    };
}

/// Four rows at a time: their sums with each column go to the stack, row by row, and come back pixel by pixel.
macro_rules! tile {
    ($name:ident, $weights:tt, $multiply:literal) => {
        /// # Safety
        /// The args describe a tile whose every byte may be read, and whose outputs may be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *mut Args) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "vpush {{d8, d9, d10, d11, d12, d13, d14, d15}}",
                "sub sp, sp, #68",
                "mov r12, r0",
                "ldr r9, [r12, #{len}]",
                "ldr r10, [r12, #{beyond}]",
                "ldr r8, [r12, #{weights}]",
                // Four rows, or what is left of them.
                "2:",
                "mov r11, sp",
                "ldr r0, [r12, #{rows}]",
                "cmp r0, #4",
                "it hi",
                "movhi r0, #4",
                "add r0, r11, r0, lsl #4",
                "str r0, [sp, #64]",
                prepare!($weights),
                // A row.
                "3:",
                "ldm r12, {{r1, r3, r5, r7}}",
                "mov r0, #0",
                "mov r2, #0",
                "mov r4, #0",
                "mov r6, #0",
                "dlstp.8 lr, r9",
                "4:",
                weights!($weights),
                "vldrb.u8 q1, [r1], #16",
                concat!($multiply, " r0, q0, q1"),
                "vldrb.u8 q2, [r3], #16",
                concat!($multiply, " r2, q0, q2"),
                "vldrb.u8 q3, [r5], #16",
                concat!($multiply, " r4, q0, q3"),
                "vldrb.u8 q4, [r7], #16",
                concat!($multiply, " r6, q0, q4"),
                "letp lr, 4b",
                "stm r11!, {{r0, r2, r4, r6}}",
                back!($weights),
                "ldr r0, [sp, #64]",
                "cmp r11, r0",
                "bne 3b",
                // Their requantization, as many rows as there are.
                "mov r0, sp",
                "vld40.32 {{q0, q1, q2, q3}}, [r0]",
                "vld41.32 {{q0, q1, q2, q3}}, [r0]",
                "vld42.32 {{q0, q1, q2, q3}}, [r0]",
                "vld43.32 {{q0, q1, q2, q3}}, [r0]",
                "ldr r0, [r12, #{rows}]",
                "vctp.32 r0",
                "add r1, r12, #{constants}",
                "ldm r1, {{r2, r3, r4, r5}}",
                "vpsttt",
                "vldrwt.u32 q4, [r2], #16",
                "vldrwt.u32 q6, [r3], #16",
                "vldrwt.u32 q5, [r4]",
                "add r4, r4, r5",
                "stm r1, {{r2, r3, r4}}",
                "add r7, r12, #{totals}",
                "ldm r7, {{r1, r2, r3, r4}}",
                "vadd.i32 q0, q0, q4\n vadd.i32 q1, q1, q4\n vadd.i32 q2, q2, q4\n vadd.i32 q3, q3, q4",
                "vmla.s32 q0, q5, r1\n vmla.s32 q1, q5, r2\n vmla.s32 q2, q5, r3\n vmla.s32 q3, q5, r4",
                "vcvt.f32.s32 q0, q0\n vcvt.f32.s32 q1, q1\n vcvt.f32.s32 q2, q2\n vcvt.f32.s32 q3, q3",
                "vmul.f32 q0, q0, q6\n vmul.f32 q1, q1, q6\n vmul.f32 q2, q2, q6\n vmul.f32 q3, q3, q6",
                "vcvtn.s32.f32 q0, q0\n vcvtn.s32.f32 q1, q1\n vcvtn.s32.f32 q2, q2\n vcvtn.s32.f32 q3, q3",
                "add r1, r12, #{finish}",
                "ldm r1, {{r2, r3, r4}}",
                "vdup.32 q4, r3",
                "vdup.32 q5, r4",
                "vqadd.s32 q0, q0, r2\n vqadd.s32 q1, q1, r2\n vqadd.s32 q2, q2, r2\n vqadd.s32 q3, q3, r2",
                "vmax.s32 q0, q0, q4\n vmax.s32 q1, q1, q4\n vmax.s32 q2, q2, q4\n vmax.s32 q3, q3, q4",
                "vmin.s32 q0, q0, q5\n vmin.s32 q1, q1, q5\n vmin.s32 q2, q2, q5\n vmin.s32 q3, q3, q5",
                "add r7, r12, #{out}",
                "ldm r7, {{r1, r2, r3, r4}}",
                "vpstttt",
                "vstrbt.32 q3, [r4], #4\n vstrbt.32 q2, [r3], #4\n vstrbt.32 q1, [r2], #4\n vstrbt.32 q0, [r1], #4",
                "stm r7, {{r1, r2, r3, r4}}",
                "subs r0, r0, #4",
                "str r0, [r12, #{rows}]",
                "bhi 2b",
                "add sp, sp, #68",
                "vpop {{d8, d9, d10, d11, d12, d13, d14, d15}}",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                "/* {step} {unpack} */",
                len = const offset_of!(Args, len),
                beyond = const offset_of!(Args, beyond),
                weights = const offset_of!(Args, weights),
                rows = const offset_of!(Args, rows),
                constants = const offset_of!(Args, constants),
                totals = const offset_of!(Args, totals),
                finish = const offset_of!(Args, finish),
                out = const offset_of!(Args, out),
                step = const offset_of!(Args, step),
                unpack = const offset_of!(Args, unpack),
            )
        }
    };
}

tile!(tile_signed, whole, "vmladava.s8");
tile!(tile_unsigned, whole, "vmladava.u8");
tile!(tile_packed_signed, "s8", "vmladava.s8");
tile!(tile_packed_unsigned, "u8", "vmladava.s8");
