//! `intact sensitivity`: which layer suffers from quantization. Enters: a float network and images. Leaves: a table with each
//! layer quantized alone, worst first, and all together. Refused: what cannot be imported or quantized, with node names.

use super::gap::Format;
use super::quantize::RecipeArguments;
use crate::Outcome;
use crate::foreign::{ModelArguments, shorten_names};
use crate::progress::Progress;
use crate::terminal::{columns, print, thousands};
use anyhow::{Result, ensure};
use clap::Args;
use exporter::sensitivity::{Effect, Reference, Sensitivity, alone};
use serde::Serialize;

/// Quantize one layer at a time and rank them by what that does to the outputs
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    recipe: RecipeArguments,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    network: String,
    precision: String,
    images: usize,
    float: Effect,
    together: Effect,
    /// Worst first.
    parts: Vec<Sensitivity>,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let mut loaded = a.model.load()?;
    ensure!(!loaded.quantized, "{} is quantized already; give the float network", a.model.model.display());
    shorten_names(&mut loaded.network);
    let images = a.recipe.open(&loaded.network)?;
    let prepared = a.recipe.prepare(&loaded.network, &images)?;
    let reference = Reference::new(&prepared.network, &images.pixels, images.labels.as_deref())?;
    let quantized = a.recipe.quantize(prepared, &images, |_| a.recipe.bits.weights)?.network;
    let mut parts = {
        let progress = Progress::new("sensitivity", 1 + quantized.fused().len() as u64, "parts");
        alone(&quantized, &reference, || progress.add(1))?
    };
    parts.sort_by(|x, y| y.effect.qmse.total_cmp(&x.effect.qmse));
    let report = Report {
        network: loaded.network.name,
        precision: a.recipe.bits.to_string(),
        images: images.count,
        float: reference.float(),
        together: reference.effect(&quantized)?,
        parts,
    };
    print(&match a.format {
        Format::Text => text(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    })?;
    Ok(Outcome::Done)
}

fn text(report: &Report) -> String {
    let head = ["quantized alone", "op", "weights", "bits", "QMSE", "QCE", "other answers", "right"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let percent = |count: usize| format!("{:.2} %", 100.0 * count as f64 / report.images as f64);
    let effect = |e: &Effect| {
        [format!("{:.3e}", e.qmse), format!("{:.4}", e.qce), e.flips.to_string(), e.correct.map_or("-".into(), percent)]
    };
    for part in &report.parts {
        let bits = match (part.weight_bits, part.activation_bits) {
            (Some(w), Some(a)) => format!("W{w}A{a}"),
            (None, Some(a)) => format!("A{a}"),
            (Some(w), None) => format!("W{w}"),
            (None, None) => String::new(),
        };
        let weights = if part.weights > 0 { thousands(part.weights as u64) } else { "-".into() };
        let mut row = vec![part.place.clone(), part.op.into(), weights, bits];
        row.extend(effect(&part.effect));
        rows.push(row);
    }
    for (name, bits, e) in
        [("all together", &report.precision, &report.together), ("float", &String::new(), &report.float)]
    {
        let mut row = vec![name.to_owned(), String::new(), String::new(), bits.clone()];
        row.extend(effect(e));
        rows.push(row);
    }
    format!("{} {}, {} images\n{}", report.network, report.precision, report.images, columns(&rows))
}
