//! CIFAR-10 in its binary form, with two records a file.

use std::fs;
use std::path::Path;

use super::{DataError, Dataset, Options, Split, message, read};

const RECORD: usize = 3073;

/// Label, then red = label, green = 100 + row, blue = 200 + column.
fn record(label: u8) -> Vec<u8> {
    let pixels = (0..1024u32).map(|i| ((i / 32) as u8, (i % 32) as u8));
    let mut bytes = vec![label];
    bytes.extend([label; 1024]);
    bytes.extend(pixels.clone().map(|(row, _)| 100 + row));
    bytes.extend(pixels.map(|(_, column)| 200 + column));
    bytes
}

fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for batch in 1..=5u8 {
        fs::write(folder.join(format!("data_batch_{batch}.bin")), [record(batch), record(9)].concat()).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), record(3)).unwrap();
}

fn train(folder: &Path) -> Result<Dataset, DataError> {
    read(folder, Split::Train, &Options::default())
}

#[test]
fn planes_become_pixels_in_file_order() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("cifar-10-batches-bin"));
    // The parent of the original folder is as good as the folder itself.
    let data = train(folder.path()).unwrap();
    assert_eq!(data, train(&folder.path().join("cifar-10-batches-bin")).unwrap());
    assert_eq!((data.name(), data.height(), data.width()), ("cifar10", 32, 32));
    assert_eq!(data.labels(), [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]);
    assert_eq!((data.classes().len(), data.classes()[9].as_str()), (10, "truck"));
    let pixel = (7 * 32 + 5) * 3;
    assert_eq!(data.image(4)[pixel..pixel + 3], [3, 107, 205]);
    assert_eq!(data.notes().len(), 5, "{:?}", data.notes());
    let test = read(folder.path(), Split::Test, &Options { size: Some([16, 8]), ..Options::default() }).unwrap();
    assert_eq!((test.labels(), test.height(), test.width()), (&[3][..], 16, 8));
}

#[test]
fn names_come_from_the_meta_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let meta = folder.path().join("batches.meta.txt");
    fs::write(&meta, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    assert_eq!(train(folder.path()).unwrap().classes().concat(), "abcdefghij");
    fs::write(&meta, "a\nb\n").unwrap();
    let error = message(train(folder.path()), folder.path());
    assert_eq!(error, "`TMP/batches.meta.txt`, byte 0: found 2 class names, expected 10");
}

#[test]
fn a_truncated_file_is_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    fs::write(folder.path().join("data_batch_3.bin"), [record(1), record(2)[..100].to_vec()].concat()).unwrap();
    assert_eq!(
        message(train(folder.path()), folder.path()),
        "`TMP/data_batch_3.bin`, byte 3073: found a last record of 100 bytes (3173 in all), expected whole records of \
         3073 bytes"
    );
    fs::write(folder.path().join("data_batch_3.bin"), "").unwrap();
    assert_eq!(
        message(train(folder.path()), folder.path()),
        "`TMP/data_batch_3.bin`, byte 0: found an empty file, expected records of 3073 bytes"
    );
}

#[test]
fn a_label_above_nine_is_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let mut bytes = [record(1), record(2), record(10)].concat();
    fs::write(folder.path().join("test_batch.bin"), &bytes).unwrap();
    let test = || read(folder.path(), Split::Test, &Options::default());
    let error = message(test(), folder.path());
    assert_eq!(error, "`TMP/test_batch.bin`, byte 6146: found label 10, expected 0 to 9");
    bytes[2 * RECORD] = 9;
    fs::write(folder.path().join("test_batch.bin"), &bytes).unwrap();
    assert_eq!(test().unwrap().labels(), [1, 2, 9]);
}

#[test]
fn missing_files_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    for batch in [2, 4] {
        fs::remove_file(folder.path().join(format!("data_batch_{batch}.bin"))).unwrap();
    }
    assert_eq!(
        message(train(folder.path()), folder.path()),
        "`TMP`: found no `data_batch_2.bin`, `data_batch_4.bin`, expected the train files of CIFAR-10"
    );
    let held_out = read(folder.path(), Split::Test, &Options { hold_out: Some(0.1), ..Options::default() });
    assert_eq!(
        message(held_out, folder.path()),
        "data set `cifar10`: CIFAR-10 in its binary form has a test split, so no share can be held out"
    );
}
