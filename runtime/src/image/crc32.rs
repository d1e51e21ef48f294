//! CRC-32 as in IEEE 802.3, PNG and zip: polynomial 0xEDB88320 (reflected), start and final XOR all ones. Enters:
//! bytes. Leaves: their checksum. A table of 16 words, so that it costs 64 bytes of flash; where flash does not matter, 8 KB of tables
//! that take eight bytes at once.

/// `TABLE[n]` is the remainder of the nibble `n`.
const TABLE: [u32; 16] = {
    let mut table = [0u32; 16];
    let mut n = 0;
    while n < 16 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

/// `TABLES[k][n]` is the remainder of the byte `n` with `k` bytes of 0 behind it.
#[cfg(any(test, feature = "std"))]
static TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0u32; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut k = 0;
        while k < 8 {
            crc = (crc >> 4) ^ TABLE[(crc & 15) as usize];
            crc = (crc >> 4) ^ TABLE[(crc & 15) as usize];
            tables[k][n] = crc;
            k += 1;
        }
        n += 1;
    }
    tables
};

/// A checksum in the making.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Crc32 {
    /// Of nothing so far.
    pub const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Appends `bytes`.
    #[cfg(any(test, feature = "std"))]
    pub fn update(mut self, bytes: &[u8]) -> Self {
        let (eights, rest) = bytes.as_chunks();
        #[cfg(target_arch = "aarch64")]
        if let Some(crc) = super::crc32_arm::update(self.0, eights) {
            return Self(crc).by_nibbles(rest);
        }
        for &eight in eights {
            let [a, b, c, d, e, f, g, h] =
                (u64::from_le_bytes(eight) ^ u64::from(self.0)).to_le_bytes().map(usize::from);
            let [zero, one, two, three, four, five, six, seven] = &TABLES;
            self.0 = seven[a] ^ six[b] ^ five[c] ^ four[d] ^ three[e] ^ two[f] ^ one[g] ^ zero[h];
        }
        self.by_nibbles(rest)
    }

    /// Appends `bytes`.
    #[cfg(not(any(test, feature = "std")))]
    #[inline(always)]
    pub fn update(self, bytes: &[u8]) -> Self {
        self.by_nibbles(bytes)
    }

    const fn by_nibbles(mut self, bytes: &[u8]) -> Self {
        let mut i = 0;
        while i < bytes.len() {
            self.0 ^= bytes[i] as u32;
            self.0 = (self.0 >> 4) ^ TABLE[(self.0 & 15) as usize];
            self.0 = (self.0 >> 4) ^ TABLE[(self.0 & 15) as usize];
            i += 1;
        }
        self
    }

    /// The checksum of all that was appended.
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    Crc32::new().update(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogued_check_values() {
        // The catalogue's check value, and the checksum of the empty IEND chunk that ends every PNG file.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b"IEND"), 0xAE42_6082);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn pieces_equal_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in [0, 1, 7, 255, 256] {
            assert_eq!(Crc32::new().update(&bytes[..cut]).update(&bytes[cut..]).finish(), crc32(&bytes));
            assert_eq!(Crc32::new().update(&bytes[cut..]).finish(), Crc32::new().by_nibbles(&bytes[cut..]).finish());
        }
    }
}
