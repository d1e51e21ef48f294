//! Writes an image piece by piece: data first, each aligned, and the tables at the end.

use crate::{
    arith,
    image::{
        ALIGN,
        repr::{HeaderRepr, OpKind, OpRepr, Span, TensorRepr, WeightsRepr, WindowRepr},
        seal,
    },
    kernels::{scratch, scratch_bytes},
};

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// 2 to 8.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// Step size.
    pub scale: f32,
    /// The integer that stands for 0.0.
    pub zero_point: i32,
}

impl Encoding {
    /// Least and greatest integer.
    pub const fn limits(&self) -> (i32, i32) {
        arith::limits(self.bits, self.signed)
    }

    /// The whole encoding as a clamp, which then does nothing.
    pub const fn whole(&self) -> [i32; 2] {
        let (low, high) = self.limits();
        [low, high]
    }
}

/// Weights and constants of a convolution or dense layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// 8, 4 or 2.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// `K C/groups R S` for a convolution, `K C` with `C` in `H W C` order for a dense layer.
    pub weights: Vec<i32>,
    /// One, or one for each output channel.
    pub zero_points: Vec<i32>,
    /// One for each output channel.
    pub bias: Vec<i32>,
    /// One for each output channel.
    pub multipliers: Vec<f32>,
}

/// An image in the making. Every tensor and every scratch gets arena bytes of its own; the fields are public so that a
/// test can spoil them before [`Self::finish`].
#[derive(Clone, Debug)]
pub struct Builder {
    /// The file so far, without tables.
    pub file: Vec<u8>,
    /// The header; spans of the tables are set by [`Self::finish`].
    pub header: HeaderRepr,
    /// The tensor table.
    pub tensors: Vec<TensorRepr>,
    /// The op table.
    pub ops: Vec<OpRepr>,
}

impl Builder {
    /// An image whose input has this shape (`H W C`) and encoding, and stores the pixel's low bits, offset to its least
    /// integer.
    pub fn new(shape: [u16; 3], encoding: Encoding) -> Self {
        let nothing = Span::default();
        let header = HeaderRepr {
            contract: arith::CONTRACT,
            arena_bytes: 0,
            tensors: nothing,
            ops: nothing,
            input: 0,
            output: 0,
            input_tables: nothing,
            preprocessing: nothing,
            labels: nothing,
            name: nothing,
            provenance: [7; 32],
        };
        let mut builder = Self { file: vec![0; HeaderRepr::BYTES], header, tensors: Vec::new(), ops: Vec::new() };
        builder.tensor(shape, encoding);
        let (low, high) = encoding.limits();
        let table: Vec<u8> = (0..256).map(|pixel| (low + (pixel & (high - low))) as u8).collect();
        builder.header.input_tables = builder.data(&table.repeat(shape[2].into()));
        builder.header.preprocessing = builder.f32s(&[vec![0.0; shape[2].into()], vec![1.0; shape[2].into()]].concat());
        builder.header.name = builder.data(b"drawn by a test");
        builder
    }

    /// Appends `bytes`, aligned.
    pub fn data(&mut self, bytes: &[u8]) -> Span {
        self.file.resize(self.file.len().next_multiple_of(ALIGN as usize), 0);
        let span = Span::new(self.file.len() as u32, bytes.len() as u32);
        self.file.extend_from_slice(bytes);
        span
    }

