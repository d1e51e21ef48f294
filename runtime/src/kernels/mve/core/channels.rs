//! Blocks of eight channels of a depthwise convolution, or fewer. Enters: [`Channels`]. Leaves: bytes of each output pixel and block.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, core_directive};
use crate::{
    image::Weights,
    kernels::channels::{Channels, of_sign, places},
};
use core::{arch::naked_asm, mem::offset_of};

/// Channels of a block.
const LANES: usize = 8;

pub(super) fn prepare(weights: &Weights, channels: usize, first: usize, lanes: usize, widened: &mut [i16]) {
    let places = places(lanes, LANES);
    let (row, bits) = (weights.row_bytes(channels), usize::from(weights.bits));
    let (taps, start) = (widened.len() / places, first * bits / 8);
    assert!(taps > 0 && (1..=LANES).contains(&lanes));
    let args = Widening {
        from: weights.data[start..][..(taps - 1) * row + (lanes * bits).div_ceil(8)].as_ptr(),
        to: widened.as_mut_ptr(),
        taps,
        row,
        places: 2 * places,
        lanes,
        bits,
        up: 16 - bits,
        down: bits as i32 - 16,
        zero_points: core::array::from_fn(|c| weights.zero_point(if c < lanes { first + c } else { first }) as i16),
    };
    let widen = if weights.signed { widen_signed } else { widen_unsigned };
    // SAFETY: the channels' bits lie in each row, by the slice above; a block starts at a whole byte, since eight weights are. Each tap
    // has as many halves of `widened`, at a multiple of 4, as are written.
    unsafe { widen(&args) };
}

/// Weights that are widened.
#[repr(C)]
struct Widening {
    from: *const u8,
    to: *mut i16,
    taps: usize,
    /// Bytes from tap to tap.
    row: usize,
    /// The same where they are put.
    places: usize,
    lanes: usize,
    bits: usize,
    /// Bits from the bottom of a lane to its top, and down again.
    up: usize,
    down: i32,
    zero_points: [i16; LANES],
}

macro_rules! widen {
    ($name:ident, $shift:literal) => {
        /// # Safety
        /// The rows can be read, and written where they are put.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *const Widening) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, lr}}",
                "add r1, r0, #{zero_points}",
                "vldrh.u16 q0, [r1]",
                "ldm r0, {{r1, r2, r3, r4, r5, r6, r7, r8, r9}}",
                // Where each lane's bits lie: the byte, and how far below the lane's top.
                "mov r0, #0",
                "vidup.u16 q2, r0, #1",
                "vmul.i16 q2, q2, r7",
                "vshr.u16 q1, q2, #3",
                "vmov.i16 q3, #7",
                "vand q3, q2, q3",
                "vdup.16 q2, r8",
                "vsub.i16 q2, q2, q3",
                "vctp.16 r6",
                "2:",
                "vpst",
                "vldrbt.u16 q3, [r1, q1]",
                "vshl.u16 q3, q3, q2",
                concat!("vshl.", $shift, " q3, r9"),
                "vsub.i16 q3, q3, q0",
                "vpst",
                "vstrht.16 q3, [r2]",
                "add r1, r1, r4",
                "add r2, r2, r5",
                "subs r3, r3, #1",
                "bne 2b",
                "pop {{r4, r5, r6, r7, r8, r9, r10, pc}}",
                zero_points = const offset_of!(Widening, zero_points),
            )
        }
    };
}

widen!(widen_signed, "s16");
widen!(widen_unsigned, "u16");

