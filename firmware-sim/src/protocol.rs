//! What host and firmware say to each other through two files, `request` and `reply`. This module is part of both programs
//! and therefore needs nothing but `core`. Enters: a [`Request`] and pictures. Leaves: a [`Greeting`], one record for each
//! picture, a [`Farewell`]. Refused: other magic numbers, other versions.
//!
//! All numbers are little-endian.
//!
//! ```text
//! request   Request                    24 bytes
//!           images x pixels            H W C, one byte for each channel of each pixel
//! reply     Greeting                   28 bytes
//!           images x record, a run of the network for each flag:
//!             [CRC]    ops x u32       CRC-32 of each op's output
//!                      logits          the output tensor's bytes
//!             [EACH]   ops x u64       ticks of each op
//!                      logits
//!             [COUNT]  u64             ticks of the whole inference
//!                      logits
//!           Farewell                   12 bytes
//! ```
//! A reply that ends before the farewell is the reply of a firmware that stopped.

/// Name of the request in the emulator's working folder.
pub const REQUEST: &str = "request";
/// Name of the reply.
pub const REPLY: &str = "reply";

/// Flag: the CRC-32 of each op's output is wanted.
pub const CRC: u32 = 1;
/// Flag: the ticks of each op are wanted.
pub const EACH: u32 = 2;
/// Flag: the ticks of each inference are wanted.
pub const COUNT: u32 = 4;

const REQUEST_MAGIC: u32 = u32::from_le_bytes(*b"IFQ1");
const GREETING_MAGIC: u32 = u32::from_le_bytes(*b"IFG1");
const FAREWELL_MAGIC: u32 = u32::from_le_bytes(*b"IFF1");

/// What the host wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many pictures follow.
    pub images: u32,
    /// Bytes of one.
    pub pixels: u32,
    /// [`CRC`], [`EACH`], [`COUNT`]: at least one.
    pub flags: u32,
    /// Instructions of the loop that is to be counted before the first picture, 0 for none; a multiple of 2.
    pub calibration: u32,
    /// What the firmware does instead of its work, see [`Drill`].
    pub drill: u32,
}

/// Accidents on demand, by which tests prove that an accident on the device is noticed on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Drill {
    /// No accident.
    None = 0,
    /// A Rust panic.
    Panic = 1,
    /// A read of an address that the board does not have.
    Fault = 2,
    /// An endless loop.
    Hang = 3,
    /// A recursion deeper than the stack.
    Overflow = 4,
}

impl Request {
    /// Bytes of its encoding.
    pub const BYTES: usize = 24;

    /// Its encoding.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        words([REQUEST_MAGIC, self.images, self.pixels, self.flags, self.calibration, self.drill])
    }

    /// Reads one; `None` when it is none.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [magic, images, pixels, flags, calibration, drill] = split(bytes);
        (magic == REQUEST_MAGIC).then_some(Self { images, pixels, flags, calibration, drill })
    }
}

/// What the firmware is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Bytes of the output tensor.
    pub logits: u32,
    /// Ops of the network.
    pub ops: u32,
    /// As requested.
    pub flags: u32,
    /// Counted for the calibration loop, 0 if none was wanted.
    pub calibration_ticks: u64,
    /// Counted for nothing at all: what each other count has too much.
    pub idle_ticks: u32,
}

impl Greeting {
    /// Bytes of its encoding.
    pub const BYTES: usize = 28;

    /// Its encoding.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let (low, high) = (self.calibration_ticks as u32, (self.calibration_ticks >> 32) as u32);
        let Self { logits, ops, flags, idle_ticks, .. } = *self;
        words([GREETING_MAGIC, logits, ops, flags, low, high, idle_ticks])
    }

    /// Reads one; `None` when it is none.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [magic, logits, ops, flags, low, high, idle_ticks] = split(bytes);
        let calibration_ticks = u64::from(low) | u64::from(high) << 32;
        (magic == GREETING_MAGIC).then_some(Self { logits, ops, flags, calibration_ticks, idle_ticks })
    }
}

/// The last words of a firmware that has done everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Bytes of stack used at the deepest point, from start to end.
    pub stack_used: u32,
    /// Bytes of stack there are.
    pub stack_size: u32,
}

impl Farewell {
    /// Bytes of its encoding.
    pub const BYTES: usize = 12;

    /// Its encoding.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        words([FAREWELL_MAGIC, self.stack_used, self.stack_size])
    }

    /// Reads one; `None` when it is none.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [magic, stack_used, stack_size] = split(bytes);
        (magic == FAREWELL_MAGIC).then_some(Self { stack_used, stack_size })
    }
}

/// Bytes of one picture's record.
pub fn record_bytes(logits: usize, ops: usize, flags: u32) -> usize {
    let runs = [(CRC, 4 * ops), (EACH, 8 * ops), (COUNT, 8)];
    runs.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, bytes)| bytes + logits).sum()
}

fn words<const N: usize, const BYTES: usize>(values: [u32; N]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn split<const N: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> [u32; N] {
    let mut values = [0; N];
    for (value, place) in values.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = u32::from_le_bytes([place[0], place[1], place[2], place[3]]);
    }
    values
}
