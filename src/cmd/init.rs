//! `intact init`: a network with predicted weights, to be trained on. Enters: an architecture, a hypernetwork, bit widths,
//! training images. Leaves: a checkpoint for `intact train --from`. Refused: architectures that are named wrongly.

use super::data::DataArguments;
use crate::Outcome;
use crate::predicted::Prediction;
use crate::terminal::print;
use anyhow::{Result, ensure};
use clap::Args;
use exporter::checkpoint;
use exporter::data::Split as DataSplit;
use std::path::PathBuf;
use std::time::Instant;
use trainer::hypernet::{Setting, Start};

/// Predict the weights of a network with a hypernetwork, ready for `intact train --from`
#[derive(Args)]
pub(crate) struct Arguments {
    /// `FILE#INDEX` of a file made by `graphs generate`, or `SPACE:SPLIT:INDEX` as in edge:id:7
    architecture: String,

    /// The hypernetwork, for images of as many classes as its own; without, the one that comes with the program: for ten classes
    #[arg(long, value_name = "FILE")]
    ghn: Option<PathBuf>,

    /// Bit widths that it will run at: float, or as in w4a4
    #[arg(long, default_value = "float")]
    bits: Setting,

    /// The checkpoint to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[command(flatten)]
    data: DataArguments,

    /// Batches of 64 training images that BatchNorm's statistics are taken from
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batches: u16,

    /// Seed of the networks of a space, and of all that is random here
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Where to run
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    ensure!(
        a.out.extension().is_some_and(|end| end == "safetensors"),
        "--out {}: expected a name in .safetensors",
        a.out.display()
    );
    let began = Instant::now();
    let data = a.data.open_sample(DataSplit::Train, Start::BATCH * usize::from(a.batches))?;
    let prediction = Prediction {
        architecture: &a.architecture,
        ghn: a.ghn.as_deref(),
        setting: a.bits,
        data: &data,
        batches: a.batches.into(),
        seed: a.seed,
        device: &a.device,
    };
    let network = prediction.network()?;
    checkpoint::save(&a.out, &network, &checkpoint::Extra::default())?;
    let (out, parameters) = (a.out.display(), network.parameters());
    let milliseconds = 1e3 * began.elapsed().as_secs_f64();
    print(&format!(
        "{}: {parameters} parameters predicted for {}, statistics of {} images, {milliseconds:.0} ms\nwrote {out}\n\
         next: intact train --from {out} --data {}\n",
        network.name,
        a.bits,
        data.len() - data.len() % Start::BATCH.min(data.len()),
        a.data.data
    ))?;
    Ok(Outcome::Done)
}
