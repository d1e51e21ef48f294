//! scratch
mod sample;
use firmware_sim::*;
use std::ops::ControlFlow;
#[test]
fn first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.intact");
    std::fs::write(&path, sample::image(1)).unwrap();
    for tc in [None, Some("/usr/bin")] {
        let cache = std::path::PathBuf::from(format!("/tmp/t-fw-firmware{}", if tc.is_some() {"-deb"} else {""}));
        let toolchain = tc.map(|f| Toolchain::in_folder(std::path::Path::new(f), "thumbv7em-none-eabihf").unwrap());
        let options = BuildOptions { cache: Some(cache), toolchain };
        for p in [Placement::Emulator, Placement::Board, Placement::Emulator] {
            let t = std::time::Instant::now();
            let f = Firmware::build(&path, &Board::load("stm32f446re").unwrap(), p, &options).unwrap_or_else(|e| panic!("{e}"));
            println!("{:?} {:?}", t.elapsed(), f.sections());
            println!("{}", f.verdict());
            if p == Placement::Emulator {
                let t = std::time::Instant::now();
                let r = f.run(&sample::pictures(3, 3), &RunOptions { count: true, count_ops: true, ..Default::default() }, |d| {println!("{d}"); ControlFlow::Continue(())}).unwrap_or_else(|e| panic!("{e}"));
                println!("{:?} {r:?}", t.elapsed());
            }
        }
    }
}
