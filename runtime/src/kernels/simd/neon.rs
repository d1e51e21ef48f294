//! NEON, which every 64-bit Arm has (Cortex-A53 and A72: Raspberry Pi Zero 2, 3 and 4). `smull` and `smlal` make and add
//! products of bytes within 16 bits, twice at least since no weight is -128; `sadalp` adds pairs of them to 32-bit sums.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{
    CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd, neon_four as four,
    tile::{self, Runs},
};
use crate::kernels::add::simd::LOW_BITS;
use core::arch::{aarch64::*, asm};

/// Proof that the core has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    /// The instruction set, if core and system have it.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// Lanes 0 to 3, and so on.
pub(crate) type Sums = [int32x4_t; 4];

/// 64 bytes of anything, in four registers.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load<T>(value: &T) -> [uint8x16_t; 4] {
    const { assert!(size_of::<T>() == 64) };
    let bytes: *const u8 = core::ptr::from_ref(value).cast();
    // SAFETY: 64 bytes are read where 64 are.
    unsafe { [vld1q_u8(bytes), vld1q_u8(bytes.add(16)), vld1q_u8(bytes.add(32)), vld1q_u8(bytes.add(48))] }
}

/// The four bytes of each of `R` rows, 4, 2 or 1, at the low end of a register.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load_first<const R: usize>(x: *const u8) -> uint8x16_t {
    // SAFETY: the caller has seen to it.
    unsafe {
        match R {
            1 => vreinterpretq_u8_u32(vdupq_n_u32(x.cast::<u32>().read_unaligned())),
            2 => vcombine_u8(vld1_u8(x), vdup_n_u8(0)),
            _ => vld1q_u8(x),
        }
    }
}

impl Simd for Neon {
    type Lanes = Sums;

    const PACKING: Packing = Packing::Pairs;
    const SUMS: usize = 4;
    const FULL_PAYS: bool = true;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn plain_neon(self) -> Option<Self> {
        Some(self)
    }

    #[inline(always)]
    fn load(self, values: &[i32; LANES]) -> Sums {
        // SAFETY: the core has NEON.
        unsafe { load(values).map(|part| vreinterpretq_s32_u8(part)) }
    }

    #[inline(always)]
    fn dot(self, sums: Sums, x: [u8; 4], weights: &Row) -> Sums {
        // SAFETY: the core has NEON.
        unsafe {
            let x = vreinterpretq_s16_s32(vdupq_n_s32(i32::from_le_bytes(x)));
            dot::<0, 1>(sums, x, load(weights).map(|part| vreinterpretq_s8_u8(part)))
        }
    }

    #[inline(always)]
    unsafe fn dot_group<const R: usize, const P: usize, const N: usize>(
        self,
        sums: &mut [[Sums; N]; P],
        x: [*const u8; P],
        weights: &[[Row; N]; R],
    ) {
        // SAFETY: the core has NEON; the caller has seen to it that four bytes for each row can be read.
        unsafe {
            let x: [int16x8_t; P] = x.map(|x| vreinterpretq_s16_u8(load_first::<R>(x)));
            dot_row::<0, 1, P, N>(sums, x, &weights[0]);
            if R > 1 {
                dot_row::<2, 3, P, N>(sums, x, &weights[1]);
            }
            if R > 2 {
                dot_row::<4, 5, P, N>(sums, x, &weights[2]);
                dot_row::<6, 7, P, N>(sums, x, &weights[3]);
            }
        }
    }

    #[inline(always)]
    fn dot_each(self, sums: Sums, x: &[u8; 64], weights: &Row) -> Sums {
        let mut values = [0; LANES];
        // SAFETY: the core has NEON; four lanes each are written to an array of 16.
        unsafe {
            for (i, sums) in sums.into_iter().enumerate() {
                vst1q_s32(values.as_mut_ptr().add(4 * i), sums);
            }
        }
        for (lane, value) in values.iter_mut().enumerate() {
            for i in 0..4 {
                // `Form::Pairs`.
                let (x, weight) = (x[4 * lane + i] as i8, weights[i / 2 * 32 + 2 * lane + i % 2] as i8);
                *value = value.wrapping_add(i32::from(x) * i32::from(weight));
            }
        }
        self.load(&values)
    }

