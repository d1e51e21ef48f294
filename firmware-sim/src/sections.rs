//! Where the bytes of a linked program lie. Enters: the ELF file of the firmware. Leaves: its [`Sections`]. Refused: files
//! that are no ELF, or lack the symbols that the firmware exports for this purpose.

use crate::Error;
use crate::budget::Footprint;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What the linker placed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sections {
    /// Instructions and vector table.
    pub code: u32,
    /// Those instructions that are functions of the runtime; the rest is the firmware around it and what both call of the
    /// compiler's library.
    pub runtime: u32,
    /// The flash image, rounded up to its alignment of 16.
    pub model: u32,
    /// Other constants.
    pub constants: u32,
    /// Variables with a first value: in flash and in RAM.
    pub initialized: u32,
    /// Other variables, pixels and arena left out.
    pub zeroed: u32,
    /// The picture that goes in.
    pub pixels: u32,
    /// Activations and scratch.
    pub arena: u32,
    /// What the linker left for the stack.
    pub stack: u32,
}

impl Sections {
    /// Bytes of flash.
    pub fn flash(&self) -> u32 {
        self.code + self.model + self.constants + self.initialized
    }

    /// Bytes of RAM, the stack left out.
    pub fn ram(&self) -> u32 {
        self.initialized + self.zeroed + self.pixels + self.arena
    }

    /// What the firmware takes whatever the model is.
    pub fn footprint(&self) -> Footprint {
        Footprint { code: self.code, constants: self.constants, initialized: self.initialized, zeroed: self.zeroed }
    }

    /// Reads the program at `path`, which must hold the flash image `image`.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Elf`] with what is missing.
    pub(crate) fn read(path: &Path, image: &[u8]) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(&bytes, image).map_err(|reason| Error::Elf { path: path.into(), reason })
    }

    fn parse(bytes: &[u8], image: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(bytes).map_err(|e| e.to_string())?;
        let section = |name: &str| file.section_by_name(name).map_or(0, |s| s.size());
        let symbol = |name: &str| {
            // Names of Rust statics are mangled, but hold the name.
            let found = file.symbols().find(|s| s.name().is_ok_and(|n| n.contains(name)));
            found.ok_or_else(|| format!("symbol `{name}` is missing"))
        };
        let model = symbol("INTACT_MODEL")?;
        let held = file.section_by_name(".rodata").and_then(|s| s.data_range(model.address(), model.size()).ok()?);
        if !held.is_some_and(|held| held.starts_with(image)) {
            return Err("it does not hold the flash image it was built for".into());
        }
        let (model, arena) = (model.size(), symbol("INTACT_ARENA")?.size());
        let pixels = symbol("INTACT_PIXELS")?.size();
        // Mangled names hold the path of a function, each part with its length before it. `do_panic::runtime` is of `core`.
        let runtimes = |name: &str| {
            name.contains("7runtime") && !name.contains("15intact_firmware") && !name.contains("8do_panic7runtime")
        };
        let functions = file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.name().is_ok_and(runtimes));
        let runtime = functions.map(|s| s.size()).sum();
        let less = |whole: u64, part: u64, name: &str| {
            whole.checked_sub(part).ok_or_else(|| format!("section {name} has {whole} bytes, what is in it {part}"))
        };
        let bytes = |value: u64| u32::try_from(value).map_err(|_| format!("{value} bytes in a 32-bit program"));
        let stack = symbol("_stack_start")?.address().saturating_sub(symbol("_stack_end")?.address());
        Ok(Self {
            code: bytes(section(".vector_table") + section(".text") + section(".gnu.sgstubs"))?,
            runtime: bytes(runtime)?,
            model: bytes(model)?,
            constants: bytes(less(section(".rodata"), model, ".rodata")?)?,
            initialized: bytes(section(".data"))?,
            zeroed: bytes(less(section(".bss") + section(".uninit"), arena + pixels, ".bss")?)?,
            pixels: bytes(pixels)?,
            arena: bytes(arena)?,
            stack: bytes(stack)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_firmware_is_refused() {
        assert!(Sections::parse(b"no program at all", &[]).is_err());
        // The test program itself is an ELF file, of another kind.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Sections::parse(&own, &[]).unwrap_err(), "symbol `INTACT_MODEL` is missing");
    }
}
