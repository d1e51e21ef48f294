//! Data as people have them: right, broken and ambiguous.

mod cifar;
mod folder;
mod pictures;
mod preprocessing;
mod shapes10;

use std::path::Path;

use super::{DataError, Dataset, Options, Split, open};

/// [`open`] on a path.
fn read(path: &Path, split: Split, options: &Options) -> Result<Dataset, DataError> {
    open(path.to_str().unwrap(), split, options)
}

/// The message, with the path of the temporary folder as `TMP`.
fn message(result: Result<Dataset, DataError>, folder: &Path) -> String {
    result.unwrap_err().to_string().replace(folder.to_str().unwrap(), "TMP")
}

/// A data set of `n` images of 1x1, of two classes in turn.
fn tiny(n: usize) -> Dataset {
    let labels = (0..n).map(|i| (i % 2) as u16).collect();
    let images = (0..3 * n).map(|i| i as u8).collect();
    Dataset::new("tiny", [1, 1], vec!["a".into(), "b".into()], labels, images).unwrap()
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let new = |size, labels: &[u16], bytes| {
        Dataset::new("x", size, vec!["a".into()], labels.to_vec(), vec![0; bytes]).unwrap_err().to_string()
    };
    assert_eq!(new([2, 2], &[0, 0], 23), "data set `x`: found 23 bytes of pixels, expected 24 for 2 images of 2x2");
    assert_eq!(new([1, 1], &[0, 1], 6), "data set `x`: image 1 has label 1, but there are 1 classes");
    assert_eq!(new([1, 1], &[], 0), "data set `x`: no image");
    assert_eq!(new([0, 1], &[0], 0), "found a size of 0x1 pixels, expected 1x1 to 4096x4096");
}

#[test]
fn a_subset_keeps_order_and_labels() {
    let part = tiny(6).subset([5, 0]);
    assert_eq!((part.labels(), part.images()), (&[1, 0][..], &[15, 16, 17, 0, 1, 2][..]));
}

#[test]
fn a_sample_takes_the_classes_in_turn() {
    let sorted = tiny(6).subset([0, 2, 4, 1, 3, 5]);
    assert_eq!(sorted.sample(3).images().iter().step_by(3).copied().collect::<Vec<_>>(), [0, 3, 6]);
    assert_eq!(sorted.sample(usize::MAX), tiny(6), "all of it, in an order of its own");
    assert_eq!(sorted.sample(4).sample(3), sorted.sample(3));
}

#[test]
fn the_hash_follows_the_content_alone() {
    let data = tiny(6);
    let renamed =
        Dataset::new("other", [1, 1], data.classes().to_vec(), data.labels().to_vec(), data.images().to_vec());
    assert_eq!(data.content_hash(), renamed.unwrap().content_hash());
    assert_ne!(data.content_hash(), data.subset([1, 0, 2, 3, 4, 5]).content_hash());
    let mut labels = data.labels().to_vec();
    labels[0] = 1;
    let relabelled = Dataset::new("tiny", [1, 1], data.classes().to_vec(), labels, data.images().to_vec()).unwrap();
    assert_ne!(data.content_hash(), relabelled.content_hash());
}

#[test]
fn held_out_images_are_a_share_of_each_class() {
    let data = tiny(40);
    let (rest, held) = data.hold_out(0.2, 7).unwrap();
    assert_eq!((rest.len(), held.len()), (32, 8));
    assert_eq!(held.labels().iter().filter(|&&label| label == 1).count(), 4);
    // Every image is in one of the parts, each in the order it had.
    let mut firsts: Vec<u8> = rest.images().iter().chain(held.images()).step_by(3).copied().collect();
    assert!(firsts[..32].is_sorted() && firsts[32..].is_sorted());
    firsts.sort_unstable();
    assert_eq!(firsts, data.images().iter().step_by(3).copied().collect::<Vec<_>>());
    assert_eq!(data.hold_out(0.2, 7).unwrap().1, held);
    assert_ne!(data.hold_out(0.2, 8).unwrap().1, held);
}

#[test]
fn what_cannot_be_held_out_is_refused() {
    let error = |n, share| tiny(n).hold_out(share, 0).unwrap_err().to_string();
    assert_eq!(error(4, 1.0), "data set `tiny`: cannot hold out a share of 1, expected more than 0 and less than 1");
    assert_eq!(error(3, 0.5), "data set `tiny`: class `b` has a single image, so none can be held out");
}

#[test]
fn what_is_no_data_set_is_told_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let forms = "expected `shapes10`, CIFAR-10 in its binary form (`data_batch_1.bin` ... `test_batch.bin`), or a \
                 folder of class folders with PNG or JPEG pictures";
    let error = |path: &Path| message(read(path, Split::Train, &Options::default()), folder.path());
    assert_eq!(
        error(&folder.path().join("none")),
        format!("`TMP/none`: found No such file or directory (os error 2), {forms}")
    );
    std::fs::write(folder.path().join("cifar-10-binary.tar.gz"), "archive").unwrap();
    assert_eq!(
        error(&folder.path().join("cifar-10-binary.tar.gz")),
        format!("`TMP/cifar-10-binary.tar.gz`: found a file, {forms}")
    );
    assert_eq!(error(folder.path()), format!("`TMP`: found a folder without folders in it, {forms}"));
    std::fs::write(folder.path().join("data_batch_1"), "pickled").unwrap();
    assert_eq!(error(folder.path()), format!("`TMP`: found CIFAR-10 in its Python form, {forms}"));
}
