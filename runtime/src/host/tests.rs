//! Every instruction set of this machine against the portable kernels, which other tests hold against the contract: over
//! shapes that fill panels, tiles and lines and leave tails of every length.

use super::*;
use crate::{
    Kernels, Session,
    image::repr::{OpKind, WindowRepr},
    observe::{Checksums, first_difference},
    testing::{Builder, Draw, zoo},
};
use proptest::prelude::*;

/// Runs the image of `builder` on drawn inputs with every executor, with weights packed in the image and with those packed now.
fn agree(builder: Builder, draw: &mut Draw) -> Result<(), TestCaseError> {
    let file = builder.finish();
    let image = Image::check(&file).map_err(|error| TestCaseError::reject(error.to_string()))?;
    let repr = image.input().repr;
    let input: Vec<u8> = (0..image.input().len()).map(|_| draw.integer(repr.bits, repr.signed) as u8).collect();
    let mut arena = vec![0x55; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap();
    let expected = session.run_quantized(&input).unwrap().bytes();
    let packed = pack(&file, &Packing::ALL).unwrap();
    prop_assert_eq!(&portable(&packed).unwrap(), &file);
    let packed_image = Image::check(&packed).unwrap();
    for isa in Isa::all() {
        let threads = NonZero::new(draw.size(1..=3).into()).unwrap();
        for image in [image, packed_image] {
            let mut prepared = Prepared::with(image, Executor::Simd(isa)).with_helpers(threads);
            let origin = prepared.origin();
            prop_assert_eq!(origin == Origin::Image, image.bytes().len() == packed.len());
            // Twice: what a run leaves behind in memory must not matter to the next.
            for _ in 0..2 {
                let found = prepared.run_quantized(&input).unwrap();
                let wrong = found.bytes().iter().zip(expected).position(|(a, b)| a != b);

                prop_assert_eq!(wrong, None, "{}, {} threads, {}: first byte", isa.name(), threads, origin);
            }
        }
    }
    Ok(())
}

fn slide(window: &WindowRepr, size: [u16; 2]) -> Option<[u16; 2]> {
    let along = |axis: usize| {
        let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
        let room = (size[axis] + window.padding[axis] + window.padding[axis + 2]).checked_sub(reach)?;
        Some(room / window.stride[axis] + 1)
    };
    Some([along(0)?, along(1)?])
}

/// A window, the usual ones often.
fn window() -> impl Strategy<Value = WindowRepr> {
    let any = (1..=5u16, 1..=5u16, 1..=3u16, 1..=3u16, prop::array::uniform4(0..=3u16), 1..=2u16, 1..=3u16).prop_map(
        |(r, s, down, right, padding, below, beside)| WindowRepr {
            kernel: [r, s],
            stride: [down, right],
            padding,
            dilation: [below, beside],
        },
    );
    let usual = (prop::sample::select(vec![1u16, 3, 3, 5, 7]), 1..=2u16).prop_map(|(kernel, stride)| WindowRepr {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 4],
        dilation: [1; 2],
    });
    prop_oneof![any, usual]
}

