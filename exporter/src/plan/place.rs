//! Placing buffers that come and go. Enters: sizes and lifetimes. Leaves: offsets at which no two buffers that live at the
//! same time overlap, in as few bytes as was found: the best of three greedy orders, then a search that goes through all
//! canonical placements, given up after a fixed number of steps (so that the result depends on nothing but the input).

/// Bytes that are needed from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    /// A multiple of the alignment. Buffers of 0 bytes are put at 0.
    pub(super) bytes: u64,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Offsets for all buffers.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub(super) offsets: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) lower_bound: u64,
    pub(super) optimal: bool,
}

/// Placements that the search looks at before it gives up: all of them, for up to about ten buffers.
const SEARCH: usize = 50_000;

/// What buffers are sorted by.
type Key<'a> = &'a dyn Fn(&usize) -> (u64, u64);

pub(super) fn place(buffers: &[Buffer]) -> Placement {
    let lower_bound = buffers.iter().map(|buffer| alive(buffers, buffer.first)).max().unwrap_or(0);
    let mut ids: Vec<usize> = (0..buffers.len()).filter(|&i| buffers[i].bytes > 0).collect();
    let duration = |i: usize| (buffers[i].last - buffers[i].first + 1) as u64;
    let orders: [Key<'_>; 3] = [
        &|&i| (u64::MAX - buffers[i].bytes, u64::MAX - duration(i)),
        &|&i| (u64::MAX - duration(i), u64::MAX - buffers[i].bytes),
        &|&i| (buffers[i].first as u64, u64::MAX - buffers[i].bytes),
    ];
    let mut search = Search { buffers, best: vec![0; buffers.len()], bytes: u64::MAX, lower_bound, left: SEARCH };
    for order in orders {
        ids.sort_by_key(order);
        let mut placed = Vec::with_capacity(ids.len());
        for &id in &ids {
            placed.push((id, lowest(buffers, &placed, id)));
        }
        search.keep(&placed);
    }
    ids.sort_by_key(orders[0]);
    let complete = search.deepen(&mut Vec::with_capacity(ids.len()), &mut ids, 0);
    let optimal = complete || search.bytes == lower_bound;
    Placement { offsets: search.best, bytes: search.bytes, lower_bound, optimal }
}

/// Bytes alive in a step.
fn alive(buffers: &[Buffer], step: usize) -> u64 {
    buffers.iter().filter(|b| b.bytes > 0 && (b.first..=b.last).contains(&step)).map(|b| b.bytes).sum()
}

/// Lowest offset at which a buffer is clear of those already placed.
fn lowest(buffers: &[Buffer], placed: &[(usize, u64)], id: usize) -> u64 {
    let buffer = buffers[id];
    let meets = |other: &Buffer| other.first <= buffer.last && buffer.first <= other.last;
    let mut taken: Vec<(u64, u64)> = placed
        .iter()
        .filter(|(other, _)| meets(&buffers[*other]))
        .map(|&(other, offset)| (offset, offset + buffers[other].bytes))
        .collect();
    taken.sort_unstable();
    taken.into_iter().fold(0, |at, (start, end)| if at + buffer.bytes <= start { at } else { at.max(end) })
}

struct Search<'a> {
    buffers: &'a [Buffer],
    best: Vec<u64>,
    bytes: u64,
    lower_bound: u64,
    left: usize,
}

impl Search<'_> {
    fn end(&self, placed: &[(usize, u64)]) -> u64 {
        placed.iter().map(|&(id, offset)| offset + self.buffers[id].bytes).max().unwrap_or(0)
    }

    fn keep(&mut self, placed: &[(usize, u64)]) {
        let bytes = self.end(placed);
        if bytes < self.bytes {
            self.bytes = bytes;
            placed.iter().for_each(|&(id, offset)| self.best[id] = offset);
        }
    }

    /// Goes through the placements in which every buffer is put at the lowest offset that is free, in order of offsets;
    /// the best one is among them: take a best placement with the least sum of offsets, and put its buffers down in order
    /// of offset. False if the search was given up.
    fn deepen(&mut self, placed: &mut Vec<(usize, u64)>, rest: &mut Vec<usize>, floor: u64) -> bool {
        if rest.is_empty() {
            self.keep(placed);
            return true;
        }
        for i in 0..rest.len() {
            if self.bytes == self.lower_bound {
                return true;
            }
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            let id = rest[i];
            let offset = lowest(self.buffers, placed, id);
            if offset < floor || offset + self.buffers[id].bytes >= self.bytes {
                continue;
            }
            rest.remove(i);
            placed.push((id, offset));
            let complete = self.deepen(placed, rest, offset);
            placed.pop();
            rest.insert(i, id);
            if !complete {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffers(most: usize) -> impl Strategy<Value = Vec<Buffer>> {
        let one = (1u64..6, 0usize..6, 0usize..4).prop_map(|(size, first, more)| Buffer {
            bytes: 16 * size,
            first,
            last: first + more,
        });
        prop::collection::vec(one, 1..most)
    }

    /// Whether buffers that meet are apart, byte by byte and step by step.
    fn is_sound(buffers: &[Buffer], placement: &Placement) -> bool {
        let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
        (0..steps).all(|step| {
            let mut used = vec![false; placement.bytes as usize];
            buffers.iter().zip(&placement.offsets).filter(|(b, _)| (b.first..=b.last).contains(&step)).all(
                |(b, &offset)| {
                    let mut bytes = offset..offset + b.bytes;
                    bytes.all(|byte| used.get_mut(byte as usize).is_some_and(|used| !std::mem::replace(used, true)))
                },
            )
        })
    }

    /// Tries every offset for every buffer.
    fn fits(buffers: &[Buffer], placed: &mut Vec<u64>, bytes: u64) -> bool {
        let Some(buffer) = buffers.get(placed.len()) else { return true };
        (0..bytes / 16).map(|i| 16 * i).take_while(|offset| offset + buffer.bytes <= bytes).any(|offset| {
            let clear = buffers.iter().zip(&*placed).all(|(other, &at)| {
                other.last < buffer.first
                    || buffer.last < other.first
                    || at + other.bytes <= offset
                    || offset + buffer.bytes <= at
            });
            placed.push(offset);
            let fits = clear && fits(buffers, placed, bytes);
            placed.pop();
            fits
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn never_overlaps(buffers in buffers(40)) {
            let placement = place(&buffers);
            prop_assert!(is_sound(&buffers, &placement), "{placement:?}");
            prop_assert!(placement.bytes >= placement.lower_bound);
            prop_assert!(placement.offsets.iter().all(|offset| offset % 16 == 0));
        }

        #[test]
        fn is_as_small_as_can_be(buffers in buffers(7)) {
            let placement = place(&buffers);
            prop_assert!(placement.optimal);
            prop_assert!(!fits(&buffers, &mut Vec::new(), placement.bytes - 16), "{placement:?}");
        }
    }

    #[test]
    fn nothing_to_place_needs_nothing() {
        assert_eq!(place(&[]).offsets, [0; 0]);
        assert_eq!(place(&[Buffer { bytes: 0, first: usize::MAX, last: 0 }]).bytes, 0);
    }
}
