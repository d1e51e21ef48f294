//! Where simulation and device part ways: the ladder float -> BatchNorm folded -> simulated -> integer on the host ->
//! integer on the emulated board, on the same images. Enters: the float network, its quantized form, its flash image, a
//! data set. Leaves: a [`report::Report`]. Refused: what any executor refuses.

mod ladder;
mod layers;
pub(crate) mod report;
mod statistics;

pub(crate) use ladder::{Emulated, Ladder, Limits};
