//! What the task runner and the tests share. Enters: the repository's root. Leaves: programs outside the Rust toolchain, found
//! or installed. Refused: machines where they are neither there nor installable.

pub mod tools;
