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
    /// First of all.
    runs: Vec<Run>,
    /// Where groups of rows begin: of four that are chained, of four, two and one.
    offsets: Vec<usize>,
    /// How many there are of each kind.
    counts: [usize; 4],
    /// End of the last byte that is read, behind the pixel's first one; no run ends later.
    reach: usize,
    rows: usize,
}

/// Rows of a group of each kind.
pub(crate) const GROUPS: [usize; 4] = [4, 4, 2, 1];

impl Runs {
    /// One row after the other, with inputs at `offsets`.
    pub(crate) fn of_rows(offsets: &[usize]) -> Self {
        let mut all =
            Self { rows: offsets.len(), reach: reach(offsets.iter().map(|&offset| (offset, 1))), ..Self::default() };
        for &offset in offsets {
            match all.runs.last_mut() {
                Some(last) if last.offset + 4 * last.rows == offset => last.rows += 1,
                _ => all.runs.push(Run { offset, rows: 1 }),
            }
        }
        all
    }

    /// Groups of rows, `counts` of each kind, with inputs from `offsets` on.
    ///
    /// # Panics
    /// When there are not as many offsets as groups.
    pub(crate) fn of_groups(counts: [usize; 4], offsets: Vec<usize>) -> Self {
        assert_eq!(counts.iter().sum::<usize>(), offsets.len());
        let rows = counts.iter().zip(GROUPS).map(|(count, rows)| count * rows).sum();
        let kinds = counts.iter().zip(GROUPS).flat_map(|(&count, rows)| std::iter::repeat_n(rows, count));
        let reach = reach(offsets.iter().copied().zip(kinds));
        Self { runs: Vec::new(), offsets, counts, reach, rows }
    }

    /// Where groups of rows begin, kind after kind.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Groups of each kind: of four rows that are chained, of four, two and one.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const fn counts(&self) -> [usize; 4] {
        self.counts
    }

    /// Rows of weights, of some blocks each.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }
}

/// End of the inputs of some rows each.
fn reach(groups: impl Iterator<Item = (usize, usize)>) -> usize {
    groups.map(|(offset, rows)| offset + 4 * rows).max().unwrap_or_default()
}

/// A row of output pixels, each of `N` blocks of channels.
pub(crate) trait Products<V: Simd, const N: usize> {
    /// Pixels.
    fn pixels(&self) -> usize;

    /// The sums of `P` pixels from `start` on. Implementations are `inline(always)`.
    ///
    /// # Safety
    /// There are as many.
    unsafe fn sums<const P: usize>(&self, simd: V, start: usize) -> [[V::Lanes; N]; P];
}

/// Inputs of a row of output pixels and how they are multiplied, found to be there.
pub(crate) struct Shared<'a, const N: usize> {
    x: &'a [u8],
    step: usize,
    pixels: usize,
    runs: &'a Runs,
    weights: &'a [[Row; N]],
    bias: &'a [[i32; LANES]; N],
}

impl<'a, const N: usize> Shared<'a, N> {
    /// Of `pixels` pixels, the first at the start of `x` and the others `step` bytes apart.
    ///
    /// # Panics
    /// When `x` is too short for the runs, or there are not as many rows of weights as the runs have.
    #[inline(always)]
    pub(crate) fn new(
        (x, step, pixels): (&'a [u8], usize, usize),
        runs: &'a Runs,
        weights: &'a [[Row; N]],
        bias: &'a [[i32; LANES]; N],
    ) -> Self {
        assert!(pixels > 0 && (pixels - 1) * step + runs.reach <= x.len() && weights.len() == runs.rows);
        Self { x, step, pixels, runs, weights, bias }
    }
}

impl<V: Simd, const N: usize> Products<V, N> for Shared<'_, N> {
    #[inline(always)]
    fn pixels(&self) -> usize {
        self.pixels
    }

