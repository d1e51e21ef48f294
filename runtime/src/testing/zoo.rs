//! One image with every op in it, and one with as little as can be.

use super::{Builder, Draw, Encoding, Layer};
use crate::image::repr::{OpKind, WindowRepr};

/// A 9 x 8 RGB classifier of 5 classes that runs every op, every weight width, grouped and depthwise convolutions, a
/// concat with and without a table, a gate, a Softmax, and an Add and a Lookup that write over their input.
pub fn zoo() -> Vec<u8> {
    zoo_builder().finish()
}

/// [`zoo`] with its weights packed for every executor.
pub fn zoo_packed() -> Vec<u8> {
    crate::host::pack(&zoo(), &crate::host::Packing::ALL).expect("the zoo is sound")
}

/// [`zoo`], still open to spoiling.
pub fn zoo_builder() -> Builder {
    let draw = &mut Draw::new(1);
    let u8s = |zero_point| Encoding { bits: 8, signed: false, scale: 0.05, zero_point };
    let window = |kernel, stride, padding| WindowRepr {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [1; 2],
    };
    let input = Encoding { bits: 8, signed: true, scale: 0.02, zero_point: -3 };
    let mut b = Builder::new([9, 8, 3], input);
    b.header.labels = b.data("ant\nbee\ncoati\ndingo\neläin\n".as_bytes());

    let conv = |b: &mut Builder, draw: &mut Draw, x: u32, y: (u16, Encoding), window: WindowRepr, groups: u16, bits| {
        let from = b.tensors[x as usize];
        let extent = |axis: usize| {
            let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
            (from.shape[axis] + window.padding[axis] + window.padding[axis + 2] - reach) / window.stride[axis] + 1
        };
        let encoding =
            Encoding { bits: from.bits, signed: from.signed, scale: from.scale, zero_point: from.zero_point };
        let taps = window.kernel[0] * window.kernel[1] * (from.shape[2] / groups);
        let layer = lively(draw, encoding, bits, y.0.into(), taps.into());
        let to = b.tensor([extent(0), extent(1), y.0], y.1);
        b.conv2d(window, groups, &layer, [x, to], y.1.whole());
        to
    };
    let stem = conv(&mut b, draw, 0, (8, u8s(0)), window(3, 1, 1), 1, 8);
    let depthwise = conv(&mut b, draw, stem, (8, u8s(12)), window(3, 1, 1), 8, 4);
    let dilated = WindowRepr { dilation: [2, 1], padding: [2, 1, 2, 1], ..window(3, 1, 1) };
    let grouped = conv(&mut b, draw, stem, (8, u8s(200)), dilated, 4, 2);

    // Writes over the grouped convolution's output, the last time that is read.
    let sum = b.tensor([9, 8, 8], u8s(100));
    b.tensors[sum as usize].offset = b.tensors[grouped as usize].offset;
    b.op(OpKind::Add { multipliers: [3_000_001, 2_222_222], shift: 22 }, &[depthwise, grouped], sum, [100, 255]);

    let half = |x: u16| (x - 2) / 2 + 1;
    let pooled = b.tensor([half(9), half(8), 8], u8s(100));
    b.op(OpKind::MaxPool { window: window(2, 2, 0) }, &[sum], pooled, u8s(100).whole());
    let averaged = b.tensor([half(9), half(8), 8], Encoding { bits: 4, signed: true, scale: 0.7, zero_point: -1 });
    let multipliers = b.f32s(&[0.09, 0.045, 0.03, 0.022_5]);
    b.op(OpKind::AveragePool { window: window(2, 2, 0), multipliers }, &[sum], averaged, [-8, 7]);

    let table = b.data(&(0..=255u8).map(|byte| (i32::from(byte as i8).clamp(-8, 7) + 100) as u8).collect::<Vec<_>>());
    let joined = b.tensor([half(9), half(8), 16], u8s(100));
    let tables = b.i32s(&[0, 0, table.offset as i32, table.len as i32]);
    b.op(OpKind::Concat { tables }, &[pooled, averaged], joined, u8s(100).whole());

    let clipped = b.tensor([half(9), half(8), 16], u8s(90));
    b.tensors[clipped as usize].offset = b.tensors[joined as usize].offset;
    let table = b.data(&(0..=255u8).map(|byte| byte.clamp(90, 220)).collect::<Vec<_>>());
    b.op(OpKind::Lookup { table }, &[joined], clipped, [90, 220]);

    let pointwise = conv(&mut b, draw, clipped, (6, u8s(3)), window(1, 1, 0), 1, 4);
    let mean = b.tensor([1, 1, 6], u8s(0));
    b.op(OpKind::GlobalAveragePool { multiplier: 0.083_1 }, &[pointwise], mean, u8s(0).whole());

    // Each channel multiplied by its mean, then a row above and two columns on the right.
    let gated = b.tensor([half(9), half(8), 6], u8s(9));
    b.op(OpKind::Mul { multiplier: 0.021_3 }, &[pointwise, mean], gated, [2, 251]);
    let padded = b.tensor([half(9) + 1, half(8) + 2, 6], u8s(9));
    b.op(OpKind::Pad { padding: [1, 0, 0, 2] }, &[gated], padded, u8s(9).whole());

    let flat = b.tensor([1, 1, (half(9) + 1) * (half(8) + 2) * 6], u8s(9));
    b.tensors[flat as usize].offset = b.tensors[padded as usize].offset;
    b.op(OpKind::Reshape, &[padded], flat, u8s(9).whole());
    let (left, right) = (b.tensor([1, 1, 5], u8s(128)), b.tensor([1, 1, 5], u8s(120)));
    for (x, y) in [(flat, left), (mean, right)] {
        let len = b.tensors[x as usize].bytes as usize;
        let layer = lively(draw, u8s(b.tensors[x as usize].zero_point), 8, 5, len);
        b.dense(&layer, [x, y], [0, 255]);
    }
    let logits = b.tensor([1, 1, 5], Encoding { bits: 8, signed: true, scale: 0.1, zero_point: 0 });
    b.op(OpKind::Add { multipliers: [1 << 21, 1 << 20], shift: 21 }, &[left, right], logits, [-128, 127]);

    // A table that falls by a 64th at each step, in integers, so that no library's exponential is in the seed.
    let powers = core::iter::successors(Some(1i32 << 30), |power| Some(power - power / 64));
    let table = b.i32s(&powers.take(256).collect::<Vec<_>>());
    let scores = b.tensor([1, 1, 5], Encoding { bits: 8, signed: false, scale: 1.0 / 256.0, zero_point: 0 });
    b.op(OpKind::Softmax { table, multiplier: 1 << 22, shift: 14 }, &[logits], scores, [0, 255]);
    b
}

