//! Enters: the environment variables `INTACT_IMAGE` (a flash image) and `INTACT_MEMORY` (the board's part of the linker
//! script). Leaves: a copy of each where compiler and linker look for it, and the sizes that the image asks for as constants.
//! Refused: a missing variable, an unreadable file, an unsound image.

use runtime::image::Image;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let bytes = input("INTACT_IMAGE", "the path of a flash image (model.intact)");
    let bytes = runtime::host::portable(&bytes).unwrap_or_else(|e| panic!("INTACT_IMAGE: {e}"));
    let image = Image::check(&bytes).unwrap_or_else(|e| panic!("INTACT_IMAGE: {e}"));
    let needed = image.ops().flat_map(|op| runtime::kernels::linked::parts(&op)).flatten();
    if let Some(part) = needed.into_iter().find(|part| !runtime::kernels::linked::linked(part)) {
        panic!("INTACT_OPS: it lacks `{part}`, which the image needs");
    }
    let constants = format!(
        "/// Bytes of the arena.\npub const ARENA_BYTES: usize = {};\n\
         /// Bytes of one picture.\npub const PIXEL_BYTES: usize = {};\n\
         /// Bytes of the image.\npub const IMAGE_BYTES: usize = {};\n\
         /// CRC-32 of the image, which has been checked.\npub const IMAGE_CRC: u32 = {};\n",
        image.arena_bytes(),
        image.input().shape().iter().product::<usize>(),
        bytes.len(),
        image.crc()
    );
    write(&out.join("sizes.rs"), constants.as_bytes());
    write(&out.join("model.intact"), &bytes);
    write(&out.join("memory.x"), &input("INTACT_MEMORY", "the path of a memory.x for the board"));
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=build.rs");
}

/// The file that a variable names.
fn input(variable: &str, meaning: &str) -> Vec<u8> {
    println!("cargo:rerun-if-env-changed={variable}");
    let path = env::var(variable).unwrap_or_else(|_| panic!("set {variable} to {meaning}"));
    println!("cargo:rerun-if-changed={path}");
    fs::read(&path).unwrap_or_else(|e| panic!("{variable}: {path}: {e}"))
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
