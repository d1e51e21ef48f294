//! `intact run` on files, folders and frames, and `intact inspect --memory`, on the small network of the fixture.

use intact_tests::command::{intact, intact_reading};
use intact_tests::fixture;
use runtime::{Image, Session};
use std::fs;

/// What the plain kernels make of pixels: the class, and its stored logit.
fn expected(pixels: &[u8]) -> (String, i32) {
    let bytes = fs::read(fixture::image()).unwrap();
    let image = Image::check(&bytes).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap().with_kernels(runtime::Kernels::Reference);
    let output = session.run_pixels(pixels).unwrap();
    let class = output.argmax();
    (image.label(class).unwrap().to_owned(), output.integer(class))
}

#[test]
fn a_file_gets_its_best_classes() {
    let folder = fixture::class_folders(1);
    let file = folder.path().join("test/cat/0.png");
    let (label, stored) = expected(&exporter::data::read_image(&file, 32, 32).unwrap());
    let ran = intact(&["run", &fixture::image(), file.to_str().unwrap(), "--top", "3"]).expect(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.stdout);
    assert_eq!(lines[0], file.to_str().unwrap());
    assert!(lines[1].trim().starts_with(&label) && lines[1].ends_with(&format!("stored {stored}")), "{}", ran.stdout);
}

