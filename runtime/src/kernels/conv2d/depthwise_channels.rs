//! The same integers for a depthwise convolution on a Cortex-M: a block of neighbouring channels at a time, with weights that were
//! widened once, less their zero points, into the scratch. Where blocks are whole, the last is laid over the one before it when
//! channels are left over.

use super::{Conv2d, Input, Output, reference};
use crate::{
    arith::{Requantize, Requantizer},
    kernels::{
        channels::{Channels, Depthwise, places},
        columns::{Finish, halves},
    },
};

/// Needs the channels of a block where blocks are whole, and the scratch that [`scratch_bytes`](crate::kernels::scratch_bytes) says,
/// at a multiple of 4; without them the reference runs.
#[inline(never)]
pub(super) fn run<D: Depthwise>(conv: &Conv2d, x: Input, y: Output, scratch: &mut [u8]) {
    let [_, w, channels] = x.shape;
    let [_, out_w, _] = y.shape;
    let taps = conv.window.kernel[0] * conv.window.kernel[1];
    let len = taps * places(channels, D::LANES);
    let Some(widened) = halves(scratch).get_mut(..len).filter(|_| D::PARTIAL || channels >= D::LANES) else {
        return reference::run(conv, x, y);
    };
    let unprepared = if conv.prepared { 0 } else { len };
    for (block, widened) in widened[..unprepared].chunks_mut(taps * D::LANES).enumerate() {
        let first = D::LANES * block;
        let first = if D::PARTIAL { first } else { first.min(channels - D::LANES) };
        D::prepare(&conv.weights, channels, first, D::LANES.min(channels - first), widened);
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

struct Run<'a> {
    conv: &'a Conv2d<'a>,
    x: Input<'a>,
    y: Output<'a>,
    widened: &'a [i16],
}

impl Run<'_> {
    /// `count` output pixels, whose windows have the same columns inside the image.
    fn pixels<D: Depthwise>(&mut self, [oy, ox]: [usize; 2], count: usize) {
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
            weights: &[],
            kernel: window.kernel,
            channel: 0,
            lanes: D::LANES,
            blocks: channels / D::LANES,
            bias: weights.bias,
            multipliers: weights.multipliers,
            finish,
            count,
            out_step: channels,
        };
        let (whole, rest) = (work.blocks, channels % D::LANES);
        if whole > 0 {
            work.weights = &widened[first_tap * D::LANES..];
            D::channels(&work, out);
        }
        if rest > 0 {
            work.lanes = if D::PARTIAL { rest } else { D::LANES };
            work.channel = channels - work.lanes;
            work.x = &x_bytes[work.channel..];
            let block = whole * window.kernel[0] * window.kernel[1] * D::LANES;
            work.weights = &widened[block + first_tap * places(work.lanes, D::LANES)..];
            work.blocks = 1;
            D::channels(&work, &mut out[work.channel..]);
        }
    }
}
