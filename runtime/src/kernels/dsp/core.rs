//! The inner loops in assembly, for cores with the DSP instructions and a float unit. Enters: what [`Model`](super) takes.
//! Leaves: the same bytes. Refuses nothing; what would reach outside a slice panics before the assembly runs.
//!
//! Counted in instructions: 13 for 16 products of 8-bit weights (a word of weights becomes two operands in 3, eight operands
//! of columns are loaded in 2, 8 multiply), one of them 0.81; 4-bit weights take as many. Rounding is the float unit's: to
//! nearest, ties to even, is its mode after reset and nothing here changes it.

#![allow(unsafe_code, reason = "assembly")]

use super::{Channels, Dsp, Finish, PIXELS, Rows, Slot, Source, Sum, Tile, group};
use core::{
    arch::naked_asm,
    cell::Cell,
    mem::{offset_of, size_of},
};

/// The core's own instructions.
#[derive(Debug)]
pub(in crate::kernels) struct Core;

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

impl Dsp for Core {
    #[inline]
    fn widen(source: Source, rows: Rows, slots: &mut [Slot], pixel: usize) {
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
            (8, true) => widen_8_signed,
            (8, false) => widen_8_unsigned,
            (4, true) => widen_4_signed,
            (4, false) => widen_4_unsigned,
            (_, true) => widen_2_signed,
            (_, false) => widen_2_unsigned,
        };
        // SAFETY: reads whole groups of the rows, which lie in `bytes`; writes words `2 * pixel` and the next one of as many
        // slots as those have words, which lie in `slots`.
        unsafe { widen(&args) };
    }

    #[inline]
    fn copy(rows: Rows, to: &mut [u8]) {
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
        unsafe { copy(&args) };
    }

    #[inline]
    fn widen_weights(bytes: &[u8], step: usize, signed: bool, zero_points: [i32; 4], widened: &mut [[u32; 2]]) {
        let Some(last) = widened.len().checked_sub(1) else { return };
        let from = bytes[..last * step + 4].as_ptr();
        let lift = |c: usize| (-zero_points[c]) as u16 as u32 | ((-zero_points[c + 2]) as u32) << 16;
        let widen = if signed { widen_weights_signed } else { widen_weights_unsigned };
        // SAFETY: four bytes for each of `widened` lie in `bytes`, by the slice above.
        unsafe {
            widen(&Blocks { from, to: widened.as_mut_ptr(), count: widened.len(), step, lifts: [lift(0), lift(1)] })
        };
    }

    #[inline]
    fn tile(tile: &Tile, y: &mut [u8]) {
        let weights = tile.weights;
        let rows = tile.rows.clone();
        let row_bytes = weights.row_bytes(tile.len);
        let (words, rest) = (row_bytes / 4, row_bytes % 4);
        let (run, unroll) = match (weights.bits, weights.signed) {
            (8, true) => (tile_8_signed as unsafe extern "C" fn(*mut Args), 4),
            (8, false) => (tile_8_unsigned as _, 4),
            (4, true) => (tile_4_signed as _, 6),
            (4, false) => (tile_4_unsigned as _, 6),
            (_, true) => (tile_2_signed as _, 1),
            (_, false) => (tile_2_unsigned as _, 1),
        };
        let slots = words * group(weights.bits) / 4;
        let unrolled = words / unroll * unroll * group(weights.bits) / 4;
        let columns = &tile.columns[..(words + usize::from(rest > 0)) * group(weights.bits) / 4];
        let data = &weights.data[rows.start * row_bytes..rows.end * row_bytes];
        assert!(row_bytes >= 4 && !rows.is_empty());
        assert!(rows.end <= weights.bias.len() && rows.end <= weights.multipliers.len());
        assert!(weights.zero_points.len() == 1 || rows.end <= weights.zero_points.len());
        let out =
            tile.starts.map(|start| y[start + rows.start..start + rows.end].as_mut_ptr().wrapping_sub(rows.start));
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

    #[inline]
    fn channels(channels: &Channels, y: &mut [u8]) {
        let Channels { taps: [down, right], tap_steps: [row_step, tap_step], kernel, step, count, blocks, .. } =
            *channels;
        assert!(down > 0 && right > 0 && count > 0 && blocks > 0);
        let last = (count - 1) * step + (down - 1) * row_step + (right - 1) * tap_step;
        let x = &channels.x[..last + 4 * blocks];
        let y = &mut y[..(count - 1) * channels.out_step + 4 * blocks];
        let weights = &channels.weights[..(blocks - 1) * kernel[0] * kernel[1] + (down - 1) * kernel[1] + right];
        let tables = 4 * channels.channel..4 * channels.channel + 16 * blocks;
        let mut args = Work {
            x: x.as_ptr(),
            step,
            rows: down,
            left: 0,
            row_skip: row_step.wrapping_sub(right * tap_step),
            row_step,
            taps: right,
            tap_step,
            weights: weights.as_ptr(),
            weight_skip: 8 * (kernel[1] - right),
            square: u32::from(down == 3 && right == 3 && kernel[1] == 3),
            lift: twice(-channels.zero_point),
            bias: channels.bias.bytes()[tables.clone()].as_ptr(),
            multipliers: channels.multipliers.bytes()[tables].as_ptr(),
            ends: Ends::in_bytes(channels.finish),
            y: y.as_mut_ptr(),
            out_step: channels.out_step,
            count,
            block_weights: 8 * kernel[0] * kernel[1],
            block_x: 4usize.wrapping_sub(count * step),
            block_y: 4usize.wrapping_sub(count * channels.out_step),
            blocks,
        };
        let run = if channels.signed { channels_signed } else { channels_unsigned };
        // SAFETY: four bytes of every tap of every pixel and block lie in `x`, four of every output pixel and block in `y`, a
        // weight for each tap in `weights`, and four numbers for each block in the tables, by the slices above. The args are
        // this function's own.
        unsafe { run(&mut args) };
    }

    #[inline]
    fn sum(sum: &Sum, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
        let (a, b) = (&a[..y.len()], &b[..y.len()]);
        if y.len() < 4 {
            return;
        }
        // An unsigned byte with its top bit flipped is a signed one, 128 lower.
        let flips = sum.signed.map(|signed| if signed { 0 } else { 0x8080_8080 });
        let mut offset = sum.offset;
        for (signed, multiplier) in sum.signed.into_iter().zip(sum.multipliers) {
            offset = offset.wrapping_add(if signed { 0 } else { 128 * multiplier });
        }
        let args = Addition {
            a: a.as_ptr().cast(),
            b: b.as_ptr().cast(),
            y: y.as_ptr().cast_mut().cast(),
            end: y[y.len() / 4 * 4..].as_ptr().cast(),
            multipliers: sum.multipliers,
            offset,
            shift: sum.shift,
            rest: 32 - sum.shift,
            add: Ends::new(sum.finish).add,
            ends: Ends::in_bytes(sum.finish),
            flips,
        };
        // SAFETY: all three slices have the words up to `end`; cells may be written through shared references, and the output may
        // be an input, since each word is read before it is written.
        unsafe { add(&args) };
    }
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
                // The assembler of naked functions knows the core, but not its float unit.
                ".fpu fpv4-sp-d16",
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
unsafe extern "C" fn copy(args: *const Move) {
    naked_asm!(
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
    to: *mut [u32; 2],
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

/// What four channels are made of.
#[repr(C)]
struct Work {
    x: *const u8,
    step: usize,
    rows: usize,
    /// Rows still to come.
    left: usize,
    /// From behind the last tap of a row to the first of the next.
    row_skip: usize,
    row_step: usize,
    taps: usize,
    tap_step: usize,
    weights: *const [u32; 2],
    weight_skip: usize,
    /// Whether all of a 3 x 3 window is inside.
    square: u32,
    lift: u32,
    bias: *const u8,
    multipliers: *const u8,
    ends: Ends,
    y: *mut u8,
    out_step: usize,
    count: usize,
    /// From the weights of a block to those of the next.
    block_weights: usize,
    /// From behind the last pixel of a block to the first of the next.
    block_x: usize,
    block_y: usize,
    /// Blocks still to come.
    blocks: usize,
}

/// The products of one tap of four channels: the bytes are in `r8`, the weights in `r9` and `r10`.
macro_rules! tap {
    ($extend:literal) => {
        concat!(
            $extend,
            " r7, r12, r8\n",
            $extend,
            " r8, r12, r8, ror #8\n",
            "smlabb r0, r7, r9, r0\n smlabb r1, r8, r10, r1\n smlatt r2, r7, r9, r2\n smlatt r3, r8, r10, r3\n",
        )
    };
}

/// A row of three taps, the weights from `$at` on.
macro_rules! three {
    ($extend:literal, $first:literal, $second:literal, $third:literal) => {
        concat!(
            "ldr r8, [r5]\n ldrd r9, r10, [r4, #",
            $first,
            "]\n",
            tap!($extend),
            "ldr r8, [r5, r6]\n ldrd r9, r10, [r4, #",
            $second,
            "]\n",
            tap!($extend),
            "ldr r8, [r5, r6, lsl #1]\n ldrd r9, r10, [r4, #",
            $third,
            "]\n",
            tap!($extend),
            "add r5, r5, r11\n",
        )
    };
}

macro_rules! channels {
    ($name:ident, $extend:literal) => {
        /// # Safety
        /// The args describe pixels and weights that may be read, and outputs that may be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *mut Work) {
            naked_asm!(
                // The assembler of naked functions knows the core, but not its float unit.
                ".fpu fpv4-sp-d16",
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "mov lr, r0",
                "ldr r12, [lr, #{lift}]",
                "ldr r6, [lr, #{tap_step}]",
                // A block.
                "7:",
                "ldrd r4, r5, [lr, #{bias}]",
                "ldr r0, [r4], #4\n ldr r1, [r4], #4\n ldr r2, [r4], #4\n ldr r3, [r4], #4",
                "vmov s8, s9, r0, r1\n vmov s10, s11, r2, r3",
                "ldr r0, [r5], #4\n ldr r1, [r5], #4\n ldr r2, [r5], #4\n ldr r3, [r5], #4",
                "vmov s12, s13, r0, r1\n vmov s14, s15, r2, r3",
                "strd r4, r5, [lr, #{bias}]",
                "ldr r10, [lr, #{count}]",
                "vmov s7, r10",
                // A pixel.
                "2:",
                "vmov r0, r1, s8, s9\n vmov r2, r3, s10, s11",
                "ldr r4, [lr, #{weights}]",
                "ldr r5, [lr, #{x}]",
                "ldr r7, [lr, #{square}]",
                "cmp r7, #0",
                "beq 3f",
                "ldr r11, [lr, #{row_step}]",
                three!($extend, "0", "8", "16"),
                three!($extend, "24", "32", "40"),
                three!($extend, "48", "56", "64"),
                "b 6f",
                "3:",
                "ldr r7, [lr, #{rows}]",
                "4:",
                "str r7, [lr, #{left}]",
                "ldr r11, [lr, #{taps}]",
                "5:",
                "ldr r8, [r5]",
                "add r5, r5, r6",
                "ldrd r9, r10, [r4], #8",
                tap!($extend),
                "subs r11, r11, #1",
                "bne 5b",
                "ldr r7, [lr, #{row_skip}]",
                "ldr r8, [lr, #{weight_skip}]",
                "add r5, r5, r7",
                "add r4, r4, r8",
                "ldr r7, [lr, #{left}]",
                "subs r7, r7, #1",
                "bne 4b",
                "6:",
                "ldr r7, [lr, #{add}]",
                requantize!("s12", "s13", "s14", "s15"),
                "orr r0, r0, r1, lsl #8\n orr r0, r0, r2, lsl #16\n orr r0, r0, r3, lsl #24",
                "ldrd r8, r9, [lr, #{high}]",
                "usub8 r1, r8, r0",
                "sel r0, r0, r8",
                "uadd8 r0, r0, r9",
                "ldrd r4, r5, [lr, #{y}]",
                "str r0, [r4]",
                "add r4, r4, r5",
                "str r4, [lr, #{y}]",
                "ldrd r4, r5, [lr, #{x}]",
                "add r4, r4, r5",
                "str r4, [lr, #{x}]",
                "vmov r4, s7",
                "subs r4, r4, #1",
                "vmov s7, r4",
                "bne 2b",
                "ldrd r4, r5, [lr, #{block_x}]",
                "ldr r7, [lr, #{x}]\n add r7, r7, r4\n str r7, [lr, #{x}]",
                "ldr r7, [lr, #{y}]\n add r7, r7, r5\n str r7, [lr, #{y}]",
                "ldr r7, [lr, #{weights}]\n ldr r4, [lr, #{block_weights}]\n add r7, r7, r4\n str r7, [lr, #{weights}]",
                "ldr r7, [lr, #{blocks}]",
                "subs r7, r7, #1",
                "str r7, [lr, #{blocks}]",
                "bne 7b",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                bias = const offset_of!(Work, bias),
                lift = const offset_of!(Work, lift),
                tap_step = const offset_of!(Work, tap_step),
                weights = const offset_of!(Work, weights),
                x = const offset_of!(Work, x),
                square = const offset_of!(Work, square),
                row_step = const offset_of!(Work, row_step),
                rows = const offset_of!(Work, rows),
                left = const offset_of!(Work, left),
                taps = const offset_of!(Work, taps),
                row_skip = const offset_of!(Work, row_skip),
                weight_skip = const offset_of!(Work, weight_skip),
                add = const offset_of!(Work, ends.add),
                high = const offset_of!(Work, ends.high),
                y = const offset_of!(Work, y),
                count = const offset_of!(Work, count),
                block_x = const offset_of!(Work, block_x),
                block_weights = const offset_of!(Work, block_weights),
                blocks = const offset_of!(Work, blocks),
            )
        }
    };
}

channels!(channels_signed, "sxtab16");
channels!(channels_unsigned, "uxtab16");

/// What an Add is made of.
#[repr(C)]
struct Addition {
    a: *const u8,
    b: *const u8,
    y: *mut u8,
    end: *const u8,
    multipliers: [i32; 2],
    offset: i32,
    shift: u32,
    /// `32 - shift`.
    rest: u32,
    add: i32,
    ends: Ends,
    flips: [u32; 2],
}

/// The sum of byte `$byte` of `r10` and `r11`, saturated, in `r12`.
macro_rules! element {
    ($turn:literal) => {
        concat!(
            "sxtb r12, r10",
            $turn,
            "\n mla r12, r12, r4, r6\n sxtb lr, r11",
            $turn,
            "\n mla r12, lr, r5, r12\n",
            // All bits that are shifted out are 0: a tie, which goes to the even neighbour.
            "lsls lr, r12, r8\n asr r12, r12, r7\n it eq\n biceq r12, r12, #1\n",
            "add r12, r12, r9\n usat r12, #8, r12\n",
        )
    };
}

/// # Safety
/// The words of the output up to `end`, at least one, can be written, and as many of both inputs read.
#[unsafe(naked)]
unsafe extern "C" fn add(args: *const Addition) {
    naked_asm!(
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "sub sp, sp, #20",
        "ldr r1, [r0, #{high}]\n ldr r2, [r0, #{low}]\n ldrd r3, r4, [r0, #{flips}]",
        "strd r1, r2, [sp]\n strd r3, r4, [sp, #8]",
        "add r10, r0, #{multipliers}",
        "ldm r10, {{r4, r5, r6, r7, r8, r9}}",
        "ldm r0, {{r0, r1, r2, r3}}",
        "str r3, [sp, #16]",
        "2:",
        "ldrd r12, lr, [sp, #8]",
        "ldr r10, [r0], #4\n ldr r11, [r1], #4",
        "eor r10, r10, r12\n eor r11, r11, lr",
        element!(""),
        "mov r3, r12",
        element!(", ror #8"),
        "orr r3, r3, r12, lsl #8",
        element!(", ror #16"),
        "orr r3, r3, r12, lsl #16",
        element!(", ror #24"),
        "orr r3, r3, r12, lsl #24",
        "ldrd r10, r11, [sp]",
        "usub8 r12, r10, r3",
        "sel r3, r3, r10",
        "uadd8 r3, r3, r11",
        "str r3, [r2], #4",
        "ldr r3, [sp, #16]",
        "cmp r2, r3",
        "bne 2b",
        "add sp, sp, #20",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        multipliers = const offset_of!(Addition, multipliers),
        high = const offset_of!(Addition, ends.high),
        low = const offset_of!(Addition, ends.low),
        flips = const offset_of!(Addition, flips),
    )
}
