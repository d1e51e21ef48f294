//! Sharing: what may lie over what.

use proptest::prelude::*;

use super::*;

fn step(inputs: &[usize], output: usize, place: Output) -> Step {
    Step { inputs: inputs.to_vec(), output, place, scratch: 0 }
}

/// A chain needs its two largest neighbours.
/// The lower half of the input, read twice; what was made of it, side by side.
#[test]
fn parts_lie_where_the_whole_does() {
    let steps = [
        step(&[0], 1, Output::Within(32)),
        step(&[1], 2, Output::Apart),
        step(&[1], 3, Output::Apart),
        step(&[2, 3], 4, Output::Around),
    ];
    let plan = plan(&[64, 32, 16, 48, 64], &steps, 0, 4).unwrap();
    let [input, half, first, second, whole] = plan.tensors[..] else { panic!("{plan:?}") };
    assert_eq!((half, second, whole, plan.bytes), (input + 32, first + 16, first, 128), "{plan:?}");
}

#[test]
fn a_chain_needs_two_neighbours() {
    let steps = [step(&[0], 1, Output::Apart), step(&[1], 2, Output::Apart), step(&[2], 3, Output::Apart)];
    let plan = plan(&[100, 300, 20, 10], &steps, 0, 3).unwrap();
    assert_eq!((plan.bytes, plan.lower_bound, plan.optimal), (112 + 304, 112 + 304, true));
}

/// `y = f(x) + x`: the sum goes over the input that dies, and saves a third of the arena.
#[test]
fn an_add_writes_over_an_input_that_dies() {
    let steps = |place| [step(&[0], 1, Output::Apart), step(&[0, 1], 2, place), step(&[2], 3, Output::Apart)];
    let sizes = [64, 64, 64, 16];
    let over = plan(&sizes, &steps(Output::Over), 0, 3).unwrap();
    assert_eq!((over.bytes, over.tensors[2]), (128, over.tensors[0]));
    assert_eq!(plan(&sizes, &steps(Output::Apart), 0, 3).unwrap().bytes, 192);
}

/// Neither an input that is read later, nor one whose bytes are read later under another shape, nor the logits.
#[test]
fn an_add_does_not_write_over_what_is_still_read() {
    let sizes = [64, 64, 64, 64, 64];
    let later = [step(&[0], 1, Output::Apart), step(&[0, 0], 2, Output::Over), step(&[0, 2], 3, Output::Apart)];
    let found = plan(&sizes[..4], &later, 0, 3).unwrap();
    assert_ne!(found.tensors[2], found.tensors[0]);
    let reshaped = [
        step(&[0], 1, Output::Within(0)),
        step(&[0, 0], 2, Output::Over),
        step(&[1], 3, Output::Apart),
        step(&[2, 3], 4, Output::Apart),
    ];
    let found = plan(&sizes, &reshaped, 0, 4).unwrap();
    assert_eq!(found.tensors[1], found.tensors[0]);
    assert_ne!(found.tensors[2], found.tensors[0]);
    let logits = [step(&[0], 1, Output::Apart), step(&[1], 2, Output::Over)];
    let found = plan(&sizes[..3], &logits, 0, 1).unwrap();
    assert_ne!(found.tensors[2], found.tensors[1]);
}

/// What works row by row runs in little more than its larger end; a reader that comes later, or a plan that is no smaller for
/// it, keeps the two apart.
#[test]
fn a_step_that_works_row_by_row_writes_over_its_input_from_below() {
    let steps = [step(&[0], 1, Output::Below(32)), step(&[1], 2, Output::Apart)];
    let found = plan(&[640, 640, 16], &steps, 0, 2).unwrap();
    assert_eq!((found.bytes, found.tensors[0] - found.tensors[1], found.optimal), (672, 32, true));
    let later = [step(&[0], 1, Output::Below(32)), step(&[0, 1], 2, Output::Apart)];
    assert_eq!(plan(&[640, 640, 16], &later, 0, 2).unwrap().bytes, 1296);
    let beside = [steps[0].clone(), step(&[1], 2, Output::Apart)];
    let found = plan(&[640, 640, 2000], &beside, 0, 2).unwrap();
    assert!(found.bytes == 2640 && found.tensors[0].abs_diff(found.tensors[1]) >= 640, "{found:?}");
}

