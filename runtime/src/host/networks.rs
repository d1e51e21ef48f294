//! Drawn networks of many ops, in an arena whose places are used again and again, with one thread and with several: the same integers.

use super::*;
use crate::{
    image::repr::{OpKind, WindowRepr},
    observe::{Checksums, Observer, first_difference},
    testing::{Builder, Draw, Encoding},
};

const WINDOW: WindowRepr = WindowRepr { kernel: [3; 2], stride: [1; 2], padding: [1; 4], dilation: [1; 2] };

/// A network, its tensors each where none lies that is still read.
fn network(draw: &mut Draw) -> Vec<u8> {
    let encoding = Encoding { zero_point: 100, ..draw.encoding(8) };
    let encoding = Encoding { signed: false, ..encoding };
    let shape = [draw.size(2..=13), draw.size(2..=9), draw.of(&[3, 16, 32])];
    let mut builder = Builder::new(shape, encoding);
    let (mut x, mut reads) = (0, Vec::new());
    for _ in 0..draw.size(4..=12) {
        let [height, width, channels] = builder.tensors[x as usize].shape;
        let stride = if height > 3 && width > 3 { draw.size(1..=2) } else { 1 };
        let out = [height, width].map(|size| (size - 1) / stride + 1);
        let (window, outputs) = (WindowRepr { stride: [stride; 2], ..WINDOW }, draw.of(&[5, 16, 40, 150]));
        let same = (0..x).rfind(|&other| builder.tensors[other as usize].shape == builder.tensors[x as usize].shape);
        let mut inputs = vec![x];
        x = match draw.int(0..=6) {
            0..=3 => {
                let (groups, outputs, in_group) = match draw.int(0..=2) {
                    0 => (channels, channels, 1),
                    _ => (1, outputs, channels),
                };
                let point = draw.of(&[true, false]) && groups == 1;
                let window = if point { WindowRepr { kernel: [1; 2], padding: [0; 4], ..window } } else { window };
                let taps = window.kernel[0] * window.kernel[1] * in_group;
                let layer = draw.layer(encoding, outputs.into(), taps.into());
                let y = builder.tensor([out[0], out[1], outputs], encoding);
                builder.conv2d(window, groups, &layer, [x, y], encoding.whole());
                y
            }
            4 if let Some(other) = same => {
                inputs.push(other);
                let y = builder.tensor([height, width, channels], encoding);
                let multipliers = [1 << 20, 1 << 19];
                builder.op(OpKind::Add { multipliers, shift: 20 }, &inputs, y, encoding.whole());
                y
            }
            5 => {
                let table = builder.data(&draw.stored(encoding, 256));
                let y = builder.tensor([height, width, channels], encoding);
                builder.op(OpKind::Lookup { table }, &inputs, y, encoding.whole());
                y
            }
            _ => {
                let y = builder.tensor([out[0], out[1], channels], encoding);
                builder.op(OpKind::MaxPool { window }, &inputs, y, encoding.whole());
                y
            }
        };
        reads.push(inputs);
    }
    place(&mut builder, &reads);
    builder.finish()
}

/// Puts tensor `n + 1`, which op `n` writes, where those lie that no later op reads, if there are any.
fn place(builder: &mut Builder, reads: &[Vec<u32>]) {
    let largest = builder.tensors.iter().map(|tensor| tensor.bytes).max().unwrap_or_default().next_multiple_of(16);
    let first = builder.header.arena_bytes.next_multiple_of(16);
    let mut last = vec![0; builder.tensors.len()];
    reads.iter().enumerate().for_each(|(op, inputs)| inputs.iter().for_each(|&x| last[x as usize] = op));
    // Of each place, the tensor in it.
    let mut places = vec![0];
    for op in 0..reads.len() {
        let free = places.iter().position(|&tensor| last[tensor] < op);
        let place = free.unwrap_or_else(|| {
            places.push(0);
            places.len() - 1
        });
        places[place] = op + 1;
        builder.tensors[op + 1].offset = first + place as u32 * largest;
    }
    builder.tensors[0].offset = first;
    builder.header.arena_bytes = first + places.len() as u32 * largest;
}

/// Tile registers are released whenever somebody else runs on the thread.
struct Released;

impl Released {
    fn check() {
        #[cfg(target_arch = "x86_64")]
        assert!(crate::kernels::simd::amx::are_released());
    }
}

impl Observer for Released {
    fn before(&mut self, _: &Op) {
        Self::check();
    }

    fn after(&mut self, _: &Op, _: Output) {
        Self::check();
    }
}

#[test]
fn threads_change_no_bit() {
    let draw = &mut Draw::new(5);
    for number in 0..60 {
        let file = network(draw);
        let image = Image::check(&file).unwrap();
        let pixels: Vec<u8> = (0..image.input().len()).map(|_| draw.bits() as u8).collect();
        let mut expected = vec![0; image.ops().len()];
        let output = Prepared::with(image, Executor::Plain(crate::Kernels::Portable))
            .run_pixels_observed(&pixels, &mut Checksums::new(&mut expected))
            .unwrap()
            .bytes()
            .to_vec();
        for isa in Isa::all() {
            for threads in 1..=4 {
                let executor = Executor::Simd(isa);
                let mut prepared = Prepared::with(image, executor).with_helpers(threads.try_into().unwrap());
                for _ in 0..4 {
                    let found = prepared.run_pixels(&pixels).unwrap().bytes();
                    assert_eq!(found, output, "network {number}, {executor}, {threads} threads");
                    Released::check();
                }
                let mut sums = vec![0; image.ops().len()];
                let observer = &mut (Checksums::new(&mut sums), Released);
                prepared.run_pixels_observed(&pixels, observer).unwrap();
                assert_eq!(first_difference(&expected, &sums), None, "network {number}, {executor}, {threads} threads");
            }
        }
    }
}