/// With weights packed for every executor of this machine `run` and `bench` take them from the image, and say so; `inspect` says whether
/// they are those of the image.
#[test]
fn packed_weights_are_used_and_named() {
    let pictures = fixture::class_folders(1);
    let picture = pictures.path().join("test/cat/0.png");
    let plain = fs::read(fixture::image()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.intact");
    let name = path.to_str().unwrap();
    let mut packed =
        exporter::image::pack(&plain, &["x86", "amx", "pi4", "pi5", "i8mm"].map(|t| t.parse().unwrap())).unwrap();
    fs::write(&path, &packed).unwrap();
    let run = |image: &str| intact(&["run", image, picture.to_str().unwrap(), "--verbose"]).expect(0);
    let (with, without) = (run(name), run(&fixture::image()));
    assert_eq!(with.stdout, without.stdout);
    assert!(with.stderr.contains(" kernels, weights packed for them in the image"), "{}", with.stderr);
    assert!(without.stderr.contains(" kernels, weights packed on loading, "), "{}", without.stderr);
    let bench = |image: &str| intact(&["bench", image, "--seconds", "0.01"]).expect(0).stdout;
    assert!(bench(name).contains(" kernels, weights packed for them in the image\n"));
    assert!(bench(&fixture::image()).contains(" kernels, weights packed on loading, "));
    let inspected = intact(&["inspect", name]).expect(0).stdout;
    for line in [
        "weights packed for packed and avx2 ",
        "weights packed for dotprod ",
        "packed weights are those of the image\n",
    ] {
        assert!(inspected.contains(line), "{inspected}");
    }
    // A byte among the last rows, of `i8mm`.
    let last = packed.len() - 16 - 6 * 16 - 1;
    packed[last] ^= 1;
    runtime::image::seal(&mut packed).unwrap();
    fs::write(&path, &packed).unwrap();
    let inspected = intact(&["inspect", name]).expect(1).stdout;
    assert!(inspected.contains("packed weights are NOT those of the image"), "{inspected}");
}

#[test]
fn what_threads_gain_is_told_for_both() {
    let image = fixture::image();
    let gain = intact(&["bench", &image, "--gain", "--threads", "2", "--seconds", "0.01"]).expect(0).stdout;
    for part in [" turns of 40 runs each, ", "\none thread: median ", "\nup to 2 threads: median ", "\ngain: median "] {
        assert!(gain.contains(part), "{part}: {gain}");
    }
}

#[test]
fn a_folder_gets_a_line_for_each_picture_and_a_summary() {
    let folder = fixture::class_folders(3);
    let cats = folder.path().join("test");
    fs::write(cats.join("notes.txt"), "no picture").unwrap();
    let ran = intact(&["run", &fixture::image(), cats.to_str().unwrap()]).expect(0);
    let (lines, summary) = ran.stdout.split_once("\n\n").unwrap();
    assert_eq!(lines.lines().count(), 6, "{}", ran.stdout);
    for line in lines.lines() {
        let file = line.split("  ").next().unwrap();
        let (label, stored) = expected(&exporter::data::read_image(file.as_ref(), 32, 32).unwrap());
        assert!(line.contains(&format!("  {label}  ")) && line.ends_with(&format!("stored {stored}")), "{line}");
    }
    assert!(summary.starts_with(&format!("{}: 6 pictures, 0 unreadable\n", cats.display())), "{summary}");
}

#[test]
fn a_folder_named_like_a_class_is_scored() {
    let folder = fixture::class_folders(2);
    let picture = folder.path().join("test/cat/0.png");
    let (label, _) = expected(&exporter::data::read_image(&picture, 32, 32).unwrap());
    let scored = tempfile::tempdir().unwrap();
    fs::create_dir(scored.path().join(&label)).unwrap();
    fs::copy(&picture, scored.path().join(&label).join("0.png")).unwrap();
    let ran = intact(&["run", &fixture::image(), scored.path().to_str().unwrap()]).expect(0);
    assert!(ran.stdout.contains("top-1 100.00 %: 1 of 1"), "{}", ran.stdout);
}

#[test]
fn an_unreadable_picture_of_a_folder_is_named_and_the_others_are_run() {
    let folder = fixture::class_folders(2);
    fs::write(folder.path().join("test/dog/broken.jpg"), b"\xff\xd8\xff no jpeg").unwrap();
    let ran = intact(&["run", &fixture::image(), folder.path().join("test").to_str().unwrap()]).expect(1);
    let ran = ran.complains(&["broken.jpg"]);
    assert!(ran.stdout.contains(": 4 pictures, 1 unreadable"), "{}", ran.stdout);
    let empty = tempfile::tempdir().unwrap();
    intact(&["run", &fixture::image(), empty.path().to_str().unwrap()])
        .expect(2)
        .complains(&["no .png, .jpg or .jpeg"]);
}

#[test]
fn frames_from_stdin_get_a_line_each() {
    let frames: Vec<u8> = (0..3 * 32 * 32 * 3).map(|i| (i * 7 / 3 % 251) as u8).collect();
    let ran = intact_reading(&["run", &fixture::image(), "--frames"], &frames).expect(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    for (i, (line, frame)) in lines.iter().zip(frames.chunks(32 * 32 * 3)).enumerate() {
        let (label, stored) = expected(frame);
        assert!(
            line.starts_with(&format!("frame {i}  {label}  ")) && line.ends_with(&format!("stored {stored}")),
            "{line}"
        );
    }
    intact_reading(&["run", &fixture::image(), "--frames"], &frames[..4000])
        .expect(2)
        .complains(&["stdin: frame 1 ends after 928 bytes, expected 3072 (32 x 32 x 3)"]);
    assert_eq!(intact_reading(&["run", &fixture::image(), "--frames"], &[]).expect(0).stdout, "");
}

#[test]
fn the_arena_is_drawn_op_by_op() {
    let bytes = fs::read(fixture::image()).unwrap();
    let image = Image::check(&bytes).unwrap();
    let ran = intact(&["inspect", &fixture::image(), "--memory"]).expect(0);
    let bars: Vec<&str> = ran.stdout.lines().filter_map(|line| line.split('|').nth(1)).collect();
    assert_eq!(bars.len(), image.ops().len(), "{}", ran.stdout);
    assert!(bars.iter().all(|bar| bar.chars().count() == 64), "{}", ran.stdout);
    for (bar, op) in bars.iter().zip(image.ops()) {
        // The characters in which the output begins and ends.
        let range = op.output().range();
        for byte in [range.start, range.end - 1] {
            let cell = bar.as_bytes()[byte * 64 / image.arena_bytes()];
            assert!(cell == b'w' || cell == b'x', "{}: {bar}", op.name());
        }
    }
    assert!(ran.stdout.contains(" peak"), "{}", ran.stdout);
    intact(&["inspect", &fixture::checkpoint(), "--memory"]).expect(2).complains(&["--memory", "flash image"]);
}
