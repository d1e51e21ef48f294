//! The drawn set is the same everywhere, and its colours give nothing away.

use super::{Options, Split, open};
use crate::data::{SHAPES10, shapes10};
use crate::network::Preprocessing;

#[test]
fn the_first_thousand_images_are_pinned() {
    let data = shapes10::draw(0, Split::Train, 1000).unwrap();
    assert_eq!(
        blake3::hash(data.images()).to_hex().as_str(),
        "5770cce7fa0b33eefde8593a6a4ff039a1741c2df8aa1672f5568aeef7eb828c"
    );
}

#[test]
fn any_thread_count_gives_the_same_bytes() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| shapes10::draw(3, Split::Test, 200).unwrap())
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn an_image_depends_on_seed_split_and_index_alone() {
    let image = |seed, split, count, i: usize| shapes10::draw(seed, split, count).unwrap().image(i).to_vec();
    let reference = image(0, Split::Train, 20, 7);
    assert_eq!(reference, image(0, Split::Train, 8, 7));
    for other in [image(1, Split::Train, 20, 7), image(0, Split::Test, 20, 7), image(0, Split::Train, 20, 17)] {
        assert_ne!(reference, other);
    }
}

#[test]
fn open_draws_balanced_splits() {
    let data = open("shapes10", Split::Test, &Options { seed: 5, ..Options::default() }).unwrap();
    assert_eq!(data, shapes10::draw(5, Split::Test, shapes10::TEST).unwrap());
    for class in 0..10 {
        assert_eq!(data.labels().iter().filter(|&&label| label == class).count(), shapes10::TEST / 10);
    }
    let held_out = open("shapes10", Split::Test, &Options { hold_out: Some(0.1), ..Options::default() });
    assert_eq!(
        held_out.unwrap_err().to_string(),
        "data set `shapes10`: shapes10 has a test split, so no share can be held out"
    );
}

#[test]
fn the_constants_are_those_of_the_training_split() {
    let data = shapes10::draw(0, Split::Train, shapes10::TRAIN).unwrap();
    assert_eq!(Preprocessing::measure(&data), Preprocessing::standard(SHAPES10));
}

/// Every class has nearly the mean colour of all: mean pixels differ by less than four standard errors of a mean of
/// 400 images, whose own means deviate by about 0.2.
#[test]
fn colour_says_nothing_about_the_class() {
    let data = shapes10::draw(0, Split::Train, 4000).unwrap();
    let all = Preprocessing::measure(&data);
    for class in 0..10u16 {
        let members = data.subset((0..data.len()).filter(|&i| data.labels()[i] == class));
        for (c, mean) in Preprocessing::measure(&members).mean.into_iter().enumerate() {
            assert!((mean - all.mean[c]).abs() < 4.0 * 0.2 / 20.0, "class {class}, channel {c}: {mean}, {all:?}");
        }
    }
}
