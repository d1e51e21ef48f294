//! Folders of class folders, and the real CIFAR-10 as one.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};

use super::{Options, Split, message, read};
use crate::network::Preprocessing;

const ANY: Options = Options { size: None, hold_out: None, seed: 0, sample: None };

/// A picture of one colour; the ending of the name decides the format.
fn picture(path: &Path, height: u32, width: u32, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, Rgb(colour)).save(path).unwrap();
}

/// Classes `b` and `a`, two and three pictures of 4x4.
fn classes(root: &Path) {
    for (file, red) in [("b/2.png", 21), ("b/10.png", 20), ("a/x.png", 10), ("a/y.JPG", 11), ("a/z.jpeg", 12)] {
        picture(&root.join(file), 4, 4, [red, 0, 0]);
    }
}

#[test]
fn classes_and_files_come_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path());
    let data = read(folder.path(), Split::Train, &ANY).unwrap();
    assert_eq!((data.classes().concat().as_str(), data.labels()), ("ab", &[0, 0, 0, 1, 1][..]));
    assert_eq!((data.height(), data.width(), data.notes().len()), (4, 4, 0));
    // "10" is before "2", as bytes are.
    assert_eq!([data.image(3)[0], data.image(4)[0]], [20, 21]);
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(data.name(), name);
}

#[test]
fn any_thread_count_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path());
    let options = Options { size: Some([7, 5]), ..ANY };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| read(folder.path(), Split::Train, &options).unwrap().content_hash())
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn pictures_of_different_sizes_need_a_size() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path());
    picture(&folder.path().join("b/3.png"), 6, 8, [255, 0, 0]);
    assert_eq!(
        message(read(folder.path(), Split::Train, &ANY), folder.path()),
        "`TMP/b/3.png`: found 6x8 pixels, expected 4x4 like those before, or a size to be asked for"
    );
    let data = read(folder.path(), Split::Train, &Options { size: Some([3, 2]), ..ANY }).unwrap();
    assert_eq!((data.len(), data.height(), data.width()), (6, 3, 2));
    assert_eq!(data.image(5), [255, 0, 0].repeat(6));
    assert_eq!(
        message(read(folder.path(), Split::Train, &Options { size: Some([0, 2]), ..ANY }), folder.path()),
        "found a size of 0x2 pixels, expected 1x1 to 4096x4096"
    );
}

#[test]
fn unreadable_pictures_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path());
    fs::write(folder.path().join("a/broken.jpg"), "this is no picture").unwrap();
    assert_eq!(
        message(read(folder.path(), Split::Train, &ANY), folder.path()),
        "cannot read the image `TMP/a/broken.jpg`: neither a PNG nor a JPEG"
    );
    let whole = fs::read(folder.path().join("a/y.JPG")).unwrap();
    fs::write(folder.path().join("b/cut.jpg"), &whole[..whole.len() - 2]).unwrap();
    assert_eq!(
        message(read(folder.path(), Split::Train, &ANY), folder.path()),
        format!(
            "cannot read 2 images:\n  `TMP/a/broken.jpg`: neither a PNG nor a JPEG\n  `TMP/b/cut.jpg`: the JPEG breaks \
             off after {} bytes, without an end-of-image marker",
            whole.len() - 2
        )
    );
    for i in 0..9 {
        fs::write(folder.path().join(format!("a/empty{i}.png")), "").unwrap();
    }
    let error = message(read(folder.path(), Split::Train, &ANY), folder.path());
    assert!(error.starts_with("cannot read 11 images:\n") && error.ends_with("\n  and 1 more"), "{error}");
}

#[test]
fn an_empty_class_and_stray_pictures_are_refused_and_other_files_noted() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path());
    fs::write(folder.path().join("README.md"), "text").unwrap();
    fs::write(folder.path().join(".hidden"), "ignored").unwrap();
    fs::create_dir(folder.path().join("a/more")).unwrap();
    let data = read(folder.path(), Split::Train, &ANY).unwrap();
    let top = folder.path().display();
    assert_eq!(
        data.notes(),
        [
            format!("`{top}`: files other than pictures were not read (1, first `README.md`)"),
            format!("`{top}/a`: folders within a class were not read (1, first `more`)"),
        ]
    );
    fs::create_dir(folder.path().join("c")).unwrap();
    assert_eq!(
        message(read(folder.path(), Split::Train, &ANY), folder.path()),
        "`TMP/c`: found no picture, expected PNG or JPEG files (`.png`, `.jpg`, `.jpeg`)"
    );
    picture(&folder.path().join("stray.png"), 4, 4, [0; 3]);
    assert_eq!(
        message(read(folder.path(), Split::Train, &ANY), folder.path()),
        "`TMP`: found 1 pictures beside the class folders, first `stray.png`, expected every picture in the folder of \
         its class"
    );
}

