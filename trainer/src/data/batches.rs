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

/// The same indices in an order in which every run of images holds each class in its share of all, as nearly as counting allows: the
/// images of a class keep their order and are spread evenly. `labels` has the class of every index.
///
/// # Panics
/// If an index has no label.
pub fn spread(order: &[usize], labels: &[u16]) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |&class| usize::from(class) + 1);
    let mut counts = vec![0u32; classes];
    let ranks: Vec<u32> = order
        .iter()
        .map(|&i| {
            let count = &mut counts[usize::from(labels[i])];
            *count += 1;
            *count - 1
        })
        .collect();
    let place = |(&i, &rank): (&usize, &u32)| (f64::from(rank) + 0.5) / f64::from(counts[usize::from(labels[i])]);
    let mut placed: Vec<(f64, usize)> = order.iter().zip(&ranks).map(|pair| (place(pair), *pair.0)).collect();
    placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    placed.into_iter().map(|(_, i)| i).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_of_images_holds_each_class_in_its_share() {
        // 24, 12, 4 and one of 41; and a class that no image has.
        let labels: Vec<u16> = [(24, 0), (12, 1), (4, 3), (1, 4)]
            .into_iter()
            .flat_map(|(n, class)| std::iter::repeat_n(class, n))
            .collect();
        let shuffled = order(labels.len(), 7, 3);
        let spread = spread(&shuffled, &labels);
        for class in 0..5 {
            let of_class =
                |order: &[usize]| -> Vec<usize> { order.iter().copied().filter(|&i| labels[i] == class).collect() };
            assert_eq!(of_class(&spread), of_class(&shuffled), "a class keeps its order");
            let all = of_class(&spread).len() as f64;
            for (start, end) in (0..labels.len()).flat_map(|start| (start..=labels.len()).map(move |end| (start, end)))
            {
                let share = all * (end - start) as f64 / labels.len() as f64;
                let found = of_class(&spread[start..end]).len() as f64;
                assert!((found - share).abs() < 2.0, "class {class} in {start}..{end}: {found} of {share}");
            }
        }
    }

    #[test]
    fn equal_classes_come_once_in_each_block() {
        let labels: Vec<u16> = (0..50).map(|i| i / 5).collect();
        for block in spread(&order(50, 1, 0), &labels).chunks(10) {
            let mut classes: Vec<u16> = block.iter().map(|&i| labels[i]).collect();
            classes.sort_unstable();
            assert_eq!(classes, (0..10).collect::<Vec<_>>());
        }
    }
}
