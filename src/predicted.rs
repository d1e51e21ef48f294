//! Networks with predicted weights. Enters: an architecture, bit widths, training images, a hypernetwork or none for the one
//! that comes with the program. Leaves: the network, ready to be trained on. Refused: architectures that are named wrongly.

use anyhow::{Context, Result, bail};
use exporter::data::Dataset;
use exporter::network::Network;
use std::path::Path;
use trainer::graph::{Architecture, GraphSet, Request, Sampler, Space, Split};
use trainer::hypernet::{self, Saved, Setting, Start};

/// The hypernetwork that comes with the program: of the space `edge`, for the ten classes of CIFAR-10, trained on networks with
/// BatchNorm folded as `intact train` folds it.
const OWN: &str = "checkpoints/ghn-edge-folded.safetensors";

/// What a network is predicted from.
pub(crate) struct Prediction<'a> {
    /// `FILE#INDEX` or `SPACE:SPLIT:INDEX`.
    pub(crate) architecture: &'a str,
    /// The hypernetwork's file; the program's own if `None`.
    pub(crate) ghn: Option<&'a Path>,
    /// Bit widths.
    pub(crate) setting: Setting,
    /// Training images.
    pub(crate) data: &'a Dataset,
    /// Batches of 64 of them that BatchNorm's statistics are taken from.
    pub(crate) batches: usize,
    /// Seed of a space's networks, and of all that is random here.
    pub(crate) seed: u64,
    /// One of [`trainer::device::NAMES`].
    pub(crate) device: &'a str,
}

impl Prediction<'_> {
    /// The network, named after its architecture.
    pub(crate) fn network(&self) -> Result<Network> {
        let (architecture, name) = architecture(self.architecture, self.seed)?;
        let ghn = hypernetwork(self.ghn)?;
        let classes = ghn.parameters.config().classes;
        if classes != self.data.classes().len() {
            let found = self.data.classes().len();
            bail!("images: found {found} classes, expected {classes}, for which the hypernetwork predicts");
        }
        let start = Start {
            parameters: &ghn.parameters,
            architecture: &architecture,
            setting: self.setting,
            simulation: hypernet::deployed(&ghn, self.setting, self.ghn.unwrap_or(Path::new(OWN)))?,
            s_max: 10,
            data: self.data,
            batches: self.batches,
            seed: self.seed,
        };
        Ok(start.network(&name, &trainer::device::by_name(self.device)?)?)
    }
}

fn hypernetwork(path: Option<&Path>) -> Result<Saved> {
    Ok(match path {
        Some(path) => hypernet::load(path)?,
        None => hypernet::from_bytes(include_bytes!("../checkpoints/ghn-edge-folded.safetensors"), Path::new(OWN))?,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_own_hypernetwork_predicts_and_says_what_it_is_not_for() {
        let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
        let run = |architecture, data: &Dataset| {
            let setting = Setting::new(4, 4);
            Prediction { architecture, ghn: None, setting, data, batches: 1, seed: 1, device: "cpu" }.network()
        };
        let network = run("edge:id:3", &data.subset(0..64)).unwrap();
        assert_eq!((network.name.as_str(), network.labels.as_slice()), ("edge-id-3", data.classes()));
        let mistake = |architecture| run(architecture, &data.subset(0..64)).unwrap_err().to_string();
        assert!(mistake("edge:id").contains("found `edge:id`, expected FILE#INDEX or SPACE:SPLIT:INDEX"));
        assert!(mistake("edge:id:x").contains("found index `x`, expected a number"));
    }
}
