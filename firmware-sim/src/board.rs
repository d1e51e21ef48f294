//! Boards are data. Enters: the TOML files of `boards/`, which are part of this library, or a file of the user's own. Leaves: a
//! [`Board`] whose numbers have been checked. Refused: unknown keys, names that no board has (with the nearest one that
//! exists), memories that are empty, unaligned, out of the 32-bit address space or smaller than what is reserved in them.
//!
//! `docs/boards.md` explains how to add one.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The files of `boards/`, in the order in which they are listed.
const FILES: [(&str, &str); 9] = [
    ("stm32f446re.toml", include_str!("../boards/stm32f446re.toml")),
    ("nrf52840.toml", include_str!("../boards/nrf52840.toml")),
    ("stm32g0b1re.toml", include_str!("../boards/stm32g0b1re.toml")),
    ("microbit.toml", include_str!("../boards/microbit.toml")),
    ("mps2-an385.toml", include_str!("../boards/mps2-an385.toml")),
    ("mps2-an386.toml", include_str!("../boards/mps2-an386.toml")),
    ("mps2-an500.toml", include_str!("../boards/mps2-an500.toml")),
    ("mps2-an505.toml", include_str!("../boards/mps2-an505.toml")),
    ("mps3-an547.toml", include_str!("../boards/mps3-an547.toml")),
];

/// The target whose instructions every Cortex-M executes: ARMv6-M is part of all later architectures.
const COMMON_TARGET: &str = "thumbv6m-none-eabi";

/// A memory of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// First address.
    pub origin: u32,
    /// In bytes.
    pub length: u32,
}

/// What firmware on this board leaves to the application around the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reserved {
    /// Bytes at the end of flash.
    pub flash: u32,
    /// Bytes at the end of RAM.
    pub ram: u32,
}

/// One board: what the budget is measured against, and how firmware for it is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Lower-case letters, digits and `-`; what `--board` takes.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Core, as Arm and the compiler write it: `cortex-m4`.
    pub cpu: String,
    /// Target triple of the Rust compiler.
    pub target: String,
    /// Bytes of RAM set aside for the stack.
    pub stack: u32,
    /// Where code and model lie.
    pub flash: Region,
    /// Where arena, variables and stack lie.
    pub ram: Region,
    /// Nothing, unless stated.
    #[serde(default)]
    pub reserved: Reserved,
    /// Name of the QEMU machine that is this board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Hz of that machine's SysTick, by which QEMU's instructions are counted; stated when `machine` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<u32>,
    /// For a board that QEMU does not have: name of the board in this library whose core executes the same program and that
    /// stands in for it. The emulated program then lies at that board's addresses and has this board's amounts of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated_by: Option<String>,
}

/// A machine of QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// As `-machine` takes it.
    pub name: String,
    /// Hz of its SysTick.
    pub clock: u32,
}

/// The boards that are part of this library.
pub fn boards() -> Vec<Board> {
    FILES
        .iter()
        .map(|(file, text)| Board::parse(text, file).expect("a test loads every board of the library"))
        .collect()
}

impl Board {
    /// Finds the board called `name_or_path`; what ends in `.toml` or holds a path separator is read as a file.
    ///
    /// # Errors
    /// [`Error::UnknownBoard`] with the boards there are, [`Error::Read`], [`Error::BoardFile`].
    pub fn load(name_or_path: &str) -> Result<Self, Error> {
        let path = Path::new(name_or_path);
        if path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1 {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
            return Self::parse(&text, name_or_path);
        }
        let mut boards = boards();
        match boards.iter().position(|b| b.name == name_or_path) {
            Some(found) => Ok(boards.swap_remove(found)),
            None => Err(unknown(name_or_path, &boards)),
        }
    }

