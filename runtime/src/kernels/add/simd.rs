//! The same integers with the host's vector instructions: both products of an element in one 16-bit pair of multiplications,
//! twice, for the high and the low bits of the multipliers.

use super::Add;
use crate::kernels::simd::{Kernel, Simd};

/// Elements at a time.
pub(crate) const CHUNK: usize = 64;

/// Bits of a multiplier's lower half. The upper one has at most 15, and so fits i16.
pub(crate) const LOW_BITS: u32 = 8;

/// Constants of an Add as vector instructions take them. Inputs are bytes without a sign: the top bit of signed ones is
/// flipped first, and their zero points are 128 higher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    /// Flips the top bit of each input, or nothing.
    pub(crate) flips: [u8; 2],
    /// `A >> LOW_BITS`, `B >> LOW_BITS`.
    pub(crate) high: [i16; 2],
    /// The other bits of `A` and `B`.
    pub(crate) low: [i16; 2],
    /// `-za * A - zb * B`, wrapping.
    pub(crate) offset: i32,
    pub(crate) shift: u32,
    /// The bits of the accumulator that are shifted out.
    pub(crate) rest: i32,
    /// 1, or 0 where nothing is shifted out.
    pub(crate) odd: i32,
    /// One less than half of what is shifted out can hold; 0 where nothing is.
    pub(crate) half: i32,
    pub(crate) zero_point: i16,
    pub(crate) clamp: [i16; 2],
}

impl Constants {
    fn new(add: &Add) -> Self {
        let rescale = &add.rescale;
        let product = |i: usize| {
            let lift = if add.signed[i] { 128 } else { 0 };
            (rescale.input_zero_points[i] + lift).wrapping_mul(rescale.multipliers[i])
        };
        let rest = (1i32 << rescale.shift) - 1;
        Self {
            flips: add.signed.map(|signed| if signed { 0x80 } else { 0 }),
            high: rescale.multipliers.map(|m| (m >> LOW_BITS) as i16),
            low: rescale.multipliers.map(|m| (m & ((1 << LOW_BITS) - 1)) as i16),
            offset: product(0).wrapping_add(product(1)).wrapping_neg(),
            shift: rescale.shift,
            rest,
            odd: rest & 1,
            half: rest >> 1,
            zero_point: rescale.zero_point as i16,
            clamp: rescale.clamp.map(|end| end as i16),
        }
    }
}

/// An Add to be run on a part of its tensors.
pub(crate) struct Sum<'a> {
    pub(crate) add: Add,
    /// As long as `y`; none for what lies in `y`, and is written over.
    pub(crate) inputs: [Option<&'a [u8]>; 2],
    pub(crate) y: &'a mut [u8],
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self, simd: V) {
        let constants = Constants::new(&self.add);
        for (i, y) in self.y.chunks_mut(CHUNK).enumerate() {
            let [a, b] = self.inputs.map(|x| x.map_or(&*y, |x| &x[i * CHUNK..][..y.len()]));
            let (padded_a, padded_b);
            let (a, b) = match (a.first_chunk(), b.first_chunk()) {
                (Some(a), Some(b)) => (a, b),
                _ => {
                    (padded_a, padded_b) = (padded(a), padded(b));
                    (&padded_a, &padded_b)
                }
            };
            // The only call, so that it becomes a part of the loop.
            let sums = simd.add(a, b, &constants);
            match y.first_chunk_mut() {
                Some(y) => *y = sums,
                None => y.copy_from_slice(&sums[..y.len()]),
            }
        }
    }
}

fn padded(x: &[u8]) -> [u8; CHUNK] {
    let mut chunk = [0; CHUNK];
    chunk[..x.len()].copy_from_slice(x);
    chunk
}
