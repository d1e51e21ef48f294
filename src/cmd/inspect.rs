//! `intact inspect`: what is in a file. Enters: a flash image, an ONNX file or a checkpoint. Leaves: its ops, shapes,
//! encodings and bytes, whether weights packed for a target are those of the image (if not the exit code is 1); with `--memory` the arena over
//! time. Refused: files of no known kind, and broken ones with the place.

use crate::Outcome;
use crate::terminal::{columns, print, thousands};
use anyhow::{Context, Result, bail};
use clap::Args;
use exporter::network::Network;
use runtime::image::Image;
use std::path::PathBuf;

/// Print the ops, shapes, encodings and bytes of a flash image, an ONNX file or a checkpoint
#[derive(Args)]
pub(crate) struct Arguments {
    /// .intact, .onnx or .safetensors
    file: PathBuf,

    /// Draw a flash image's arena over time: which bytes are live, op by op
    #[arg(long)]
    memory: bool,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let name = a.file.display().to_string();
    let read = || std::fs::read(&a.file).with_context(|| name.clone());
    let text = match a.file.extension().and_then(|e| e.to_str()) {
        Some("intact") => {
            let bytes = read()?;
            let image = Image::check(&bytes).with_context(|| name.clone())?;
            if a.memory {
                crate::memory::draw(&image)
            } else {
                let text = image.to_string();
                let (packed, outcome) = packed(&bytes, &image)?;
                print(&(text + packed))?;
                return Ok(outcome);
            }
        }
        _ if a.memory => {
            bail!("{name}: --memory draws the arena of a flash image (.intact), which other files do not have")
        }
        Some("onnx") => exporter::onnx::summarize(&read()?, &name)?.to_string(),
        Some("safetensors") => describe(&exporter::checkpoint::load(&a.file)?.0),
        _ => bail!("{name}: expected .intact, .onnx or .safetensors"),
    };
    print(&text)?;
    Ok(Outcome::Done)
}

/// Whether the weights that an image holds packed are those that it holds plainly: this program packs them once more and compares.
fn packed(bytes: &[u8], image: &Image) -> Result<(&'static str, Outcome)> {
    let packings: Vec<_> = image.packed().map(|packed| packed.packing).collect();
    Ok(match packings.is_empty() || runtime::host::pack(bytes, &packings)? == bytes {
        true if packings.is_empty() => ("", Outcome::Done),
        true => ("packed weights are those of the image\n", Outcome::Done),
        false => ("packed weights are NOT those of the image: export it anew\n", Outcome::CheckFailed),
    })
}

/// A checkpoint's network, node by node.
fn describe(network: &Network) -> String {
    let mut rows = vec![["node", "op", "output", "parameters", "encoding of the output"].map(String::from).to_vec()];
    for node in &network.nodes {
        let output = &network.tensors[node.output];
        let encoding = output.encoding.as_ref().map_or_else(
            || "-".to_owned(),
            |e| {
                let sign = if e.signed { "int" } else { "uint" };
                format!("{sign}{} scale {:.6} zero point {}", e.bits, e.scale[0], e.zero_point[0])
            },
        );
        rows.push(vec![
            node.name.clone(),
            node.op.name().to_owned(),
            output.shape.to_string(),
            thousands(node.op.parameters() as u64),
            encoding,
        ]);
    }
    format!(
        "{}: {} parameters, {} MAC an image, input {}, {} classes\n{}",
        network.name,
        thousands(network.parameters()),
        thousands(network.macs()),
        network.tensors[network.input].shape,
        network.tensors[network.output].shape.len(),
        columns(&rows)
    )
}
