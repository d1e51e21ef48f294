//! What the inner loops compute, in plain Rust: for hosts, where the kernels around them are tested.

use super::{Depthwise, ELEMENT};
use crate::{
    image::Weights,
    kernels::{
        columns::Rows,
        raw::{Raw, Source, Tile},
    },
};
use core::ops::Range;

/// The instructions of a Cortex-M0 or M3.
#[derive(Debug)]
pub(in crate::kernels) struct Model;

impl Raw for Model {
    const ELEMENT: usize = ELEMENT;

    fn signed(_: &Weights) -> bool {
        false
    }

    fn fill(columns: &mut [u8], len: usize, pixels: Range<usize>, value: u8) {
        for element in columns[..ELEMENT * len].chunks_exact_mut(ELEMENT) {
            pixels.clone().for_each(|p| element[2 * p] = value);
        }
    }

    fn copy(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]) {
        for (i, total) in totals.iter_mut().enumerate() {
            for row in 0..rows.rows {
                for (j, byte) in rows.bytes[i * source.step + row * rows.step..][..rows.run].iter().enumerate() {
                    let element = byte ^ source.flip;
                    columns[ELEMENT * (source.at + row * rows.to_step + j) + 2 * (source.pixel + i)] = element;
                    *total += i32::from(element);
                }
            }
        }
    }

    fn total(weights: &Weights, k: usize, len: usize) -> i32 {
        (0..len).map(|i| weights.get(k, len, i)).sum()
    }

    fn tile(tile: &Tile, y: &mut [u8]) {
        tile.plainly(y, |p, i| tile.columns[ELEMENT * i + 2 * p].into());
    }
}

impl Depthwise for Model {
    const LANES: usize = 1;
    const PARTIAL: bool = true;
}
