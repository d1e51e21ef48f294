//! AVX2 (Haswell, Zen and later): `vpmaddwd` adds two exact products of i16 to each other, and `vpaddd` to a 32-bit sum.
//! `vpmaddubsw` would take bytes, but saturates.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd, pair};
use crate::kernels::add::simd::LOW_BITS;
use core::arch::x86_64::*;

/// Proof that the core has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The instruction set, if core and system have it.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Simd for Avx2 {
    /// Lanes 0 to 7, 8 to 15.
    type Lanes = [__m256i; 2];

    const PACKING: Packing = Packing::Words;
    const SUMS: usize = 4;

    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` is only made when the core has AVX2.
        unsafe { compiled(self, kernel) }
    }

    #[inline(always)]
    fn load(self, values: &[i32; LANES]) -> Self::Lanes {
        // SAFETY: the core has AVX2.
        unsafe { load(values) }
    }

    #[inline(always)]
    fn dot(self, [low, high]: Self::Lanes, x: [u8; 4], weights: &Row) -> Self::Lanes {
        // SAFETY: the core has AVX2.
        unsafe {
            let x = _mm256_set1_epi32(i32::from_le_bytes(x));
            let weights = load(weights);
            [
                _mm256_add_epi32(low, _mm256_madd_epi16(x, weights[0])),
                _mm256_add_epi32(high, _mm256_madd_epi16(x, weights[1])),
            ]
        }
    }

    #[inline(always)]
    fn dot_each(self, [low, high]: Self::Lanes, x: &[u8; 64], weights: &Row) -> Self::Lanes {
        // SAFETY: the core has AVX2.
        unsafe {
            let (x, weights) = (load(x), load(weights));
            [
                _mm256_add_epi32(low, _mm256_madd_epi16(x[0], weights[0])),
                _mm256_add_epi32(high, _mm256_madd_epi16(x[1], weights[1])),
            ]
        }
    }

    #[inline(always)]
    fn requantize<const FULL: bool>(self, acc: Self::Lanes, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
        // SAFETY: the core has AVX2.
        unsafe { requantize(acc, multipliers, ends) }
    }

    #[inline(always)]
    fn interleave_chunk(self, [a, b, ..]: [&[u8; 64]; 4], line: &mut [[u8; 4]]) {
        let line: &mut [u8; 128] = line.as_flattened_mut().as_mut_array().expect("32 elements");
        let line: *mut __m256i = line.as_mut_ptr().cast();
        // SAFETY: the core has AVX2; twice 64 bytes are written to an array of 128.
        unsafe {
            let (a, b) = (load(a), load(b));
            interleave_half(a[0], b[0], line);
            interleave_half(a[1], b[1], line.add(2));
        }
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        let mut sums = [0; CHUNK];
        // SAFETY: the core has AVX2; 32 bytes are written to each half of an array of 64.
        unsafe {
            let (a, b) = (load(a), load(b));
            let sums: *mut __m256i = sums.as_mut_ptr().cast();
            _mm256_storeu_si256(sums, add_half(a[0], b[0], constants));
            _mm256_storeu_si256(sums.add(1), add_half(a[1], b[1], constants));
        }
        sums
    }
}

#[target_feature(enable = "avx2")]
fn compiled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Two registers' worth of anything.
#[inline]
#[target_feature(enable = "avx2")]
fn load<T>(value: &T) -> [__m256i; 2] {
    const { assert!(size_of::<T>() == 64) };
    let halves: *const __m256i = std::ptr::from_ref(value).cast();
    // SAFETY: 64 bytes are read where 64 are.
    unsafe { [_mm256_loadu_si256(halves), _mm256_loadu_si256(halves.add(1))] }
}

#[inline]
#[target_feature(enable = "avx2")]
fn requantize([low, high]: [__m256i; 2], multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
    let multipliers = load(multipliers);
    let (low, high) = (rounded(low, multipliers[0], ends), rounded(high, multipliers[1], ends));
    // Packing works in halves of 128 bits: the quarters come out as low 0, high 0, low 1, high 1.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
    let words = _mm256_and_si256(words, _mm256_set1_epi16(0xff));
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    let sum = _mm_add_epi8(bytes, _mm_set1_epi8(ends.zero_point as i8));
    let mut stored = [0; LANES];
    // SAFETY: 16 bytes are written to an array of 16.
    unsafe { _mm_storeu_si128(stored.as_mut_ptr().cast(), sum) };
    stored
}

/// Requantized, but for the zero point.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(acc: __m256i, multipliers: __m256i, ends: Ends) -> __m256i {
    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_castsi256_ps(multipliers));
    let [low, high] = ends.clamp;
    // Rounds as MXCSR says, which Rust keeps at nearest, ties to even.
    _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, _mm256_set1_ps(low)), _mm256_set1_ps(high)))
}

/// 16 words of each row. 64 bytes are written from `line` on.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn interleave_half(a: __m256i, b: __m256i, line: *mut __m256i) {
    // Interleaving works in halves of 128 bits; quarters are placed beforehand so that results come out in order.
    let (a, b) = (_mm256_permute4x64_epi64::<0b11_01_10_00>(a), _mm256_permute4x64_epi64::<0b11_01_10_00>(b));
    // SAFETY: the caller has 64 bytes there.
    unsafe {
        _mm256_storeu_si256(line, _mm256_unpacklo_epi16(a, b));
        _mm256_storeu_si256(line.add(1), _mm256_unpackhi_epi16(a, b));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_half(a: __m256i, b: __m256i, constants: &Constants) -> __m256i {
    let a = _mm256_xor_si256(a, _mm256_set1_epi8(constants.flips[0] as i8));
    let b = _mm256_xor_si256(b, _mm256_set1_epi8(constants.flips[1] as i8));
    // Neighbours a b as bytes, then as words: a quarter of the elements each, and packing puts them back in order.
    let (low, high, zero) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b), _mm256_setzero_si256());
    let low = _mm256_packs_epi32(
        add_quarter(_mm256_unpacklo_epi8(low, zero), constants),
        add_quarter(_mm256_unpackhi_epi8(low, zero), constants),
    );
    let high = _mm256_packs_epi32(
        add_quarter(_mm256_unpacklo_epi8(high, zero), constants),
        add_quarter(_mm256_unpackhi_epi8(high, zero), constants),
    );
    _mm256_packus_epi16(add_zero_point(low, constants), add_zero_point(high, constants))
}

/// `RNE(acc / 2^shift)` of 8 pairs of inputs.
#[inline]
#[target_feature(enable = "avx2")]
fn add_quarter(pairs: __m256i, constants: &Constants) -> __m256i {
    let high = _mm256_madd_epi16(pairs, _mm256_set1_epi32(pair(constants.high)));
    let low = _mm256_madd_epi16(pairs, _mm256_set1_epi32(pair(constants.low)));
    let acc = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
    let acc = _mm256_add_epi32(acc, _mm256_set1_epi32(constants.offset));
    let shift = _mm_cvtsi32_si128(constants.shift as i32);
    let floor = _mm256_sra_epi32(acc, shift);
    let rest = _mm256_and_si256(acc, _mm256_set1_epi32(constants.rest));
    let odd = _mm256_and_si256(floor, _mm256_set1_epi32(constants.odd));
    let half = _mm256_add_epi32(odd, _mm256_set1_epi32(constants.half));
    _mm256_add_epi32(floor, _mm256_srl_epi32(_mm256_add_epi32(rest, half), shift))
}

/// Words, the stored byte in the low half of each.
#[inline]
#[target_feature(enable = "avx2")]
fn add_zero_point(q: __m256i, constants: &Constants) -> __m256i {
    let y = _mm256_adds_epi16(q, _mm256_set1_epi16(constants.zero_point));
    let [low, high] = constants.clamp;
    let y = _mm256_min_epi16(_mm256_max_epi16(y, _mm256_set1_epi16(low)), _mm256_set1_epi16(high));
    _mm256_and_si256(y, _mm256_set1_epi16(0xff))
}
