//! One step: some networks, some images for all or for each of them, one gradient. Enters: parameters, networks with their modes, images. Leaves: the
//! hypernetwork's gradient, and how well each network did. Refuses nothing; values that are not finite show in the result.
//!
//! The tape is cut at the predicted tensors. Each network runs forward and backward on a thread of its own, inside a pool of
//! that one thread, so that what it computes cannot depend on how many there are.

use crate::graph::Blueprint;
use crate::hypernet::{Leaves, Mode, Parameters, PredictError, Tensors, cross_entropy, logits, predict};
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Images of one batch, normalized, `N C H W`.
#[derive(Clone, Debug)]
pub struct Images {
    /// Values.
    pub values: Vec<f32>,
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// One for each image.
    pub labels: Vec<u16>,
}

/// How one network did on the images of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross entropy.
    pub loss: f32,
    /// Images whose largest logit was that of their label.
    pub right: usize,
}

/// Pools of one thread each.
#[derive(Debug)]
pub struct Workers(Vec<rayon::ThreadPool>);

impl Workers {
    /// So many threads, at least one.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn new(threads: usize) -> Self {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("the system gives a thread");
        Self((0..threads.max(1)).map(pool).collect())
    }

    /// `f(0)` to `f(count - 1)`, in order; each call stays on one thread.
    pub fn map<T: Send>(&self, count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for pool in &self.0 {
                scope.spawn(|| {
                    pool.install(|| {
                        loop {
                            let i = next.fetch_add(1, Ordering::Relaxed);
                            let Some(slot) = results.get(i) else { break };
                            let value = f(i);
                            *slot.lock().expect("no other thread has this slot") = Some(value);
                        }
                    });
                });
            }
        });
        let done = |slot: Mutex<Option<T>>| slot.into_inner().expect("not poisoned").expect("every index was taken");
        results.into_iter().map(done).collect()
    }
}

/// Loss and gradients of one network.
fn network(net: &Blueprint, tensors: &Tensors, images: &Images, mode: Mode, device: &Device) -> (Score, Tensors) {
    let device = device.clone().autodiff();
    let leaves = Leaves::new(net, tensors, &device, true);
    let [c, h, w] = images.shape;
    let n = images.labels.len();
    let x = Tensor::<4>::from_data(TensorData::new(images.values.clone(), [n, c, h, w]), &device);
    let logits = logits(net, &leaves, x, mode);
    let found: Vec<f32> = logits.to_data().try_to_vec().expect("the backend computes in f32");
    let loss = cross_entropy(logits, &images.labels);
    let score = Score { loss: loss.clone().into_scalar::<f32>(), right: right(&found, &images.labels) };
    let gradients = leaves.gradients(&mut loss.backward());
    (score, gradients)
}

/// How many rows have their largest value at their label; the first of several.
pub(crate) fn right(logits: &[f32], labels: &[u16]) -> usize {
    let classes = logits.len() / labels.len();
    let largest = |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    logits.chunks_exact(classes).zip(labels).filter(|(row, label)| largest(row) == usize::from(**label)).count()
}

/// The gradient of the mean loss of all networks by the hypernetwork's parameters, on one batch of images for each of them or on one for
/// all. The gradient of a network's own
/// parameters is shortened to `longest` first: with BatchNorm it grows with depth, and a few deep networks would otherwise
/// speak for all. Infinite for the gradient as it is.
///
/// # Errors
/// [`PredictError`].
///
/// # Panics
/// If there are neither as many batches as networks nor one.
pub fn gradient(
    p: &Parameters,
    nets: &[(&Blueprint, Mode)],
    images: &[Images],
    s_max: u8,
    longest: f32,
    workers: &Workers,
    device: &Device,
) -> Result<(Parameters, Vec<Score>), PredictError> {
    let images_of = |net: usize| match images {
        [all] => all,
        each => {
            assert_eq!(each.len(), nets.len(), "a batch of images for each network");
            &each[net]
        }
    };
    let settings: Vec<_> = nets.iter().map(|(net, mode)| (*net, mode.setting)).collect();
    let prediction = predict(p, &settings, s_max)?;
    // The costliest first, so that no thread is left alone with it at the end.
    let mut order: Vec<usize> = (0..nets.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(nets[i].0.macs().total()));
    let mut found = workers.map(nets.len(), |i| {
        let i = order[i];
        let (net, mode) = nets[i];
        (i, network(net, &prediction.tensors[i], images_of(i), mode, device))
    });
    found.sort_by_key(|(i, _)| *i);
    let share = 1.0 / nets.len() as f32;
    let (scores, mut gradients): (Vec<Score>, Vec<Tensors>) = found.into_iter().map(|(_, found)| found).unzip();
    for gradients in &mut gradients {
        let length = gradients.iter().flatten().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let factor = share * (f64::from(longest) / length).min(1.0) as f32;
        gradients.iter_mut().flatten().for_each(|g| *g *= factor);
    }
    Ok((prediction.backward(p, &gradients), scores))
}
