//! Enters: the target triple and the core that the compiler was told of (`-Ctarget-cpu`). Leaves: `--cfg intact_cortex_m` for
//! cores whose own kernels take the place of the portable ones: those that have the DSP instructions and a float unit (`intact_dsp`),
//! those with vector instructions (`intact_mve`), and those with neither (`intact_thumb`), of which some multiply and
//! add in one instruction (`intact_mla`). The stable compiler has no `target_feature` that says so.

/// Cores of `thumbv8m.main-none-eabihf` with the DSP instructions. Arm leaves them to the maker of a Cortex-M33; who names the core
/// says that they are there, as the compiler takes it.
const DSP: [&str; 4] = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85"];
/// Those of them with MVE, integers and floats.
const MVE: [&str; 2] = ["cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(intact_cortex_m, intact_dsp, intact_mve, intact_thumb, intact_mla)");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (target, flags) = (variable("TARGET"), variable("CARGO_ENCODED_RUSTFLAGS"));
    let cpu = flags.rsplit("target-cpu=").next().filter(|_| flags.contains("target-cpu=")).unwrap_or_default();
    let cpu = cpu.split('\u{1f}').next().unwrap_or_default();
    let main = target == "thumbv8m.main-none-eabihf";
    let mve = main && MVE.contains(&cpu);
    let dsp = target == "thumbv7em-none-eabihf" || main && DSP.contains(&cpu);
    let mla = target == "thumbv7m-none-eabi";
    let thumb = mla || target == "thumbv6m-none-eabi";
    for (name, there) in [
        ("intact_cortex_m", dsp || thumb),
        ("intact_dsp", dsp && !mve),
        ("intact_mve", mve),
        ("intact_thumb", thumb),
        ("intact_mla", mla),
    ] {
        if there {
            println!("cargo:rustc-cfg={name}");
        }
    }
}
