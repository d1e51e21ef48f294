//! An output pixel of a pool. Enters: a [`Pixel`]. Leaves: a byte for each channel.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, core_directive};
use crate::kernels::pixel::Pixel;
use core::arch::naked_asm;

pub(super) fn means(pixel: &Pixel, multiplier: f32, y: &mut [u8]) {
    let taps = (pixel.taps[0] * pixel.taps[1]) as i32;
    let start = taps.wrapping_mul(pixel.zero_point).wrapping_neg();
    let loops = if pixel.signed { means_signed } else { means_unsigned };
    run(pixel, [start as u32, multiplier.to_bits()], y, loops);
}

pub(super) fn largest(pixel: &Pixel, y: &mut [u8]) {
    // The maxima are clamped from below, so that nothing less has to be known.
    let start = pixel.finish.clamp[0] as u32;
    run(pixel, [start, 0], y, if pixel.signed { largest_signed } else { largest_unsigned });
}

fn run(pixel: &Pixel, constants: [u32; 2], y: &mut [u8], loops: unsafe extern "C" fn(*const Work)) {
    let Pixel { taps: [down, right], steps: [row_step, tap_step], .. } = *pixel;
    assert!(down > 0 && right > 0 && !y.is_empty());
    let args = Work {
        x: pixel.x[..pixel.reach(y.len())].as_ptr(),
        y: y.as_mut_ptr(),
        rows: down,
        taps: right,
        tap_step,
        row_skip: row_step.wrapping_sub(right * tap_step),
        constants,
        finish: Ends::new(pixel.finish),
        channels: y.len(),
    };
    // SAFETY: each tap has as many bytes as `y`, within `x` by the slice above.
    unsafe { loops(&args) };
}

/// What an output pixel is made of.
#[repr(C)]
struct Work {
    x: *const u8,
    y: *mut u8,
    rows: usize,
    taps: usize,
    tap_step: usize,
    /// From behind the last tap of a row to the first of the next.
    row_skip: usize,
    /// What sums start at, or maxima; the multiplier.
    constants: [u32; 2],
    finish: Ends,
    channels: usize,
}

/// A vector of channels at a time, `$lane` bits each: `$take` takes a tap, which is in `q1`, and `$end` makes stored integers of `q0`,
/// with the ends of the clamp in `q2` and `q3`.
macro_rules! pixel {
    ($name:ident, $lane:literal, $load:literal, $bytes:literal, $take:literal, $end:literal) => {
        /// # Safety
        /// So many channels of every tap can be read, and written; there is at least one tap and one channel.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(args: *const Work) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "add r9, r0, #32",
                "ldm r9, {{r9, r10, r11, r12}}",
                concat!("vdup.", $lane, " q2, r10"),
                concat!("vdup.", $lane, " q3, r11"),
                "ldm r0, {{r1, r2, r3, r4, r5, r6, r7, r8}}",
                concat!("dlstp.", $lane, " lr, r12"),
                "2:",
                concat!("vdup.", $lane, " q0, r7"),
                "mov r0, r1",
                "mov r12, r3",
                "3:",
                "mov r10, r4",
                "4:",
                concat!($load, " q1, [r0]"),
                "add r0, r0, r5",
                $take,
                "subs r10, r10, #1",
                "bne 4b",
                "add r0, r0, r6",
                "subs r12, r12, #1",
                "bne 3b",
                $end,
                concat!("vstrb.", $lane, " q0, [r2], #", $bytes),
                concat!("add r1, r1, #", $bytes),
                "letp lr, 2b",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
            )
        }
    };
}

macro_rules! means {
    ($name:ident, $load:literal) => {
        pixel!(
            $name,
            "32",
            $load,
            "4",
            "vadd.i32 q0, q0, q1",
            "vcvt.f32.s32 q0, q0\n vmul.f32 q0, q0, r8\n vcvtn.s32.f32 q0, q0\n vqadd.s32 q0, q0, r9\n vmax.s32 q0, q0, q2\n vmin.s32 q0, q0, q3"
        );
    };
}

means!(means_signed, "vldrb.s32");
means!(means_unsigned, "vldrb.u32");
pixel!(largest_signed, "8", "vldrb.u8", "16", "vmax.s8 q0, q0, q1", "vmin.s8 q0, q0, q3");
pixel!(largest_unsigned, "8", "vldrb.u8", "16", "vmax.u8 q0, q0, q1", "vmin.u8 q0, q0, q3");
