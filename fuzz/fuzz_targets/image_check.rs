//! Bytes from anywhere as a flash image, as they are and with a true checksum: refused, or printed and run by kernels
//! that agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::{image::seal, testing::exercise};

fuzz_target!(|bytes: &[u8]| {
    let _ = exercise(bytes);
    let mut sealed = bytes.to_vec();
    if seal(&mut sealed).is_ok() {
        let _ = exercise(&sealed);
    }
});
