//! Order, augmentation, normalization.

use super::{Augment, augmented, order, plain};
use exporter::data::{Dataset, Split, shapes10};
use exporter::network::Preprocessing;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn images() -> Dataset {
    shapes10::draw(1, Split::Train, 24).unwrap()
}

fn preprocessing() -> Preprocessing {
    Preprocessing { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.3] }
}

fn apply(augment: Augment, image: &[u8], shape: [usize; 3], stream: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    rng.set_stream(stream);
    let mut out = vec![99; image.len()];
    augment.apply(image, shape, &mut rng, &mut out);
    out
}

#[test]
fn an_epoch_visits_every_image_once_in_an_order_of_its_own() {
    let mut seen = order(1000, 1, 0);
    assert_ne!(seen, (0..1000).collect::<Vec<_>>());
    assert_ne!(seen, order(1000, 1, 1));
    assert_ne!(seen, order(1000, 2, 0));
    assert_eq!(seen, order(1000, 1, 0));
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    let (data, preprocessing) = (images(), preprocessing());
    let batch = |indices: &[usize], epoch| augmented(&data, indices, &preprocessing, &Augment::PAPER, 5, epoch);
    let length = 32 * 32 * 3;
    let (a, b) = (batch(&[3, 17, 20], 2), batch(&[17, 9], 2));
    assert_eq!(a[length..2 * length], b[..length]);
    assert_ne!(a, batch(&[3, 17, 20], 3));
}

#[test]
fn without_augmentation_batches_are_the_images() {
    let (data, preprocessing) = (images(), preprocessing());
    let as_they_are = plain(&data, 4..9, &preprocessing);
    assert_eq!(augmented(&data, &[4, 5, 6, 7, 8], &preprocessing, &Augment::NONE, 1, 1), as_they_are);
    // Channel 2 of pixel (5, 6) of image 7.
    let pixel = data.image(7)[(5 * 32 + 6) * 3 + 2];
    assert_eq!(as_they_are[3 * 3072 + 2 * 1024 + 5 * 32 + 6], (f32::from(pixel) / 255.0 - 0.6) / 0.3);
}

#[test]
fn flipping_mirrors_about_half_of_the_images() {
    let image: Vec<u8> = (0..4 * 5 * 3).collect();
    let mirrored: Vec<u8> = image.chunks(15).flat_map(|row| row.chunks(3).rev().flatten().copied()).collect();
    let flip = Augment { flip: true, ..Augment::NONE };
    let mut flipped = 0;
    for stream in 0..400 {
        let out = apply(flip, &image, [4, 5, 3], stream);
        assert!(out == image || out == mirrored);
        flipped += usize::from(out == mirrored);
    }
    assert!((150..250).contains(&flipped), "{flipped} of 400");
}

#[test]
fn cropping_moves_by_every_offset_and_fills_with_black() {
    let image = vec![200; 9 * 9];
    let crop = Augment { pad: 2, ..Augment::NONE };
    let mut offsets = std::collections::HashSet::new();
    for stream in 0..400 {
        let out = apply(crop, &image, [9, 9, 1], stream);
        let black_rows = out.chunks(9).filter(|row| row.iter().all(|&v| v == 0)).count();
        let black_columns = (0..9).filter(|&x| out.chunks(9).all(|row| row[x] == 0)).count();
        assert!(black_rows <= 2 && black_columns <= 2);
        assert_eq!(out.iter().filter(|&&v| v == 200).count(), (9 - black_rows) * (9 - black_columns));
        offsets.insert((out[0] == 0, black_rows, out[8] == 0, black_columns));
    }
    // Up to two rows from either side and up to two columns from either side; corners tell the side.
    assert!(offsets.len() > 12, "{offsets:?}");
}

#[test]
fn shift_zoom_and_rotation_keep_the_middle_and_stay_in_range() {
    // Bright disc in the middle: whatever the small change, it stays bright there and dark in the corners.
    let image: Vec<u8> = (0..32 * 32)
        .map(|i| {
            let (y, x) = ((i / 32) as f32 - 15.5, (i % 32) as f32 - 15.5);
            if y * y + x * x < 81.0 { 250 } else { 10 }
        })
        .collect();
    let mut different = std::collections::HashSet::new();
    for stream in 0..50 {
        let out = apply(Augment::PAPER, &image, [32, 32, 1], stream);
        assert!(out[15 * 32 + 15] > 200 && out[0] < 50 && out[1023] < 50);
        assert!(out.iter().all(|v| (10..=250).contains(v)));
        different.insert(out);
    }
    assert!(different.len() > 45);
}

#[test]
fn rotation_turns() {
    // A bar through the middle, 90 degrees at most: somewhere it must stand upright.
    let image: Vec<u8> = (0..21 * 21).map(|i| if i / 21 == 10 { 255 } else { 0 }).collect();
    let turn = Augment { rotation: 90.0, ..Augment::NONE };
    let upright = (0..400)
        .map(|stream| apply(turn, &image, [21, 21, 1], stream))
        .filter(|out| (3..18).all(|y| out[y * 21 + 10] > 128))
        .count();
    assert!(upright > 5, "{upright} of 400");
}
