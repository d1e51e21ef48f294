//! Every implementation of every op against a third one, written here from the contract alone: on plain integers in ONNX
//! layout, in i64, with the standard library's rounding. Layers are drawn: shapes with tails, zero points and weights at
//! the ends of their limits, scales that are no powers of two, windows that hang over the image.

use crate::{
    Image, Kernels, Session,
    host::{Executor, Isa, Prepared},
    image::{
        ALIGN,
        repr::{OpKind, WindowRepr},
    },
    kernels::lead,
    testing::{Builder, Draw, Encoding, Layer},
};

const KERNELS: [Kernels; 5] = [Kernels::Reference, Kernels::Portable, Kernels::Dsp, Kernels::Mve, Kernels::Thumb];

/// Stored integers, `H W C`.
struct Map {
    shape: [usize; 3],
    values: Vec<i64>,
}

impl Map {
    /// `x - zx` at a position that may be outside the image, where it is 0.
    fn centred(&self, encoding: Encoding, y: i64, x: i64, c: usize) -> i64 {
        let [h, w, channels] = self.shape;
        match (usize::try_from(y), usize::try_from(x)) {
            (Ok(y), Ok(x)) if y < h && x < w => {
                self.values[(y * w + x) * channels + c] - i64::from(encoding.zero_point)
            }
            _ => 0,
        }
    }
}

fn requantize(acc: i64, m: f32, y: Encoding, [low, high]: [i32; 2]) -> i64 {
    let acc = i32::try_from(acc).expect("drawn layers keep within i32");
    ((acc as f32 * m).round_ties_even() as i64 + i64::from(y.zero_point)).clamp(low.into(), high.into())
}

/// Runs the one op of `builder` with each kind of kernels and compares with `expected`; `what` goes into the message. An op
/// with a window is run once more with its output over its input.
#[track_caller]
fn all_give(builder: Builder, x: Encoding, draw: &mut Draw, what: &str, expected: impl Fn(&Map) -> Vec<i64>) {
    let over = over_its_input(builder.clone(), draw);
    let shape = builder.tensors[0].shape.map(usize::from);
    let bytes = draw.stored(x, shape.iter().product());
    let values = bytes.iter().map(|&byte| crate::arith::widen(byte, x.signed).into()).collect();
    let expected = expected(&Map { shape, values });
    for (what, builder) in [(what.to_owned(), Some(builder)), (format!("over its input: {what}"), over)] {
        let Some(file) = builder.map(Builder::finish) else { continue };
        let image = Image::check(&file).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut arena: Vec<u8> = (0..image.arena_bytes()).map(|_| draw.bits() as u8).collect();
        for kernels in KERNELS {
            let mut session = Session::new(image, &mut arena).unwrap().with_kernels(kernels);
            let output = session.run_quantized(&bytes).unwrap();
            for (i, &expected) in expected.iter().enumerate() {
                assert_eq!(i64::from(output.integer(i)), expected, "{kernels:?}, element {i}: {what}");
            }
            assert_eq!(output.len(), expected.len(), "{what}");
        }
        for isa in Isa::all() {
            let mut prepared = Prepared::with(image, Executor::Simd(isa));
            let output = prepared.run_quantized(&bytes).unwrap();
            let values: Vec<i64> = (0..output.len()).map(|i| output.integer(i).into()).collect();
            assert_eq!(values, expected, "{}: {what}", isa.name());
        }
    }
}

/// The same image with the output of its op as little below the input as may be, or by a strip of a few rows; `None` when
/// the op has no window, or that is apart.
fn over_its_input(mut builder: Builder, draw: &mut Draw) -> Option<Builder> {
    let op = &mut builder.ops[0];
    let (OpKind::Conv2d { window, .. } | OpKind::MaxPool { window } | OpKind::AveragePool { window, .. }) = op.kind
    else {
        return None;
    };
    let (x, y) = (builder.tensors[0], builder.tensors[1]);
    let lead = (lead(&window, &x, &y, draw.size(1..=9).into()) as u32).next_multiple_of(ALIGN);
    (builder.tensors[0].offset, builder.tensors[1].offset) = (lead, 0);
    op.scratch.offset = (lead + x.bytes).max(y.bytes).next_multiple_of(ALIGN);
    builder.header.arena_bytes = op.scratch.offset + op.scratch.len;
    (lead < y.bytes).then_some(builder)
}