pub(super) fn run(channels: &Channels, y: &mut [u8]) {
    let Channels { taps: [down, right], tap_steps: [row_step, tap_step], kernel, lanes, blocks, count, .. } = *channels;
    let places = places(lanes, LANES);
    assert!(down > 0 && right > 0 && count > 0 && (1..=LANES).contains(&lanes));
    assert!(if lanes == LANES { blocks > 0 } else { blocks == 1 });
    let x = &channels.x[..channels.reach()];
    let y = &mut y[..channels.out_reach()];
    let weights = &channels.weights[..places * ((blocks - 1) * kernel[0] * kernel[1] + (down - 1) * kernel[1] + right)];
    let tables = 4 * channels.channel..4 * (channels.channel + lanes * blocks);
    // Tables are read eight numbers at a time, so that shorter ones are copied.
    let mut copies = [[0; LANES]; 2];
    let mut table = [channels.bias, channels.multipliers].map(|table| table.bytes()[tables.clone()].as_ptr());
    if lanes < LANES {
        for (copy, table) in copies.iter_mut().zip([channels.bias, channels.multipliers]) {
            copy.iter_mut().take(lanes).enumerate().for_each(|(c, copy)| *copy = table.u32(channels.channel + c));
        }
        table = [0, 1].map(|i| copies[i].as_ptr().cast());
    }
    let [bias, multipliers] = table;
    let mut args = Work {
        x: x.as_ptr(),
        y: y.as_mut_ptr(),
        bias,
        multipliers,
        weights: weights.as_ptr(),
        place: 2 * places,
        weight_skip: 2 * places * (kernel[1] - right),
        row_skip: row_step.wrapping_sub(right * tap_step),
        rows: down,
        taps: right,
        tap_step,
        lift: channels.zero_point,
        count,
        lanes,
        step: channels.step,
        out_step: channels.out_step,
        finish: Ends::new(channels.finish),
        block_weights: 2 * LANES * kernel[0] * kernel[1],
        blocks,
    };
    let whole = of_sign(channels.signed, [whole_signed as unsafe extern "C" fn(*mut Work), whole_unsigned]);
    let part = of_sign(channels.signed, [part_signed as unsafe extern "C" fn(*mut Work), part_unsigned]);
    let run = if lanes == LANES { whole } else { part };
    // SAFETY: `lanes` bytes of every tap of every pixel and block lie in `x`, and of every output pixel and block in `y`, a weight
    // for each tap in `weights`, and eight numbers for each block in the tables or their copies, which words can be read from. The
    // args are this function's own.
    unsafe { run(&mut args) };
}

/// What blocks of channels are made of.
#[repr(C)]
struct Work {
    x: *const u8,
    y: *mut u8,
    bias: *const u8,
    multipliers: *const u8,
    weights: *const i16,
    /// Bytes of a tap's weights.
    place: usize,
    weight_skip: usize,
    /// From behind the last tap of a row to the first of the next.
    row_skip: usize,
    rows: usize,
    taps: usize,
    tap_step: usize,
    /// `zx`.
    lift: i32,
    count: usize,
    lanes: usize,
    step: usize,
    out_step: usize,
    finish: Ends,
    /// From the weights of a block to those of the next.
    block_weights: usize,
    /// Blocks still to come.
    blocks: usize,
}

/// The products of one tap; sums of even channels are in `q0`, of odd ones in `q1`.
macro_rules! tap {
    (whole, $load:literal) => {
        concat!("vldrb.", $load, " q2, [r5]\n vldrh.u16 q3, [r4], #16\n", tap!(@))
    };
    (part, $load:literal) => {
        concat!("vpstt\n vldrbt.", $load, " q2, [r5]\n vldrht.u16 q3, [r4]\n add r4, r4, r0\n", tap!(@))
    };
    (@) => {
        concat!(
            "add r5, r5, r6\n vsub.i16 q2, q2, r3\n",
            "vmullb.s16 q4, q2, q3\n vmullt.s16 q2, q2, q3\n vadd.i32 q0, q0, q4\n vadd.i32 q1, q1, q2\n",
        )
    };
}

macro_rules! store {
    (whole) => {
        "vstrb.16 q0, [r2]"
    };
    (part) => {
        "vpst\n vstrbt.16 q0, [r2]"
    };
}

/// The rows of a window of three columns, all inside, with whole blocks; else nothing, and the loop below it takes them.
macro_rules! three {
    (whole, $load:literal) => {
        concat!(
            "cmp r10, #3\n bne 3f\n",
            "8:\n",
            tap!(whole, $load),
            tap!(whole, $load),
            tap!(whole, $load),
            "add r5, r5, r8\n add r4, r4, r7\n subs r9, r9, #1\n bne 8b\n b 6f\n",
        )
    };
    (part, $load:literal) => {
        ""
    };
}

