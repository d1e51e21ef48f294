//! What cannot work is refused early, with the numbers.

use crate::{build, build_with, expect, run, sample, wanted};
use firmware_sim::{Board, BuildOptions, Error, Placement, RunOptions};
use object::{Object, ObjectSection};

#[test]
fn a_model_too_large_is_refused_before_anything_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let options = BuildOptions { cache: Some(cache.clone()), ..BuildOptions::default() };
    // 2 * 192 * 192 * 3 bytes of arena: more than 128 KiB and less than 4 MiB.
    let error = build_with(&sample::large(192), "stm32f446re", Placement::Emulator, &options).unwrap_err();
    assert!(matches!(&error, Error::TooLarge(v) if v.flash.fits() && !v.ram.fits()), "{error}");
    let text = error.to_string();
    let needed = 3 * 192 * 192 * 3 + 8192 + 64 + 256;
    let expected =
        format!("RAM      {needed} of    131072 bytes, {} TOO MANY: arena 221184, pixels 110592", needed - 131_072);
    assert!(text.starts_with("board stm32f446re: does NOT fit\n") && text.contains(&expected), "{text}");
    assert!(!cache.exists());
}

#[test]
fn a_damaged_image_is_refused_with_its_name() {
    let mut image = runtime::testing::zoo();
    *image.last_mut().unwrap() ^= 1;
    let text = build(&image, "nrf52840", Placement::Board).unwrap_err().to_string();
    assert!(text.contains("model.intact: ") && text.contains("CRC"), "{text}");
}

#[test]
fn programs_lie_where_board_and_placement_say() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    for (name, placement) in [
        ("stm32f446re", Placement::Board),
        ("stm32f446re", Placement::Emulator),
        ("nrf52840", Placement::Board),
        ("mps2-an386", Placement::Board),
    ] {
        let board = Board::load(name).unwrap();
        let firmware = expect(build(&image, name, placement));
        assert!(firmware.verdict().fits());
        let program = std::fs::read(firmware.program()).unwrap();
        let vectors = object::File::parse(&*program).unwrap().section_by_name(".vector_table").unwrap().address();
        let expected = if placement == Placement::Board { board.flash } else { board.emulated().unwrap().0.flash };
        assert_eq!(vectors, u64::from(expected.origin), "{name} {placement:?}");
        // What was linked for other addresses than the emulator's cannot be emulated.
        let result = run(&firmware, &sample::pictures(&image, 1), &RunOptions::default());
        match (name, placement) {
            ("mps2-an386", _) | (_, Placement::Emulator) => drop(expect(result)),
            _ => assert_eq!(
                result.unwrap_err().to_string(),
                format!("board `{name}` cannot be emulated: the program is linked for the board's own addresses")
            ),
        }
    }
}

#[test]
fn pictures_of_another_size_are_refused_and_none_are_fine() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let firmware = expect(build(&image, "stm32f446re", Placement::Emulator));
    let mut pictures = sample::pictures(&image, 3);
    pictures[2].pop();
    let error = run(&firmware, &pictures, &RunOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "picture 2 has 215 bytes, the network takes 216 (height x width x channels)");
    let report = expect(run(&firmware, &[], &RunOptions::default()));
    assert!(report.inferences.is_empty() && report.stack_used > 0);
}
