//! `intact ghn signal`. Enters: a hypernetwork, or none for one at its start; networks; images. Leaves: how much differs from
//! image to image behind the stem, behind each cell, in front of the classifier and in the logits: where the signal vanishes
//! or explodes. Refused: what cannot be predicted.

use super::NormFreeArguments;
use crate::Outcome;
use crate::cmd::DataArguments;
use crate::terminal::print;
use anyhow::Result;
use clap::Args;
use exporter::data::Split as DataSplit;
use exporter::network::Preprocessing;
use std::fmt::Write;
use std::path::PathBuf;
use trainer::data::{order, plain};
use trainer::graph::{Blueprint, LayerOp, Request, Sampler, Space, Split, Task};
use trainer::hypernet::{self, Config, Parameters, Setting, deviations, predict};

/// Show where the signal of predicted networks vanishes or explodes
#[derive(Args)]
pub(crate) struct Arguments {
    /// The hypernetwork; without, one at its start
    #[arg(long, value_name = "FILE")]
    ghn: Option<PathBuf>,

    /// mobile or edge
    #[arg(long, default_value = "edge")]
    space: Space,

    /// Of the design space
    #[arg(long, default_value = "bn-free")]
    split: Split,

    /// Bit widths that weights are predicted for; networks run in floats
    #[arg(long, default_value = "float")]
    bits: Setting,

    /// Networks
    #[arg(long, default_value_t = 16)]
    nets: u64,

    /// Images
    #[arg(long, default_value_t = 64)]
    images: usize,

    #[command(flatten)]
    norm_free_form: NormFreeArguments,

    #[command(flatten)]
    data: DataArguments,

    /// Seed of the networks, and of a hypernetwork at its start
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let data = self.data.open(DataSplit::Test, None)?;
        let data = data.subset(order(data.len(), 0, 0).into_iter().take(self.images));
        let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
        let mut p = match &self.ghn {
            Some(path) => hypernet::load(path)?.parameters,
            None => Parameters::init(Config::ghn2(task.classes), self.seed, 1.0).map_err(anyhow::Error::msg)?,
        };
        p.set_norm_free(p.config().norm_free.or(self.norm_free_form.form()));
        let device = trainer::device::by_name("cpu")?;
        let images = plain(&data, 0..data.len(), &Preprocessing::of(&data));
        let sampler = Sampler::new(Request { task, ..Request::new(self.space, self.split, self.seed) })?;
        // For each place what was found in the networks that have it.
        let mut found: Vec<(String, Vec<f64>)> = Vec::new();
        for index in 0..self.nets {
            let net = Blueprint::build(&sampler.draw(index)?.0, task)?;
            let tensors = &predict(&p, &[(&net, self.bits)], 10)?.tensors[0];
            let of_layers = deviations(&net, tensors, &images, &device);
            for (place, layer) in places(&net) {
                match found.iter_mut().find(|(name, _)| *name == place) {
                    Some((_, values)) => values.push(of_layers[layer]),
                    None => found.push((place, vec![of_layers[layer]])),
                }
            }
        }
        let rank = |place: &str| match place {
            "stem" => 0,
            "features" => 2,
            "logits" => 3,
            _ => 1,
        };
        found.sort_by_cached_key(|(place, _)| (rank(place), place.len(), place.clone()));
        print(&table(&found))?;
        Ok(Outcome::Done)
    }
}

/// The layers whose outputs are looked at: the last of the stem and of each cell, what the head reads, the logits.
fn places(net: &Blueprint) -> Vec<(String, usize)> {
    let mut places: Vec<(String, usize)> = Vec::new();
    // The ReLU in front of a later layer is named after what it reads.
    for (i, layer) in net.layers.iter().enumerate().filter(|(_, layer)| layer.op != LayerOp::Relu) {
        let part = layer.name.split('.').next().unwrap_or_default();
        if part == "stem" || part.starts_with("cell") {
            match places.iter_mut().find(|(name, _)| name == part) {
                Some((_, last)) => *last = i,
                None => places.push((part.into(), i)),
            }
        }
    }
    let head = net.layers.iter().position(|layer| layer.op == LayerOp::Linear);
    places.extend(head.map(|first| ("features".into(), first - 1)));
    places.push(("logits".into(), net.layers.len() - 1));
    places
}

fn table(found: &[(String, Vec<f64>)]) -> String {
    let mut text =
        "| behind | networks | geometric mean | smallest | largest |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for (place, values) in found {
        let mean = (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp();
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(text, "| {place} | {} | {mean:.2e} | {smallest:.1e} | {largest:.1e} |", values.len());
    }
    text
}
