//! `intact export`: a checkpoint or a float ONNX file becomes true int8 ONNX and a flash image. Enters: the network and
//! calibration images. Leaves: `NAME.onnx`, `NAME.intact`, and their sizes. Refused: what cannot be quantized, with node
//! names.

use super::data::DataArguments;
use crate::Outcome;
use crate::model::{self, QuantizeArguments};
use crate::terminal::{columns, print, thousands};
use anyhow::{Context, Result};
use clap::Args;
use exporter::data::Split;
use std::path::PathBuf;

/// Write int8 ONNX and a flash image from a checkpoint or a float ONNX file
#[derive(Args)]
pub(crate) struct Arguments {
    /// Checkpoint (.safetensors) or float network (.onnx)
    model: PathBuf,

    /// Folder to write into
    #[arg(long, default_value = "export", value_name = "FOLDER")]
    out: PathBuf,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    quantize: QuantizeArguments,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let network = model::load(&a.model)?;
    let training = a.data.open_for(&network, Split::Train)?;
    let quantized = a.quantize.quantize(&network, &training)?.network;
    let written = write(&quantized, &a.out)?;

    let mut rows = vec![vec!["file".to_owned(), "bytes".to_owned()]];
    for (path, bytes) in &written {
        rows.push(vec![path.display().to_string(), thousands(*bytes as u64)]);
    }
    rows.push(vec!["(float parameters)".to_owned(), thousands(network.parameters() * 4)]);
    let image = written[1].0.display();
    print(&format!(
        "{}\nnext: intact run {image} PICTURE.png\n      intact sim {image} --data {}\n      intact gap {} --data {}\n",
        columns(&rows),
        a.data.data,
        a.model.display(),
        a.data.data
    ))?;
    Ok(Outcome::Done)
}

/// Writes `NAME.onnx` and `NAME.intact`, in this order, and returns paths and sizes.
pub(crate) fn write(quantized: &exporter::network::Network, folder: &std::path::Path) -> Result<Vec<(PathBuf, usize)>> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let onnx = exporter::onnx::write_qdq(quantized, &exporter::onnx::WriteOptions::default())?;
    let image = exporter::image::write(quantized)?;
    let mut written = Vec::new();
    for (extension, bytes) in [("onnx", onnx), ("intact", image)] {
        let path = folder.join(format!("{}.{extension}", quantized.name));
        exporter::file::write_atomically(&path, &bytes)?;
        written.push((path, bytes.len()));
    }
    Ok(written)
}
