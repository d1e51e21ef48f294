//! Which ops part ways? Enters: what two engines computed, tensor by tensor, on the images that were tapped. Leaves: for each
//! op the results that differ though everything it read agrees: differences that it has made itself. Refuses nothing.

use serde::Serialize;

use super::{Answers, Request};

/// What one op makes otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpDifference {
    /// Name of the node.
    pub node: String,
    /// Its ONNX operator.
    pub op: &'static str,
    /// Elements that differ, on images on which all that the op reads agrees.
    pub differing: usize,
    /// Elements compared.
    pub elements: usize,
    /// Largest difference in steps.
    pub largest: i32,
}

/// The ops that differ, in order of execution; those whose tensors an engine does not show are passed over.
pub fn by_op(request: &Request, reference: &Answers, engine: &Answers) -> Vec<OpDifference> {
    let network = request.network;
    let both = |id: usize| {
        let tensor = &network.tensors[id];
        let size = tensor.shape.len();
        let (ours, theirs) = (reference.taps.get(&tensor.name)?, engine.taps.get(&tensor.name)?);
        Some(ours.chunks_exact(size).zip(theirs.chunks_exact(size)).collect::<Vec<_>>())
    };
    let mut found = Vec::new();
    for group in network.fused() {
        let head = &network.nodes[group.head];
        let inputs: Option<Vec<_>> = head.inputs.iter().map(|&id| both(id)).collect();
        let (Some(inputs), Some(outputs)) = (inputs, both(group.output)) else { continue };
        let agrees = |image: usize| inputs.iter().all(|input| input.get(image).is_some_and(|(a, b)| a == b));
        let (mut elements, mut differing, mut largest) = (0, 0, 0);
        for (_, (ours, theirs)) in outputs.iter().enumerate().filter(|(image, _)| agrees(*image)) {
            elements += ours.len();
            for distance in ours.iter().zip(*theirs).map(|(a, b)| (a - b).abs()).filter(|d| *d > 0) {
                differing += 1;
                largest = largest.max(distance);
            }
        }
        if differing > 0 {
            found.push(OpDifference { node: head.name.clone(), op: head.op.name(), differing, elements, largest });
        }
    }
    found
}
