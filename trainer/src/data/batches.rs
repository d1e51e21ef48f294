//! Order and content of batches. Enters: a data set, seed, epoch, indices. Leaves: floats `N C H W`.

use super::Augment;
use exporter::data::Dataset;
use exporter::network::Preprocessing;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// Generators of one seed that never share numbers: one to shuffle, one for each image of each epoch.
fn generator(seed: u64, epoch: u64, image: Option<usize>) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let image = image.map_or(0, |i| i as u64 + 1);
    rng.set_stream(epoch << 40 | image);
    rng
}

/// The order in which an epoch visits `count` images.
pub fn order(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = generator(seed, epoch, None);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        // 64 random bits: the bias of the remainder is beyond notice.
        order.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

/// The images with these indices, augmented for this epoch, normalized, `N C H W`.
pub fn augmented(
    data: &Dataset,
    indices: &[usize],
    preprocessing: &Preprocessing,
    augment: &Augment,
    seed: u64,
    epoch: u64,
) -> Vec<f32> {
    let shape = [data.height(), data.width(), 3];
    let length: usize = shape.iter().product();
    let mut values = vec![0.0; indices.len() * length];
    values.par_chunks_exact_mut(length).zip(indices).for_each_init(
        || vec![0u8; length],
        |changed, (values, &i)| {
            augment.apply(data.image(i), shape, &mut generator(seed, epoch, Some(i)), changed);
            preprocessing.normalize_into(changed, values);
        },
    );
    values
}

/// Consecutive images as they are, normalized, `N C H W`.
pub fn plain(data: &Dataset, range: std::ops::Range<usize>, preprocessing: &Preprocessing) -> Vec<f32> {
    let length = data.height() * data.width() * 3;
    let mut values = vec![0.0; range.len() * length];
    values
        .par_chunks_exact_mut(length)
        .zip(range)
        .for_each(|(values, i)| preprocessing.normalize_into(data.image(i), values));
    values
}
