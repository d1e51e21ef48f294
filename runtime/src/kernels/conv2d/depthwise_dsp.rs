//! The same integers for a depthwise convolution, with the DSP instructions: four neighbouring channels at a time, with
//! weights that were widened once, less their zero points, into the scratch. The last block of channels is laid over the one
//! before it when there are no whole four left.

use super::{Conv2d, Input, Output, reference};
use crate::{
    arith::{Requantize, Requantizer},
    kernels::dsp::{self, Channels, Dsp, Finish},
};

/// Channels in a block.
const BLOCK: usize = 4;

/// Needs four channels, and the scratch that [`scratch_bytes`](crate::kernels::scratch_bytes) says, at a multiple of 4;
/// without them the reference runs.
pub(super) fn run<D: Dsp>(conv: &Conv2d, x: Input, y: Output, scratch: &mut [u8]) {
    let [_, w, channels] = x.shape;
    let [_, out_w, _] = y.shape;
    let taps = conv.window.kernel[0] * conv.window.kernel[1];
    let widened = dsp::slots(scratch).as_flattened_mut().as_chunks_mut().0;
    let Some(widened) = widened.get_mut(..taps * channels.div_ceil(BLOCK)).filter(|_| channels >= BLOCK) else {
        return reference::run(conv, x, y);
    };
    let firsts = || (0..channels).step_by(BLOCK).map(|first| first.min(channels - BLOCK));
    for (first, widened) in firsts().zip(widened.chunks_exact_mut(taps)) {
        widen(conv, first, channels, widened);
    }
    // Output pixels whose window has all its columns inside.
    let [stride, dilation, padding, kernel] =
        [conv.window.stride[1], conv.window.dilation[1], conv.window.padding[1], conv.window.kernel[1]];
    let end = (w + padding).checked_sub(dilation * (kernel - 1)).map_or(0, |room| room.div_ceil(stride));
    let start = padding.div_ceil(stride).min(out_w);
    let inside = start..end.clamp(start, out_w);
    let mut run = Run { conv, x, y };
    for oy in 0..run.y.shape[0] {
        for (first, widened) in firsts().zip(widened.chunks_exact(taps)) {
            (0..inside.start).chain(inside.end..out_w).for_each(|ox| run.pixels::<D>([first, oy, ox], 1, widened));
            if !inside.is_empty() {
                run.pixels::<D>([first, oy, inside.start], inside.len(), widened);
            }
        }
    }
}

/// `w - zw` of four channels, tap by tap: channels 0 and 2, channels 1 and 3.
fn widen(conv: &Conv2d, first: usize, channels: usize, widened: &mut [[u32; 2]]) {
    let zero_points = [0, 1, 2, 3].map(|c| conv.weights.zero_point(first + c));
    for (tap, words) in widened.iter_mut().enumerate() {
        let weight = |c: usize| (conv.weights.get(tap, channels, first + c) - zero_points[c]) as u16;
        *words = [0, 1].map(|c| u32::from(weight(c)) | u32::from(weight(c + 2)) << 16);
    }
}

struct Run<'a> {
    conv: &'a Conv2d<'a>,
    x: Input<'a>,
    y: Output<'a>,
}

impl Run<'_> {
    /// Four channels of `count` output pixels, whose windows have the same columns inside the image.
    fn pixels<D: Dsp>(&mut self, [channel, oy, ox]: [usize; 3], count: usize, widened: &[[u32; 2]]) {
        let Self { conv: Conv2d { window, weights, .. }, x, y } = self;
        let [h, w, channels] = x.shape;
        let out = &mut y.bytes[(oy * y.shape[1] + ox) * channels + channel..];
        let finish = Finish { zero_point: y.zero_point, clamp: y.clamp };
        let (rows, taps) = (window.taps(0, oy, h), window.taps(1, ox, w));
        if rows.is_empty() || taps.is_empty() {
            for (k, out) in (channel..).zip(&mut out[..BLOCK]) {
                let requantizer = Requantizer::new(weights.multipliers.f32(k), finish.zero_point, finish.clamp);
                *out = requantizer.apply(weights.bias.i32(k)) as u8;
            }
            return;
        }
        let iy = oy * window.stride[0] + rows.start * window.dilation[0] - window.padding[0];
        let ix = ox * window.stride[1] + taps.start * window.dilation[1] - window.padding[1];
        let channels = Channels {
            x: &x.bytes[(iy * w + ix) * channels + channel..],
            signed: x.signed,
            zero_point: x.zero_point,
            step: window.stride[1] * channels,
            taps: [rows.len(), taps.len()],
            tap_steps: [window.dilation[0] * w * channels, window.dilation[1] * channels],
            weights: &widened[rows.start * window.kernel[1] + taps.start..],
            width: window.kernel[1],
            channel,
            bias: weights.bias,
            multipliers: weights.multipliers,
            finish,
            count,
            out_step: channels,
        };
        D::channels(&channels, out);
    }
}