    /// `sums[p][n] = bias[n] + sum x * weights[n]`.
    #[inline(always)]
    unsafe fn sums<const P: usize>(&self, simd: V, start: usize) -> [[V::Lanes; N]; P] {
        debug_assert!(start + P <= self.pixels);
        // SAFETY: the first pixel of those that `new` has found to be there; no row ends behind `reach`, and runs and groups
        // have as many rows as there are weights.
        unsafe {
            let first = self.x.as_ptr().add(start * self.step);
            let x = core::array::from_fn(|p| first.add(p * self.step));
            simd.shared::<P, N>(x, self.runs, self.weights.as_ptr(), self.bias)
        }
    }
}

/// [`Simd::shared`] by [`Simd::dot_group`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn shared<V: Simd, const P: usize, const N: usize>(
    simd: V,
    x: [*const u8; P],
    runs: &Runs,
    mut weights: *const [Row; N],
    bias: &[[i32; LANES]; N],
) -> [[V::Lanes; N]; P] {
    let mut sums = [bias.each_ref().map(|bias| simd.load(bias)); P];
    // SAFETY: the caller has seen to it.
    unsafe {
        if V::FORM.in_groups() {
            let [chained, fours, twos, ones] = runs.counts;
            let (fours, rest) = runs.offsets.split_at(chained + fours);
            weights = each_group::<V, 4, P, N>(simd, &mut sums, x, fours, weights);
            if twos + ones > 0 {
                let (twos, ones) = rest.split_at(twos);
                weights = each_group::<V, 2, P, N>(simd, &mut sums, x, twos, weights);
                each_group::<V, 1, P, N>(simd, &mut sums, x, ones, weights);
            }
        } else {
            for run in &runs.runs {
                for row in 0..run.rows {
                    let x = x.map(|x| x.add(run.offset + 4 * row));
                    simd.dot_group::<1, P, N>(&mut sums, x, &*weights.add(row).cast());
                }
                weights = weights.add(run.rows);
            }
        }
    }
    sums
}

/// All groups of one kind. Returns where the weights of the next kind begin.
///
/// # Safety
/// Inputs and weights of each can be read.
#[inline(always)]
unsafe fn each_group<V: Simd, const R: usize, const P: usize, const N: usize>(
    simd: V,
    sums: &mut [[V::Lanes; N]; P],
    x: [*const u8; P],
    offsets: &[usize],
    weights: *const [Row; N],
) -> *const [Row; N] {
    let mut weights = weights;
    for &offset in offsets {
        // SAFETY: the caller has seen to it.
        unsafe {
            simd.dot_group::<R, P, N>(sums, x.map(|x| x.add(offset)), &*weights.cast());
            weights = weights.add(R);
        }
    }
    weights
}

/// Where a block of channels reads its own inputs: at least one tap.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    /// Where behind a pixel's first element the inputs of each row of weights start.
    offsets: Vec<usize>,
    /// Bytes from the inputs of a row to those of the next, wrapping; none from the last one on.
    #[cfg(target_arch = "aarch64")]
    steps: Vec<usize>,
    /// No offset is greater.
    last: usize,
}

impl Taps {
    /// Where behind a pixel's first element the inputs of each row of weights start.
    pub(crate) fn new(offsets: Vec<usize>) -> Self {
        Self {
            #[cfg(target_arch = "aarch64")]
            steps: {
                let steps = offsets.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]).wrapping_mul(4));
                steps.chain([0]).collect()
            },
            last: offsets.iter().copied().max().unwrap_or_default(),
            offsets,
        }
    }

    /// How many there are.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Where behind a pixel's first element the inputs of the first row start.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn first(&self) -> usize {
        self.offsets[0]
    }

    /// Bytes from the inputs of each row to those of the next, wrapping.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn steps(&self) -> &[usize] {
        &self.steps
    }
}

/// Lines of a row of output pixels and how they are multiplied, found to be there.
pub(crate) struct Own<'a> {
    x: &'a [[u8; 4]],
    step: usize,
    pixels: usize,
    taps: &'a Taps,
    weights: &'a [Row],
    bias: &'a [i32; LANES],
}

