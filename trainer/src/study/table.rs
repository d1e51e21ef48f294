//! The study's table. Enters: what came of each case. Leaves: for each pair of widths one block, its rows starts, its columns
//! epochs. Refuses nothing.

use super::Found;
use std::fmt::Write;

/// Mean over networks and seeds, in percent, `±` the mean over networks of the deviation between seeds where there are
/// several (with `n - 1`), and how many networks and seeds there are. The starts of a block are compared on the networks
/// and seeds that all of them have.
pub fn table(found: &[Found], epochs: &[usize]) -> String {
    let mut text = String::new();
    for setting in distinct(found.iter().map(|f| f.case.setting)) {
        let of_setting: Vec<&Found> = found.iter().filter(|f| f.case.setting == setting).collect();
        let starts = distinct(of_setting.iter().map(|f| f.case.start.as_str()));
        let has = |start: &str, net, seed| {
            of_setting.iter().any(|f| (f.case.start.as_str(), f.case.net, f.case.seed) == (start, net, seed))
        };
        let common = |f: &&&Found| starts.iter().all(|start| has(start, f.case.net, f.case.seed));
        let shared: Vec<&Found> = of_setting.iter().filter(common).copied().collect();
        let nets = distinct(shared.iter().map(|f| f.case.net));
        let runs = shared.len() / starts.len().max(1);
        // Writing to a string cannot fail.
        let columns: String = epochs.iter().map(|epoch| format!(" {epoch} |")).collect();
        let _ = writeln!(text, "| {setting}, {} networks, {runs} runs each; epochs |{columns}", nets.len());
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(epochs.len()));
        for start in starts {
            let _ = write!(text, "| {start} |");
            for &epoch in epochs {
                let of_net = |&net: &u64| -> Vec<f64> {
                    let runs = shared.iter().filter(|f| f.case.net == net && f.case.start == start);
                    runs.filter_map(|f| f.accuracy.get(epoch)).map(|a| 100.0 * a).collect()
                };
                let by_net: Vec<Vec<f64>> = nets.iter().map(of_net).filter(|runs| !runs.is_empty()).collect();
                let cell = if by_net.is_empty() { String::from("-") } else { cell(&by_net) };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn cell(by_net: &[Vec<f64>]) -> String {
    let all: Vec<f64> = by_net.iter().flatten().copied().collect();
    let spreads: Vec<f64> = by_net.iter().filter(|runs| runs.len() > 1).map(|runs| deviation(runs)).collect();
    let spread = if spreads.is_empty() { String::new() } else { format!(" ± {:.1}", mean(&spreads)) };
    format!("{:.1}{spread}", mean(&all))
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
