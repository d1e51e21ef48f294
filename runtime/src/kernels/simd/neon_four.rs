//! The products of four pixels with plain NEON, as assembly: compilers move these instructions apart until 32 registers are not
//! enough. Enters: the sums of four pixels, the inputs, rows of weights of the form `Pairs`. Leaves: the sums.
//!
//! A row takes 14 instructions a pixel: its two pairs of inputs are spread over a register each, and multiplied with the first
//! two and the other two bytes of each channel, `smull` and then `smlal` to the same 16 bits; `sadalp` adds those in pairs.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read")]

use super::{Row, neon::Sums};
use core::arch::asm;

/// Spreads pair `i` of the inputs of a pixel over a register.
macro_rules! spread {
    ($to:literal, $pixel:literal, $i:literal) => {
        concat!("dup {", $to, ":v}.8h, {x", $pixel, ":v}.h[", $i, "]\n")
    };
}

/// Begins the products of 16 channels with `{s:v}`, whose register becomes the last of theirs.
macro_rules! begin {
    ($first:literal, $second:literal) => {
        concat!(
            "smull {t0:v}.8h, {s:v}.8b, {",
            $first,
            ":v}.8b\n",
            "smull2 {t1:v}.8h, {s:v}.16b, {",
            $first,
            ":v}.16b\n",
            "smull {t2:v}.8h, {s:v}.8b, {",
            $second,
            ":v}.8b\n",
            "smull2 {s:v}.8h, {s:v}.16b, {",
            $second,
            ":v}.16b\n",
        )
    };
}

/// Adds those with `{u:v}`.
macro_rules! go_on {
    ($first:literal, $second:literal) => {
        concat!(
            "smlal {t0:v}.8h, {u:v}.8b, {",
            $first,
            ":v}.8b\n",
            "smlal2 {t1:v}.8h, {u:v}.16b, {",
            $first,
            ":v}.16b\n",
            "smlal {t2:v}.8h, {u:v}.8b, {",
            $second,
            ":v}.8b\n",
            "smlal2 {s:v}.8h, {u:v}.16b, {",
            $second,
            ":v}.16b\n",
        )
    };
}

/// Adds the products to the sums of a pixel.
macro_rules! finish {
    ($pixel:literal) => {
        concat!(
            "sadalp {a",
            $pixel,
            ":v}.4s, {t0:v}.8h\n",
            "sadalp {b",
            $pixel,
            ":v}.4s, {t1:v}.8h\n",
            "sadalp {c",
            $pixel,
            ":v}.4s, {t2:v}.8h\n",
            "sadalp {d",
            $pixel,
            ":v}.4s, {s:v}.8h\n",
        )
    };
}

/// A row for a pixel: pairs `i` and `j` of its inputs, weights in `w0` to `w3`.
macro_rules! row {
    ($pixel:literal, $i:literal, $j:literal) => {
        concat!(
            spread!("s", $pixel, $i),
            spread!("u", $pixel, $j),
            begin!("w0", "w1"),
            go_on!("w2", "w3"),
            finish!($pixel)
        )
    };
}

/// A row for four pixels, weights from `$offset` on.
macro_rules! rows {
    ($offset:literal, $next:literal, $i:literal, $j:literal) => {
        concat!(
            "ldp {w0:q}, {w1:q}, [{weights}, #",
            $offset,
            "]\n",
            "ldp {w2:q}, {w3:q}, [{weights}, #",
            $next,
            "]\n",
            row!("0", $i, $j),
            row!("1", $i, $j),
            row!("2", $i, $j),
            row!("3", $i, $j),
        )
    };
}

/// Two rows for a pixel, its inputs read here, weights in `w0` to `w7`: one sum of 16 bits for both.
macro_rules! chain {
    ($pixel:literal) => {
        concat!(
            "ldr {x0:d}, [{p",
            $pixel,
            "}]\n",
            spread!("s", "0", "0"),
            spread!("u", "0", "1"),
            begin!("w0", "w1"),
            go_on!("w2", "w3"),
            spread!("u", "0", "2"),
            go_on!("w4", "w5"),
            spread!("u", "0", "3"),
            go_on!("w6", "w7"),
            finish!($pixel),
        )
    };
}

