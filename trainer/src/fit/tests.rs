//! Runs on small images: the same bits however they are cut, and every refusal.

use super::{Config, FitError, Optimizer, Progress, Row, Schedule, Stage, Step, Trained, evaluate, resume, train};
use crate::data::Augment;
use crate::nets::{Init, Task, by_name};
use crate::quant::Simulation;
use crate::run::Model;
use burn::tensor::Device;
use exporter::checkpoint;
use exporter::data::Dataset;
use exporter::network::{Network, Preprocessing, Shape};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Stripes in three directions with some noise: a small net learns them within seconds.
fn stripes(count: usize, seed: usize) -> Dataset {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for i in 0..count {
        let class = i % 3;
        labels.push(class as u16);
        for y in 0..8 {
            for x in 0..8 {
                let phase = [y, x, x + y][class] + i / 3;
                let noise = (i * 31 + y * 17 + x * 7 + seed * 13) % 40;
                let value = if phase % 4 < 2 { 180 } else { 40 } + noise as u8;
                images.extend([value, value / 2, 255 - value]);
            }
        }
    }
    let classes = ["rows", "columns", "diagonals"].map(String::from).to_vec();
    Dataset::new("stripes", [8, 8], classes, labels, images).unwrap()
}

fn network(name: &str) -> Network {
    let labels = ["rows", "columns", "diagonals"].map(String::from).to_vec();
    let preprocessing = Preprocessing { mean: vec![0.5; 3], std: vec![0.25; 3] };
    by_name(name, &Task { input: Shape::new(3, 8, 8), preprocessing, labels }, Init::HeNormal, 1).unwrap()
}

fn config() -> Config {
    Config {
        batch: 12,
        float: Stage { epochs: 2, rate: 0.05, warmup: 3 },
        quantized: Stage { epochs: 2, rate: 0.01, warmup: 0 },
        augment: Augment { pad: 1, flip: true, ..Augment::NONE },
        observe_steps: 2,
        checkpoint_every: 2,
        ..Config::default()
    }
}

/// Stops the run after a step, or keeps a copy of the checkpoint as it lay then: what a killed process leaves.
struct At<'a> {
    step: u64,
    stop: Option<&'a AtomicBool>,
    copy: Option<(&'a Path, &'a Path)>,
}

impl Progress for At<'_> {
    fn step(&mut self, step: &Step) {
        if step.step == self.step {
            if let Some(stop) = self.stop {
                stop.store(true, Ordering::Relaxed);
            }
            if let Some((from, to)) = self.copy {
                std::fs::copy(from, to).unwrap();
            }
        }
    }
    fn epoch(&mut self, _: &Row) {}
    fn note(&mut self, _: &str) {}
}

fn quiet() -> At<'static> {
    At { step: 0, stop: None, copy: None }
}

fn run(config: &Config, name: &str, progress: &mut dyn Progress, stop: &AtomicBool) -> Result<Trained, FitError> {
    let (train_set, test_set) = (stripes(60, 0), stripes(30, 5));
    train(config, network(name), &Device::flex(), &train_set, Some(&test_set), progress, stop)
}

fn go_on(path: &Path) -> Trained {
    let (train_set, test_set) = (stripes(60, 0), stripes(30, 5));
    resume(path, &Device::flex(), &train_set, Some(&test_set), &mut quiet(), &AtomicBool::new(false)).unwrap()
}

/// The checkpoint without what a clock has written.
fn bytes_without_clock(path: &Path) -> (Network, checkpoint::Extra) {
    let (network, mut extra) = checkpoint::load(path).unwrap();
    for row in extra.state["curve"].as_array_mut().unwrap() {
        row["seconds"] = 0.into();
    }
    extra.state["tally"]["seconds"] = 0.into();
    (network, extra)
}