fn drawn_window(draw: &mut Draw, size: [u16; 2]) -> WindowRepr {
    loop {
        let window = WindowRepr {
            kernel: [draw.size(1..=4), draw.size(1..=4)],
            stride: [draw.size(1..=3), draw.size(1..=3)],
            padding: [(); 4].map(|()| draw.size(0..=3)),
            dilation: [draw.size(1..=2), draw.size(1..=3)],
        };
        let fits = |axis: usize| {
            let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
            size[axis] + window.padding[axis] + window.padding[axis + 2] >= reach
        };
        if fits(0) && fits(1) {
            return window;
        }
    }
}

fn slide(window: &WindowRepr, size: [u16; 2]) -> [u16; 2] {
    [0, 1].map(|axis| {
        let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
        (size[axis] + window.padding[axis] + window.padding[axis + 2] - reach) / window.stride[axis] + 1
    })
}

/// The positions of the input under the window at `[oy, ox]`, with the tap's index; some may be outside.
fn taps(window: &WindowRepr, [oy, ox]: [usize; 2]) -> impl Iterator<Item = (usize, i64, i64)> {
    let window = *window;
    let along = move |axis: usize, out: usize, tap: u16| {
        out as i64 * i64::from(window.stride[axis]) + i64::from(tap) * i64::from(window.dilation[axis])
            - i64::from(window.padding[axis])
    };
    (0..window.kernel[0]).flat_map(move |r| {
        (0..window.kernel[1]).map(move |s| (usize::from(r * window.kernel[1] + s), along(0, oy, r), along(1, ox, s)))
    })
}

fn positions(size: [u16; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..size[0].into()).flat_map(move |y| (0..size[1].into()).map(move |x| [y, x]))
}

/// A convolution with `groups` groups of `in_group` and `out_group` channels.
#[track_caller]
fn conv2d(draw: &mut Draw, groups: u16, in_group: u16, out_group: u16, columns: Option<u32>) {
    let (x, y) = ([8, 8, 4, 2].map(|bits| draw.encoding(bits)), draw.encoding(8));
    let x = draw.of(&x);
    let size = [draw.size(1..=7), draw.size(1..=7)];
    let window = drawn_window(draw, size);
    let out = slide(&window, size);
    let (channels, outputs) = (groups * in_group, groups * out_group);
    let kernel = usize::from(window.kernel[0] * window.kernel[1]);
    let layer = draw.layer(x, outputs.into(), kernel * usize::from(in_group));
    let clamp = draw.clamp(y);
    let mut builder = Builder::new([size[0], size[1], channels], x);
    let output = builder.tensor([out[0], out[1], outputs], y);
    builder.conv2d(window, groups, &layer, [0, output], clamp);
    if let Some(columns) = columns {
        let scratch = &mut builder.ops[0].scratch;
        scratch.len = columns * 2 * (kernel as u32) * u32::from(in_group);
        builder.header.arena_bytes = scratch.offset + scratch.len;
    }
    let what =
        format!("{channels} to {outputs} channels, {groups} groups, {window:?} on {size:?}, {x:?}, {y:?}, {layer:?}");
    all_give(builder, x, draw, &what, |map| {
        let mut expected = Vec::new();
        for at in positions(out) {
            for k in 0..usize::from(outputs) {
                let group = k / usize::from(out_group);
                let mut acc = i64::from(layer.bias[k]);
                for (tap, iy, ix) in taps(&window, at) {
                    for c in 0..usize::from(in_group) {
                        let weight =
                            layer.weights[(k * usize::from(in_group) + c) * kernel + tap] - zero_point(&layer, k);
                        acc += map.centred(x, iy, ix, group * usize::from(in_group) + c) * i64::from(weight);
                    }
                }
                expected.push(requantize(acc, layer.multipliers[k], y, clamp));
            }
        }
        expected
    });
}

