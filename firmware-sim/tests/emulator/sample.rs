//! What the tests run. Enters: a seed. Leaves: flash images, pictures, and what the host's session makes of them.

use firmware_sim::Inference;
use runtime::exec::Session;
use runtime::image::Image;
use runtime::image::repr::{OpKind, WindowRepr};
use runtime::kernels::Kernels;
use runtime::observe::Checksums;
use runtime::testing::{Builder, Draw, Encoding};

/// Of every tensor of [`resnet_sized`].
const ENCODING: Encoding = Encoding { bits: 8, signed: true, scale: 0.05, zero_point: -7 };

/// A classifier of 10 classes with the shapes of ResNet-8 (MLPerf Tiny): 32 x 32 RGB, 12.5 million multiplications, three
/// residual blocks. Its weights are drawn. Every tensor has arena bytes of its own, unlike in an exported image.
pub(crate) fn resnet_sized() -> Vec<u8> {
    let mut net = Net { builder: Builder::new([32, 32, 3], ENCODING), draw: Draw::new(8) };
    let mut x = net.conv(0, 3, 1, 16);
    for (channels, stride) in [(16, 1), (32, 2), (64, 2)] {
        let first = net.conv(x, 3, stride, channels);
        let second = net.conv(first, 3, 1, channels);
        let shortcut = if stride == 1 { x } else { net.conv(x, 1, stride, channels) };
        let sum = net.tensor(net.builder.tensors[second as usize].shape);
        let add = OpKind::Add { multipliers: [3_000_001, 2_222_222], shift: 22 };
        net.builder.op(add, &[second, shortcut], sum, ENCODING.whole());
        x = sum;
    }
    let mean = net.tensor([1, 1, 64]);
    net.builder.op(OpKind::GlobalAveragePool { multiplier: 0.0171 }, &[x], mean, ENCODING.whole());
    let logits = net.tensor([1, 1, 10]);
    let layer = net.layer(10, 64);
    net.builder.dense(&layer, [mean, logits], ENCODING.whole());
    net.builder.finish()
}

/// One op after another with drawn shapes, windows, encodings and weights, each reading any tensor before it that is an image: tails
/// of every length, weights of 8, 4 and 2 bits, groups, pools, dense layers, zero points at the ends of their limits.
pub(crate) fn drawn_ops(seed: u64, count: usize) -> Vec<u8> {
    let mut draw = Draw::new(seed);
    let first = draw.encoding(8);
    let mut builder = Builder::new([9, 7, 3], first);
    let mut images = vec![(0, first)];
    while builder.ops.len() < count {
        let (x, from) = draw.of(&images);
        let [h, w, c] = builder.tensors[x as usize].shape;
        let bits = draw.of(&[8, 8, 8, 4]);
        let to = draw.encoding(bits);
        let clamp = draw.clamp(to);
        match draw.int(0..=9) {
            0 => {
                let shift = draw.of(&[0, 3, 22, 30]);
                let multipliers = [draw.int(0..=1 << 22), draw.int(0..=1 << 22)];
                let y = builder.tensor([h, w, c], to);
                builder.op(OpKind::Add { multipliers, shift }, &[x, x], y, clamp);
                images.push((y, to));
            }
            1 => {
                let y = builder.tensor([1, 1, c], to);
                let multiplier = draw.real(0.3, 3.0) / f32::from(h * w);
                builder.op(OpKind::GlobalAveragePool { multiplier }, &[x], y, clamp);
            }
            2 => {
                let outputs = draw.size(1..=11);
                let layer = draw.layer(from, outputs.into(), (h * w * c).into());
                let y = builder.tensor([1, 1, outputs], to);
                builder.dense(&layer, [x, y], clamp);
            }
            kind @ 3..=4 => {
                let (window, [out_h, out_w]) = drawn_window(&mut draw, [h, w]);
                let window = WindowRepr { dilation: [1; 2], ..window };
                let within = |axis: usize| window.padding[axis].max(window.padding[axis + 2]) < window.kernel[axis];
                if !within(0) || !within(1) || slid(&window, [h, w]) != [out_h, out_w] {
                    continue;
                }
                let (to, clamp) = if kind == 3 { (from, draw.clamp(from)) } else { (to, clamp) };
                let taps = window.kernel[0] * window.kernel[1];
                let multipliers: Vec<f32> = (1..=taps).map(|n| draw.real(0.3, 3.0) / f32::from(n)).collect();
                let y = builder.tensor([out_h, out_w, c], to);
                let kind = match kind {
                    3 => OpKind::MaxPool { window },
                    _ => OpKind::AveragePool { window, multipliers: builder.f32s(&multipliers) },
                };
                builder.op(kind, &[x], y, clamp);
                images.push((y, to));
            }
            kind => {
                let (groups, in_group, out_group) = match kind {
                    5 | 6 => (c, 1, 1),
                    7 if c.is_multiple_of(2) => (2, c / 2, draw.size(2..=7)),
                    _ => (1, c, draw.size(1..=21)),
                };
                let (window, [out_h, out_w]) = drawn_window(&mut draw, [h, w]);
                let taps = window.kernel[0] * window.kernel[1];
                let layer = draw.layer(from, (groups * out_group).into(), (taps * in_group).into());
                let y = builder.tensor([out_h, out_w, groups * out_group], to);
                builder.conv2d(window, groups, &layer, [x, y], clamp);
                images.push((y, to));
            }
        }
    }
    builder.finish()
}

