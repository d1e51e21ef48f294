//! Images laid out as lines, so that a convolution is a sum of shifted lines and nothing has to be unfolded. Enters: activations
//! `N C H W`. Leaves: for each channel one line of all images of a group, with the padding between rows and images, and where each
//! tap finds what it reads. Refuses nothing.
//!
//! A position stands for an output pixel: position `image * plane + y * row + x`. Tap `(r, s)` reads the line so many places
//! further on, the same for all positions. A row's padding on the right is that of the next row on the left. Between the rows of
//! positions lie some that are no pixel; what is computed for them is not read. With a stride of 2 a channel
//! has a line for each of even and odd rows and columns that taps read.

use super::conv::Geometry;
use super::simd::simd;
use exporter::network::Window;

/// Positions that are computed together at least; lines are read up to the next multiple.
pub(super) const BLOCK: usize = 16;

/// Where things lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Input pixels, output pixels.
    input: [usize; 2],
    output: [usize; 2],
    stride: [usize; 2],
    /// Lines of a channel in either direction: as many as the stride, or one if all taps read the same.
    phases: [usize; 2],
    padding: [usize; 2],
    /// From one row of positions to the next.
    pub(super) row: usize,
    /// From one image to the next.
    pub(super) plane: usize,
    /// From one line of a channel to the next.
    line: usize,
    /// Where each tap of position 0 reads, from the channel's first line on, row by row.
    taps: Vec<usize>,
}

impl Layout {
    /// Of so many images.
    pub(super) fn new(g: &Geometry, images: usize) -> Self {
        let ([h, w], [oh, ow]) = (g.input, g.output);
        let Window { kernel: [r, s], stride, padding: [top, left, ..], dilation } = g.window;
        // What is between neighbours for one axis: outputs and their taps, or outputs and pixels with one padding between them.
        let pitch = |size: usize, out: usize, kernel: usize, stride: usize, pad: usize, dilation: usize| {
            let reach = (kernel - 1) * dilation / stride;
            if stride == 1 { (pad + size).max((out + reach).saturating_sub(pad)).max(out) } else { out + reach }
        };
        let rows = pitch(h, oh, r, stride[0], top, dilation[0]);
        let row = pitch(w, ow, s, stride[1], left, dilation[1]);
        let plane = rows * row;
        let reach = (r - 1) * dilation[0] / stride[0] * row + (s - 1) * dilation[1] / stride[1];
        let line = (images * plane).next_multiple_of(BLOCK) + reach;
        let phases = [(r, 0), (s, 1)].map(|(kernel, axis)| {
            if kernel == 1 || dilation[axis].is_multiple_of(stride[axis]) { 1 } else { stride[axis] }
        });
        let tap = |i: usize| {
            let [y, x] = [i / s * dilation[0], i % s * dilation[1]];
            (y % stride[0] * phases[1] + x % stride[1]) * line + y / stride[0] * row + x / stride[1]
        };
        let taps = (0..r * s).map(tap).collect();
        Self { input: g.input, output: g.output, stride, phases, padding: [top, left], row, plane, line, taps }
    }

    /// From one channel to the next.
    pub(super) fn channel(&self) -> usize {
        self.phases[0] * self.phases[1] * self.line
    }

    /// Where all taps of all of `c` channels read.
    pub(super) fn reads(&self, c: usize) -> Vec<usize> {
        (0..c).flat_map(|c| self.taps.iter().map(move |tap| c * self.channel() + tap)).collect()
    }

    /// Positions of so many images, up to a whole block.
    pub(super) fn positions(&self, images: usize) -> usize {
        let [oh, ow] = self.output;
        ((images - 1) * self.plane + (oh - 1) * self.row + ow).next_multiple_of(BLOCK)
    }

    /// Puts one image of a group into its lines; what lies around it is 0 in new lines and stays so.
    pub(super) fn fill(&self, image: usize, x: &[f32], lines: &mut [f32]) {
        let planes = x.chunks_exact(self.input[0] * self.input[1]);
        for (plane, lines) in planes.zip(lines.chunks_exact_mut(self.channel())) {
            fill_channel(self, plane, &mut lines[image * self.plane..]);
        }
    }
}

/// The pixels of one axis that lie in one phase: the first one, its place there, and how many there are.
#[derive(Clone, Copy)]
struct Phase {
    first: usize,
    at: usize,
    count: usize,
}

impl Layout {
    /// What taps read of `size` pixels in places up to `places`.
    fn phase(&self, axis: usize, phase: usize, places: usize) -> Phase {
        let (stride, pad) = (self.stride[axis], self.padding[axis]);
        let first = (phase + stride - pad % stride) % stride;
        let at = (first + pad) / stride;
        let count = self.input[axis].saturating_sub(first).div_ceil(stride).min(places.saturating_sub(at));
        Phase { first, at, count }
    }
}

simd! {
    fn fill_channel<'a>(layout: &'a Layout, plane: &'a [f32], lines: &'a mut [f32]) {
        let ([_, w], [sy, sx]) = (layout.input, layout.stride);
        for py in 0..layout.phases[0] {
            let rows = layout.phase(0, py, layout.plane / layout.row);
            for px in 0..layout.phases[1] {
                let columns = layout.phase(1, px, layout.row);
                let start = (py * layout.phases[1] + px) * layout.line + rows.at * layout.row + columns.at;
                for i in 0..rows.count {
                    let from = &plane[(rows.first + i * sy) * w..][..w];
                    let to = &mut lines[start + i * layout.row..][..columns.count];
                    match sx {
                        1 => copy(to, from),
                        2 => every_second(to, &from[columns.first..]),
                        _ => to.iter_mut().zip(from.iter().skip(columns.first).step_by(sx)).for_each(|(to, v)| *to = *v),
                    }
                }
            }
        }
    }
}

/// Elements 0, 2, 4, ... of a slice that may end behind the last of them.
#[inline(always)]
fn every_second(to: &mut [f32], from: &[f32]) {
    let pairs = from.chunks_exact(2);
    if let ([last], true) = (pairs.remainder(), to.len() > pairs.len()) {
        to[from.len() / 2] = *last;
    }
    for (to, pair) in to.iter_mut().zip(pairs) {
        *to = pair[0];
    }
}

/// Copies a row, without a call where it is of a usual length.
#[inline(always)]
pub(super) fn copy(to: &mut [f32], from: &[f32]) {
    #[inline(always)]
    fn short<const N: usize>(to: &mut [f32], from: &[f32]) {
        let from: [f32; N] = from.try_into().expect("the length was looked at");
        to.copy_from_slice(&from);
    }
    match from.len() {
        4 => short::<4>(to, from),
        8 => short::<8>(to, from),
        16 => short::<16>(to, from),
        32 => short::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}