/// A layer of weights of that many bits whose output follows its input: small biases, large multipliers, zero points near
/// the middle of the weights. Drawn otherwise, layers one behind the other forget the picture.
fn lively(draw: &mut Draw, x: Encoding, bits: u8, channels: usize, taps: usize) -> Layer {
    let mut layer = draw.layer(x, channels, taps);
    while layer.bits != bits {
        layer = draw.layer(x, channels, taps);
    }
    let middle = if layer.signed { 0 } else { 1 << (bits - 1) };
    layer.zero_points.iter_mut().for_each(|zero_point| *zero_point = middle + draw.int(-1..=1));
    layer.bias.iter_mut().for_each(|bias| *bias /= 8);
    layer.multipliers.iter_mut().for_each(|multiplier| *multiplier *= 3.0);
    layer
}

/// About the smallest image there is: two logits out of a 1 x 1 picture of two channels, through one table.
pub fn lookup() -> Vec<u8> {
    lookup_builder().finish()
}

/// [`lookup`], still open to spoiling.
pub fn lookup_builder() -> Builder {
    let x = Encoding { bits: 8, signed: true, scale: 0.5, zero_point: 0 };
    let y = Encoding { bits: 4, signed: false, scale: 0.25, zero_point: 7 };
    let mut b = Builder::new([1, 1, 2], x);
    let to = b.tensor([1, 1, 2], y);
    let table = b.data(&(0..=255u8).map(|byte| byte >> 4).collect::<Vec<_>>());
    b.op(OpKind::Lookup { table }, &[0], to, y.whole());
    b
}
