//! The arguments of one network: what is sampled, stored and compared. Enters: a choice of operations, inputs and widths.
//! Leaves: the same, checked. Refused by [`Architecture::check`]: what no network can be built from, with the field, what
//! was found and what was expected.
//!
//! The family is that of DARTS as sampled by DeepNets-1M (Knyazev et al. 2021): a stem, a chain of cells that share two
//! genotypes (normal and reduction), a classifier. Networks are pre-activation (ReLU, convolution, BatchNorm).

use serde::{Deserialize, Serialize};
use std::fmt;

/// One operation of a cell. Convolutions are ReLU, convolution(s), BatchNorm; none has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellOp {
    /// The branch does not exist.
    None,
    /// 3x3, padding 1; no BatchNorm.
    MaxPool,
    /// 3x3, padding 1, padding not counted; no BatchNorm.
    AveragePool,
    /// Identity; with stride 2 a factorized reduction: two 1x1 convolutions, one of them shifted by a pixel.
    Skip,
    /// Depthwise and 1x1 convolution, twice; 3x3.
    Separable3,
    /// The same, 5x5.
    Separable5,
    /// The same, 7x7.
    Separable7,
    /// Depthwise with dilation 2 and 1x1 convolution; 3x3.
    Dilated3,
    /// The same, 5x5.
    Dilated5,
    /// The same, 7x7.
    Dilated7,
    /// 1x1.
    Convolution1,
    /// 3x3.
    Convolution3,
    /// 5x5.
    Convolution5,
    /// 7x7.
    Convolution7,
}

impl CellOp {
    /// All of them; the index is what [`super::GraphSet`] files store.
    pub const ALL: [Self; 14] = [
        Self::None,
        Self::MaxPool,
        Self::AveragePool,
        Self::Skip,
        Self::Separable3,
        Self::Separable5,
        Self::Separable7,
        Self::Dilated3,
        Self::Dilated5,
        Self::Dilated7,
        Self::Convolution1,
        Self::Convolution3,
        Self::Convolution5,
        Self::Convolution7,
    ];

    /// The name in DeepNets-1M.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MaxPool => "max_pool_3x3",
            Self::AveragePool => "avg_pool_3x3",
            Self::Skip => "skip_connect",
            Self::Separable3 => "sep_conv_3x3",
            Self::Separable5 => "sep_conv_5x5",
            Self::Separable7 => "sep_conv_7x7",
            Self::Dilated3 => "dil_conv_3x3",
            Self::Dilated5 => "dil_conv_5x5",
            Self::Dilated7 => "dil_conv_7x7",
            Self::Convolution1 => "conv_1x1",
            Self::Convolution3 => "conv_3x3",
            Self::Convolution5 => "conv_5x5",
            Self::Convolution7 => "conv_7x7",
        }
    }

    /// Whether it has weights even with stride 1.
    pub const fn is_convolution(self) -> bool {
        !matches!(self, Self::None | Self::MaxPool | Self::AveragePool | Self::Skip)
    }

    /// Whether it is an ungrouped convolution of 5x5 or 7x7, of which the space allows one in a cell.
    pub const fn is_large(self) -> bool {
        matches!(self, Self::Convolution5 | Self::Convolution7)
    }
}

/// One state of a cell: the sum of two operations, each on an earlier state.
///
/// Addition commutes, so the two are kept in order of their input: equal networks have equal arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// Operation and state it reads, twice, the smaller state first. States 0 and 1 are the cell's inputs, state `k + 2`
    /// is what step `k` makes.
    pub branches: [(CellOp, u8); 2],
}

impl Step {
    /// The sum of `a.0` on state `a.1` and `b.0` on state `b.1`, in either order.
    pub const fn new(a: (CellOp, u8), b: (CellOp, u8)) -> Self {
        Self { branches: if a.1 <= b.1 { [a, b] } else { [b, a] } }
    }
}

/// How the image enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// One convolution to three times the width.
    Simple {
        /// Then a max-pool 3x3 with stride 2.
        pool: bool,
    },
    /// Three convolutions, the last with stride 2; both resolutions go on.
    Strided,
}

/// Everything that tells one network of the family from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Architecture {
    /// Number of cells; those at a third and at two thirds reduce height and width.
    pub cells: u8,
    /// Channels `C` of the first cell's states, even.
    pub width: u16,
    /// Factor of the channels at each reduction: 1 or 2.
    pub widening: u8,
    /// Steps of the cells that keep height and width.
    pub normal: Vec<Step>,
    /// Steps of the cells that halve them; as many.
    pub reduction: Vec<Step>,
    /// Which steps' states are concatenated to the cell's output, in both kinds of cell; the last always is.
    pub concat: Vec<bool>,
    /// How the image enters.
    pub stem: Stem,
    /// Kernel of the first convolution: 3, 5 or 7.
    pub stem_kernel: u8,
    /// Whether convolutions are followed by BatchNorm.
    pub batch_norm: bool,
    /// Global average pooling before the classifier; otherwise every pixel is a feature.
    pub global_average: bool,
    /// Features of a hidden layer in the classifier.
    pub hidden: Option<u16>,
}

