//! The same integers, faster: the inputs of an output pixel are gathered once, as `x - zx` in i16, into a column of the
//! scratch (0 where the window leaves the image), and then multiplied with every row of the weights:
//! `acc = bias[k] + sum column * w - zw[k] * sum column`.

use super::{Conv2d, Input, Output};
use crate::{
    arith::Requantize,
    kernels::{
        COLUMNS,
        dot::{self, Centre},
    },
};

/// One element of a column: an i16 as bytes.
type Element = [u8; 2];

pub(super) fn run(conv: &Conv2d, x: Input, mut y: Output, scratch: &mut [u8]) {
    let [_, out_w, out_channels] = y.shape;
    let len = conv.window.kernel[0] * conv.window.kernel[1] * (x.shape[2] / conv.groups);
    let (columns, _) = scratch.as_chunks_mut();
    let at_once = (columns.len() / len).min(COLUMNS as usize);
    let pixels = y.bytes.len() / out_channels;
    for group in 0..conv.groups {
        let mut pixel = 0;
        while pixel < pixels {
            let count = at_once.min(pixels - pixel);
            for (p, column) in columns.chunks_exact_mut(len).take(count).enumerate() {
                gather(conv, &x, group, [(pixel + p) / out_w, (pixel + p) % out_w], column);
            }
            let (first, rest) = columns.split_at(len);
            match count {
                2 => multiply(conv, group, pixel, [first, &rest[..len]], &mut y),
                _ => multiply(conv, group, pixel, [first], &mut y),
            }
            pixel += count;
        }
    }
}

/// Fills a column with the inputs of the output pixel at `[oy, ox]`.
fn gather(conv: &Conv2d, x: &Input, group: usize, [oy, ox]: [usize; 2], column: &mut [Element]) {
    let [h, w, channels] = x.shape;
    let window = &conv.window;
    let in_group = channels / conv.groups;
    let centre = Centre::new(x.signed, x.zero_point);
    let (rows, taps) = (window.taps(0, oy, h), window.taps(1, ox, w));
    let row_len = window.kernel[1] * in_group;
    for (r, row) in column.chunks_exact_mut(row_len).enumerate() {
        if !rows.contains(&r) || taps.is_empty() {
            row.fill([0; 2]);
            continue;
        }
        let start = |tap: usize| {
            let iy = oy * window.stride[0] + r * window.dilation[0] - window.padding[0];
            let ix = ox * window.stride[1] + tap * window.dilation[1] - window.padding[1];
            (iy * w + ix) * channels + group * in_group
        };
        let (left, inside) = row.split_at_mut(taps.start * in_group);
        let (inside, right) = inside.split_at_mut(taps.len() * in_group);
        left.fill([0; 2]);
        right.fill([0; 2]);
        // Neighbouring taps of all channels lie side by side, and are one run.
        let run = if window.dilation[1] == 1 && conv.groups == 1 { inside.len() } else { in_group };
        for (i, inside) in inside.chunks_exact_mut(run).enumerate() {
            let start = start(taps.start + i);
            for (element, &byte) in inside.iter_mut().zip(&x.bytes[start..start + run]) {
                *element = (centre.value(byte) as i16).to_le_bytes();
            }
        }
    }
}

/// Writes the output channels of one group, for output pixels `pixel ..`, one for each column.
fn multiply<const P: usize>(conv: &Conv2d, group: usize, pixel: usize, columns: [&[Element]; P], y: &mut Output) {
    let weights = &conv.weights;
    let channels = y.shape[2];
    let out_group = channels / conv.groups;
    // Wrapping, like the sums: only their difference is known to stay within i32.
    let total = |column: &[Element]| {
        column.iter().fold(0i32, |sum, &element| sum.wrapping_add(i16::from_le_bytes(element).into()))
    };
    let totals = columns.map(total);
    dot::for_each_row(columns, (), weights, group * out_group..(group + 1) * out_group, |p, k, sum| {
        let acc = weights.bias.i32(k).wrapping_add(sum).wrapping_sub(weights.zero_point(k).wrapping_mul(totals[p]));
        y.bytes[(pixel + p) * channels + k] = y.requantizer(weights.multipliers.f32(k)).apply(acc) as u8;
    });
}