fn zero_point(layer: &Layer, k: usize) -> i32 {
    if layer.zero_points.len() == 1 { layer.zero_points[0] } else { layer.zero_points[k] }
}

#[test]
fn convolutions() {
    for seed in 0..1500 {
        let draw = &mut Draw::new(seed);
        let (channels, outputs) = (draw.size(1..=19), draw.size(1..=11));
        conv2d(draw, 1, channels, outputs, None);
    }
}

#[test]
fn grouped_convolutions() {
    for seed in 0..700 {
        let draw = &mut Draw::new(seed);
        let (groups, in_group, out_group) = (draw.size(2..=4), draw.size(1..=6), draw.size(2..=5));
        conv2d(draw, groups, in_group, out_group, None);
    }
}

#[test]
fn depthwise_convolutions() {
    for seed in 0..700 {
        let draw = &mut Draw::new(seed);
        let channels = draw.of(&[1, 2, 3, 7, 15, 16, 17, 31, 32, 40]);
        conv2d(draw, channels, 1, 1, None);
    }
}

#[test]
fn convolutions_with_one_column_or_with_more_than_they_use() {
    for seed in 0..100 {
        let draw = &mut Draw::new(seed);
        let columns = draw.of(&[1, 3]);
        conv2d(draw, 1, 5, 6, Some(columns));
    }
}

#[test]
fn dense_layers() {
    for seed in 0..700 {
        let draw = &mut Draw::new(seed);
        let (x, y) = ([8, 4].map(|bits| draw.encoding(bits)), draw.encoding(8));
        let x = draw.of(&x);
        let shape = [draw.size(1..=3), draw.size(1..=3), draw.size(1..=40)];
        let (len, outputs) = (shape.map(usize::from).iter().product(), draw.size(1..=11));
        let layer = draw.layer(x, outputs.into(), len);
        let clamp = draw.clamp(y);
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor([1, 1, outputs], y);
        builder.dense(&layer, [0, output], clamp);
        let what = format!("{shape:?} to {outputs}, {x:?}, {y:?}, {layer:?}");
        all_give(builder, x, draw, &what, |map| {
            (0..outputs.into())
                .map(|k| {
                    let products = map.values.iter().zip(&layer.weights[k * len..]).map(|(value, weight)| {
                        (value - i64::from(x.zero_point)) * i64::from(weight - zero_point(&layer, k))
                    });
                    requantize(i64::from(layer.bias[k]) + products.sum::<i64>(), layer.multipliers[k], y, clamp)
                })
                .collect()
        });
    }
}

#[test]
fn pools() {
    for seed in 0..700 {
        let draw = &mut Draw::new(seed);
        let x = draw.encoding(8);
        let maximum = draw.of(&[false, true]);
        let y = if maximum { x } else { draw.encoding(8) };
        let (size, channels) = ([draw.size(1..=7), draw.size(1..=7)], draw.size(1..=20));
        let window = loop {
            let window = WindowRepr { dilation: [1; 2], ..drawn_window(draw, size) };
            let within = |axis: usize| window.padding[axis].max(window.padding[axis + 2]) < window.kernel[axis];
            if within(0) && within(1) {
                break window;
            }
        };
        let out = slide(&window, size);
        let clamp = draw.clamp(y);
        let multipliers: Vec<f32> =
            (1..=window.kernel[0] * window.kernel[1]).map(|n| draw.real(0.3, 3.0) / f32::from(n)).collect();
        let mut builder = Builder::new([size[0], size[1], channels], x);
        let output = builder.tensor([out[0], out[1], channels], y);
        let kind = if maximum {
            OpKind::MaxPool { window }
        } else {
            OpKind::AveragePool { window, multipliers: builder.f32s(&multipliers) }
        };
        builder.op(kind, &[0], output, clamp);
        all_give(builder, x, draw, &format!("maximum: {maximum}, {window:?} on {size:?}, {x:?}, {y:?}"), |map| {
            let mut expected = Vec::new();
            for at in positions(out) {
                for c in 0..channels.into() {
                    let inside = taps(&window, at)
                        .filter(|&(_, iy, ix)| (0..size[0].into()).contains(&iy) && (0..size[1].into()).contains(&ix));
                    let values: Vec<i64> = inside.map(|(_, iy, ix)| map.centred(x, iy, ix, c)).collect();
                    expected.push(if maximum {
                        let largest = values.iter().max().unwrap() + i64::from(x.zero_point);
                        largest.clamp(clamp[0].into(), clamp[1].into())
                    } else {
                        requantize(values.iter().sum(), multipliers[values.len() - 1], y, clamp)
                    });
                }
            }
            expected
        });
    }
}

