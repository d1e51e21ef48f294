//! The loop. Enters: recipe, network, images. Leaves: the trained network. See [`super`] for what is refused.

use super::evaluate::tally;
use super::state::{State, Tally};
use super::{Config, FitError, Memory, Progress, Row, Stage, Step, evaluate};
use crate::data::{augmented, order};
use crate::ops::Statistics;
use crate::run::{Model, Momentum, Pass, settle};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use exporter::checkpoint::{self, Extra};
use exporter::data::Dataset;
use exporter::network::Network;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Batches that statistics and ranges come from where activations are rounded from the first step on.
const SETTLING: usize = 8;

/// What a run left.
#[derive(Debug)]
pub struct Trained {
    /// Float parameters, running statistics, and the encodings of the activations if quantization was in the loop.
    pub network: Network,
    /// One row for each finished epoch.
    pub curve: Vec<Row>,
    /// Whether the run was stopped before its end; its checkpoint can be resumed.
    pub stopped: bool,
}

/// Trains a network. `stop` ends the run after the step under way, with a checkpoint.
///
/// # Errors
/// [`FitError`].
pub fn train(
    config: &Config,
    network: Network,
    device: &Device,
    train_set: &Dataset,
    test_set: Option<&Dataset>,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Trained, FitError> {
    let model = Model::new(network, device)?;
    let memory = Memory::new(model.parameters().len());
    let state = State { model, memory, step: 0, curve: Vec::new(), tally: Tally::default() };
    Run { config, train_set, test_set, progress, stop }.run(state)
}

/// Goes on with the run whose checkpoint lies at `path`, with the recipe stored in it, and writes to the same file.
///
/// # Errors
/// [`FitError`].
pub fn resume(
    path: &Path,
    device: &Device,
    train_set: &Dataset,
    test_set: Option<&Dataset>,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Trained, FitError> {
    let (state, mut config) = State::load(path, device)?;
    config.checkpoint = Some(path.into());
    Run { config: &config, train_set, test_set, progress, stop }.run(state)
}

struct Run<'a> {
    config: &'a Config,
    train_set: &'a Dataset,
    test_set: Option<&'a Dataset>,
    progress: &'a mut dyn Progress,
    stop: &'a AtomicBool,
}

/// Where a step lies.
struct Place {
    quantized: bool,
    stage: Stage,
    /// Within the stage.
    step: u64,
    /// Of the stage.
    steps: u64,
}

impl Run<'_> {
    fn run(mut self, mut state: State) -> Result<Trained, FitError> {
        self.config.check()?;
        for data in [Some(self.train_set), self.test_set].into_iter().flatten() {
            check_data(data, state.model.architecture())?;
        }
        let per_epoch = (self.train_set.len() / self.config.batch) as u64;
        if per_epoch == 0 {
            let reason =
                format!("{} images, expected at least one batch of {}", self.train_set.len(), self.config.batch);
            return Err(FitError::Data { name: self.train_set.name().into(), reason });
        }
        let epochs = self.config.float.epochs + self.config.quantized.epochs;
        let (steps, first_step) = (epochs * per_epoch, state.step);
        if first_step == 0 {
            // So that a folder that cannot be written to shows now and not after hundreds of steps.
            self.save(&state)?;
        }
        let began = Instant::now();
        let mut epoch_began = Instant::now();
        let mut shuffled = (u64::MAX, Vec::new());
        while state.step < steps {
            let epoch = state.step / per_epoch;
            if shuffled.0 != epoch {
                shuffled = (epoch, order(self.train_set.len(), self.config.seed, epoch));
            }
            let place = self.place(state.step, per_epoch);
            if place.quantized && place.step == 0 {
                // A new stage: the momentum of the old one belongs to another function.
                state.memory = Memory::new(state.model.parameters().len());
                state.model.restrain(&self.config.simulation);
                if self.config.observe_steps == 0 {
                    // Weights that were made for activations of a few bits lose what they know when they are trained on others.
                    let simulation = Some(self.config.simulation);
                    settle(&mut state.model, self.train_set, SETTLING, self.config.seed, simulation)?;
                }
            }
            let first = (state.step % per_epoch) as usize * self.config.batch;
            self.step(&mut state, &shuffled.1[first..first + self.config.batch], epoch, &place)?;
            state.step += 1;
            let done = state.step - first_step;
            let pace = began.elapsed().as_secs_f64() / done as f64;
            let images = state.tally.images as f64;
            self.progress.step(&Step {
                step: state.step,
                steps,
                epoch: epoch + 1,
                epochs,
                quantized: place.quantized,
                loss: state.tally.loss / images,
                accuracy: state.tally.right as f64 / images,
                rate: self.config.batch as f64 / pace,
                left: Duration::from_secs_f64(pace * (steps - state.step) as f64),
            });
            let stop = self.stop.load(Ordering::Relaxed);
            if state.step.is_multiple_of(per_epoch) {
                self.end_epoch(&mut state, epoch, &place, &mut epoch_began)?;
            } else if stop || state.step.is_multiple_of(self.config.checkpoint_every) {
                state.tally.seconds += epoch_began.elapsed().as_secs_f64();
                epoch_began = Instant::now();
                self.save(&state)?;
            }
            if stop && state.step < steps {
                self.progress.note("stopped; the checkpoint can be resumed");
                return self.trained(state, true);
            }
        }
        self.trained(state, false)
    }

    fn trained(&self, state: State, stopped: bool) -> Result<Trained, FitError> {
        let observed = state.model.ranges().parts().1 > 0;
        let network = state.model.to_network(observed.then_some(&self.config.simulation))?;
        Ok(Trained { network, curve: state.curve, stopped })
    }

    fn place(&self, step: u64, per_epoch: u64) -> Place {
        let float_steps = self.config.float.epochs * per_epoch;
        if step < float_steps {
            Place { quantized: false, stage: self.config.float, step, steps: float_steps }
        } else {
            let steps = self.config.quantized.epochs * per_epoch;
            Place { quantized: true, stage: self.config.quantized, step: step - float_steps, steps }
        }
    }

    fn step(&self, state: &mut State, indices: &[usize], epoch: u64, place: &Place) -> Result<(), FitError> {
        let config = self.config;
        let model = &mut state.model;
        let preprocessing = &model.architecture().preprocessing;
        let values = augmented(self.train_set, indices, preprocessing, &config.augment, config.seed, epoch);
        let shape = [indices.len(), 3, self.train_set.height(), self.train_set.width()];
        let x = Tensor::<4>::from_data(TensorData::new(values, shape), model.device());
        let labels: Vec<u16> = indices.iter().map(|&i| self.train_set.labels()[i]).collect();

        let frozen = place.quantized && place.step as f64 >= f64::from(config.freeze_at) * place.steps as f64;
        let pass = Pass {
            statistics: if frozen { Statistics::Running } else { Statistics::Batch },
            simulation: place.quantized.then_some(config.simulation),
            activations: place.step >= config.observe_steps,
            observe: (!frozen).then_some(Momentum { statistics: config.norm_momentum, ranges: config.range_momentum }),
        };
        let logits = model.forward(x, &pass, true)?;
        let found = logits.to_data().try_to_vec::<f32>().expect("logits are f32");
        let (right, loss) = tally(&found, &labels);
        if !loss.is_finite() {
            return Err(FitError::Diverged { step: state.step + 1, loss: loss / indices.len() as f64 });
        }
        state.tally.images += indices.len() as u64;
        state.tally.right += right as u64;
        state.tally.loss += loss;
        let mut gradients = cross_entropy(logits, &labels, config.label_smoothing).backward();
        let rate = config.schedule.rate(&place.stage, place.step, place.steps);
        let (decay, clip) = (config.weight_decay, config.clip_norm);
        config.optimizer.step(model, &mut state.memory, &mut gradients, rate, decay, clip);
        if place.quantized {
            model.restrain(&config.simulation);
        }
        Ok(())
    }

    fn end_epoch(&mut self, state: &mut State, epoch: u64, place: &Place, began: &mut Instant) -> Result<(), FitError> {
        let simulation = place.quantized.then_some(self.config.simulation);
        let score = self.test_set.map(|data| evaluate(&mut state.model, data, simulation)).transpose()?;
        let tally = std::mem::take(&mut state.tally);
        let row = Row {
            epoch: epoch + 1,
            quantized: place.quantized,
            rate: self.config.schedule.rate(&place.stage, place.step, place.steps),
            train_loss: short(tally.loss / tally.images as f64),
            train_accuracy: short(tally.right as f64 / tally.images as f64),
            test_accuracy: score.map(|score| short(score.accuracy())),
            seconds: tally.seconds + began.elapsed().as_secs_f64(),
        };
        *began = Instant::now();
        state.curve.push(row);
        self.progress.epoch(&row);
        self.save(state)?;
        if let Some(path) = &self.config.checkpoint {
            write_curve(&path.with_extension("csv"), &state.curve)?;
            if !place.quantized && place.step + 1 == place.steps {
                // The float network that the quantized one will be compared with.
                let network = state.model.to_network(None)?;
                checkpoint::save(&path.with_extension("float.safetensors"), &network, &Extra::default())?;
            }
        }
        Ok(())
    }

    fn save(&self, state: &State) -> Result<(), FitError> {
        match &self.config.checkpoint {
            Some(path) => state.save(path, self.config),
            None => Ok(()),
        }
    }
}

