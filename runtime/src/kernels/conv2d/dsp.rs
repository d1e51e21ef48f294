//! The same integers with the DSP instructions: the inputs of four output pixels are widened into columns of the scratch and
//! multiplied with every row of the weights. Bytes are widened where they lie when each tap has whole groups of channels,
//! else from a copy of the window.

use super::{Conv2d, Input, Output, reference};
use crate::kernels::{
    columns::{Finish, PIXELS, Rows, words},
    dsp::{Dsp, Slot, Source, Tile, group},
};

/// A convolution that is not depthwise, with the places of the scratch.
struct Run<'a> {
    conv: &'a Conv2d<'a>,
    x: Input<'a>,
    source: Source,
    /// Channels of the input in a group.
    in_group: usize,
    columns: &'a mut [Slot],
    /// A copy of a window, when its taps have no whole groups of channels; else empty.
    copy: &'a mut [u8],
}

/// Needs the scratch that [`scratch_bytes`](crate::kernels::scratch_bytes) says, at a multiple of 4, and rows of at least
/// four bytes; without them the reference runs.
#[inline(never)]
pub(super) fn run<D: Dsp>(conv: &Conv2d, x: Input, y: Output, scratch: &mut [u8]) {
    let in_group = x.shape[2] / conv.groups;
    let len = conv.window.kernel[0] * conv.window.kernel[1] * in_group;
    let group = group(conv.weights.bits);
    let padded = len.next_multiple_of(group);
    let copied = if in_group.is_multiple_of(group) { 0 } else { padded };
    let Some((columns, copy)) = scratch.split_at_mut_checked(2 * PIXELS * padded) else {
        return reference::run(conv, x, y);
    };
    let columns: &mut [Slot] = words(columns);
    if columns.len() < padded / 4 || copy.len() < copied || conv.weights.row_bytes(len) < 4 {
        return reference::run(conv, x, y);
    }
    let source = Source { signed: x.signed, zero_point: x.zero_point, bits: conv.weights.bits };
    let copy = &mut copy[..copied];
    copy.fill(x.zero_point as u8);
    Run { conv, x, source, in_group, columns, copy }.pixels::<D>(len, y);
}

impl Run<'_> {
    fn pixels<D: Dsp>(&mut self, len: usize, y: Output) {
        let [out_h, out_w, channels] = y.shape;
        let (pixels, out_group) = (out_h * out_w, channels / self.conv.groups);
        for group in 0..self.conv.groups {
            let mut at = [0, 0];
            for first in (0..pixels).step_by(PIXELS) {
                let count = PIXELS.min(pixels - first);
                for p in 0..count {
                    self.gather::<D>(group, at, p);
                    at[1] += 1;
                    if at[1] == out_w {
                        at = [at[0] + 1, 0];
                    }
                }
                let tile = Tile {
                    columns: self.columns,
                    len,
                    weights: &self.conv.weights,
                    rows: group * out_group..(group + 1) * out_group,
                    starts: [0, 1, 2, 3].map(|p| channels * if p < count { first + p } else { first }),
                    finish: Finish { zero_point: y.zero_point, clamp: y.clamp },
                };
                D::tile(&tile, y.bytes);
            }
        }
    }

    /// Fills column `p` with the inputs of the output pixel at `[oy, ox]`.
    fn gather<D: Dsp>(&mut self, group: usize, [oy, ox]: [usize; 2], p: usize) {
        let [h, w, channels] = self.x.shape;
        let window = &self.conv.window;
        let (rows, taps) = (window.taps(0, oy, h), window.taps(1, ox, w));
        let row_len = window.kernel[1] * self.in_group;
        if rows.len() < window.kernel[0] || taps.len() < window.kernel[1] {
            self.blank(p);
        }
        if !rows.is_empty() && !taps.is_empty() {
            let iy = oy * window.stride[0] + rows.start * window.dilation[0] - window.padding[0];
            let ix = ox * window.stride[1] + taps.start * window.dilation[1] - window.padding[1];
            let mut from = (iy * w + ix) * channels + group * self.in_group;
            let mut to = rows.start * row_len + taps.start * self.in_group;
            let step = window.dilation[0] * w * channels;
            // Neighbouring taps of all channels lie side by side, and are one run.
            if window.dilation[1] == 1 && self.conv.groups == 1 {
                let run = taps.len() * self.in_group;
                let bytes = &self.x.bytes[from..];
                self.put::<D>(Rows { bytes, rows: rows.len(), run, step, to_step: row_len }, to, p);
            } else {
                for _ in rows {
                    let (bytes, tap) = (&self.x.bytes[from..], window.dilation[1] * channels);
                    let (rows, run) = (taps.len(), self.in_group);
                    self.put::<D>(Rows { bytes, rows, run, step: tap, to_step: run }, to, p);
                    from += step;
                    to += row_len;
                }
            }
        }
        if !self.copy.is_empty() {
            let len = self.copy.len();
            D::widen(self.source, Rows { bytes: self.copy, rows: 1, run: len, step: 0, to_step: 0 }, self.columns, p);
        }
    }

    /// Puts rows of bytes into column `p`, from element `to` on, or into the copy.
    fn put<D: Dsp>(&mut self, rows: Rows<'_>, to: usize, p: usize) {
        if self.copy.is_empty() {
            D::widen(self.source, rows, &mut self.columns[to / 4..], p);
        } else {
            D::copy(rows, &mut self.copy[to..]);
        }
    }

    /// Everything outside the image.
    fn blank(&mut self, p: usize) {
        self.copy.fill(self.x.zero_point as u8);
        if self.copy.is_empty() {
            for slot in &mut *self.columns {
                slot[2 * p] = 0;
                slot[2 * p + 1] = 0;
            }
        }
    }
}
