//! The two products of a convolution over [`super::lines`], in registers: sums of shifted lines times weights, and dot products of
//! shifted lines with gradients. Enters: lines, where each of `depth` taps reads them, weights or gradients. Leaves: lines of
//! results, or weights' gradients. Panics where a tap leads out of its slice.
//!
//! Each result is summed up by one thread in one order. Tiles are as large as the registers hold, so that a value that was read
//! is used several times.

use super::lines::BLOCK;
use pulp::{Arch, Simd, WithSimd};

/// Output channels whose weights lie side by side.
const PACK: usize = 8;

/// Weights in the order in which [`sums`] reads them: [`PACK`] output channels side by side, missing ones 0.
#[derive(Debug)]
pub(super) struct Packed {
    k: usize,
    depth: usize,
    values: Vec<[f32; PACK]>,
}

impl Packed {
    /// From rows of `depth` weights.
    pub(super) fn new(weight: &[f32], depth: usize) -> Self {
        let k = weight.len() / depth;
        let mut values = vec![[0.0; PACK]; k.div_ceil(PACK) * depth];
        for (k, row) in weight.chunks_exact(depth).enumerate() {
            for (packed, w) in values[k / PACK * depth..].iter_mut().zip(row) {
                packed[k % PACK] = *w;
            }
        }
        Self { k, depth, values }
    }
}

/// `y[k][p] = sum over d of weight[k][d] * lines[reads[d] + p]`, for `positions`, a multiple of [`BLOCK`]; rows of `y` are `stride`
/// apart.
pub(super) fn sums(lines: &[f32], reads: &[usize], weight: &Packed, y: &mut [f32], stride: usize, positions: usize) {
    assert!(positions.is_multiple_of(BLOCK) && reads.len() == weight.depth);
    Arch::new().dispatch(Sums { lines, reads, weight, y, stride, positions });
}

struct Sums<'a> {
    lines: &'a [f32],
    reads: &'a [usize],
    weight: &'a Packed,
    y: &'a mut [f32],
    stride: usize,
    positions: usize,
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let vectors = self.positions / S::F32_LANES;
        let tiles = vectors.div_ceil(3);
        for tile in 0..tiles {
            let part = tile * vectors / tiles..(tile + 1) * vectors / tiles;
            match part.len() {
                1 => self.rows::<S, 1>(simd, part.start * S::F32_LANES),
                2 => self.rows::<S, 2>(simd, part.start * S::F32_LANES),
                _ => self.rows::<S, 3>(simd, part.start * S::F32_LANES),
            }
        }
    }
}

impl Sums<'_> {
    /// All output channels at `V` vectors of positions.
    #[inline(always)]
    fn rows<S: Simd, const V: usize>(&mut self, simd: S, at: usize) {
        let depth = self.weight.depth;
        for (block, weight) in self.weight.values.chunks_exact(depth).enumerate() {
            let k = block * PACK;
            if S::REGISTER_COUNT >= 32 && self.weight.k - k > PACK / 2 {
                self.tile::<S, V, PACK>(simd, weight, 0, k, at);
            } else {
                self.tile::<S, V, { PACK / 2 }>(simd, weight, 0, k, at);
                if self.weight.k - k > PACK / 2 {
                    self.tile::<S, V, { PACK / 2 }>(simd, weight, PACK / 2, k + PACK / 2, at);
                }
            }
        }
    }

    /// `K` output channels from `k` on, whose weights lie from `first` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const K: usize>(
        &mut self,
        simd: S,
        weight: &[[f32; PACK]],
        first: usize,
        k: usize,
        at: usize,
    ) {
        let length = V * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; K];
        for (read, weight) in self.reads.iter().zip(weight) {
            let x = &S::as_simd_f32s(&self.lines[read + at..][..length]).0[..V];
            for i in 0..K {
                let w = simd.splat_f32s(weight[first + i]);
                for v in 0..V {
                    sums[i][v] = simd.mul_add_f32s(w, x[v], sums[i][v]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(self.weight.k - k) {
            let y = &mut self.y[(k + i) * self.stride + at..][..length];
            S::as_mut_simd_f32s(y).0.copy_from_slice(sums);
        }
    }
}

/// Several images of lines, and the gradients that belong to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs<'a> {
    pub(super) lines: &'a [f32],
    pub(super) dy: &'a [f32],
    /// From one row of `dy` to the next.
    pub(super) stride: usize,
    /// Images that have lines of their own, and from one to the next, in `lines` and in `dy`.
    pub(super) images: usize,
    pub(super) apart: [usize; 2],
    /// Positions of one of them, a multiple of [`BLOCK`].
    pub(super) positions: usize,
}

/// `dw[k][d] += sum over p of dy[k][p] * lines[reads[d] + p]`.
pub(super) fn dots(pairs: Pairs<'_>, reads: &[usize], dw: &mut [f32]) {
    assert!(pairs.positions.is_multiple_of(BLOCK));
    Arch::new().dispatch(Dots { pairs, reads, dw });
}

struct Dots<'a> {
    pairs: Pairs<'a>,
    reads: &'a [usize],
    dw: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let depth = self.reads.len();
        let k = self.dw.len() / depth;
        for k in (0..k).step_by(4) {
            if S::REGISTER_COUNT >= 32 {
                for d in (0..depth).step_by(6) {
                    self.tile::<S, 4, 6>(simd, k, d);
                }
            } else {
                for k in (k..k + 4).step_by(2) {
                    for d in (0..depth).step_by(5) {
                        self.tile::<S, 2, 5>(simd, k, d);
                    }
                }
            }
        }
    }
}

impl Dots<'_> {
    /// `K` rows of `dy` with `D` taps; of rows and taps that are not there the last one again.
    #[inline(always)]
    fn tile<S: Simd, const K: usize, const D: usize>(&mut self, simd: S, k: usize, d: usize) {
        let Pairs { lines, dy, stride, images, apart, positions } = self.pairs;
        let depth = self.reads.len();
        let rows = self.dw.len() / depth;
        if k >= rows {
            return;
        }
        let mut sums = [[simd.splat_f32s(0.0); D]; K];
        for image in 0..images {
            let vectors = positions / S::F32_LANES;
            let mut dy_rows = [&[] as &[S::f32s]; K];
            for (i, row) in dy_rows.iter_mut().enumerate() {
                let from = (k + i).min(rows - 1) * stride + image * apart[1];
                *row = &S::as_simd_f32s(&dy[from..][..positions]).0[..vectors];
            }
            let mut x = [&[] as &[S::f32s]; D];
            for (i, x) in x.iter_mut().enumerate() {
                let from = self.reads[(d + i).min(depth - 1)] + image * apart[0];
                *x = &S::as_simd_f32s(&lines[from..][..positions]).0[..vectors];
            }
            for p in 0..vectors {
                let mut line = [simd.splat_f32s(0.0); D];
                for i in 0..D {
                    line[i] = x[i][p];
                }
                for i in 0..K {
                    let dy = dy_rows[i][p];
                    for j in 0..D {
                        sums[i][j] = simd.mul_add_f32s(dy, line[j], sums[i][j]);
                    }
                }
            }
        }
        // All of them: sums that are chosen at run time would be kept in memory throughout.
        let mut totals = [[0.0; D]; K];
        for i in 0..K {
            for j in 0..D {
                totals[i][j] = simd.reduce_sum_f32s(sums[i][j]);
            }
        }
        for (i, totals) in totals.iter().enumerate().take(rows - k) {
            for (j, total) in totals.iter().enumerate().take(depth - d) {
                self.dw[(k + i) * depth + d + j] += total;
            }
        }
    }
}
