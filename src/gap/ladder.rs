//! Climbs down the ladder. Enters: a network in both forms and images. Leaves: accuracy of every rung, what changes between
//! neighbours, and the first op to blame. Refused: what the executors refuse.

use super::layers;
use super::report::{Check, Divergence, Report, Rung, Step};
use super::statistics::{argmax, compare};
use crate::model::Bits;
use crate::progress::Progress;
use anyhow::Result;
use exporter::data::Dataset;
use exporter::execute::{Executor, Mode};
use exporter::fold;
use exporter::network::Network;
use rayon::prelude::*;
use runtime::host::Prepared;
use runtime::image::Image;
use runtime::observe::{Checksums, first_difference};

/// Images given to an executor at once, between two signs of progress.
const CHUNK: usize = 250;

/// What is compared.
pub(crate) struct Ladder<'a> {
    /// As trained.
    pub(crate) float: &'a Network,
    /// Folded, with encodings and integers.
    pub(crate) quantized: &'a Network,
    /// The flash image of `quantized`.
    pub(crate) image: &'a [u8],
    /// The images.
    pub(crate) data: &'a Dataset,
    /// For the report's head.
    pub(crate) bits: Bits,
    /// Images for the op-by-op table.
    pub(crate) layer_images: usize,
}

/// What came back from a board, for the first images of the data set.
pub(crate) struct Emulated {
    /// The board's name.
    pub(crate) board: String,
    /// Stored bytes of the logits of each image.
    pub(crate) logits: Vec<Vec<u8>>,
    /// CRC-32 of every op's output, of each image.
    pub(crate) checksums: Vec<Vec<u32>>,
}

/// Largest values that pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Points of accuracy that the integer model may lose against float.
    pub(crate) accuracy_drop: f64,
}

/// Logits of one executor, as real numbers.
struct Logits {
    name: &'static str,
    values: Vec<f32>,
}

/// What the integer runtime on this machine said.
struct Host {
    logits: Vec<f32>,
    bytes: Vec<Vec<u8>>,
    checksums: Vec<Vec<u32>>,
}

