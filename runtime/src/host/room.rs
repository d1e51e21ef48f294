//! An arena for machines with memory to spare. Enters: an image. Leaves: the same image with a larger arena, in which no op that
//! has a window writes over what it reads, and each core of two finds in its cache what it wrote. Refused: what the image check refuses.
//!
//! Planned for the least memory, an op may write its output over its input, row by row, from below. A host makes whole outputs,
//! in parts, and would have to copy the input first, from one core's cache into another's. And where one op's lower half lies in
//! the place of another one's upper half, each line of it goes from core to core. So tensors lie around a few fixed places, with as
//! many rows before them as behind: what is before is one core's, what is behind the other's, in every op.

use crate::{
    Image, ImageError,
    image::{
        Op, Tensor,
        repr::{HeaderRepr, OpKind, Span, TensorRepr},
        seal,
    },
};

/// A cache line.
const LINE: u32 = 64;

/// Tensors that keep their places relative to each other: an op that has no window writes one over another.
#[derive(Debug)]
struct Group {
    tensors: Vec<usize>,
    /// In the arena as it was planned.
    span: Span,
    /// Bytes of its largest tensor, and of the group up to the lower half of that one's rows, to a whole line.
    largest: usize,
    before: u32,
    /// From the op that writes the first of them to the last one that reads one.
    ops: [usize; 2],
}

/// Groups of which no two are there at the same time.
#[derive(Debug)]
struct Slot {
    groups: Vec<Group>,
    /// The last op of all.
    last: usize,
}

/// Gives every tensor a new place behind the arena. Arithmetic, and what every op writes, stay as they are; so does the file, when its
/// arena would not be within 4 GiB.
///
/// # Errors
/// That of the image check; `file` is unchanged then.
pub fn make_room(file: &mut [u8]) -> Result<(), ImageError> {
    let image = Image::check(file)?;
    let first = image.header().tensors.offset as usize;
    let Some((arena_bytes, records)) = places(&image, &slots(groups(&image))) else { return Ok(()) };
    let header = HeaderRepr { arena_bytes, ..*image.header() };
    for (tensor, repr) in records {
        file[first + tensor * TensorRepr::BYTES..][..TensorRepr::BYTES].copy_from_slice(&repr.emit());
    }
    file[..HeaderRepr::BYTES].copy_from_slice(&header.emit());
    seal(file).expect("an image has a header");
    Ok(())
}

/// The bytes of the new arena, and all tensors with their places in it.
fn places(image: &Image, slots: &[Slot]) -> Option<(u32, Vec<(usize, TensorRepr)>)> {
    let tensors: Vec<Tensor> = image.tensors().collect();
    let mut records = Vec::with_capacity(tensors.len());
    // What scratch an op has stays where it was.
    let mut end = image.header().arena_bytes.checked_next_multiple_of(LINE)?;
    for slot in slots {
        let before = slot.groups.iter().map(|group| group.before).max()?;
        let middle = end.checked_add(before)?;
        for group in &slot.groups {
            let start = middle - group.before;
            for &tensor in &group.tensors {
                let repr = tensors[tensor].repr;
                records.push((tensor, TensorRepr { offset: start + (repr.offset - group.span.offset), ..repr }));
            }
            end = end.max(start.checked_add(group.span.len)?);
        }
        end = end.checked_next_multiple_of(LINE)?;
    }
    Some((end, records))
}

/// Which groups lie around one place: each where none is at the time, if possible where one was shortly before.
fn slots(mut groups: Vec<Group>) -> Vec<Slot> {
    groups.sort_by_key(|group| group.ops);
    let mut slots: Vec<Slot> = Vec::new();
    for group in groups {
        let last = group.ops[1];
        let free = slots.iter_mut().filter(|slot| slot.last < group.ops[0]).max_by_key(|slot| slot.last);
        if let Some(slot) = free {
            slot.groups.push(group);
            slot.last = last;
        } else {
            slots.push(Slot { groups: vec![group], last });
        }
    }
    slots
}

/// All tensors that an op reads or writes, in groups.
fn groups(image: &Image) -> Vec<Group> {
    let firsts = firsts(image);
    let mut groups: Vec<Option<Group>> = firsts.iter().map(|_| None).collect();
    let mut note = |tensor: Tensor, op: usize| {
        let own = Group::new(&tensor, op);
        match &mut groups[firsts[tensor.index]] {
            Some(group) => group.join(own),
            none => *none = Some(own),
        }
    };
    note(image.input(), 0);
    for op in image.ops() {
        op.inputs().chain([op.output()]).for_each(|tensor| note(tensor, op.index));
    }
    note(image.output(), image.ops().len());
    groups.into_iter().flatten().collect()
}

impl Group {
    /// A tensor, as an op reads or writes it.
    fn new(tensor: &Tensor, op: usize) -> Self {
        let [height, width, channels] = tensor.shape();
        let before = height.div_ceil(2) * width * channels;
        let before = (before as u32).next_multiple_of(LINE);
        Self { tensors: vec![tensor.index], span: place(tensor), largest: tensor.len(), before, ops: [op; 2] }
    }

    /// With one more tensor, or one of its own at another op.
    fn join(&mut self, other: Self) {
        let [start, other_start] = [self.span.offset, other.span.offset];
        let first = start.min(other_start);
        if other.largest > self.largest {
            (self.largest, self.before) = (other.largest, other.before + (other_start - first));
        } else {
            self.before += start - first;
        }
        // Both lie in an arena of less than 4 GiB.
        let end = self.span.end().max(other.span.end()) as u32;
        self.span = Span::new(first, end - first);
        self.ops = [self.ops[0].min(other.ops[0]), self.ops[1].max(other.ops[1])];
        for tensor in other.tensors {
            if !self.tensors.contains(&tensor) {
                self.tensors.push(tensor);
            }
        }
    }
}

/// For each tensor the first one of its group.
fn firsts(image: &Image) -> Vec<usize> {
    let mut firsts: Vec<usize> = (0..image.tensors().len()).collect();
    let find = |firsts: &[usize], mut tensor: usize| {
        while firsts[tensor] != tensor {
            tensor = firsts[tensor];
        }
        tensor
    };
    for op in image.ops().filter(|op| !has_window(op)) {
        for input in op.inputs().filter(|input| place(input).overlaps(place(&op.output()))) {
            let [a, b] = [input.index, op.output().index].map(|tensor| find(&firsts, tensor));
            firsts[a.max(b)] = a.min(b);
        }
    }
    (0..firsts.len()).map(|tensor| find(&firsts, tensor)).collect()
}

fn place(tensor: &Tensor) -> Span {
    Span::new(tensor.repr.offset, tensor.repr.bytes)
}

/// Whether an op may write over its input without writing in the same place.
const fn has_window(op: &Op) -> bool {
    matches!(op.repr.kind, OpKind::Conv2d { .. } | OpKind::MaxPool { .. } | OpKind::AveragePool { .. })
}
