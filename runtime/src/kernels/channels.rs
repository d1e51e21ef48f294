//! Depthwise convolutions on the cores of a Cortex-M: blocks of neighbouring channels, with weights that were widened once, less their
//! zero points. Enters: runs of output pixels whose windows have the same taps inside the image. Leaves: stored integers. Refuses
//! nothing.
//!
//! The kernel around the inner loops (`conv2d/depthwise_channels.rs`) is written once, for any [`Depthwise`]; on a host its models run,
//! in plain Rust, which is what the methods do that a core does not write anew.

use super::columns::Finish;
#[cfg(intact_cortex_m)]
use super::linked;
use crate::{
    arith::widen,
    image::{Table, Weights},
};

/// Blocks of neighbouring channels, for output pixels in one row of the output whose windows have the same taps inside the image.
#[derive(Clone, Debug)]
pub(in crate::kernels) struct Channels<'a> {
    /// From the first tap of the first pixel on.
    pub(in crate::kernels) x: &'a [u8],
    /// Two's complement?
    pub(in crate::kernels) signed: bool,
    /// `zx`.
    pub(in crate::kernels) zero_point: i32,
    /// Bytes from one output pixel's first tap to the next one's.
    pub(in crate::kernels) step: usize,
    /// Taps inside the image: down, right; at least one of each.
    pub(in crate::kernels) taps: [usize; 2],
    /// Bytes from tap to tap: down, right.
    pub(in crate::kernels) tap_steps: [usize; 2],
    /// `w - zw` of the blocks, from the first tap inside the image on.
    pub(in crate::kernels) weights: &'a [i16],
    /// Taps of the whole window: down, right. So many further on lie the weights of the next block.
    pub(in crate::kernels) kernel: [usize; 2],
    /// The first channel, in these tables.
    pub(in crate::kernels) channel: usize,
    /// Channels of a block.
    pub(in crate::kernels) lanes: usize,
    /// Blocks, at least one; one alone when it has fewer channels than a block may have.
    pub(in crate::kernels) blocks: usize,
    /// Biases.
    pub(in crate::kernels) bias: Table<'a>,
    /// Multipliers.
    pub(in crate::kernels) multipliers: Table<'a>,
    /// To stored integers.
    pub(in crate::kernels) finish: Finish,
    /// Output pixels, at least one.
    pub(in crate::kernels) count: usize,
    /// Bytes from output pixel to output pixel.
    pub(in crate::kernels) out_step: usize,
}

#[cfg(intact_cortex_m)]
impl Channels<'_> {
    /// Bytes of the input from the first tap to behind the last one of the last pixel.
    pub(in crate::kernels) fn reach(&self) -> usize {
        let [down, right] = self.tap_steps;
        let taps = (self.taps[0] - 1) * down + (self.taps[1] - 1) * right;
        (self.count - 1) * self.step + taps + self.lanes * self.blocks
    }

    /// Bytes of the output from the first to the last pixel's last.
    pub(in crate::kernels) fn out_reach(&self) -> usize {
        (self.count - 1) * self.out_step + self.lanes * self.blocks
    }
}

/// Places that a block's weights of one tap take: four are the least that is worth a word, where there may be four.
pub(in crate::kernels) const fn places(lanes: usize, most: usize) -> usize {
    lanes.next_multiple_of(if most < 4 { most } else { 4 })
}

/// The inner loops.
pub(in crate::kernels) trait Depthwise {
    /// Channels of a block.
    const LANES: usize;
    /// Whether the last block may have fewer; else it is laid over the one before it.
    const PARTIAL: bool;

    /// Where among the weights of a tap that of a channel lies.
    fn place(lane: usize) -> usize {
        lane
    }

    /// `w - zw` of the channels from `first` on, in rows of `channels`: for each tap [`places`].
    fn prepare(weights: &Weights, channels: usize, first: usize, lanes: usize, widened: &mut [i16]) {
        for lane in 0..lanes {
            let zero_point = weights.zero_point(first + lane);
            let places = widened[Self::place(lane)..].iter_mut().step_by(places(lanes, Self::LANES));
            if weights.bits == 8 {
                let bytes = weights.data[first + lane..].iter().step_by(channels);
                places.zip(bytes).for_each(|(place, &byte)| *place = (widen(byte, weights.signed) - zero_point) as i16);
            } else {
                let each = places.enumerate();
                each.for_each(|(tap, place)| *place = (weights.get(tap, channels, first + lane) - zero_point) as i16);
            }
        }
    }

    /// All blocks of the output pixels, the first at the start of `y`.
    fn channels(channels: &Channels, y: &mut [u8]) {
        let Channels { lanes, kernel, tap_steps, .. } = *channels;
        let each = places(lanes, Self::LANES);
        for (i, c) in (0..channels.count).flat_map(|i| (0..lanes * channels.blocks).map(move |c| (i, c))) {
            let weights = &channels.weights[c / lanes * each * kernel[0] * kernel[1] + Self::place(c % lanes)..];
            let mut acc = channels.bias.i32(channels.channel + c);
            for r in 0..channels.taps[0] {
                for s in 0..channels.taps[1] {
                    let at = i * channels.step + r * tap_steps[0] + s * tap_steps[1] + c;
                    let value = widen(channels.x[at], channels.signed) - channels.zero_point;
                    acc = acc.wrapping_add(value * i32::from(weights[(r * kernel[1] + s) * each]));
                }
            }
            let m = channels.multipliers.f32(channels.channel + c);
            y[i * channels.out_step + c] = channels.finish.apply(acc, m);
        }
    }
}

/// The loop of an input of that sign, of a pair of them.
#[cfg(intact_cortex_m)]
pub(in crate::kernels) fn of_sign<T>(signed: bool, [of_signed, of_unsigned]: [T; 2]) -> T {
    match signed {
        true if const { linked::linked("from-signed") } => of_signed,
        false if const { linked::linked("from-unsigned") } => of_unsigned,
        _ => linked::absent(),
    }
}
