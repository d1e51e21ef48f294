//! The same integers over columns of raw bytes: the inputs of four output pixels are copied into columns of the scratch and
//! multiplied with every row of the weights.

use super::{Conv2d, Input, Output, reference};
use crate::kernels::{
    columns::{Finish, PIXELS, Rows, words},
    raw::{Raw, Source, Tile},
};

/// A convolution that is not depthwise, with the places of the scratch.
struct Run<'a> {
    conv: &'a Conv2d<'a>,
    x: Input<'a>,
    /// What makes a byte of the input one of the columns' signedness.
    flip: u8,
    /// That signedness.
    signed: bool,
    /// The integer that then stands for 0.0.
    zero_point: i32,
    /// Channels of the input in a group.
    in_group: usize,
    /// Elements of a column.
    len: usize,
    columns: &'a mut [u8],
    constants: &'a mut [[u32; 1]],
}

/// Needs the scratch that [`scratch_bytes`](crate::kernels::scratch_bytes) says, at a multiple of 4; without it the reference runs.
#[inline(never)]
pub(super) fn run<R: Raw>(conv: &Conv2d, x: Input, y: Output, scratch: &mut [u8]) {
    let in_group = x.shape[2] / conv.groups;
    let len = conv.window.kernel[0] * conv.window.kernel[1] * in_group;
    let padded = len.next_multiple_of(8 / usize::from(conv.weights.bits));
    let places = scratch.split_at_mut_checked(4 * y.shape[2]).map(|(constants, columns)| (words(constants), columns));
    let enough = |(constants, columns): &(&mut [[u32; 1]], &mut [u8])| {
        constants.len() == y.shape[2] && columns.len() >= R::ELEMENT * padded
    };
    let Some((constants, columns)) = places.filter(enough) else {
        return reference::run(conv, x, y);
    };
    // What lies behind `len` meets no weight that means something.
    columns.fill(0);
    let signed = R::signed(&conv.weights);
    let (flip, lift) = match (x.signed, signed) {
        (true, false) => (0x80, 128),
        (false, true) => (0x80, -128),
        _ => (0, 0),
    };
    let zero_point = x.zero_point + lift;
    Run { conv, x, flip, signed, zero_point, in_group, len, columns, constants }.pixels::<R>(y);
}

impl Run<'_> {
    fn pixels<R: Raw>(&mut self, y: Output) {
        let [out_h, out_w, channels] = y.shape;
        let weights = &self.conv.weights;
        let unprepared = if self.conv.prepared { 0 } else { channels };
        for (k, constant) in self.constants[..unprepared].iter_mut().enumerate() {
            // Wrapping, like the sums: only their difference is known to stay within i32.
            let zeros = (self.len as i32).wrapping_mul(weights.zero_point(k));
            let product = self.zero_point.wrapping_mul(R::total(weights, k, self.len).wrapping_sub(zeros));
            *constant = [weights.bias.i32(k).wrapping_sub(product) as u32];
        }
        let inside = self.conv.window.inside(1, self.x.shape[1], out_w);
        let (pixels, out_group) = (out_h * out_w, channels / self.conv.groups);
        for group in 0..self.conv.groups {
            let mut at = [0, 0];
            for first in (0..pixels).step_by(PIXELS) {
                let count = PIXELS.min(pixels - first);
                let mut totals = [0; PIXELS];
                let mut p = 0;
                while p < count {
                    // Neighbouring pixels are gathered at once when none of their windows hangs over an end of the row.
                    let alike = if inside.contains(&at[1]) { (inside.end - at[1]).min(count - p) } else { 1 };
                    self.gather::<R>(group, at, p, &mut totals[p..p + alike]);
                    p += alike;
                    at[1] += alike;
                    if at[1] == out_w {
                        at = [at[0] + 1, 0];
                    }
                }
                let tile = Tile {
                    columns: self.columns,
                    len: self.len,
                    count,
                    totals,
                    weights: &self.conv.weights,
                    constants: self.constants,
                    rows: group * out_group..(group + 1) * out_group,
                    starts: [0, 1, 2, 3].map(|p| channels * (first + p)),
                    finish: Finish { zero_point: y.zero_point, clamp: y.clamp },
                };
                R::tile(&tile, y.bytes);
            }
        }
    }

    /// Fills columns from `p` on with the inputs of the output pixels from `[oy, ox]` on, whose windows have the same columns inside
    /// the image, and puts down their sums.
    fn gather<R: Raw>(&mut self, group: usize, [oy, ox]: [usize; 2], p: usize, totals: &mut [i32]) {
        let [h, w, channels] = self.x.shape;
        let window = &self.conv.window;
        let (rows, taps) = (window.taps(0, oy, h), window.taps(1, ox, w));
        let outside = self.len - rows.len() * taps.len() * self.in_group;
        if outside > 0 {
            R::fill(self.columns, self.len, p..p + totals.len(), self.zero_point as u8);
            totals.fill(outside as i32 * self.zero_point);
        }
        if rows.is_empty() || taps.is_empty() {
            return;
        }
        let iy = oy * window.stride[0] + rows.start * window.dilation[0] - window.padding[0];
        let ix = ox * window.stride[1] + taps.start * window.dilation[1] - window.padding[1];
        let mut bytes = &self.x.bytes[(iy * w + ix) * channels + group * self.in_group..];
        let row_len = window.kernel[1] * self.in_group;
        let step = window.dilation[0] * w * channels;
        let mut source = Source {
            flip: self.flip,
            signed: self.signed,
            step: window.stride[1] * channels,
            len: self.len,
            pixel: p,
            at: rows.start * row_len + taps.start * self.in_group,
        };
        // Neighbouring taps of all channels lie side by side, and are one run.
        if window.dilation[1] == 1 && self.conv.groups == 1 {
            let rows = Rows { bytes, rows: rows.len(), run: taps.len() * self.in_group, step, to_step: row_len };
            return R::copy(rows, source, self.columns, totals);
        }
        for i in 0..rows.len() {
            if i > 0 {
                bytes = &bytes[step..];
                source.at += row_len;
            }
            let (run, step) = (self.in_group, window.dilation[1] * channels);
            R::copy(Rows { bytes, rows: taps.len(), run, step, to_step: run }, source, self.columns, totals);
        }
    }
}
