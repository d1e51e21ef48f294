//! The same integers for a depthwise convolution, with the DSP instructions: four neighbouring channels at a time, with
//! weights that were widened once, less their zero points, into the scratch. The last block of channels is laid over the one
//! before it when there are no whole four left.

use super::{Conv2d, Input, Output, reference};
use crate::{
    arith::{Requantize, Requantizer},
    kernels::{
        columns::{Finish, words},
        dsp::{Channels, Dsp},
    },
};

/// Channels in a block.
const BLOCK: usize = 4;

/// Needs four channels, and the scratch that [`scratch_bytes`](crate::kernels::scratch_bytes) says, at a multiple of 4;
/// without them the reference runs.
pub(super) fn run<D: Dsp>(conv: &Conv2d, x: Input, y: Output, scratch: &mut [u8]) {
    let [_, w, channels] = x.shape;
    let [_, out_w, _] = y.shape;
    let taps = conv.window.kernel[0] * conv.window.kernel[1];
    let widened = words(scratch);
    let Some(widened) = widened.get_mut(..taps * channels.div_ceil(BLOCK)).filter(|_| channels >= BLOCK) else {
        return reference::run(conv, x, y);
    };
    for (block, widened) in widened.chunks_exact_mut(taps).enumerate() {
        widen::<D>(conv, (BLOCK * block).min(channels - BLOCK), channels, widened);
    }
    let inside = conv.window.inside(1, w, out_w);
    let mut run = Run { conv, x, y, widened };
    for oy in 0..run.y.shape[0] {
        (0..inside.start).chain(inside.end..out_w).for_each(|ox| run.pixels::<D>([oy, ox], 1));
        if !inside.is_empty() {
            run.pixels::<D>([oy, inside.start], inside.len());
        }
    }
}

/// `w - zw` of four channels, tap by tap: channels 0 and 2, channels 1 and 3.
fn widen<D: Dsp>(conv: &Conv2d, first: usize, channels: usize, widened: &mut [[u32; 2]]) {
    let weights = &conv.weights;
    let zero_points = [0, 1, 2, 3].map(|c| weights.zero_point(first + c));
    if weights.bits == 8 {
        return D::widen_weights(&weights.data[first..], channels, weights.signed, zero_points, widened);
    }
    // Packed weights are read one by one; there are few of them.
    for (tap, words) in widened.iter_mut().enumerate() {
        let half = |c: usize| (weights.get(tap, channels, first + c) - zero_points[c]) as u16;
        *words = [0, 1].map(|c| u32::from(half(c)) | u32::from(half(c + 2)) << 16);
    }
}

struct Run<'a> {
    conv: &'a Conv2d<'a>,
    x: Input<'a>,
    y: Output<'a>,
    widened: &'a [[u32; 2]],
}

impl Run<'_> {
    /// `count` output pixels, whose windows have the same columns inside the image.
    fn pixels<D: Dsp>(&mut self, [oy, ox]: [usize; 2], count: usize) {
        let Self { conv: Conv2d { window, weights, .. }, x, y, widened } = self;
        let [h, w, channels] = x.shape;
        let out = &mut y.bytes[(oy * y.shape[1] + ox) * channels..];
        let finish = Finish { zero_point: y.zero_point, clamp: y.clamp };
        let (rows, taps) = (window.taps(0, oy, h), window.taps(1, ox, w));
        if rows.is_empty() || taps.is_empty() {
            for out in out.chunks_mut(channels).take(count) {
                for (k, out) in out.iter_mut().enumerate() {
                    let requantizer = Requantizer::new(weights.multipliers.f32(k), finish.zero_point, finish.clamp);
                    *out = requantizer.apply(weights.bias.i32(k)) as u8;
                }
            }
            return;
        }
        let iy = oy * window.stride[0] + rows.start * window.dilation[0] - window.padding[0];
        let ix = ox * window.stride[1] + taps.start * window.dilation[1] - window.padding[1];
        let (x_bytes, first_tap) = (&x.bytes[(iy * w + ix) * channels..], rows.start * window.kernel[1] + taps.start);
        let mut work = Channels {
            x: x_bytes,
            signed: x.signed,
            zero_point: x.zero_point,
            step: window.stride[1] * channels,
            taps: [rows.len(), taps.len()],
            tap_steps: [window.dilation[0] * w * channels, window.dilation[1] * channels],
            weights: &widened[first_tap..],
            kernel: window.kernel,
            channel: 0,
            blocks: channels / BLOCK,
            bias: weights.bias,
            multipliers: weights.multipliers,
            finish,
            count,
            out_step: channels,
        };
        D::channels(&work, out);
        if !channels.is_multiple_of(BLOCK) {
            work.channel = channels - BLOCK;
            work.x = &x_bytes[work.channel..];
            work.weights = &widened[work.blocks * window.kernel[0] * window.kernel[1] + first_tap..];
            work.blocks = 1;
            D::channels(&work, &mut out[work.channel..]);
        }
    }
}
