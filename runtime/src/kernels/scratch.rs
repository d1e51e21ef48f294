//! How much scratch an op is given. Enters: the op and its tensors, before there is an image. Leaves: bytes of arena.

use crate::image::repr::{OpKind, TensorRepr};

/// Columns that a convolution works on at once, if the scratch holds them.
pub const COLUMNS: u32 = 2;

/// Whether a convolution works channel by channel, with weights in the layout `R S C`.
pub(crate) const fn is_depthwise(groups: u16, in_channels: u16, out_channels: u16) -> bool {
    groups == in_channels && groups == out_channels
}

/// Least scratch of an op: for a convolution that is not depthwise one column, that is the inputs of one output pixel in
/// one group, `R S C/groups`, an i16 each. 0 for all others.
pub fn column_bytes(kind: &OpKind, input: &TensorRepr, output: &TensorRepr) -> u64 {
    match *kind {
        OpKind::Conv2d { window, groups, .. } if !is_depthwise(groups, input.shape[2], output.shape[2]) => {
            let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
            2 * taps * u64::from(input.shape[2] / groups.max(1))
        }
        _ => 0,
    }
}

/// Scratch that an op is best given, for the kernels of a Cortex-M; portable ones use [`COLUMNS`]
/// columns of it. For a depthwise convolution the weights as i16, in blocks of four channels. For any other four columns, each
/// filled up to whole 32-bit words of weights, and a copy of a window if a tap has not whole words of weights; or four
/// columns without that and a word for each output channel, if that is more.
pub fn scratch_bytes(kind: &OpKind, input: &TensorRepr, output: &TensorRepr) -> u64 {
    let OpKind::Conv2d { window, groups, weights } = kind else { return 0 };
    let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
    if is_depthwise(*groups, input.shape[2], output.shape[2]) {
        return taps * 8 * u64::from(input.shape[2]).div_ceil(4);
    }
    let (in_group, word) = (u64::from(input.shape[2] / (*groups).max(1)), 32 / u64::from(weights.bits.max(1)));
    let padded = (taps * in_group).next_multiple_of(word);
    let dsp = 8 * padded + if in_group.is_multiple_of(word) { 0 } else { padded };
    let len = (taps * in_group).next_multiple_of(8 / u64::from(weights.bits.max(1)));
    dsp.max(4 * u64::from(output.shape[2]) + 8 * len)
}
