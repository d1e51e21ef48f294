//! The products of four pixels with plain NEON, as assembly ([`super::four`]). Enters: inputs, rows of weights of the form `Pairs`, a
//! bias. Leaves: the sums.
//!
//! A row takes 14 instructions a pixel: its two pairs of inputs are spread over a register each, and multiplied with the first
//! two and the other two bytes of each channel, `smull` and then `smlal` to the same 16 bits; `sadalp` adds those in pairs. Two
//! rows that are a chain ([`super::tile`]) are added within 16 bits: 12 instructions a pixel for each.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read")]

use super::{
    LANES, Row,
    four::{bias, four_sums, input, inputs, repeat},
    neon::Sums,
    tile::Runs,
};
use core::arch::aarch64::vdupq_n_s32;

/// Four registers of weights.
macro_rules! weights {
    ($first:literal, $last:literal) => {
        concat!("ld1 {{v", $first, ".16b-v", $last, ".16b}}, [{weights}], #64\n")
    };
}

/// Spreads pair `$i` of a pixel's inputs over a register.
macro_rules! spread {
    ($to:literal, $x:literal, $i:literal) => {
        concat!("dup v", $to, ".8h, v", $x, ".h[", $i, "]\n")
    };
}

/// `smull` or `smlal` of eight channels into `$low`, and of the next eight into `$high`.
macro_rules! products {
    ($multiply:literal, $low:literal, $high:literal, $x:literal, $weights:literal) => {
        concat!(
            concat!($multiply, " v", $low, ".8h, v", $x, ".8b, v", $weights, ".8b\n"),
            concat!($multiply, "2 v", $high, ".8h, v", $x, ".16b, v", $weights, ".16b\n"),
        )
    };
}

/// Begins the products of 16 channels with pair `$i`: in `v26`, `v27`, `v28`, and `v24`, over which it was spread.
macro_rules! begin {
    ($x:literal, $i:literal, $first:literal, $second:literal) => {
        concat!(
            spread!("24", $x, $i),
            products!("smull", "26", "27", "24", $first),
            products!("smull", "28", "24", "24", $second),
        )
    };
}

/// Adds those with pair `$i`.
macro_rules! go_on {
    ($x:literal, $i:literal, $first:literal, $second:literal) => {
        concat!(
            spread!("25", $x, $i),
            products!("smlal", "26", "27", "25", $first),
            products!("smlal", "28", "24", "25", $second),
        )
    };
}

/// Adds the products in `$from` in pairs.
macro_rules! add {
    ($sums:literal, $from:literal) => {
        concat!("sadalp v", $sums, ".4s, v", $from, ".8h\n")
    };
}

/// Adds the products to the sums of a pixel.
macro_rules! finish {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(add!($a, "26"), add!($b, "27"), add!($c, "28"), add!($d, "24"))
    };
}

/// The next row, with pairs `$i` and `$j` of each pixel's inputs.
macro_rules! row {
    ($i:literal, $j:literal) => {
        concat!(
            weights!("16", "19"),
            begin!("20", $i, "16", "17"),
            go_on!("20", $j, "18", "19"),
            finish!("0", "1", "2", "3"),
            begin!("21", $i, "16", "17"),
            go_on!("21", $j, "18", "19"),
            finish!("4", "5", "6", "7"),
            begin!("22", $i, "16", "17"),
            go_on!("22", $j, "18", "19"),
            finish!("8", "9", "10", "11"),
            begin!("23", $i, "16", "17"),
            go_on!("23", $j, "18", "19"),
            finish!("12", "13", "14", "15"),
        )
    };
}

/// Two rows that are a chain, for a pixel, whose inputs are read here: all pairs of them.
macro_rules! chain {
    ($pixel:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            input!("d29", $pixel),
            begin!("29", "0", "16", "17"),
            go_on!("29", "1", "18", "19"),
            go_on!("29", "2", "20", "21"),
            go_on!("29", "3", "22", "23"),
            finish!($a, $b, $c, $d),
        )
    };
}

/// The next two rows, which are a chain, for four pixels.
macro_rules! chains {
    () => {
        concat!(
            weights!("16", "19"),
            weights!("20", "23"),
            chain!("x0", "0", "1", "2", "3"),
            chain!("x1", "4", "5", "6", "7"),
            chain!("x2", "8", "9", "10", "11"),
            chain!("x3", "12", "13", "14", "15"),
        )
    };
}

/// The sums of four pixels that share weights.
///
/// # Safety
/// The inputs of all groups can be read from each `x` on, and as many rows of weights.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn shared(x: [*const u8; 4], runs: &Runs, weights: *const Row, bias: &[i32; LANES]) -> [Sums; 4] {
    let mut sums = [[vdupq_n_s32(0); 4]; 4];
    let [chained, fours, twos, ones] = runs.counts();
    // SAFETY: the core has NEON, and the caller has seen to the memory; offsets and counts are those of `runs`. 2 * 128 * 127 is
    // less than 2^15, and so are the products of a chain.
    unsafe {
        four_sums!(sums, bias, [
            bias!(),
            repeat!("0", "chained", "ldr {at}, [{offsets}], #8\n", chains!(), "add {at}, {at}, #8\n", chains!()),
            repeat!("1", "fours", inputs!("q"), row!("0", "1"), row!("2", "3"), row!("4", "5"), row!("6", "7")),
            repeat!("2", "twos", inputs!("d"), row!("0", "1"), row!("2", "3")),
            repeat!("3", "ones", inputs!("s"), row!("0", "1")),
        ],
            x0 = in(reg) x[0], x1 = in(reg) x[1], x2 = in(reg) x[2], x3 = in(reg) x[3], at = out(reg) _,
            offsets = inout(reg) runs.offsets().as_ptr() => _, weights = inout(reg) weights => _,
            chained = inout(reg) chained => _, fours = inout(reg) fours => _, twos = inout(reg) twos => _,
            ones = inout(reg) ones => _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
            out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
        );
    }
    sums
}
