//! The reference. Enters: the network read from the file, and images. Leaves: the integer runtime's answers with every
//! integer tensor, or, for a float network, those of the float executor. Refuses: what the image writer and they refuse.

use rayon::prelude::*;
use runtime::exec::Output;
use runtime::host::Prepared;
use runtime::image::{Image, Op};
use runtime::observe::Observer;

use crate::execute::{Executor, Mode};
use crate::network::{self, Network, Shape};

use super::{Answers, Request};

/// What this project computes. The error is text for people.
///
/// # Errors
/// The network cannot be run.
pub fn reference(request: &Request) -> Result<Answers, String> {
    if !request.quantized {
        let executor = Executor::new(request.network, Mode::Float).map_err(|e| e.to_string())?;
        let outputs = executor.logits(request.pixels).map_err(|e| e.to_string())?;
        return Ok(Answers { engine: "intact, float".into(), outputs, ..Answers::default() });
    }
    let file = crate::image::write(request.network).map_err(|e| e.to_string())?;
    let image = Image::check(&file).map_err(|e| e.to_string())?;
    let bytes = request.network.tensors[request.network.input].shape.len();
    let shapes = layouts(request.network);
    let results: Vec<(Vec<f32>, Taps)> = request
        .pixels
        .par_chunks_exact(bytes)
        .enumerate()
        .map_init(
            || Prepared::with(image, request.kernels),
            |prepared, (i, pixels)| {
                let mut taps = Taps { wanted: i < request.tapped, found: Vec::new() };
                let output = prepared.run_pixels_observed(pixels, &mut taps).map_err(|e| e.to_string())?;
                Ok(((0..output.len()).map(|i| output.integer(i) as f32).collect(), taps))
            },
        )
        .collect::<Result<_, String>>()?;
    let engine = format!("intact runtime ({} kernels)", request.kernels);
    let mut answers = Answers { engine, ..Answers::default() };
    for (outputs, taps) in results {
        answers.outputs.extend(outputs);
        for (name, values) in taps.found {
            let Some(id) = request.network.tensors.iter().position(|tensor| tensor.name == name) else { continue };
            let shape = shapes[id];
            let chw = (0..values.len()).map(|i| values[i % shape.pixels() * shape.c + i / shape.pixels()]);
            answers.taps.entry(name).or_default().extend(chw);
        }
    }
    Ok(answers)
}

/// The image that each tensor is, or was before it was flattened: in its order the runtime keeps it.
fn layouts(network: &Network) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = network.tensors.iter().map(|tensor| tensor.shape).collect();
    for node in &network.nodes {
        if matches!(
            node.op,
            network::Op::Flatten
                | network::Op::Clamp { .. }
                | network::Op::Function(_)
                | network::Op::Add
                | network::Op::Mul
        ) {
            shapes[node.output] = shapes[node.inputs[0]];
        }
    }
    shapes
}

/// Copies of every tensor, as the runtime has them.
struct Taps {
    wanted: bool,
    found: Vec<(String, Vec<i32>)>,
}

impl Taps {
    fn add(&mut self, output: &Output) {
        if self.wanted {
            let values = (0..output.len()).map(|i| output.integer(i)).collect();
            self.found.push((output.tensor().name().into(), values));
        }
    }
}

impl Observer for Taps {
    fn input(&mut self, input: Output<'_, '_>) {
        self.add(&input);
    }

    fn after(&mut self, _: &Op<'_>, output: Output<'_, '_>) {
        self.add(&output);
    }
}
