//! Names that are used once. Enters: the name somebody wants, or what a numbered name begins with. Leaves: that name, or it
//! with a number behind. Refuses nothing.

use std::collections::HashMap;

/// Names given out so far, each with the number that was last put behind it.
#[derive(Default)]
pub(super) struct Names {
    used: HashMap<String, usize>,
    /// The last number of each prefix.
    numbers: HashMap<&'static str, usize>,
}

impl Names {
    /// `wanted`, or `wanted_2`, `wanted_3`, ... where it is taken.
    pub(super) fn unused(&mut self, wanted: &str) -> String {
        if !self.used.contains_key(wanted) {
            self.used.insert(wanted.into(), 1);
            return wanted.into();
        }
        loop {
            let number = self.used.entry(wanted.into()).or_insert(1);
            *number += 1;
            let name = format!("{wanted}_{number}");
            if !self.used.contains_key(&name) {
                self.used.insert(name.clone(), 1);
                return name;
            }
        }
    }

    /// The next of `prefix1`, `prefix2`, ... that is not taken.
    pub(super) fn numbered(&mut self, prefix: &'static str) -> String {
        loop {
            let number = self.numbers.entry(prefix).or_default();
            *number += 1;
            let name = format!("{prefix}{number}");
            if !self.used.contains_key(&name) {
                self.used.insert(name.clone(), 1);
                return name;
            }
        }
    }
}
