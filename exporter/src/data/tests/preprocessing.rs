//! Floats for simulation and the table for integers are the same numbers.

use proptest::prelude::*;

use crate::data::{CIFAR10, Dataset, SHAPES10};
use crate::network::{Encoding, Preprocessing};

fn agree(preprocessing: &Preprocessing, encoding: &Encoding) {
    // 256 pixels with the same value in each channel: every entry of the table.
    let image: Vec<u8> = (0..=255).flat_map(|pixel| [pixel; 3]).collect();
    let values = preprocessing.normalize(&image);
    let table = preprocessing.input_table(encoding);
    assert_eq!((values.len(), table.len()), (768, 768));
    for (i, (&value, &byte)) in values.iter().zip(&table).enumerate() {
        let stored = if encoding.signed { i32::from(byte.cast_signed()) } else { i32::from(byte) };
        assert_eq!(encoding.quantize(0, value), stored, "channel {}, pixel {}", i / 256, i % 256);
    }
}

#[test]
fn table_and_floats_agree_for_every_pixel() {
    for standard in [CIFAR10, SHAPES10] {
        for signed in [true, false] {
            for bits in [8, 4, 2] {
                agree(&Preprocessing::standard(standard), &Encoding::asymmetric(bits, signed, -2.0, 2.1));
            }
        }
    }
}

proptest! {
    #[test]
    fn table_and_floats_agree_for_any_preprocessing(
        mean in prop::array::uniform3(0.0f32..1.0),
        std in prop::array::uniform3(0.01f32..2.0),
        signed: bool,
        low in -10.0f32..0.0,
        high in 0.0f32..10.0,
    ) {
        agree(&Preprocessing::standard((mean, std)), &Encoding::asymmetric(8, signed, low, high));
    }
}

#[test]
fn channels_are_separated() {
    let preprocessing = Preprocessing { mean: vec![0.0, 0.5, 1.0], std: vec![1.0, 0.5, 0.25] };
    // Two pixels.
    assert_eq!(preprocessing.normalize(&[0, 255, 255, 255, 0, 0]), [0.0, 1.0, 1.0, -1.0, 0.0, -4.0]);
}

#[test]
fn statistics_are_measured() {
    let data = Dataset::new("x", [1, 2], vec!["a".into()], vec![0], vec![0, 51, 9, 255, 51, 9]).unwrap();
    let Preprocessing { mean, std } = Preprocessing::of(&data);
    assert_eq!(mean, [0.5, 0.2, 9.0 / 255.0]);
    // A channel of one value is not divided by 0.
    assert_eq!(std, [0.5, 1.0, 1.0]);
    let named = Dataset::new("cifar10", [1, 1], vec!["a".into()], vec![0], vec![1, 2, 3]).unwrap();
    assert_eq!(Preprocessing::of(&named), Preprocessing::standard(CIFAR10));
}
