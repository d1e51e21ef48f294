//! Blocks of four channels of a depthwise convolution. Enters: [`Channels`]. Leaves: four bytes of each output pixel and block.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, core_directive, requantize, twice};
use crate::kernels::channels::{Channels, of_sign};
use core::{arch::naked_asm, mem::offset_of};

#[inline]
pub(super) fn run(channels: &Channels, y: &mut [u8]) {
    let Channels { taps: [down, right], tap_steps: [row_step, tap_step], kernel, step, count, blocks, .. } = *channels;
    assert!(down > 0 && right > 0 && count > 0 && blocks > 0 && channels.lanes == 4);
    let x = &channels.x[..channels.reach()];
    let y = &mut y[..channels.out_reach()];
    let weights = &channels.weights[..4 * ((blocks - 1) * kernel[0] * kernel[1] + (down - 1) * kernel[1] + right)];
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
    let run = of_sign(channels.signed, [channels_signed, channels_unsigned]);
    // SAFETY: four bytes of every tap of every pixel and block lie in `x`, four of every output pixel and block in `y`, a
    // weight for each tap and channel in `weights`, at a multiple of 4, and four numbers for each block in the tables, by the slices
    // above. The args are this function's own.
    unsafe { run(&mut args) };
}

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
    weights: *const i16,
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
                core_directive!(),
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
