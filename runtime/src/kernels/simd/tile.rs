//! The micro-kernel of convolutions and dense layers. Enters: the inputs of `P` output pixels, the packed weights of `N`
//! blocks of channels. Leaves: all their sums, which stay in registers while the inputs are walked once; and stored bytes.
#![allow(unsafe_code, reason = "inputs are read and outputs written without a check for each of them")]

use super::{Ends, LANES, Row, Simd};

/// A piece of a pixel's inputs: `rows` times four bytes, from `offset` behind the pixel's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) offset: usize,
    pub(crate) rows: usize,
}

/// Which inputs of a pixel are multiplied, in the order of the rows of weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    /// End of the last byte that is read, behind the pixel's first one; no run ends later.
    reach: usize,
    rows: usize,
}

impl Runs {
    /// Appends a run, or makes the last one longer.
    pub(crate) fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.offset + 4 * last.rows == run.offset => last.rows += run.rows,
            _ => self.runs.push(run),
        }
        self.reach = self.reach.max(run.offset + 4 * run.rows);
        self.rows += run.rows;
    }
}

/// `sums[p][n] = bias[n] + sum x * weights[n]`; pixel `p` starts `p * step` bytes into `x`.
///
/// # Panics
/// When `x` is too short for the runs, or there are other than `runs.rows()` rows of weights.
#[inline(always)]
pub(crate) fn tile<V: Simd, const P: usize, const N: usize>(
    simd: V,
    x: &[u8],
    step: usize,
    runs: &Runs,
    weights: &[[Row; N]],
    bias: &[[i32; LANES]; N],
) -> [[V::Lanes; N]; P] {
    assert!((P - 1) * step + runs.reach <= x.len() && weights.len() == runs.rows);
    let mut sums = [bias.each_ref().map(|bias| simd.load(bias)); P];
    let mut weights = weights;
    for run in &runs.runs {
        let rows;
        (rows, weights) = weights.split_at(run.rows);
        // SAFETY: the run ends at `reach` at most and `p` is at most `P - 1`; their bytes were asserted to be there.
        unsafe { simd.dot_rows(&mut sums, x.as_ptr().add(run.offset), step, rows) };
    }
    sums
}

/// What a block of channels of its own inputs is multiplied with.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    taps: Vec<(usize, Row)>,
    /// No offset is greater.
    last: usize,
}

impl Taps {
    /// Where behind a pixel's first element the inputs of each row of weights start.
    pub(crate) fn new(taps: Vec<(usize, Row)>) -> Self {
        let last = taps.iter().map(|&(offset, _)| offset).max().unwrap_or_default();
        Self { taps, last }
    }
}

/// `sums[p] = bias + sum x * weights`, where each channel has its own inputs; pixel `p` starts `p * step` elements into `x`.
///
/// # Panics
/// When `x` is too short for the taps.
#[inline(always)]
pub(crate) fn tile_each<V: Simd, const P: usize>(
    simd: V,
    x: &[[u8; 4]],
    step: usize,
    taps: &Taps,
    bias: &[i32; LANES],
) -> [V::Lanes; P] {
    assert!((P - 1) * step + taps.last + LANES <= x.len());
    let mut sums = [simd.load(bias); P];
    for (offset, row) in &taps.taps {
        for (p, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 16 elements of four bytes were asserted to be there behind the greatest offset of the last pixel.
            let x = unsafe { &*x.as_ptr().add(p * step + offset).cast::<[u8; 64]>() };
            *sum = simd.dot_each(*sum, x, row);
        }
    }
    sums
}

/// Where output pixels go, and how.
pub(crate) struct Target<'y> {
    /// From the first channel of the first pixel on.
    pub(crate) y: &'y mut [u8],
    /// Bytes between two pixels.
    pub(crate) step: usize,
    /// Channels that are written.
    pub(crate) count: usize,
    pub(crate) ends: Ends,
}

