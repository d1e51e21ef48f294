//! A hypernetwork in a SafeTensors file. Enters: parameters, where they come from, and, while training goes on, the
//! optimizer's memory. Leaves: the file, written beside its place and renamed; and from it the same again, to the last bit.
//! Refused, with place, found and expected: files that are damaged or foreign, tensors of another shape, values that are
//! not finite.
//!
//! Tensors are `F32`, named as in the reference implementation, with a prefix for the optimizer's (`adam.mean.`,
//! `adam.square.`) and the moving averages (`average.`). The metadata has one entry, `intact.hypernetwork`: JSON with `format`, `config` and `state`.

use super::parameters::{Config, Parameters};
use exporter::file::{WriteError, write_atomically};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const KEY: &str = "intact.hypernetwork";
const MEMORY: [&str; 3] = ["adam.mean.", "adam.square.", "average."];

/// What lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The hypernetwork.
    pub parameters: Parameters,
    /// Means of gradients and of their squares, and moving averages of the parameters, if training is to go on.
    pub memory: Option<[Parameters; 3]>,
    /// Where it comes from: recipe, data, steps, curve.
    pub state: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    config: Config,
    state: serde_json::Value,
}

/// Why there is no hypernetwork.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The bytes are no hypernetwork.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Place, found and expected.
        reason: String,
    },
}

/// Writes a file.
///
/// # Errors
/// [`FileError::Write`].
pub fn save(path: &Path, saved: &Saved) -> Result<(), FileError> {
    let header = Header { format: FORMAT, config: saved.parameters.config(), state: saved.state.clone() };
    let format = |reason: String| FileError::Format { path: path.into(), reason };
    let header = serde_json::to_string(&header).map_err(|e| format(e.to_string()))?;
    let mut parts = vec![("", &saved.parameters)];
    if let Some(memory) = &saved.memory {
        parts.extend(MEMORY.into_iter().zip(memory));
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = parts
        .into_iter()
        .flat_map(|(prefix, part)| {
            part.entries().iter().map(move |entry| {
                let values = &part.values()[entry.range.clone()];
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (format!("{prefix}{}", entry.name), entry.shape.clone(), bytes)
            })
        })
        .collect();
    let mut views = Vec::new();
    for (name, shape, bytes) in &bytes {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| format(e.to_string()))?;
        views.push((name, view));
    }
    let metadata = HashMap::from([(KEY.to_owned(), header)]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(|e| format(e.to_string()))?;
    Ok(write_atomically(path, &file)?)
}

/// Reads a file.
///
/// # Errors
/// [`FileError`].
pub fn load(path: &Path) -> Result<Saved, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.into(), source })?;
    from_bytes(&bytes, path)
}

/// What a file holds whose bytes are at hand; `path` names them in errors.
///
/// # Errors
/// [`FileError::Format`].
pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Saved, FileError> {
    read(bytes).map_err(|reason| FileError::Format { path: path.into(), reason })
}

fn read(bytes: &[u8]) -> Result<Saved, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| format!("not a SafeTensors file: {e}"))?;
    let text = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    let text = text.ok_or_else(|| format!("metadata: found no `{KEY}`, expected a hypernetwork"))?;
    let header: Header = serde_json::from_str(text).map_err(|e| format!("metadata `{KEY}`: {e}"))?;
    if header.format != FORMAT {
        return Err(format!("format: found {}, expected {FORMAT}", header.format));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a SafeTensors file: {e}"))?;
    let form = Parameters::zeros(header.config)?;
    let mut used = 0;
    let mut part = |prefix: &str| -> Result<Parameters, String> {
        let mut part = form.clone();
        for entry in form.entries() {
            let name = format!("{prefix}{}", entry.name);
            let tensor =
                file.tensor(&name).map_err(|_| format!("tensor `{name}`: found none, expected {:?}", entry.shape))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != entry.shape {
                let (found, expected) = ((tensor.dtype(), tensor.shape()), &entry.shape);
                return Err(format!("tensor `{name}`: found {found:?}, expected F32 {expected:?}"));
            }
            let slots = &mut part.values_mut()[entry.range.clone()];
            for (slot, bytes) in slots.iter_mut().zip(tensor.data().as_chunks::<4>().0) {
                *slot = f32::from_le_bytes(*bytes);
                if !slot.is_finite() {
                    return Err(format!("tensor `{name}`: found {slot}, expected finite values"));
                }
            }
            used += 1;
        }
        Ok(part)
    };
    let parameters = part("")?;
    let has_memory = file.names().iter().any(|name| name.starts_with(MEMORY[0]));
    let memory = if has_memory { Some([part(MEMORY[0])?, part(MEMORY[1])?, part(MEMORY[2])?]) } else { None };
    if used != file.len() {
        return Err(format!("found {} tensors, expected {used}", file.len()));
    }
    Ok(Saved { parameters, memory, state: header.state })
}
