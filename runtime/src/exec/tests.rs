//! Runs of whole images.

use super::*;
use crate::{
    observe::{Checksums, Tap, first_difference},
    testing::{Draw, zoo},
};

fn pixels(seed: u64) -> Vec<u8> {
    let mut draw = Draw::new(seed);
    (0..9 * 8 * 3).map(|_| draw.bits() as u8).collect()
}

/// What the portable kernels of this version give; an op that changes its arithmetic shows here.
#[test]
fn zoo_gives_the_recorded_scores() {
    let file = zoo();
    let image = Image::check(&file).unwrap_or_else(|error| panic!("{error}"));
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap();
    let scores = [0, 1, 2].map(|seed| {
        let output = session.run_pixels(&pixels(seed)).unwrap();
        (0..5).map(|i| output.integer(i)).collect::<Vec<_>>()
    });
    assert_eq!(scores, [[28, 107, 7, 84, 30], [28, 91, 6, 104, 27], [26, 99, 6, 96, 28]]);
}

#[test]
fn kernels_agree_op_by_op_whatever_the_arena_held() {
    let file = zoo();
    let image = Image::check(&file).unwrap();
    for seed in 0..50 {
        let sums = [(Kernels::Reference, 0), (Kernels::Portable, 255)].map(|(kernels, filler)| {
            let mut arena = vec![filler; image.arena_bytes() + 3];
            let mut session = Session::new(image, &mut arena[1..]).unwrap().with_kernels(kernels);
            let mut sums = [0; 17];
            let mut checksums = Checksums::new(&mut sums);
            session.run_pixels_observed(&pixels(seed), &mut checksums).unwrap();
            assert_eq!(checksums.sums().len(), image.ops().len());
            sums
        });
        assert_eq!(first_difference(&sums[0], &sums[1]), None, "seed {seed}");
    }
}

#[test]
fn a_tap_sees_what_the_next_op_reads() {
    let file = zoo();
    let image = Image::check(&file).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let last = image.ops().len() - 1;
    let (mut all, mut few) = ([0; 8], [0; 2]);
    let mut taps = (Tap::new(last, &mut all), Tap::new(last, &mut few));
    let mut session = Session::new(image, &mut arena).unwrap();
    let logits = session.run_pixels_observed(&pixels(4), &mut taps).unwrap();
    assert_eq!(taps.0.bytes(), logits.bytes());
    assert_eq!(taps.1.bytes(), &logits.bytes()[..2]);
}

#[test]
fn pixels_are_looked_up_channel_by_channel() {
    let file = zoo();
    let image = Image::check(&file).unwrap();
    let tables = image.input_tables();
    let stored: Vec<u8> = pixels(9).iter().enumerate().map(|(i, &pixel)| tables[i % 3][usize::from(pixel)]).collect();
    let [mut a, mut b] = [(); 2].map(|()| vec![0; image.arena_bytes()]);
    let (mut a, mut b) = (Session::new(image, &mut a).unwrap(), Session::new(image, &mut b).unwrap());
    assert_eq!(a.run_pixels(&pixels(9)).unwrap().bytes(), b.run_quantized(&stored).unwrap().bytes());
}

#[test]
fn refusals() {
    let file = zoo();
    let image = Image::check(&file).unwrap();
    let needed = image.arena_bytes();
    let mut arena = vec![0; needed];
    let error = Session::new(image, &mut arena[1..]).unwrap_err();
    assert_eq!(error.to_string(), format!("arena of {} bytes, expected at least {needed}", needed - 1));
    let mut session = Session::new(image, &mut arena).unwrap();
    let error = session.run_pixels(&[0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "input of 5 bytes, expected 216 (height * width * channels)");
    assert_eq!(session.run_quantized(&[]).unwrap_err(), RunError::InputLength { found: 0, expected: 216 });
}

#[test]
fn integers_outside_the_encoding_are_refused() {
    use crate::testing::{Builder, Encoding};
    let narrow = Encoding { bits: 4, signed: true, scale: 0.5, zero_point: 1 };
    let mut builder = Builder::new([1, 1, 4], narrow);
    let table = builder.data(&[0; 256]);
    let output = builder.tensor([1, 1, 4], narrow);
    builder.op(crate::image::repr::OpKind::Lookup { table }, &[0], output, narrow.whole());
    let file = builder.finish();
    let image = Image::check(&file).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap();
    assert!(session.run_quantized(&[0xf8, 0, 7, 0xff]).is_ok());
    let error = session.run_quantized(&[0, 0, 8, 0]).unwrap_err();
    assert_eq!(error.to_string(), "input integer 2: found 8, expected -8 to 7");
}

#[test]
fn best_classes_and_ties() {
    use crate::testing::{Builder, Encoding};
    let encoding = Encoding { bits: 8, signed: true, scale: 0.5, zero_point: -3 };
    let mut builder = Builder::new([1, 1, 6], encoding);
    let output = builder.tensor([1, 1, 6], encoding);
    let table = builder.data(&(0..=255).collect::<Vec<u8>>());
    builder.op(crate::image::repr::OpKind::Lookup { table }, &[0], output, encoding.whole());
    let file = builder.finish();
    let image = Image::check(&file).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap();
    let output = session.run_quantized(&[5i8, 9, -128, 9, 127 - 118, -1].map(|v| v as u8)).unwrap();
    assert_eq!(output.argmax(), 1);
    assert_eq!(output.top(&mut [0; 3]), [1, 3, 4]);
    assert_eq!(output.top(&mut [0; 9]), [1, 3, 4, 0, 5, 2]);
    assert_eq!(output.top(&mut []), [0; 0]);
    assert_eq!((output.integer(5), output.real(5)), (-1, 1.0));
}
