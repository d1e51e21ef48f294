//! `intact train`: trains a named net, in floats and then with quantization in the loop. Enters: a net's name or a
//! checkpoint, a data set, a recipe. Leaves: a folder with the run's checkpoint, its curve and the trained network.
//! Refused: recipes out of range, and a folder whose run was started with another recipe.

use super::data::DataArguments;
use crate::Outcome;
use crate::model::{BatchNorm, Bits, Preset};
use crate::terminal::print;
use crate::training::{Job, Start};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use trainer::data::Augment;
use trainer::fit::{Config, Optimizer, Schedule, Stage};

/// Random changes of the training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Augmentation {
    /// As they are
    None,
    /// Pad by 4, crop, flip
    CropFlip,
    /// The paper's: shift and zoom by up to 10 %, rotation by up to 10 degrees, flip
    Paper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OptimizerName {
    /// Stochastic gradient descent with Nesterov momentum 0.9
    Sgd,
    /// Adam with beta 0.9 and 0.999
    Adam,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleName {
    /// Down to 0 along half a cosine
    Cosine,
    /// Times 0.1 at half and at three quarters
    Step,
}

/// Train a named net, in floats and then with quantization in the loop
#[derive(Args)]
pub(crate) struct Arguments {
    /// resnet8, mobilenet or vgg, with random weights
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    net: Option<String>,

    /// Start from the network of a checkpoint instead
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<PathBuf>,

    #[command(flatten)]
    data: DataArguments,

    /// Folder of the run; an unfinished run in it goes on where it was
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Start anew, over whatever is in the folder
    #[arg(long)]
    fresh: bool,

    /// Passes over the training images in floats
    #[arg(long, default_value_t = 25)]
    epochs: u64,

    /// Passes with quantization in the loop
    #[arg(long, default_value_t = 8)]
    qat_epochs: u64,

    /// Highest learning rate in floats
    #[arg(long, default_value_t = 0.1)]
    lr: f32,

    /// Highest learning rate with quantization
    #[arg(long, default_value_t = 0.01)]
    qat_lr: f32,

    /// Images of one step
    #[arg(long, default_value_t = 64)]
    batch: usize,

    /// Bits of weights and activations that are trained for; what has two leaves the ends out of its range
    #[arg(long, default_value = "w8a8", value_name = "WxAy")]
    bits: Bits,

    /// Form of the integers that are trained for
    #[arg(long, value_enum, default_value_t = Preset::Mobile)]
    preset: Preset,

    /// Where BatchNorm stands when weights are rounded; on the accumulator weights are asymmetric, one scale a tensor
    #[arg(long, value_enum, default_value_t = BatchNorm::Folded)]
    batch_norm: BatchNorm,

    #[arg(long, value_enum, default_value_t = OptimizerName::Sgd)]
    optimizer: OptimizerName,

    #[arg(long, value_enum, default_value_t = ScheduleName::Cosine)]
    schedule: ScheduleName,

    #[arg(long, default_value_t = 5e-4)]
    weight_decay: f32,

    /// Shorten gradients that are longer than this, all parameters together; at two bits 5 keeps single steps from losing a network
    #[arg(long, value_name = "LENGTH")]
    clip_norm: Option<f32>,

    /// Share of the target spread over all classes
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    label_smoothing: f32,

    #[arg(long, value_enum, default_value_t = Augmentation::CropFlip)]
    augment: Augmentation,

    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Steps between checkpoints
    #[arg(long, default_value_t = 500)]
    checkpoint_every: u64,

    /// Use this many training images, of all classes
    #[arg(long, value_name = "COUNT")]
    images: Option<usize>,

    /// Where to train
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let start = match (&a.net, &a.from) {
        (_, Some(checkpoint)) => Start::Checkpoint(checkpoint),
        (Some(net), None) => Start::Net(net),
        (None, None) => unreachable!("clap asks for one of them"),
    };
    let folder = match &a.out {
        Some(folder) => folder.clone(),
        None => PathBuf::from("runs").join(start.name()?),
    };
    let job = Job { start, data: &a.data, images: a.images, folder: &folder, fresh: a.fresh, device: &a.device };
    let done = job.run(&a.config())?;
    if done.stopped {
        print(&format!("stopped; the same command goes on from {}\n", done.checkpoint.display()))?;
        return Ok(Outcome::Done);
    }
    let accuracy = done.test_accuracy.map_or(String::new(), |x| format!("test accuracy {:.2} %\n", 100.0 * x));
    let (network, data) = (done.network.display(), &a.data.data);
    print(&format!(
        "{accuracy}wrote {network}\nnext: intact export {network} --data {data}\n      intact gap {network} --data {data}\n"
    ))?;
    Ok(Outcome::Done)
}

impl Arguments {
    fn config(&self) -> Config {
        let defaults = Config::default();
        // Predicted weights of a few bits rely on rounded activations.
        let rounded = self.epochs == 0 && self.bits.activations <= 4;
        Config {
            observe_steps: if rounded { 0 } else { defaults.observe_steps },
            seed: self.seed,
            batch: self.batch,
            float: Stage { epochs: self.epochs, rate: self.lr, ..Config::default().float },
            quantized: Stage { epochs: self.qat_epochs, rate: self.qat_lr, ..Config::default().quantized },
            simulation: self.preset.simulation(self.bits, self.batch_norm),
            schedule: match self.schedule {
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Step => Schedule::Steps { at: vec![0.5, 0.75], factor: 0.1 },
            },
            optimizer: match self.optimizer {
                OptimizerName::Sgd => Optimizer::Sgd { momentum: 0.9, nesterov: true },
                OptimizerName::Adam => Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            },
            clip_norm: self.clip_norm,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            augment: match self.augment {
                Augmentation::None => Augment::NONE,
                Augmentation::CropFlip => Augment::CROP_FLIP,
                Augmentation::Paper => Augment::PAPER,
            },
            checkpoint_every: self.checkpoint_every,
            ..Config::default()
        }
    }
}
