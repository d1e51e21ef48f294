//! Images that are spoiled: by a test that knows how, bit by bit, and at random. Each is refused, or runs.

use super::{repr::OpKind, *};
use crate::testing::{Draw, exercise, lookup, zoo, zoo_packed};
use std::collections::BTreeMap;

/// Sizes that the documentation states.
#[test]
fn documented_sizes() {
    assert_eq!((HeaderRepr::BYTES, TensorRepr::BYTES, OpRepr::BYTES), (128, 32, 96));
    let page = include_str!("../../../docs/flash-image.md");
    for line in ["## Header: 128 bytes", "## Tensor record: 32 bytes", "## Op record: 96 bytes", "format version 1"] {
        assert!(page.contains(line), "{line:?} in docs/flash-image.md");
    }
    for fault in Fault::ALL {
        assert!(page.contains(&format!("| {} | {} |", *fault as u8, fault.text())), "{fault:?} in docs/flash-image.md");
    }
}

/// The fields' offsets that the documentation states, read back from a record in which every field differs.
#[test]
fn documented_offsets() {
    let span = |n: u32| Span::new(n, n + 1);
    let header = HeaderRepr {
        contract: 20,
        arena_bytes: 24,
        tensors: span(28),
        ops: span(36),
        input: 44,
        output: 48,
        input_tables: span(52),
        preprocessing: span(60),
        labels: span(68),
        name: span(76),
        provenance: [96; 32],
    };
    let bytes = header.emit();
    for at in [20, 24, 28, 36, 44, 48, 52, 60, 68, 76, 96] {
        assert_eq!(bytes[at], at as u8, "header");
    }
    assert_eq!(HeaderRepr::parse(&bytes), Ok(header));

    let tensor = TensorRepr {
        offset: 1,
        bytes: 4,
        shape: [8, 10, 12],
        bits: 14,
        signed: true,
        scale: f32::from_bits(16),
        zero_point: 20,
        name: span(24),
    };
    let bytes = tensor.emit();
    for at in [4, 8, 10, 12, 14, 16, 20, 24] {
        assert_eq!(bytes[at], at as u8, "tensor");
    }
    assert_eq!((bytes[0], bytes[15]), (1, 1));
    assert_eq!(TensorRepr::parse(&bytes), Ok(tensor));

    let weights = WeightsRepr {
        bits: 1,
        signed: true,
        data: span(60),
        zero_points: span(68),
        bias: span(76),
        multipliers: span(84),
    };
    let window = repr::WindowRepr { kernel: [36, 38], stride: [40, 42], padding: [44, 46, 48, 50], dilation: [52, 54] };
    let op = OpRepr {
        kind: OpKind::Conv2d { window, groups: 56, weights },
        inputs: span(8),
        output: 16,
        clamp_min: 4,
        clamp_max: 6,
        scratch: span(20),
        name: span(28),
    };
    let bytes = op.emit();
    for at in [4, 6, 8, 16, 20, 28].into_iter().chain((36..=56).step_by(2)).chain([60, 68, 76, 84]) {
        assert_eq!(bytes[at], at as u8, "op");
    }
    assert_eq!(bytes[..4], [1, 1, 1, 0]);
    assert_eq!(OpRepr::parse(&bytes), Ok(op));
}

/// The seeds of the fuzz target are those that this version writes: a change of the format shows here. Renewed by
/// `cargo run -p intact-runtime --features testing --example seeds`.
#[test]
fn fuzz_seeds_are_current_and_run() {
    let seeds: [(&[u8], Vec<u8>); 3] = [
        (include_bytes!("../../../fuzz/seeds/image_check/zoo.intact"), zoo()),
        (include_bytes!("../../../fuzz/seeds/image_check/zoo-packed.intact"), zoo_packed()),
        (include_bytes!("../../../fuzz/seeds/image_check/lookup.intact"), lookup()),
    ];
    for (stored, written) in seeds {
        assert!(stored == written, "renew the seeds, and the version if the format changed");
        exercise(stored).unwrap();
    }
}

