//! A run between two steps, and its file. Enters: model, optimizer memory, figures. Leaves: a checkpoint (the network,
//! readable by anyone, with everything else beside it) and from it the same run. Refused: checkpoints that hold no run.

use super::{Config, FitError, Memory, Row};
use crate::quant::Ranges;
use crate::run::{Model, to_tensor, to_vec};
use burn::tensor::Device;
use exporter::checkpoint::{self, Extra, Values};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything that decides how a run goes on.
pub(super) struct State {
    pub model: Model,
    pub memory: Memory,
    /// Steps done.
    pub step: u64,
    /// Finished epochs.
    pub curve: Vec<Row>,
    /// Of the epoch under way.
    pub tally: Tally,
}

/// Sums over an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub images: u64,
    pub right: u64,
    /// As its bits in the file: text would not give back the last one.
    #[serde(with = "bits")]
    pub loss: f64,
    pub seconds: f64,
}

/// An f64 as the integer of its bits.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// The part of [`State`] that is no tensor.
#[derive(Serialize, Deserialize)]
struct Saved {
    config: Config,
    step: u64,
    curve: Vec<Row>,
    tally: Tally,
    ranges: Vec<Option<[f32; 2]>>,
    ranges_seen: u64,
    optimizer_steps: u64,
}

/// Prefix of the optimizer's tensors.
const OPTIMIZER: &str = "optimizer";

impl State {
    pub(super) fn save(&self, path: &Path, config: &Config) -> Result<(), FitError> {
        // Encodings belong to a finished stage: only then are there ranges for all tensors.
        let (ranges, ranges_seen) = self.model.ranges().parts();
        let simulation = (ranges_seen > 0).then_some(&config.simulation);
        let network = self.model.to_network(simulation)?;
        let mut tensors = Vec::new();
        for (parameter, slots) in self.model.parameters().iter().zip(&self.memory.slots) {
            for (i, slot) in slots.iter().enumerate() {
                let values = to_vec(slot);
                let name = format!("{OPTIMIZER}.{}.{i}", parameter.name);
                tensors.push(Values { name, shape: vec![values.len()], values });
            }
        }
        let saved = Saved {
            config: config.clone(),
            step: self.step,
            curve: self.curve.clone(),
            tally: self.tally,
            ranges: ranges.to_vec(),
            ranges_seen,
            optimizer_steps: self.memory.steps,
        };
        let state =
            serde_json::to_value(saved).map_err(|e| FitError::NoRun { path: path.into(), reason: e.to_string() })?;
        Ok(checkpoint::save(path, &network, &Extra { tensors, state })?)
    }

    pub(super) fn load(path: &Path, device: &Device) -> Result<(Self, Config), FitError> {
        let no_run = |reason: String| FitError::NoRun { path: path.into(), reason };
        let (network, extra) = checkpoint::load(path)?;
        let saved: Saved = serde_json::from_value(extra.state).map_err(|e| no_run(e.to_string()))?;
        let mut model = Model::new(network, device).map_err(|e| no_run(e.to_string()))?;
        if saved.ranges.len() != model.architecture().tensors.len() {
            let (found, expected) = (saved.ranges.len(), model.architecture().tensors.len());
            return Err(no_run(format!("ranges: found {found}, expected {expected}")));
        }
        model.set_ranges(Ranges::from_parts(saved.ranges, saved.ranges_seen));
        let mut memory = Memory::new(model.parameters().len());
        memory.steps = saved.optimizer_steps;
        let mut left = extra.tensors.len();
        for (parameter, slots) in model.parameters().iter().zip(&mut memory.slots) {
            let prefix = format!("{OPTIMIZER}.{}.", parameter.name);
            // Sorted by name, so slot 0 comes before slot 1.
            for tensor in extra.tensors.iter().filter(|tensor| tensor.name.starts_with(&prefix)) {
                let expected = parameter.value.dims()[0];
                if tensor.values.len() != expected {
                    let found = tensor.values.len();
                    return Err(no_run(format!("tensor `{}`: found {found} values, expected {expected}", tensor.name)));
                }
                slots.push(to_tensor(&tensor.values, device));
                left -= 1;
            }
        }
        if left > 0 {
            return Err(no_run(format!("{left} tensors that belong to no parameter")));
        }
        let state = Self { model, memory, step: saved.step, curve: saved.curve, tally: saved.tally };
        Ok((state, saved.config))
    }
}
