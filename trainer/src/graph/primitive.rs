//! Node types of the hypernetwork's graph and the vocabularies of its embeddings (GHN-2, section "node features").
//! Enters: a channel count or a kernel size. Leaves: the row of the embedding table. Refuses nothing: what is not in the
//! vocabulary gets its nearest entry.

use serde::{Deserialize, Serialize};

/// Type of a node; the discriminant is the row of the op embedding, in the order of GHN-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Primitive {
    /// Max-pooling 3x3.
    MaxPool = 0,
    /// Average pooling 3x3.
    AveragePool = 1,
    /// Depthwise convolution, dilation 1.
    SepConv = 2,
    /// Depthwise convolution, dilation 2.
    DilConv = 3,
    /// Ungrouped convolution of any kernel, or the weight of a linear layer.
    Conv = 4,
    /// Sum of states.
    Sum = 7,
    /// Concatenation of channels.
    Concat = 8,
    /// The image; node 0 of every graph.
    Input = 9,
    /// Bias of a linear layer.
    Bias = 10,
    /// BatchNorm: scale and shift.
    BatchNorm = 11,
    /// Global average pooling.
    GlobalAverage = 14,
}

impl Primitive {
    /// Those that occur in these spaces. Rows 5, 6, 12 and 13 of GHN-2 (attention, squeeze-excitation, LayerNorm,
    /// positional encoding) do not.
    pub const ALL: [Self; 11] = [
        Self::MaxPool,
        Self::AveragePool,
        Self::SepConv,
        Self::DilConv,
        Self::Conv,
        Self::Sum,
        Self::Concat,
        Self::Input,
        Self::Bias,
        Self::BatchNorm,
        Self::GlobalAverage,
    ];

    /// Rows of the op embedding.
    pub const ROWS: usize = 15;

    /// The name in GHN-2.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxPool => "max_pool",
            Self::AveragePool => "avg_pool",
            Self::SepConv => "sep_conv",
            Self::DilConv => "dil_conv",
            Self::Conv => "conv",
            Self::Sum => "sum",
            Self::Concat => "concat",
            Self::Input => "input",
            Self::Bias => "bias",
            Self::BatchNorm => "bn",
            Self::GlobalAverage => "glob_avg",
        }
    }

    /// Row of the op embedding.
    pub const fn row(self) -> usize {
        self as usize
    }

    /// Whether the hypernetwork predicts parameters for such a node.
    pub const fn has_parameters(self) -> bool {
        matches!(self, Self::SepConv | Self::DilConv | Self::Conv | Self::Bias | Self::BatchNorm)
    }
}

/// Rows of the channel embedding: 391 counts and, last, "no shape".
pub const CHANNEL_ROWS: usize = 392;

/// Rows of the kernel embedding: 8 sizes and, last, "no shape".
pub const KERNEL_ROWS: usize = 9;

/// Kernel sizes of the vocabulary.
const KERNELS: [usize; KERNEL_ROWS - 1] = [1, 3, 5, 7, 9, 11, 14, 16];

/// Row of the channel embedding for `channels`: 1, 3, 10, multiples of 8 up to 56, of 16 up to 4080, of 32 up to 8192; the
/// nearest, the smaller of two, but 8 for 4 to 7.
pub const fn channel_row(channels: usize) -> usize {
    // Rows: 0 = 1, 1 = 3, 2 = 8, 3 = 10, 4.. = 16, 24, .., 56, then 10.. = 64, 80, .., 4080, then 262.. = 4096, 4128, ..
    match channels {
        0..=2 => 0,
        3 => 1,
        4..=9 => 2,
        10..=13 => 3,
        14..=60 => nearest(channels, 16, 8) + 4,
        61..=4088 => nearest(channels, 64, 16) + 10,
        _ => nearest(if channels < 8192 { channels } else { 8192 }, 4096, 32) + 262,
    }
}

/// Index of the entry of `first, first + step, ..` that is nearest to `n`, the smaller of two.
const fn nearest(n: usize, first: usize, step: usize) -> usize {
    (n.saturating_sub(first) + (step - 1) / 2) / step
}

/// Row of the kernel embedding for a kernel of `size`: 1, 3, 5, 7, 9, 11, 14, 16; the nearest, the smaller of two, but 3
/// for 2.
pub const fn kernel_row(size: usize) -> usize {
    if size == 2 {
        return 1;
    }
    let mut best = 0;
    let mut row = 1;
    while row < KERNELS.len() {
        if KERNELS[row].abs_diff(size) < KERNELS[best].abs_diff(size) {
            best = row;
        }
        row += 1;
    }
    best
}

/// Rows for a parameter of shape `K C R S`, or the "no shape" rows: channel, channel, kernel, kernel.
pub const fn shape_rows(shape: Option<[usize; 4]>) -> [u16; 4] {
    match shape {
        Some([k, c, r, s]) => {
            [channel_row(k) as u16, channel_row(c) as u16, kernel_row(r) as u16, kernel_row(s) as u16]
        }
        None => [CHANNEL_ROWS as u16 - 1, CHANNEL_ROWS as u16 - 1, KERNEL_ROWS as u16 - 1, KERNEL_ROWS as u16 - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vocabulary and the look-up as GHN-2 states them, the slow way.
    fn by_definition(channels: usize) -> usize {
        let mut vocabulary: Vec<usize> = vec![1, 3, 10];
        vocabulary.extend((8..=56).step_by(8));
        vocabulary.extend((64..=4080).step_by(16));
        vocabulary.extend((4096..=8192).step_by(32));
        vocabulary.sort_unstable();
        assert_eq!(vocabulary.len(), CHANNEL_ROWS - 1);
        let channels = match channels {
            4..=7 => 8,
            c => c.min(8192),
        };
        (0..vocabulary.len()).min_by_key(|&row| (vocabulary[row].abs_diff(channels), row)).unwrap()
    }

    #[test]
    fn channels_by_definition() {
        for channels in (1..9000).chain([100_000]) {
            assert_eq!(channel_row(channels), by_definition(channels), "{channels} channels");
        }
    }

    #[test]
    fn stated_examples() {
        for (channels, same) in [(2, 1), (20, 16), (72, 64), (9, 8), (13, 10), (5, 8), (10_000, 8192)] {
            assert_eq!(channel_row(channels), channel_row(same), "{channels} channels");
        }
        for (size, entry) in [(1, 1), (2, 3), (4, 3), (6, 5), (13, 14), (12, 11), (40, 16)] {
            assert_eq!(KERNELS[kernel_row(size)], entry, "kernel {size}");
        }
        assert_eq!(shape_rows(None), [391, 391, 8, 8]);
        assert_eq!(shape_rows(Some([10, 64, 1, 1])), [3, 10, 0, 0]);
    }

    #[test]
    fn rows_are_distinct() {
        assert!(Primitive::ALL.windows(2).all(|p| p[0].row() < p[1].row() && p[1].row() < Primitive::ROWS));
    }
}
