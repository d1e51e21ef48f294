//! `intact run`: classifies image files with the integer runtime. Enters: a flash image and PNG or JPEG files of any size.
//! Leaves: the best classes of each file. Refused: unreadable files, with their names.

use crate::Outcome;
use crate::terminal::{columns, print};
use anyhow::{Context, Result, ensure};
use clap::Args;
use runtime::host::Prepared;
use runtime::image::Image;
use std::path::PathBuf;

/// Classify image files with the integer runtime
#[derive(Args)]
pub(crate) struct Arguments {
    /// Flash image (.intact)
    model: PathBuf,

    /// PNG or JPEG files; resized to what the network reads
    #[arg(required = true)]
    pictures: Vec<PathBuf>,

    /// Classes to print for each file
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    top: usize,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let bytes = std::fs::read(&a.model).with_context(|| a.model.display().to_string())?;
    let image = Image::check(&bytes).with_context(|| a.model.display().to_string())?;
    let [height, width, channels] = image.input().shape();
    ensure!(channels == 3, "{}: reads {channels} channels, pictures have 3 (RGB)", a.model.display());
    let mut network = Prepared::new(image);
    let mut text = String::new();
    for path in &a.pictures {
        let pixels = exporter::data::read_image(path, height, width)?;
        let output = network.run_pixels(&pixels)?;
        let mut best = vec![0; a.top];
        let mut rows = vec![];
        for &class in output.top(&mut best) {
            let label = image.label(class).map_or_else(|| format!("class {class}"), str::to_owned);
            rows.push(vec![
                format!("  {label}"),
                format!("logit {:.3}", output.real(class)),
                format!("stored {}", output.integer(class)),
            ]);
        }
        text += &format!("{}\n{}", path.display(), columns(&rows));
    }
    print(&text)?;
    Ok(Outcome::Done)
}
