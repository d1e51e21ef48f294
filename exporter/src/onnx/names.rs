//! Names that are used once. Enters: the name somebody wants. Leaves: that name, or it with a number behind. Refuses
//! nothing.

use std::collections::HashMap;

/// Names given out so far, each with the number that was last put behind it.
#[derive(Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    /// `wanted`, or `wanted_2`, `wanted_3`, ... where it is taken.
    pub(super) fn unused(&mut self, wanted: &str) -> String {
        if !self.0.contains_key(wanted) {
            self.0.insert(wanted.into(), 1);
            return wanted.into();
        }
        loop {
            let number = self.0.entry(wanted.into()).or_insert(1);
            *number += 1;
            let name = format!("{wanted}_{number}");
            if !self.0.contains_key(&name) {
                self.0.insert(name.clone(), 1);
                return name;
            }
        }
    }
}
