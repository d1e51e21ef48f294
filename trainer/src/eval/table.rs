//! The paper's tables. Enters: scores of networks by split. Leaves: for each bit width and split mean, standard error and
//! maximum, as text, Markdown and JSON. Refuses nothing.

use super::Score;
use crate::hypernet::Setting;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Mean over networks, its standard error (population deviation over the root of the count) and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean.
    pub mean: f64,
    /// Standard error of it.
    pub error: f64,
    /// Largest.
    pub max: f64,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        Self { mean, error: (variance / n).sqrt(), max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max) }
    }
}

/// One bit width on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the split.
    pub split: String,
    /// Bit widths.
    pub setting: Setting,
    /// Networks.
    pub nets: usize,
    /// Accuracy in percent.
    pub top1: Summary,
    /// Label among the five largest, in percent.
    pub top5: Summary,
    /// Mean squared error of the logits.
    pub qmse: Summary,
    /// Cross entropy between floats and integers.
    pub qce: Summary,
    /// Decrease of accuracy in percent of that in floats.
    pub decrease: Summary,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// In the order of splits, then settings.
    pub cells: Vec<Cell>,
}

impl Table {
    /// Adds a split; `scores` has one list for each network, all with the same settings.
    pub fn push(&mut self, split: &str, scores: &[Vec<Score>]) {
        for i in 0..scores.first().map_or(0, Vec::len) {
            let of = |f: &dyn Fn(&Score) -> f64| Summary::of(&scores.iter().map(|net| f(&net[i])).collect::<Vec<_>>());
            self.cells.push(Cell {
                split: split.into(),
                setting: scores[0][i].setting,
                nets: scores.len(),
                top1: of(&|s| 100.0 * s.top1),
                top5: of(&|s| 100.0 * s.top5),
                qmse: of(&|s| s.qmse),
                qce: of(&|s| s.qce),
                decrease: of(&Score::decrease),
            });
        }
    }

    /// Rows are bit widths, columns splits, as in Tables 3 to 5 of the paper: `mean +- error; max`.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let ones = [("top-1, %", &(|c: &Cell| c.top1) as &dyn Fn(&Cell) -> Summary), ("top-5, %", &|c| c.top5)];
        for (title, of) in ones {
            self.block(title, 1, of, &mut text);
        }
        self.block("QMSE of logits", 3, &|c| c.qmse, &mut text);
        self.block("QCE", 3, &|c| c.qce, &mut text);
        self.block("decrease of top-1, % of the same weights in floats", 1, &|c| c.decrease, &mut text);
        text
    }

    fn block(&self, title: &str, digits: usize, of: &dyn Fn(&Cell) -> Summary, text: &mut String) {
        let (mut splits, mut settings) = (Vec::new(), Vec::new());
        for cell in &self.cells {
            if !splits.contains(&&cell.split) {
                splits.push(&cell.split);
            }
            if !settings.contains(&cell.setting) {
                settings.push(cell.setting);
            }
        }
        let mut line = |cells: Vec<String>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(std::iter::once(title.to_owned()).chain(splits.iter().map(ToString::to_string)).collect());
        line(vec!["---".into(); splits.len() + 1]);
        for setting in settings {
            let mut cells = vec![setting.to_string()];
            for split in &splits {
                let cell = self.cells.iter().find(|cell| &&cell.split == split && cell.setting == setting);
                cells.push(cell.map_or_else(String::new, |cell| {
                    let Summary { mean, error, max } = of(cell);
                    format!("{} ± {}; {}", figure(mean, digits), figure(error, digits), figure(max, digits))
                }));
            }
            line(cells);
        }
        text.push('\n');
    }
}

/// With so many decimals; what has exploded, as at two bits, with its exponent.
fn figure(v: f64, digits: usize) -> String {
    if v.abs() < 1e6 { format!("{v:.digits$}") } else { format!("{v:.1e}") }
}
