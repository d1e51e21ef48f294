//! Enters: the target triple. Leaves: `--cfg intact_dsp` for cores that have the DSP instructions and a float unit, whose
//! kernels then take the place of the portable ones; the stable compiler has no `target_feature` that says so.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(intact_dsp)");
    if std::env::var("TARGET").is_ok_and(|target| target == "thumbv7em-none-eabihf") {
        println!("cargo:rustc-cfg=intact_dsp");
    }
}
