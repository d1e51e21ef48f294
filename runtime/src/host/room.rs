//! An arena for machines with memory to spare. Enters: an image. Leaves: the same image with a larger arena, in which no op that
//! has a window writes over what it reads. Refused: what the image check refuses.
//!
//! Planned for the least memory, an op may write its output over its input, row by row, from below. A host makes whole outputs,
//! in parts, and would have to copy the input first, from one core's cache into another's.

use crate::{
    Image, ImageError,
    image::{
        Op,
        repr::{HeaderRepr, OpKind, Span, TensorRepr},
        seal,
    },
};

/// Where tensors that are moved begin: at a multiple of a cache line.
const ALIGN: u32 = 64;

/// Tensors with the same bytes, and the ops from the one that writes them to the last one that reads them.
struct Moved {
    tensors: Vec<usize>,
    bytes: u32,
    ops: [usize; 2],
    offset: u32,
}

/// Moves outputs that lie over their op's input out of its way, behind the arena. Arithmetic, and what every op writes, stay as
/// they are.
///
/// # Errors
/// That of the image check; `file` is unchanged then.
pub fn make_room(file: &mut [u8]) -> Result<(), ImageError> {
    let image = Image::check(file)?;
    let (mut header, first) = (*image.header(), image.header().tensors.offset as usize);
    let mut all: Vec<Moved> = Vec::new();
    for mut moved in image.ops().filter_map(|op| over(&image, op.index)) {
        // The first place that no other has at the time.
        let mut taken: Vec<Span> = all
            .iter()
            .filter(|other| other.ops[0] <= moved.ops[1] && moved.ops[0] <= other.ops[1])
            .map(|other| Span::new(other.offset, other.bytes))
            .collect();
        taken.sort_by_key(|span| span.offset);
        let mut start = u64::from(header.arena_bytes).next_multiple_of(ALIGN.into());
        for span in taken {
            if start + u64::from(moved.bytes) > span.offset.into() {
                start = start.max(span.end().next_multiple_of(ALIGN.into()));
            }
        }
        // What finds no room stays where it is.
        let Ok(end) = u32::try_from(start + u64::from(moved.bytes)) else { continue };
        moved.offset = end - moved.bytes;
        all.push(moved);
    }
    let ends = all.iter().map(|moved| moved.offset + moved.bytes);
    header.arena_bytes = ends.chain([header.arena_bytes]).max().expect("the arena of the image is one of them");
    let records: Vec<(usize, TensorRepr)> = all
        .iter()
        .flat_map(|moved| moved.tensors.iter().map(|&tensor| (tensor, moved.offset)))
        .map(|(tensor, offset)| {
            (tensor, TensorRepr { offset, ..image.tensors().nth(tensor).expect("its op has it").repr })
        })
        .collect();
    for (tensor, repr) in records {
        file[first + tensor * TensorRepr::BYTES..][..TensorRepr::BYTES].copy_from_slice(&repr.emit());
    }
    file[..HeaderRepr::BYTES].copy_from_slice(&header.emit());
    seal(file).expect("an image has a header");
    Ok(())
}

/// What moves if the output of an op lies over its input, and can: all that reads it must write elsewhere, or in the same place.
fn over(image: &Image, index: usize) -> Option<Moved> {
    let op = image.ops().nth(index)?;
    if !has_window(&op) {
        return None;
    }
    let place = |tensor: TensorRepr| Span::new(tensor.offset, tensor.bytes);
    let (read, written) = (place(op.input(0).repr), place(op.output().repr));
    if read == written || !read.overlaps(written) {
        return None;
    }
    let mut moved =
        Moved { tensors: vec![op.output().index], bytes: written.len, ops: [index, index], offset: written.offset };
    for op in image.ops().skip(index + 1) {
        if op.inputs().any(|input| moved.tensors.contains(&input.index)) {
            moved.ops[1] = op.index;
            let output = place(op.output().repr);
            if output == written {
                moved.tensors.push(op.output().index);
            } else if output.overlaps(written) && !has_window(&op) {
                // A reshape or a concatenation, whose input is a part of its output or the other way round.
                return None;
            }
        }
    }
    if moved.tensors.contains(&image.output().index) {
        moved.ops[1] = image.ops().len();
    }
    Some(moved)
}

/// Whether an op may write over its input without writing in the same place.
const fn has_window(op: &Op) -> bool {
    matches!(op.repr.kind, OpKind::Conv2d { .. } | OpKind::MaxPool { .. } | OpKind::AveragePool { .. })
}
