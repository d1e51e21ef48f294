//! Four columns against rows of weights. Enters: a [`Tile`]. Leaves: a byte of each pixel for each row.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, core_directive, requantize};
use crate::kernels::dsp::{Slot, Tile, group};
use crate::kernels::linked::{absent, linked};
use core::{arch::naked_asm, mem::offset_of};

#[inline]
pub(super) fn run(tile: &Tile, y: &mut [u8]) {
    let weights = tile.weights;
    let rows = tile.rows.clone();
    let row_bytes = weights.row_bytes(tile.len);
    let (words, rest) = (row_bytes / 4, row_bytes % 4);
    let (run, unroll) = match (weights.bits, weights.signed) {
        (8, true) if const { linked("int8") } => (tile_8_signed as unsafe extern "C" fn(*mut Args), 4),
        (8, false) if const { linked("uint8") } => (tile_8_unsigned as _, 4),
        (4, true) if const { linked("int4") } => (tile_4_signed as _, 6),
        (4, false) if const { linked("uint4") } => (tile_4_unsigned as _, 6),
        (2, true) if const { linked("int2") } => (tile_2_signed as _, 1),
        (2, false) if const { linked("uint2") } => (tile_2_unsigned as _, 1),
        _ => absent(),
    };
    let slots = words * group(weights.bits) / 4;
    let unrolled = words / unroll * unroll * group(weights.bits) / 4;
    let columns = &tile.columns[..(words + usize::from(rest > 0)) * group(weights.bits) / 4];
    let data = &weights.data[rows.start * row_bytes..rows.end * row_bytes];
    assert!(row_bytes >= 4 && !rows.is_empty());
    assert!(rows.end <= weights.bias.len() && rows.end <= weights.multipliers.len());
    assert!(weights.zero_points.len() == 1 || rows.end <= weights.zero_points.len());
    let out = tile.starts.map(|start| y[start + rows.start..start + rows.end].as_mut_ptr().wrapping_sub(rows.start));
    let mut args = Args {
        columns: columns.as_ptr(),
        unrolled: columns[unrolled..].as_ptr(),
        end: columns[slots..].as_ptr(),
        all: columns[columns.len()..].as_ptr(),
        weights: data.as_ptr(),
        rest,
        shift: 32 - 8 * rest as u32,
        bias: weights.bias.bytes().as_ptr(),
        multipliers: weights.multipliers.bytes().as_ptr(),
        zero_points: weights.zero_points.bytes().as_ptr(),
        zero_point_mask: if weights.zero_points.len() == 1 { 0 } else { !0 },
        // 4- and 2-bit weights are multiplied as unsigned ones, `2^(bits - 1)` above the signed.
        zero_point_lift: if weights.signed && weights.bits < 8 { 1 << (weights.bits - 1) } else { 0 },
        row: 4 * rows.start,
        row_end: 4 * rows.end,
        ends: Ends::new(tile.finish),
        totals: [0; 4],
        out,
    };
    // SAFETY: `columns` has a group for each word of a row and one for its rest, if there is one; `data` has
    // `row_bytes` for each row, and the last word of a row ends where the row does, which has at least four bytes; the
    // three tables have the rows' numbers, or one zero point for all; each pointer of `out` may be written at every row.
    // The args are this function's own.
    unsafe { run(&mut args) };
}

/// What a tile is made of.
#[repr(C)]
struct Args {
    columns: *const Slot,
    /// End of the part in which groups come several at a time.
    unrolled: *const Slot,
    /// End of the groups with a whole word of weights.
    end: *const Slot,
    /// End of all.
    all: *const Slot,
    weights: *const u8,
    /// Bytes of a row after its whole words.
    rest: usize,
    /// Bits of the row's last word that belong to the one before.
    shift: u32,
    bias: *const u8,
    multipliers: *const u8,
    zero_points: *const u8,
    zero_point_mask: u32,
    zero_point_lift: i32,
    /// Four times the row.
    row: usize,
    row_end: usize,
    ends: Ends,
    totals: [i32; 4],
    out: [*mut u8; 4],
}

