//! `intact export`: a checkpoint or a float ONNX file becomes true int8, int4 or int2 ONNX and a flash image. Enters: the network and
//! calibration images. Leaves: `NAME.onnx`, `NAME.intact`, and their sizes. Refused: what cannot be quantized, with node
//! names.

use super::data::DataArguments;
use crate::Outcome;
use crate::model::{self, QuantizeArguments};
use crate::terminal::{columns, print, thousands};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use exporter::data::Split;
use exporter::image::{self, Patched, Target};
use exporter::network::Network;
use exporter::onnx::{self, WriteOptions};
use std::path::{Path, PathBuf};

/// Write int8, int4 or int2 ONNX and a flash image from a checkpoint or a float ONNX file
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

    /// How integers below 8 bits are stored; by default as the preset's engine wants them
    #[arg(long, value_enum)]
    encoding: Option<Encoding>,

    /// Operators of the ONNX file
    #[arg(long, value_enum, default_value_t = Form::Qdq)]
    form: Form,

    /// Compute the first ops of the flash image in so many bands of rows, which makes the arena smaller: as many ops as make it
    /// smallest. The same integers come out; what bands overlap in is computed more than once
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(2..=32))]
    patches: Option<u16>,

    #[command(flatten)]
    target: TargetArguments,
}

/// For which machines the flash image is written.
#[derive(Args, Default)]
pub(crate) struct TargetArguments {
    /// Machines for which the flash image holds its weights once more, packed as their kernels take them: cortex-m4 (nothing to pack), pi4,
    /// pi5, x86, or kernels by name (packed, avx2, avx512vnni, amx, neon, dotprod, i8mm). It runs on all others as well
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    target: Vec<Target>,
}

impl TargetArguments {
    /// The flash image of a quantized network.
    pub(crate) fn image(&self, quantized: &Network) -> Result<Vec<u8>> {
        self.pack(image::write(quantized)?)
    }

    /// The flash image with weights packed for the targets.
    fn pack(&self, image: Vec<u8>) -> Result<Vec<u8>> {
        if self.target.is_empty() { Ok(image) } else { Ok(image::pack(&image, &self.target)?) }
    }
}

/// How integers below 8 bits are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// Packed bytes, which engines unpack and run in 8 bit kernels; opset 19
    Portable,
    /// INT4 and UINT4 (opset 21), INT2 and UINT2 (opset 25)
    Native,
}

/// Operators of the ONNX file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// DequantizeLinear, float operator, QuantizeLinear, which engines fuse
    Qdq,
    /// QLinearConv and QLinearMatMul, where the standard has them
    Qoperator,
    /// Those and ONNX Runtime's own operators
    OnnxRuntime,
}

impl Arguments {
    fn options(&self, network: &Network) -> WriteOptions {
        let preset = self.quantize.precision(network).preset.target();
        WriteOptions {
            preset: Some(preset),
            storage: match self.encoding {
                None => preset.storage(),
                Some(Encoding::Portable) => onnx::Storage::Portable,
                Some(Encoding::Native) => onnx::Storage::Native,
            },
            form: match self.form {
                Form::Qdq => onnx::Form::Qdq,
                Form::Qoperator => onnx::Form::QOperator,
                Form::OnnxRuntime => onnx::Form::OnnxRuntime,
            },
            ..Default::default()
        }
    }
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let network = model::load(&a.model)?;
    let training = a.data.open_for(&network, Split::Train)?;
    let quantized = a.quantize.quantize(&network, &training)?.network;
    let (image, patched) = match a.patches {
        None => (image::write(&quantized)?, None),
        Some(count) => {
            image::write_in_patches(&quantized, count.into()).map(|(image, patched)| (image, Some(patched)))?
        }
    };
    let image = a.target.pack(image)?;
    let written = write_files(&quantized, &a.out, &a.options(&network), &image)?;

    let mut rows = vec![vec!["file".to_owned(), "bytes".to_owned()]];
    for (path, bytes) in &written {
        rows.push(vec![path.display().to_string(), thousands(*bytes as u64)]);
    }
    rows.push(vec!["(float parameters)".to_owned(), thousands(network.parameters() * 4)]);
    let image = written[1].0.display();
    let bands = patched.map(|Patched { ops, arena, macs }| {
        format!(
            "the first {ops} ops in {} bands of rows: an arena of {} bytes ({} without), {} multiplications ({} without)\n",
            a.patches.unwrap_or_default(),
            thousands(arena[1].into()),
            thousands(arena[0].into()),
            thousands(macs[1]),
            thousands(macs[0])
        )
    });
    print(&format!(
        "{}{}\nnext: intact run {image} PICTURE.png\n      intact sim {image} --data {}\n      intact gap {} --data {}\n",
        columns(&rows),
        bands.unwrap_or_default(),
        a.data.data,
        a.model.display(),
        a.data.data
    ))?;
    Ok(Outcome::Done)
}

/// Writes `NAME.onnx` and `NAME.intact`, in this order, and returns paths and sizes.
pub(crate) fn write_as(
    quantized: &Network,
    folder: &Path,
    options: &WriteOptions,
    target: &TargetArguments,
) -> Result<Vec<(PathBuf, usize)>> {
    write_files(quantized, folder, options, &target.image(quantized)?)
}

/// [`write_as`] with that flash image.
fn write_files(
    quantized: &Network,
    folder: &Path,
    options: &WriteOptions,
    image: &[u8],
) -> Result<Vec<(PathBuf, usize)>> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let onnx = onnx::write_qdq(quantized, options)?;
    let mut written = Vec::new();
    for (extension, bytes) in [("onnx", onnx.as_slice()), ("intact", image)] {
        let path = folder.join(format!("{}.{extension}", quantized.name));
        exporter::file::write_atomically(&path, bytes)?;
        written.push((path, bytes.len()));
    }
    Ok(written)
}