#[test]
fn train_and_test_are_splits_with_the_same_classes() {
    let folder = tempfile::tempdir().unwrap();
    classes(&folder.path().join("train"));
    let test = |options: &Options| read(folder.path(), Split::Test, options);
    assert_eq!(
        message(test(&ANY), folder.path()),
        "`TMP`: found no `test` folder, expected `train` and `test`, or a held-out share to be asked for"
    );
    let held_out = Options { hold_out: Some(0.4), ..ANY };
    assert_eq!(test(&held_out).unwrap().labels(), [0, 1]);
    assert_eq!(read(folder.path(), Split::Train, &held_out).unwrap().labels(), [0, 0, 1]);

    picture(&folder.path().join("test/a/1.png"), 4, 4, [1; 3]);
    assert_eq!(
        message(test(&ANY), folder.path()),
        "`TMP`: found no class `b` in `test`, expected the same classes in `train` and `test`"
    );
    picture(&folder.path().join("test/b/1.png"), 4, 4, [2; 3]);
    fs::create_dir(folder.path().join("val")).unwrap();
    let data = test(&ANY).unwrap();
    assert_eq!((data.labels(), data.image(1)[0]), (&[0, 1][..], 2));
    let note = format!("`{}`: `val` is neither `train` nor `test` and was not read", folder.path().display());
    assert_eq!(data.notes(), [note]);
    assert_eq!(
        message(test(&held_out), folder.path()),
        "`TMP`: found a `test` folder, expected none, because a held-out share was asked for"
    );
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    let train = message(read(folder.path(), Split::Train, &ANY), folder.path());
    assert_eq!(train, "`TMP`: found no `train` folder, expected one");
}

#[test]
fn a_sample_is_that_of_the_whole_and_reads_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path());
    let part = |options: Options| read(folder.path(), Split::Train, &options);
    for hold_out in [None, Some(0.4)] {
        let options = Options { hold_out, ..ANY };
        let all = part(options).unwrap();
        for count in [1, 2, 3, 9] {
            assert_eq!(part(Options { sample: Some(count), ..options }).unwrap(), all.sample(count));
        }
    }
    // The first of each class are read, the last is not.
    fs::write(folder.path().join("b/2.png"), "this is no picture").unwrap();
    assert_eq!(part(Options { sample: Some(2), ..ANY }).unwrap().labels(), [0, 1]);
    assert!(part(Options { sample: Some(4), ..ANY }).is_err());
}

#[test]
fn a_class_may_be_called_train() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["car", "train"] {
        picture(&folder.path().join(class).join("1.png"), 4, 4, [0; 3]);
    }
    assert_eq!(read(folder.path(), Split::Train, &ANY).unwrap().classes(), ["car", "train"]);
}

/// Reads `INTACT_CIFAR10`, CIFAR-10 as class folders; ignored where there is none.
#[test]
#[ignore = "needs the folder INTACT_CIFAR10"]
fn the_real_cifar10_has_its_classes_counts_and_statistics() {
    let folder = std::env::var("INTACT_CIFAR10").expect("INTACT_CIFAR10 is the folder with train/ and test/");
    let [train, test] = [Split::Train, Split::Test].map(|split| super::open(&folder, split, &ANY).unwrap());
    assert_eq!([train.len(), test.len()], [50_000, 10_000]);
    assert_eq!(train.classes().join(" "), "airplane automobile bird cat deer dog frog horse ship truck");
    for class in 0..10 {
        assert_eq!(test.labels().iter().filter(|&&label| label == class).count(), 1000);
    }
    let (mean, std) = crate::data::CIFAR10;
    let measured = Preprocessing::measure(&train);
    for c in 0..3 {
        // The folders may hold JPEG copies.
        assert!((measured.mean[c] - mean[c]).abs() < 0.002, "{measured:?}");
        assert!((measured.std[c] - std[c]).abs() < 0.002, "{measured:?}");
    }
}