/// Two operands of weights, `r7` and `r8`, times one slot of columns.
macro_rules! slot {
    () => {
        concat!(
            "ldm r5!, {{r9, r10, r11, r12}}\n",
            "smlad r0, r7, r9, r0\n smlad r0, r8, r10, r0\n smlad r1, r7, r11, r1\n smlad r1, r8, r12, r1\n",
            "ldm r5!, {{r9, r10, r11, r12}}\n",
            "smlad r2, r7, r9, r2\n smlad r2, r8, r10, r2\n smlad r3, r7, r11, r3\n smlad r3, r8, r12, r3\n",
        )
    };
}

/// The products of one word of weights, which is in `r6`; `lr` is `-zw` twice, or the mask.
macro_rules! products {
    (8, $extend:literal) => {
        concat!($extend, " r7, lr, r6\n", $extend, " r8, lr, r6, ror #8\n", slot!())
    };
    (4) => {
        concat!(
            "and r7, lr, r6\n and r8, lr, r6, lsr #4\n",
            slot!(),
            "and r7, lr, r6, lsr #8\n and r8, lr, r6, lsr #12\n",
            slot!(),
        )
    };
    (2) => {
        concat!(
            "and r7, lr, r6\n and r8, lr, r6, lsr #2\n",
            slot!(),
            "and r7, lr, r6, lsr #4\n and r8, lr, r6, lsr #6\n",
            slot!(),
            "and r7, lr, r6, lsr #8\n and r8, lr, r6, lsr #10\n",
            slot!(),
            "and r7, lr, r6, lsr #12\n and r8, lr, r6, lsr #14\n",
            slot!(),
        )
    };
}

/// `-zw` of the row, twice, in `lr`, and accumulators that start with the bias; the row is in `r6`, the args are in `lr`.
macro_rules! start_8 {
    () => {
        concat!(
            "ldr r7, [lr, #{zero_points}]\n ldr r8, [lr, #{zero_point_mask}]\n and r8, r8, r6\n ldr r7, [r7, r8]\n",
            "rsb r7, r7, #0\n pkhbt lr, r7, r7, lsl #16\n",
            "mov r1, r0\n mov r2, r0\n mov r3, r0\n",
        )
    };
}

/// Accumulators that start with the bias less the zero point times the column's total, and the mask in `lr`.
macro_rules! start_packed {
    ($mask:literal) => {
        concat!(
            "ldr r7, [lr, #{zero_points}]\n ldr r8, [lr, #{zero_point_mask}]\n and r8, r8, r6\n ldr r7, [r7, r8]\n",
            "ldr r8, [lr, #{zero_point_lift}]\n add r7, r7, r8\n",
            "add r8, lr, #{totals}\n ldm r8, {{r9, r10, r11, r12}}\n",
            "mls r3, r12, r7, r0\n mls r2, r11, r7, r0\n mls r1, r10, r7, r0\n mls r0, r9, r7, r0\n",
            "mov lr, #",
            $mask,
            "\n",
        )
    };
}

/// The totals of the four columns; the args are in `r0`, which is kept.
macro_rules! totals {
    () => {
        concat!(
            "mov lr, r0\n ldr r5, [lr, #{columns}]\n ldr r6, [lr, #{all}]\n mov r7, #0x00010001\n mov r8, #0x00010001\n",
            "mov r0, #0\n mov r1, #0\n mov r2, #0\n mov r3, #0\n",
            "7:\n", slot!(), "cmp r5, r6\n bne 7b\n",
            "add r8, lr, #{totals}\n stm r8, {{r0, r1, r2, r3}}\n mov r0, lr\n",
        )
    };
}

/// No totals; the assembler wants every operand to be named.
macro_rules! nothing {
    () => {
        "/* {zero_point_lift} {totals} {all} */"
    };
}

