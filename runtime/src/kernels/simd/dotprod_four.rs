//! The products of four pixels with `sdot`, as assembly ([`super::four`]). Enters: inputs, rows of weights of the form `Signed`, a
//! bias. Leaves: the sums. Four rows take 75 instructions, 64 of which multiply.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{
    LANES, Row,
    four::{bias, each, four_sums, input, inputs, own_sums, repeat, tap},
    neon::{Neon, Sums},
    tile::{Runs, Taps},
};
use core::arch::{aarch64::vdupq_n_s32, asm};

/// `sdot` by element: sums, weights, inputs and which four of them.
macro_rules! dot {
    ($sums:literal, $weights:literal, $x:literal, $i:literal) => {
        concat!("sdot v", $sums, ".4s, v", $weights, ".16b, v", $x, ".4b[", $i, "]\n")
    };
}

/// A row for one pixel, weights in `v16` to `v19`.
macro_rules! pixel {
    ($x:literal, $i:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(dot!($a, "16", $x, $i), dot!($b, "17", $x, $i), dot!($c, "18", $x, $i), dot!($d, "19", $x, $i))
    };
}

/// The next row of weights with inputs `$i` of each pixel.
macro_rules! row {
    ($i:literal) => {
        concat!(
            "ld1 {{v16.16b-v19.16b}}, [{weights}], #64\n",
            pixel!("20", $i, "0", "1", "2", "3"),
            pixel!("21", $i, "4", "5", "6", "7"),
            pixel!("22", $i, "8", "9", "10", "11"),
            pixel!("23", $i, "12", "13", "14", "15"),
        )
    };
}

/// The sums of four pixels that share weights.
///
/// # Safety
/// The inputs of all groups can be read from each `x` on, and as many rows of weights.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn shared(x: [*const u8; 4], runs: &Runs, weights: *const Row, bias: &[i32; LANES]) -> [Sums; 4] {
    let mut sums = [[vdupq_n_s32(0); 4]; 4];
    let [_, fours, twos, ones] = runs.counts();
    // SAFETY: the core has dot products, and the caller has seen to the memory; offsets and counts are those of `runs`.
    unsafe {
        four_sums!(sums, bias, [
            bias!(),
            repeat!("0", "fours", inputs!("q"), row!("0"), row!("1"), row!("2"), row!("3")),
            repeat!("1", "twos", inputs!("d"), row!("0"), row!("1")),
            repeat!("2", "ones", inputs!("s"), row!("0")),
        ],
            x0 = in(reg) x[0], x1 = in(reg) x[1], x2 = in(reg) x[2], x3 = in(reg) x[3], at = out(reg) _,
            offsets = inout(reg) runs.offsets().as_ptr() => _, weights = inout(reg) weights => _,
            fours = inout(reg) fours => _, twos = inout(reg) twos => _, ones = inout(reg) ones => _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
        );
    }
    sums
}

/// The sums of four pixels, in which each channel has inputs of its own.
///
/// # Safety
/// 64 bytes of each tap can be read from each `x` on, the first tap's; there is a row of weights for each tap.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn own(x: [*const u8; 4], taps: &Taps, weights: &[Row], bias: &[i32; LANES]) -> [Sums; 4] {
    let mut sums = [[vdupq_n_s32(0); 4]; 4];
    // SAFETY: the core has dot products, and the caller has seen to the memory; there are as many steps as rows.
    unsafe {
        own_sums!("sdot", sums, x, (taps, weights), bias);
    }
    sums
}

/// [`Simd::interleave`](super::Simd::interleave), for rows of bytes.
#[inline(always)]
pub(super) fn interleave(_: Neon, rows: [&[[u8; 64]]; 4], line: &mut [[u8; 4]]) {
    let chunks = rows[0].len();
    assert!(rows.iter().all(|row| row.len() >= chunks) && line.len() >= 64 * chunks);
    // SAFETY: the core has NEON; rows and line are long enough.
    unsafe { interleave_chunks(rows.map(|row| row.as_ptr().cast()), line.as_mut_ptr().cast(), chunks) }
}

/// Bytes of four rows side by side, 64 of each at a time.
///
/// # Safety
/// So many times 64 bytes can be read of each row, and four times as many written to `line`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn interleave_chunks(rows: [*const u8; 4], line: *mut u8, chunks: usize) {
    macro_rules! sixteen {
        () => {
            concat!(
                "ldr q0, [{a}], #16\nldr q1, [{b}], #16\nldr q2, [{c}], #16\nldr q3, [{d}], #16\n",
                "st4 {{v0.16b-v3.16b}}, [{line}], #64\n",
            )
        };
    }
    // SAFETY: the caller has seen to the memory.
    unsafe {
        asm!(
            repeat!("0", "chunks", sixteen!(), sixteen!(), sixteen!(), sixteen!()),
            a = inout(reg) rows[0] => _, b = inout(reg) rows[1] => _, c = inout(reg) rows[2] => _,
            d = inout(reg) rows[3] => _, line = inout(reg) line => _, chunks = inout(reg) chunks => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            options(nostack),
        );
    }
}
