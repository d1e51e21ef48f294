//! A run from its first step to its last. Enters: a recipe, data, a checkpoint's path. Leaves: the trained hypernetwork and,
//! every few minutes, a checkpoint. Refused: see [`TrainError`].

use super::step::{Images, Score, Workers, gradient};
use super::{Recipe, adam};
use crate::data::{Augment, augmented, order, spread};
use crate::difference;
use crate::graph::{Architecture, Blueprint, BuildError, Task};
use crate::hypernet::file::{self, FileError, Saved};
use crate::hypernet::parameters::uniform;
use crate::hypernet::{Config, Mode, NormFree, Parameters, PredictError};
use burn::tensor::Device;
use exporter::data::Dataset;
use exporter::network::Preprocessing;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why training cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A figure of the recipe is out of range.
    #[error("{0}")]
    Recipe(String),
    /// The checkpoint belongs to something else.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// What is different.
        reason: String,
    },
    /// A network cannot be predicted.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// A network cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// So many steps in a row had values that are not finite.
    #[error("step {step}: {in_a_row} steps in a row gave values that are not finite; a lower learning rate may help")]
    Diverged {
        /// The last of them.
        step: u64,
        /// How many.
        in_a_row: u64,
    },
}

/// Steps in a row that may be skipped.
const MOST_SKIPPED: u64 = 100;

/// Sums over the steps since the last row of the log, for one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Networks.
    pub nets: u64,
    /// Of their losses.
    pub loss: f64,
    /// Of their shares of right answers.
    pub accuracy: f64,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Learning rate of the last.
    pub rate: f32,
    /// For each setting mean loss and accuracy on the training images of its networks.
    pub settings: BTreeMap<String, Window>,
    /// Mean length of the gradient before it was shortened.
    pub gradient: f64,
    /// Steps skipped since the start.
    pub skipped: u64,
    /// Seconds of training, of all its parts.
    pub seconds: f64,
}

/// What a run tells while it is under way.
#[derive(Debug)]
pub enum Event<'a> {
    /// A row of the log, and how long the rest will take.
    Row(&'a Row, Duration),
    /// A checkpoint was written after so many steps.
    Saved(u64),
}

/// A run between two steps.
#[derive(Debug)]
pub struct State {
    /// The hypernetwork.
    pub parameters: Parameters,
    memory: [Parameters; 3],
    progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Progress {
    recipe: Recipe,
    /// Hash of the training images.
    data: String,
    /// The checkpoint it began with, if any.
    from: Option<String>,
    /// Steps done.
    step: u64,
    /// Steps of the optimizer.
    optimizer: u64,
    skipped: u64,
    seconds: f64,
    rows: Vec<Row>,
}

impl Progress {
    fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("figures make JSON")
    }
}

impl State {
    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Steps skipped.
    pub fn skipped(&self) -> u64 {
        self.progress.skipped
    }

    /// The log.
    pub fn rows(&self) -> &[Row] {
        &self.progress.rows
    }

    /// For going on.
    fn saved(&self) -> Saved {
        let memory = Some(self.memory.clone());
        Saved { parameters: self.parameters.clone(), memory, state: self.progress.to_json() }
    }

    /// For use: the average, without the optimizer's memory.
    pub fn result(&self) -> Saved {
        Saved { parameters: self.memory[2].clone(), memory: None, state: self.progress.to_json() }
    }
}

/// A run: what it learns from, where it keeps its checkpoint.
#[derive(Debug)]
pub struct Run<'a> {
    /// How.
    pub recipe: &'a Recipe,
    /// Training images.
    pub data: &'a Dataset,
    /// Networks to draw from.
    pub nets: &'a [Architecture],
    /// Networks without BatchNorm, for a recipe with a share of them.
    pub norm_free: &'a [Architecture],
    /// Where to keep the checkpoint.
    pub checkpoint: &'a Path,
    /// Where to keep the hypernetwork as it is at the last checkpoint, for use.
    pub result: &'a Path,
    /// How long between two of them.
    pub every: Duration,
    /// Steps of one row of the log; checkpoints lie between rows.
    pub row: u64,
    /// Threads.
    pub threads: usize,
    /// Where networks run.
    pub device: &'a Device,
    /// Ends the run after its row, with a checkpoint.
    pub stop: &'a AtomicBool,
}