/// A tile's function: what comes before the first row, what starts a row, what is done to a word of weights once it is
/// loaded, its products, and how many words a round of the unrolled loop has.
macro_rules! tile {
    ($name:ident, $before:expr, $start:expr, $flip:literal, $products:expr, $($word:tt)+) => {
        /// # Safety
        /// The args describe a tile whose every byte may be read, and whose outputs may be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *mut Args) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "sub sp, sp, #12",
                $before,
                "ldr r4, [r0, #{weights}]",
                "ldr r7, [r0, #{unrolled}]",
                "ldr r8, [r0, #{end}]",
                "strd r7, r8, [sp, #4]",
                "str r0, [sp]",
                "mov lr, r0",
                // A row.
                "2:",
                "ldr r6, [lr, #{row}]",
                "ldr r5, [lr, #{bias}]",
                "ldr r0, [r5, r6]",
                "ldr r5, [lr, #{columns}]",
                $start,
                "ldr r7, [sp, #4]",
                "cmp r5, r7",
                "beq 4f",
                "3:",
                $(concat!("ldr r6, [r4], #4\n", tile!(@ $word $flip), $products),)+
                "ldr r7, [sp, #4]",
                "cmp r5, r7",
                "bne 3b",
                // Words that are left over.
                "4:",
                "ldr r7, [sp, #8]",
                "cmp r5, r7",
                "beq 5f",
                concat!("ldr r6, [r4], #4\n", $flip, $products),
                "b 4b",
                // A last word that is not whole.
                "5:",
                "ldr r7, [sp]",
                "ldr r8, [r7, #{rest}]",
                "cmp r8, #0",
                "beq 6f",
                "add r4, r4, r8",
                "ldr r6, [r4, #-4]",
                "ldr r7, [r7, #{shift}]",
                $flip,
                "lsr r6, r6, r7",
                $products,
                "6:",
                "ldr lr, [sp]",
                "ldr r5, [lr, #{multipliers}]",
                "ldr r6, [lr, #{row}]",
                "ldr r7, [r5, r6]",
                "vmov s4, r7",
                "ldr r7, [lr, #{add}]",
                requantize!("s4", "s4", "s4", "s4"),
                "ldrd r8, r9, [lr, #{high}]",
                "cmp r8, #255",
                "beq 7f",
                "cmp r0, r8\n it gt\n movgt r0, r8",
                "cmp r1, r8\n it gt\n movgt r1, r8",
                "cmp r2, r8\n it gt\n movgt r2, r8",
                "cmp r3, r8\n it gt\n movgt r3, r8",
                "7:",
                "add r0, r0, r9\n add r1, r1, r9\n add r2, r2, r9\n add r3, r3, r9",
                "add r8, lr, #{out}",
                "ldm r8, {{r9, r10, r11, r12}}",
                "lsr r7, r6, #2",
                "strb r3, [r12, r7]\n strb r2, [r11, r7]\n strb r1, [r10, r7]\n strb r0, [r9, r7]",
                "add r6, r6, #4",
                "str r6, [lr, #{row}]",
                "ldr r7, [lr, #{row_end}]",
                "cmp r6, r7",
                "bne 2b",
                "add sp, sp, #12",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                weights = const offset_of!(Args, weights),
                unrolled = const offset_of!(Args, unrolled),
                end = const offset_of!(Args, end),
                row = const offset_of!(Args, row),
                row_end = const offset_of!(Args, row_end),
                bias = const offset_of!(Args, bias),
                columns = const offset_of!(Args, columns),
                multipliers = const offset_of!(Args, multipliers),
                rest = const offset_of!(Args, rest),
                shift = const offset_of!(Args, shift),
                add = const offset_of!(Args, ends.add),
                high = const offset_of!(Args, ends.high),
                out = const offset_of!(Args, out),
                zero_points = const offset_of!(Args, zero_points),
                zero_point_mask = const offset_of!(Args, zero_point_mask),
                zero_point_lift = const offset_of!(Args, zero_point_lift),
                totals = const offset_of!(Args, totals),
                all = const offset_of!(Args, all),
            )
        }
    };
    (@ $word:tt $flip:literal) => { $flip };
}

tile!(tile_8_signed, nothing!(), start_8!(), "", products!(8, "sxtab16"), 1 2 3 4);
tile!(tile_8_unsigned, nothing!(), start_8!(), "", products!(8, "uxtab16"), 1 2 3 4);
tile!(tile_4_signed, totals!(), start_packed!("0x000f000f"), "eor r6, r6, #0x88888888\n", products!(4), 1 2 3 4 5 6);
tile!(tile_4_unsigned, totals!(), start_packed!("0x000f000f"), "", products!(4), 1 2 3 4 5 6);
tile!(tile_2_signed, totals!(), start_packed!("0x00030003"), "eor r6, r6, #0xaaaaaaaa\n", products!(2), 1);
tile!(tile_2_unsigned, totals!(), start_packed!("0x00030003"), "", products!(2), 1);
