//! What the inner loops compute, in plain Rust: for hosts, where the kernels around them are tested.

use super::{Depthwise, Dsp, PIXELS, Rows, Slot, Source, Sum, Tile, group};
use crate::arith::widen;
use core::cell::Cell;

/// The DSP instructions of a core that has none.
#[derive(Debug)]
pub(in crate::kernels) struct Model;

/// The two halves of a word.
fn halves(word: u32) -> [i32; 2] {
    [(word as i16).into(), ((word >> 16) as i16).into()]
}

fn word(low: i32, high: i32) -> u32 {
    (low as u32 & 0xffff) | (high as u32) << 16
}

impl Depthwise for Model {
    const LANES: usize = 4;
    const PARTIAL: bool = false;

    fn place(lane: usize) -> usize {
        [0, 2, 1, 3][lane]
    }
}

impl Dsp for Model {
    fn widen(source: Source, rows: Rows, slots: &mut [Slot], pixel: usize) {
        let half = group(source.bits) / 2;
        for row in 0..rows.rows {
            let (bytes, slots) = (&rows.bytes[row * rows.step..][..rows.run], &mut slots[row * rows.to_step / 4..]);
            for (group, bytes) in bytes.chunks_exact(2 * half).enumerate() {
                let value = |i: usize| widen(bytes[i], source.signed) - source.zero_point;
                for j in 0..half {
                    slots[group * half / 2 + j / 2][2 * pixel + j % 2] = word(value(j), value(j + half));
                }
            }
        }
    }

    fn copy(rows: Rows, to: &mut [u8]) {
        for row in 0..rows.rows {
            to[row * rows.to_step..][..rows.run].copy_from_slice(&rows.bytes[row * rows.step..][..rows.run]);
        }
    }

    fn tile(tile: &Tile, y: &mut [u8]) {
        let half = group(tile.weights.bits) / 2;
        for k in tile.rows.clone() {
            // The first pixel last: it may be meant by those that are not there.
            for p in (0..PIXELS).rev() {
                let mut acc = tile.weights.bias.i32(k);
                for i in 0..tile.len {
                    let (group, i_in) = (i / (2 * half), i % (2 * half));
                    let j = i_in % half;
                    let element = halves(tile.columns[group * half / 2 + j / 2][2 * p + j % 2])[i_in / half];
                    let weight = tile.weights.get(k, tile.len, i) - tile.weights.zero_point(k);
                    acc = acc.wrapping_add(element * weight);
                }
                y[tile.starts[p] + k] = tile.finish.apply(acc, tile.weights.multipliers.f32(k));
            }
        }
    }

    fn sum(sum: &Sum, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
        let [low, high] = sum.finish.clamp;
        for ((a, b), y) in a.iter().zip(b).zip(y) {
            let (a, b) = (widen(a.get(), sum.signed[0]), widen(b.get(), sum.signed[1]));
            let (a, b) = (a.wrapping_mul(sum.multipliers[0]), b.wrapping_mul(sum.multipliers[1]));
            let acc = a.wrapping_add(b).wrapping_add(sum.offset);
            let mut q = acc >> sum.shift;
            if acc << (32 - sum.shift) == 0 {
                q &= !1;
            }
            y.set((q + sum.finish.zero_point).clamp(low, high) as u8);
        }
    }
}
