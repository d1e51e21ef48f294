//! What the runtime computes from a written image is what `docs/arithmetic.md` says, integer for integer: the contract is
//! written out once more here, on the network's own integers in `C H W`. And it stays near the simulation.

use super::{Target, arena, pack, write, write_in_patches};
use crate::execute::{Executor, Mode};
use crate::network::{Conv2d, Dense, Encoding, Network, Op, Pool, Preprocessing, Shape, TensorId, Window};
use crate::pipeline::{Options, quantize_network};
use crate::quantize::{clamp_limits, table};
use crate::samples::{Random, Sample, foreign, images, network, positions, taps};
use runtime::Session;
use runtime::image::Image;

/// Every kind of integers that a network can be quantized to.
fn forms() -> Vec<Options> {
    let signed = crate::calibrate::Width { bits: 8, signed: true };
    let narrow = crate::calibrate::Width { bits: 4, signed: false };
    vec![
        Options::mobile(8, 8),
        Options::mobile(4, 8),
        Options::mobile(2, 2),
        Options::mobile(5, 6),
        Options::per_channel(8, signed),
        Options::per_channel(4, narrow),
    ]
}

#[test]
fn the_runtime_computes_the_contract_bit_for_bit() {
    for seed in 0..24 {
        let sample = Sample { batch_norm: seed % 2 == 0, blocks: 2 + seed as usize % 5 };
        let mut float = if seed < 12 { network(seed, sample) } else { foreign(seed, sample) };
        if seed % 3 == 0 {
            float.push("shares", Op::Softmax, &[float.output]).unwrap();
        }
        let pixels = images(&float, 4, seed);
        let size = pixels.len() / 4;
        for options in forms() {
            let quantized = quantize_network(&float, &pixels, &options).unwrap().network;
            let file = write(&quantized).unwrap();
            assert_eq!(file, write(&quantized).unwrap(), "the same network gives the same bytes");
            let image = Image::check(&file).unwrap();
            let mut arena = vec![0xa5; image.arena_bytes()];
            let mut session = Session::new(image, &mut arena).unwrap();
            for pixels in pixels.chunks_exact(size) {
                let output = session.run_pixels(pixels).unwrap();
                let found: Vec<i32> = (0..output.len()).map(|i| output.integer(i)).collect();
                assert_eq!(found, oracle(&quantized, pixels), "seed {seed}, {options:?}");
            }
        }
    }
}

#[test]
fn integers_stay_near_the_simulation() {
    let (mut far, mut all) = (0, 0);
    for seed in 20..26 {
        let float = network(seed, Sample { batch_norm: true, blocks: 3 });
        let pixels = images(&float, 8, seed);
        let quantized = quantize_network(&float, &pixels, &Options::mobile(8, 8)).unwrap().network;
        let step = quantized.tensors[quantized.output].encoding.as_ref().unwrap().clone();
        let simulated = Executor::new(&quantized, Mode::Simulated).unwrap().logits(&pixels).unwrap();
        let integer = pixels.chunks_exact(pixels.len() / 8).flat_map(|image| oracle(&quantized, image));
        for (q, value) in integer.zip(simulated) {
            far += usize::from((q - step.quantize(0, value)).abs() > 2);
            all += 1;
        }
    }
    assert!(far * 50 < all, "{far} of {all} logits are more than two steps from the simulation");
}

#[test]
fn a_network_without_integers_is_refused_by_name() {
    let float = network(1, Sample { batch_norm: false, blocks: 1 });
    let error = write(&float).unwrap_err().to_string();
    assert!(error.contains("encoding") || error.contains("integer"), "{error}");
}