fn folder() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    (folder, move |name| path.join(name))
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let (_folder, at) = folder();
    for optimizer in [Config::default().optimizer, Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }] {
        let straight = at("straight.safetensors");
        let stop = AtomicBool::new(false);
        let config = Config { checkpoint: Some(straight.clone()), optimizer, ..config() };
        let whole = run(&config, "mobilenet", &mut quiet(), &stop).unwrap();
        assert_eq!(whole.curve.len(), 4);
        // Five steps an epoch. In floats, between the stages, while ranges are collected, quantized, with frozen
        // statistics; always some steps behind the last checkpoint.
        for step in [4, 8, 11, 13, 16, 20] {
            let (running, copy) = (at("running.safetensors"), at("copy.safetensors"));
            let config = Config { checkpoint: Some(running.clone()), ..config.clone() };
            let mut progress = At { step, stop: None, copy: Some((&running, &copy)) };
            run(&config, "mobilenet", &mut progress, &stop).unwrap();
            let resumed = go_on(&copy);
            assert_eq!(bytes_without_clock(&copy), bytes_without_clock(&straight), "killed after step {step}");
            assert_eq!(resumed.network, whole.network);
        }
    }
}

#[test]
fn a_stopped_run_leaves_a_checkpoint_and_goes_on_to_the_same_bits() {
    let (_folder, at) = folder();
    let (straight, stopped) = (at("straight.safetensors"), at("stopped.safetensors"));
    let stop = AtomicBool::new(false);
    run(&Config { checkpoint: Some(straight.clone()), ..config() }, "resnet8", &mut quiet(), &stop).unwrap();
    let config = Config { checkpoint: Some(stopped.clone()), checkpoint_every: 1000, ..config() };
    let partial = run(&config, "resnet8", &mut At { step: 13, stop: Some(&stop), copy: None }, &stop).unwrap();
    assert!(partial.stopped && partial.curve.len() == 2);
    let (_, extra) = checkpoint::load(&stopped).unwrap();
    assert_eq!(extra.state["step"], 13);
    assert!(!go_on(&stopped).stopped);
    let (mut a, mut b) = (bytes_without_clock(&straight), bytes_without_clock(&stopped));
    for (_, extra) in [&mut a, &mut b] {
        extra.state["config"]["checkpoint_every"] = 0.into();
    }
    assert_eq!(a, b);
}

#[test]
fn threads_change_no_bit() {
    let on = |threads: usize, name: &str| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&config(), name, &mut quiet(), &AtomicBool::new(false)).unwrap().network)
    };
    for name in ["resnet8", "mobilenet", "vgg"] {
        assert_eq!(on(1, name), on(3, name), "{name}");
    }
}

#[test]
fn small_nets_learn_stripes_in_every_precision() {
    for (name, simulation, least) in [
        ("resnet8", Simulation::tensorwise(8, 8), 0.95),
        ("vgg", Simulation::channelwise(4, 8), 0.9),
        ("resnet8", Simulation::tensorwise(4, 4), 0.7),
    ] {
        let stages = (Stage { epochs: 6, rate: 0.05, warmup: 0 }, Stage { epochs: 4, rate: 0.01, warmup: 0 });
        let config = Config { float: stages.0, quantized: stages.1, simulation, augment: Augment::NONE, ..config() };
        let trained = run(&config, name, &mut quiet(), &AtomicBool::new(false)).unwrap();
        let accuracy = trained.curve.last().unwrap().test_accuracy.unwrap();
        assert!(accuracy >= least, "{name} {simulation:?}: {accuracy}");
        let bits = simulation.activations.bits;
        for id in trained.network.integer_tensors() {
            let tensor = &trained.network.tensors[id];
            assert_eq!(tensor.encoding.as_ref().map(|e| e.bits), Some(bits), "{}", tensor.name);
        }
    }
}

