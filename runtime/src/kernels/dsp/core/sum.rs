//! The sum of two tensors, four elements at a time. Enters: a [`Sum`] and words of bytes. Leaves: words of bytes.

#![allow(unsafe_code, reason = "assembly")]

use super::{Ends, core_directive};
use crate::kernels::add::Sum;
use core::{arch::naked_asm, cell::Cell, mem::offset_of};

#[inline]
pub(super) fn run(sum: &Sum, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
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
        core_directive!(),
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