/// The logits of one image of `H W C` bytes, by the text of the contract.
fn oracle(network: &Network, pixels: &[u8]) -> Vec<i32> {
    let mut values: Vec<Vec<i32>> = vec![Vec::new(); network.tensors.len()];
    let Shape { c, h, w } = network.tensors[network.input].shape;
    let encoding = |id: TensorId| network.tensors[id].encoding.as_ref().unwrap();
    values[network.input] = (0..c * h * w)
        .map(|i| {
            let (channel, pixel) = (i / (h * w), i % (h * w));
            let p = &network.preprocessing;
            let value = (f32::from(pixels[pixel * c + channel]) / 255.0 - p.mean[channel]) / p.std[channel];
            encoding(network.input).quantize(0, value)
        })
        .collect();
    for group in network.fused() {
        let node = &network.nodes[group.head];
        let (x, y) = (encoding(node.inputs[0]), encoding(group.output));
        let shape = network.tensors[node.inputs[0]].shape;
        let clamp = group.clamp.map_or(&node.op, |id| &network.nodes[id].op);
        let limits = match clamp {
            Op::Clamp { min, max } => clamp_limits(y, Some((*min, *max))),
            _ => clamp_limits(y, None),
        };
        let input = values[node.inputs[0]].clone();
        let centred = |i: usize| i64::from(input[i] - x.zero_point[0]);
        let narrow = |acc: i64, m: f32| {
            let q = (i32::try_from(acc).unwrap() as f32 * m).round_ties_even();
            ((f64::from(q) + f64::from(y.zero_point[0])) as i64).clamp(limits.0.into(), limits.1.into()) as i32
        };
        values[group.output] = match &node.op {
            Op::Conv2d(conv) => {
                let integers = conv.integers.as_ref().unwrap();
                let (in_group, out_group) = (shape.c / conv.groups, conv.out_channels / conv.groups);
                let [r, s] = conv.window.kernel;
                let mut out = Vec::new();
                for k in 0..conv.out_channels {
                    let (sw, zw) = integers.encoding.channel(k);
                    for position in positions(&conv.window, shape) {
                        let mut acc = i64::from(integers.bias[k]);
                        for [ky, kx, iy, ix] in taps(&conv.window, shape, position) {
                            for c in 0..in_group {
                                let channel = k / out_group * in_group + c;
                                let weight = integers.weight[((k * in_group + c) * r + ky) * s + kx];
                                let x = centred((channel * shape.h + iy) * shape.w + ix);
                                acc += x * i64::from(i32::from(weight) - zw);
                            }
                        }
                        out.push(narrow(acc, x.scale[0] * sw / y.scale[0]));
                    }
                }
                out
            }
            Op::Dense(dense) => {
                let integers = dense.integers.as_ref().unwrap();
                let row = |(k, weights): (usize, &[i16])| {
                    let (sw, zw) = integers.encoding.channel(k);
                    let products = weights.iter().enumerate().map(|(i, &w)| centred(i) * i64::from(i32::from(w) - zw));
                    narrow(i64::from(integers.bias[k]) + products.sum::<i64>(), x.scale[0] * sw / y.scale[0])
                };
                integers.weight.chunks_exact(shape.len()).enumerate().map(row).collect()
            }
            Op::MaxPool(pool) => pooled(shape, &pool.window, |cells| cells.iter().map(|&i| input[i]).max().unwrap()),
            Op::AveragePool(pool) => pooled(shape, &pool.window, |cells| {
                let m = x.scale[0] / (y.scale[0] * cells.len() as f32);
                narrow(cells.iter().map(|&i| centred(i)).sum(), m)
            }),
            Op::GlobalAveragePool => {
                let m = x.scale[0] / (y.scale[0] * shape.pixels() as f32);
                let mean = |c: usize| narrow((0..shape.pixels()).map(|p| centred(c * shape.pixels() + p)).sum(), m);
                (0..shape.c).map(mean).collect()
            }
            Op::Add => sum(x, encoding(node.inputs[1]), y, limits, &input, &values[node.inputs[1]]),
            Op::Concat => node
                .inputs
                .iter()
                .flat_map(|&id| {
                    let map = table(encoding(id), y, limits);
                    values[id].iter().map(move |&q| stored(map[q as u8 as usize], y.signed)).collect::<Vec<_>>()
                })
                .collect(),
            Op::Clamp { .. } => {
                let map = table(x, y, limits);
                input.iter().map(|&q| stored(map[q as u8 as usize], y.signed)).collect()
            }
            Op::Flatten => input.clone(),
            Op::Function(function) => {
                let value = |q: &i32| y.quantize(0, function.apply(x.dequantize(0, *q))).clamp(limits.0, limits.1);
                input.iter().map(value).collect()
            }
            Op::Mul => {
                let (gate, factors) = (encoding(node.inputs[1]), &values[node.inputs[1]]);
                let m = x.scale[0] * gate.scale[0] / y.scale[0];
                let run = input.len() / factors.len();
                let factor = |i: usize| i64::from(factors[i / run] - gate.zero_point[0]);
                (0..input.len()).map(|i| narrow(centred(i) * factor(i), m)).collect()
            }
            Op::Pad { padding: [top, left, ..] } => {
                let Shape { c, h, w } = network.tensors[group.output].shape;
                let place = |i: usize| [i / (h * w), i / w % h, i % w];
                let inside = |[c, iy, ix]: [usize; 3]| {
                    let (iy, ix) = (iy.wrapping_sub(*top), ix.wrapping_sub(*left));
                    let at = (c * shape.h).wrapping_add(iy).wrapping_mul(shape.w).wrapping_add(ix);
                    if iy < shape.h && ix < shape.w { input[at] } else { x.zero_point[0] }
                };
                (0..c * h * w).map(|i| inside(place(i))).collect()
            }
            Op::Softmax => {
                let (pixels, [sx, sy]) = (shape.pixels(), [x, y].map(|e| f64::from(e.scale[0])));
                let power =
                    |distance: i32| (2f64.powi(30) * (-f64::from(distance) * sx).exp()).round_ties_even() as i128;
                let factor = |shift: i32| (2f64.powi(shift) / sy).round_ties_even();
                let shift = (0..=16).rev().find(|&shift| factor(shift) <= 4_194_304.0).unwrap();
                let share = |i: usize| {
                    let channels = || (i % pixels..input.len()).step_by(pixels).map(|i| input[i]);
                    let largest = channels().max().unwrap();
                    let sum = channels().map(|q| power(largest - q)).sum::<i128>() << shift;
                    let product = power(largest - input[i]) * factor(shift) as i128;
                    let (q, rest) = (product / sum, 2 * (product % sum));
                    let q = q + i128::from(rest > sum || (rest == sum && q % 2 == 1));
                    (q as i32 + y.zero_point[0]).clamp(limits.0, limits.1)
                };
                (0..input.len()).map(share).collect()
            }
            Op::BatchNorm(_) => unreachable!("folded"),
        };
    }
    values.swap_remove(network.output)
}

