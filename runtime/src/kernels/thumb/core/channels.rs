//! Channels of a depthwise convolution, one after the other. Enters: [`Channels`]. Leaves: a byte of each output pixel and channel.

#![allow(unsafe_code, reason = "assembly")]

use crate::{
    arith::{Requantize, Requantizer},
    kernels::channels::{Channels, of_sign},
};
use core::{arch::naked_asm, mem::size_of};

pub(super) fn run(channels: &Channels, y: &mut [u8]) {
    let Channels { taps: [down, right], tap_steps: [row_step, tap_step], kernel, blocks, count, .. } = *channels;
    assert!(down > 0 && right > 0 && count > 0 && blocks > 0 && channels.lanes == 1);
    let x = &channels.x[..channels.reach()];
    let y = &mut y[..channels.out_reach()];
    let window = kernel[0] * kernel[1];
    let weights = &channels.weights[..(blocks - 1) * window + (down - 1) * kernel[1] + right];
    let sum = of_sign(channels.signed, [sum_signed as unsafe extern "C" fn(*const Taps) -> i32, sum_unsigned]);
    let mut taps = Taps {
        x: x.as_ptr(),
        weights: weights.as_ptr(),
        step: tap_step,
        zero_point: channels.zero_point,
        start: 0,
        behind: (right * size_of::<i16>()).wrapping_neg(),
        row_skip: row_step.wrapping_sub(right * tap_step),
        weight_step: kernel[1] * size_of::<i16>(),
        rows: down,
    };
    for c in 0..blocks {
        let k = channels.channel + c;
        taps.start = channels.bias.i32(k);
        taps.weights = weights[c * window..].as_ptr();
        let requantizer =
            Requantizer::new(channels.multipliers.f32(k), channels.finish.zero_point, channels.finish.clamp);
        for i in 0..count {
            taps.x = x[i * channels.step + c..].as_ptr();
            // SAFETY: each tap of the pixel's channel lies in `x`, and its weight in `weights`, by the slices above.
            let acc = unsafe { sum(&taps) };
            y[i * channels.out_step + c] = requantizer.apply(acc) as u8;
        }
    }
}

/// The taps of one channel of an output pixel.
#[repr(C)]
struct Taps {
    x: *const u8,
    weights: *const i16,
    /// Bytes from tap to tap.
    step: usize,
    zero_point: i32,
    /// What is added to.
    start: i32,
    /// Bytes of a row of weights, negative.
    behind: usize,
    /// From behind the last tap of a row to the first of the next.
    row_skip: usize,
    weight_step: usize,
    rows: usize,
}

/// Multiplies `r6` with `r7` and adds to `r5`.
#[cfg(not(intact_mla))]
macro_rules! add {
    () => {
        "muls r6, r7, r6\n adds r5, r5, r6"
    };
}
#[cfg(intact_mla)]
macro_rules! add {
    () => {
        "mla r5, r6, r7, r5"
    };
}

/// Weights are found from the end of their row, so that one register counts and points.
macro_rules! sum {
    ($name:ident, $extend:literal) => {
        /// # Safety
        /// The taps and their weights can be read.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(taps: *const Taps) -> i32 {
            naked_asm!(
                "push {{r4, r5, r6, r7, lr}}",
                "mov r4, r8",
                "mov r5, r9",
                "mov r6, r10",
                "mov r7, r11",
                "push {{r4, r5, r6, r7}}",
                "ldr r4, [r0, #20]",
                "mov r8, r4",
                "ldr r5, [r0, #24]",
                "mov r9, r5",
                "ldr r6, [r0, #28]",
                "mov r10, r6",
                "ldr r7, [r0, #32]",
                "mov r11, r7",
                "ldm r0, {{r0, r1, r2, r3, r4, r5}}",
                // `ldm` leaves `r0` loaded: taps in `r0`, weights in `r1`, step in `r2`, zero point in `r3`, sum in `r5`.
                "mov r5, r4",
                "mov r4, r8",
                "subs r1, r1, r4",
                "2:",
                "mov r4, r8",
                "3:",
                "ldrb r6, [r0, #0]",
                $extend,
                "ldrsh r7, [r1, r4]",
                "adds r0, r0, r2",
                "subs r6, r6, r3",
                add!(),
                "adds r4, r4, #2",
                "bne 3b",
                "add r0, r0, r9",
                "add r1, r1, r10",
                "mov r6, r11",
                "subs r6, r6, #1",
                "mov r11, r6",
                "bne 2b",
                "mov r0, r5",
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

sum!(sum_signed, "sxtb r6, r6");
sum!(sum_unsigned, "");
