//! What the records of a flash image say, as plain values. Enters: values from the exporter, or bytes. Leaves: bytes
//! (`emit`) or values (`parse`), both in `layout.rs`. Refuses nothing but flags and tags that have no meaning; whether
//! the values fit together is for [`Image::check`](super::Image::check) to say.
//!
//! Activations lie in the arena as `H W C`, one byte an element, whatever the bits of the encoding. Convolution weights
//! lie in flash as `K R S C/groups`, depthwise ones (`groups = C = K`) as `R S C`, dense ones as `K C` with `C` in the
//! `H W C` order of the input.

/// Place of some bytes in the image: offset from its first byte, and length. `len = 0` means "not there".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// From the first byte of the image.
    pub offset: u32,
    /// In bytes.
    pub len: u32,
}

impl Span {
    /// `len` bytes from `offset` on.
    pub const fn new(offset: u32, len: u32) -> Self {
        Self { offset, len }
    }

    /// Whether there is nothing.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// First byte behind the last one; `u64` because hostile fields may add up to more than `u32` holds.
    pub const fn end(self) -> u64 {
        self.offset as u64 + self.len as u64
    }

    /// Whether the two have a byte in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.len > 0 && other.len > 0 && (self.offset as u64) < other.end() && (other.offset as u64) < self.end()
    }
}

/// The header's fields, but for magic, version, length and CRC, which [`seal`](super::seal) writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRepr {
    /// Arithmetic contract, see `docs/arithmetic.md`; 1 is the only one.
    pub contract: u32,
    /// Arena bytes that a run needs, scratch included.
    pub arena_bytes: u32,
    /// Tensor table: records of [`TensorRepr::BYTES`].
    pub tensors: Span,
    /// Op table, in the order of execution: records of [`OpRepr::BYTES`].
    pub ops: Span,
    /// Index of the tensor that takes the image.
    pub input: u32,
    /// Index of the tensor that holds the logits.
    pub output: u32,
    /// For each input channel a table from pixel (0 to 255) to stored byte: `C * 256` bytes.
    pub input_tables: Span,
    /// Mean and standard deviation of each input channel (f32 each, all means first), for the record: the tables are what runs.
    pub preprocessing: Span,
    /// Class names, UTF-8, each ended by `\n`: none, or one for each logit.
    pub labels: Span,
    /// The network's name, UTF-8.
    pub name: Span,
    /// BLAKE3 of the network that was exported.
    pub provenance: [u8; 32],
}

/// Weights packed in one order, behind all that every reader reads.
#[cfg(any(test, feature = "std"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedRepr {
    /// Of the order ([`Packing::tag`](crate::host::Packing::tag)).
    pub tag: u32,
    /// Of the words; behind them, at the next multiple of 64, the rows.
    pub offset: u32,
    /// Words of four bytes.
    pub words: u32,
    /// Rows of 64 bytes.
    pub rows: u32,
}

/// The end of a file with packed weights.
#[cfg(any(test, feature = "std"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterRepr {
    /// Bytes of the file before anything was appended.
    pub portable: u32,
    /// Records before the footer.
    pub count: u32,
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
    /// Step size, positive and finite.
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
    /// 8, 4 or 2; below 8 packed from the low bits up, each row (one `K`; for depthwise one tap of `R S`) starting on a
    /// byte. Bits left over at the end of a row mean nothing.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
    /// The weights.
    pub data: Span,
    /// Zero points of the weights, i32 each: one, or one for each `K`.
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
    /// Product of two tensors; the second may be one pixel for all pixels of the first.
    Mul {
        /// `sa * sb / sy`.
        multiplier: f32,
    },
    /// Zeros around height and width.
    Pad {
        /// Top, left, bottom, right.
        padding: [u16; 4],
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
    /// Shares of 1 over the channels of each pixel.
    Softmax {
        /// u32 `T[d]` of the contract for `d = 0 .. 2^bits` of the input.
        table: Span,
        /// `A` of the contract.
        multiplier: i32,
        /// `shift` of the contract, 0 to 16.
        shift: u8,
    },
    /// The same bytes under another shape: input and output have the same arena offset.
    Reshape,
}

impl OpKind {
    /// The ONNX operator, or the nearest to one.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "Conv",
            Self::Dense { .. } => "Gemm",
            Self::MaxPool { .. } => "MaxPool",
            Self::AveragePool { .. } => "AveragePool",
            Self::GlobalAveragePool { .. } => "GlobalAveragePool",
            Self::Add { .. } => "Add",
            Self::Mul { .. } => "Mul",
            Self::Pad { .. } => "Pad",
            Self::Concat { .. } => "Concat",
            Self::Lookup { .. } => "Lookup",
            Self::Softmax { .. } => "Softmax",
            Self::Reshape => "Reshape",
        }
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpRepr {
    /// What is computed.
    pub kind: OpKind,
    /// Tensor indices read: u32 each, in the order of the op's operands.
    pub inputs: Span,
    /// Tensor index written.
    pub output: u32,
    /// Lower end of the clamp, within the output's limits.
    pub clamp_min: i16,
    /// Upper end of the clamp.
    pub clamp_max: i16,
    /// Bytes of the arena (not of the image) that the kernel may use while it runs, at least
    /// [`kernels::scratch_bytes`](crate::kernels::scratch_bytes); the offset is a multiple of 16.
    pub scratch: Span,
    /// The op's name, UTF-8: the ONNX node it comes from.
    pub name: Span,
}