fn stored(byte: u8, signed: bool) -> i32 {
    if signed { i32::from(byte as i8) } else { i32::from(byte) }
}

/// A window's cells, as indices into a `C H W` tensor, through `f`.
fn pooled(shape: Shape, window: &Window, f: impl Fn(&[usize]) -> i32) -> Vec<i32> {
    let mut out = Vec::new();
    for c in 0..shape.c {
        for position in positions(window, shape) {
            let cell = |[_, _, iy, ix]: [usize; 4]| (c * shape.h + iy) * shape.w + ix;
            out.push(f(&taps(window, shape, position).into_iter().map(cell).collect::<Vec<_>>()));
        }
    }
    out
}

/// Add, with the multipliers of the contract found in binary64.
fn sum(a: &Encoding, b: &Encoding, y: &Encoding, (low, high): (i32, i32), xs: &[i32], zs: &[i32]) -> Vec<i32> {
    let quotient = |e: &Encoding| f64::from(e.scale[0]) / f64::from(y.scale[0]);
    let scaled = |e: &Encoding, shift: i32| (quotient(e) * 2f64.powi(shift)).round_ties_even();
    let shift = (0..=30).rev().find(|&s| scaled(a, s).max(scaled(b, s)) <= 4_194_304.0).unwrap();
    let terms = xs.iter().zip(zs).map(|(&p, &q)| {
        // Exact in binary64: both products have fewer than 32 bits.
        let exact =
            f64::from(p - a.zero_point[0]) * scaled(a, shift) + f64::from(q - b.zero_point[0]) * scaled(b, shift);
        (exact / 2f64.powi(shift)).round_ties_even() as i32 + y.zero_point[0]
    });
    terms.map(|q| q.clamp(low, high)).collect()
}

