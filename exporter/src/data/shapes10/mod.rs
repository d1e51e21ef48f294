//! The data set that the program draws itself: ten classes of 32x32 RGB figures and textures.
//!
//! *Enters*: a seed. *Leaves*: a [`Dataset`]; image `i` of a split depends on seed, split and `i` alone and has class
//! `i mod 10`, so that the bytes are the same for any number of threads and on any machine. *Refuses*: a count of 0.
//!
//! Figures differ in place, angle, size and stretch, and are disturbed by gradients, clutter and noise. Colours say
//! nothing about the class, and no single pixel does, so a linear model learns next to nothing, and a small CNN most of
//! it within a minute on two cores:
//!
//! | model | trained on | accuracy on 2,000 test images |
//! |---|---|---|
//! | logistic regression on pixels | 10,000 images, 15 epochs | 14.0 % |
//! | ResNet-8 in floats | 20,000 images, 2 epochs (30 s) | 93.1 % |
//! | the same, 8-bit weights and activations | 1 epoch more (19 s) | 95.1 % |
//!
//! ```sh
//! cargo run --release -p intact-exporter --example shapes10_linear
//! cargo run --release -p intact-trainer --example fit -- resnet8 shapes10 shapes10.safetensors 0 2 1
//! cargo run --release -p intact-exporter --example shapes10_sheet -- sheet.png   # what they look like
//! ```

mod figure;
mod scene;

pub use figure::CLASSES;

use rayon::prelude::*;

use super::{DataError, Dataset, Split, random};

/// Height and width in pixels.
pub const SIDE: usize = 32;
/// Images of the training split that [`super::open`] draws.
pub const TRAIN: usize = 20_000;
/// Images of the test split that [`super::open`] draws.
pub const TEST: usize = 2_000;

/// Draws the first `count` images of a split.
///
/// # Errors
/// [`DataError::Dataset`] if `count` is 0.
pub fn draw(seed: u64, split: Split, count: usize) -> Result<Dataset, DataError> {
    let mut images = vec![0; count * SIDE * SIDE * 3];
    images.par_chunks_exact_mut(SIDE * SIDE * 3).enumerate().for_each(|(i, image)| {
        let index = i as u64 | if split == Split::Test { 1 << 63 } else { 0 };
        scene::draw(i % CLASSES.len(), &mut random::stream(seed, b"shapes10", index), image);
    });
    let labels = (0..count).map(|i| (i % CLASSES.len()) as u16).collect();
    Dataset::new("shapes10", [SIDE, SIDE], CLASSES.map(String::from).to_vec(), labels, images)
}
