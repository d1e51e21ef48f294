//! The line to the host: semihosting. Enters: the request file. Leaves: the reply file, text on the host's console, the exit
//! code: 0 done, 1 refused, 101 panic, 102 fault. Refused: files that are absent or too short.

use core::fmt;
use core::panic::PanicInfo;
use semihosting::fs::File;
use semihosting::io::{Read, Write};
use semihosting::{eprintln, process};

/// Why the firmware gives up.
pub enum Problem {
    /// A file could not be opened, read or written: which, and the host's error number.
    File(&'static str, Option<i32>),
    /// Something is not as it should be.
    Refused(&'static str),
    /// The image is unsound, in the two words of [`runtime::image::ImageError::words`].
    Image([u32; 2]),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name, code) => write!(f, "{name}: error {code:?} of the host"),
            Self::Refused(what) => f.write_str(what),
            Self::Image([fault, index]) => write!(f, "flash image: fault {fault:#x} at record {index}"),
        }
    }
}

/// The two files.
pub struct Host {
    request: File,
    reply: File,
}

impl Host {
    /// Opens both.
    pub fn open() -> Result<Self, Problem> {
        let request = File::open(c"request").map_err(|e| Problem::File("request", e.raw_os_error()))?;
        let reply = File::create(c"reply").map_err(|e| Problem::File("reply", e.raw_os_error()))?;
        Ok(Self { request, reply })
    }

    /// Fills `bytes` from the request.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<(), Problem> {
        self.request.read_exact(bytes).map_err(|e| Problem::File("request", e.raw_os_error()))
    }

    /// Adds `bytes` to the reply.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.reply.write_all(bytes).map_err(|e| Problem::File("reply", e.raw_os_error()))
    }
}

/// Says why, and ends.
pub fn give_up(problem: &Problem) -> ! {
    eprintln!("firmware: {problem}");
    process::exit(1)
}

/// Ends well.
pub fn done() -> ! {
    process::exit(0)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    eprintln!("firmware: {info}");
    process::exit(101)
}

/// Reports a fault of the core.
pub fn fault(pc: u32, lr: u32) -> ! {
    eprintln!("firmware: hard fault at {pc:#010x}, called from {lr:#010x}");
    process::exit(102)
}