/// A network that is wide in the middle, with residual blocks, whose rows are multiples of 16 bytes.
fn wide(seed: u64) -> Network {
    let mut draw = Random::new(seed);
    let preprocessing = Preprocessing { mean: vec![0.5; 3], std: vec![0.25; 3] };
    let shape = Shape { c: 3, h: 13 + draw.below(20), w: 16 };
    let mut network = Network::new("wide", shape, preprocessing, Vec::new());
    let push = |network: &mut Network, op: Op, inputs: &[TensorId]| {
        let name = format!("{}_{}", op.name(), network.nodes.len());
        network.push(name, op, inputs).unwrap()
    };
    let conv = |network: &mut Network, draw: &mut Random, x: TensorId, out: usize, depthwise: bool, window: Window| {
        let c = network.tensors[x].shape.c;
        let groups = if depthwise { c } else { 1 };
        let weight = draw.values(out * c / groups * window.kernel[0] * window.kernel[1], -0.4, 0.4);
        let bias = Some(draw.values(out, -0.3, 0.3));
        let conv = Conv2d { weight, bias, out_channels: out, window, groups, integers: None };
        let y = push(network, Op::Conv2d(conv), &[x]);
        push(network, Op::RELU, &[y])
    };
    let three = |draw: &mut Random, stride: usize| Window {
        stride: [stride, 1],
        padding: [draw.below(2), 1, draw.below(2), 1],
        ..Window::square(3, 1, 1)
    };
    let first = three(&mut draw, 1);
    let mut x = conv(&mut network, &mut draw, 0, 4, false, first);
    let wide = conv(&mut network, &mut draw, x, 24, false, Window::square(1, 1, 0));
    let stride = 1 + draw.below(2);
    let window = three(&mut draw, stride);
    let wide = conv(&mut network, &mut draw, wide, 24, true, window);
    x = conv(&mut network, &mut draw, wide, 8, false, Window::square(1, 1, 0));
    let wide = conv(&mut network, &mut draw, x, 24, false, Window::square(1, 1, 0));
    let wide = conv(&mut network, &mut draw, wide, 24, true, Window::square(3, 1, 1));
    let narrow = conv(&mut network, &mut draw, wide, 8, false, Window::square(1, 1, 0));
    x = push(&mut network, Op::Add, &[x, narrow]);
    let pool = Pool { window: Window { stride: [2, 1], ..Window::square(3, 1, 1) } };
    x = push(&mut network, if seed.is_multiple_of(2) { Op::MaxPool(pool) } else { Op::AveragePool(pool) }, &[x]);
    x = conv(&mut network, &mut draw, x, 8, false, Window::square(3, 1, 1));
    x = push(&mut network, Op::GlobalAveragePool, &[x]);
    let weight = draw.values(5 * 8, -0.5, 0.5);
    push(&mut network, Op::Dense(Dense { weight, bias: None, out_features: 5, integers: None }), &[x]);
    network
}

/// Of every executor of this machine, on arenas full of something else.
#[test]
fn patches_change_the_arena_and_no_bit() {
    let mut lengths = Vec::new();
    for (seed, count) in (0..12).flat_map(|seed| [2, 3, 5].map(|count| (seed, count))) {
        let float = wide(seed);
        let pixels = images(&float, 3, seed);
        let quantized = quantize_network(&float, &pixels, &Options::mobile(8, 8)).unwrap().network;
        let whole = write(&quantized).unwrap();
        let (file, patched) = write_in_patches(&quantized, count).unwrap();
        let [whole, file] = [&whole, &file].map(|file| Image::check(file).unwrap());
        assert_eq!(patched.arena.map(|bytes| bytes as usize), [whole.arena_bytes(), file.arena_bytes()]);
        assert!(patched.arena[1] < patched.arena[0], "{patched:?}");
        let macs = |image: &Image| image.ops().map(|op| op.macs()).sum::<u64>();
        assert_eq!(patched.macs, [macs(&whole), macs(&file)]);
        lengths.push(patched.ops);
        let mut arena = vec![0xa5; file.arena_bytes()];
        for pixels in pixels.chunks_exact(pixels.len() / 3) {
            let expected = oracle(&quantized, pixels);
            let mut session = Session::new(file, &mut arena).unwrap();
            let output = session.run_pixels(pixels).unwrap();
            assert_eq!((0..output.len()).map(|i| output.integer(i)).collect::<Vec<_>>(), expected, "{seed} {count}");
            for executor in runtime::host::Executor::all() {
                let mut prepared = runtime::host::Prepared::with(file, executor);
                let output = prepared.run_pixels(pixels).unwrap();
                let found: Vec<i32> = (0..output.len()).map(|i| output.integer(i)).collect();
                assert_eq!(found, expected, "seed {seed}, {count} patches, {executor}");
            }
        }
    }
    assert!(lengths.iter().any(|&ops| ops > 8), "no residual block was computed in patches: {lengths:?}");
}

#[test]
fn patches_that_save_nothing_are_refused() {
    let float = network(1, Sample { batch_norm: false, blocks: 2 });
    let pixels = images(&float, 2, 1);
    let quantized = quantize_network(&float, &pixels, &Options::mobile(8, 8)).unwrap().network;
    let bytes = arena(&quantized).unwrap().bytes;
    let error = write_in_patches(&quantized, 32).unwrap_err().to_string();
    assert!(error.starts_with(&format!("32 patches: the arena has {bytes} bytes without them")), "{error}");
}

