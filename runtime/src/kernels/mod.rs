//! One folder for each op. Enters: the op's constants and the bytes of its inputs. Leaves: the bytes of its output.
//! Refuses nothing: [`Image::check`](crate::image::Image::check) has refused whatever does not fit together.

use crate::image::repr::{OpKind, TensorRepr};

/// Columns of a convolution that are worked on at once when the scratch holds them.
pub const COLUMNS: u32 = 2;

/// Whether a convolution works channel by channel, with weights in the layout `R S C`.
pub const fn is_depthwise(groups: u16, in_channels: u16, out_channels: u16) -> bool {
    groups == in_channels && groups == out_channels
}

/// Bytes of a column: the inputs of one output pixel of one group, `R S C/groups`, an i16 each. 0 for ops without columns.
pub fn column_bytes(kind: &OpKind, input: &TensorRepr, output: &TensorRepr) -> u64 {
    match *kind {
        OpKind::Conv2d { window, groups, .. } if !is_depthwise(groups, input.shape[2], output.shape[2]) => {
            let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
            2 * taps * u64::from(input.shape[2] / groups.max(1))
        }
        _ => 0,
    }
}

/// Bytes of scratch that an op is best given: [`COLUMNS`] columns for a convolution that is not depthwise, else none. The
/// least that it must be given is one column.
pub fn scratch_bytes(kind: &OpKind, input: &TensorRepr, output: &TensorRepr) -> u64 {
    u64::from(COLUMNS) * column_bytes(kind, input, output)
}
