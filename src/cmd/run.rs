//! `intact run`: classifies pictures with the integer runtime. Enters: a flash image; PNG or JPEG files of any size, folders of them,
//! or raw frames on stdin. Leaves: the best classes of each file; of a folder the best class of each picture and a summary; a line for
//! each frame as it comes. Refused: unreadable files, with their names (in a folder the others are still run, and the exit code is
//! 1), a stream that ends within a frame, folders without pictures.

use crate::Outcome;
use crate::terminal::{columns, print};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use runtime::exec::Output;
use runtime::host::{Bytes, Prepared, make_room};
use runtime::image::Image;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Classify image files, folders of them, or frames from stdin with the integer runtime
#[derive(Args)]
pub(crate) struct Arguments {
    /// Flash image (.intact)
    model: PathBuf,

    /// PNG or JPEG files, resized to what the network reads, or folders of them
    #[arg(required_unless_present = "frames", conflicts_with = "frames")]
    pictures: Vec<PathBuf>,

    /// Read raw frames from stdin: height x width x channels bytes each, as the network reads them
    #[arg(long)]
    frames: bool,

    /// Classes to print for each file
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    top: usize,

    /// Also say which kernels run, and where they take the weights from
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let mut bytes = Bytes::read(&a.model).with_context(|| a.model.display().to_string())?;
    make_room(&mut bytes).with_context(|| a.model.display().to_string())?;
    let image = Image::check(&bytes).with_context(|| a.model.display().to_string())?;
    let mut network = Prepared::new(image);
    if a.verbose {
        eprintln!("{}: {} kernels, {}", image.name(), network.executor(), network.origin());
    }
    if a.frames {
        return frames(&image, &mut network, std::io::stdin().lock());
    }
    let [_, _, channels] = image.input().shape();
    ensure!(channels == 3, "{}: reads {channels} channels, pictures have 3 (RGB)", a.model.display());
    let mut outcome = Outcome::Done;
    for path in &a.pictures {
        if path.is_dir() {
            if let Outcome::CheckFailed = folder(&image, &mut network, path)? {
                outcome = Outcome::CheckFailed;
            }
        } else {
            file(&image, &mut network, path, a.top)?;
        }
    }
    Ok(outcome)
}

fn label(image: &Image<'_>, class: usize) -> String {
    image.label(class).map_or_else(|| format!("class {class}"), str::to_owned)
}

/// What is said of one class.
fn row(image: &Image<'_>, output: &Output<'_, '_>, class: usize) -> [String; 3] {
    [label(image, class), format!("logit {:.3}", output.real(class)), format!("stored {}", output.integer(class))]
}

fn file(image: &Image<'_>, network: &mut Prepared<'_>, path: &Path, top: usize) -> Result<()> {
    let [height, width, _] = image.input().shape();
    let pixels = exporter::data::read_image(path, height, width)?;
    let output = network.run_pixels(&pixels)?;
    let mut best = vec![0; top];
    let rows: Vec<_> = output.top(&mut best).iter().map(|&class| row(image, &output, class).to_vec()).collect();
    let indented: String = columns(&rows).lines().map(|line| format!("  {line}\n")).collect();
    print(&format!("{}\n{indented}", path.display()))
}

/// Every picture in a folder and the folders below it, in the order of their names.
fn folder(image: &Image<'_>, network: &mut Prepared<'_>, path: &Path) -> Result<Outcome> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    ensure!(!files.is_empty(), "{}: no .png, .jpg or .jpeg in it or below it", path.display());
    let [height, width, _] = image.input().shape();
    let (mut classes, mut unreadable) = (BTreeMap::<usize, usize>::new(), 0);
    let (mut named, mut correct) = (0, 0);
    for file in &files {
        let pixels = match exporter::data::read_image(file, height, width) {
            Ok(pixels) => pixels,
            Err(error) => {
                eprintln!("error: {error}");
                unreadable += 1;
                continue;
            }
        };
        let output = network.run_pixels(&pixels)?;
        let class = output.argmax();
        print(&format!("{}  {}\n", file.display(), row(image, &output, class).join("  ")))?;
        *classes.entry(class).or_default() += 1;
        // A folder that is called like a class holds pictures of it.
        let parent = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let is_class = |name: &&str| (0..image.output().len()).any(|class| image.label(class) == Some(name));
        if let Some(parent) = parent.filter(is_class) {
            named += 1;
            correct += usize::from(image.label(class) == Some(parent));
        }
    }
    let run = files.len() - unreadable;
    let mut text = format!("\n{}: {run} pictures, {unreadable} unreadable\n", path.display());
    if named > 0 {
        let share = 100.0 * correct as f64 / named as f64;
        text += &format!("top-1 {share:.2} %: {correct} of {named} in folders named like a class\n");
    }
    let rows: Vec<_> =
        classes.iter().map(|(&class, n)| vec![format!("  {}", label(image, class)), n.to_string()]).collect();
    print(&(text + &columns(&rows)))?;
    Ok(if unreadable == 0 { Outcome::Done } else { Outcome::CheckFailed })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let name = || folder.display().to_string();
    let entries = std::fs::read_dir(folder).with_context(name)?;
    let mut paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().with_context(name)?;
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        if path.is_dir() {
            collect(&path, files)?;
        } else if matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg")) {
            files.push(path);
        }
    }
    Ok(())
}

/// A line for each frame, at once.
fn frames(image: &Image<'_>, network: &mut Prepared<'_>, mut from: impl Read) -> Result<Outcome> {
    let [height, width, channels] = image.input().shape();
    let mut frame = vec![0; height * width * channels];
    for index in 0u64.. {
        let mut filled = 0;
        while filled < frame.len() {
            match from.read(&mut frame[filled..]) {
                Ok(0) if filled == 0 => return Ok(Outcome::Done),
                Ok(0) => bail!(
                    "stdin: frame {index} ends after {filled} bytes, expected {} ({height} x {width} x {channels})",
                    frame.len()
                ),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("stdin"),
            }
        }
        let output = network.run_pixels(&frame)?;
        print(&format!("frame {index}  {}\n", row(image, &output, output.argmax()).join("  ")))?;
    }
    Ok(Outcome::Done)
}
