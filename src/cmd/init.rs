//! `intact init`: a network with predicted weights, to be trained on. Enters: an architecture, a hypernetwork, bit widths,
//! training images. Leaves: a checkpoint for `intact train --from`. Refused: architectures that are named wrongly.

use super::data::DataArguments;
use crate::Outcome;
use crate::terminal::print;
use anyhow::{Context, Result, bail};
use clap::Args;
use exporter::checkpoint;
use exporter::data::Split as DataSplit;
use std::path::{Path, PathBuf};
use std::time::Instant;
use trainer::graph::{Architecture, GraphSet, Request, Sampler, Space, Split};
use trainer::hypernet::{self, Setting, Start};

/// Predict the weights of a network with a hypernetwork, ready for `intact train --from`
#[derive(Args)]
pub(crate) struct Arguments {
    /// `FILE#INDEX` of a file made by `graphs generate`, or `SPACE:SPLIT:INDEX` as in edge:id:7
    architecture: String,

    /// The hypernetwork
    #[arg(long, value_name = "FILE")]
    ghn: PathBuf,

    /// Bit widths that it will run at: float, or as in w4a4
    #[arg(long, default_value = "float")]
    bits: Setting,

    /// The checkpoint to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[command(flatten)]
    data: DataArguments,

    /// Batches of 64 training images that BatchNorm's statistics are taken from
    #[arg(long, default_value_t = 8)]
    batches: usize,

    /// Seed of the networks of a space, and of all that is random here
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Where to run
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let (architecture, name) = architecture(&a.architecture, a.seed)?;
    let ghn = hypernet::load(&a.ghn)?;
    let data = a.data.open(DataSplit::Train, None)?;
    let device = trainer::device::by_name(&a.device)?;
    let began = Instant::now();
    let start = Start {
        parameters: &ghn.parameters,
        architecture: &architecture,
        setting: a.bits,
        s_max: 10,
        data: &data,
        batches: a.batches,
        seed: a.seed,
    };
    let network = start.network(&name, &device)?;
    checkpoint::save(&a.out, &network, &checkpoint::Extra::default())?;
    let (out, parameters) = (a.out.display(), network.parameters());
    let milliseconds = 1e3 * began.elapsed().as_secs_f64();
    print(&format!(
        "{name}: {parameters} parameters predicted for {}, statistics of {} images, {milliseconds:.0} ms\nwrote {out}\n\
         next: intact train --from {out} --data {}\n",
        a.bits,
        64 * a.batches,
        a.data.data
    ))?;
    Ok(Outcome::Done)
}

/// The architecture and a name for the network.
fn architecture(text: &str, seed: u64) -> Result<(Architecture, String)> {
    if let Some((path, index)) = text.rsplit_once('#') {
        let index: usize =
            index.parse().with_context(|| format!("`{text}`: found index `{index}`, expected a number"))?;
        let set = GraphSet::read(Path::new(path))?;
        let found = set
            .get(index)
            .with_context(|| format!("{path}: found {} networks, expected more than {index}", set.len()))?;
        let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        return Ok((found, format!("{stem}-{index}")));
    }
    let [space, split, index] = text.split(':').collect::<Vec<_>>()[..] else {
        bail!("architecture: found `{text}`, expected FILE#INDEX or SPACE:SPLIT:INDEX, as in edge:id:7");
    };
    let (space, split): (Space, Split) = (space.parse()?, split.parse()?);
    let index: u64 = index.parse().with_context(|| format!("`{text}`: found index `{index}`, expected a number"))?;
    let (found, _) = Sampler::new(Request::new(space, split, seed))?.draw(index)?;
    Ok((found, format!("{space}-{split}-{index}")))
}