#[test]
fn global_average_pools() {
    for seed in 0..300 {
        let draw = &mut Draw::new(seed);
        let (x, y) = (draw.encoding(8), draw.encoding(8));
        let shape = [draw.size(1..=9), draw.size(1..=9), draw.size(1..=20)];
        let (clamp, multiplier) = (draw.clamp(y), draw.real(0.3, 3.0) / f32::from(shape[0] * shape[1]));
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor([1, 1, shape[2]], y);
        builder.op(OpKind::GlobalAveragePool { multiplier }, &[0], output, clamp);
        all_give(builder, x, draw, &format!("{shape:?}, {x:?}, {y:?}, {multiplier}"), |map| {
            (0..shape[2].into())
                .map(|c| {
                    let pixels = positions([shape[0], shape[1]]);
                    let sum = pixels.map(|[iy, ix]| map.centred(x, iy as i64, ix as i64, c)).sum();
                    requantize(sum, multiplier, y, clamp)
                })
                .collect()
        });
    }
}

/// `x + x`, and in place; Add of two tensors is the same sum on other bytes, and runs in the zoo.
#[test]
fn adds() {
    for seed in 0..300 {
        let draw = &mut Draw::new(seed);
        let (x, y) = (draw.encoding(8), draw.encoding(8));
        let shape = [draw.size(1..=5), draw.size(1..=5), draw.size(1..=20)];
        let (multipliers, shift) = ([draw.int(0..=1 << 22), draw.int(0..=1 << 22)], draw.of(&[0, 1, 20, 22, 30]));
        let clamp = draw.clamp(y);
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor(shape, y);
        if draw.of(&[false, true]) {
            builder.tensors[1].offset = builder.tensors[0].offset;
        }
        builder.op(OpKind::Add { multipliers, shift }, &[0, 0], output, clamp);
        all_give(builder, x, draw, &format!("{multipliers:?} / 2^{shift}, {x:?}, {y:?}"), |map| {
            let sum = |value: &i64| {
                let acc = (value - i64::from(x.zero_point)) * i64::from(multipliers[0] + multipliers[1]);
                // Exact: the accumulator has at most 31 bits.
                let q = (acc as f64 / f64::from(1u32 << shift)).round_ties_even() as i64;
                (q + i64::from(y.zero_point)).clamp(clamp[0].into(), clamp[1].into())
            };
            map.values.iter().map(sum).collect()
        });
    }
}

#[test]
fn concats_and_lookups() {
    for seed in 0..300 {
        let draw = &mut Draw::new(seed);
        let (x, y) = (draw.encoding(8), draw.encoding(8));
        let shape = [draw.size(1..=5), draw.size(1..=5), draw.size(1..=9)];
        let table = draw.stored(y, 256);
        let joined = draw.of(&[false, true]);
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor([shape[0], shape[1], if joined { 2 * shape[2] } else { shape[2] }], y);
        let span = builder.data(&table);
        if joined {
            let tables = builder.i32s(&[span.offset as i32, 256, span.offset as i32, 256]);
            builder.op(OpKind::Concat { tables }, &[0, 0], output, y.whole());
        } else {
            builder.op(OpKind::Lookup { table: span }, &[0], output, y.whole());
        }
        all_give(builder, x, draw, &format!("joined: {joined}, {x:?}, {y:?}"), |map| {
            let look_up = |&value: &i64| i64::from(crate::arith::widen(table[value as usize & 255], y.signed));
            let twice = if joined { 2 } else { 1 };
            let pixels = map.values.chunks(shape[2].into());
            pixels.flat_map(|pixel| pixel.repeat(twice)).map(|value| look_up(&value)).collect()
        });
    }
}