macro_rules! channels {
    ($name:ident, $whole:tt, $load:literal) => {
        /// # Safety
        /// The args describe pixels, weights and tables that may be read, and outputs that may be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *mut Work) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "vpush {{d8, d9, d10, d11, d12, d13, d14, d15}}",
                "mov r12, r0",
                "ldr r0, [r12, #{lanes}]",
                "vctp.16 r0",
                "ldr r0, [r12, #{place}]",
                "add r6, r12, #{weight_skip}",
                "ldm r6, {{r7, r8}}",
                "add r10, r12, #{taps}",
                "ldm r10, {{r10, r11}}",
                "mov r6, r11",
                "ldr r3, [r12, #{lift}]",
                "ldr r4, [r12, #{low}]",
                "vdup.16 q7, r4",
                // A block.
                "7:",
                "ldm r12, {{r1, r2, r4, r5}}",
                "vld20.32 {{q5, q6}}, [r5]",
                "vld21.32 {{q5, q6}}, [r5]",
                "ldr r11, [r12, #{count}]",
                // A pixel.
                "2:",
                "ldr r5, [r12, #{bias}]",
                "vld20.32 {{q0, q1}}, [r5]",
                "vld21.32 {{q0, q1}}, [r5]",
                "ldr r4, [r12, #{weights}]",
                "mov r5, r1",
                "ldr r9, [r12, #{rows}]",
                three!($whole, $load),
                "3:",
                "dls lr, r10",
                "4:",
                tap!($whole, $load),
                "le lr, 4b",
                "add r5, r5, r8",
                "add r4, r4, r7",
                "subs r9, r9, #1",
                "bne 3b",
                "6:",
                "vcvt.f32.s32 q0, q0\n vcvt.f32.s32 q1, q1",
                "vmul.f32 q0, q0, q5\n vmul.f32 q1, q1, q6",
                "vcvtn.s32.f32 q0, q0\n vcvtn.s32.f32 q1, q1",
                // To halves, even and odd channels side by side: what does not fit is far beyond every clamp, before and after.
                "vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q1",
                "ldr r4, [r12, #{zero_point}]",
                "ldr r5, [r12, #{high}]",
                "vqadd.s16 q0, q0, r4",
                "vdup.16 q2, r5",
                "vmax.s16 q0, q0, q7",
                "vmin.s16 q0, q0, q2",
                store!($whole),
                "ldrd r4, r5, [r12, #{step}]",
                "add r1, r1, r4",
                "add r2, r2, r5",
                "subs r11, r11, #1",
                "bne 2b",
                // The next block.
                "ldm r12, {{r1, r2, r4, r5}}",
                "add r1, r1, #8",
                "add r2, r2, #8",
                "add r4, r4, #32",
                "add r5, r5, #32",
                "stm r12, {{r1, r2, r4, r5}}",
                "ldr r4, [r12, #{weights}]",
                "ldrd r5, r9, [r12, #{block_weights}]",
                "add r4, r4, r5",
                "str r4, [r12, #{weights}]",
                "subs r9, r9, #1",
                "str r9, [r12, #{blocks}]",
                "bne 7b",
                "vpop {{d8, d9, d10, d11, d12, d13, d14, d15}}",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                lanes = const offset_of!(Work, lanes),
                place = const offset_of!(Work, place),
                weight_skip = const offset_of!(Work, weight_skip),
                taps = const offset_of!(Work, taps),
                lift = const offset_of!(Work, lift),
                low = const offset_of!(Work, finish.low),
                high = const offset_of!(Work, finish.high),
                zero_point = const offset_of!(Work, finish.zero_point),
                count = const offset_of!(Work, count),
                bias = const offset_of!(Work, bias),
                weights = const offset_of!(Work, weights),
                rows = const offset_of!(Work, rows),
                step = const offset_of!(Work, step),
                block_weights = const offset_of!(Work, block_weights),
                blocks = const offset_of!(Work, blocks),
            )
        }
    };
}

channels!(whole_signed, whole, "s16");
channels!(whole_unsigned, whole, "u16");
channels!(part_signed, part, "s16");
channels!(part_unsigned, part, "u16");
