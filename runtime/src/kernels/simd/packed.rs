//! No instruction set in particular: arrays of 16, which compilers turn into the vectors that every core of a target has (SSE2,
//! NEON). Runs anywhere, on weights packed as words.

use super::{CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd};
use crate::{
    arith::{Requantize, Requantizer},
    kernels::add::simd::LOW_BITS,
};

/// What every core has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed;

/// Element `i` of a row of words.
#[inline(always)]
fn word(bytes: &[u8], i: usize) -> i32 {
    i16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).into()
}

impl Simd for Packed {
    type Lanes = [i32; LANES];

    const PACKING: Packing = Packing::Words;
    const SUMS: usize = 2;

    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn load(self, values: &[i32; LANES]) -> Self::Lanes {
        *values
    }

    #[inline(always)]
    fn dot(self, mut acc: Self::Lanes, x: [u8; 4], weights: &Row) -> Self::Lanes {
        let (first, second) = (word(&x, 0), word(&x, 1));
        for (lane, acc) in acc.iter_mut().enumerate() {
            let products = first * word(weights, 2 * lane) + second * word(weights, 2 * lane + 1);
            *acc = acc.wrapping_add(products);
        }
        acc
    }

    #[inline(always)]
    fn dot_each(self, mut acc: Self::Lanes, x: &[u8; 64], weights: &Row) -> Self::Lanes {
        for (lane, acc) in acc.iter_mut().enumerate() {
            let product = |i: usize| word(x, 2 * lane + i) * word(weights, 2 * lane + i);
            *acc = acc.wrapping_add(product(0) + product(1));
        }
        acc
    }

    #[inline(always)]
    fn requantize<const FULL: bool>(self, acc: Self::Lanes, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
        let [low, high] = ends.clamp.map(|end| end as i32);
        core::array::from_fn(|lane| {
            let rounded = Requantizer::new(multipliers[lane], 0, [low, high]).apply(acc[lane]);
            (rounded as u8).wrapping_add(ends.zero_point)
        })
    }

    #[inline(always)]
    fn interleave_chunk(self, [a, b, ..]: [&[u8; 64]; 4], line: &mut [[u8; 4]]) {
        let (a, b) = (a.as_chunks::<2>().0, b.as_chunks::<2>().0);
        assert_eq!(line.len(), a.len());
        for (line, (&[a, b], &[c, d])) in line.iter_mut().zip(a.iter().zip(b)) {
            *line = [a, b, c, d];
        }
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        let multipliers = [0, 1].map(|i| (i32::from(constants.high[i]) << LOW_BITS) + i32::from(constants.low[i]));
        core::array::from_fn(|i| {
            let [a, b] = [a[i] ^ constants.flips[0], b[i] ^ constants.flips[1]].map(i32::from);
            let products = (a * multipliers[0]).wrapping_add(b * multipliers[1]);
            let acc = products.wrapping_add(constants.offset);
            let floor = acc >> constants.shift;
            let up = ((acc & constants.rest) + (floor & constants.odd) + constants.half) >> constants.shift;
            let y = floor + up + i32::from(constants.zero_point);
            y.max(constants.clamp[0].into()).min(constants.clamp[1].into()) as u8
        })
    }
}
