//! Which images of a data set. Enters: their labels, before any is read. Leaves: indices. Refused: shares that cut nothing off.

use super::random;

/// All indices, from the classes in turn: the first of each class, then the second of each.
pub(super) fn in_turns(labels: &[u16]) -> Vec<usize> {
    let mut met = vec![0usize; classes_of(labels)];
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(labels.len());
    for (i, &label) in labels.iter().enumerate() {
        order.push((met[usize::from(label)], i));
        met[usize::from(label)] += 1;
    }
    order.sort_by_key(|&(turn, i)| (turn, labels[i]));
    order.into_iter().map(|(_, i)| i).collect()
}

/// For each image whether it is held out: of each class of `n` images `n * share`, rounded, but at least one and at most `n - 1`.
///
/// # Errors
/// In words, if the share is not between 0 and 1 (exclusive) or a class has a single image; `classes` has the classes' names.
pub(super) fn held_out(labels: &[u16], classes: &[String], share: f64, seed: u64) -> Result<Vec<bool>, String> {
    if !(share > 0.0 && share < 1.0) {
        return Err(format!("cannot hold out a share of {share}, expected more than 0 and less than 1"));
    }
    let mut members = vec![Vec::new(); classes_of(labels)];
    for (i, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(i);
    }
    let mut held = vec![false; labels.len()];
    for (class, mut members) in members.into_iter().enumerate().filter(|(_, members)| !members.is_empty()) {
        if members.len() == 1 {
            return Err(format!("class `{}` has a single image, so none can be held out", classes[class]));
        }
        let count = ((members.len() as f64 * share).round() as usize).clamp(1, members.len() - 1);
        random::shuffle(&mut random::stream(seed, b"hold out", class as u64), &mut members);
        for &i in &members[..count] {
            held[i] = true;
        }
    }
    Ok(held)
}

fn classes_of(labels: &[u16]) -> usize {
    labels.iter().max().map_or(0, |&label| usize::from(label) + 1)
}
