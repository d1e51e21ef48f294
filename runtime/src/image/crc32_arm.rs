//! CRC-32 by the instruction that 64-bit Arm cores have for it, eight bytes at once. Enters: a remainder and bytes. Leaves: the
//! remainder with them. Refused: cores without the instruction, by `None`.
#![allow(unsafe_code, reason = "an instruction that not every core has")]

use core::arch::aarch64::__crc32d;

/// The remainder `crc` with `eights` behind it.
pub(super) fn update(crc: u32, eights: &[[u8; 8]]) -> Option<u32> {
    // SAFETY: the core has the instruction.
    std::arch::is_aarch64_feature_detected!("crc").then(|| unsafe { by_instruction(crc, eights) })
}

#[target_feature(enable = "crc")]
fn by_instruction(crc: u32, eights: &[[u8; 8]]) -> u32 {
    eights.iter().fold(crc, |crc, eight| __crc32d(crc, u64::from_le_bytes(*eight)))
}
