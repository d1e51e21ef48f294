//! Placing buffers that come and go. Enters: sizes and lifetimes. Leaves: offsets at which no two buffers that live at the
//! same time overlap, in as few bytes as was found: the best of five greedy orders and of many swaps in one, then a search that goes through all
//! canonical placements, given up after a fixed number of steps (so that the result depends on nothing but the input).

/// Bytes that are needed from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    /// A multiple of the alignment. Buffers of 0 bytes are put at 0.
    pub(super) bytes: u64,
    pub(super) first: usize,
    pub(super) last: usize,
    /// Another buffer, whose last step is this one's first, which this one may overlap when it starts at least so many bytes
    /// below it.
    pub(super) over: Option<(usize, u64)>,
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

/// Swaps of two buffers in a greedy order that are tried.
const SWAPS: usize = 4_000;

/// What buffers are sorted by.
type Key = fn(&[Buffer], usize) -> (u64, u64);

fn largest_first(buffers: &[Buffer], i: usize) -> (u64, u64) {
    (u64::MAX - buffers[i].bytes, u64::MAX - duration(buffers, i))
}

fn duration(buffers: &[Buffer], i: usize) -> u64 {
    (buffers[i].last - buffers[i].first + 1) as u64
}

pub(super) fn place(buffers: &[Buffer]) -> Placement {
    within(buffers, least(buffers))
}

/// The same, but any placement of at most so many bytes will do, and the first that is found is taken.
pub(super) fn within(buffers: &[Buffer], enough: u64) -> Placement {
    let mut search =
        Search { buffers, best: vec![0; buffers.len()], bytes: u64::MAX, enough, left: SEARCH, taken: Vec::new() };
    let mut ids = search.orders();
    search.improve(&mut ids);
    ids.sort_by_key(|&i| largest_first(buffers, i));
    let complete = search.deepen(&mut Vec::with_capacity(ids.len()), &mut ids, 0);
    let (lower_bound, Search { best, bytes, .. }) = (least(buffers), search);
    Placement { offsets: best, bytes, lower_bound, optimal: bytes == lower_bound || complete && bytes > enough }
}

/// Most bytes that are alive in any one step: what no placement can be smaller than.
pub(super) fn least(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| alive(buffers, buffer.first)).max().unwrap_or(0)
}

/// Bytes alive in a step, overlaps counted once.
fn alive(buffers: &[Buffer], step: usize) -> u64 {
    let saved = buffers.iter().filter(|b| b.bytes > 0 && b.first == step).filter_map(|b| {
        let (other, lead) = b.over?;
        let other = buffers[other].bytes;
        Some((b.bytes + other).saturating_sub(b.bytes.max(lead + other)))
    });
    alive_apart(buffers, step) - saved.sum::<u64>()
}

/// Bytes alive in a step if nothing overlaps.
pub(super) fn alive_apart(buffers: &[Buffer], step: usize) -> u64 {
    buffers.iter().filter(|b| b.bytes > 0 && (b.first..=b.last).contains(&step)).map(|b| b.bytes).sum()
}

/// Lowest offset at which a buffer is clear of those already placed. `taken` is scratch.
fn lowest(buffers: &[Buffer], placed: &[(usize, u64)], id: usize, taken: &mut Vec<(i64, i64)>) -> u64 {
    let buffer = buffers[id];
    let meets = |other: &Buffer| other.first <= buffer.last && buffer.first <= other.last;
    // Between the two offsets, both left out, it must not start.
    taken.clear();
    taken.extend(placed.iter().filter(|(other, _)| meets(&buffers[*other])).map(|&(other, offset)| {
        let (below, above) = clearances(buffers, id, other);
        (offset as i64 - below as i64, offset as i64 + above as i64)
    }));
    taken.sort_unstable();
    taken.iter().fold(0, |at, &(start, end)| if at <= start { at } else { at.max(end) }) as u64
}

/// How far below the start of `other`, or above it, the buffer `id` must start at least.
fn clearances(buffers: &[Buffer], id: usize, other: usize) -> (u64, u64) {
    let (mut below, mut above) = (buffers[id].bytes, buffers[other].bytes);
    if let Some((_, lead)) = buffers[id].over.filter(|(upper, _)| *upper == other) {
        below = below.min(lead);
    }
    if let Some((_, lead)) = buffers[other].over.filter(|(upper, _)| *upper == id) {
        above = above.min(lead);
    }
    (below, above)
}

struct Search<'a> {
    buffers: &'a [Buffer],
    best: Vec<u64>,
    bytes: u64,
    /// So few bytes that nothing better is looked for.
    enough: u64,
    left: usize,
    taken: Vec<(i64, i64)>,
}

