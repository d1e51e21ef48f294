//! NEON with dot products (Armv8.2; Cortex-A76: Raspberry Pi 5): `sdot` adds four exact products of bytes to each 32-bit sum,
//! the same four inputs for all four lanes if need be. Rust has no stable intrinsics for it, so it is written as assembly.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{
    CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd, dotprod_four as four,
    neon::{Neon, Sums, load, load_first},
    tile::{self, Runs, Taps},
};
use core::arch::{aarch64::*, asm};

/// Proof that the core has NEON and its dot products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DotProd(Neon);

impl DotProd {
    /// The instruction set, if core and system have it.
    pub(crate) fn detect() -> Option<Self> {
        let neon = Neon::detect()?;
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(neon))
    }
}

#[target_feature(enable = "neon,dotprod")]
fn compiled<K: Kernel>(simd: DotProd, kernel: K) -> K::Output {
    kernel.run(simd)
}

impl Simd for DotProd {
    type Lanes = Sums;

    const PACKING: Packing = Packing::Signed;
    const SUMS: usize = 4;
    const FULL_PAYS: bool = true;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` is only made when the core has these features.
        unsafe { compiled(self, kernel) }
    }

    #[inline(always)]
    fn load(self, values: &[i32; LANES]) -> Sums {
        self.0.load(values)
    }

    #[inline(always)]
    fn dot(self, sums: Sums, x: [u8; 4], weights: &Row) -> Sums {
        // SAFETY: the core has dot products.
        unsafe { dot_lane::<0>(sums, vreinterpretq_u8_s32(vdupq_n_s32(i32::from_le_bytes(x))), load(weights)) }
    }

    #[inline(always)]
    unsafe fn dot_group<const R: usize, const P: usize, const N: usize>(
        self,
        sums: &mut [[Sums; N]; P],
        x: [*const u8; P],
        weights: &[[Row; N]; R],
    ) {
        // SAFETY: the core has dot products; the caller has seen to it that four bytes for each row can be read.
        unsafe {
            let x: [uint8x16_t; P] = x.map(|x| load_first::<R>(x));
            dot_row::<0, P, N>(sums, x, &weights[0]);
            if R > 1 {
                dot_row::<1, P, N>(sums, x, &weights[1]);
            }
            if R > 2 {
                dot_row::<2, P, N>(sums, x, &weights[2]);
                dot_row::<3, P, N>(sums, x, &weights[3]);
            }
        }
    }

    #[inline(always)]
    fn dot_each(self, sums: Sums, x: &[u8; 64], weights: &Row) -> Sums {
        // SAFETY: the core has dot products.
        unsafe { dot_each(sums, load(x), load(weights)) }
    }

    #[inline(always)]
    unsafe fn shared<const P: usize, const N: usize>(
        self,
        x: [*const u8; P],
        runs: &Runs,
        weights: *const [Row; N],
        bias: &[[i32; LANES]; N],
    ) -> [[Sums; N]; P] {
        // SAFETY: the core has dot products; the caller has seen to the memory.
        unsafe {
            match x.as_array::<4>() {
                Some(&x) if N == 1 => {
                    let sums = four::shared(x, runs, weights.cast(), &bias[0]);
                    core::array::from_fn(|p| [sums[p]; N])
                }
                _ => tile::shared(self, x, runs, weights, bias),
            }
        }
    }

    #[inline(always)]
    unsafe fn own<const P: usize>(
        self,
        x: [*const [u8; 4]; P],
        taps: &Taps,
        weights: &[Row],
        bias: &[i32; LANES],
    ) -> [Sums; P] {
        // SAFETY: the core has dot products; the caller has seen to the memory.
        unsafe {
            match x.as_array::<4>() {
                Some(x) => {
                    let sums = four::own(x.map(|x| x.add(taps.first()).cast()), taps, weights, bias);
                    core::array::from_fn(|p| sums[p])
                }
                None => tile::own(self, x, taps, weights, bias),
            }
        }
    }

    #[inline(always)]
    fn requantize<const FULL: bool>(self, sums: Sums, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
        self.0.requantize::<FULL>(sums, multipliers, ends)
    }

    #[inline(always)]
    fn interleave_chunk(self, rows: [&[u8; 64]; 4], line: &mut [[u8; 4]]) {
        self.0.interleave_chunk(rows, line);
    }

    #[inline(always)]
    fn interleave(self, rows: [&[[u8; 64]]; 4], line: &mut [[u8; 4]]) {
        four::interleave(self.0, rows, line);
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        self.0.add(a, b, constants)
    }
}

/// A row of weights with the inputs of `P` pixels, of which the `I`th four are meant.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_row<const I: u8, const P: usize, const N: usize>(
    sums: &mut [[Sums; N]; P],
    x: [uint8x16_t; P],
    weights: &[Row; N],
) {
    for (n, row) in weights.iter().enumerate() {
        let weights = load(row);
        for (sums, x) in sums.iter_mut().zip(x) {
            sums[n] = dot_lane::<I>(sums[n], x, weights);
        }
    }
}

/// The `I`th four inputs with four weights for each lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_lane<const I: u8>(mut sums: Sums, x: uint8x16_t, weights: [uint8x16_t; 4]) -> Sums {
    for (sum, weights) in sums.iter_mut().zip(weights) {
        // SAFETY: the core has dot products; only registers are read and written.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.4b[{i}]",
                sum = inlateout(vreg) *sum, weights = in(vreg) weights, x = in(vreg) x, i = const I,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
    sums
}

/// Four inputs of its own with four weights, for each lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_each(mut sums: Sums, x: [uint8x16_t; 4], weights: [uint8x16_t; 4]) -> Sums {
    for ((sum, x), weights) in sums.iter_mut().zip(x).zip(weights) {
        // SAFETY: the core has dot products; only registers are read and written.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {x:v}.16b, {weights:v}.16b",
                sum = inlateout(vreg) *sum, x = in(vreg) x, weights = in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
    sums
}
