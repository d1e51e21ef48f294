//! The inner loops in assembly. Enters: what [`Model`](super) takes. Leaves: the same bytes. Refuses nothing; what would reach
//! outside a slice panics before the assembly runs.
//!
//! Counted in instructions: 10 for 64 products (a vector of weights, four of columns, four multiplications, the loop), one of them
//! 0.16. Loops end with a part of a vector, which the core masks by itself (`DLSTP`, `LETP`). Vectors of floats round to nearest,
//! ties to even, and flush what is smaller than 2^-126 to 0, which is what that would be rounded to.

#![allow(unsafe_code, reason = "assembly")]

use super::{Mve, Sum};
use crate::{
    image::Weights,
    kernels::{
        columns::{Finish, PIXELS, Rows},
        linked::{absent, linked},
        raw::{Raw, Source, Tile},
    },
};
use core::{arch::naked_asm, cell::Cell, mem::offset_of, ops::Range};

/// The core's own instructions.
#[derive(Debug)]
pub(in crate::kernels) struct Core;

/// What the assembler of naked functions, which goes by the target alone, has to be told of the core.
macro_rules! core_directive {
    () => {
        ".cpu cortex-m55"
    };
}

impl Raw for Core {
    const ELEMENT: usize = 4;

    fn takes(bits: u8) -> bool {
        bits == 8
    }

    fn signed(weights: bool) -> bool {
        weights
    }

    fn fill(columns: &mut [u8], len: usize, pixels: Range<usize>, value: u8) {
        columns[pixels.start * len..pixels.end * len].fill(value);
    }

    #[inline]
    fn copy(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]) {
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
    fn total(weights: &Weights, k: usize, len: usize) -> i32 {
        let row = &weights.data[k * len..(k + 1) * len];
        let total = if weights.signed { total_signed } else { total_unsigned };
        // SAFETY: so many bytes can be read.
        unsafe { total(row.as_ptr(), len) }
    }

    #[inline]
    fn tile(tile: &Tile, y: &mut [u8]) {
        let weights = tile.weights;
        let rows = tile.rows.clone();
        let data = &weights.data[rows.start * tile.len..rows.end * tile.len];
        let columns = &tile.columns[..PIXELS * tile.len];
        let tables = 4 * rows.start..4 * rows.end;
        let each = weights.zero_points.len() > 1;
        assert!(tile.len > 0 && !rows.is_empty() && (1..=PIXELS).contains(&tile.count));
        let there = |p: usize| if p < tile.count { p } else { 0 };
        let pixels = [0, 1, 2, 3].map(there);
        let mut args = Args {
            columns: pixels.map(|p| columns[p * tile.len..].as_ptr()),
            len: tile.len,
            beyond: tile.len.wrapping_neg() % 16,
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
        };
        args.zero_points =
            if each { weights.zero_points.bytes()[tables].as_ptr() } else { args.zero_point.as_ptr().cast() };
        let run = match weights.signed {
            true if const { linked("int8") } => tile_signed,
            false if const { linked("uint8") } => tile_unsigned,
            _ => absent(),
        };
        // SAFETY: each column has `len` bytes and `data` has them for each row; the tables have the rows' numbers, or
        // `zero_points` four that are read again and again; each pointer of `out` may be written at every row, by the slices
        // above. The args are this function's own.
        unsafe { run(&mut args) };
    }
}

