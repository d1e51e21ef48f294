//! The study's table. Enters: what came of each case. Leaves: for each pair of widths one block, its rows starts and what the
//! first one is ahead of the others, its columns epochs. Refuses nothing.

use super::{Found, Setting};
use std::fmt::Write;

/// Means over networks and seeds, in percent, `±` the mean over networks of the deviation between seeds where there are
/// several (with `n - 1`), and how many networks and seeds there are. Then the first start less each other one, in points: the
/// mean over networks, `±` its standard error where there are several. The starts of a block are compared on the networks and
/// seeds that all of them have.
pub fn table(found: &[Found], epochs: &[usize]) -> String {
    let mut text = String::new();
    for setting in distinct(found.iter().map(|f| f.case.setting)) {
        let block = Block::new(found, setting);
        // Writing to a string cannot fail.
        let columns: String = epochs.iter().map(|epoch| format!(" {epoch} |")).collect();
        let (nets, runs) = (block.nets.len(), block.shared.len() / block.starts.len().max(1));
        let _ = writeln!(text, "| {setting}, {nets} networks, {runs} runs each; epochs |{columns}");
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(epochs.len()));
        let mut row = |name: &str, cell: &dyn Fn(usize) -> String| {
            let cells: String = epochs.iter().map(|&epoch| format!(" {} |", cell(epoch))).collect();
            let _ = writeln!(text, "| {name} |{cells}");
        };
        for start in &block.starts {
            row(start, &|epoch| block.accuracy(start, epoch));
        }
        if let Some((first, others)) = block.starts.split_first() {
            for other in others {
                row(&format!("{first} less {other}"), &|epoch| block.ahead(first, other, epoch));
            }
        }
        text.push('\n');
    }
    text
}

/// What there is for one pair of widths.
struct Block<'f> {
    starts: Vec<&'f str>,
    /// Of networks and seeds that all starts have.
    shared: Vec<&'f Found>,
    nets: Vec<u64>,
}

impl<'f> Block<'f> {
    fn new(found: &'f [Found], setting: Setting) -> Self {
        let of_setting: Vec<&Found> = found.iter().filter(|f| f.case.setting == setting).collect();
        let starts = distinct(of_setting.iter().map(|f| f.case.start.as_str()));
        let has = |start: &str, net, seed| {
            of_setting.iter().any(|f| (f.case.start.as_str(), f.case.net, f.case.seed) == (start, net, seed))
        };
        let common = |f: &&&Found| starts.iter().all(|start| has(start, f.case.net, f.case.seed));
        let shared: Vec<&Found> = of_setting.iter().filter(common).copied().collect();
        let nets = distinct(shared.iter().map(|f| f.case.net));
        Self { starts, shared, nets }
    }

    /// By network, the accuracies of its seeds in percent, of those that came so far.
    fn by_net(&self, start: &str, epoch: usize) -> Vec<Vec<f64>> {
        let of_net = |&net: &u64| -> Vec<f64> {
            let runs = self.shared.iter().filter(|f| f.case.net == net && f.case.start == start);
            runs.filter_map(|f| f.accuracy.get(epoch)).map(|a| 100.0 * a).collect()
        };
        self.nets.iter().map(of_net).collect()
    }

    fn accuracy(&self, start: &str, epoch: usize) -> String {
        let by_net = self.by_net(start, epoch);
        let all: Vec<f64> = by_net.iter().flatten().copied().collect();
        if all.is_empty() {
            return "-".into();
        }
        let spreads: Vec<f64> = by_net.iter().filter(|runs| runs.len() > 1).map(|runs| deviation(runs)).collect();
        let spread = if spreads.is_empty() { String::new() } else { format!(" ± {:.1}", mean(&spreads)) };
        format!("{:.1}{spread}", mean(&all))
    }

    fn ahead(&self, first: &str, other: &str, epoch: usize) -> String {
        let (first, other) = (self.by_net(first, epoch), self.by_net(other, epoch));
        let both = first.iter().zip(&other).filter(|(a, b)| !a.is_empty() && !b.is_empty());
        let gains: Vec<f64> = both.map(|(a, b)| mean(a) - mean(b)).collect();
        if gains.is_empty() {
            return "-".into();
        }
        let error = deviation(&gains) / (gains.len() as f64).sqrt();
        let error = if gains.len() > 1 { format!(" ± {error:.1}") } else { String::new() };
        format!("{:+.1}{error}", mean(&gains))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let center = mean(values);
    (values.iter().map(|v| (v - center).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// In the order in which they come first.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
