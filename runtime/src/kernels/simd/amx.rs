//! Intel AMX (Sapphire Rapids and later): `tdpbusd` multiplies 16 pixels of up to 64 bytes with as many weights for 16 channels
//! at once, into exact 32-bit sums. Enters: staged inputs and packed rows. Leaves: sums in memory. Refuses, by not being
//! detected, systems that do not let a process use tile registers.
//!
//! Rust has no stable intrinsics for tiles, so they are written as assembly. No other code of the process touches them.
#![allow(unsafe_code, reason = "instructions of one instruction set, and the memory they read and write")]

use super::{CHUNK, Constants, Ends, Kernel, LANES, Packing, Row, Simd, avx512vnni::Avx512Vnni, packing::TILE};
use core::{
    arch::{asm, x86_64::*},
    cell::Cell,
    marker::PhantomData,
};

/// Proof that the core has AMX for bytes beside AVX-512 VNNI, and that the system lets this process use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amx(Avx512Vnni);

impl Amx {
    /// The instruction set, if core and system have it. Asks the system for permission, for the whole process.
    pub(crate) fn detect() -> Option<Self> {
        let simd = Avx512Vnni::detect()?;
        (has_tiles() && permitted()).then_some(Self(simd))
    }
}

std::thread_local! {
    /// Pixels and rows of weights that the tile registers of this thread are set up for.
    static SHAPE: Cell<Option<[usize; 2]>> = const { Cell::new(None) };
}

/// The tile registers of a thread. Setting them up takes as long as some products, so that they stay as they are from op to op, until this
/// is dropped. Another one of the same thread, as of a network that an observer runs, sets them up for itself, and leaves none.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    /// Another thread has others.
    here: PhantomData<*const ()>,
}

impl Registers {
    /// Sets up tiles for `pixels` pixels and `rows` rows of weights, each `1 ..= TILE`.
    pub(crate) fn configure(&mut self, _: Amx, pixels: usize, rows: usize) -> Tiles<'_> {
        assert!((1..=TILE).contains(&pixels) && (1..=TILE).contains(&rows));
        let tiles = Tiles { pixels, rows, registers: PhantomData };
        if SHAPE.replace(Some([pixels, rows])) == Some([pixels, rows]) {
            return tiles;
        }
        let mut config = Config { bytes: [0; 64] };
        config.bytes[0] = 1;
        // Sums, inputs, weights: rows, and bytes in a row.
        let shapes = [(pixels, 64); 4].into_iter().chain([(pixels, 4 * rows); 2]).chain([(rows, 64); 2]);
        for (tile, (rows, bytes)) in shapes.enumerate() {
            config.bytes[16 + 2 * tile] = bytes as u8;
            config.bytes[48 + tile] = rows as u8;
        }
        // SAFETY: the core has AMX, of which there is proof; the configuration is a sound one of palette 1, and 64 bytes long.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags)) };
        tiles
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        if SHAPE.take().is_some() {
            // SAFETY: they were set up, so that the core has AMX. Tiles hold nothing that is still needed.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }
}

#[repr(C, align(64))]
struct Config {
    bytes: [u8; 64],
}

/// Tile registers that are set up. While a kernel has them it calls nothing that sets up others.
#[derive(Debug)]
pub(crate) struct Tiles<'r> {
    pixels: usize,
    rows: usize,
    registers: PhantomData<&'r mut Registers>,
}

/// Sums of a tile of pixels, for one block of channels.
pub(crate) type Sums = [[i32; LANES]; TILE];

/// The factors of one product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    /// From the first pixel on.
    pub(crate) x: &'a [u8],
    /// Bytes between two pixels.
    pub(crate) step: usize,
    /// Where behind a pixel's first byte the inputs of each group of rows start.
    pub(crate) offsets: &'a [usize],
    /// Groups of rows one after the other, `width` blocks side by side.
    pub(crate) weights: &'a [Row],
    pub(crate) width: usize,
    /// The first block of two, or of one at the end.
    pub(crate) block: usize,
    pub(crate) bias: &'a [[i32; LANES]],
}

