//! The products of four pixels with `usmmla`, as assembly ([`super::four`]). Enters: inputs, rows of weights of the form `Eights`, a
//! bias. Leaves: the sums. Four rows take 47 instructions, 32 of which multiply.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read")]

use super::{
    LANES, Row,
    four::{bias, each, four_sums, input, inputs, own_sums, repeat, tap},
    neon::Sums,
    tile::{Runs, Taps},
};
use core::arch::aarch64::*;

/// `usmmla`: sums of two pixels and two channels, weights, inputs.
macro_rules! multiply {
    ($sums:literal, $weights:literal, $x:literal) => {
        concat!("usmmla v", $sums, ".4s, v", $x, ".16b, v", $weights, ".16b\n")
    };
}

/// Half of the channels for two pixels, weights in `v16` to `v19`.
macro_rules! half {
    ($x:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(multiply!($a, "16", $x), multiply!($b, "17", $x), multiply!($c, "18", $x), multiply!($d, "19", $x))
    };
}

/// The next two rows, with eight inputs of the first two pixels in `$x` and of the other two in `$y`.
macro_rules! rows {
    ($x:literal, $y:literal) => {
        concat!(
            "ld1 {{v16.16b-v19.16b}}, [{weights}], #64\n",
            half!($x, "0", "1", "2", "3"),
            half!($y, "8", "9", "10", "11"),
            "ld1 {{v16.16b-v19.16b}}, [{weights}], #64\n",
            half!($x, "4", "5", "6", "7"),
            half!($y, "12", "13", "14", "15"),
        )
    };
}

/// The sums of four pixels that share weights.
///
/// # Safety
/// The inputs of all groups can be read from each `x` on, and as many rows of weights.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn shared(x: [*const u8; 4], runs: &Runs, weights: *const Row, bias: &[i32; LANES]) -> [Sums; 4] {
    let mut products = [[vdupq_n_s32(0); 4]; 4];
    let [_, fours, twos, _] = runs.counts();
    // SAFETY: the core has these products, and the caller has seen to the memory; offsets and counts are those of `runs`.
    unsafe {
        four_sums!(products, bias, [
            "ld4r {{v0.2d-v3.2d}}, [{bias}], #32",
            "ld4r {{v4.2d-v7.2d}}, [{bias}]",
            "sub {bias}, {bias}, #32",
            "ld4r {{v8.2d-v11.2d}}, [{bias}], #32",
            "ld4r {{v12.2d-v15.2d}}, [{bias}]",
            repeat!(
                "0", "fours",
                inputs!("q"),
                "zip1 v24.2d, v20.2d, v21.2d\nzip1 v25.2d, v22.2d, v23.2d\n",
                "zip2 v26.2d, v20.2d, v21.2d\nzip2 v27.2d, v22.2d, v23.2d\n",
                rows!("24", "25"),
                rows!("26", "27"),
            ),
            repeat!(
                "1", "twos",
                inputs!("d"),
                "zip1 v24.2d, v20.2d, v21.2d\nzip1 v25.2d, v22.2d, v23.2d\n",
                rows!("24", "25"),
            ),
        ],
            x0 = in(reg) x[0], x1 = in(reg) x[1], x2 = in(reg) x[2], x3 = in(reg) x[3], at = out(reg) _,
            offsets = inout(reg) runs.offsets().as_ptr() => _, weights = inout(reg) weights => _,
            fours = inout(reg) fours => _, twos = inout(reg) twos => _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
            out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _,
        );
    }
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = products;
    let ([first, second], [third, fourth]) = (by_pixel([a, b, c, d, e, f, g, h]), by_pixel([i, j, k, l, m, n, o, p]));
    [first, second, third, fourth]
}

/// From sums of two channels each, for a pixel and then for another one, to the sums of each.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn by_pixel(products: [int32x4_t; 8]) -> [Sums; 2] {
    let wide = products.map(|products| vreinterpretq_s64_s32(products));
    [
        core::array::from_fn(|i| vreinterpretq_s32_s64(vtrn1q_s64(wide[2 * i], wide[2 * i + 1]))),
        core::array::from_fn(|i| vreinterpretq_s32_s64(vtrn2q_s64(wide[2 * i], wide[2 * i + 1]))),
    ]
}

/// The sums of four pixels, in which each channel has inputs of its own.
///
/// # Safety
/// 64 bytes of each tap can be read from each `x` on, the first tap's; there is a row of weights for each tap.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn own(x: [*const u8; 4], taps: &Taps, weights: &[Row], bias: &[i32; LANES]) -> [Sums; 4] {
    let mut sums = [[vdupq_n_s32(0); 4]; 4];
    // SAFETY: the core has these products, and the caller has seen to the memory; there are as many steps as rows.
    unsafe {
        own_sums!("usdot", sums, x, (taps, weights), bias);
    }
    sums
}
