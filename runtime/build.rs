//! Enters: the target triple and the core that the compiler was told of (`-Ctarget-cpu`). Leaves: `--cfg intact_dsp` for cores that
//! have the DSP instructions and a float unit, whose kernels then take the place of the portable ones, and `--cfg intact_mve` for
//! those with vector instructions too; the stable compiler has no `target_feature` that says so.

/// Cores of `thumbv8m.main-none-eabihf` with the DSP instructions. Arm leaves them to the maker of a Cortex-M33; who names the core
/// says that they are there, as the compiler takes it.
const DSP: [&str; 4] = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85"];
/// Those of them with MVE, integers and floats.
const MVE: [&str; 2] = ["cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(intact_dsp, intact_mve)");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (target, flags) = (variable("TARGET"), variable("CARGO_ENCODED_RUSTFLAGS"));
    let cpu = flags.rsplit("target-cpu=").next().filter(|_| flags.contains("target-cpu=")).unwrap_or_default();
    let cpu = cpu.split('\u{1f}').next().unwrap_or_default();
    let main = target == "thumbv8m.main-none-eabihf";
    if target == "thumbv7em-none-eabihf" || main && DSP.contains(&cpu) {
        println!("cargo:rustc-cfg=intact_dsp");
    }
    if main && MVE.contains(&cpu) {
        println!("cargo:rustc-cfg=intact_mve");
    }
}