/// Outputs that lie over inputs are moved away, and no bit changes.
#[test]
fn room_changes_no_bit() {
    use runtime::host::{Executor, Prepared, make_room};
    let over = |image: &Image| {
        let ops = image.ops().filter(|op| op.repr.kind.name() != "Reshape");
        let ranges = ops.map(|op| (op.input(0).range(), op.output().range()));
        ranges.filter(|(x, y)| x != y && x.start < y.end && y.start < x.end).count()
    };
    let (mut moved, mut left) = (0, 0);
    for seed in 0..12 {
        let float = if seed % 2 == 0 { wide(seed) } else { foreign(seed, Sample { batch_norm: false, blocks: 4 }) };
        let pixels = images(&float, 2, seed);
        let quantized = quantize_network(&float, &pixels, &Options::mobile(8, 8)).unwrap().network;
        let file = write(&quantized).unwrap();
        let mut roomy = pack(&file, &["x86".parse::<Target>().unwrap()]).unwrap();
        make_room(&mut roomy).unwrap();
        let [plain, with] = [&file, &roomy].map(|file| Image::check(file).unwrap());
        // Every tensor has a new place, behind the old arena.
        assert!(over(&with) <= over(&plain) && with.arena_bytes() > plain.arena_bytes(), "seed {seed}");
        moved += over(&plain);
        left += over(&with);
        let mut arena = vec![0xa5; with.arena_bytes()];
        for pixels in pixels.chunks_exact(pixels.len() / 2) {
            let expected = oracle(&quantized, pixels);
            let integers =
                |output: runtime::exec::Output| (0..output.len()).map(|i| output.integer(i)).collect::<Vec<_>>();
            let mut session = Session::new(with, &mut arena).unwrap();
            assert_eq!(integers(session.run_pixels(pixels).unwrap()), expected, "seed {seed}");
            for executor in Executor::all() {
                let mut prepared = Prepared::with(with, executor).with_threads(2.try_into().unwrap());
                for _ in 0..12 {
                    let found = integers(prepared.run_pixels(pixels).unwrap());
                    assert_eq!(found, expected, "seed {seed}, {executor}");
                }
            }
        }
    }
    // Where a reshape reads them, they stay.
    assert!(moved >= 6 && 4 * left <= moved, "{moved} outputs lay over inputs, {left} still do");
}

/// Every executor of this machine, on networks of every form: with the weights of the image as with those that it packs itself.
#[test]
fn packed_weights_change_no_bit() {
    use runtime::host::{Executor, Origin, Prepared};
    let targets = ["x86", "pi4", "pi5", "amx", "i8mm", "cortex-m4"].map(|name| name.parse::<Target>().unwrap());
    for seed in 0..12 {
        let float = foreign(seed, Sample { batch_norm: false, blocks: 2 + seed as usize % 5 });
        let pixels = images(&float, 2, seed);
        let size = pixels.len() / 2;
        for options in forms() {
            let quantized = quantize_network(&float, &pixels, &options).unwrap().network;
            let file = write(&quantized).unwrap();
            let packed = pack(&file, &targets).unwrap();
            assert_eq!(runtime::host::portable(&packed).unwrap(), file);
            let [plain, with] = [&file, &packed].map(|file| Image::check(file).unwrap());
            for executor in Executor::all() {
                let [mut plain, mut with] = [plain, with].map(|image| Prepared::with(image, executor));
                assert_eq!(with.origin() == Origin::Image, executor.packing().is_some(), "{executor}");
                for pixels in pixels.chunks_exact(size) {
                    let expected = plain.run_pixels(pixels).unwrap().bytes().to_vec();
                    let found = with.run_pixels(pixels).unwrap().bytes();
                    assert_eq!(found, expected, "seed {seed}, {options:?}, {executor}");
                }
            }
        }
    }
}

#[test]
fn targets_and_what_is_none() {
    let packings = |name: &str| name.parse::<Target>().unwrap().packings();
    assert_eq!(packings("pi4"), packings("neon"));
    assert_eq!(packings("pi5"), packings("dotprod"));
    assert_eq!(packings("x86"), [packings("avx2"), packings("avx512vnni")].concat());
    assert!(packings("cortex-m4").is_empty());
    let error = "pi6".parse::<Target>().unwrap_err().to_string();
    assert!(
        error.starts_with("there is no target `pi6`, expected one of cortex-m4, pi4, pi5, x86, packed, avx2"),
        "{error}"
    );
}