impl Search<'_> {
    /// Tries the greedy orders until one is enough; the last that was tried is returned.
    fn orders(&mut self) -> Vec<usize> {
        let buffers = self.buffers;
        let orders: [Key; 5] = [
            largest_first,
            |buffers, i| (u64::MAX - duration(buffers, i), u64::MAX - buffers[i].bytes),
            |buffers, i| (buffers[i].first as u64, u64::MAX - buffers[i].bytes),
            // What lies over another buffer lies below it, and is put down first.
            |buffers, i| (u64::MAX - buffers[i].bytes, u64::MAX - buffers[i].first as u64),
            |buffers, i| (u64::MAX - buffers[i].first as u64, u64::MAX - buffers[i].bytes),
        ];
        let mut ids: Vec<usize> = (0..buffers.len()).filter(|&i| buffers[i].bytes > 0).collect();
        let mut placed = Vec::with_capacity(ids.len());
        for order in orders {
            if self.bytes <= self.enough {
                break;
            }
            ids.sort_by_key(|&i| order(buffers, i));
            placed.clear();
            self.greedy(&ids, &mut placed, u64::MAX);
            self.keep(&placed);
        }
        ids
    }

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

    /// Swaps two buffers of an order, again and again, and keeps what is no worse.
    fn improve(&mut self, order: &mut [usize]) {
        if self.bytes <= self.enough {
            return;
        }
        let (mut state, mut least) = (1u64, u64::MAX);
        // How `order` is placed: buffers before the first of two that are swapped stay where they are.
        let (mut placed, mut tried) = (Vec::with_capacity(order.len()), Vec::with_capacity(order.len()));
        self.greedy(order, &mut placed, u64::MAX);
        for _ in 0..SWAPS {
            if self.bytes <= self.enough || order.len() < 2 {
                return;
            }
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % order.len()
            };
            let (a, b) = (draw(), draw());
            order.swap(a, b);
            tried.clear();
            tried.extend_from_slice(&placed[..a.min(b)]);
            if self.greedy(order, &mut tried, least) {
                least = self.end(&tried);
                self.keep(&tried);
                std::mem::swap(&mut placed, &mut tried);
            } else {
                order.swap(a, b);
            }
        }
    }

    /// Each buffer in turn, behind those placed already, at the lowest offset that is free. False, with buffers left, if one
    /// ends beyond `most`.
    fn greedy(&mut self, order: &[usize], placed: &mut Vec<(usize, u64)>, most: u64) -> bool {
        for &id in &order[placed.len()..] {
            let offset = lowest(self.buffers, placed, id, &mut self.taken);
            placed.push((id, offset));
            if offset + self.buffers[id].bytes > most {
                return false;
            }
        }
        true
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
            if self.bytes <= self.enough {
                return true;
            }
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            let id = rest[i];
            let offset = lowest(self.buffers, placed, id, &mut self.taken);
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
        let one = (1u64..6, 0usize..6, 0usize..4, 1u64..4).prop_map(|(size, first, more, lead)| {
            (Buffer { bytes: 16 * size, first, last: first + more, over: None }, 16 * lead)
        });
        prop::collection::vec(one, 1..most).prop_map(|drawn| {
            let mut buffers: Vec<Buffer> = drawn.iter().map(|(buffer, _)| *buffer).collect();
            for i in 0..buffers.len() {
                // A step has one output.
                let alone = buffers[..i].iter().all(|b| b.first != buffers[i].first || b.over.is_none());
                let upper = (0..buffers.len()).find(|&j| j != i && alone && buffers[j].last == buffers[i].first);
                buffers[i].over = upper.map(|upper| (upper, drawn[i].1.min(buffers[i].bytes)));
            }
            buffers
        })
    }

    /// Whether two buffers may lie so.
    fn clear(buffers: &[Buffer], [i, j]: [usize; 2], [at_i, at_j]: [u64; 2]) -> bool {
        let (a, b) = (buffers[i], buffers[j]);
        let below = |lower: Buffer, upper: usize, at: u64, at_upper: u64| {
            lower.over.is_some_and(|(over, lead)| over == upper && at + lead <= at_upper)
        };
        a.last < b.first
            || b.last < a.first
            || at_i + a.bytes <= at_j
            || at_j + b.bytes <= at_i
            || below(a, j, at_i, at_j)
            || below(b, i, at_j, at_i)
    }

    fn is_sound(buffers: &[Buffer], placement: &Placement) -> bool {
        let offsets = &placement.offsets;
        let within = buffers.iter().zip(offsets).all(|(b, offset)| offset + b.bytes <= placement.bytes);
        let pairs = || (0..buffers.len()).flat_map(|i| (0..i).map(move |j| [i, j]));
        within && pairs().all(|pair| clear(buffers, pair, pair.map(|i| offsets[i])))
    }

    /// Tries every offset for every buffer.
    fn fits(buffers: &[Buffer], placed: &mut Vec<u64>, bytes: u64) -> bool {
        let Some(buffer) = buffers.get(placed.len()) else { return true };
        (0..bytes / 16).map(|i| 16 * i).take_while(|offset| offset + buffer.bytes <= bytes).any(|offset| {
            let i = placed.len();
            let clear = (0..i).all(|j| clear(buffers, [i, j], [offset, placed[j]]));
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
        assert_eq!(place(&[Buffer { bytes: 0, first: usize::MAX, last: 0, over: None }]).bytes, 0);
    }
}