/// In a constant, as firmware does it; and of bytes that are no image.
#[test]
fn arena_bytes_while_building() {
    const ARENA: Option<usize> = arena_bytes(include_bytes!("../../../fuzz/seeds/image_check/zoo.intact"));
    let file = zoo();
    assert_eq!(ARENA, Some(Image::check(&file).unwrap().arena_bytes()));
    assert_eq!(arena_bytes(&file[..HeaderRepr::BYTES - 1]), None);
    assert_eq!(arena_bytes(&[0; HeaderRepr::BYTES]), None);
}

fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    seal(&mut file).unwrap();
    file
}

#[test]
fn every_truncation_is_refused() {
    for file in [zoo(), lookup()] {
        for length in 0..file.len() {
            assert!(Image::check(&file[..length]).is_err(), "{length} bytes");
            // The tables stand at the end, so that even an honest header misses records.
            if length >= HeaderRepr::BYTES {
                assert!(Image::check(&sealed(file[..length].to_vec())).is_err(), "{length} bytes, sealed");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut file = lookup();
    for bit in 0..8 * file.len() {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(Image::check(&file).is_err(), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_flipped_bit_of_header_and_tables_under_a_true_checksum() {
    let file = zoo();
    let header = *Image::check(&file).unwrap().header();
    let tables = [header.tensors, header.ops].map(|span| span.offset as usize..span.end() as usize);
    let (mut refused, mut ran) = (0, 0);
    for byte in (layout::CRC + 4..HeaderRepr::BYTES).chain(tables.into_iter().flatten()) {
        for bit in 0..8 {
            let mut file = file.clone();
            file[byte] ^= 1 << bit;
            match exercise(&sealed(file)) {
                Ok(()) => ran += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    // Names, scales, provenance, clamps and multipliers may be others; most of the rest may not.
    assert!(refused > ran && ran > 1000, "{refused} refused, {ran} ran");
}

#[test]
fn images_spoiled_at_random_are_refused_or_run() {
    let draw = &mut Draw::new(5);
    let seeds = [zoo(), lookup()];
    let (mut ran, mut faults) = (0, BTreeMap::new());
    for case in 0..20_000 {
        let seed = &seeds[usize::from(case % 5 == 0)];
        let header = *Image::check(seed).unwrap().header();
        let mut file = seed.clone();
        for _ in 0..draw.int(1..=3) {
            // Mostly where the fields are.
            let (start, end) = match draw.int(0..=7) {
                0 | 1 => (layout::CRC + 4, HeaderRepr::BYTES),
                2 | 3 => (header.tensors.offset as usize, header.tensors.end() as usize),
                4..=6 => (header.ops.offset as usize, header.ops.end() as usize),
                _ => (HeaderRepr::BYTES, file.len()),
            };
            let at = draw.int(start as i32..=end as i32 - 4) as usize;
            let from = draw.int(0..=file.len() as i32 - 4) as usize;
            let copied = core::array::from_fn(|i| file[from + i]);
            let any = (draw.bits() as u32).to_le_bytes();
            let word =
                draw.of(&[any, copied, [0; 4], [255; 4], [1, 0, 0, 0], [0, 0, 0, 0x80], [16, 0, 0, 0], [0, 0, 1, 0]]);
            let count = draw.of(&[1, 1, 2, 4]);
            let at = at / count * count;
            file[at..at + count].copy_from_slice(&word[..count]);
        }
        match exercise(&sealed(file)) {
            Ok(()) => ran += 1,
            Err(error) => *faults.entry(error.fault as u8).or_insert(0) += 1,
        }
    }
    assert!(ran > 1000, "{ran} ran");
    assert!(faults.len() > 25, "only these faults: {faults:?}");
}

/// What was checked is known by its CRC: neither another file nor a damaged one passes for it.
#[test]
fn a_known_image_is_that_image_alone() {
    let (mut file, other) = (zoo(), lookup());
    let crc = Image::check(&file).unwrap().crc();
    let known = Image::known(&file, crc).unwrap();
    assert_eq!((known.name(), known.ops().len()), ("drawn by a test", Image::check(&file).unwrap().ops().len()));
    assert_eq!(Image::known(&other, crc).unwrap_err().fault, Fault::Checksum);
    file[200] ^= 1;
    assert_eq!(Image::known(&file, crc).unwrap_err().fault, Fault::Checksum);
}
