//! From a flash image to a linked program. Enters: a flash image, a board, where the program is to lie. Leaves: [`Firmware`], an
//! ELF file whose sections have been measured. Refused: unsound images, models that do not fit (before the compiler is
//! started, and once more by the linker), machines without a compiler.

use crate::board::Machine;
use crate::budget::{self, Footprint, ModelNeeds, Verdict};
use crate::{Board, Error, Sections, Toolchain};
use runtime::image::Image;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where a program is to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the board's own addresses: to be flashed.
    Board,
    /// At the addresses of the machine that emulates the board, with the board's amounts of memory: to be run here.
    Emulator,
}

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The compiler; `None` looks for one.
    pub toolchain: Option<Toolchain>,
    /// Where compiled crates are kept between builds; `None`: `target` in the folder of the firmware's sources.
    pub cache: Option<PathBuf>,
    /// Link only the kernels that the ops of the image need, instead of those of every op.
    pub only_ops: bool,
}

/// A linked program that holds one network.
#[derive(Debug)]
pub struct Firmware {
    folder: TempDir,
    board: Board,
    placement: Placement,
    sections: Sections,
    model: Model,
}

/// What the host has to know of the network to talk with the firmware.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) pixels: usize,
    pub(crate) logits: usize,
    pub(crate) ops: usize,
}

const PROGRAM: &str = "firmware.elf";

impl Firmware {
    /// Checks, builds and links a program for `board` that holds the flash image at `image`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] before anything is compiled when the model cannot fit; see [`Error`] for the rest.
    pub fn build(image: &Path, board: &Board, placement: Placement, options: &BuildOptions) -> Result<Self, Error> {
        let bytes = std::fs::read(image).map_err(|source| Error::Read { path: image.into(), source })?;
        let refuse = |reason: String| Error::Image { path: image.into(), reason };
        // Weights that were packed for other cores are not flashed.
        let bytes = runtime::host::portable(&bytes).map_err(|e| refuse(e.to_string()))?;
        let checked = Image::check(&bytes).map_err(|e| refuse(e.to_string()))?;
        let needs = ModelNeeds::of(&checked);
        let (pixels, logits) = (needs.pixels as usize, checked.output().len());
        let model = Model { pixels, logits, ops: checked.ops().len() };
        let verdict = budget::check(needs, board, Footprint::ESTIMATE);
        if !verdict.fits() {
            return Err(Error::TooLarge(verdict));
        }
        let script = memory_script(board, placement)?;
        let toolchain = match &options.toolchain {
            Some(toolchain) => toolchain.clone(),
            None => Toolchain::find(&board.target)?,
        };
        let folder = tempfile::tempdir().map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
        let program = folder.path().join(PROGRAM);
        let ops = options.only_ops.then(|| parts(checked));
        compile(&toolchain, board, [&bytes, script.as_bytes()], ops.as_deref(), options.cache.as_deref(), &program)?;
        let sections = Sections::read(&program, &bytes)?;
        Ok(Self { folder, board: board.clone(), placement, sections, model })
    }

    /// The ELF file; it is removed with this value.
    pub fn program(&self) -> PathBuf {
        self.folder.path().join(PROGRAM)
    }

    /// The board it was built for.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Where it lies.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// What the linker placed.
    pub fn sections(&self) -> &Sections {
        &self.sections
    }

    /// The budget with the measured size of this program.
    pub fn verdict(&self) -> Verdict {
        let Sections { model: image, arena, pixels, .. } = self.sections;
        budget::check(ModelNeeds { image, arena, pixels }, &self.board, self.sections.footprint())
    }

    pub(crate) fn model(&self) -> Model {
        self.model
    }
}

/// The part of the linker script that differs from board to board.
fn memory_script(board: &Board, placement: Placement) -> Result<String, Error> {
    let (flash, ram) = match placement {
        Placement::Board => (board.flash.origin, board.ram.origin),
        Placement::Emulator => {
            let (machine, Machine { name, .. }) = board.emulated()?;
            for (what, own, there) in
                [("flash", board.flash.length, machine.flash.length), ("RAM", board.ram.length, machine.ram.length)]
            {
                if own > there {
                    let reason = format!("it has {own} bytes of {what}, the machine {name} only {there}");
                    return Err(Error::NotEmulated { board: board.name.clone(), reason });
                }
            }
            (machine.flash.origin, machine.ram.origin)
        }
    };
    let (flash_length, ram_length) = (board.flash.length - board.reserved.flash, board.ram.length - board.reserved.ram);
    let (stack, name) = (board.stack, &board.name);
    Ok(format!(
        "MEMORY {{\n  FLASH : ORIGIN = {flash:#010x}, LENGTH = {flash_length}\n  RAM : ORIGIN = {ram:#010x}, LENGTH = {ram_length}\n}}\n\
         ASSERT(_stack_start - _stack_end >= {stack}, \"ERROR: less than {stack} bytes of RAM of {name} are left for the stack\");\n"
    ))
}

/// The parts of the runtime that the ops of an image need, as the runtime takes them when it is compiled.
fn parts(image: Image) -> String {
    let parts: BTreeSet<&str> = image.ops().flat_map(|op| runtime::kernels::linked::parts(&op)).flatten().collect();
    parts.into_iter().collect::<Vec<_>>().join(",")
}

/// Calls cargo and moves the linked program to `program`.
fn compile(
    toolchain: &Toolchain,
    board: &Board,
    [model, memory]: [&[u8]; 2],
    ops: Option<&str>,
    cache: Option<&Path>,
    program: &Path,
) -> Result<(), Error> {
    let sources = std::env::var_os("INTACT_FIRMWARE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware"), PathBuf::from);
    let manifest = sources.join("Cargo.toml");
    if !manifest.exists() {
        return Err(Error::NoSources { path: sources });
    }
    let cache = cache.map_or_else(|| sources.join("target"), Path::to_path_buf);
    std::fs::create_dir_all(&cache).map_err(|source| Error::Write { path: cache.clone(), source })?;
    // Two builds into one folder would take each other's program away between linking and copying.
    let lock = cache.join("intact.lock");
    let fail = |source| Error::Write { path: lock.clone(), source };
    let held = File::create(&lock).map_err(fail)?;
    held.lock().map_err(fail)?;

    // The compiler reads copies, so that what it links is what was checked; at places that do not change, so that what has
    // not changed is not compiled again.
    let mut command = toolchain.build(&manifest, &cache, &board.cpu);
    for (variable, name, bytes) in [("INTACT_IMAGE", "model.intact", model), ("INTACT_MEMORY", "memory.x", memory)] {
        let path = cache.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(bytes) {
            std::fs::write(&path, bytes).map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        command.env(variable, path);
    }
    match ops {
        Some(ops) => command.env("INTACT_OPS", ops),
        None => command.env_remove("INTACT_OPS"),
    };
    command.stdin(std::process::Stdio::null());
    let output = command.output().map_err(|source| Error::NoProgram {
        program: command.get_program().to_string_lossy().into(),
        package: "cargo",
        source,
    })?;
    if !output.status.success() {
        return Err(Error::Build {
            board: board.name.clone(),
            status: output.status.to_string(),
            command: format!("{command:?}"),
            output: String::from_utf8_lossy(&output.stderr).trim_end().into(),
        });
    }
    let linked = cache.join(&board.target).join("release/intact-firmware");
    std::fs::copy(&linked, program).map_err(|source| Error::Read { path: linked, source })?;
    Ok(())
}
