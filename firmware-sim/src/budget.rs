//! Whether a model fits a board. Enters: what the model needs, what the firmware around it takes, a board. Leaves: a
//! [`Verdict`] with every number, that prints as text and serializes. Refuses nothing itself: a model that does not fit is a
//! verdict, and [`crate::Firmware::build`] is what turns it into an error before anything is built or run.
//!
//! ```
//! use firmware_sim::{Board, budget::{Footprint, ModelNeeds, check}};
//! let model = ModelNeeds { image: 98_304, arena: 200_000, pixels: 3_072 };
//! let verdict = check(model, &Board::load("stm32f446re")?, Footprint::ESTIMATE);
//! assert!(verdict.flash.fits() && !verdict.ram.fits());
//! # Ok::<(), firmware_sim::Error>(())
//! ```

use crate::Board;
use runtime::image::Image;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a model takes on any board. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNeeds {
    /// The flash image.
    pub image: u32,
    /// Activations and scratch, the image's arena constant.
    pub arena: u32,
    /// The picture that goes in, one byte for each channel of each pixel.
    pub pixels: u32,
}

impl ModelNeeds {
    /// What `image` takes.
    pub fn of(image: &Image) -> Self {
        let bytes = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            image: bytes(image.bytes().len()),
            arena: bytes(image.arena_bytes()),
            pixels: bytes(image.input().shape().iter().product()),
        }
    }
}

/// What the firmware takes without model, arena, pixels and stack. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Instructions and vector table, in flash.
    pub code: u32,
    /// Constants, in flash.
    pub constants: u32,
    /// Variables with a first value, in RAM and in flash.
    pub initialized: u32,
    /// Other variables, in RAM.
    pub zeroed: u32,
}

impl Footprint {
    /// What the firmware of this repository takes at most, whatever the model: known before anything is compiled. A test
    /// holds it against the program that the compiler makes.
    pub const ESTIMATE: Self = Self { code: 44 * 1024, constants: 6 * 1024, initialized: 64, zeroed: 256 };
}

/// One line of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What takes the bytes.
    pub what: String,
    /// How many.
    pub bytes: u32,
}

/// What one memory has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What has to lie in it.
    pub items: Vec<Item>,
    /// Sum of the items, in bytes.
    pub needed: u64,
    /// What the board has, in bytes.
    pub available: u64,
}

/// Both memories of a board against a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The board's name.
    pub board: String,
    /// Flash.
    pub flash: Account,
    /// RAM.
    pub ram: Account,
}

/// Adds up what `model` in firmware of size `firmware` takes on `board`, its stack and its reserved bytes included.
pub fn check(model: ModelNeeds, board: &Board, firmware: Footprint) -> Verdict {
    let flash = [
        ("code", firmware.code),
        ("model", model.image),
        ("constants", firmware.constants),
        ("initial values", firmware.initialized),
        ("reserved", board.reserved.flash),
    ];
    let ram = [
        ("arena", model.arena),
        ("pixels", model.pixels),
        ("variables", firmware.initialized.saturating_add(firmware.zeroed)),
        ("stack", board.stack),
        ("reserved", board.reserved.ram),
    ];
    Verdict {
        board: board.name.clone(),
        flash: Account::new(&flash, board.flash.length),
        ram: Account::new(&ram, board.ram.length),
    }
}

impl Account {
    fn new(items: &[(&str, u32)], available: u32) -> Self {
        Self {
            items: items.iter().map(|(what, bytes)| Item { what: (*what).into(), bytes: *bytes }).collect(),
            needed: items.iter().map(|(_, bytes)| u64::from(*bytes)).sum(),
            available: available.into(),
        }
    }

    /// Whether there is room.
    pub fn fits(&self) -> bool {
        self.needed <= self.available
    }
}

impl Verdict {
    /// Whether there is room in both memories.
    pub fn fits(&self) -> bool {
        self.flash.fits() && self.ram.fits()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "board {}: {}", self.board, if self.fits() { "fits" } else { "does NOT fit" })?;
        for (name, account) in [("flash", &self.flash), ("RAM", &self.ram)] {
            let (needed, available) = (account.needed, account.available);
            write!(f, "\n  {name:5} {needed:>9} of {available:>9} bytes, ")?;
            match available.checked_sub(needed) {
                Some(left) => write!(f, "{left} left")?,
                None => write!(f, "{} TOO MANY", needed - available)?,
            }
            for (index, item) in account.items.iter().filter(|i| i.bytes > 0).enumerate() {
                write!(f, "{}{} {}", if index == 0 { ": " } else { ", " }, item.what, item.bytes)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Reserved;

    const FIRMWARE: Footprint = Footprint { code: 20_000, constants: 1_000, initialized: 16, zeroed: 40 };

    #[test]
    fn the_verdict_adds_up_and_prints_every_number() {
        let board = Board { reserved: Reserved { flash: 4096, ram: 1024 }, ..Board::load("stm32f446re").unwrap() };
        let model = ModelNeeds { image: 98_304, arena: 54_996, pixels: 3_072 };
        let verdict = check(model, &board, FIRMWARE);
        assert!(verdict.fits());
        assert_eq!(
            verdict.to_string(),
            "board stm32f446re: fits\n\
             \x20 flash    123416 of    524288 bytes, 400872 left: code 20000, model 98304, constants 1000, initial values 16, reserved 4096\n\
             \x20 RAM       67340 of    131072 bytes, 63732 left: arena 54996, pixels 3072, variables 56, stack 8192, reserved 1024"
        );
    }

    #[test]
    fn one_byte_too_many_in_either_memory_is_too_many() {
        let board = Board::load("stm32f446re").unwrap();
        let image = board.flash.length - 20_000 - 1_000 - 16;
        let arena = board.ram.length - board.stack - 56;
        let fits = |image, arena| check(ModelNeeds { image, arena, pixels: 0 }, &board, FIRMWARE).fits();
        assert!(fits(image, arena));
        assert!(!fits(image + 1, arena));
        assert!(!fits(image, arena + 1));
        assert!(!fits(u32::MAX, u32::MAX));
        let text = check(ModelNeeds { image: image + 1, arena: 0, pixels: 0 }, &board, FIRMWARE).to_string();
        assert!(
            text.starts_with("board stm32f446re: does NOT fit\n  flash    524289 of    524288 bytes, 1 TOO MANY: ")
        );
    }
}
