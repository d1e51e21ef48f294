//! How good predicted networks are, without any training of theirs (section 4 of the paper). Enters: a hypernetwork, unseen
//! networks, test images, bit widths. Leaves: for each network and bit width its accuracy and what quantization changed
//! ([`network`]); and the table over all of them ([`Table`]). Refused: networks that the hypernetwork cannot predict.
//!
//! BatchNorm takes the statistics of each test batch, so results depend on the batch size (64, as in the paper) and on the
//! order of the images: a set sorted by class is shuffled first, by a fixed seed.

mod table;
#[cfg(test)]
mod tests;

use crate::data::{order, plain};
use crate::graph::Blueprint;
use crate::hypernet::{
    Leaves, Mode, Normalization, Parameters, PredictError, Ranges, Setting, Tensors, logits, predict,
};
use burn::tensor::{Device, Tensor, TensorData};
use exporter::data::Dataset;
use exporter::network::Preprocessing;
use serde::{Deserialize, Serialize};
pub use table::{Cell, Summary, Table};

/// Test images in the order in which they are shown.
#[derive(Debug)]
pub struct Images {
    values: Vec<f32>,
    labels: Vec<u16>,
    size: [usize; 2],
}

impl Images {
    /// The first `count` of a set after shuffling it by `seed`.
    pub fn new(data: &Dataset, count: usize, seed: u64) -> Self {
        let mut indices = order(data.len(), seed, 0);
        indices.truncate(count);
        let data = data.subset(indices);
        let values = plain(&data, 0..data.len(), &Preprocessing::of(&data));
        Self { values, labels: data.labels().to_vec(), size: [data.height(), data.width()] }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// One network at one pair of bit widths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Bit widths.
    pub setting: Setting,
    /// Share of images whose label has the largest logit.
    pub top1: f64,
    /// Share of images whose label is among the five largest.
    pub top5: f64,
    /// Accuracy of the same weights in floats.
    pub float_top1: f64,
    /// Mean squared error of the logits against the same weights in floats.
    pub qmse: f64,
    /// Cross entropy of the quantized softmax under the float one.
    pub qce: f64,
}

impl Score {
    /// `(float - quantized) / float * 100`; 0 if nothing was right in floats.
    pub fn decrease(&self) -> f64 {
        if self.float_top1 > 0.0 { (self.float_top1 - self.top1) / self.float_top1 * 100.0 } else { 0.0 }
    }
}

/// How networks are tested.
#[derive(Clone, Copy, Debug)]
pub struct Test<'a> {
    /// Bit widths.
    pub settings: &'a [Setting],
    /// Widths that the hypernetwork is asked for, whatever it is tested at: floats for GHN-Q. None: those of the test.
    pub asked: Option<Setting>,
    /// Ranges of tensors.
    pub ranges: Ranges,
    /// Where BatchNorm stands in networks with quantized weights.
    pub normalization: Normalization,
    /// Longest virtual edge.
    pub s_max: u8,
    /// What they are shown.
    pub images: &'a Images,
    /// In batches of so many.
    pub batch: usize,
    /// Where they run.
    pub device: &'a Device,
}

/// How the weights of one network do at every setting.
///
/// # Errors
/// [`PredictError`].
pub fn network(p: &Parameters, net: &Blueprint, test: &Test<'_>) -> Result<Vec<Score>, PredictError> {
    let mut scores = Vec::new();
    let mut shared: Option<Vec<f32>> = None;
    for &setting in test.settings {
        let prediction = predict(p, &[(net, test.asked.unwrap_or(setting))], test.s_max)?;
        let run = |setting: Setting| {
            let mode = Mode { ranges: test.ranges, normalization: test.normalization, ..Mode::test(setting) };
            test.logits(net, &prediction.tensors[0], mode)
        };
        // Without bit widths in the graph, or with the same ones, all settings have the same weights.
        let float = match shared.take() {
            Some(float) => float,
            None => run(Setting::FLOAT),
        };
        let found = if setting.is_float() { float.clone() } else { run(setting) };
        scores.push(score(setting, &float, &found, &test.images.labels));
        if test.asked.is_some() || !p.config().bit_widths {
            shared = Some(float);
        }
    }
    Ok(scores)
}

impl Test<'_> {
    fn logits(&self, net: &Blueprint, tensors: &Tensors, mode: Mode) -> Vec<f32> {
        let leaves = Leaves::new(net, tensors, self.device, false);
        let [h, w] = self.images.size;
        let of_batch = |values: &[f32]| -> Vec<f32> {
            let n = values.len() / (3 * h * w);
            let x = Tensor::<4>::from_data(TensorData::new(values.to_vec(), [n, 3, h, w]), self.device);
            logits(net, &leaves, x, mode).into_data().try_to_vec().expect("the backend computes in f32")
        };
        self.images.values.chunks(self.batch * 3 * h * w).flat_map(of_batch).collect()
    }
}

fn score(setting: Setting, float: &[f32], found: &[f32], labels: &[u16]) -> Score {
    let classes = found.len() / labels.len();
    let n = labels.len() as f64;
    // A tie counts for the class that comes first, as with a stable sort.
    let rank = |row: &[f32], label: usize| {
        row.iter().enumerate().filter(|(i, v)| **v > row[label] || (**v == row[label] && *i < label)).count()
    };
    let within = |logits: &[f32], top: usize| {
        let right = |(row, label): &(&[f32], &u16)| rank(row, usize::from(**label)) < top;
        logits.chunks_exact(classes).zip(labels).filter(right).count() as f64 / n
    };
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let qmse = float.iter().zip(found).map(square).sum::<f64>() / found.len() as f64;
    let entropy = |(a, b): (&[f32], &[f32])| {
        let (p, q) = (log_softmax(a), log_softmax(b));
        -p.iter().zip(&q).map(|(p, q)| p.exp() * q).sum::<f64>()
    };
    let qce = float.chunks_exact(classes).zip(found.chunks_exact(classes)).map(entropy).sum::<f64>() / n;
    Score { setting, top1: within(found, 1), top5: within(found, 5), float_top1: within(float, 1), qmse, qce }
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|v| f64::from(v - largest).exp()).sum();
    row.iter().map(|v| f64::from(v - largest) - sum.ln()).collect()
}
