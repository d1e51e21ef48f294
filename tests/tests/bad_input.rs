//! Whatever a person can get wrong ends in a clear error and the right exit code, never in a panic. Every case names what the
//! message must say: the file, the place, what was found, what was expected.

use intact_tests::command::intact;
use intact_tests::fixture;
use std::fs;
use std::path::Path;

/// `folder/name` as text.
fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

#[test]
fn a_missing_data_folder_is_named() {
    let model = fixture::checkpoint();
    intact(&["export", &model, "--data", "no/such/folder", "--out", &path(fixture::folder(), "unused")])
        .expect(2)
        .complains(&["no/such/folder"]);
}

#[test]
fn a_truncated_cifar_file_is_named_with_its_length() {
    let folder = tempfile::tempdir().unwrap();
    for batch in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        fs::write(folder.path().join(format!("{batch}.bin")), vec![1; 3073 * 2]).unwrap();
    }
    fs::write(folder.path().join("data_batch_3.bin"), vec![1; 3073 + 100]).unwrap();
    let data = path(folder.path(), "");
    intact(&["export", &fixture::checkpoint(), "--data", &data, "--out", &path(folder.path(), "out")])
        .expect(2)
        .complains(&["data_batch_3.bin", "3173"]);
}

#[test]
fn one_unreadable_jpeg_is_named() {
    let folder = fixture::class_folders(4);
    let bad = folder.path().join("train/cat/broken.jpg");
    fs::write(&bad, b"\xff\xd8\xff this is no jpeg").unwrap();
    let data = path(folder.path(), "");
    intact(&["export", &fixture::checkpoint(), "--data", &data, "--out", &path(folder.path(), "out")])
        .expect(2)
        .complains(&["broken.jpg"]);
}

#[test]
fn a_truncated_flash_image_is_refused_at_every_length() {
    let image = fs::read(fixture::image()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = path(folder.path(), "cut.intact");
    for length in [0, 1, 7, 40, 159, image.len() / 2, image.len() - 1] {
        fs::write(&cut, &image[..length]).unwrap();
        intact(&["inspect", &cut]).expect(2).complains(&["cut.intact"]);
    }
}

#[test]
fn a_time_without_end_is_refused() {
    for seconds in ["nan", "inf", "-1", "soon"] {
        intact(&["bench", &fixture::image(), "--gain", "--seconds", seconds])
            .expect(2)
            .complains(&["--seconds", seconds]);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_flash_image_is_refused() {
    let image = fs::read(fixture::image()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let flipped = path(folder.path(), "flipped.intact");
    for place in [0, 9, 17, 30, 200, image.len() / 2, image.len() - 1] {
        let mut bytes = image.clone();
        bytes[place] ^= 0x10;
        fs::write(&flipped, &bytes).unwrap();
        intact(&["bench", &flipped]).expect(2).complains(&["flipped.intact"]);
    }
}

#[test]
fn a_foreign_file_is_no_flash_image() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = path(folder.path(), "foreign.intact");
    fs::write(&foreign, b"\x89PNG\r\n\x1a\n and some more bytes that are not a flash image".repeat(20)).unwrap();
    intact(&["run", &foreign, "picture.png"]).expect(2).complains(&["foreign.intact"]);
}

#[test]
fn unsupported_onnx_ops_are_all_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = path(folder.path(), "exotic.onnx");
    fs::write(&model, fixture::onnx_with_unsupported_ops()).unwrap();
    intact(&["export", &model, "--out", &path(folder.path(), "out")]).expect(2).complains(&[
        "exotic.onnx",
        "Einsum",
        "first_exotic",
        "Det",
        "second_exotic",
    ]);
}

#[test]
fn a_truncated_onnx_file_is_refused() {
    let onnx = fs::read(fixture::onnx()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = path(folder.path(), "cut.onnx");
    fs::write(&cut, &onnx[..onnx.len() / 2]).unwrap();
    intact(&["inspect", &cut]).expect(2).complains(&["cut.onnx"]);
}

#[test]
fn an_unreadable_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let picture = path(folder.path(), "broken.png");
    fs::write(&picture, b"\x89PNG\r\n\x1a\n").unwrap();
    intact(&["run", &fixture::image(), &picture]).expect(2).complains(&["broken.png"]);
}

#[test]
fn data_of_another_number_of_classes_is_refused() {
    let folder = fixture::class_folders(3);
    let data = path(folder.path(), "");
    intact(&["gap", &fixture::checkpoint(), "--data", &data, "--no-emulator"])
        .expect(2)
        .complains(&["2 classes", "10"]);
}

#[test]
fn an_unknown_board_is_refused_with_those_there_are() {
    intact(&["sim", &fixture::image(), "--board", "stm32f4446"]).expect(2).complains(&["stm32f4446", "mps2-an386"]);
}

#[test]
fn a_board_file_with_an_unknown_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let board = path(folder.path(), "mine.toml");
    fs::write(&board, "name = \"mine\"\nflsh = 12\n").unwrap();
    intact(&["sim", &fixture::image(), "--board", &board]).expect(2).complains(&["mine.toml", "flsh"]);
}

#[test]
fn a_model_too_large_for_its_board_is_refused_with_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let board = path(folder.path(), "tiny.toml");
    fs::write(
        &board,
        "name = \"tiny\"\ndescription = \"a board for a test\"\ncpu = \"cortex-m4\"\ntarget = \"thumbv7em-none-eabihf\"\n\
         stack = 2048\nemulated_by = \"mps2-an386\"\n[flash]\norigin = 0\nlength = 65536\n[ram]\norigin = 0x20000000\nlength = 8192\n",
    )
    .unwrap();
    let ran = intact(&["sim", &fixture::image(), "--board", &board]).expect(1);
    for part in ["does NOT fit", "RAM", "TOO MANY", "arena"] {
        assert!(ran.stdout.contains(part), "no `{part}` in\n{}", ran.stdout);
    }
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "weights.safetensors");
    fs::write(&file, [255; 64]).unwrap();
    intact(&["inspect", &file]).expect(2).complains(&["weights.safetensors"]);
}

#[test]
fn an_unknown_precision_is_refused() {
    intact(&["export", &fixture::checkpoint(), "--bits", "w9a8"]).expect(2).complains(&["w9a8", "w8a8"]);
}

#[test]
fn a_gap_over_its_limit_is_exit_code_one() {
    // No integer model gains a hundred points on its float one.
    intact(&["gap", &fixture::checkpoint(), "--images", "20", "--no-emulator", "--max-drop=-100"]).expect(1);
}
