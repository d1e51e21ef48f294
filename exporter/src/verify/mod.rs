//! Do other engines compute what the runtime computes?
//!
//! *Enters*: an ONNX file, the network read from it, and images. *Leaves*: what each engine answers ([`Answers`]), and
//! how far that is from the reference ([`compare`]): the integer runtime for a quantized file, this crate's float executor for a
//! float one. *Refused*, as text for people: engines that are not there or cannot run the file, with their reason.
//!
//! Compared is what the network ends with: of a file whose Softmax is left out the values before it, of a quantized file the stored
//! integers. On the first images every integer tensor is compared as well, so that the first op that differs has a name;
//! and where outputs differ, the images on which they do are run again to see which ops do so of themselves ([`check`]).

mod files;
mod ops;
mod ours;
mod python;
#[cfg(test)]
mod tests;
mod tract;

use std::collections::HashMap;
use std::path::Path;

use runtime::host::Executor;
use serde::Serialize;

use crate::execute::largest;
use crate::network::{Network, Shape};

pub use ops::{OpDifference, by_op};
pub use ours::reference;
pub use python::{Level, onnx_runtime};
pub use tract::{TRACT, tract};

/// The file and what it is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Where the file lies.
    pub path: &'a Path,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The network read from it.
    pub network: &'a Network,
    /// Whether the network has its integers.
    pub quantized: bool,
    /// `N H W C`.
    pub pixels: &'a [u8],
    /// Images, from the first on, of which every integer tensor is compared.
    pub tapped: usize,
    /// Kernels of the integer runtime.
    pub kernels: Executor,
}

impl Request<'_> {
    fn images(&self) -> usize {
        self.pixels.len() / self.network.tensors[self.network.input].shape.len()
    }

    fn outputs(&self) -> usize {
        self.network.tensors[self.network.output].shape.len()
    }
}

/// What an engine answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Name and version.
    pub engine: String,
    /// `N K`: stored integers of a quantized network, else floats.
    pub outputs: Vec<f32>,
    /// Integer tensors of the images that are tapped, by the name they have in the network: image after image, `C H W`.
    pub taps: HashMap<String, Vec<i32>>,
    /// Operators that compute in float in a quantized network as the engine runs it; `None` where it does not tell.
    pub in_float: Option<Vec<String>>,
}

/// How an engine's answers differ from the reference's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Name and version.
    pub engine: String,
    /// Images compared.
    pub images: usize,
    /// Images whose largest output is another one.
    pub predictions: usize,
    /// Output values compared.
    pub values: usize,
    /// Output values that differ: integers at all, floats by more than a millionth of the largest.
    pub differing: usize,
    /// Largest difference of an output: in steps (LSB) for a quantized network, else as it is.
    pub largest: f64,
    /// The first op, in order of execution, whose output differs on an image that was tapped.
    pub first: Option<First>,
    /// Integer tensors that were compared op by op, of how many there are.
    pub tapped: [usize; 2],
    /// The ops that differ though all they read agrees: on the images whose outputs differ, at most [`TRACED`] of them, or
    /// where none does, on those that were tapped.
    pub ops: Vec<OpDifference>,
    /// Operators that compute in float, where the engine tells.
    pub in_float: Option<Vec<String>>,
}

/// Images with other outputs that are run again to see which ops differ.
pub const TRACED: usize = 500;

/// Where two engines part ways first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct First {
    /// Name of the node.
    pub node: String,
    /// Its ONNX operator.
    pub op: &'static str,
    /// The image, the first on which it differs.
    pub image: usize,
    /// Elements that differ, on all images that were tapped.
    pub differing: usize,
    /// Elements compared.
    pub elements: usize,
    /// Largest difference in steps.
    pub largest: i32,
}

/// Runs an engine and compares it with the reference. The error is text for people.
///
/// # Errors
/// Those of the engine.
pub fn check(
    request: &Request,
    reference: &Answers,
    engine: impl Fn(&Request) -> Result<Answers, String>,
) -> Result<Difference, String> {
    let theirs = engine(request)?;
    let mut difference = compare(request, reference, &theirs);
    let rows =
        |answers: &Answers| answers.outputs.chunks_exact(request.outputs()).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let pairs = rows(reference).into_iter().zip(rows(&theirs)).enumerate();
    let images: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(image, _)| image).take(TRACED).collect();
    if request.quantized && request.tapped > 0 && !images.is_empty() {
        let len = request.pixels.len() / request.images();
        let pixels: Vec<u8> = images.iter().flat_map(|i| &request.pixels[i * len..][..len]).copied().collect();
        let again = Request { pixels: &pixels, tapped: images.len(), ..*request };
        difference.ops = by_op(&again, &ours::reference(&again)?, &engine(&again)?);
    }
    Ok(difference)
}

/// Compares an engine with the reference.
pub fn compare(request: &Request, reference: &Answers, engine: &Answers) -> Difference {
    let outputs = request.outputs();
    let rows = || reference.outputs.chunks_exact(outputs).zip(engine.outputs.chunks_exact(outputs));
    let pairs = || reference.outputs.iter().zip(&engine.outputs);
    let most = reference.outputs.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let tolerance = if request.quantized { 0.0 } else { most * 1e-6 };
    let network = request.network;
    let integer = network.fused();
    let first = integer.iter().find_map(|group| {
        let tensor = &network.tensors[group.output];
        let (ours, theirs) = (reference.taps.get(&tensor.name)?, engine.taps.get(&tensor.name)?);
        let at = ours.iter().zip(theirs).position(|(a, b)| a != b)?;
        let distances = || ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
        let head = &network.nodes[group.head];
        Some(First {
            node: head.name.clone(),
            op: head.op.name(),
            image: at / tensor.shape.len(),
            differing: distances().filter(|d| *d > 0).count(),
            elements: ours.len(),
            largest: distances().max().unwrap_or(0),
        })
    });
    let compared = integer.iter().filter(|group| engine.taps.contains_key(&network.tensors[group.output].name)).count();
    Difference {
        engine: engine.engine.clone(),
        images: rows().count(),
        predictions: rows().filter(|(a, b)| largest(a) != largest(b)).count(),
        values: pairs().count(),
        differing: pairs().filter(|(a, b)| (*a - *b).abs() > tolerance).count(),
        largest: pairs().fold(0.0, |most, (a, b)| most.max(f64::from((a - b).abs()))),
        first,
        tapped: [compared, integer.len()],
        ops: by_op(request, reference, engine),
        in_float: engine.in_float.clone(),
    }
}

/// One image of a tensor in `C H W`, from the dims that an engine gave it: `1 C H W`, `1 H W C`, or flat.
fn channels_first(values: &[i32], dims: &[usize], shape: Shape) -> Vec<i32> {
    let is = |expected: [usize; 3]| dims.len() == 4 && dims[1..] == expected;
    if !is([shape.c, shape.h, shape.w]) && is([shape.h, shape.w, shape.c]) {
        return (0..values.len()).map(|i| values[i % shape.pixels() * shape.c + i / shape.pixels()]).collect();
    }
    values.to_vec()
}