#[test]
fn float_training_alone_leaves_no_encodings() {
    let config = Config { quantized: Stage { epochs: 0, ..config().quantized }, ..config() };
    let trained = run(&config, "resnet8", &mut quiet(), &AtomicBool::new(false)).unwrap();
    assert!(trained.network.tensors.iter().all(|tensor| tensor.encoding.is_none()));
    assert!(trained.curve.iter().all(|row| !row.quantized));
    let mut model = Model::new(trained.network, &Device::flex()).unwrap();
    let score = evaluate(&mut model, &stripes(30, 5), None).unwrap();
    assert_eq!(Some(score.accuracy()), trained.curve[1].test_accuracy.map(|a| (a * 30.0).round() / 30.0));
}

#[test]
fn the_curve_and_the_float_network_lie_beside_the_checkpoint() {
    let (_folder, at) = folder();
    let config = Config { checkpoint: Some(at("run.safetensors")), ..config() };
    run(&config, "resnet8", &mut quiet(), &AtomicBool::new(false)).unwrap();
    let curve = std::fs::read_to_string(at("run.csv")).unwrap();
    let stages: Vec<&str> = curve.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(stages, ["float", "float", "quantized", "quantized"]);
    let (float, _) = checkpoint::load(&at("run.float.safetensors")).unwrap();
    assert!(float.tensors.iter().all(|tensor| tensor.encoding.is_none()));
}

