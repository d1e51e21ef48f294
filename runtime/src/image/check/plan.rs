//! Whether the arena plan keeps every tensor alive for as long as it is read. Enters: an image whose records are sound one
//! by one. Refuses: a read of bytes that were never written, or that another op has written since.
//!
//! There is no memory to note lifetimes in, so each read looks back, op by op, for the last one that touched its bytes:
//! it must be the one that wrote the tensor. That takes time in the square of the number of ops.

use super::super::{
    Fault, Image, ImageError, Place,
    repr::{OpKind, Span},
};

pub(super) fn check(image: Image) -> Result<(), ImageError> {
    for op in image.ops() {
        for input in op.inputs() {
            alive(image, op.index, input.index, Place::Op(op.index as u32))?;
        }
    }
    alive(image, image.ops().len(), image.output().index, Place::Header)
}

/// Whether the bytes of `tensor` are, before step `step`, what was last written as `tensor`.
fn alive(image: Image, step: usize, tensor: usize, place: Place) -> Result<(), ImageError> {
    let read = image.tensor_at(tensor as u32).repr;
    let read = Span::new(read.offset, read.bytes);
    for op in image.ops().take(step).rev() {
        let output = op.output();
        if output.index == tensor {
            return Ok(());
        }
        // A reshape writes nothing; its input was alive when it came, and its output is the same bytes.
        let written = Span::new(output.repr.offset, output.repr.bytes);
        let reshape = op.repr.kind == OpKind::Reshape;
        if !reshape && (written.overlaps(read) || op.repr.scratch.overlaps(read)) {
            return Err(ImageError::none(place, Fault::Overwritten, op.index as i64));
        }
    }
    if tensor == image.input().index {
        Ok(())
    } else {
        Err(ImageError::none(place, Fault::NeverWritten, tensor as i64))
    }
}
