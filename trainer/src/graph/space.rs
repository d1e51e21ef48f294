//! Which networks there are. Enters: a design space, switches, a split. Leaves: the rules that networks are drawn by.
//! Refused: names that no space or split has, with those there are.
//!
//! `mobile` is ConvNets-250K: DeepNets-1M's generator without 7x1/1x7 convolutions, attention and squeeze-excitation, up to
//! 10^7 parameters. `edge` is the same generator for microcontrollers and small Linux boards: fewer and narrower cells,
//! held to multiply-accumulates, parameters and arena. What the paper leaves open is decided in [`Space::rules`] and
//! [`Switches`].

use super::architecture::CellOp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A design space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// ConvNets-250K.
    Mobile,
    /// The same generator, held to small devices.
    Edge,
}

/// Operations that can be had or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Switches {
    /// Cells may use 1x1 convolutions. The paper's list of kernels (3, 5, 7) leaves them out, DeepNets-1M has them.
    pub convolution_1x1: bool,
    /// Cells may use separable and dilated convolutions of 7x7. The paper's list has them, DeepNets-1M does not.
    pub depthwise_7x7: bool,
}

impl Default for Switches {
    /// DeepNets-1M: with 1x1, without depthwise 7x7.
    fn default() -> Self {
        Self { convolution_1x1: true, depthwise_7x7: false }
    }
}

/// A part of a design space, drawn independently of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Training of the hypernetwork.
    Train,
    /// Choice of its checkpoint.
    Validation,
    /// Test, in distribution.
    Id,
    /// The networks of [`Self::Id`], each as wide as it takes for 2.5 million parameters: how DeepNets-1M's test networks
    /// are, for comparison with GHN-2's figures. No cap applies.
    IdWidened,
    /// Test, more cells than in training.
    Deep,
    /// Test, wider than in training.
    Wide,
    /// Test, without BatchNorm.
    BnFree,
    /// Training of a hypernetwork for networks without BatchNorm (BNFree-ConvNets-50K).
    BnFreeTrain,
}

impl Split {
    /// All of them; the index is what [`super::GraphSet`] files store.
    pub const ALL: [Self; 8] = [
        Self::Train,
        Self::Validation,
        Self::Id,
        Self::IdWidened,
        Self::Deep,
        Self::Wide,
        Self::BnFree,
        Self::BnFreeTrain,
    ];

    /// Name in commands and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Id => "id",
            Self::IdWidened => "id-widened",
            Self::Deep => "deep",
            Self::Wide => "wide",
            Self::BnFree => "bn-free",
            Self::BnFreeTrain => "bn-free-train",
        }
    }

    /// How many networks it has unless asked otherwise: training as in the paper, tests as in DeepNets-1M.
    pub const fn default_count(self) -> usize {
        match self {
            Self::Train => 250_000,
            Self::BnFreeTrain => 50_000,
            Self::Id | Self::IdWidened => 500,
            Self::Validation | Self::Deep | Self::Wide | Self::BnFree => 100,
        }
    }

    /// Whether a hypernetwork is trained on it; such a split holds no network of the splits that one is judged on.
    pub const fn is_training(self) -> bool {
        matches!(self, Self::Train | Self::BnFreeTrain)
    }
}

impl Space {
    /// All of them; the index is what [`super::GraphSet`] files store.
    pub const ALL: [Self; 2] = [Self::Mobile, Self::Edge];

    /// Name in commands and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Edge => "edge",
        }
    }

    /// What no network of a split exceeds.
    pub const fn caps(self, split: Split) -> Caps {
        match self {
            Self::Mobile => Caps { parameters: 10_000_000, macs: None, arena_bytes: None },
            Self::Edge => Caps {
                // The smallest board of firmware-sim has 512 KiB of flash and 128 KiB of RAM: code, stack and the
                // application keep about a quarter of each.
                parameters: 384_000,
                arena_bytes: Some(96 * 1024),
                // What is wider than in training costs more; only networks of hardly any layers would keep 10 million.
                macs: Some(if matches!(split, Split::Wide) { 40_000_000 } else { 10_000_000 }),
            },
        }
    }
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: found `{found}`, expected one of {expected}")]
pub struct NameError {
    what: &'static str,
    found: String,
    expected: String,
}

