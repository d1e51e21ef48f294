//! Which instructions the core has. Enters: what core and operating system report. Leaves: an [`Isa`], which nothing else
//! can make, or a name on the command line turned into an [`Executor`]. Refused: names of what this machine does not have.

#[cfg(target_arch = "x86_64")]
use crate::kernels::simd::{amx::Amx, avx2::Avx2, avx512vnni::Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::kernels::simd::{dotprod::DotProd, i8mm::I8mm, neon::Neon};
use crate::kernels::{
    Kernels,
    simd::{Kernel, Simd, packed::Packed, packing::Packing},
};
use std::{fmt, str::FromStr};

/// An instruction set that this machine has: only detection makes one, so that no kernel runs where it cannot. `packed` is
/// what any core of the target has: no faster than the portable kernels, it runs the packed ones where nothing else is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Packed(Packed),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    DotProd(DotProd),
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

impl Isa {
    /// Names of all instruction sets there are kernels for, on any machine.
    pub const NAMES: [&'static str; 7] = ["packed", "avx2", "avx512vnni", "amx", "neon", "dotprod", "i8mm"];

    /// The instruction sets of this machine, the slowest first.
    pub fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let detected =
            [Avx2::detect().map(Set::Avx2), Avx512Vnni::detect().map(Set::Avx512Vnni), Amx::detect().map(Set::Amx)];
        #[cfg(target_arch = "aarch64")]
        let detected =
            [Neon::detect().map(Set::Neon), DotProd::detect().map(Set::DotProd), I8mm::detect().map(Set::I8mm)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let detected: [Option<Set>; 0] = [];
        std::iter::once(Set::Packed(Packed)).chain(detected.into_iter().flatten()).map(Self).collect()
    }

    /// Its name, one of [`Self::NAMES`].
    pub const fn name(self) -> &'static str {
        match self.0 {
            Set::Packed(_) => Self::NAMES[0],
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => Self::NAMES[1],
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(_) => Self::NAMES[2],
            #[cfg(target_arch = "x86_64")]
            Set::Amx(_) => Self::NAMES[3],
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => Self::NAMES[4],
            #[cfg(target_arch = "aarch64")]
            Set::DotProd(_) => Self::NAMES[5],
            #[cfg(target_arch = "aarch64")]
            Set::I8mm(_) => Self::NAMES[6],
        }
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Packed(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Amx(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Set::DotProd(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Set::I8mm(simd) => simd.vectorize(kernel),
        }
    }

    /// How it wants weights.
    pub(super) fn packing(self) -> Packing {
        struct Of;
        impl Kernel for Of {
            type Output = Packing;

            #[inline(always)]
            fn run<V: Simd>(self, _: V) -> Packing {
                V::PACKING
            }
        }
        self.run(Of)
    }
}

/// What runs a network on this machine. All give the same integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// Kernels that run on any core.
    Plain(Kernels),
    /// Kernels for an instruction set of this machine, with packed weights.
    Simd(Isa),
}

impl Executor {
    /// Everything that this machine runs, the slowest first.
    pub fn all() -> Vec<Self> {
        let isas = Isa::all();
        let (packed, detected) = isas.split_at(1);
        let plain = |kernels| std::iter::once(Self::Plain(kernels));
        let simd = |isas: &[Isa]| isas.iter().map(|&isa| Self::Simd(isa)).collect::<Vec<_>>();
        plain(Kernels::Reference).chain(simd(packed)).chain(plain(Kernels::Portable)).chain(simd(detected)).collect()
    }

    /// The fastest one.
    pub fn best() -> Self {
        Self::all().last().copied().unwrap_or(Self::Plain(Kernels::Portable))
    }

    /// How it wants weights; none where it takes them as an image has them.
    pub fn packing(self) -> Option<Packing> {
        match self {
            Self::Plain(_) => None,
            Self::Simd(isa) => Some(isa.packing()),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain(Kernels::Reference) => "reference",
            Self::Plain(Kernels::Portable) => "portable",
            #[cfg(any(test, feature = "testing"))]
            Self::Plain(Kernels::Dsp) => "dsp",
            #[cfg(any(test, feature = "testing"))]
            Self::Plain(Kernels::Mve) => "mve",
            #[cfg(any(test, feature = "testing"))]
            Self::Plain(Kernels::Thumb) => "thumb",
            Self::Simd(isa) => isa.name(),
        }
    }
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Executor {
    type Err = UnknownExecutor;

    fn from_str(name: &str) -> Result<Self, UnknownExecutor> {
        Self::all().into_iter().find(|executor| executor.name() == name).ok_or_else(|| UnknownExecutor(name.to_owned()))
    }
}

/// A name of no executor of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownExecutor(String);

impl fmt::Display for UnknownExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        if Isa::NAMES.contains(&name.as_str()) {
            write!(f, "this machine does not have the instructions of `{name}`")?;
        } else {
            write!(f, "there are no kernels `{name}`")?;
        }
        let names: Vec<&str> = Executor::all().into_iter().map(Executor::name).collect();
        write!(f, ", expected one of {}", names.join(", "))
    }
}

impl std::error::Error for UnknownExecutor {}
