//! Every kernel on every executor of this machine. Enters: names of benchmarks, as criterion takes them. Leaves: times, and on stderr
//! the executors that this machine lacks. Refuses nothing.

mod cases;

use cases::{Case, cases};
use criterion::{BenchmarkId, Criterion, Throughput};
use runtime::arith::{FloatRequantizer, IntegerRequantizer, Requantize};
use runtime::host::{Executor, Isa, Prepared};
use runtime::{Image, Kernels};
use std::hint::black_box;
use std::time::Duration;

/// One op on one executor, which reads its input and leaves its output in the arena.
fn ops(criterion: &mut Criterion) {
    let executors = Executor::all();
    let missing = Isa::NAMES.into_iter().filter(|name| !executors.iter().any(|executor| executor.name() == *name));
    missing.for_each(|name| eprintln!("not on this machine, so not measured: {name}"));
    for Case { name, file, input } in cases() {
        let image = Image::check(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut group = criterion.benchmark_group(&name);
        let work = image.ops().map(|op| op.macs().max(op.output().len() as u64)).sum();
        group.throughput(Throughput::Elements(work));
        let mut expected = None;
        for &executor in &executors {
            let mut prepared = Prepared::with(image, executor);
            let mut run = || prepared.run_quantized(&input).map(|output| output.bytes().to_vec());
            let output = run().unwrap_or_else(|error| panic!("{name}: {error}"));
            // What is measured is the same computation everywhere.
            assert_eq!(expected.get_or_insert_with(|| output.clone()), &output, "{name} on {executor}");
            // The plain meaning is there to be read, and takes seconds for some.
            if executor != Executor::Plain(Kernels::Reference) {
                group.bench_function(BenchmarkId::from_parameter(executor), |bencher| {
                    bencher.iter(|| black_box(prepared.run_quantized(black_box(&input)).map(|output| output.len())));
                });
            }
        }
    }
}

/// Accumulators to stored integers, both ways.
fn requantization(criterion: &mut Criterion) {
    let accumulators: Vec<i32> = (0..4096i32).map(|i| i.wrapping_mul(0x9E37_79B1u32 as i32) >> 12).collect();
    let mut group = criterion.benchmark_group("requantize");
    group.throughput(Throughput::Elements(accumulators.len() as u64));
    fn all<R: Requantize>(accumulators: &[i32]) -> i32 {
        let requantizer = R::new(black_box(3.1e-4), -3, [-128, 127]);
        accumulators.iter().fold(0, |sum, &acc| sum ^ requantizer.apply(acc))
    }
    assert_eq!(all::<FloatRequantizer>(&accumulators), all::<IntegerRequantizer>(&accumulators));
    group.bench_function("float instructions", |bencher| {
        bencher.iter(|| all::<FloatRequantizer>(black_box(&accumulators)));
    });
    group.bench_function("integers alone", |bencher| {
        bencher.iter(|| all::<IntegerRequantizer>(black_box(&accumulators)));
    });
}

/// Long enough for a median, short enough for all of them to be run.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
}

fn main() {
    let mut criterion = short().configure_from_args();
    ops(&mut criterion);
    requantization(&mut criterion);
    criterion.final_summary();
}
