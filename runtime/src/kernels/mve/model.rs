//! What the inner loops compute, in plain Rust: for hosts, where the kernels around them are tested.

use super::{Depthwise, Factors, Mve, Pixel, Sum, signed};
use crate::{
    arith::{Requantize, Requantizer, widen},
    image::Weights,
    kernels::{
        columns::Rows,
        dsp::{self, Dsp},
        raw::{Raw, Source, Tile},
    },
};
use core::{cell::Cell, ops::Range};

/// The vector instructions of a core that has none.
#[derive(Debug)]
pub(in crate::kernels) struct Model;

impl Raw for Model {
    const ELEMENT: usize = 4;

    fn signed(weights: &Weights) -> bool {
        signed(weights)
    }

    fn fill(columns: &mut [u8], len: usize, pixels: Range<usize>, value: u8) {
        columns[pixels.start * len..pixels.end * len].fill(value);
    }

    fn copy(rows: Rows, source: Source, columns: &mut [u8], totals: &mut [i32]) {
        for (i, total) in totals.iter_mut().enumerate() {
            for row in 0..rows.rows {
                let from = &rows.bytes[i * source.step + row * rows.step..][..rows.run];
                let to = (source.pixel + i) * source.len + source.at + row * rows.to_step;
                for (to, from) in columns[to..to + rows.run].iter_mut().zip(from) {
                    *to = from ^ source.flip;
                    *total += widen(*to, source.signed);
                }
            }
        }
    }

    fn total(weights: &Weights, k: usize, len: usize) -> i32 {
        (0..len).map(|i| weights.get(k, len, i)).sum()
    }

    fn tile(tile: &Tile, y: &mut [u8]) {
        tile.plainly(y, |p, i| widen(tile.columns[p * tile.len + i], signed(tile.weights)));
    }
}

impl Depthwise for Model {
    const LANES: usize = 8;
    const PARTIAL: bool = true;
}

impl Mve for Model {
    fn sum(sum: &Sum, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
        dsp::Model::sum(sum, inputs, y);
    }

    fn means(pixel: &Pixel, multiplier: f32, y: &mut [u8]) {
        let requantizer = Requantizer::new(multiplier, pixel.finish.zero_point, pixel.finish.clamp);
        for (channel, y) in y.iter_mut().enumerate() {
            *y = requantizer.apply(pixel.values(channel).map(|value| value - pixel.zero_point).sum()) as u8;
        }
    }

    fn largest(pixel: &Pixel, y: &mut [u8]) {
        let [low, high] = pixel.finish.clamp;
        for (channel, y) in y.iter_mut().enumerate() {
            *y = pixel.values(channel).fold(low, i32::max).min(high) as u8;
        }
    }

    fn dot(factors: &Factors) -> i32 {
        factors.dot()
    }
}