impl Target<'_> {
    /// Requantizes and writes the sums of consecutive pixels, for one block of at most [`LANES`] channels.
    ///
    /// # Panics
    /// When they do not all fit.
    #[inline(always)]
    fn put<V: Simd, const P: usize>(&mut self, simd: V, first: usize, sums: [V::Lanes; P], multipliers: &[f32; LANES]) {
        let Self { ref mut y, step, count, ends } = *self;
        assert!((first + P - 1) * step + count <= y.len() && count <= LANES);
        let (fours, rest) = sums.as_chunks::<4>();
        let mut p = first;
        let mut write = |pixel: [u8; LANES]| {
            if count == LANES {
                // SAFETY: `p` is at most `first + P - 1`, and 16 bytes from `p * step` on were asserted to be there.
                unsafe { y.as_mut_ptr().add(p * step).cast::<[u8; LANES]>().write(pixel) };
            } else {
                y[p * step..][..count].copy_from_slice(&pixel[..count]);
            }
            p += 1;
        };
        for four in fours {
            simd.requantize_four(*four, multipliers, ends).into_iter().for_each(&mut write);
        }
        for sum in rest {
            write(simd.requantize(*sum, multipliers, ends));
        }
    }
}

/// Requantizes and writes `sums[p][n]`: block `n` of pixel `p`.
///
/// # Panics
/// When the target is too short, or asks for other than `N` blocks.
#[inline(always)]
pub(crate) fn put<V: Simd, const P: usize, const N: usize>(
    simd: V,
    sums: &[[V::Lanes; N]; P],
    multipliers: &[[f32; LANES]; N],
    target: Target,
) {
    let Target { y, step, count, ends } = target;
    assert!(count.div_ceil(LANES) == N);
    for (n, multipliers) in multipliers.iter().enumerate() {
        let mut block = [sums[0][n]; P];
        for (block, sums) in block.iter_mut().zip(sums) {
            *block = sums[n];
        }
        let first = n * LANES;
        let mut target = Target { y: &mut y[first..], step, count: LANES.min(count - first), ends };
        target.put(simd, 0, block, multipliers);
    }
}

/// Rows of weights of one block of channels that tile registers leave over.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    /// Where behind a pixel's first byte the inputs of each row start.
    pub(crate) offsets: &'a [usize],
    /// The rows, and what lies between two of them.
    pub(crate) rows: &'a [Row],
    pub(crate) stride: usize,
    /// From the first pixel on.
    pub(crate) x: &'a [u8],
    /// Bytes between two pixels.
    pub(crate) step: usize,
}

/// Adds what is left over to the sums of a block, one for each pixel, requantizes and writes them.
///
/// # Panics
/// When inputs or rows are not all there, or the target is too short or wider than a block.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn finish<V: Simd>(
    simd: V,
    sums: &[[i32; LANES]],
    rest: Rest,
    multipliers: &[f32; LANES],
    mut target: Target,
) {
    let Rest { offsets, rows, stride, x, step } = rest;
    assert!(offsets.is_empty() || (offsets.len() - 1) * stride < rows.len());
    assert!(sums.is_empty() || offsets.iter().all(|offset| (sums.len() - 1) * step + offset + 4 <= x.len()));
    let whole = |p: usize| {
        let mut sum = simd.load(&sums[p]);
        for (i, offset) in offsets.iter().enumerate() {
            // SAFETY: row and inputs were asserted to be there, for the last row and pixel and so for all.
            let (x, row) = unsafe {
                (x.as_ptr().add(p * step + offset).cast::<[u8; 4]>().read(), &*rows.as_ptr().add(i * stride))
            };
            sum = simd.dot(sum, x, row);
        }
        sum
    };
    let fours = sums.len() / 4 * 4;
    for p in (0..fours).step_by(4) {
        target.put(simd, p, [whole(p), whole(p + 1), whole(p + 2), whole(p + 3)], multipliers);
    }
    for p in fours..sums.len() {
        target.put(simd, p, [whole(p)], multipliers);
    }
}
