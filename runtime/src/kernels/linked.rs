//! Which kernels are part of the program. Enters: at compile time the variable `INTACT_OPS`, a list of [`parts`] with commas between
//! them; without it everything is. Leaves: constants, by which the compiler leaves out what no op of the image needs. Refused: a run
//! of an op that was left out, with a panic; the firmware's build compares the list with its image, so that it does not come to that.

use crate::image::{Op, repr::OpKind};

/// The list, if there is one.
const LIST: Option<&str> = option_env!("INTACT_OPS");

/// The parts of the runtime that `op` needs: its kind, and for a convolution the encodings of its weights and its input, for which
/// the cores with DSP instructions have inner loops of their own.
pub fn parts(op: &Op) -> [Option<&'static str>; 3] {
    let OpKind::Conv2d { groups, weights, .. } = op.repr.kind else { return [Some(op.repr.kind.name()), None, None] };
    let (x, y) = (op.input(0), op.output());
    let depthwise = super::scratch::is_depthwise(groups, x.repr.shape[2], y.repr.shape[2]);
    let kind = if depthwise { "Depthwise" } else { "Conv" };
    let weights = match (weights.bits, weights.signed) {
        (8, false) => "uint8",
        (8, true) => "int8",
        (4, false) => "uint4",
        (4, true) => "int4",
        (_, false) => "uint2",
        (_, true) => "int2",
    };
    [Some(kind), Some(weights), Some(if x.repr.signed { "from-signed" } else { "from-unsigned" })]
}

/// Whether a part of that name is in the program.
pub const fn linked(part: &str) -> bool {
    match LIST {
        Some(list) => holds(list.as_bytes(), part.as_bytes()),
        None => true,
    }
}

/// Whether `list` has `name` between commas.
const fn holds(list: &[u8], name: &[u8]) -> bool {
    let (mut start, mut at) = (0, 0);
    while at <= list.len() {
        if at == list.len() || list[at] == b',' {
            let mut same = at - start == name.len();
            let mut i = 0;
            while same && i < name.len() {
                same = list[start + i] == name[i];
                i += 1;
            }
            if same {
                return true;
            }
            start = at + 1;
        }
        at += 1;
    }
    false
}

/// That kernels of that kind are in the program.
///
/// # Panics
/// If they are not.
#[inline(always)]
pub(crate) fn assert(kind: &OpKind) {
    let there = match kind {
        OpKind::Conv2d { .. } => const { linked("Conv") || linked("Depthwise") },
        OpKind::Dense { .. } => const { linked("Gemm") },
        OpKind::MaxPool { .. } => const { linked("MaxPool") },
        OpKind::AveragePool { .. } => const { linked("AveragePool") },
        OpKind::GlobalAveragePool { .. } => const { linked("GlobalAveragePool") },
        OpKind::Add { .. } => const { linked("Add") },
        OpKind::Mul { .. } => const { linked("Mul") },
        OpKind::Pad { .. } => const { linked("Pad") },
        OpKind::Concat { .. } => const { linked("Concat") },
        OpKind::Lookup { .. } => const { linked("Lookup") },
        OpKind::Softmax { .. } => const { linked("Softmax") },
        _ => true,
    };
    if !there {
        absent();
    }
}

/// # Panics
/// Always.
#[cold]
pub(crate) fn absent() -> ! {
    panic!("an op whose kernels are not part of this program (INTACT_OPS)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        let list = b"Conv,int8,GlobalAveragePool";
        for (name, there) in [
            ("Conv", true),
            ("int8", true),
            ("GlobalAveragePool", true),
            ("AveragePool", false),
            ("", false),
            ("in", false),
        ] {
            assert_eq!(holds(list, name.as_bytes()), there, "{name}");
        }
        assert!(holds(b"", b"") && !holds(b"", b"Conv"));
    }

    /// Every kind is found under its own name.
    #[test]
    fn the_zoo_has_every_part_named_as_the_kernels_are_asked_for() {
        let file = crate::testing::zoo();
        let image = crate::Image::check(&file).unwrap();
        for op in image.ops() {
            assert!(parts(&op).iter().flatten().all(|part| linked(part)));
            super::assert(&op.repr.kind);
        }
    }
}