/// By a table of itself, and in place of either; by one pixel: [`gates`].
#[test]
fn muls() {
    for seed in 0..300 {
        let draw = &mut Draw::new(seed);
        let [x, gate, y] = [(); 3].map(|()| draw.encoding(8));
        let shape = [draw.size(1..=5), draw.size(1..=5), draw.size(1..=20)];
        let (multiplier, clamp) = (draw.real(1e-4, 0.1), draw.clamp(y));
        let mut builder = Builder::new(shape, x);
        let table = draw.stored(gate, 256);
        let span = builder.data(&table);
        let second = builder.tensor(shape, gate);
        builder.op(OpKind::Lookup { table: span }, &[0], second, gate.whole());
        let output = builder.tensor(shape, y);
        if draw.of(&[false, true]) {
            builder.tensors[output as usize].offset = builder.tensors[draw.of(&[0, 1])].offset;
        }
        builder.op(OpKind::Mul { multiplier }, &[0, second], output, clamp);
        all_give(builder, x, draw, &format!("{x:?} * {gate:?} = {y:?}, {multiplier}"), |map| {
            let product = |&value: &i64| {
                let factor = i64::from(crate::arith::widen(table[value as usize & 255], gate.signed));
                let acc = (value - i64::from(x.zero_point)) * (factor - i64::from(gate.zero_point));
                requantize(acc, multiplier, y, clamp)
            };
            map.values.iter().map(product).collect()
        });
    }
}

/// Every pixel by the mean of its channel.
#[test]
fn gates() {
    for seed in 0..300 {
        let draw = &mut Draw::new(seed);
        let [x, gate, y] = [(); 3].map(|()| draw.encoding(8));
        let shape = [draw.size(1..=6), draw.size(1..=6), draw.size(1..=9)];
        let pixels = shape[0] * shape[1];
        let [mean, multiplier] = [draw.real(0.3, 3.0) / f32::from(pixels), draw.real(1e-4, 0.1)];
        let clamp = draw.clamp(y);
        let mut builder = Builder::new(shape, x);
        let second = builder.tensor([1, 1, shape[2]], gate);
        builder.op(OpKind::GlobalAveragePool { multiplier: mean }, &[0], second, gate.whole());
        let output = builder.tensor(shape, y);
        if draw.of(&[false, true]) {
            builder.tensors[output as usize].offset = builder.tensors[0].offset;
        }
        builder.op(OpKind::Mul { multiplier }, &[0, second], output, clamp);
        all_give(builder, x, draw, &format!("{shape:?}, {x:?} * {gate:?} = {y:?}, {multiplier}"), |map| {
            let centred = |[iy, ix]: [usize; 2], c| map.centred(x, iy as i64, ix as i64, c);
            let places = || positions([shape[0], shape[1]]);
            let factor = |c| {
                let sum = places().map(|place| centred(place, c)).sum();
                requantize(sum, mean, gate, gate.whole()) - i64::from(gate.zero_point)
            };
            places()
                .flat_map(|place| (0..shape[2].into()).map(move |c| (place, c)))
                .map(|(place, c)| requantize(centred(place, c) * factor(c), multiplier, y, clamp))
                .collect()
        });
    }
}

/// `T`, `A` and `shift` as the contract says, for scales from almost 0 to far too large.
fn softmax_constants(x: Encoding, y: Encoding) -> (Vec<i32>, i32, u8) {
    let power = |d: i32| (f64::from(1 << 30) * (-f64::from(d) * f64::from(x.scale)).exp()).round_ties_even() as i32;
    let quotient = |shift: u8| (f64::from(1 << shift) / f64::from(y.scale)).round_ties_even();
    let shift = (0..=16).rev().find(|&shift| quotient(shift) <= f64::from(1 << 22)).expect("scales above 2^-22");
    ((0..1 << x.bits).map(power).collect(), quotient(shift) as i32, shift)
}

