//! The plain meaning: pixel by pixel.

use super::{Cell, Place};

pub(super) fn run(place: Place, table: Option<&[u8; 256]>, x: &[Cell<u8>], y: &[Cell<u8>]) {
    for (x, y) in x.chunks_exact(place.channels).zip(y.chunks_exact(place.out_channels)) {
        for (x, y) in x.iter().zip(&y[place.first..]) {
            y.set(table.map_or(x.get(), |table| table[usize::from(x.get())]));
        }
    }
}
