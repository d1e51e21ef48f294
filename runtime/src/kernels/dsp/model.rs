//! What the inner loops compute, in plain Rust: for hosts, where the kernels around them are tested.

use super::{Channels, Dsp, PIXELS, Rows, Slot, Source, Sum, Tile, group};
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

    fn widen_weights(bytes: &[u8], step: usize, signed: bool, zero_points: [i32; 4], widened: &mut [[u32; 2]]) {
        for (i, words) in widened.iter_mut().enumerate() {
            let value = |c: usize| widen(bytes[i * step + c], signed) - zero_points[c];
            *words = [0, 1].map(|c| word(value(c), value(c + 2)));
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

    fn channels(channels: &Channels, y: &mut [u8]) {
        let window = channels.kernel[0] * channels.kernel[1];
        for (i, c) in (0..channels.count).flat_map(|i| (0..4 * channels.blocks).map(move |c| (i, c))) {
            let weights = &channels.weights[c / 4 * window..];
            let mut acc = channels.bias.i32(channels.channel + c);
            for r in 0..channels.taps[0] {
                for s in 0..channels.taps[1] {
                    let at = i * channels.step + r * channels.tap_steps[0] + s * channels.tap_steps[1] + c;
                    let value = widen(channels.x[at], channels.signed) - channels.zero_point;
                    let weight = halves(weights[r * channels.kernel[1] + s][c % 2])[c % 4 / 2];
                    acc = acc.wrapping_add(value * weight);
                }
            }
            let m = channels.multipliers.f32(channels.channel + c);
            y[i * channels.out_step + c] = channels.finish.apply(acc, m);
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