/// Runs `$template` on four pixels' sums, with further operands.
macro_rules! on_four {
    ($template:expr, $sums:ident, $x:ident, $weights:ident, $($operands:tt)*) => {{
        let [
            [a0, b0, c0, d0],
            [a1, b1, c1, d1],
            [a2, b2, c2, d2],
            [a3, b3, c3, d3],
        ] = $sums;
        let [p0, p1, p2, p3] = $x;
        asm!(
            $template,
            a0 = inout(vreg) *a0, b0 = inout(vreg) *b0, c0 = inout(vreg) *c0, d0 = inout(vreg) *d0,
            a1 = inout(vreg) *a1, b1 = inout(vreg) *b1, c1 = inout(vreg) *c1, d1 = inout(vreg) *d1,
            a2 = inout(vreg) *a2, b2 = inout(vreg) *b2, c2 = inout(vreg) *c2, d2 = inout(vreg) *d2,
            a3 = inout(vreg) *a3, b3 = inout(vreg) *b3, c3 = inout(vreg) *c3, d3 = inout(vreg) *d3,
            p0 = in(reg) p0, p1 = in(reg) p1, p2 = in(reg) p2, p3 = in(reg) p3, weights = in(reg) $weights,
            w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
            s = out(vreg) _, u = out(vreg) _, t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _,
            x0 = out(vreg) _, $($operands)*
            options(pure, readonly, nostack, preserves_flags),
        );
    }};
}

/// One row.
///
/// # Safety
/// Four bytes can be read of each `x`, and a row of weights.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn pair(sums: [&mut Sums; 4], x: [*const u8; 4], weights: *const Row) {
    // SAFETY: the core has NEON, the caller has seen to the memory, and 2 * 128 * 127 is less than 2^15.
    unsafe {
        on_four!(
            concat!(
                "ldr {x0:s}, [{p0}]\nldr {x1:s}, [{p1}]\nldr {x2:s}, [{p2}]\nldr {x3:s}, [{p3}]\n",
                rows!("0", "32", "0", "1"),
            ),
            sums, x, weights, x1 = out(vreg) _, x2 = out(vreg) _, x3 = out(vreg) _,
        );
    }
}

/// Two rows.
///
/// # Safety
/// Eight bytes can be read of each `x`, and two rows of weights.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn pairs(sums: [&mut Sums; 4], x: [*const u8; 4], weights: *const Row) {
    // SAFETY: the core has NEON, the caller has seen to the memory, and 2 * 128 * 127 is less than 2^15.
    unsafe {
        on_four!(
            concat!(
                "ldr {x0:d}, [{p0}]\nldr {x1:d}, [{p1}]\nldr {x2:d}, [{p2}]\nldr {x3:d}, [{p3}]\n",
                rows!("0", "32", "0", "1"),
                rows!("64", "96", "2", "3"),
            ),
            sums, x, weights, x1 = out(vreg) _, x2 = out(vreg) _, x3 = out(vreg) _,
        );
    }
}

/// Two rows whose products are added within 16 bits ([`super::tile`]): 12 instructions a pixel for each.
///
/// # Safety
/// Eight bytes can be read of each `x`, and two rows of weights, which are a chain.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn chained(sums: [&mut Sums; 4], x: [*const u8; 4], weights: *const Row) {
    // SAFETY: the core has NEON, and the caller has seen to the memory and to it that no sum leaves 16 bits.
    unsafe {
        on_four!(
            concat!(
                "ldp {w0:q}, {w1:q}, [{weights}]\nldp {w2:q}, {w3:q}, [{weights}, #32]\n",
                "ldp {w4:q}, {w5:q}, [{weights}, #64]\nldp {w6:q}, {w7:q}, [{weights}, #96]\n",
                chain!("0"), chain!("1"), chain!("2"), chain!("3"),
            ),
            sums, x, weights,
            w4 = out(vreg) _, w5 = out(vreg) _, w6 = out(vreg) _, w7 = out(vreg) _,
        );
    }
}
