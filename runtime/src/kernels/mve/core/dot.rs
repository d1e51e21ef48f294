//! The products of two slices. Enters: [`Factors`]. Leaves: their sum.

#![allow(unsafe_code, reason = "assembly")]

use super::core_directive;
use crate::kernels::factors::Factors;
use core::arch::naked_asm;

pub(super) fn run(factors: &Factors) -> i32 {
    let [x, w] = factors.bytes;
    let [x_signed, w_signed] = factors.signed;
    let x = &x[..w.len()];
    // Inputs are made ones of the weights' signedness.
    let (flip, lift) = match (x_signed, w_signed) {
        (true, false) => (0x80, 128),
        (false, true) => (0x80, -128),
        _ => (0, 0),
    };
    let [zero_x, zero_w] = [factors.zero_points[0] + lift, factors.zero_points[1]];
    let mut sums = Sums { products: 0, x: 0, w: 0 };
    let run = if w_signed { dot_signed } else { dot_unsigned };
    // SAFETY: both slices have so many bytes; the sums are this function's own.
    unsafe { run(x.as_ptr(), w.as_ptr(), w.len(), flip, &mut sums) };
    let zeros = (w.len() as i32).wrapping_mul(zero_x).wrapping_mul(zero_w);
    let (of_w, of_x) = (zero_x.wrapping_mul(sums.w), zero_w.wrapping_mul(sums.x));
    sums.products.wrapping_sub(of_w).wrapping_sub(of_x).wrapping_add(zeros)
}

/// Of products, of inputs, of weights.
#[repr(C)]
struct Sums {
    products: i32,
    x: i32,
    w: i32,
}

macro_rules! dot {
    ($name:ident, $type:literal) => {
        /// # Safety
        /// So many bytes of inputs and of weights can be read, and the sums written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(x: *const u8, w: *const u8, len: usize, flip: u32, sums: *mut Sums) {
            naked_asm!(
                core_directive!(),
                "push {{r4, r5, r6, lr}}",
                "vdup.8 q2, r3",
                "mov r4, #0",
                "mov r6, #0",
                "mov r12, #0",
                "wlstp.8 lr, r2, 3f",
                "2:",
                "vldrb.u8 q0, [r0], #16",
                "vldrb.u8 q1, [r1], #16",
                "veor q0, q0, q2",
                concat!("vmladava.", $type, " r4, q0, q1"),
                concat!("vaddva.", $type, " r6, q0"),
                concat!("vaddva.", $type, " r12, q1"),
                "letp lr, 2b",
                "3:",
                "ldr r0, [sp, #16]",
                "strd r4, r6, [r0]",
                "str r12, [r0, #8]",
                "pop {{r4, r5, r6, pc}}",
            )
        }
    };
}

dot!(dot_signed, "s8");
dot!(dot_unsigned, "u8");