impl Tiles<'_> {
    /// Pixels of a product.
    pub(crate) const fn pixels(&self) -> usize {
        self.pixels
    }

    /// `sums[b][p] = bias + sum x * weights` for blocks `block` and, if there is one, `block + 1`. Returns how many they are.
    ///
    /// # Panics
    /// When inputs, weights or biases are not all there.
    #[inline(always)]
    pub(crate) fn product(&self, factors: &Product, sums: &mut [Sums; 2]) -> usize {
        let Product { x, step, offsets, weights, width, block, bias } = *factors;
        let last = offsets.iter().copied().max().expect("a group of rows");
        assert!((self.pixels - 1) * step + last + 4 * self.rows <= x.len());
        assert!(block < width && bias.len() == width && weights.len() >= offsets.len() * self.rows * width);
        let bias = bias[block..].as_ptr();
        let weights_start = weights[block..].as_ptr();
        let (row, group) = (width * size_of::<Row>(), self.rows * width * size_of::<Row>());
        if block + 1 < width {
            // SAFETY: the core has AMX, and tiles are configured as long as `self` is there. Tiles 0 and 1 are filled from one
            // bias each (the same for each pixel); then for each offset tile 4 from `pixels` rows of `4 * rows` bytes of `x`
            // and tiles 6 and 7 from `rows` rows of 64 bytes of weights, all of which were asserted to be there; `pixels`
            // rows of 64 bytes go to sums that hold 16.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{bias} + {zero}]",
                    "tileloadd tmm1, [{bias} + {zero} + 64]",
                    "2:",
                    "mov {at}, [{offsets}]",
                    "add {at}, {x}",
                    "tileloadd tmm4, [{at} + {step}]",
                    "tileloadd tmm6, [{weights} + {row}]",
                    "tdpbusd tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{weights} + {row} + 64]",
                    "tdpbusd tmm1, tmm4, tmm7",
                    "add {weights}, {group}",
                    "add {offsets}, 8",
                    "cmp {offsets}, {end}",
                    "jne 2b",
                    "mov {at:e}, 64",
                    "tilestored [{sums} + {at}], tmm0",
                    "tilestored [{sums} + {at} + 1024], tmm1",
                    bias = in(reg) bias, zero = in(reg) 0usize, x = in(reg) x.as_ptr(), step = in(reg) step,
                    offsets = inout(reg) offsets.as_ptr() => _, end = in(reg) offsets.as_ptr_range().end,
                    weights = inout(reg) weights_start => _, row = in(reg) row, group = in(reg) group,
                    sums = in(reg) sums.as_mut_ptr(), at = out(reg) _,
                    options(nostack),
                );
            }
            2
        } else {
            // SAFETY: as above, with one block of weights and sums.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{bias} + {zero}]",
                    "2:",
                    "mov {at}, [{offsets}]",
                    "add {at}, {x}",
                    "tileloadd tmm4, [{at} + {step}]",
                    "tileloadd tmm6, [{weights} + {row}]",
                    "tdpbusd tmm0, tmm4, tmm6",
                    "add {weights}, {group}",
                    "add {offsets}, 8",
                    "cmp {offsets}, {end}",
                    "jne 2b",
                    "mov {at:e}, 64",
                    "tilestored [{sums} + {at}], tmm0",
                    bias = in(reg) bias, zero = in(reg) 0usize, x = in(reg) x.as_ptr(), step = in(reg) step,
                    offsets = inout(reg) offsets.as_ptr() => _, end = in(reg) offsets.as_ptr_range().end,
                    weights = inout(reg) weights_start => _, row = in(reg) row, group = in(reg) group,
                    sums = in(reg) sums.as_mut_ptr(), at = out(reg) _,
                    options(nostack),
                );
            }
            1
        }
    }
}

/// Whether core and system know of tiles of bytes (CPUID leaf 7, XCR0 bits 17 and 18).
fn has_tiles() -> bool {
    const TILE_AND_INT8: u32 = 0b11 << 24;
    const STATE: u64 = 0b11 << 17;
    if !is_x86_feature_detected!("xsave") || __cpuid(0).eax < 7 {
        return false;
    }
    // SAFETY: the core has `xgetbv`.
    __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8 && unsafe { _xgetbv(0) } & STATE == STATE
}