#[test]
fn recipes_out_of_range_are_refused_all_at_once() {
    let bad = Config {
        batch: 0,
        freeze_at: 1.5,
        weight_decay: f32::NAN,
        float: Stage { epochs: 1, rate: 0.0, warmup: 0 },
        ..Config::default()
    };
    let message = run(&bad, "resnet8", &mut quiet(), &AtomicBool::new(false)).unwrap_err().to_string();
    for part in ["batch: found 0", "freeze_at: found 1.5", "weight_decay: found NaN", "float.rate: found 0"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let refused = |network: Network, batch: usize, data: &Dataset| {
        let (config, stop) = (Config { batch, ..config() }, AtomicBool::new(false));
        train(&config, network, &Device::flex(), data, None, &mut quiet(), &stop).unwrap_err().to_string()
    };
    let stripes = stripes(6, 0);
    assert!(refused(network("vgg"), 12, &stripes).contains("6 images, expected at least one batch of 12"));
    let two = Dataset::new("two", [8, 8], vec!["a".into(), "b".into()], vec![0; 12], vec![0; 12 * 192]).unwrap();
    assert!(refused(network("vgg"), 12, &two).contains("2 classes, the network has 3 logits"));
    let large = stripes.resized([16, 16]).unwrap();
    assert!(refused(network("vgg"), 6, &large).contains("images of 3x16x16, the network expects 3x8x8"));
}

#[test]
fn divergence_is_an_error_with_its_step_and_the_checkpoint_stays() {
    let (_folder, at) = folder();
    let path = at("run.safetensors");
    let config = Config {
        checkpoint: Some(path.clone()),
        float: Stage { epochs: 50, rate: 1e18, warmup: 0 },
        schedule: Schedule::Constant,
        checkpoint_every: 1,
        ..config()
    };
    let error = run(&config, "vgg", &mut quiet(), &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("diverged"), "{error}");
    if path.exists() {
        checkpoint::load(&path).unwrap();
    }
}

#[test]
fn a_checkpoint_without_a_run_cannot_be_resumed() {
    let (_folder, at) = folder();
    checkpoint::save(&at("net.safetensors"), &network("vgg"), &Default::default()).unwrap();
    let data = stripes(12, 0);
    let stop = AtomicBool::new(false);
    let error = resume(&at("net.safetensors"), &Device::flex(), &data, None, &mut quiet(), &stop).unwrap_err();
    assert!(matches!(&error, FitError::NoRun { .. }), "{error}");
    let missing = resume(&at("none.safetensors"), &Device::flex(), &data, None, &mut quiet(), &stop).unwrap_err();
    assert!(missing.to_string().contains("none.safetensors"), "{missing}");
}

#[test]
fn schedules_fall_as_documented() {
    let stage = Stage { epochs: 1, rate: 0.8, warmup: 0 };
    let at = |schedule: &Schedule, stage: &Stage, step| schedule.rate(stage, step, 100);
    assert_eq!([0, 50, 99].map(|step| at(&Schedule::Constant, &stage, step)), [0.8; 3]);
    assert_eq!(at(&Schedule::Cosine, &stage, 0), 0.8);
    assert!((at(&Schedule::Cosine, &stage, 50) - 0.4).abs() < 1e-6);
    assert!(at(&Schedule::Cosine, &stage, 99) < 1e-3);
    let steps = Schedule::Steps { at: vec![0.5, 0.75], factor: 0.1 };
    for (step, expected) in [(0, 0.8), (49, 0.8), (50, 0.08), (74, 0.08), (75, 0.008)] {
        assert!((at(&steps, &stage, step) - expected).abs() < 1e-7, "{step}");
    }
    let warm = Stage { warmup: 4, ..stage };
    let rates = [0, 1, 2, 3, 4].map(|step| at(&Schedule::Constant, &warm, step));
    assert_eq!(rates, [0.2, 0.4, 0.6, 0.8, 0.8]);
}

#[test]
fn optimizers_step_as_their_formulas_say() {
    use super::Memory;
    use crate::run::{Role, to_tensor, to_vec};
    let gradient = |i: usize, step: usize| ((i * 7 + step * 3) % 11) as f64 / 10.0 - 0.5;
    for (optimizer, decay, clip) in [
        (Optimizer::Sgd { momentum: 0.9, nesterov: false }, 0.0, None),
        (Optimizer::Sgd { momentum: 0.8, nesterov: true }, 0.1, Some(1.5)),
        (Optimizer::Sgd { momentum: 0.8, nesterov: true }, 0.1, Some(1e6)),
        (Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-6 }, 0.0, None),
    ] {
        let device = Device::flex();
        let mut model = Model::new(network("resnet8"), &device).unwrap();
        let mut memory = Memory::new(model.parameters().len());
        let which = model.parameters().iter().position(|p| p.role == Role::Weight).unwrap();
        let mut w: Vec<f64> = to_vec(&model.parameters()[which].value).iter().map(|&v| f64::from(v)).collect();
        let (mut m, mut v) = (vec![0.0f64; w.len()], vec![0.0f64; w.len()]);
        for step in 0..3 {
            let g: Vec<f32> = (0..w.len()).map(|i| gradient(i, step) as f32).collect();
            // The gradient of sum(w * g) is g.
            let loss = (model.parameters()[which].value.clone() * to_tensor(&g, &device).autodiff()).sum();
            optimizer.step(&mut model, &mut memory, &mut loss.backward(), 0.1, decay, clip);
            let length = (0..w.len()).map(|i| gradient(i, step).powi(2)).sum::<f64>().sqrt();
            let shrink = clip.map_or(1.0, |clip| (f64::from(clip) / length).min(1.0));
            for i in 0..w.len() {
                let g = shrink * gradient(i, step) + f64::from(decay) * w[i];
                w[i] -= 0.1
                    * match optimizer {
                        Optimizer::Sgd { momentum, nesterov } => {
                            let momentum = f64::from(momentum);
                            m[i] = momentum * m[i] + g;
                            if nesterov { g + momentum * m[i] } else { m[i] }
                        }
                        Optimizer::Adam { beta1, beta2, epsilon } => {
                            let (b1, b2) = (f64::from(beta1), f64::from(beta2));
                            (m[i], v[i]) = (b1 * m[i] + (1.0 - b1) * g, b2 * v[i] + (1.0 - b2) * g * g);
                            let t = step as i32 + 1;
                            m[i] / (1.0 - b1.powi(t)) / ((v[i] / (1.0 - b2.powi(t))).sqrt() + f64::from(epsilon))
                        }
                    };
            }
        }
        let found = to_vec(&model.parameters()[which].value);
        let apart = found.iter().zip(&w).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs()));
        assert!(apart < 1e-5, "{optimizer:?}: {apart}");
    }
}
