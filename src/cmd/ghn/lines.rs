//! A file that results are added to, line by line, so that nothing is made twice. Enters: its path, the conditions that all its
//! results have in common (its first line), results. Leaves: the results that it already has. Refused: a file under other
//! conditions, and lines that are no results; a last line that was cut off when a run was ended is dropped.

use anyhow::{Context, Result, ensure};
use exporter::file::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use trainer::difference;

/// A file open at its end.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Opens the file, or begins it, and gives what it has.
    pub(super) fn open<C, L>(path: &Path, conditions: &C) -> Result<(Self, Vec<L>)>
    where
        C: Serialize + DeserializeOwned + PartialEq,
        L: Serialize + DeserializeOwned,
    {
        let name = || path.display().to_string();
        let found: Vec<L> = match std::fs::read_to_string(path) {
            Ok(text) => read(&text, conditions).with_context(name)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(name),
        };
        // Again without a line that was cut off.
        let mut text = serde_json::to_string(conditions)? + "\n";
        for line in &found {
            text += &(serde_json::to_string(line)? + "\n");
        }
        write_atomically(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).with_context(name)?;
        Ok((Self { path: path.into(), file }, found))
    }

    /// Adds a result.
    pub(super) fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        self.file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())
    }
}

fn read<C, L>(text: &str, conditions: &C) -> Result<Vec<L>>
where
    C: Serialize + DeserializeOwned + PartialEq,
    L: DeserializeOwned,
{
    let mut lines = text.lines();
    let first: C = serde_json::from_str(lines.next().unwrap_or_default()).context("line 1")?;
    ensure!(first == *conditions, "results under other conditions: {}", difference(&first, conditions));
    let whole = text.ends_with('\n');
    let mut found = Vec::new();
    let mut lines = lines.enumerate().peekable();
    while let Some((i, line)) = lines.next() {
        match serde_json::from_str(line) {
            Ok(line) => found.push(line),
            Err(_) if lines.peek().is_none() && !whole => {}
            Err(error) => return Err(error).with_context(|| format!("line {}", i + 2)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_is_dropped_and_what_is_foreign_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.jsonl");
        let (mut lines, found) = Lines::open::<u8, String>(&path, &7).unwrap();
        assert!(found.is_empty());
        lines.add(&"one").unwrap();
        lines.add(&"two").unwrap();
        lines.file.write_all(b"\"thr").unwrap();
        let (mut lines, found) = Lines::open::<u8, String>(&path, &7).unwrap();
        assert_eq!(found, ["one", "two"]);
        lines.add(&"three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n\"one\"\n\"two\"\n\"three\"\n");
        let error = |conditions: u8| format!("{:#}", Lines::open::<u8, String>(&path, &conditions).err().unwrap());
        assert!(error(8).ends_with("found.jsonl: results under other conditions: found 7, expected 8"));
        std::fs::write(&path, "7\nno result\n\"two\"\n").unwrap();
        assert!(error(7).contains("found.jsonl: line 2: expected ident"), "{}", error(7));
    }
}