#[test]
fn scratch_lives_for_one_step() {
    let mut steps = [step(&[0], 1, Output::Apart), step(&[1], 2, Output::Apart)];
    steps[1].scratch = 33;
    let plan = plan(&[64, 16, 16], &steps, 0, 2).unwrap();
    assert_eq!((plan.bytes, plan.scratch[0]), (80, 0));
    assert!(plan.scratch[1] + 48 <= plan.bytes);
}

#[test]
fn refuses_an_arena_beyond_32_bits() {
    let found = plan(&[1 << 31, 1 << 31], &[step(&[0], 1, Output::Apart)], 0, 1);
    assert_eq!(found, Err(TooLarge { bytes: 1 << 32 }));
}

/// Random graphs, run on an arena of marks: every step must find what was written for it.
#[derive(Clone, Debug)]
struct Graph {
    sizes: Vec<u64>,
    steps: Vec<Step>,
    output: usize,
}

fn graph() -> impl Strategy<Value = Graph> {
    let raw = (any::<[prop::sample::Index; 2]>(), 0u8..6, 1u64..5, 0u64..40);
    (prop::collection::vec(raw, 1..14), any::<prop::sample::Index>()).prop_map(|(raw, output)| {
        let (mut sizes, mut steps) = (vec![48], Vec::new());
        for (inputs, kind, size, scratch) in raw {
            let inputs = inputs.map(|input| input.index(sizes.len()));
            let output = sizes.len();
            let step = match kind {
                0 => step(&inputs[..1], output, Output::Within(0)),
                1 | 2 if sizes[inputs[0]] == sizes[inputs[1]] => step(&inputs, output, Output::Over),
                3 | 4 => Step { scratch, ..step(&inputs[..1], output, Output::Below(scratch.clamp(1, 16 * size))) },
                _ => Step { scratch, ..step(&inputs, output, Output::Apart) },
            };
            let own = matches!(step.place, Output::Apart | Output::Below(_));
            sizes.push(if own { 16 * size } else { sizes[inputs[0]] });
            steps.push(step);
        }
        let output = output.index(sizes.len());
        Graph { sizes, steps, output }
    })
}

proptest! {
    #[test]
    fn every_step_finds_what_was_written_for_it(Graph { sizes, steps, output } in graph()) {
        let plan = plan(&sizes, &steps, 0, output).unwrap();
        // What is in each byte: the tensor whose bytes they are, reshaped tensors being the one they were made of.
        let mut arena = vec![usize::MAX; plan.bytes as usize];
        let mut made_of: Vec<usize> = (0..sizes.len()).collect();
        let span = |offset: u32, len: u64| offset as usize..offset as usize + len as usize;
        arena[span(plan.tensors[0], sizes[0])].fill(0);
        for (i, step) in steps.iter().enumerate() {
            for &input in &step.inputs {
                let bytes = &arena[span(plan.tensors[input], sizes[input])];
                prop_assert!(bytes.iter().all(|&b| b == made_of[input]), "step {i} reads tensor {input}: {plan:?}");
            }
            if step.place == Output::Within(0) {
                made_of[step.output] = made_of[step.inputs[0]];
                prop_assert_eq!(plan.tensors[step.output], plan.tensors[step.inputs[0]]);
                continue;
            }
            let (scratch, written) = (span(plan.scratch[i], step.scratch), span(plan.tensors[step.output], sizes[step.output]));
            let meets = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| a.start < b.end && b.start < a.end;
            prop_assert!(scratch.is_empty() || !meets(&scratch, &written));
            for &input in &step.inputs {
                let read = span(plan.tensors[input], sizes[input]);
                prop_assert!(scratch.is_empty() || !meets(&scratch, &read));
                let may = match step.place {
                    Output::Over => written == read,
                    Output::Below(lead) => written.start + lead as usize <= read.start,
                    _ => false,
                };
                prop_assert!(!meets(&written, &read) || may);
            }
            arena[scratch].fill(usize::MAX);
            arena[written].fill(step.output);
        }
        let bytes = &arena[span(plan.tensors[output], sizes[output])];
        prop_assert!(bytes.iter().all(|&b| b == made_of[output]), "{plan:?}");
    }

    #[test]
    fn what_fits_is_what_the_plan_says(Graph { sizes, steps, output } in graph(), more in 0u64..64) {
        let bytes = u64::from(plan(&sizes, &steps, 0, output).unwrap().bytes);
        let fits = |most| fits(&sizes, &steps, 0, output, most);
        prop_assert!(fits(bytes) && fits(bytes + more) && !fits(bytes.saturating_sub(1 + more)));
    }
}
