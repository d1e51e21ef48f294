//! `intact ghn noise`. Enters: a hypernetwork, networks, batches of images. Leaves: how noisy its gradient is, part by part: the squared
//! length of the mean gradient, and the variance by networks, by images, and by both together; and what that makes of steps of several
//! networks that see the same images or images of their own. Refused: what cannot be predicted, fewer than two networks or batches.

use super::{BatchClasses, FormArguments};
use crate::Outcome;
use crate::cmd::DataArguments;
use crate::progress::Progress;
use crate::terminal::print;
use anyhow::{Result, ensure};
use clap::Args;
use exporter::data::Split as DataSplit;
use exporter::network::Preprocessing;
use std::fmt::Write;
use std::path::PathBuf;
use trainer::data::{order, plain, spread};
use trainer::graph::{Blueprint, Request, Sampler, Space, Split, Task};
use trainer::hypernet::train::{Images, Noise, Variance, Workers, gradient};
use trainer::hypernet::{self, Mode, Setting};

/// Show how noisy the gradient of a hypernetwork is, and where that comes from
#[derive(Args)]
pub(crate) struct Arguments {
    /// The hypernetwork
    #[arg(long, value_name = "FILE")]
    ghn: PathBuf,

    /// mobile or edge
    #[arg(long, default_value = "edge")]
    space: Space,

    /// Bit widths of all networks
    #[arg(long, default_value = "float")]
    bits: Setting,

    #[command(flatten)]
    form: FormArguments,

    /// Networks, the first of the split `id`; each takes the memory of two hypernetworks, as does each batch
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(2..=1000))]
    nets: u64,

    /// Batches; each network sees each of them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=1000))]
    batches: u64,

    /// Images of a batch
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,

    /// Which classes a batch holds
    #[arg(long, value_enum, default_value = "balanced")]
    batch_classes: BatchClasses,

    /// Longest gradient of one network's own parameters, 0 for any
    #[arg(long, default_value_t = 0.0, value_parser = super::clip, allow_negative_numbers = true)]
    clip_network: f32,

    #[command(flatten)]
    data: DataArguments,

    /// Seed of the networks and of the choice of images
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let p = hypernet::load(&self.ghn)?.parameters;
        let data = self.data.open(DataSplit::Train, None)?;
        let (count, batch) = ((self.batches * self.batch) as usize, self.batch as usize);
        ensure!(data.len() >= count, "--batches, --batch: found {count} images, expected at most {}", data.len());
        let mut indices = order(data.len(), self.seed, 0);
        if self.batch_classes == BatchClasses::Balanced {
            indices = spread(&indices, data.labels());
        }
        let data = data.subset(indices.into_iter().take(count));
        let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
        let sampler = Sampler::new(Request { task, ..Request::new(self.space, Split::Id, self.seed) })?;
        let (device, workers) = (trainer::device::by_name("cpu")?, Workers::new(1));
        let longest = if self.clip_network > 0.0 { self.clip_network } else { f32::INFINITY };
        let preprocessing = Preprocessing::of(&data);
        let batch_from = |start: usize| {
            let (range, shape) = (start..start + batch, [3, data.height(), data.width()]);
            let values = plain(&data, range.clone(), &preprocessing);
            [Images { values, shape, labels: data.labels()[range].to_vec() }]
        };
        let batches: Vec<_> = (0..count).step_by(batch).map(batch_from).collect();
        let (normalization, ranges) = (self.form.batch_norm.into(), self.form.ranges()?);
        let mut noise = Noise::new(self.nets as usize, self.batches as usize, p.len());
        let progress = Progress::new("noise", self.nets * self.batches, "gradients");
        for net in 0..self.nets {
            let blueprint = Blueprint::build(&sampler.draw(net)?.0, task)?;
            for (number, images) in batches.iter().enumerate() {
                let training = Some(net * self.batches + number as u64);
                let mode = Mode { normalization, ranges, training, ..Mode::test(self.bits) };
                let (gradient, _) = gradient(&p, &[(&blueprint, mode)], images, 10, longest, &workers, &device)?;
                noise.add(net as usize, number, gradient.values());
                progress.add(1);
            }
        }
        drop(progress);
        let parts = p.entries().iter().map(|entry| (entry.name, noise.variance(entry.range.clone())));
        print(&table(parts.chain([("all", noise.variance(0..p.len()))])))?;
        Ok(Outcome::Done)
    }
}

/// Of each part, and of the steps that the recipes have.
fn table<'n>(parts: impl Iterator<Item = (&'n str, Variance)>) -> String {
    let mut text = "| gradient of | squared mean | variance by networks | by images | by both | a step of 4, same images | own images \
                    |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (name, variance) in parts {
        let Variance { mean, nets, images, both } = variance;
        let (shared, own) = (variance.shared(4), variance.own(4));
        let _ = writeln!(
            text,
            "| {name} | {mean:.1e} | {nets:.1e} | {images:.1e} | {both:.1e} | {shared:.1e} | {own:.1e} |"
        );
    }
    text
}
