//! ONNX Runtime, through Python. Enters: the file, images, and an interpreter that can import `onnxruntime`, `onnx` and `numpy`.
//! Leaves: its answers. Refuses: an interpreter without them, a file that it does not load, in its own words.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::files::Names;
use super::{Answers, Request, channels_first};

const SCRIPT: &str = include_str!("onnx_runtime.py");

/// How far ONNX Runtime may rewrite the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// As it does unless told otherwise: everything.
    #[default]
    Default,
    /// `ORT_ENABLE_BASIC`: what keeps to the operators of the standard.
    Basic,
    /// `ORT_DISABLE_ALL`.
    Off,
}

impl Level {
    /// Its name in the script.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Basic => "basic",
            Self::Off => "off",
        }
    }
}

/// What the script prints.
#[derive(Deserialize)]
struct Reply {
    engine: String,
    outputs: usize,
    /// Operators that compute in float, by name.
    in_float: Vec<String>,
    /// Name, dims of one image, for each value that was tapped.
    taps: Vec<(String, Vec<usize>)>,
}

/// What ONNX Runtime computes on one thread. Signed activations are fused as on ARM64 (`session.qdqisint8allowed`). The error
/// is text for people.
///
/// # Errors
/// `python` is no interpreter, has no ONNX Runtime, or that does not run the file.
pub fn onnx_runtime(request: &Request, python: &Path, level: Level) -> Result<Answers, String> {
    let names = Names::of(request)?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).map_err(|e| e.to_string());
    let shape = request.network.tensors[request.network.input].shape;
    let input: Vec<u8> = request
        .pixels
        .chunks_exact(shape.len())
        .flat_map(|pixels| names.feed(request.network, pixels))
        .flat_map(f32::to_le_bytes)
        .collect();
    write("input", &input)?;
    let values: Vec<&str> = names.taps.iter().map(|(_, value)| value.as_str()).collect();
    let dims = if names.channels_last { [shape.h, shape.w, shape.c] } else { [shape.c, shape.h, shape.w] };
    let asked = serde_json::json!({
        "input": names.input, "dims": dims, "output": names.output, "taps": values, "tapped": request.tapped,
        "level": level.name(),
    });
    write("model.onnx", request.bytes)?;
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(folder.path())
        .arg(asked.to_string())
        .output()
        .map_err(|e| format!("{}: {e}", python.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
        return Err(format!("{}: {last}", python.display()));
    }
    let reply: Reply = serde_json::from_slice(&output.stdout).map_err(|e| format!("{}: {e}", python.display()))?;
    let read = |name: &str| -> Result<Vec<f32>, String> {
        let bytes = std::fs::read(at(name)).map_err(|e| format!("{name}: {e}"))?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let outputs = read("output")?;
    if reply.outputs != request.outputs() || outputs.len() != request.images() * request.outputs() {
        return Err(format!("{} outputs an image, expected {}", reply.outputs, request.outputs()));
    }
    let in_float = request.quantized.then_some(reply.in_float);
    let mut answers = Answers { engine: reply.engine, outputs, in_float, ..Answers::default() };
    let mut rest = &read("taps")?[..];
    for (value, dims) in reply.taps {
        let len = dims.iter().product::<usize>();
        let count = len * request.tapped.min(request.images());
        let Some((values, after)) = rest.split_at_checked(count) else {
            return Err(format!("{} values of `{value}`, expected {count}", rest.len()));
        };
        rest = after;
        let known = names.taps.iter().find(|(_, v)| *v == value).map(|(name, _)| name);
        let Some(tensor) = request.network.tensors.iter().find(|tensor| Some(&tensor.name) == known) else { continue };
        let to = answers.taps.entry(tensor.name.clone()).or_default();
        let dims: Vec<usize> = std::iter::once(1).chain(dims).collect();
        for image in values.chunks_exact(len) {
            let integers: Vec<i32> = image.iter().map(|&x| x as i32).collect();
            to.extend(channels_first(&integers, &dims, tensor.shape));
        }
    }
    Ok(answers)
}