impl Run<'_> {
    /// A run at its start; `from` gives first parameters and a name for where they come from.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn start(&self, from: Option<(Parameters, String)>) -> Result<State, TrainError> {
        self.recipe.check().map_err(TrainError::Recipe)?;
        // Parameters that know bit widths keep them, also for a run with one pair.
        let given_widths = from.as_ref().is_some_and(|(given, _)| given.config().bit_widths);
        let bit_widths = given_widths || self.recipe.encodes_bit_widths();
        // What it was trained with it keeps.
        let given_form = from.as_ref().map_or(NormFree::default(), |(given, _)| given.config().norm_free);
        let norm_free = self.recipe.norm_free_form.or(given_form);
        let form = Config { bit_widths, norm_free, ..Config::ghn2(self.data.classes().len()) };
        let fresh = || Parameters::init(form, self.recipe.seed, self.recipe.damping).map_err(TrainError::Recipe);
        let (parameters, from) = match from {
            Some((mut given, name)) => {
                given.set_norm_free(norm_free);
                (with_form(given, form)?, Some(name))
            }
            None => (fresh()?, None),
        };
        let zeros = || Parameters::zeros(form).map_err(TrainError::Recipe);
        let progress = Progress {
            recipe: self.recipe.clone(),
            data: self.data.content_hash(),
            from,
            step: 0,
            optimizer: 0,
            skipped: 0,
            seconds: 0.0,
            rows: Vec::new(),
        };
        Ok(State { memory: [zeros()?, zeros()?, parameters.clone()], parameters, progress })
    }

    /// The run that the checkpoint holds.
    ///
    /// # Errors
    /// [`TrainError`]: no run, or one of another recipe or other data.
    pub fn resume(&self) -> Result<State, TrainError> {
        let foreign = |reason: String| TrainError::Foreign { path: self.checkpoint.into(), reason };
        let Saved { parameters, memory, state } = file::load(self.checkpoint)?;
        let progress: Progress = serde_json::from_value(state).map_err(|e| foreign(e.to_string()))?;
        let memory =
            memory.ok_or_else(|| foreign("found no optimizer's memory, expected a run to go on with".into()))?;
        if progress.recipe != *self.recipe {
            return Err(foreign(format!("another recipe: {}", difference(&progress.recipe, self.recipe))));
        }
        if progress.data != self.data.content_hash() {
            return Err(foreign(format!(
                "other images: found {}, expected {}",
                progress.data,
                self.data.content_hash()
            )));
        }
        Ok(State { parameters, memory, progress })
    }

    /// Goes on until the last step, or until it is stopped.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn go(&self, state: &mut State, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        if self.recipe.norm_free_share > 0.0 && self.norm_free.is_empty() {
            let reason = format!("share without BatchNorm: found {} of no networks", self.recipe.norm_free_share);
            return Err(TrainError::Recipe(reason));
        }
        let workers = Workers::new(self.threads);
        let longest = if self.recipe.clip_network > 0.0 { self.recipe.clip_network } else { f32::INFINITY };
        let preprocessing = Preprocessing::of(self.data);
        let (began, first) = (Instant::now(), state.progress.step);
        let (mut row_began, mut saved) = (Instant::now(), Instant::now());
        let mut settings: BTreeMap<String, Window> = BTreeMap::new();
        let (mut length, mut in_a_row, mut taken) = (0.0, 0, 0u64);
        let mut shuffled = (u64::MAX, Vec::new());
        let batches = if self.recipe.own_images { self.recipe.meta_batch as u64 } else { 1 };
        while state.progress.step < self.recipe.steps {
            let step = state.progress.step;
            let (nets, modes) = self.networks(step)?;
            let numbers = step * batches..(step + 1) * batches;
            let images: Vec<_> = numbers.map(|batch| self.images(batch, &preprocessing, &mut shuffled)).collect();
            let pairs: Vec<_> = nets.iter().zip(modes).collect();
            let (grad, scores) =
                gradient(&state.parameters, &pairs, &images, self.recipe.s_max, longest, &workers, self.device)?;
            let norm = grad.norm();
            state.progress.step += 1;
            if norm.is_finite() && scores.iter().all(|score| score.loss.is_finite()) {
                in_a_row = 0;
                let shortened = (f64::from(self.recipe.clip) / norm).min(1.0) as f32;
                state.progress.optimizer += 1;
                let keep = self.recipe.keep(state.progress.optimizer);
                let figures = [shortened, self.recipe.rate_of(step), self.recipe.weight_decay, keep];
                adam::step(&mut state.parameters, &mut state.memory, &grad, figures, state.progress.optimizer);
                (length, taken) = (length + norm, taken + 1);
                for ((_, mode), Score { loss, right }) in pairs.iter().zip(scores) {
                    let window = settings.entry(mode.setting.to_string()).or_default();
                    window.nets += 1;
                    window.loss += f64::from(loss);
                    window.accuracy += right as f64 / images[0].labels.len() as f64;
                }
            } else {
                state.progress.skipped += 1;
                in_a_row += 1;
                if in_a_row > MOST_SKIPPED {
                    return Err(TrainError::Diverged { step: step + 1, in_a_row });
                }
            }
            let last = state.progress.step == self.recipe.steps;
            if !state.progress.step.is_multiple_of(self.row) && !last {
                continue;
            }
            state.progress.seconds += row_began.elapsed().as_secs_f64();
            row_began = Instant::now();
            let row = Row {
                step: state.progress.step,
                rate: self.recipe.rate_of(step),
                settings: std::mem::take(&mut settings).into_iter().map(|(name, w)| (name, w.mean())).collect(),
                gradient: short(length / taken.max(1) as f64),
                skipped: state.progress.skipped,
                seconds: short(state.progress.seconds),
            };
            (length, taken) = (0.0, 0);
            let done = state.progress.step - first;
            let left = began.elapsed().div_f64(done as f64).mul_f64((self.recipe.steps - state.progress.step) as f64);
            tell(Event::Row(&row, left));
            state.progress.rows.push(row);
            let stop = self.stop.load(Ordering::Relaxed);
            if last || stop || saved.elapsed() >= self.every {
                file::save(self.checkpoint, &state.saved())?;
                file::save(self.result, &state.result())?;
                saved = Instant::now();
                tell(Event::Saved(state.progress.step));
            }
            if stop {
                break;
            }
        }
        Ok(())
    }

    fn networks(&self, step: u64) -> Result<(Vec<Blueprint>, Vec<Mode>), TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.recipe.seed);
        // Streams with the highest bit are those of steps; images use the others.
        rng.set_stream(1 << 63 | step);
        let task = Task { channels: 3, size: self.data.height(), classes: self.data.classes().len() };
        let settings = self.recipe.settings_of(step);
        let (mut nets, mut modes) = (Vec::new(), Vec::new());
        for _ in 0..self.recipe.meta_batch {
            let share = self.recipe.norm_free_share;
            let norm_free = share > 0.0 && f64::from(uniform(&mut rng)) < share;
            let nets_of = if norm_free { self.norm_free } else { self.nets };
            // 64 random bits: the bias of the remainder is beyond notice.
            let net = &nets_of[(rng.next_u64() % nets_of.len() as u64) as usize];
            nets.push(Blueprint::build(net, task)?);
            let setting = settings[(rng.next_u64() % settings.len() as u64) as usize];
            let Recipe { normalization, ranges, .. } = *self.recipe;
            let rounding = self.recipe.rounding_of(setting);
            modes.push(Mode { setting, rounding, normalization, ranges, training: Some(rng.next_u64()) });
        }
        Ok((nets, modes))
    }

    /// A batch, counted through all epochs.
    fn images(&self, number: u64, preprocessing: &Preprocessing, shuffled: &mut (u64, Vec<usize>)) -> Images {
        let batch = self.recipe.batch.min(self.data.len());
        let per_epoch = (self.data.len() / batch) as u64;
        let epoch = number / per_epoch;
        if shuffled.0 != epoch {
            let order = order(self.data.len(), self.recipe.seed, epoch);
            *shuffled = (epoch, if self.recipe.balanced { spread(&order, self.data.labels()) } else { order });
        }
        let first = (number % per_epoch) as usize * batch;
        let indices = &shuffled.1[first..first + batch];
        let changes = if self.recipe.crop { Augment::CROP_FLIP } else { Augment { flip: true, ..Augment::NONE } };
        let values = augmented(self.data, indices, preprocessing, &changes, self.recipe.seed, epoch);
        let labels = indices.iter().map(|&i| self.data.labels()[i]).collect();
        Images { values, shape: [3, self.data.height(), self.data.width()], labels }
    }
}

impl Window {
    fn mean(self) -> Self {
        let n = self.nets as f64;
        Self { nets: self.nets, loss: short(self.loss / n), accuracy: short(self.accuracy / n) }
    }
}

/// Parameters in another form: bit widths that are new begin at zero.
fn with_form(given: Parameters, form: Config) -> Result<Parameters, TrainError> {
    if given.config() == form {
        return Ok(given);
    }
    if (Config { bit_widths: true, ..given.config() }) != form {
        let reason = format!("first parameters: found the form {:?}, expected {form:?}", given.config());
        return Err(TrainError::Recipe(reason));
    }
    let mut wider = Parameters::zeros(form).map_err(TrainError::Recipe)?;
    wider.values_mut()[..given.len()].copy_from_slice(given.values());
    Ok(wider)
}

/// Nine decimals: a number that JSON gives back to the last bit.
fn short(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}
