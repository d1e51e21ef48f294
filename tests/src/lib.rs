//! What no single crate can prove. Enters: the built binary, real engines, boards. Leaves: verdicts. `tests/tests` holds
//! journeys (a person's whole task) and bad input; this library holds what they share.

pub mod command;
pub mod fixture;
pub mod networks;
pub mod ratchet;
pub mod real;
