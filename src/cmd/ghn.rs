//! `intact ghn`: the hypernetwork. Enters: what its verbs take. Leaves: what they make. Refused: bit widths that are none.

mod eval;
mod lines;
mod noise;
mod signal;
mod step;
mod study;
mod train;

use crate::Outcome;
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use trainer::hypernet::{NormFree, Normalization, Ranges, Setting};

/// Train a hypernetwork that predicts the weights of networks it has never seen, and try it out
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(Box<train::Arguments>),
    Eval(Box<eval::Arguments>),
    Noise(noise::Arguments),
    Signal(signal::Arguments),
    Step(step::Arguments),
    Study(Box<study::Arguments>),
}

/// Where BatchNorm stands in networks with quantized weights
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NormalizationName {
    /// Folded into the weights before they are quantized, as in the paper
    Folded,
    /// Behind the convolution, as each channel's multiplier and bias of the accumulator
    Accumulator,
}

impl From<NormalizationName> for Normalization {
    fn from(name: NormalizationName) -> Self {
        match name {
            NormalizationName::Folded => Self::Folded,
            NormalizationName::Accumulator => Self::Accumulator,
        }
    }
}

/// Which classes the images of a batch have
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BatchClasses {
    /// Those of images drawn without looking, as in the paper
    Drawn,
    /// Each class in its share of all images: less noise in the gradient, above all in that of what makes classifiers
    Balanced,
}

/// How networks are quantized
#[derive(Args)]
struct FormArguments {
    /// Share of each weight tensor that its range cuts off at either end (the paper: 0.01 for networks without BatchNorm)
    #[arg(long, default_value_t = 0.0)]
    cut: f32,

    /// Share of each tensor of activations that its range cuts off at either end
    #[arg(long, default_value_t = 0.0)]
    cut_activations: f32,

    /// Tensors of more bits keep their absolute range
    #[arg(long, default_value_t = 8)]
    cut_up_to: u8,

    /// Give activations of both signs a level for each, where few levels would leave one sign none (up to --cut-up-to bits)
    #[arg(long)]
    both_signs: bool,

    #[arg(long, value_enum, default_value_t = NormalizationName::Folded)]
    batch_norm: NormalizationName,
}

impl FormArguments {
    fn ranges(&self) -> Result<Ranges> {
        let both_signs = self.both_signs;
        let ranges = Ranges { weights: self.cut, activations: self.cut_activations, up_to: self.cut_up_to, both_signs };
        ranges.check().map_err(anyhow::Error::msg)?;
        Ok(ranges)
    }
}

/// What is done to the weights of networks without BatchNorm
#[derive(Args)]
struct NormFreeArguments {
    /// Standardize the convolutions of networks without BatchNorm: each output channel gets mean 0 and the length that keeps
    /// the variance of what it reads
    #[arg(long)]
    standardize: bool,

    /// Divide sums in networks without BatchNorm by the root of the number of their signals
    #[arg(long)]
    scale_sums: bool,
}

impl NormFreeArguments {
    fn form(&self) -> NormFree {
        NormFree { standardized: self.standardize, scaled_sums: self.scale_sums }
    }
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    match &a.verb {
        Verb::Train(a) => a.run(),
        Verb::Eval(a) => a.run(),
        Verb::Noise(a) => a.run(),
        Verb::Signal(a) => a.run(),
        Verb::Step(a) => a.run(),
        Verb::Study(a) => a.run(),
    }
}

/// The longest gradient of a network's own parameters: a number from 0 on.
fn clip(text: &str) -> Result<f32, String> {
    let length = text.parse().map_err(|_| format!("found `{text}`, expected a number"))?;
    if (0.0..f32::INFINITY).contains(&length) {
        Ok(length)
    } else {
        Err(format!("found {length}, expected 0 or more, and an end"))
    }
}

/// `all` for floats and the paper's four, or names with commas between them.
fn settings(list: &str) -> Result<Vec<Setting>> {
    match list {
        "all" => Ok(Setting::PAPER.to_vec()),
        list => list.split(',').map(|name| Ok(name.trim().parse()?)).collect(),
    }
}