fn by_name<T: Copy>(
    what: &'static str,
    found: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, NameError> {
    let expected = || all.iter().map(|&one| name(one)).collect::<Vec<_>>().join(", ");
    let matching = all.iter().copied().find(|&one| name(one) == found);
    matching.ok_or_else(|| NameError { what, found: found.into(), expected: expected() })
}

impl FromStr for Space {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        by_name("design space", name, &Self::ALL, Self::name)
    }
}

impl FromStr for Split {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        by_name("split", name, &Self::ALL, Self::name)
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Upper limits; what exceeds one is drawn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caps {
    /// Trainable values, all layers counted.
    pub parameters: u64,
    /// Multiply-accumulates of one image.
    pub macs: Option<u64>,
    /// Arena of the flash image with 8-bit weights and activations, as the exporter plans it.
    pub arena_bytes: Option<u64>,
}

/// How a network is drawn.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Number of cells.
    pub cells: RangeInclusive<u8>,
    /// More cells than a draw from here make a network deep: few steps, global average.
    pub deep_beyond: RangeInclusive<u8>,
    /// Most steps of a cell in networks that are not deep, and in deep ones.
    pub most_steps: [u8; 2],
    /// Operations of a cell.
    pub ops: Vec<CellOp>,
    /// Kernels of the first convolution.
    pub stem_kernels: &'static [u8],
    /// Which networks go without BatchNorm.
    pub norm_free: NormFree,
    /// How wide.
    pub widths: Widths,
    /// Features of the hidden layer, where the width rule does not say.
    pub hidden: Vec<u16>,
}

/// Which networks go without BatchNorm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormFree {
    All,
    /// Of those with the fewest cells or one more, and no more steps than deep networks, one in so many.
    OnceIn(usize),
}

/// How the width is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Widths {
    /// 32 to 128 as GHN-2 trains: the smaller the network at width 32, the more choices it has.
    Training,
    /// Uniform, whatever becomes of it.
    Uniform(Vec<u16>),
    /// Uniform over those that keep the caps of parameters and multiply-accumulates; one whose arena is too large gives way
    /// to a narrower one.
    Fitting(Vec<u16>),
}

impl Space {
    /// The rules of a split.
    pub(super) fn rules(self, split: Split, switches: Switches) -> Rules {
        let ops = CellOp::ALL.into_iter().filter(|op| match op {
            CellOp::Convolution1 => switches.convolution_1x1,
            CellOp::Separable7 | CellOp::Dilated7 => switches.depthwise_7x7,
            _ => true,
        });
        let mut rules = match self {
            Self::Mobile => Rules {
                cells: 4..=18,
                deep_beyond: 7..=10,
                most_steps: [4, 2],
                ops: ops.collect(),
                stem_kernels: &[3, 5, 7],
                norm_free: NormFree::OnceIn(2),
                widths: Widths::Training,
                hidden: (64..=256).step_by(64).collect(),
            },
            Self::Edge => Rules {
                cells: 3..=7,
                deep_beyond: 4..=5,
                most_steps: [3, 2],
                ops: ops.collect(),
                stem_kernels: &[3, 5],
                // So that about as few are without as in `mobile`, 3.4 %, though more have few cells.
                norm_free: NormFree::OnceIn(8),
                widths: Widths::Fitting((8..=24).step_by(8).collect()),
                hidden: vec![32, 64, 128],
            },
        };
        match (split, self) {
            (Split::Deep, Self::Mobile) => (rules.cells, rules.deep_beyond) = (10..=36, 18..=18),
            (Split::Deep, Self::Edge) => (rules.cells, rules.deep_beyond) = (8..=14, 9..=9),
            // Beyond the training range and within the caps; DeepNets-1M's factor of 4 would break them.
            (Split::Wide, Self::Mobile) => rules.widths = Widths::Uniform((144..=256).step_by(16).collect()),
            (Split::Wide, Self::Edge) => rules.widths = Widths::Fitting((32..=48).step_by(8).collect()),
            (Split::BnFree | Split::BnFreeTrain, _) => rules.norm_free = NormFree::All,
            (Split::Train | Split::Validation | Split::Id | Split::IdWidened, _) => {}
        }
        rules
    }
}