/// A window, and the extents of its output: not so small that nothing is left to read, nor so large that the accumulators could leave
/// i32.
fn drawn_window(draw: &mut Draw, size: [u16; 2]) -> (WindowRepr, [u16; 2]) {
    loop {
        let mut pair = |range| [draw.size(range), draw.size(1..=4)];
        let window = WindowRepr {
            kernel: pair(1..=4),
            stride: pair(1..=2).map(|stride| stride.min(2)),
            padding: [pair(0..=2), pair(0..=2)].concat().try_into().unwrap(),
            dilation: pair(1..=2).map(|dilation| dilation.min(2)),
        };
        let out = slid(&window, size);
        if out.iter().all(|&extent| (3..=16).contains(&extent)) {
            return (window, out);
        }
    }
}

/// Extents of the output; 0 where the window does not fit.
fn slid(window: &WindowRepr, size: [u16; 2]) -> [u16; 2] {
    [0, 1].map(|axis| {
        let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
        let size = size[axis] + window.padding[axis] + window.padding[axis + 2];
        size.checked_sub(reach).map_or(0, |room| room / window.stride[axis] + 1)
    })
}

/// An image whose arena holds a picture of `side` x `side` RGB and, behind it, the same picture inverted.
pub(crate) fn large(side: u16) -> Vec<u8> {
    let mut builder = Builder::new([side, side, 3], ENCODING);
    let table = builder.data(&(0..=255).rev().collect::<Vec<u8>>());
    let output = builder.tensor([side, side, 3], ENCODING);
    builder.op(OpKind::Lookup { table }, &[0], output, ENCODING.whole());
    builder.finish()
}

struct Net {
    builder: Builder,
    draw: Draw,
}

impl Net {
    fn tensor(&mut self, shape: [u16; 3]) -> u32 {
        self.builder.tensor(shape, ENCODING)
    }

    /// 8-bit signed weights, as the exporter writes them.
    fn layer(&mut self, channels: u16, taps: u16) -> runtime::testing::Layer {
        loop {
            let layer = self.draw.layer(ENCODING, channels.into(), taps.into());
            if layer.bits == 8 && layer.signed {
                return layer;
            }
        }
    }

    /// A square convolution; its padding keeps the extent, its stride divides it.
    fn conv(&mut self, x: u32, kernel: u16, stride: u16, channels: u16) -> u32 {
        let [h, w, c] = self.builder.tensors[x as usize].shape;
        let window =
            WindowRepr { kernel: [kernel; 2], stride: [stride; 2], padding: [kernel / 2; 4], dilation: [1; 2] };
        let layer = self.layer(channels, kernel * kernel * c);
        let y = self.tensor([h.div_ceil(stride), w.div_ceil(stride), channels]);
        self.builder.conv2d(window, 1, &layer, [x, y], ENCODING.whole());
        y
    }
}

/// `count` pictures for `image`: a black one, a white one, and noise.
pub(crate) fn pictures(image: &[u8], count: usize) -> Vec<Vec<u8>> {
    let bytes = Image::check(image).unwrap().input().len();
    let mut draw = Draw::new(3);
    (0..count)
        .map(|i| match i {
            0 => vec![0; bytes],
            1 => vec![255; bytes],
            _ => (0..bytes).map(|_| draw.bits() as u8).collect(),
        })
        .collect()
}

/// What the plain kernels on this machine make of `pictures`: logits and CRCs.
pub(crate) fn on_host(image: &[u8], pictures: &[Vec<u8>]) -> Vec<Inference> {
    let image = Image::check(image).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap().with_kernels(Kernels::Reference);
    let mut run = |pixels: &Vec<u8>| {
        let mut crcs = vec![0; image.ops().len()];
        let mut sums = Checksums::new(&mut crcs);
        let logits = session.run_pixels_observed(pixels, &mut sums).unwrap().bytes().to_vec();
        Inference { logits, crcs, ..Inference::default() }
    };
    pictures.iter().map(&mut run).collect()
}
