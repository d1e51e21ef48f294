//! What is measured: one op of each kind, with shapes of the usual networks and drawn weights. Enters: nothing. Leaves: flash images
//! with one op, and an input for each.

use runtime::image::repr::{OpKind, WindowRepr};
use runtime::testing::{Builder, Draw, Encoding, Layer};

/// One op.
pub(crate) struct Case {
    /// Kind, shape, bits of the weights.
    pub(crate) name: String,
    /// The flash image.
    pub(crate) file: Vec<u8>,
    /// What its input stores.
    pub(crate) input: Vec<u8>,
}

/// Of every tensor.
const ENCODING: Encoding = Encoding { bits: 8, signed: false, scale: 0.05, zero_point: 7 };

/// All of them; the same each time.
pub(crate) fn cases() -> Vec<Case> {
    let mut draw = Draw::new(4);
    let mut cases = Vec::new();
    for bits in [8, 4, 2] {
        for (name, kernel, stride, groups, side, channels, outputs) in [
            ("conv 1x1", 1, 1, 1, 16, 64, 128),
            ("conv 3x3", 3, 1, 1, 16, 32, 32),
            ("conv 3x3 stride 2", 3, 2, 1, 32, 3, 16),
            ("depthwise 3x3", 3, 1, 64, 24, 64, 64),
            ("depthwise 5x5", 5, 1, 64, 24, 64, 64),
        ] {
            let mut builder = Builder::new([side, side, channels], ENCODING);
            let taps = kernel * kernel * channels / groups;
            let layer = layer(&mut draw, bits, outputs, taps);
            let out = side.div_ceil(stride);
            let y = builder.tensor([out, out, outputs], ENCODING);
            builder.conv2d(square(kernel, stride), groups, &layer, [0, y], ENCODING.whole());
            cases.push(case(&mut draw, format!("{name}, {side}x{side}x{channels} to {outputs}, {bits} bits"), builder));
        }
        let (inputs, outputs) = (256, 100);
        let mut builder = Builder::new([1, 1, inputs], ENCODING);
        let layer = layer(&mut draw, bits, outputs, inputs);
        let y = builder.tensor([1, 1, outputs], ENCODING);
        builder.dense(&layer, [0, y], ENCODING.whole());
        cases.push(case(&mut draw, format!("dense, {inputs} to {outputs}, {bits} bits"), builder));
    }
    let shape @ [h, w, c] = [32, 32, 64];
    let window = WindowRepr { stride: [2; 2], ..square(3, 2) };
    for (name, size) in [
        ("max pool 3x3", [16, 16, c]),
        ("average pool 3x3", [16, 16, c]),
        ("global average pool", [1, 1, c]),
        ("add", shape),
    ] {
        let mut builder = Builder::new(shape, ENCODING);
        let y = builder.tensor(size, ENCODING);
        let means: Vec<f32> = (1..=9u8).map(|taps| 1.0 / f32::from(taps)).collect();
        let (kind, inputs): (_, &[u32]) = match name {
            "max pool 3x3" => (OpKind::MaxPool { window }, &[0]),
            "average pool 3x3" => (OpKind::AveragePool { window, multipliers: builder.f32s(&means) }, &[0]),
            "add" => (OpKind::Add { multipliers: [3_000_001, 2_222_222], shift: 22 }, &[0, 0]),
            _ => (OpKind::GlobalAveragePool { multiplier: 1.0 / f32::from(h * w) }, &[0]),
        };
        builder.op(kind, inputs, y, ENCODING.whole());
        cases.push(case(&mut draw, format!("{name}, {h}x{w}x{c}"), builder));
    }
    cases
}

/// A window that keeps the extent, or divides it.
fn square(kernel: u16, stride: u16) -> WindowRepr {
    WindowRepr { kernel: [kernel; 2], stride: [stride; 2], padding: [kernel / 2; 4], dilation: [1; 2] }
}

/// Signed weights of so many bits with one zero point, 0, as the exporter writes them.
fn layer(draw: &mut Draw, bits: u8, outputs: u16, taps: u16) -> Layer {
    loop {
        let layer = draw.layer(ENCODING, outputs.into(), taps.into());
        if layer.bits == bits && layer.signed {
            return Layer { zero_points: vec![0], ..layer };
        }
    }
}

fn case(draw: &mut Draw, name: String, builder: Builder) -> Case {
    let input = draw.stored(ENCODING, builder.tensors[0].bytes as usize);
    Case { name, file: builder.finish(), input }
}