/// A convolution with layers drawn from `seed`: 8, 4 and 2 bit weights, zero points at the ends of their limits.
fn convolution(
    seed: u64,
    size: [u16; 2],
    window: WindowRepr,
    [groups, in_group, out_group]: [u16; 3],
) -> Result<(), TestCaseError> {
    let Some(out) = slide(&window, size) else { return Err(TestCaseError::reject("the window does not fit")) };
    let draw = &mut Draw::new(seed);
    let bits = draw.of(&[8, 8, 4, 2]);
    let (x, y) = (draw.encoding(bits), draw.encoding(8));
    let outputs = groups * out_group;
    let taps = usize::from(window.kernel[0] * window.kernel[1] * in_group);
    let layer = draw.layer(x, outputs.into(), taps);
    let clamp = draw.clamp(y);
    let mut builder = Builder::new([size[0], size[1], groups * in_group], x);
    let output = builder.tensor([out[0], out[1], outputs], y);
    builder.conv2d(window, groups, &layer, [0, output], clamp);
    agree(builder, draw)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_global_rejects: 10_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn convolutions(seed: u64, size in [1..=9u16, 1..=40u16], window in window(), channels in 1..=70u16, outputs in 1..=150u16) {
        convolution(seed, size, window, [1, channels, outputs])?;
    }

    #[test]
    fn grouped_convolutions(
        seed: u64, size in [1..=6u16, 1..=20u16], window in window(), groups in 2..=5u16, channels in 1..=20u16, outputs in 2..=40u16,
    ) {
        convolution(seed, size, window, [groups, channels, outputs])?;
    }

    #[test]
    fn depthwise_convolutions(seed: u64, size in [1..=12u16, 1..=40u16], window in window(), channels in 1..=80u16) {
        convolution(seed, size, window, [channels, 1, 1])?;
    }

    #[test]
    fn depthwise_convolutions_of_few_channels(
        seed: u64, size in [1..=12u16, 1..=40u16], window in window(), channels in prop::sample::select(vec![1u16, 2, 4, 8, 16]),
    ) {
        convolution(seed, size, window, [channels, 1, 1])?;
    }

    #[test]
    fn dense_layers(seed: u64, len in 1..=1200u16, outputs in 1..=150u16) {
        let draw = &mut Draw::new(seed);
        let (x, y) = (draw.encoding(8), draw.encoding(8));
        let layer = draw.layer(x, outputs.into(), len.into());
        let mut builder = Builder::new([1, 1, len], x);
        let output = builder.tensor([1, 1, outputs], y);
        builder.dense(&layer, [0, output], draw.clamp(y));
        agree(builder, draw)?;
    }

    #[test]
    fn pools(seed: u64, size in [1..=12u16, 1..=12u16], mut window in window(), channels in 1..=150u16, maximum: bool) {
        window.dilation = [1; 2];
        for axis in 0..4 {
            window.padding[axis] = window.padding[axis].min(window.kernel[axis % 2] - 1);
        }
        let Some(out) = slide(&window, size) else { return Err(TestCaseError::reject("the window does not fit")) };
        let draw = &mut Draw::new(seed);
        let x = draw.encoding(8);
        let y = if maximum { x } else { draw.encoding(8) };
        let mut builder = Builder::new([size[0], size[1], channels], x);
        let multipliers: Vec<f32> =
            (1..=window.kernel[0] * window.kernel[1]).map(|n| draw.real(0.3, 3.0) / f32::from(n)).collect();
        let multipliers = builder.f32s(&multipliers);
        let output = builder.tensor([out[0], out[1], channels], y);
        let kind = if maximum { OpKind::MaxPool { window } } else { OpKind::AveragePool { window, multipliers } };
        builder.op(kind, &[0], output, draw.clamp(y));
        agree(builder, draw)?;
    }

    #[test]
    fn global_average_pools(seed: u64, shape in [1..=12u16, 1..=12u16, 1..=150u16]) {
        let draw = &mut Draw::new(seed);
        let (x, y) = (draw.encoding(8), draw.encoding(8));
        let mut builder = Builder::new(shape, x);
        let output = builder.tensor([1, 1, shape[2]], y);
        let multiplier = draw.real(0.3, 3.0) / f32::from(shape[0] * shape[1]);
        builder.op(OpKind::GlobalAveragePool { multiplier }, &[0], output, draw.clamp(y));
        agree(builder, draw)?;
    }

    /// Of the input and of a table of it, so that both operands differ; at times where an operand was.
    #[test]
    fn adds(seed: u64, len in 1..=300u16, shift in 0..=30u8, in_place in 0..=2usize) {
        let draw = &mut Draw::new(seed);
        let [a, b, y] = [(); 3].map(|()| draw.encoding(8));
        let mut builder = Builder::new([1, 1, len], a);
        let table = draw.stored(b, 256);
        let table = builder.data(&table);
        let second = builder.tensor([1, 1, len], b);
        builder.op(OpKind::Lookup { table }, &[0], second, b.whole());
        let output = builder.tensor([1, 1, len], y);
        if let Some(over) = in_place.checked_sub(1) {
            builder.tensors[output as usize].offset = builder.tensors[over].offset;
        }
        let multipliers = [draw.int(0..=1 << 22), draw.of(&[0, 1, 1 << 21, 1 << 22])];
        builder.op(OpKind::Add { multipliers, shift }, &[0, second], output, draw.clamp(y));
        agree(builder, draw)?;
    }
}

#[test]
fn all_ops_one_after_the_other() {
    let file = zoo();
    let image = Image::check(&file).unwrap();
    let mut draw = Draw::new(3);
    for _ in 0..20 {
        let pixels: Vec<u8> = (0..image.input().len()).map(|_| draw.bits() as u8).collect();
        let mut expected = [0; 16];
        let mut plain = Prepared::with(image, Executor::Plain(Kernels::Reference));
        plain.run_pixels_observed(&pixels, &mut Checksums::new(&mut expected)).unwrap();
        for executor in Executor::all() {
            let mut sums = [0; 16];
            let mut prepared = Prepared::with(image, executor);
            prepared.run_pixels_observed(&pixels, &mut Checksums::new(&mut sums)).unwrap();
            assert_eq!(first_difference(&expected, &sums), None, "{executor}");
        }
    }
}

#[test]
fn names_and_refusals() {
    for executor in Executor::all() {
        assert_eq!(executor.name().parse(), Ok(executor));
    }
    let all = Executor::all();
    assert_eq!(all.last(), Some(&Executor::best()));
    let error = "sse9".parse::<Executor>().unwrap_err().to_string();
    assert!(error.starts_with("there are no kernels `sse9`, expected one of reference, packed, portable"), "{error}");
    for name in Isa::NAMES {
        if !all.iter().any(|executor| executor.name() == name) {
            let error = name.parse::<Executor>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("this machine does not have the instructions of `{name}`")), "{error}");
        }
    }
    let file = zoo();
    let mut prepared = Prepared::new(Image::check(&file).unwrap());
    assert_eq!(prepared.run_pixels(&[0; 5]).unwrap_err(), RunError::InputLength { found: 5, expected: 216 });
}