    /// The board that QEMU runs for this one: itself, or the one that stands in for it; with the machine.
    ///
    /// # Errors
    /// [`Error::NotEmulated`] when the file names neither, or names one that cannot stand in.
    pub fn emulated(&self) -> Result<(Self, Machine), Error> {
        let refuse = |reason: String| Error::NotEmulated { board: self.name.clone(), reason };
        if let Some(machine) = self.own_machine() {
            return Ok((self.clone(), machine));
        }
        let Some(name) = &self.emulated_by else {
            return Err(refuse("its file has neither `machine` nor `emulated_by`".into()));
        };
        let other = boards().into_iter().find(|b| b.name == *name);
        let Some(other) = other else {
            return Err(refuse(format!("its `emulated_by = \"{name}\"` is no board of this library")));
        };
        // Of the ARMv8-M cores one may lack what another has, under the same target.
        let same = other.target == self.target && (!self.target.starts_with("thumbv8") || other.cpu == self.cpu);
        if !same && self.target != COMMON_TARGET {
            let [own, there] = [self, &other].map(|board| format!("{} ({})", board.target, board.cpu));
            return Err(refuse(format!("`{name}` is a {there} and this board a {own}")));
        }
        match other.own_machine() {
            Some(machine) => Ok((other, machine)),
            None => Err(refuse(format!("`{name}` is no machine of QEMU either"))),
        }
    }

    fn own_machine(&self) -> Option<Machine> {
        Some(Machine { name: self.machine.clone()?, clock: self.clock? })
    }

    /// Reads the text of a board file; `file` is its name, for messages.
    fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::BoardFile { file: file.into(), reason };
        let board: Self = toml::from_str(text).map_err(|e| refuse(e.to_string().trim_end().into()))?;
        board.check().map_err(refuse)?;
        Ok(board)
    }

    fn check(&self) -> Result<(), String> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(good) {
            return Err(format!("name `{}`: lower-case letters, digits and `-` expected", self.name));
        }
        if self.machine.is_some() && self.emulated_by.is_some() {
            return Err("`machine` and `emulated_by` exclude each other".into());
        }
        if self.machine.is_some() != self.clock.is_some_and(|clock| clock > 0) {
            return Err("`machine` and `clock`, the Hz of its SysTick, belong together".into());
        }
        if !self.stack.is_multiple_of(8) || self.stack < 1024 {
            return Err(format!("stack = {}: a multiple of 8, at least 1024, expected", self.stack));
        }
        let memories =
            [("flash", self.flash, self.reserved.flash, 0), ("ram", self.ram, self.reserved.ram, self.stack)];
        for (name, region, reserved, stack) in memories {
            if !region.origin.is_multiple_of(8) || !region.length.is_multiple_of(8) || !reserved.is_multiple_of(8) {
                return Err(format!("{name}: origin, length and reserved bytes must be multiples of 8"));
            }
            if region.length == 0 || region.origin.checked_add(region.length - 1).is_none() {
                return Err(format!(
                    "{name}: {} bytes from {:#010x} are no part of the 32-bit address space",
                    region.length, region.origin
                ));
            }
            if u64::from(reserved) + u64::from(stack) >= u64::from(region.length) {
                return Err(format!(
                    "{name}: {reserved} reserved bytes and {stack} of stack leave nothing of {} bytes",
                    region.length
                ));
            }
        }
        Ok(())
    }
}

