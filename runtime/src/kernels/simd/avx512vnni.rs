//! AVX-512 with VNNI (Cascade Lake, Ice Lake, Zen 4 and later): `vpdpbusd` adds four exact products of u8 and i8 to each
//! 32-bit sum, wrapping.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd, pair};
use crate::kernels::add::simd::LOW_BITS;
use core::arch::{asm, x86_64::*};

/// Proof that the core has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    /// The instruction set, if core and system have it.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }
}

impl Simd for Avx512Vnni {
    type Lanes = __m512i;

    const PACKING: Packing = Packing::Bytes;
    const SUMS: usize = 24;

    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` is only made when the core has these features.
        unsafe { compiled(self, kernel) }
    }

    #[inline(always)]
    fn load(self, values: &[i32; LANES]) -> __m512i {
        // SAFETY: the core has AVX-512.
        unsafe { load(values) }
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, x: [u8; 4], weights: &Row) -> __m512i {
        // SAFETY: the core has AVX-512 and VNNI.
        unsafe { _mm512_dpbusd_epi32(acc, _mm512_set1_epi32(i32::from_le_bytes(x)), load(weights)) }
    }

    #[inline(always)]
    fn dot_each(self, acc: __m512i, x: &[u8; 64], weights: &Row) -> __m512i {
        // SAFETY: the core has AVX-512 and VNNI.
        unsafe { _mm512_dpbusd_epi32(acc, load(x), load(weights)) }
    }

    #[inline(always)]
    fn requantize<const FULL: bool>(self, acc: __m512i, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
        // SAFETY: the core has AVX-512.
        unsafe { requantize(acc, multipliers, ends) }
    }

    #[inline(always)]
    fn requantize_four<const FULL: bool>(
        self,
        acc: [__m512i; 4],
        multipliers: &[f32; LANES],
        ends: Ends,
    ) -> [[u8; LANES]; 4] {
        // SAFETY: the core has AVX-512.
        unsafe { requantize_four(acc, multipliers, ends) }
    }

    #[inline(always)]
    fn interleave_chunk(self, rows: [&[u8; 64]; 4], line: &mut [[u8; 4]]) {
        let line = line.as_flattened_mut().as_mut_array().expect("64 elements");
        // SAFETY: the core has AVX-512.
        unsafe { interleave(rows, line) }
    }

    #[inline(always)]
    fn fetch<const WRITTEN: bool>(self, bytes: &[u8]) {
        for line in bytes.chunks(64) {
            let line = line.as_ptr();
            // SAFETY: a hint that changes nothing and cannot fault; cores with AVX-512 have both.
            unsafe {
                if WRITTEN {
                    asm!("prefetchw [{}]", in(reg) line, options(nostack, readonly, preserves_flags));
                } else {
                    asm!("prefetcht0 [{}]", in(reg) line, options(nostack, readonly, preserves_flags));
                }
            }
        }
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        // SAFETY: the core has AVX-512 and VNNI.
        unsafe { add(a, b, constants) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn compiled<K: Kernel>(simd: Avx512Vnni, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// A register's worth of anything.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn load<T>(value: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    // SAFETY: 64 bytes are read where 64 are.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(value).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn requantize(acc: __m512i, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_castsi512_ps(load(multipliers)));
    let [low, high] = ends.clamp;
    let clamped = _mm512_min_ps(_mm512_max_ps(scaled, _mm512_set1_ps(low)), _mm512_set1_ps(high));
    // Rounds as MXCSR says, which Rust keeps at nearest, ties to even. The low bytes are all there is.
    let rounded = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(clamped));
    let stored = _mm_add_epi8(rounded, _mm_set1_epi8(ends.zero_point as i8));
    let mut bytes = [0; LANES];
    // SAFETY: 16 bytes are written to an array of 16.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), stored) };
    bytes
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn requantize_four([a, b, c, d]: [__m512i; 4], multipliers: &[f32; LANES], ends: Ends) -> [[u8; LANES]; 4] {
    let multipliers = _mm512_castsi512_ps(load(multipliers));
    let low = _mm512_packs_epi32(rounded(a, multipliers), rounded(b, multipliers));
    let high = _mm512_packs_epi32(rounded(c, multipliers), rounded(d, multipliers));
    // Distances from the lower end: packing to bytes cuts off what is below it.
    let above = _mm512_set1_epi16(ends.above);
    let packed = _mm512_packus_epi16(_mm512_adds_epi16(low, above), _mm512_adds_epi16(high, above));
    let stored = _mm512_add_epi8(_mm512_min_epu8(packed, splat(ends.span)), splat(ends.low));
    // Packing works in quarters of 128 bits: each holds four channels of each pixel.
    let place = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let stored = _mm512_permutexvar_epi32(place, stored);
    let mut pixels = [[0; LANES]; 4];
    // SAFETY: 64 bytes are written to four arrays of 16.
    unsafe { _mm512_storeu_si512(pixels.as_mut_ptr().cast(), stored) };
    pixels
}

/// Scaled and rounded, within i16 or below it: conversion makes the least i32 of what it does not hold.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn rounded(acc: __m512i, multipliers: __m512) -> __m512i {
    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multipliers);
    // Rounds as MXCSR says, which Rust keeps at nearest, ties to even.
    _mm512_cvtps_epi32(_mm512_min_ps(scaled, _mm512_set1_ps(32767.0)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn interleave([a, b, c, d]: [&[u8; 64]; 4], line: &mut [u8; 256]) {
    // Interleaving works in quarters of 128 bits; dwords are placed beforehand so that results come out in order.
    let place = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let (a, b) = (_mm512_permutexvar_epi32(place, load(a)), _mm512_permutexvar_epi32(place, load(b)));
    let (c, d) = (_mm512_permutexvar_epi32(place, load(c)), _mm512_permutexvar_epi32(place, load(d)));
    let (ab_low, ab_high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    let line: *mut __m512i = line.as_mut_ptr().cast();
    // SAFETY: 4 times 64 bytes are written to an array of 256.
    unsafe {
        _mm512_storeu_si512(line, _mm512_unpacklo_epi16(ab_low, cd_low));
        _mm512_storeu_si512(line.add(1), _mm512_unpackhi_epi16(ab_low, cd_low));
        _mm512_storeu_si512(line.add(2), _mm512_unpacklo_epi16(ab_high, cd_high));
        _mm512_storeu_si512(line.add(3), _mm512_unpackhi_epi16(ab_high, cd_high));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add(a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
    let [a, b] =
        [_mm512_xor_si512(load(a), splat(constants.flips[0])), _mm512_xor_si512(load(b), splat(constants.flips[1]))];
    // Neighbours a b as bytes, then as words: a quarter of the elements each, and packing puts them back in order.
    let (low, high, zero) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b), _mm512_setzero_si512());
    let low = _mm512_packs_epi32(
        add_quarter(_mm512_unpacklo_epi8(low, zero), constants),
        add_quarter(_mm512_unpackhi_epi8(low, zero), constants),
    );
    let high = _mm512_packs_epi32(
        add_quarter(_mm512_unpacklo_epi8(high, zero), constants),
        add_quarter(_mm512_unpackhi_epi8(high, zero), constants),
    );
    let stored = _mm512_packus_epi16(add_zero_point(low, constants), add_zero_point(high, constants));
    let mut sums = [0; CHUNK];
    // SAFETY: 64 bytes are written to an array of 64.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), stored) };
    sums
}

/// `RNE(acc / 2^shift)` of 16 pairs of inputs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add_quarter(pairs: __m512i, constants: &Constants) -> __m512i {
    let high = _mm512_slli_epi32::<LOW_BITS>(_mm512_madd_epi16(pairs, _mm512_set1_epi32(pair(constants.high))));
    let acc = _mm512_add_epi32(high, _mm512_set1_epi32(constants.offset));
    let acc = _mm512_dpwssd_epi32(acc, pairs, _mm512_set1_epi32(pair(constants.low)));
    let shift = _mm_cvtsi32_si128(constants.shift as i32);
    let floor = _mm512_sra_epi32(acc, shift);
    let rest = _mm512_and_si512(acc, _mm512_set1_epi32(constants.rest));
    let odd = _mm512_and_si512(floor, _mm512_set1_epi32(constants.odd));
    let half = _mm512_add_epi32(odd, _mm512_set1_epi32(constants.half));
    _mm512_add_epi32(floor, _mm512_srl_epi32(_mm512_add_epi32(rest, half), shift))
}

/// Words, the stored byte in the low half of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add_zero_point(q: __m512i, constants: &Constants) -> __m512i {
    let y = _mm512_adds_epi16(q, _mm512_set1_epi16(constants.zero_point));
    let [low, high] = constants.clamp;
    let y = _mm512_min_epi16(_mm512_max_epi16(y, _mm512_set1_epi16(low)), _mm512_set1_epi16(high));
    _mm512_and_si512(y, _mm512_set1_epi16(0xff))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn splat(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte as i8)
}
