//! How far a linear model gets on `shapes10`: multinomial logistic regression on standardized pixels, trained by
//! stochastic gradient descent. Prints training and test accuracy for three weight decays, and the best test accuracy
//! after any epoch of any of them: choosing by the test images flatters the model, so the true figure is no higher.
//!
//! `cargo run --release -p intact-exporter --example shapes10_linear`

use std::error::Error;

use exporter::data::{Dataset, Split, shapes10};
use exporter::network::Preprocessing;

const TRAIN: usize = 10_000;
const TEST: usize = 2_000;
const BATCH: usize = 50;
const EPOCHS: usize = 15;
const CLASSES: usize = shapes10::CLASSES.len();
const FEATURES: usize = shapes10::SIDE * shapes10::SIDE * 3;

fn main() -> Result<(), Box<dyn Error>> {
    let (train, test) = (shapes10::draw(0, Split::Train, TRAIN)?, shapes10::draw(0, Split::Test, TEST)?);
    let preprocessing = Preprocessing::measure(&train);
    let (train_x, test_x) = (features(&train, &preprocessing), features(&test, &preprocessing));
    let mut best = 0.0f32;
    for decay in [0.0, 0.1, 1.0] {
        let mut model = Linear { weight: vec![0.0; CLASSES * FEATURES], bias: [0.0; CLASSES] };
        let mut test_accuracy = 0.0;
        for epoch in 1..=EPOCHS {
            let rate = 0.003 / epoch as f32;
            // The classes come in turn, so every batch is balanced without shuffling.
            for (x, labels) in train_x.chunks(BATCH * FEATURES).zip(train.labels().chunks(BATCH)) {
                model.step(x, labels, rate, decay);
            }
            test_accuracy = model.accuracy(&test_x, test.labels());
            best = best.max(test_accuracy);
        }
        let train_accuracy = model.accuracy(&train_x, train.labels());
        println!("weight decay {decay}: train {train_accuracy:.1} %, test {test_accuracy:.1} % after {EPOCHS} epochs");
    }
    println!("best test accuracy of a linear model: {best:.1} % of {TEST} images");
    Ok(())
}

fn features(data: &Dataset, preprocessing: &Preprocessing) -> Vec<f32> {
    (0..data.len()).flat_map(|i| preprocessing.normalize(data.image(i))).collect()
}

struct Linear {
    /// `K C`: classes, features.
    weight: Vec<f32>,
    bias: [f32; CLASSES],
}

impl Linear {
    fn logits(&self, x: &[f32]) -> [f32; CLASSES] {
        std::array::from_fn(|k| {
            let row = &self.weight[k * FEATURES..(k + 1) * FEATURES];
            // Eight partial sums, so that the compiler can use vectors.
            let mut sums = [0.0; 8];
            for (w, x) in row.as_chunks::<8>().0.iter().zip(x.as_chunks::<8>().0) {
                for lane in 0..8 {
                    sums[lane] += w[lane] * x[lane];
                }
            }
            sums.iter().sum::<f32>() + self.bias[k]
        })
    }

    /// One step of gradient descent on the mean cross entropy of a batch, with L2 decay of the weights.
    fn step(&mut self, batch: &[f32], labels: &[u16], rate: f32, decay: f32) {
        let images = batch.chunks_exact(FEATURES);
        let errors: Vec<[f32; CLASSES]> = images.clone().zip(labels).map(|(x, &l)| error(self.logits(x), l)).collect();
        self.weight.iter_mut().for_each(|w| *w *= 1.0 - rate * decay);
        for (x, error) in images.zip(errors) {
            for (k, error) in error.into_iter().enumerate() {
                let step = rate * error / labels.len() as f32;
                self.bias[k] -= step;
                let row = &mut self.weight[k * FEATURES..(k + 1) * FEATURES];
                row.iter_mut().zip(x).for_each(|(w, x)| *w -= step * x);
            }
        }
    }

    /// In percent.
    fn accuracy(&self, x: &[f32], labels: &[u16]) -> f32 {
        let best = |x: &[f32]| {
            let logits = self.logits(x);
            (0..CLASSES).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        };
        let right = x.chunks_exact(FEATURES).zip(labels).filter(|&(x, &label)| best(x) == Some(label.into())).count();
        100.0 * right as f32 / labels.len() as f32
    }
}

/// Softmax minus one-hot: the gradient of the cross entropy by the logits.
fn error(logits: [f32; CLASSES], label: u16) -> [f32; CLASSES] {
    let largest = logits.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.map(|logit| (logit - largest).exp());
    let sum: f32 = powers.iter().sum();
    std::array::from_fn(|k| powers[k] / sum - f32::from(u8::from(k == usize::from(label))))
}