    /// Appends a table of i32.
    pub fn i32s(&mut self, values: &[i32]) -> Span {
        self.data(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Appends a table of f32.
    pub fn f32s(&mut self, values: &[f32]) -> Span {
        self.data(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Arena bytes behind all that have been given out.
    fn reserve(&mut self, bytes: u32) -> u32 {
        let offset = self.header.arena_bytes.next_multiple_of(ALIGN);
        self.header.arena_bytes = offset + bytes;
        offset
    }

    /// Appends a tensor (`H W C`), which becomes the network's output.
    pub fn tensor(&mut self, shape: [u16; 3], encoding: Encoding) -> u32 {
        let Encoding { bits, signed, scale, zero_point } = encoding;
        let bytes = shape.map(u32::from).iter().product();
        let offset = self.reserve(bytes);
        let name = self.data(format!("tensor {}", self.tensors.len()).as_bytes());
        self.tensors.push(TensorRepr { offset, bytes, shape, bits, signed, scale, zero_point, name });
        self.header.output = self.tensors.len() as u32 - 1;
        self.header.output
    }

    /// Appends an op.
    pub fn op(&mut self, kind: OpKind, inputs: &[u32], output: u32, clamp: [i32; 2]) {
        let (x, y) = (self.tensors[inputs[0] as usize], self.tensors[output as usize]);
        let bytes = scratch_bytes(&kind, &x, &y) as u32;
        let scratch = Span::new(self.reserve(bytes), bytes);
        let inputs = self.i32s(&inputs.iter().map(|&input| input as i32).collect::<Vec<_>>());
        let name = self.data(format!("op {}", self.ops.len()).as_bytes());
        let [clamp_min, clamp_max] = clamp.map(|end| end as i16);
        self.ops.push(OpRepr { kind, inputs, output, clamp_min, clamp_max, scratch, name });
    }

    /// Appends a convolution.
    pub fn conv2d(&mut self, window: WindowRepr, groups: u16, layer: &Layer, [x, y]: [u32; 2], clamp: [i32; 2]) {
        let (c, k) = (self.tensors[x as usize].shape[2], self.tensors[y as usize].shape[2]);
        let (taps, in_group) = (usize::from(window.kernel[0] * window.kernel[1]), usize::from(c / groups));
        let at = |k: usize, c: usize, tap: usize| layer.weights[(k * in_group + c) * taps + tap];
        let rows: Vec<Vec<i32>> = if scratch::is_depthwise(groups, c, k) {
            (0..taps).map(|tap| (0..k.into()).map(|k| at(k, 0, tap)).collect()).collect()
        } else {
            (0..k.into()).map(|k| (0..taps * in_group).map(|i| at(k, i % in_group, i / in_group)).collect()).collect()
        };
        let weights = self.weights(&rows, layer);
        self.op(OpKind::Conv2d { window, groups, weights }, &[x], y, clamp);
    }

    /// Appends a dense layer.
    pub fn dense(&mut self, layer: &Layer, [x, y]: [u32; 2], clamp: [i32; 2]) {
        let len = self.tensors[x as usize].bytes as usize;
        let rows: Vec<Vec<i32>> = layer.weights.chunks(len).map(<[i32]>::to_vec).collect();
        let weights = self.weights(&rows, layer);
        self.op(OpKind::Dense { weights }, &[x], y, clamp);
    }

    fn weights(&mut self, rows: &[Vec<i32>], layer: &Layer) -> WeightsRepr {
        let per_byte = 8 / usize::from(layer.bits);
        let mask = ((1u32 << layer.bits) - 1) as i32;
        let pack = |part: &[i32]| part.iter().rev().fold(0, |byte, weight| byte << layer.bits | weight & mask) as u8;
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.chunks(per_byte).map(pack)).collect();
        WeightsRepr {
            bits: layer.bits,
            signed: layer.signed,
            data: self.data(&bytes),
            zero_points: self.i32s(&layer.zero_points),
            bias: self.i32s(&layer.bias),
            multipliers: self.f32s(&layer.multipliers),
        }
    }

    /// The image.
    pub fn finish(mut self) -> Vec<u8> {
        let tensors: Vec<u8> = self.tensors.iter().flat_map(TensorRepr::emit).collect();
        let ops: Vec<u8> = self.ops.iter().flat_map(OpRepr::emit).collect();
        self.header.tensors = self.data(&tensors);
        self.header.ops = self.data(&ops);
        self.file[..HeaderRepr::BYTES].copy_from_slice(&self.header.emit());
        seal(&mut self.file).expect("a small file");
        self.file
    }
}
