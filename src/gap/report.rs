//! The gap report as data, as text and as JSON. Enters: measured rungs, steps, layers. Leaves: text for people, JSON for
//! programs, and a verdict. Refuses nothing.

use super::statistics::Comparison;
use crate::terminal::columns;
use serde::Serialize;

/// One executor's accuracy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rung {
    /// `float`, `folded`, `simulated`, `integer host`, `integer emulator`.
    pub(crate) name: String,
    /// Images it has answered.
    pub(crate) images: usize,
    /// Right answers.
    pub(crate) correct: usize,
    /// Percent of right answers.
    pub(crate) accuracy: f64,
}

/// From one rung to the next.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// The rung above.
    pub(crate) from: String,
    /// The rung below.
    pub(crate) to: String,
    /// What changed in the answers.
    #[serde(flatten)]
    pub(crate) comparison: Comparison,
    /// The first op whose output differs by more than [`Self::threshold_lsb`].
    pub(crate) first_op: Option<Divergence>,
    /// In steps of the op's own output encoding.
    pub(crate) threshold_lsb: f64,
}

/// Where two executors part ways first, in the order of execution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Divergence {
    /// The op's node.
    pub(crate) op: String,
    /// Index of the first image that shows it.
    pub(crate) image: usize,
    /// Largest difference in the op's output over the images looked at, in steps of its encoding; absent where only
    /// checksums were compared.
    pub(crate) largest_lsb: Option<f64>,
}

/// One op: what quantization does to it, and what integers add.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Layer {
    /// The op's node.
    pub(crate) op: String,
    /// ONNX operator.
    pub(crate) kind: String,
    /// Root mean square of simulated minus folded, in steps of the op's encoding: error gathered from the start.
    pub(crate) simulation_rms_lsb: f64,
    /// Elements (percent) whose integer differs from the simulated value.
    pub(crate) integer_differs_percent: f64,
    /// Largest such difference, in steps.
    pub(crate) integer_largest_lsb: f64,
}

/// A limit that was asked for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// What is limited.
    pub(crate) name: String,
    /// Largest value that passes.
    pub(crate) limit: f64,
    /// What was measured.
    pub(crate) found: f64,
    /// `found <= limit`.
    pub(crate) passed: bool,
}

impl Check {
    /// Compares `found` with `limit`.
    pub(crate) fn at_most(name: impl Into<String>, limit: f64, found: f64) -> Self {
        Self { name: name.into(), limit, found, passed: found <= limit }
    }
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The network's name.
    pub(crate) network: String,
    /// Weights and activations, for example `W8A8`.
    pub(crate) precision: String,
    /// The data set's name.
    pub(crate) data: String,
    /// Board that was emulated, if any.
    pub(crate) board: Option<String>,
    /// From float down to the device.
    pub(crate) rungs: Vec<Rung>,
    /// Between neighbouring rungs.
    pub(crate) steps: Vec<Step>,
    /// Op by op, over [`Self::layer_images`] images.
    pub(crate) layers: Vec<Layer>,
    /// Images behind [`Self::layers`].
    pub(crate) layer_images: usize,
    /// Limits.
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// Whether every limit holds.
    pub(crate) fn passed(&self) -> bool {
        self.checks.iter().all(|c| c.passed)
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("Gap report: {}, {}, on {}\n\n", self.network, self.precision, self.data);
        let mut rows = vec![["rung", "images", "top-1"].map(String::from).to_vec()];
        for rung in &self.rungs {
            rows.push(vec![rung.name.clone(), rung.images.to_string(), format!("{:.2} %", rung.accuracy)]);
        }
        text += &columns(&rows);

        let head =
            ["step", "right>wrong", "wrong>right", "other", "McNemar p", "images that differ", "max LSB", "mean LSB"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for step in &self.steps {
            let c = &step.comparison;
            rows.push(vec![
                format!("{} > {}", step.from, step.to),
                c.right_to_wrong.to_string(),
                c.wrong_to_right.to_string(),
                c.wrong_to_wrong.to_string(),
                format!("{:.3}", c.mcnemar_p),
                format!("{} of {}", c.images_with_difference, c.images),
                lsb(c.largest_lsb),
                lsb(c.mean_lsb),
            ]);
        }
        text += "\n";
        text += &columns(&rows);

        text += "\nFirst op that diverges\n";
        for step in &self.steps {
            let place = match &step.first_op {
                None if step.threshold_lsb > 0.0 => format!("none by more than {} LSB", step.threshold_lsb),
                None => "none".into(),
                Some(d) => match d.largest_lsb {
                    Some(value) => format!("{} (image {}, up to {} LSB)", d.op, d.image, lsb(value)),
                    None => format!("{} (image {})", d.op, d.image),
                },
            };
            text += &format!("  {} > {}: {place}\n", step.from, step.to);
        }

        if !self.layers.is_empty() {
            let head = ["op", "kind", "simulated-folded rms LSB", "integer differs", "max LSB"];
            let mut rows = vec![head.map(String::from).to_vec()];
            for layer in &self.layers {
                rows.push(vec![
                    layer.op.clone(),
                    layer.kind.clone(),
                    lsb(layer.simulation_rms_lsb),
                    format!("{:.4} %", layer.integer_differs_percent),
                    lsb(layer.integer_largest_lsb),
                ]);
            }
            text += &format!("\nOp by op ({} images, errors gathered from the start)\n", self.layer_images);
            text += &columns(&rows);
        }

        text += "\n";
        for check in &self.checks {
            let word = if check.passed { "passed" } else { "FAILED" };
            text += &format!("{word}: {}: {} (limit {})\n", check.name, number(check.found), number(check.limit));
        }
        text
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }
}

/// Three digits that matter, and no `-0`.
fn lsb(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v.abs() >= 10.0 => format!("{v:.1}"),
        v if v.abs() >= 0.01 => format!("{v:.3}"),
        v => format!("{v:.1e}"),
    }
}

/// An integer without a point, anything else with two digits behind it.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