impl Ladder<'_> {
    /// Runs every rung and compares neighbours.
    pub(crate) fn climb(&self, emulated: Option<&Emulated>, limits: Limits) -> Result<Report> {
        let folded = fold::fold(self.float)?;
        let classes = self.float.tensors[self.float.output].shape.len();
        let output = &self.quantized.tensors[self.quantized.output];
        // The exporter has given every integer tensor an encoding, or it would not have written an image.
        let step = output.encoding.as_ref().map_or(1.0, |e| e.scale[0]);

        let host = self.host()?;
        let mut rungs = vec![
            self.floats("float", self.float, Mode::Float)?,
            self.floats("folded", &folded, Mode::Float)?,
            self.floats("simulated", self.quantized, Mode::Simulated)?,
            Logits { name: "integer host", values: host.logits.clone() },
        ];
        let walk = layers::walk(self.float, &folded, self.quantized, self.image, self.data, self.layer_images)?;
        let mut firsts = vec![walk.folded, walk.simulated, walk.integer];
        let mut thresholds = vec![layers::FLOAT_THRESHOLD, layers::SIMULATION_THRESHOLD, layers::INTEGER_THRESHOLD];
        let mut differing_bits = None;
        if let Some(board) = emulated {
            let count = board.logits.len();
            differing_bits = Some(bits_that_differ(&host.bytes[..count], &board.logits));
            firsts.push(self.first_checksum(&host.checksums[..count], &board.checksums)?);
            thresholds.push(0.0);
            rungs.push(Logits { name: "integer emulator", values: self.dequantize(&board.logits) });
        }

        let labels = self.data.labels();
        let steps: Vec<Step> = rungs
            .windows(2)
            .zip(firsts)
            .zip(thresholds)
            .map(|((pair, first_op), threshold_lsb)| Step {
                from: pair[0].name.into(),
                to: pair[1].name.into(),
                comparison: compare(&pair[0].values, &pair[1].values, labels, classes, step),
                first_op,
                threshold_lsb,
            })
            .collect();
        let rungs: Vec<Rung> = rungs.iter().map(|r| rung(r, labels, classes)).collect();

        let drop = rungs[0].accuracy - rungs[3].accuracy;
        let mut checks =
            vec![Check::at_most("accuracy lost from float to integer host, points", limits.accuracy_drop, drop)];
        if let Some(bits) = differing_bits {
            checks.push(Check::at_most("bits that differ between host and emulator", 0.0, bits as f64));
        }
        Ok(Report {
            network: self.quantized.name.clone(),
            precision: self.bits.to_string(),
            data: self.data.name().to_owned(),
            board: emulated.map(|e| e.board.clone()),
            rungs,
            steps,
            layers: walk.layers,
            layer_images: self.layer_images.min(self.data.len()),
            checks,
        })
    }

    /// Logits of a float executor on all images.
    fn floats(&self, name: &'static str, network: &Network, mode: Mode) -> Result<Logits> {
        let executor = Executor::new(network, mode)?;
        let progress = Progress::new(format!("gap: {name}"), self.data.len() as u64, "images");
        let bytes = self.data.height() * self.data.width() * 3;
        let mut values = Vec::new();
        for chunk in self.data.images().chunks(CHUNK * bytes) {
            values.extend(executor.logits(chunk)?);
            progress.add((chunk.len() / bytes) as u64);
        }
        Ok(Logits { name, values })
    }

    /// Logits and checksums of the integer runtime on all images.
    fn host(&self) -> Result<Host> {
        let image = Image::check(self.image)?;
        let progress = Progress::new("gap: integer host", self.data.len() as u64, "images");
        let results: Vec<(Vec<u8>, Vec<u32>)> = (0..self.data.len())
            .into_par_iter()
            .map_init(
                || (Prepared::new(image), vec![0; image.ops().len()]),
                |(network, checksums), i| -> Result<_> {
                    let output = network.run_pixels_observed(self.data.image(i), &mut Checksums::new(checksums))?;
                    let bytes = output.bytes().to_vec();
                    progress.add(1);
                    Ok((bytes, checksums.clone()))
                },
            )
            .collect::<Result<_>>()?;
        let (bytes, checksums): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        Ok(Host { logits: self.dequantize(&bytes), bytes, checksums })
    }

    /// Stored logits as real numbers.
    fn dequantize(&self, stored: &[Vec<u8>]) -> Vec<f32> {
        let encoding = self.quantized.tensors[self.quantized.output].encoding.as_ref();
        let value = |byte: u8| {
            encoding.map_or(0.0, |e| {
                let q = if e.signed { i32::from(byte as i8) } else { i32::from(byte) };
                e.dequantize(0, q)
            })
        };
        stored.iter().flatten().map(|&byte| value(byte)).collect()
    }

    /// The first op, in order of execution, whose output differs on any image.
    fn first_checksum(&self, host: &[Vec<u32>], board: &[Vec<u32>]) -> Result<Option<Divergence>> {
        let image = Image::check(self.image)?;
        let first = host
            .iter()
            .zip(board)
            .enumerate()
            .filter_map(|(index, (a, b))| first_difference(a, b).map(|op| (op, index)))
            .min();
        // A board that reports more ops than there are is named by the count.
        let name = |op| image.ops().nth(op).map_or_else(|| format!("op {op}"), |op| op.name().to_owned());
        Ok(first.map(|(op, index)| Divergence { op: name(op), image: index, largest_lsb: None }))
    }
}

fn rung(logits: &Logits, labels: &[u16], classes: usize) -> Rung {
    let answers = logits.values.chunks_exact(classes);
    let images = answers.len();
    let correct = answers.zip(labels).filter(|(row, label)| argmax(row) == usize::from(**label)).count();
    Rung { name: logits.name.into(), images, correct, accuracy: 100.0 * correct as f64 / images.max(1) as f64 }
}

fn bits_that_differ(a: &[Vec<u8>], b: &[Vec<u8>]) -> u64 {
    let bits = |x: &Vec<u8>, y: &Vec<u8>| -> u64 {
        // A length that differs counts every bit of what is missing.
        let missing = x.len().abs_diff(y.len()) as u64 * 8;
        missing + x.iter().zip(y).map(|(p, q)| u64::from((p ^ q).count_ones())).sum::<u64>()
    };
    a.iter().zip(b).map(|(x, y)| bits(x, y)).sum()
}