/// Against the sums of the contract in 128 bits, and against the real softmax: never further than one step.
#[test]
fn softmaxes() {
    for seed in 0..600 {
        let draw = &mut Draw::new(seed);
        let [mut x, mut y] = [draw.of(&[2, 4, 8]), 8].map(|bits| draw.encoding(bits));
        x.scale = draw.of(&[1e-30, 1e-4, 0.01, 0.1, 0.3, 3.0, 1e30]) * draw.real(0.5, 2.0);
        y.scale = if seed % 2 == 0 { 1.0 / 256.0 } else { draw.real(0.0005, 0.02) };
        if seed % 3 > 0 {
            y.zero_point = y.limits().0;
        }
        let shape = [draw.size(1..=3), draw.size(1..=3), draw.of(&[1, 2, 3, 10, 100, 1000])];
        let clamp = draw.clamp(y);
        let (powers, multiplier, shift) = softmax_constants(x, y);
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor(shape, y);
        if draw.of(&[false, true]) {
            builder.tensors[output as usize].offset = builder.tensors[0].offset;
        }
        let table = builder.i32s(&powers);
        builder.op(OpKind::Softmax { table, multiplier, shift }, &[0], output, clamp);
        all_give(builder, x, draw, &format!("{shape:?}, {x:?} to {y:?}, {clamp:?}"), |map| {
            map.values.chunks(shape[2].into()).flat_map(|pixel| shares(pixel, [x, y], clamp)).collect()
        });
    }
}

/// The stored integers of one pixel; larger inputs have no smaller ones, and equal inputs equal ones.
fn shares(pixel: &[i64], [x, y]: [Encoding; 2], [low, high]: [i32; 2]) -> Vec<i64> {
    let (powers, multiplier, shift) = softmax_constants(x, y);
    let largest = *pixel.iter().max().unwrap();
    let power = |x: &i64| i128::from(powers[(largest - x) as usize]);
    let sum = pixel.iter().map(power).sum::<i128>() << shift;
    let real = |v: &i64| ((v - largest) as f64 * f64::from(x.scale)).exp();
    let real_sum: f64 = pixel.iter().map(real).sum();
    let clamp = |share: f64| (share + f64::from(y.zero_point)).clamp(low.into(), high.into());
    let share = |v: &i64| {
        let (quotient, rest) = (power(v) * i128::from(multiplier) / sum, power(v) * i128::from(multiplier) % sum);
        let up = 2 * rest > sum || (2 * rest == sum && quotient % 2 == 1);
        let stored = clamp(quotient as f64 + f64::from(u8::from(up)));
        let exact = clamp(real(v) / real_sum / f64::from(y.scale));
        assert!((stored - exact).abs() < 0.51, "{stored}, exactly {exact}, of {pixel:?}, {x:?} to {y:?}");
        stored as i64
    };
    let stored: Vec<i64> = pixel.iter().map(share).collect();
    let mut pairs: Vec<_> = pixel.iter().zip(&stored).collect();
    pairs.sort();
    let in_order = |pair: &[(&i64, &i64)]| pair[0].1 <= pair[1].1 && (pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1);
    assert!(pairs.windows(2).all(in_order), "{pixel:?}: {stored:?}");
    stored
}

#[test]
fn pads() {
    for seed in 0..200 {
        let draw = &mut Draw::new(seed);
        let x = draw.encoding(8);
        let shape = [draw.size(1..=5), draw.size(1..=5), draw.size(1..=9)];
        let padding = [(); 4].map(|()| draw.size(0..=3));
        let [top, left, bottom, right] = padding;
        let out = [shape[0] + top + bottom, shape[1] + left + right];
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor([out[0], out[1], shape[2]], x);
        builder.op(OpKind::Pad { padding }, &[0], output, x.whole());
        all_give(builder, x, draw, &format!("{shape:?}, {padding:?}, {x:?}"), |map| {
            positions(out)
                .flat_map(|place| (0..shape[2].into()).map(move |c| (place, c)))
                .map(|([iy, ix], c)| {
                    let (iy, ix) = (iy as i64 - i64::from(top), ix as i64 - i64::from(left));
                    map.centred(x, iy, ix, c) + i64::from(x.zero_point)
                })
                .collect()
        });
    }
}
