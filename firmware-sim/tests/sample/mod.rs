//! A small network in the form of a flash image: every kind of op that differs in what it asks of a core. Enters: a seed.
//! Leaves: the bytes of an image that `Image::check` accepts, with weights, biases and multipliers drawn from the seed.

use runtime::image::repr::{HeaderRepr, OpKind, OpRepr, Span, TensorRepr, WeightsRepr, WindowRepr};
use runtime::image::{ALIGN, seal};

/// `H W C` of the input.
pub const INPUT: [u16; 3] = [16, 16, 3];
/// Classes.
pub const CLASSES: u16 = 10;
/// Bytes for the columns of any convolution here.
const SCRATCH: u32 = 2 * 2 * 3 * 3 * 16;

struct Builder {
    file: Vec<u8>,
    tensors: Vec<TensorRepr>,
    ops: Vec<OpRepr>,
    arena: u32,
    state: u64,
}

/// The image.
pub fn image(seed: u64) -> Vec<u8> {
    let mut b =
        Builder { file: vec![0; HeaderRepr::BYTES], tensors: vec![], ops: vec![], arena: SCRATCH, state: seed };
    let window = |kernel: u16, stride: u16, padding: u16| WindowRepr {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [1; 2],
    };
    let input = b.tensor("picture", INPUT, -128);
    let stem = b.conv("stem", input, window(3, 1, 1), 1, [16, 16, 8]);
    let depthwise = b.conv("depthwise", stem, window(3, 2, 1), 8, [8, 8, 8]);
    let point = b.conv("point", depthwise, window(1, 1, 0), 1, [8, 8, 16]);
    let branch = b.conv("branch", point, window(3, 1, 1), 1, [8, 8, 16]);
    let sum = b.tensor("sum", [8, 8, 16], 4);
    b.op("sum", OpKind::Add { multipliers: [3 << 20, 5 << 19], shift: 22 }, &[point, branch], sum);
    let pool = b.tensor("pool", [4, 4, 16], 4);
    b.op("pool", OpKind::MaxPool { window: window(2, 2, 0) }, &[sum], pool);
    let mean = b.tensor("mean", [1, 1, 16], -3);
    b.op("mean", OpKind::GlobalAveragePool { multiplier: 0.0931 }, &[pool], mean);
    let head = b.tensor("head", [1, 1, CLASSES], 0);
    let weights = b.weights(16 * u32::from(CLASSES), CLASSES, 16);
    b.op("head", OpKind::Dense { weights }, &[mean], head);
    b.finish(input, head)
}

impl Builder {
    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        self.file.resize(self.file.len().next_multiple_of(ALIGN as usize), 0);
        let offset = self.file.len() as u32;
        self.file.extend(bytes);
        Span::new(offset, bytes.len() as u32)
    }

    fn tensor(&mut self, name: &str, shape: [u16; 3], zero_point: i32) -> u32 {
        let bytes = shape.iter().map(|e| u32::from(*e)).product::<u32>();
        let name = self.put(name.as_bytes());
        let offset = self.arena;
        self.arena = (offset + bytes).next_multiple_of(ALIGN);
        let encoding = (8, true, 0.05);
        let (bits, signed, scale) = encoding;
        self.tensors.push(TensorRepr { offset, bytes, shape, bits, signed, scale, zero_point, name });
        self.tensors.len() as u32 - 1
    }

    fn weights(&mut self, count: u32, channels: u16, taps: u32) -> WeightsRepr {
        let data: Vec<u8> = (0..count).map(|_| (self.random() >> 56) as u8).collect();
        let bias: Vec<u8> = (0..channels).flat_map(|_| ((self.random() as i32) >> 20).to_le_bytes()).collect();
        // About as large as keeps the sums of `taps` products within a byte, and no power of two.
        let base = 1.3 / (74.0 * f32::from(u16::try_from(taps).unwrap()).sqrt());
        let multipliers: Vec<u8> = (0..channels)
            .flat_map(|_| (base * (0.75 + (self.random() >> 40) as f32 / (1 << 25) as f32)).to_le_bytes())
            .collect();
        let (data, bias, multipliers) = (self.put(&data), self.put(&bias), self.put(&multipliers));
        let zero_points = self.put(&0i32.to_le_bytes());
        WeightsRepr { bits: 8, signed: true, data, zero_points, bias, multipliers }
    }

    fn conv(&mut self, name: &str, input: u32, window: WindowRepr, groups: u16, shape: [u16; 3]) -> u32 {
        let channels = u32::from(self.tensors[input as usize].shape[2] / groups);
        let taps = u32::from(window.kernel[0]) * u32::from(window.kernel[1]) * channels;
        let weights = self.weights(taps * u32::from(shape[2]), shape[2], taps);
        let output = self.tensor(name, shape, -128 + 8 * (self.ops.len() as i32));
        self.op(name, OpKind::Conv2d { window, groups, weights }, &[input], output);
        output
    }

    fn op(&mut self, name: &str, kind: OpKind, inputs: &[u32], output: u32) {
        let bytes: Vec<u8> = inputs.iter().flat_map(|i| i.to_le_bytes()).collect();
        let (inputs, name) = (self.put(&bytes), self.put(name.as_bytes()));
        let scratch = match kind {
            OpKind::Conv2d { .. } => Span::new(0, SCRATCH),
            _ => Span::default(),
        };
        self.ops.push(OpRepr { kind, inputs, output, clamp_min: -128, clamp_max: 127, scratch, name });
    }

    fn finish(mut self, input: u32, output: u32) -> Vec<u8> {
        let table: Vec<u8> = (0..3).flat_map(|c| (0..=255u8).map(move |p| (p ^ 0x80).saturating_add(c))).collect();
        let input_tables = self.put(&table);
        let preprocessing: Vec<u8> = [0.5f32, 0.5, 0.5, 0.25, 0.25, 0.25].iter().flat_map(|v| v.to_le_bytes()).collect();
        let preprocessing = self.put(&preprocessing);
        let labels: String = (0..CLASSES).map(|class| format!("class {class}\n")).collect();
        let (labels, name) = (self.put(labels.as_bytes()), self.put(b"sample"));
        let tensors: Vec<u8> = self.tensors.iter().flat_map(|t| t.emit()).collect();
        let ops: Vec<u8> = self.ops.iter().flat_map(|o| o.emit()).collect();
        let (tensors, ops) = (self.put(&tensors), self.put(&ops));
        let header = HeaderRepr {
            contract: 1,
            arena_bytes: self.arena,
            tensors,
            ops,
            input,
            output,
            input_tables,
            preprocessing,
            labels,
            name,
            provenance: [0; 32],
        };
        self.file[..HeaderRepr::BYTES].copy_from_slice(&header.emit());
        seal(&mut self.file).unwrap();
        self.file
    }
}

/// `count` pictures of noise, and between them a black and a white one.
pub fn pictures(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut source = Builder { file: vec![], tensors: vec![], ops: vec![], arena: 0, state: seed };
    let bytes = INPUT.iter().map(|e| usize::from(*e)).product();
    (0..count)
        .map(|i| match i % 8 {
            3 => vec![0; bytes],
            5 => vec![255; bytes],
            _ => (0..bytes).map(|_| (source.random() >> 56) as u8).collect(),
        })
        .collect()
}
