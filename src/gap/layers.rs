//! Op by op, on a few images. Enters: the float, folded and quantized network and its flash image. Leaves: for every integer
//! tensor how far the folded, simulated and integer values are apart, and the first op that goes too far at each step of
//! the ladder. Refused: what the executors refuse.

use super::report::{Divergence, Layer};
use anyhow::{Context, Result};
use exporter::data::Dataset;
use exporter::execute::{Executor, Mode};
use exporter::network::{Network, TensorId};
use runtime::exec::Output;
use runtime::host::Prepared;
use runtime::image::{Image, Op};
use runtime::observe::Observer;
use std::collections::HashMap;

/// Folding may move a value by this much of its op's step before the op is named: beyond it, rounding would notice.
pub(super) const FLOAT_THRESHOLD: f64 = 0.5;
/// Simulation rounds every value by up to half a step; an op is named when errors have added up to more than a step.
pub(super) const SIMULATION_THRESHOLD: f64 = 1.0;
/// Integers either equal the simulated value or not.
pub(super) const INTEGER_THRESHOLD: f64 = 0.0;

/// What [`walk`] finds.
pub(super) struct Walk {
    pub(super) layers: Vec<Layer>,
    pub(super) folded: Option<Divergence>,
    pub(super) simulated: Option<Divergence>,
    pub(super) integer: Option<Divergence>,
}

/// Running sums over the elements of one op's output.
#[derive(Clone, Default)]
struct Gathered {
    elements: usize,
    squares: f64,
    integer_differs: usize,
    largest: [f64; 3],
    first_image: [Option<usize>; 3],
}

/// Runs the first `count` images of `data` through all four executors.
pub(super) fn walk(
    float: &Network,
    folded: &Network,
    quantized: &Network,
    image: &[u8],
    data: &Dataset,
    count: usize,
) -> Result<Walk> {
    let image = Image::check(image)?;
    let ops = tensors_of_ops(&image, quantized)?;
    let of = |network: &Network| -> HashMap<String, TensorId> {
        network.tensors.iter().enumerate().map(|(id, tensor)| (tensor.name.clone(), id)).collect()
    };
    let (float_ids, folded_ids) = (of(float), of(folded));
    let executors = (
        Executor::new(float, Mode::Float)?,
        Executor::new(folded, Mode::Float)?,
        Executor::new(quantized, Mode::Simulated)?,
    );
    let mut spaces = (executors.0.workspace(), executors.1.workspace(), executors.2.workspace());
    let mut prepared = Prepared::new(image);
    let mut gathered = vec![Gathered::default(); ops.len()];
    for index in 0..count.min(data.len()) {
        let pixels = data.image(index);
        executors.0.run(pixels, &mut spaces.0)?;
        executors.1.run(pixels, &mut spaces.1)?;
        executors.2.run(pixels, &mut spaces.2)?;
        let mut taps = Taps(Vec::with_capacity(ops.len()));
        prepared.run_pixels_observed(pixels, &mut taps)?;
        for ((&id, integers), sums) in ops.iter().zip(&taps.0).zip(&mut gathered) {
            let tensor = &quantized.tensors[id];
            let encoding =
                tensor.encoding.as_ref().with_context(|| format!("tensor `{}` has no encoding", tensor.name))?;
            let name = &tensor.name;
            let a = float_ids.get(name).map(|&id| spaces.0.tensor(id));
            let b = folded_ids.get(name).map(|&id| spaces.1.tensor(id));
            let c = spaces.2.tensor(id);
            sums.add(index, encoding.scale[0], a, b, c, |i| {
                // The runtime keeps H W C, the networks C H W.
                let (channel, pixel) = (i / tensor.shape.pixels(), i % tensor.shape.pixels());
                encoding.dequantize(0, integers[pixel * tensor.shape.c + channel])
            });
        }
    }
    let names: Vec<(String, &'static str)> =
        image.ops().map(|op| (op.name().to_owned(), op.repr.kind.name())).collect();
    let first = |which: usize| {
        gathered.iter().zip(&names).find_map(|(sums, (op, _))| {
            sums.first_image[which].map(|image| Divergence {
                op: op.clone(),
                image,
                largest_lsb: Some(sums.largest[which]),
            })
        })
    };
    let (folded, simulated, integer) = (first(0), first(1), first(2));
    let layers = gathered
        .iter()
        .zip(&names)
        .map(|(sums, (op, kind))| Layer {
            op: op.clone(),
            kind: (*kind).to_owned(),
            simulation_rms_lsb: (sums.squares / sums.elements.max(1) as f64).sqrt(),
            integer_differs_percent: 100.0 * sums.integer_differs as f64 / sums.elements.max(1) as f64,
            integer_largest_lsb: sums.largest[2],
        })
        .collect();
    Ok(Walk { layers, folded, simulated, integer })
}

impl Gathered {
    fn add(
        &mut self,
        image: usize,
        step: f32,
        float: Option<&[f32]>,
        folded: Option<&[f32]>,
        simulated: &[f32],
        integer: impl Fn(usize) -> f32,
    ) {
        for (i, &simulated) in simulated.iter().enumerate() {
            let lsb = |a: f32, b: f32| (f64::from(a) - f64::from(b)).abs() / f64::from(step);
            let folded = folded.map(|v| v[i]);
            let differences = [
                float.zip(folded).map_or(0.0, |(a, b)| lsb(a[i], b)),
                folded.map_or(0.0, |b| lsb(b, simulated)),
                // Both are multiples of the step: what is left after rounding is the count of steps.
                lsb(simulated, integer(i)).round(),
            ];
            let thresholds = [FLOAT_THRESHOLD, SIMULATION_THRESHOLD, INTEGER_THRESHOLD];
            for (which, (difference, threshold)) in differences.into_iter().zip(thresholds).enumerate() {
                self.largest[which] = self.largest[which].max(difference);
                if difference > threshold {
                    self.first_image[which].get_or_insert(image);
                }
            }
            self.elements += 1;
            self.squares += differences[1] * differences[1];
            self.integer_differs += usize::from(differences[2] > 0.0);
        }
    }
}

/// The network's tensor that each op of the image writes.
fn tensors_of_ops(image: &Image<'_>, network: &Network) -> Result<Vec<TensorId>> {
    image
        .ops()
        .map(|op| {
            let name = op.output().name();
            network
                .tensors
                .iter()
                .position(|tensor| tensor.name == name)
                .with_context(|| format!("the image's tensor `{name}` is not in network `{}`", network.name))
        })
        .collect()
}

/// Keeps every op's output as integers, `H W C`.
struct Taps(Vec<Vec<i32>>);

impl Observer for Taps {
    fn after(&mut self, _: &Op<'_>, output: Output<'_, '_>) {
        self.0.push((0..output.len()).map(|i| output.integer(i)).collect());
    }
}