impl Mve for Core {
    #[inline]
    fn sum(sum: &Sum, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
        let (a, b) = (&a[..y.len()], &b[..y.len()]);
        if y.is_empty() {
            return;
        }
        // An unsigned byte with its top bit flipped is a signed one, 128 lower; these are signed ones, 128 higher.
        let mut offset = sum.offset;
        for (signed, multiplier) in sum.signed.into_iter().zip(sum.multipliers) {
            offset = offset.wrapping_sub(if signed { 128 * multiplier } else { 0 });
        }
        let args = Addition {
            a: a.as_ptr().cast(),
            b: b.as_ptr().cast(),
            y: y.as_ptr().cast_mut().cast(),
            multipliers: sum.multipliers,
            offset,
            rest: 32 - sum.shift as i32,
            shift: -(sum.shift as i32),
            finish: Ends::new(sum.finish),
            flips: sum.signed.map(|signed| if signed { 0x80 } else { 0 }),
            len: y.len(),
        };
        // SAFETY: all three slices have `len` bytes; cells may be written through shared references, and the output may be an
        // input, since each vector is read before it is written.
        unsafe { add(&args) };
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
}

/// Four rows at a time: their sums with each column go to the stack, row by row, and come back pixel by pixel.
macro_rules! tile {
    ($name:ident, $multiply:literal) => {
        /// # Safety
        /// The args describe a tile whose every byte may be read, and whose outputs may be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *mut Args) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "vpush {{d8, d9, d10, d11, d12, d13}}",
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
                // A row.
                "3:",
                "ldm r12, {{r1, r3, r5, r7}}",
                "mov r0, #0",
                "mov r2, #0",
                "mov r4, #0",
                "mov r6, #0",
                "dlstp.8 lr, r9",
                "4:",
                "vldrb.u8 q0, [r8], #16",
                "vldrb.u8 q1, [r1], #16",
                concat!($multiply, " r0, q0, q1"),
                "vldrb.u8 q2, [r3], #16",
                concat!($multiply, " r2, q0, q2"),
                "vldrb.u8 q3, [r5], #16",
                concat!($multiply, " r4, q0, q3"),
                "vldrb.u8 q4, [r7], #16",
                concat!($multiply, " r6, q0, q4"),
                "letp lr, 4b",
                "sub r8, r8, r10",
                "stm r11!, {{r0, r2, r4, r6}}",
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
                "vpop {{d8, d9, d10, d11, d12, d13}}",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                len = const offset_of!(Args, len),
                beyond = const offset_of!(Args, beyond),
                weights = const offset_of!(Args, weights),
                rows = const offset_of!(Args, rows),
                constants = const offset_of!(Args, constants),
                totals = const offset_of!(Args, totals),
                finish = const offset_of!(Args, finish),
                out = const offset_of!(Args, out),
            )
        }
    };
}

tile!(tile_signed, "vmladava.s8");
tile!(tile_unsigned, "vmladava.u8");

/// What an Add is made of.
#[repr(C)]
struct Addition {
    a: *const u8,
    b: *const u8,
    y: *mut u8,
    multipliers: [i32; 2],
    offset: i32,
    /// `32 - shift`: left over are the bits that are shifted out.
    rest: i32,
    /// Negative, as vectors are shifted to the right.
    shift: i32,
    finish: Ends,
    flips: [u32; 2],
    len: usize,
}

/// # Safety
/// `len` bytes of the output can be written, and as many of both inputs read.
#[unsafe(naked)]
unsafe extern "C" fn add(args: *const Addition) {
    naked_asm!(
        core_directive!(),
        "push {{r4, r5, r6, r7, r8, r9, r10, lr}}",
        "vpush {{d8, d9, d10, d11}}",
        "add r8, r0, #{finish}",
        "ldm r8, {{r8, r9, r10}}",
        "vdup.32 q4, r9",
        "vdup.32 q5, r10",
        "ldrd r9, r10, [r0, #{flips}]",
        "vdup.32 q2, r9",
        "vdup.32 q3, r10",
        "ldr r12, [r0, #{len}]",
        "ldm r0, {{r0, r1, r2, r3, r4, r5, r6, r7}}",
        "dlstp.32 lr, r12",
        "2:",
        "vldrb.u32 q0, [r0], #4",
        "vldrb.u32 q1, [r1], #4",
        "veor q0, q0, q2",
        "veor q1, q1, q3",
        "vmul.i32 q0, q0, r3",
        "vmla.s32 q0, q1, r4",
        "vadd.i32 q0, q0, r5",
        "vmov q1, q0",
        "vshl.s32 q1, r6",
        "vshl.s32 q0, r7",
        // All bits that are shifted out are 0: a tie, which goes to the even neighbour.
        "vpt.i32 eq, q1, zr",
        "vbict.i32 q0, #1",
        "vadd.i32 q0, q0, r8",
        "vmax.s32 q0, q0, q4",
        "vmin.s32 q0, q0, q5",
        "vstrb.32 q0, [r2], #4",
        "letp lr, 2b",
        "vpop {{d8, d9, d10, d11}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, pc}}",
        finish = const offset_of!(Addition, finish),
        flips = const offset_of!(Addition, flips),
        len = const offset_of!(Addition, len),
    )
}
