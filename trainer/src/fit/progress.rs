//! Telling how training goes. Enters: figures of steps and epochs. Leaves: lines on standard error, or whatever an
//! implementation of [`Progress`] makes of them.

use super::Row;
use std::time::{Duration, Instant};

/// One step, just done.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// From 1, over the whole run.
    pub step: u64,
    /// Of the whole run.
    pub steps: u64,
    /// From 1.
    pub epoch: u64,
    /// Of the whole run.
    pub epochs: u64,
    /// Whether quantization is in the loop.
    pub quantized: bool,
    /// Mean of the epoch so far.
    pub loss: f64,
    /// Share of the epoch's images so far that were classified rightly.
    pub accuracy: f64,
    /// Images a second, since this process began.
    pub rate: f64,
    /// Until the end of the run.
    pub left: Duration,
}

/// Hears how training goes. It runs between steps, so it should be quick.
pub trait Progress {
    /// After each step.
    fn step(&mut self, step: &Step);
    /// After each epoch and its evaluation.
    fn epoch(&mut self, row: &Row);
    /// Whatever else is worth a line.
    fn note(&mut self, text: &str);
}

/// Plain lines on standard error, for files and pipes: one every ten seconds and one for each epoch.
#[derive(Debug)]
pub struct Lines {
    last: Instant,
}

impl Default for Lines {
    fn default() -> Self {
        Self { last: Instant::now() }
    }
}

impl Progress for Lines {
    fn step(&mut self, s: &Step) {
        if self.last.elapsed() < Duration::from_secs(10) {
            return;
        }
        self.last = Instant::now();
        eprintln!(
            "epoch {}/{} step {}/{} loss {:.4} accuracy {:.2} % {:.0} images/s, {}:{:02} min left",
            s.epoch,
            s.epochs,
            s.step,
            s.steps,
            s.loss,
            100.0 * s.accuracy,
            s.rate,
            s.left.as_secs() / 60,
            s.left.as_secs() % 60
        );
    }

    fn epoch(&mut self, row: &Row) {
        let test = row.test_accuracy.map_or(String::new(), |a| format!(" test accuracy {:.2} %", 100.0 * a));
        eprintln!(
            "epoch {} ({}) rate {:.5} loss {:.4} train accuracy {:.2} %{test} ({:.0} s)",
            row.epoch,
            if row.quantized { "quantized" } else { "float" },
            row.rate,
            row.train_loss,
            100.0 * row.train_accuracy,
            row.seconds
        );
    }

    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }
}
