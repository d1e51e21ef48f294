//! The sums of four pixels, 64 of them, in 16 registers. Enters: a bias, and assembly that adds products to `v0` to `v15`. Leaves:
//! the sums. Compilers move such instructions apart until 32 registers are not enough, and where they take two instructions
//! to load four registers, or to make an address, there is one.

/// Runs the template, which begins with a bias at `{bias}` and whose further operands follow, and leaves the sums in `$sums`, four
/// times four registers. Memory is only read.
macro_rules! four_sums {
    ($sums:ident, $bias:expr, [$($template:expr),+ $(,)?], $($operands:tt)*) => {
        core::arch::asm!(
            $($template,)+
            bias = inout(reg) core::ptr::from_ref($bias) => _,
            $($operands)*
            out("v0") $sums[0][0], out("v1") $sums[0][1], out("v2") $sums[0][2], out("v3") $sums[0][3],
            out("v4") $sums[1][0], out("v5") $sums[1][1], out("v6") $sums[1][2], out("v7") $sums[1][3],
            out("v8") $sums[2][0], out("v9") $sums[2][1], out("v10") $sums[2][2], out("v11") $sums[2][3],
            out("v12") $sums[3][0], out("v13") $sums[3][1], out("v14") $sums[3][2], out("v15") $sums[3][3],
            options(pure, readonly, nostack),
        )
    };
}

/// The bias of 16 channels for each of four pixels.
macro_rules! bias {
    () => {
        concat!(
            "ld1 {{v0.4s-v3.4s}}, [{bias}]\n",
            "ld1 {{v4.4s-v7.4s}}, [{bias}]\n",
            "ld1 {{v8.4s-v11.4s}}, [{bias}]\n",
            "ld1 {{v12.4s-v15.4s}}, [{bias}]\n",
        )
    };
}

/// Runs `$body` `$count` times.
macro_rules! repeat {
    ($label:literal, $count:literal, $($body:expr),+ $(,)?) => {
        concat!(
            "cbz {", $count, "}, 1", $label, "f\n",
            "2", $label, ":\n",
            $($body,)+
            "subs {", $count, "}, {", $count, "}, #1\n",
            "b.ne 2", $label, "b\n",
            "1", $label, ":\n",
        )
    };
}

/// Inputs of a pixel at the offset at hand.
macro_rules! input {
    ($register:expr, $pixel:literal) => {
        concat!("ldr ", $register, ", [{", $pixel, "}, {at}]\n")
    };
}

/// The inputs of four pixels into `v20` to `v23`, one register each (`q`, `d` or `s`), at the next offset.
macro_rules! inputs {
    ($part:literal) => {
        concat!(
            "ldr {at}, [{offsets}], #8\n",
            input!(concat!($part, "20"), "x0"),
            input!(concat!($part, "21"), "x1"),
            input!(concat!($part, "22"), "x2"),
            input!(concat!($part, "23"), "x3"),
        )
    };
}

/// `sdot` or `usdot`, each lane with inputs of its own: sums, inputs, weights.
macro_rules! each {
    ($product:literal, $sums:literal, $x:literal, $weights:literal) => {
        concat!($product, " v", $sums, ".4s, v", $x, ".16b, v", $weights, ".16b\n")
    };
}

/// A tap of one pixel, each channel with its own inputs.
macro_rules! tap {
    ($product:literal, $x:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            concat!("ld1 {{v20.16b-v23.16b}}, [{", $x, "}], {step}\n"),
            each!($product, $a, "20", "16"),
            each!($product, $b, "21", "17"),
            each!($product, $c, "22", "18"),
            each!($product, $d, "23", "19"),
        )
    };
}

/// Leaves in `$sums` those of four pixels from `$x` on, the inputs of their first taps, with the products `$product`.
macro_rules! own_sums {
    ($product:literal, $sums:ident, $x:ident, ($taps:ident, $weights:ident), $bias:ident) => {
        four_sums!($sums, $bias, [
            bias!(),
            repeat!(
                "0", "taps",
                "ldr {step}, [{steps}], #8\n",
                "ld1 {{v16.16b-v19.16b}}, [{weights}], #64\n",
                tap!($product, "x0", "0", "1", "2", "3"),
                tap!($product, "x1", "4", "5", "6", "7"),
                tap!($product, "x2", "8", "9", "10", "11"),
                tap!($product, "x3", "12", "13", "14", "15"),
            ),
        ],
            x0 = inout(reg) $x[0] => _, x1 = inout(reg) $x[1] => _, x2 = inout(reg) $x[2] => _,
            x3 = inout(reg) $x[3] => _, step = out(reg) _, steps = inout(reg) $taps.steps().as_ptr() => _,
            weights = inout(reg) $weights.as_ptr() => _, taps = inout(reg) $weights.len() => _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
        )
    };
}

pub(super) use {bias, each, four_sums, input, inputs, own_sums, repeat, tap};