    #[inline(always)]
    unsafe fn shared<const P: usize, const N: usize>(
        self,
        x: [*const u8; P],
        runs: &Runs,
        weights: *const [Row; N],
        bias: &[[i32; LANES]; N],
    ) -> [[Sums; N]; P] {
        // SAFETY: the core has NEON; the caller has seen to the memory.
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
    fn requantize<const FULL: bool>(self, sums: Sums, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
        // SAFETY: the core has NEON.
        unsafe { requantize::<FULL>(sums, multipliers, ends) }
    }

    #[inline(always)]
    fn interleave_chunk(self, rows: [&[u8; 64]; 4], line: &mut [[u8; 4]]) {
        let line = line.as_flattened_mut().as_mut_array().expect("64 elements");
        // SAFETY: the core has NEON.
        unsafe { interleave(rows, line) }
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        // SAFETY: the core has NEON.
        unsafe { add(a, b, constants) }
    }
}

/// A row of weights with the inputs of `P` pixels, of which the pairs `I` and `J` are meant.
#[inline]
#[target_feature(enable = "neon")]
fn dot_row<const I: i32, const J: i32, const P: usize, const N: usize>(
    sums: &mut [[Sums; N]; P],
    x: [int16x8_t; P],
    weights: &[Row; N],
) {
    for (n, row) in weights.iter().enumerate() {
        let weights = load(row).map(|part| vreinterpretq_s8_u8(part));
        for (sums, x) in sums.iter_mut().zip(x) {
            sums[n] = dot::<I, J>(sums[n], x, weights);
        }
    }
}

/// Four products for each lane: those of the pair `I` of inputs, and of the pair `J`. As assembly, because compilers move
/// these instructions apart until there are not enough registers.
#[inline]
#[target_feature(enable = "neon")]
fn dot<const I: i32, const J: i32>([mut a, mut b, mut c, mut d]: Sums, x: int16x8_t, weights: [int8x16_t; 4]) -> Sums {
    // SAFETY: the core has NEON; only registers are read and written. 2 * 128 * 127 is less than 2^15.
    unsafe {
        asm!(
            "dup {x0:v}.8h, {x:v}.h[{i}]",
            "dup {x1:v}.8h, {x:v}.h[{j}]",
            "smull {t0:v}.8h, {x0:v}.8b, {w0:v}.8b",
            "smull2 {t1:v}.8h, {x0:v}.16b, {w0:v}.16b",
            "smull {t2:v}.8h, {x0:v}.8b, {w1:v}.8b",
            "smull2 {x0:v}.8h, {x0:v}.16b, {w1:v}.16b",
            "smlal {t0:v}.8h, {x1:v}.8b, {w2:v}.8b",
            "smlal2 {t1:v}.8h, {x1:v}.16b, {w2:v}.16b",
            "smlal {t2:v}.8h, {x1:v}.8b, {w3:v}.8b",
            "smlal2 {x0:v}.8h, {x1:v}.16b, {w3:v}.16b",
            "sadalp {a:v}.4s, {t0:v}.8h",
            "sadalp {b:v}.4s, {t1:v}.8h",
            "sadalp {c:v}.4s, {t2:v}.8h",
            "sadalp {d:v}.4s, {x0:v}.8h",
            a = inout(vreg) a, b = inout(vreg) b, c = inout(vreg) c, d = inout(vreg) d,
            x = in(vreg) x, w0 = in(vreg) weights[0], w1 = in(vreg) weights[1], w2 = in(vreg) weights[2],
            w3 = in(vreg) weights[3], x0 = out(vreg) _, x1 = out(vreg) _, t0 = out(vreg) _, t1 = out(vreg) _,
            t2 = out(vreg) _, i = const I, j = const J,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "neon")]
fn requantize<const FULL: bool>(sums: Sums, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
    let multipliers = load(multipliers).map(|part| vreinterpretq_f32_u8(part));
    // Conversion from float rounds to nearest, ties to even, and saturates.
    let rounded = |i: usize| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums[i]), multipliers[i]));
    let low = vqmovn_high_s32(vqmovn_s32(rounded(0)), rounded(1));
    let high = vqmovn_high_s32(vqmovn_s32(rounded(2)), rounded(3));
    let stored = if FULL {
        vqmovun_high_s16(vqmovun_s16(low), high)
    } else {
        store_bytes([low, high], ends.above, ends.span, ends.low)
    };
    let mut bytes = [0; LANES];
    // SAFETY: 16 bytes are written to an array of 16.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), stored) };
    bytes
}