impl<'a> Own<'a> {
    /// Of `pixels` pixels, the first at the start of `x` and the others `step` elements apart.
    ///
    /// # Panics
    /// When `x` is too short for the taps, or there are not as many rows of weights.
    #[inline(always)]
    pub(crate) fn new(
        (x, step, pixels): (&'a [[u8; 4]], usize, usize),
        (taps, weights): (&'a Taps, &'a [Row]),
        bias: &'a [i32; LANES],
    ) -> Self {
        assert!(
            pixels > 0 && (pixels - 1) * step + taps.last + LANES <= x.len() && weights.len() == taps.offsets.len()
        );
        Self { x, step, pixels, taps, weights, bias }
    }
}

impl<V: Simd> Products<V, 1> for Own<'_> {
    #[inline(always)]
    fn pixels(&self) -> usize {
        self.pixels
    }

    /// `sums[p] = bias + sum x * weights`, where each channel has its own inputs.
    #[inline(always)]
    unsafe fn sums<const P: usize>(&self, simd: V, start: usize) -> [[V::Lanes; 1]; P] {
        debug_assert!(start + P <= self.pixels);
        // SAFETY: 16 elements of four bytes were found to be there behind the greatest offset of the last pixel, and a row of
        // weights for each offset.
        unsafe {
            let first = self.x.as_ptr().add(start * self.step);
            let x = core::array::from_fn(|p| first.add(p * self.step));
            simd.own::<P>(x, self.taps, self.weights, self.bias).map(|sums| [sums])
        }
    }
}

/// [`Simd::own`] by [`Simd::dot_each`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn own<V: Simd, const P: usize>(
    simd: V,
    x: [*const [u8; 4]; P],
    taps: &Taps,
    weights: &[Row],
    bias: &[i32; LANES],
) -> [V::Lanes; P] {
    let mut sums = [simd.load(bias); P];
    for (offset, row) in taps.offsets.iter().zip(weights) {
        for (sum, x) in sums.iter_mut().zip(x) {
            // SAFETY: the caller has seen to it.
            let x = unsafe { &*x.add(*offset).cast::<[u8; 64]>() };
            *sum = simd.dot_each(*sum, x, row);
        }
    }
    sums
}

/// Channels of half a block.
const HALF: usize = LANES / 2;

/// Where output pixels go, and how.
pub(crate) struct Target<'y> {
    /// From the first channel of the first pixel on.
    pub(crate) y: &'y mut [u8],
    /// Bytes between two pixels.
    pub(crate) step: usize,
    /// Channels that are written, or fewer where `y` ends before.
    pub(crate) count: usize,
    pub(crate) ends: Ends,
}

impl Target<'_> {
    /// Bytes of each block that can be written without a look at where `y` ends: [`LANES`], [`HALF`] of an only block, or none.
    ///
    /// # Panics
    /// When the last block of the last pixel does not even begin, or another number of blocks is asked for.
    #[inline(always)]
    fn fitting<const N: usize>(&self, pixels: usize) -> usize {
        let last = (pixels - 1) * self.step;
        assert!(last + (N - 1) * LANES < self.y.len() && self.count.div_ceil(LANES) == N);
        match self.count {
            _ if last + self.count > self.y.len() => 0,
            HALF => HALF,
            count if count == N * LANES => LANES,
            _ => 0,
        }
    }

    /// Requantizes and writes block `n` of consecutive pixels, from `first` on.
    ///
    /// # Safety
    /// [`Self::fitting`] has been asked for all of them and blocks beyond `n`, and `BYTES` is its answer, or 0.
    #[inline(always)]
    unsafe fn put<V: Simd, const P: usize, const BYTES: usize, const FULL: bool>(
        &mut self,
        simd: V,
        (first, n): (usize, usize),
        sums: [V::Lanes; P],
        multipliers: &[f32; LANES],
    ) {
        let (fours, rest) = sums.as_chunks::<4>();
        let mut at = first * self.step + n * LANES;
        let mut write = |pixel: [u8; LANES]| {
            // SAFETY: so many bytes fit, and those of another block that are left.
            unsafe {
                let y = self.y.as_mut_ptr().add(at);
                match BYTES {
                    LANES => y.cast::<[u8; LANES]>().write(pixel),
                    HALF => y.cast::<[u8; HALF]>().write(*pixel.first_chunk().expect("half a block")),
                    _ => {
                        let count = LANES.min(self.count - n * LANES).min(self.y.len().saturating_sub(at));
                        copy_few(pixel, y, count);
                    }
                }
            }
            at += self.step;
        };
        for four in fours {
            simd.requantize_four::<FULL>(*four, multipliers, self.ends).into_iter().for_each(&mut write);
        }
        for sum in rest {
            write(simd.requantize::<FULL>(*sum, multipliers, self.ends));
        }
    }
}

