//! `intact verify`: do other engines compute the same? Enters: an ONNX file, float or quantized, and images. Leaves: for each
//! engine the answers that differ, the largest difference and the first op; exit code 1 when too many answers differ.
//! Refused: files that cannot be imported. An engine that is not there or does not load the file is told with its reason.

use super::gap::Format;
use crate::Outcome;
use crate::foreign::{Images, ModelArguments};
use crate::terminal::{columns, print};
use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use exporter::data::Split;
use exporter::verify::{Answers, Difference, Level, Request, check, onnx_runtime, reference, tract};
use runtime::host::Executor;
use serde::Serialize;
use std::path::PathBuf;

/// Run an ONNX file on tract, on the integer runtime and on ONNX Runtime, and compare them
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    /// Images: class folders, a folder of pictures, `shapes10` or CIFAR-10 in its binary form
    #[arg(long, default_value = "shapes10", value_name = "DIR")]
    data: String,

    /// Images to answer; by default all
    #[arg(long, value_name = "COUNT")]
    images: Option<usize>,

    /// Images of which every integer tensor is compared
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    layer_images: usize,

    /// Python that can import onnxruntime and onnx; several times for several versions
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: Vec<PathBuf>,

    /// How far ONNX Runtime may rewrite the graph: native types below 8 bit want `basic`
    #[arg(long, value_enum, default_value_t = Optimization::Default)]
    optimization: Optimization,

    /// Kernels of the integer runtime: `reference`, `portable` or an instruction set of this machine; the fastest if not given
    #[arg(long, value_name = "NAME")]
    kernels: Option<Executor>,

    /// Share of the images, in per cent, that an engine may answer otherwise
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    max_other_answers: f64,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// ONNX Runtime's `graph_optimization_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Optimization {
    /// Everything
    Default,
    /// `ORT_ENABLE_BASIC`
    Basic,
    /// `ORT_DISABLE_ALL`
    Off,
}

#[derive(Serialize)]
struct Report {
    file: String,
    quantized: bool,
    images: usize,
    reference: String,
    /// Per cent of the images that the reference answers rightly, where there are labels.
    accuracy: Option<f64>,
    engines: Vec<Difference>,
    /// Engines that did not run, with their reason.
    missing: Vec<(String, String)>,
    passed: bool,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    if a.model.model.extension().is_none_or(|e| e != "onnx") {
        bail!("{}: expected an ONNX file (.onnx)", a.model.model.display());
    }
    let loaded = a.model.load()?;
    let images = Images::open(&a.data, &loaded.network, Split::Test, a.images)?;
    let request = Request {
        path: &a.model.model,
        bytes: &loaded.bytes,
        network: &loaded.network,
        quantized: loaded.quantized,
        pixels: &images.pixels,
        tapped: a.layer_images.min(images.count),
        kernels: a.kernels.unwrap_or_else(Executor::best),
    };
    let level = match a.optimization {
        Optimization::Default => Level::Default,
        Optimization::Basic => Level::Basic,
        Optimization::Off => Level::Off,
    };
    eprintln!("{} images of {}", images.count, images.name);
    let ours = reference(&request).map_err(|e| anyhow!(e))?;
    let (mut engines, mut missing) = (Vec::new(), Vec::new());
    let mut add = |name: &str, difference: Result<Difference, String>| match difference {
        Ok(difference) => engines.push(difference),
        Err(reason) => missing.push((name.to_owned(), reason)),
    };
    eprintln!("tract ...");
    add("tract", check(&request, &ours, tract));
    for python in &a.python {
        eprintln!("ONNX Runtime of {} ...", python.display());
        add("ONNX Runtime", check(&request, &ours, |request| onnx_runtime(request, python, level)));
    }

    let limit = a.max_other_answers / 100.0 * images.count as f64;
    let report = Report {
        file: a.model.model.display().to_string(),
        quantized: loaded.quantized,
        images: images.count,
        accuracy: images.labels.as_ref().map(|labels| accuracy(&ours, labels)),
        passed: engines.iter().all(|engine| engine.predictions as f64 <= limit),
        reference: ours.engine,
        engines,
        missing,
    };
    print(&match a.format {
        Format::Text => text(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    })?;
    Ok(if report.passed { Outcome::Done } else { Outcome::CheckFailed })
}

/// Per cent of right answers.
fn accuracy(answers: &Answers, labels: &[u16]) -> f64 {
    let classes = answers.outputs.len() / labels.len().max(1);
    let rows = answers.outputs.chunks_exact(classes.max(1)).zip(labels);
    let right = rows.filter(|(row, label)| exporter::execute::largest(row) == usize::from(**label)).count();
    100.0 * right as f64 / labels.len().max(1) as f64
}

fn text(report: &Report) -> String {
    let unit = if report.quantized { "largest LSB" } else { "largest difference" };
    let mut rows = vec![
        ["engine", "other answers", unit, "outputs that differ", "first op that differs"].map(String::from).to_vec(),
    ];
    let share = |part: usize, all: usize| format!("{part} ({:.3} %)", 100.0 * part as f64 / all.max(1) as f64);
    for engine in &report.engines {
        let first = match &engine.first {
            Some(first) => format!(
                "{} ({}), image {}, {} elements by {} LSB",
                first.node,
                first.op,
                first.image,
                share(first.differing, first.elements),
                first.largest
            ),
            None if engine.tapped[0] == engine.tapped[1] && report.quantized => "none".into(),
            None if report.quantized => format!("none of the {} of {} it shows", engine.tapped[0], engine.tapped[1]),
            None => "-".into(),
        };
        let largest = if report.quantized { engine.largest.to_string() } else { format!("{:.2e}", engine.largest) };
        rows.push(vec![
            engine.engine.clone(),
            engine.predictions.to_string(),
            largest,
            share(engine.differing, engine.values),
            first,
        ]);
    }
    let mut text = format!("{}: {} images, compared with {}", report.file, report.images, report.reference);
    if let Some(accuracy) = report.accuracy {
        text.push_str(&format!(" ({accuracy:.2} % right)"));
    }
    text.push('\n');
    text.push_str(&columns(&rows));
    for engine in &report.engines {
        for op in &engine.ops {
            text.push_str(&format!(
                "{}: {} ({}) itself differs in {}, by at most {} LSB\n",
                engine.engine,
                op.node,
                op.op,
                share(op.differing, op.elements),
                op.largest
            ));
        }
        match engine.in_float.as_deref() {
            Some([]) => text.push_str(&format!("{}: everything in integer kernels\n", engine.engine)),
            Some(ops) => text.push_str(&format!("{}: in float: {}\n", engine.engine, ops.join(", "))),
            None => {}
        }
    }
    for (engine, reason) in &report.missing {
        text.push_str(&format!("{engine} did not run: {reason}\n"));
    }
    text
}