/// Why arguments make no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("architecture: {field}: found {found}, expected {expected}")]
pub struct ArchitectureError {
    /// Name of the field.
    pub field: &'static str,
    /// What is there.
    pub found: String,
    /// What may be there.
    pub expected: String,
}

impl Architecture {
    /// Most cells that a file can hold.
    pub const MAX_CELLS: u8 = 63;
    /// Most steps of a cell.
    pub const MAX_STEPS: usize = 6;
    /// Largest [`Self::width`].
    pub const MAX_WIDTH: u16 = 4094;
    /// Largest [`Self::hidden`].
    pub const MAX_HIDDEN: u16 = 4095;

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), ArchitectureError> {
        let require = |holds: bool, field, found: &dyn fmt::Display, expected: &dyn fmt::Display| {
            let fault = || ArchitectureError { field, found: found.to_string(), expected: expected.to_string() };
            if holds { Ok(()) } else { Err(fault()) }
        };
        let cells = format!("1 to {}", Self::MAX_CELLS);
        require((1..=Self::MAX_CELLS).contains(&self.cells), "cells", &self.cells, &cells)?;
        let widths = format!("an even number, 2 to {}", Self::MAX_WIDTH);
        let even = self.width.is_multiple_of(2) && (2..=Self::MAX_WIDTH).contains(&self.width);
        require(even, "width", &self.width, &widths)?;
        require((1..=2).contains(&self.widening), "widening", &self.widening, &"1 or 2")?;
        require(matches!(self.stem_kernel, 3 | 5 | 7), "stem_kernel", &self.stem_kernel, &"3, 5 or 7")?;
        if let Some(hidden) = self.hidden {
            let range = format!("1 to {}", Self::MAX_HIDDEN);
            require((1..=Self::MAX_HIDDEN).contains(&hidden), "hidden", &hidden, &range)?;
        }
        let steps = self.normal.len();
        let range = format!("1 to {} steps", Self::MAX_STEPS);
        require((1..=Self::MAX_STEPS).contains(&steps), "normal", &steps, &range)?;
        let as_many = format!("{steps} steps, as in the normal cell");
        require(self.reduction.len() == steps, "reduction", &self.reduction.len(), &as_many)?;
        require(self.concat.len() == steps, "concat", &self.concat.len(), &as_many)?;
        require(self.concat[steps - 1], "concat", &"the last step left out", &"the last step")?;
        for (field, cell) in [("normal", &self.normal), ("reduction", &self.reduction)] {
            for (k, step) in cell.iter().enumerate() {
                let [(_, a), (_, b)] = step.branches;
                let expected = format!("two states in ascending order, below {}", k + 2);
                require(a < b && usize::from(b) < k + 2, field, &format!("step {k} reads {a} and {b}"), &expected)?;
            }
        }
        Ok(())
    }

    /// Whether cell `i` halves height and width.
    pub const fn reduces(&self, i: u8) -> bool {
        let n = self.cells as u16;
        let i = i as u16;
        i > 0 && (i == n / 3 || i == 2 * n / 3)
    }

    /// The operations of the normal cell, then of the reduction cell.
    pub fn ops(&self) -> impl Iterator<Item = CellOp> + '_ {
        self.normal.iter().chain(&self.reduction).flat_map(|step| step.branches.map(|(op, _)| op))
    }
}

/// One line: every argument, in words.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cells, C {} x{}, stem {}x{}",
            self.cells, self.width, self.widening, self.stem_kernel, self.stem_kernel
        )?;
        f.write_str(match self.stem {
            Stem::Simple { pool: false } => "",
            Stem::Simple { pool: true } => " + pool",
            Stem::Strided => " strided",
        })?;
        for (name, cell) in [("normal", &self.normal), ("reduction", &self.reduction)] {
            write!(f, ", {name}")?;
            for (k, step) in cell.iter().enumerate() {
                let [(a, i), (b, j)] = step.branches;
                let mark = if self.concat[k] { "*" } else { "" };
                write!(f, " {}{mark}={}({i})+{}({j})", k + 2, a.name(), b.name())?;
            }
        }
        f.write_str(if self.batch_norm { ", BatchNorm" } else { ", no BatchNorm" })?;
        f.write_str(if self.global_average { ", global average" } else { ", flatten" })?;
        self.hidden.map_or(Ok(()), |hidden| write!(f, ", hidden {hidden}"))
    }
}