/// Writes the first `count` bytes of a pixel, at most 16: the usual 8 and all at once.
///
/// # Safety
/// They can be written from `y` on.
#[inline(always)]
unsafe fn copy_few(pixel: [u8; LANES], y: *mut u8, count: usize) {
    let (halves, _) = pixel.as_chunks::<HALF>();
    let done = count / HALF * HALF;
    // SAFETY: at most `count` bytes are written.
    unsafe {
        match done {
            0 => {}
            HALF => y.cast::<[u8; HALF]>().write(halves[0]),
            _ => y.cast::<[u8; LANES]>().write(pixel),
        }
        for (i, &byte) in pixel.iter().enumerate().take(count).skip(done) {
            y.add(i).write(byte);
        }
    }
}

/// Computes all pixels in tiles of `P`, of which there is at least one, requantizes and writes them. The last tile begins before the
/// one before it ends where it must: both compute the same.
///
/// # Panics
/// When the target is too short, or asks for other than `N` blocks.
#[inline(always)]
pub(crate) fn tiles<V: Simd, const P: usize, const N: usize>(
    simd: V,
    products: &impl Products<V, N>,
    multipliers: &[[f32; LANES]; N],
    target: Target,
) {
    assert!(products.pixels() >= P);
    let full = V::FULL_PAYS && target.ends.is_full();
    // SAFETY: there are as many pixels, and `fitting` has been asked.
    unsafe {
        match (target.fitting::<N>(products.pixels()), full) {
            (LANES, true) => tiles_of::<V, P, N, LANES, true>(simd, products, multipliers, target),
            (LANES, false) => tiles_of::<V, P, N, LANES, false>(simd, products, multipliers, target),
            (HALF, _) if V::MAX_BLOCKS == 1 => tiles_of::<V, P, N, HALF, false>(simd, products, multipliers, target),
            _ => tiles_of::<V, P, N, 0, false>(simd, products, multipliers, target),
        }
    }
}

/// # Safety
/// There are at least `P` pixels; [`Target::fitting`] has been asked for them and for `N`, and `BYTES` is its answer, or 0.
#[inline(always)]
unsafe fn tiles_of<V: Simd, const P: usize, const N: usize, const BYTES: usize, const FULL: bool>(
    simd: V,
    products: &impl Products<V, N>,
    multipliers: &[[f32; LANES]; N],
    mut target: Target,
) {
    let (mut start, last) = (0, products.pixels() - P);
    loop {
        // SAFETY: `start` is at most `last`.
        let sums = unsafe { products.sums::<P>(simd, start) };
        for (n, multipliers) in multipliers.iter().enumerate() {
            let mut block = [sums[0][n]; P];
            for (block, sums) in block.iter_mut().zip(&sums) {
                *block = sums[n];
            }
            // SAFETY: pixels `start` to `start + P - 1`, as the caller has asked.
            unsafe { target.put::<V, P, BYTES, FULL>(simd, (start, n), block, multipliers) };
        }
        if start == last {
            break;
        }
        start = (start + P).min(last);
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
    if sums.is_empty() {
        return;
    }
    // SAFETY: pixels `0` to `sums.len() - 1`, for which it is asked here.
    unsafe {
        if target.fitting::<1>(sums.len()) == LANES {
            for p in (0..fours).step_by(4) {
                let sums = [whole(p), whole(p + 1), whole(p + 2), whole(p + 3)];
                target.put::<V, 4, LANES, false>(simd, (p, 0), sums, multipliers);
            }
            for p in fours..sums.len() {
                target.put::<V, 1, LANES, false>(simd, (p, 0), [whole(p)], multipliers);
            }
        } else {
            for p in 0..sums.len() {
                target.put::<V, 1, 0, false>(simd, (p, 0), [whole(p)], multipliers);
            }
        }
    }
}
