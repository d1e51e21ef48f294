//! The sum of two tensors, four elements at a time. Enters: a [`Sum`] and bytes. Leaves: bytes.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, core_directive};
use crate::kernels::add::Sum;
use core::{arch::naked_asm, cell::Cell, mem::offset_of};

#[inline]
pub(super) fn run(sum: &Sum, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
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
