//! What the records of a flash image say, as plain values. Enters: values from the exporter, or bytes already checked.
//! Leaves: bytes (`emit`) or values (`parse`). The byte layout of each record is stated in `docs/flash-image.md` and fixed
//! by the `emit`/`parse` pair beside it; nothing else in the project knows an offset.
//!
//! Activations lie in the arena as `H W C`, one byte an element (`bits` 8; narrower encodings also use one byte each,
//! except where [`TensorRepr::packed`] says otherwise). Convolution weights lie in flash as `K R S C/groups`, depthwise
//! ones (`groups = C`, `K = C`) as `R S C`, dense ones as `K C` with `C` in `H W C` order of the input.

/// Place of some bytes in the image: offset from its first byte, and length. `len = 0` means "not there".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// From the first byte of the image.
    pub offset: u32,
    /// In bytes.
    pub len: u32,
}

/// The header's fields that are not derived while writing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeaderRepr {
    /// Arithmetic contract, see `docs/arithmetic.md`; 1 is the only one.
    pub contract: u32,
    /// Arena bytes that a run needs, scratch included.
    pub arena_bytes: u32,
    /// Records in the tensor table, and where it starts.
    pub tensor_count: u32,
    /// Tensor table.
    pub tensors: Span,
    /// Records in the op table.
    pub op_count: u32,
    /// Op table.
    pub ops: Span,
    /// Index of the tensor that takes the image.
    pub input: u32,
    /// Index of the tensor that holds the logits.
    pub output: u32,
    /// For each input channel a table from pixel (0..=255) to stored byte: `C * 256` bytes.
    pub input_tables: Span,
    /// Mean and standard deviation of each input channel (f32 each, all means first), for the record: the tables are what runs.
    pub preprocessing: Span,
    /// Class names, UTF-8, each ended by `\n`.
    pub labels: Span,
    /// The network's name, UTF-8.
    pub name: Span,
    /// BLAKE3 of the network that was exported.
    pub provenance: [u8; 32],
}

/// An activation in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorRepr {
    /// From the start of the arena, a multiple of 16.
    pub offset: u32,
    /// Bytes in the arena.
    pub bytes: u32,
    /// Height, width, channels.
    pub shape: [u16; 3],
    /// 2 to 8.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// Whether elements narrower than 8 bits are packed (reserved: 0 in version 1).
    pub packed: bool,
    /// Step size.
    pub scale: f32,
    /// The integer that stands for 0.0.
    pub zero_point: i32,
    /// The tensor's name, UTF-8.
    pub name: Span,
}

/// Window of a convolution or pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowRepr {
    /// `R S`.
    pub kernel: [u16; 2],
    /// Down, right.
    pub stride: [u16; 2],
    /// Top, left, bottom, right.
    pub padding: [u16; 4],
    /// Down, right.
    pub dilation: [u16; 2],
}

/// Weights and requantization of a convolution or dense layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightsRepr {
    /// 8, 4 or 2; below 8 packed from the low bits up, each row (one `K`; for depthwise one `R S` tap) starting on a byte.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// The weights.
    pub data: Span,
    /// Zero point of the weights, one for each `K` if `per_channel_zero_point`, else one: i32 each.
    pub zero_points: Span,
    /// i32 for each `K`.
    pub bias: Span,
    /// f32 `M` for each `K`.
    pub multipliers: Span,
}

/// What an op computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OpKind {
    /// Convolution; depthwise when `groups` is the number of input and of output channels.
    Conv2d {
        /// Kernel, stride, padding, dilation.
        window: WindowRepr,
        /// Divides input and output channels.
        groups: u16,
        /// Parameters.
        weights: WeightsRepr,
    },
    /// Fully connected layer.
    Dense {
        /// Parameters.
        weights: WeightsRepr,
    },
    /// Maximum over a window.
    MaxPool {
        /// Kernel, stride, padding; dilation is 1.
        window: WindowRepr,
    },
    /// Mean over the taps inside the image.
    AveragePool {
        /// Kernel, stride, padding; dilation is 1.
        window: WindowRepr,
        /// f32 `M[n]` for `n = 1 ..= R*S` taps.
        multipliers: Span,
    },
    /// Mean over the whole image.
    GlobalAveragePool {
        /// `sx / (sy * H * W)`.
        multiplier: f32,
    },
    /// Sum of two tensors.
    Add {
        /// `A`, `B` of the contract.
        multipliers: [i32; 2],
        /// `shift` of the contract, 0 to 30.
        shift: u8,
    },
    /// Channels one after the other; for each input a 256-byte table, or none.
    Concat {
        /// For each input a [`Span`] (8 bytes), empty for "copy".
        tables: Span,
    },
    /// `y = table[x]`.
    Lookup {
        /// 256 bytes.
        table: Span,
    },
    /// The same bytes under another shape: input and output have the same arena offset.
    Reshape,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpRepr {
    /// What is computed.
    pub kind: OpKind,
    /// Tensor indices read: u32 each.
    pub inputs: Span,
    /// Tensor index written.
    pub output: u32,
    /// Lower end of the clamp, within the output's limits.
    pub clamp_min: i16,
    /// Upper end of the clamp.
    pub clamp_max: i16,
    /// Bytes of the arena that the kernel may use while it runs: offset from the start of the arena (a multiple of 16), length.
    pub scratch: Span,
    /// The op's name, UTF-8: the ONNX node it comes from.
    pub name: Span,
}