/// Nine decimals: a number that JSON gives back to the last bit.
fn short(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

fn check_data(data: &Dataset, network: &Network) -> Result<(), FitError> {
    let refuse = |reason: String| Err(FitError::Data { name: data.name().into(), reason });
    let (input, classes) = (network.tensors[network.input].shape, network.tensors[network.output].shape.len());
    if (input.c, input.h, input.w) != (3, data.height(), data.width()) {
        return refuse(format!("images of 3x{}x{}, the network expects {input}", data.height(), data.width()));
    }
    if data.classes().len() != classes {
        return refuse(format!("{} classes, the network has {classes} logits", data.classes().len()));
    }
    Ok(())
}

/// Mean cross entropy, with a share of the target spread over all classes.
fn cross_entropy(logits: Tensor<2>, labels: &[u16], smoothing: f32) -> Tensor<1> {
    let device = logits.device();
    let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
    let count = labels.len();
    let labels: Tensor<2, Int> = Tensor::from_data(TensorData::new(labels, [count, 1]), &device);
    let log = activation::log_softmax(logits, 1);
    let loss = log.clone().gather(1, labels).mean().neg();
    if smoothing > 0.0 { loss * (1.0 - smoothing) - log.mean() * smoothing } else { loss }
}

fn write_curve(path: &Path, curve: &[Row]) -> Result<(), FitError> {
    let mut text = String::from("epoch,stage,rate,train_loss,train_accuracy,test_accuracy,seconds\n");
    for row in curve {
        let stage = if row.quantized { "quantized" } else { "float" };
        let test = row.test_accuracy.map_or(String::new(), |a| format!("{a:.4}"));
        text += &format!(
            "{},{stage},{:.6},{:.6},{:.5},{test},{:.1}\n",
            row.epoch, row.rate, row.train_loss, row.train_accuracy, row.seconds
        );
    }
    let io = |source| FitError::Io { path: path.into(), source };
    let temporary = path.with_extension("csv.tmp");
    std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path)).map_err(io)
}