/// Names every board, and the one whose name is nearest if it is near at all.
fn unknown(name: &str, boards: &[Board]) -> Error {
    let nearest = boards
        .iter()
        .map(|b| (strsim::jaro_winkler(name, &b.name), &b.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.75)
        .map(|(_, nearest)| nearest.clone());
    Error::UnknownBoard { name: name.into(), nearest, known: boards.iter().map(|b| b.name.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: (&str, &str)) -> String {
        let text = FILES[0].1;
        assert!(text.contains(change.0), "the test changes something");
        text.replace(change.0, change.1)
    }

    #[test]
    fn every_board_of_the_library_loads_and_is_emulated() {
        for ((file, _), board) in FILES.iter().zip(boards()) {
            assert_eq!(format!("{}.toml", board.name), *file);
            assert_eq!(Board::load(&board.name).unwrap(), board);
            assert!(board.emulated().is_ok(), "{file}");
        }
    }

    #[test]
    fn an_unknown_board_is_answered_with_the_boards_there_are() {
        assert_eq!(
            Board::load("stm32f446").unwrap_err().to_string(),
            "unknown board `stm32f446`, did you mean `stm32f446re`? There are: stm32f446re, nrf52840, stm32g0b1re, microbit, mps2-an385, mps2-an386, mps2-an500, mps2-an505, mps3-an547; or the path of a board's TOML file"
        );
        assert_eq!(
            Board::load("esp").unwrap_err().to_string(),
            "unknown board `esp`. There are: stm32f446re, nrf52840, stm32g0b1re, microbit, mps2-an385, mps2-an386, mps2-an500, mps2-an505, mps3-an547; or the path of a board's TOML file"
        );
    }

    #[test]
    fn a_file_of_the_users_own_loads_and_an_absent_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, text(("name = \"stm32f446re\"", "name = \"mine\""))).unwrap();
        assert_eq!(Board::load(path.to_str().unwrap()).unwrap().name, "mine");
        let absent = Board::load("./nowhere/mine.toml").unwrap_err().to_string();
        assert!(absent.starts_with("./nowhere/mine.toml: "), "{absent}");
    }

    #[test]
    fn bad_files_are_refused_with_the_place() {
        let cases = [
            (("stack = 8192", "stak = 8192"), "unknown field `stak`"),
            (("stack = 8192", "stack = 8192\nheap = 4"), "unknown field `heap`"),
            (("length = 0x8_0000", "length = -1"), "invalid value"),
            (("length = 0x8_0000", "length = 0"), "flash: 0 bytes from 0x08000000"),
            (("origin = 0x0800_0000", "origin = 0xffff_0000"), "flash: 524288 bytes from 0xffff0000"),
            (
                ("length = 0x2_0000", "length = 8192"),
                "ram: 0 reserved bytes and 8192 of stack leave nothing of 8192 bytes",
            ),
            (
                ("length = 0x2_0000", "length = 0x2_0001"),
                "ram: origin, length and reserved bytes must be multiples of 8",
            ),
            (("stack = 8192", "stack = 12"), "stack = 12: a multiple of 8, at least 1024, expected"),
            (("name = \"stm32f446re\"", "name = \"../x\""), "name `../x`: lower-case letters"),
            (("[ram]", "[reserved]\nflash = 0x8_0000\n[ram]"), "flash: 524288 reserved bytes and 0 of stack"),
            (("stack = 8192", "stack = 8192\nmachine = \"x\""), "`machine` and `emulated_by` exclude each other"),
            (
                ("emulated_by = \"mps2-an386\"", "machine = \"x\""),
                "`machine` and `clock`, the Hz of its SysTick, belong",
            ),
        ];
        let mut failures = Vec::new();
        for (change, expected) in cases {
            let found = Board::parse(&text(change), "some.toml").unwrap_err().to_string();
            if !found.starts_with("some.toml: ") || !found.contains(expected) {
                failures.push(format!("{change:?}: {found}"));
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn a_board_that_nothing_emulates_says_why() {
        let cases = [
            (("emulated_by = \"mps2-an386\"", ""), "its file has neither `machine` nor `emulated_by`"),
            (("\"mps2-an386\"", "\"mps9\""), "its `emulated_by = \"mps9\"` is no board of this library"),
            (("\"mps2-an386\"", "\"nrf52840\""), "`nrf52840` is no machine of QEMU either"),
            (("thumbv7em-none-eabihf", "thumbv7m-none-eabi"), "`mps2-an386` is a thumbv7em-none-eabihf (cortex-m4)"),
        ];
        for (change, expected) in cases {
            let found = Board::parse(&text(change), "some.toml").unwrap().emulated().unwrap_err().to_string();
            assert!(
                found.starts_with("board `stm32f446re` cannot be emulated: ") && found.contains(expected),
                "{found}"
            );
        }
    }
}
