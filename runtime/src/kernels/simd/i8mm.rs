//! NEON with matrix products of bytes (Armv8.6; no Raspberry Pi has them, Neoverse V1 and N2, Cortex-X2 and A710 do): `usmmla` adds to
//! the sums of two pixels and two channels the exact products of eight bytes each, 32 to an instruction; `usdot` is the dot
//! product of such bytes, for depthwise layers. Inputs need no sign, so that u8 is read where it lies. Rust has no stable
//! intrinsics for them, so they are written as assembly.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{
    CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd, dotprod_four, i8mm_four as four,
    neon::{Neon, Sums, load},
    tile::{Runs, Taps, own},
};
use core::arch::{aarch64::*, asm};

/// Proof that the core has NEON and its matrix products of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct I8mm(Neon);

impl I8mm {
    /// The instruction set, if core and system have it.
    pub(crate) fn detect() -> Option<Self> {
        let neon = Neon::detect()?;
        std::arch::is_aarch64_feature_detected!("i8mm").then_some(Self(neon))
    }
}

#[target_feature(enable = "neon,i8mm")]
fn compiled<K: Kernel>(simd: I8mm, kernel: K) -> K::Output {
    kernel.run(simd)
}

impl Simd for I8mm {
    type Lanes = Sums;

    const PACKING: Packing = Packing::Eights;
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
        self.dot_each(sums, &core::array::from_fn(|i| x[i % 4]), weights)
    }

    #[inline(always)]
    fn dot_each(self, sums: Sums, x: &[u8; 64], weights: &Row) -> Sums {
        // SAFETY: the core has dot products of such bytes.
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
        assert!(N <= Self::MAX_BLOCKS && P <= Self::SUMS);
        let (weights, bias) = (weights.cast(), &bias[0]);
        // SAFETY: the core has these products; the caller has seen to the memory.
        unsafe {
            match x.as_array::<4>() {
                Some(&x) => {
                    let sums = four::shared(x, runs, weights, bias);
                    core::array::from_fn(|p| [sums[p]; N])
                }
                None => few(x, runs, weights, bias).map(|sums| [sums; N]),
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
        // SAFETY: the core has dot products of such bytes; the caller has seen to the memory.
        unsafe {
            match x.as_array::<4>() {
                Some(x) => {
                    let sums = four::own(x.map(|x| x.add(taps.first()).cast()), taps, weights, bias);
                    core::array::from_fn(|p| sums[p])
                }
                None => own(self, x, taps, weights, bias),
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
        dotprod_four::interleave(self.0, rows, line);
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        self.0.add(a, b, constants)
    }
}

/// The sums of one or two pixels that share weights; one is computed as two of the same.
///
/// # Safety
/// The inputs of all groups can be read from each `x` on, and as many rows of weights.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn few<const P: usize>(x: [*const u8; P], runs: &Runs, weights: *const Row, bias: &[i32; LANES]) -> [Sums; P] {
    let [_, fours, twos, _] = runs.counts();
    let pairs = runs.offsets().iter().enumerate().flat_map(|(i, &offset)| {
        let count = if i < fours { 2 } else { 1 };
        (0..count).map(move |pair| offset + 8 * pair)
    });
    debug_assert_eq!(runs.offsets().len(), fours + twos);
    let mut products = [vdupq_n_s32(0); 8];
    for (pair, offset) in pairs.enumerate() {
        // SAFETY: the caller has seen to it.
        unsafe {
            let x = vcombine_u8(vld1_u8(x[0].add(offset)), vld1_u8(x[P - 1].add(offset)));
            let [low, high] = [0, 1].map(|i| load(&*weights.add(2 * pair + i)));
            for (i, weights) in low.into_iter().chain(high).enumerate() {
                products[i] = two_by_two(products[i], x, weights);
            }
        }
    }
    let bias = load(bias).map(|part| vreinterpretq_s32_u8(part));
    let by_pixel = four::by_pixel(products);
    core::array::from_fn(|p| core::array::from_fn(|i| vaddq_s32(by_pixel[p][i], bias[i])))
}

/// Adds the products of eight inputs of two pixels, without a sign, with eight weights of two channels, with one.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn two_by_two(mut sums: int32x4_t, x: uint8x16_t, weights: uint8x16_t) -> int32x4_t {
    // SAFETY: the core has these products; only registers are read and written.
    unsafe {
        asm!(
            "usmmla {sums:v}.4s, {x:v}.16b, {weights:v}.16b",
            sums = inlateout(vreg) sums, x = in(vreg) x, weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Four inputs of its own without a sign with four weights, for each lane.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn dot_each(mut sums: Sums, x: [uint8x16_t; 4], weights: [uint8x16_t; 4]) -> Sums {
    for ((sum, x), weights) in sums.iter_mut().zip(x).zip(weights) {
        // SAFETY: the core has these products; only registers are read and written.
        unsafe {
            asm!(
                "usdot {sum:v}.4s, {x:v}.16b, {weights:v}.16b",
                sum = inlateout(vreg) *sum, x = in(vreg) x, weights = in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
    sums
}
