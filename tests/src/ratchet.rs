//! Figures that may not grow unnoticed. Enters: figures with names, the file that records them. Leaves: nothing, or a panic that
//! names those that are off by more than 1 %: one that grew is to be mended, one that fell is to be recorded
//! (`INTACT_BLESS=1` writes the file).

use serde_json::{Map, Value};
use std::path::Path;

/// Part of a figure that it may grow or shrink by.
const TOLERANCE: f64 = 0.01;

/// Compares `figures` with what `file` records, or records them.
///
/// # Panics
/// When a figure is off, or is not recorded, or one that is recorded is missing.
#[track_caller]
pub fn compare(figures: &Map<String, Value>, file: &Path) {
    if std::env::var_os("INTACT_BLESS").is_some() {
        let text = serde_json::to_string_pretty(figures).expect("figures are numbers") + "\n";
        exporter::file::write_atomically(file, text.as_bytes()).expect("the record can be written");
    }
    let recorded = std::fs::read(file).expect("there is a record");
    let recorded: Map<String, Value> = serde_json::from_slice(&recorded).expect("the record is JSON");
    assert_eq!(figures.keys().collect::<Vec<_>>(), recorded.keys().collect::<Vec<_>>());
    let off = |(name, found): (&String, &Value)| {
        let (found, recorded) = (found.as_f64()?, recorded[name].as_f64()?);
        let change = found / recorded - 1.0;
        (change.abs() > TOLERANCE).then(|| format!("{name}: {found}, recorded {recorded} ({:+.1} %)", 100.0 * change))
    };
    let off: Vec<String> = figures.iter().filter_map(off).collect();
    assert!(off.is_empty(), "{}; INTACT_BLESS=1 records what is meant", off.join("; "));
}