/// Rounded words as they are stored: distances from the lower end of the clamp, cut off below it and beyond the upper one.
#[inline]
#[target_feature(enable = "neon")]
fn store_bytes([low, high]: [int16x8_t; 2], above: i16, span: u8, lowest: u8) -> uint8x16_t {
    let above = vdupq_n_s16(above);
    let bytes = vqmovun_high_s16(vqmovun_s16(vqaddq_s16(low, above)), vqaddq_s16(high, above));
    vaddq_u8(vminq_u8(bytes, vdupq_n_u8(span)), vdupq_n_u8(lowest))
}

#[inline]
#[target_feature(enable = "neon")]
fn interleave([a, b, c, d]: [&[u8; 64]; 4], line: &mut [u8; 256]) {
    let (a, b, c, d) = (load(a), load(b), load(c), load(d));
    let line = line.as_mut_ptr();
    for i in 0..4 {
        // SAFETY: four times 64 bytes are written to an array of 256.
        unsafe { vst4q_u8(line.add(64 * i), uint8x16x4_t(a[i], b[i], c[i], d[i])) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
    let (a, b) = (load(a), load(b));
    let mut sums = [0; CHUNK];
    for i in 0..4 {
        let a = veorq_u8(a[i], vdupq_n_u8(constants.flips[0]));
        let b = veorq_u8(b[i], vdupq_n_u8(constants.flips[1]));
        let quarter = |i: usize| {
            // Four bytes, each to the low end of a lane: an index beyond the table gives 0.
            let places = core::array::from_fn::<u8, 16, _>(|j| if j % 4 == 0 { (4 * i + j / 4) as u8 } else { 0xff });
            // SAFETY: 16 bytes are read where 16 are.
            let places = unsafe { vld1q_u8(places.as_ptr()) };
            add_quarter(a, b, places, constants)
        };
        let low = vqmovn_high_s32(vqmovn_s32(quarter(0)), quarter(1));
        let high = vqmovn_high_s32(vqmovn_s32(quarter(2)), quarter(3));
        let [lowest, highest] = constants.clamp;
        let stored = store_bytes([low, high], constants.zero_point - lowest, (highest - lowest) as u8, lowest as u8);
        // SAFETY: 16 bytes are written to each quarter of an array of 64.
        unsafe { vst1q_u8(sums.as_mut_ptr().add(16 * i), stored) };
    }
    sums
}

/// `RNE(acc / 2^shift)` of the four pairs of inputs at `places`. `srshl` rounds a tie up; one is taken away beforehand where the
/// quotient would be odd then, that is where the lowest bit that stays is 0. Multiples of `2^shift` come out the same either way.
#[inline]
#[target_feature(enable = "neon")]
fn add_quarter(a: uint8x16_t, b: uint8x16_t, places: uint8x16_t, constants: &Constants) -> int32x4_t {
    let multiplier = |i: usize| vdupq_n_s32((i32::from(constants.high[i]) << LOW_BITS) + i32::from(constants.low[i]));
    let rounded: int32x4_t;
    // SAFETY: the core has NEON; only registers are read and written.
    unsafe {
        asm!(
            "tbl {y:v}.16b, {{{a:v}.16b}}, {places:v}.16b",
            "mla {acc:v}.4s, {y:v}.4s, {ma:v}.4s",
            "tbl {y:v}.16b, {{{b:v}.16b}}, {places:v}.16b",
            "mla {acc:v}.4s, {y:v}.4s, {mb:v}.4s",
            "cmtst {y:v}.4s, {acc:v}.4s, {odd:v}.4s",
            "sub {y:v}.4s, {acc:v}.4s, {y:v}.4s",
            "srshl {y:v}.4s, {y:v}.4s, {shift:v}.4s",
            a = in(vreg) a, b = in(vreg) b, places = in(vreg) places, ma = in(vreg) multiplier(0),
            mb = in(vreg) multiplier(1), odd = in(vreg) vdupq_n_s32(constants.odd << constants.shift),
            shift = in(vreg) vdupq_n_s32(-(constants.shift as i32)),
            acc = inout(vreg) vdupq_n_s32(constants.offset.wrapping_sub(constants.odd)) => _,
            y = out(vreg) rounded,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    rounded
}
