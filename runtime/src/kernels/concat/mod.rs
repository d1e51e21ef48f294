//! ONNX Concat along the channels, on integers. Enters: inputs of one height and width, each with its own encoding. Leaves:
//! their channels one after the other, in one encoding. A kernel call places one input.

mod reference;

use core::cell::Cell;

/// Where the channels of an input go.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Channels of the input.
    pub channels: usize,
    /// Channel of the output that the input's first one becomes.
    pub first: usize,
    /// Channels of the output.
    pub out_channels: usize,
}

/// Writes one input's channels of every pixel, each byte looked up in `table`, or as it is when there is no table.
pub fn run(place: Place, table: Option<&[u8; 256]>, x: &[Cell<u8>], y: &[Cell<u8>]) {
    reference::run(place, table, x, y);
}
