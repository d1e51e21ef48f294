//! Files with packed weights: what is in them, and each way in which they are wrong.

use crate::{
    Image,
    host::{Executor, Origin, Packing, Prepared, pack, portable},
    image::{
        Fault, Place,
        repr::{FooterRepr, PackedRepr},
        seal,
    },
    testing::{Draw, exercise, zoo, zoo_packed},
};

/// Where record `i` of a file begins, and the footer.
fn records(file: &[u8]) -> usize {
    let count = Image::check(file).unwrap().packed().count();
    file.len() - FooterRepr::BYTES - count * PackedRepr::BYTES
}

fn word(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}

#[test]
fn files_with_and_without() {
    let file = zoo();
    let packed = zoo_packed();
    assert_eq!(portable(&packed).unwrap(), file, "the same bytes again");
    assert_eq!(
        pack(&packed, &[Packing::Eights, Packing::Words]).unwrap(),
        pack(&file, &[Packing::Words, Packing::Eights, Packing::Words]).unwrap()
    );
    assert_eq!(pack(&packed, &[]).unwrap(), file);
    assert_eq!(packed[20..file.len()], file[20..], "what every reader reads comes first, but for length and checksum");
    let image = Image::check(&packed).unwrap();
    let all: Vec<Packing> = image.packed().map(|weights| weights.packing).collect();
    assert_eq!(all, Packing::ALL);
    assert!(image.packed().all(|weights| (weights.rows.as_ptr().addr() - packed.as_ptr().addr()).is_multiple_of(64)));
    let neon = pack(&file, &[Packing::Pairs]).unwrap();
    for executor in Executor::all() {
        let origin = |file| Prepared::with(Image::check(file).unwrap(), executor).origin();
        let of_all = if executor.packing().is_some() { Origin::Image } else { Origin::Plain };
        assert_eq!(origin(&packed), of_all, "{executor}");
        assert_eq!(origin(&neon) == Origin::Image, executor.packing() == Some(Packing::Pairs), "{executor}");
        assert_eq!(matches!(origin(&file), Origin::Memory(1..)), executor.packing().is_some(), "{executor}");
    }
}

#[test]
fn tags_are_as_documented() {
    let page = include_str!("../../../../docs/flash-image.md");
    for packing in Packing::ALL {
        let names: Vec<String> = packing.executors().iter().map(|name| format!("`{name}`")).collect();
        let line = format!("| {} | {} |", packing.tag(), names.join(", "));
        assert!(page.contains(&line), "{line:?} in docs/flash-image.md");
    }
    for line in ["Record of packed weights: 16 bytes", "footer: 16 bytes"] {
        assert!(page.contains(line), "{line:?} in docs/flash-image.md");
    }
}

#[test]
fn every_fault_is_named() {
    let good = zoo_packed();
    let at = records(&good);
    let footer = good.len() - FooterRepr::BYTES;
    let first = word(&good, at + 4) as usize;
    // Of the first layer in that order: how many rows there are besides those of the first layer; then biases.
    let cases = [
        (at, 3, Place::Packed(0), Fault::Packing, "no order"),
        (at, 0, Place::Packed(0), Fault::Packing, "no order"),
        (at + 16, 1, Place::Packed(1), Fault::Packing, "the same once more"),
        (at + 5 * 16, 99, Place::Packed(5), Fault::Packing, "no order"),
        (at + 4, first as u32 + 4, Place::Packed(0), Fault::PackedPlace, "not aligned"),
        (at + 4, first as u32 + 64, Place::Packed(0), Fault::PackedPlace, "a gap"),
        (at + 16 + 4, first as u32, Place::Packed(1), Fault::PackedPlace, "over the one before"),
        (at + 8, u32::MAX, Place::Packed(0), Fault::PackedPlace, "words beyond the end"),
        (at + 12, u32::MAX, Place::Packed(0), Fault::PackedPlace, "rows beyond the end"),
        (at + 8, word(&good, at + 8) - 1, Place::Packed(0), Fault::PackedLength, "too few words"),
        (at + 12, word(&good, at + 12) - 1, Place::Packed(0), Fault::PackedLength, "too few rows"),
        (at + 5 * 16 + 12, word(&good, at + 5 * 16 + 12) - 1, Place::Packed(5), Fault::PackedLength, "too few rows"),
        (first, u32::MAX, Place::Packed(0), Fault::PackedNumber, "more rows than there are words"),
        (footer, 127, Place::Header, Fault::PackedPlace, "not even a header"),
        (footer, u32::MAX, Place::Header, Fault::PackedPlace, "behind the end"),
        (footer + 4, 0, Place::Header, Fault::Count, "none"),
        (footer + 4, 7, Place::Header, Fault::Count, "more than there are"),
    ];
    for (at, value, place, fault, what) in cases {
        let mut file = good.clone();
        file[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        seal(&mut file).unwrap();
        let error = Image::check(&file).map(drop).expect_err(what);
        assert_eq!((error.place, error.fault), (place, fault), "{what}: {error}");
    }
    let mut file = good.clone();
    let behind = file.len() - FooterRepr::BYTES - 6 * PackedRepr::BYTES;
    file.splice(behind..behind, [0; 64]);
    seal(&mut file).unwrap();
    let error = Image::check(&file).map(drop).unwrap_err();
    assert_eq!((error.place, error.fault), (Place::Header, Fault::PackedPlace), "{error}");
}

/// Words, rows, records and footer changed at random, under a true checksum: refused, or run without a panic, and with the right
/// integers by all executors that do not read them.
#[test]
fn spoiled_at_random_they_are_refused_or_run() {
    let draw = &mut Draw::new(17);
    let good = zoo_packed();
    let image = Image::check(&good).unwrap();
    let words: Vec<_> = image
        .packed()
        .map(|packed| {
            let start = packed.words.as_ptr().addr() - good.as_ptr().addr();
            (start, start + size_of_val(packed.words))
        })
        .collect();
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..1500 {
        let mut file = good.clone();
        for _ in 0..draw.int(1..=3) {
            let (start, end) = match draw.int(0..=9) {
                0 => (image.portable_len(), good.len()),
                1 => (records(&good), good.len() - 8),
                _ => draw.of(&words),
            };
            let at = draw.int(start as i32..=end as i32 - 4) as usize / 4 * 4;
            let any = draw.bits() as u32;
            let value = draw.of(&[any, any % 64, 0, 1, u32::MAX, 1 << 31]);
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        seal(&mut file).unwrap();
        match exercise(&file) {
            Ok(()) => ran += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(ran > 100 && refused > 100, "{ran} ran, {refused} refused");
}