/// Asks Linux to let this process use tile registers: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    let result: isize;
    // SAFETY: a system call that reads and writes no memory of this process.
    unsafe {
        asm!(
            "syscall", inout("rax") 158isize => result, in("rdi") 0x1023, in("rsi") 18,
            out("rcx") _, out("r11") _, options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

impl Simd for Amx {
    type Lanes = __m512i;

    const PACKING: Packing = Packing::Tiles;
    const SUMS: usize = Avx512Vnni::SUMS;

    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        struct Through<K>(Amx, K);
        impl<K: Kernel> Kernel for Through<K> {
            type Output = K::Output;

            #[inline(always)]
            fn run<V: Simd>(self, _: V) -> K::Output {
                self.1.run(self.0)
            }
        }
        self.0.vectorize(Through(self, kernel))
    }

    #[inline(always)]
    fn matrix(self) -> Option<Self> {
        Some(self)
    }

    #[inline(always)]
    fn load(self, values: &[i32; LANES]) -> __m512i {
        self.0.load(values)
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, x: [u8; 4], weights: &Row) -> __m512i {
        self.0.dot(acc, x, weights)
    }

    #[inline(always)]
    fn dot_each(self, acc: __m512i, x: &[u8; 64], weights: &Row) -> __m512i {
        self.0.dot_each(acc, x, weights)
    }

    #[inline(always)]
    fn requantize<const FULL: bool>(self, acc: __m512i, multipliers: &[f32; LANES], ends: Ends) -> [u8; LANES] {
        self.0.requantize::<FULL>(acc, multipliers, ends)
    }

    #[inline(always)]
    fn requantize_four<const FULL: bool>(
        self,
        acc: [__m512i; 4],
        multipliers: &[f32; LANES],
        ends: Ends,
    ) -> [[u8; LANES]; 4] {
        self.0.requantize_four::<FULL>(acc, multipliers, ends)
    }

    #[inline(always)]
    fn interleave_chunk(self, rows: [&[u8; 64]; 4], line: &mut [[u8; 4]]) {
        self.0.interleave_chunk(rows, line);
    }

    #[inline(always)]
    fn fetch<const WRITTEN: bool>(self, bytes: &[u8]) {
        self.0.fetch::<WRITTEN>(bytes);
    }

    #[inline(always)]
    fn add(self, a: &[u8; CHUNK], b: &[u8; CHUNK], constants: &Constants) -> [u8; CHUNK] {
        self.0.add(a, b, constants)
    }
}

/// Whether the tile registers of this thread are as they are when nothing uses them.
#[cfg(test)]
pub(crate) fn are_released() -> bool {
    if Amx::detect().is_none() {
        return true;
    }
    let mut config = Config { bytes: [1; 64] };
    // SAFETY: the core has AMX; 64 bytes are written where 64 are.
    unsafe { asm!("sttilecfg [{}]", in(reg) &raw mut config, options(nostack, preserves_flags)) };
    config.bytes == [0; 64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_stay_set_up_until_they_are_released_whoever_else_sets_them_up() {
        let Some(amx) = Amx::detect() else { return };
        let (x, weights, bias) = ([1; 64], [[1; 64]; TILE], [[0; LANES]]);
        let mut sums = [[[0; LANES]; TILE]; 2];
        let mut sum = |tiles: Tiles, rows: usize| {
            let weights = &weights[..rows];
            let product = Product { x: &x, step: 0, offsets: &[0], weights, width: 1, block: 0, bias: &bias };
            tiles.product(&product, &mut sums);
            sums[0][0][0]
        };
        let mut first = Registers::default();
        assert_eq!(sum(first.configure(amx, 3, 2), 2), 8);
        assert_eq!(sum(first.configure(amx, 3, 2), 2), 8);
        assert_eq!(sum(first.configure(amx, 1, 5), 5), 20);
        let mut second = Registers::default();
        assert_eq!(sum(second.configure(amx, 1, 16), 16), 64);
        assert!(!are_released());
        drop(second);
        assert!(are_released());
        assert_eq!(sum(first.configure(amx, 1, 5), 5), 20);
        drop(first);
        assert!(are_released());
    }
}
