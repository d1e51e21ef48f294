//! A checked image in words, for people: `intact inspect` prints it. Enters: an [`Image`]. Leaves: lines of text: the
//! header, the tensors with shape, encoding and place in the arena, the ops with what they read and write, the totals.
//! Texts of the image are escaped, so that no image can steer a terminal.

use super::{
    Image, Op, Tensor, VERSION,
    repr::{HeaderRepr, OpKind, OpRepr, TensorRepr, WeightsRepr, WindowRepr},
};
use crate::arith;
use core::fmt::{self, Arguments, Formatter, Write};

impl fmt::Display for Image<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        header(self, f)?;
        f.write_str("\ntensors\n")?;
        row(f, &[(4, format_args!("#")), (12, format_args!("shape")), (38, format_args!("encoding"))])?;
        row(f, &[(16, format_args!("arena bytes")), (0, format_args!("name\n"))])?;
        self.tensors().try_for_each(|x| tensor(&x, f))?;
        f.write_str("\nops\n")?;
        row(f, &[(4, format_args!("#")), (17, format_args!("kind")), (12, format_args!("tensors"))])?;
        row(f, &[(12, format_args!("clamp")), (16, format_args!("scratch bytes")), (12, format_args!("weights"))])?;
        row(f, &[(10, format_args!("MAC")), (0, format_args!("name, window\n"))])?;
        self.ops().try_for_each(|x| op(&x, f))?;
        totals(self, f)
    }
}

/// Writes cells, each padded with spaces to its width, with two more between them.
fn row(f: &mut Formatter<'_>, cells: &[(usize, Arguments)]) -> fmt::Result {
    /// Counts characters on their way.
    struct Counter<'a, 'f>(&'a mut Formatter<'f>, usize);
    impl Write for Counter<'_, '_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.1 += text.chars().count();
            self.0.write_str(text)
        }
    }
    for &(width, cell) in cells {
        let mut counter = Counter(f, 0);
        counter.write_fmt(cell)?;
        let missing = if width == 0 { 0 } else { width.saturating_sub(counter.1) + 2 };
        write!(f, "{:missing$}", "")?;
    }
    Ok(())
}

/// `8x8x64`.
struct Shape<'a>(&'a [u16]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, extent)| write!(f, "{}{extent}", if i == 0 { "" } else { "x" }))
    }
}

/// `int8`, `uint4`.
struct Integer(u8, bool);

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}int{}", if self.1 { "" } else { "u" }, self.0)
    }
}

/// Type, scale and zero point of a tensor.
struct Encoding<'a>(&'a TensorRepr);

impl fmt::Display for Encoding<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let x = self.0;
        write!(f, "{} scale {} zero point {}", Integer(x.bits, x.signed), x.scale, x.zero_point)
    }
}

/// A span of bytes, first to last but one: `0..3072`, or `-` when empty.
struct Range(core::ops::Range<usize>);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { write!(f, "{}..{}", self.0.start, self.0.end) }
    }
}

fn header(image: &Image, f: &mut Formatter<'_>) -> fmt::Result {
    let (input, output) = (image.input(), image.output());
    writeln!(f, "{}: flash image, format {VERSION}, contract {}", image.name().escape_debug(), arith::CONTRACT_NAME)?;
    writeln!(f, "arena {} bytes, scratch included", image.arena_bytes())?;
    for (what, x) in [("input", input), ("output", output)] {
        writeln!(f, "{what} tensor {}: {}, {}", x.index, Shape(&x.repr.shape), Encoding(&x.repr))?;
    }
    let preprocessing = image.preprocessing();
    let channels = preprocessing.len() / 2;
    for (what, first) in [("mean", 0), ("standard deviation", channels)] {
        write!(f, "pixel {what}")?;
        (first..first + channels).try_for_each(|i| write!(f, " {}", preprocessing.f32(i)))?;
        f.write_char('\n')?;
    }
    for (i, label) in image.labels().enumerate() {
        write!(f, "{}{}", if i == 0 { "labels " } else { ", " }, label.escape_debug())?;
    }
    f.write_str(if image.header.labels.is_empty() { "no labels\n" } else { "\n" })?;
    f.write_str("exported from network ")?;
    image.header.provenance.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
    f.write_char('\n')
}

fn tensor(x: &Tensor, f: &mut Formatter<'_>) -> fmt::Result {
    row(
        f,
        &[
            (4, format_args!("{}", x.index)),
            (12, format_args!("{}", Shape(&x.repr.shape))),
            (38, format_args!("{}", Encoding(&x.repr))),
            (16, format_args!("{}", Range(x.range()))),
            (0, format_args!("{}\n", x.name().escape_debug())),
        ],
    )
}

/// The tensors an op reads and the one it writes: `0,1>2`.
struct Operands<'a>(&'a Op<'a>);

impl fmt::Display for Operands<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, x) in self.0.inputs().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "," }, x.index)?;
        }
        write!(f, ">{}", self.0.output().index)
    }
}

/// Type and bytes of an op's weights, `-` when it has none.
struct Stored<'a>(Option<&'a WeightsRepr>);

impl fmt::Display for Stored<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(weights) => write!(f, "{} {}", Integer(weights.bits, weights.signed), weights.data.len),
            None => f.write_char('-'),
        }
    }
}

fn op(op: &Op, f: &mut Formatter<'_>) -> fmt::Result {
    let [low, high] = op.clamp();
    row(
        f,
        &[
            (4, format_args!("{}", op.index)),
            (17, format_args!("{}", op.repr.kind.name())),
            (12, format_args!("{}", Operands(op))),
            (12, format_args!("{low}..={high}")),
            (16, format_args!("{}", Range(op.scratch()))),
            (12, format_args!("{}", Stored(weights(&op.repr.kind)))),
            (10, format_args!("{}", op.macs())),
            (0, format_args!("{}", op.name().escape_debug())),
        ],
    )?;
    match &op.repr.kind {
        OpKind::Conv2d { window, groups, .. } => {
            self::window(window, f)?;
            write!(f, " groups {groups}")?;
        }
        OpKind::MaxPool { window } | OpKind::AveragePool { window, .. } => self::window(window, f)?,
        OpKind::Add { multipliers: [a, b], shift } => write!(f, ", ({a} a + {b} b) / 2^{shift}")?,
        OpKind::Pad { padding } => {
            f.write_str(", padding")?;
            padding.iter().try_for_each(|padding| write!(f, " {padding}"))?;
        }
        OpKind::Softmax { multiplier, shift, .. } => write!(f, ", shares * {multiplier} / 2^{shift}")?,
        OpKind::GlobalAveragePool { multiplier } | OpKind::Mul { multiplier } => {
            write!(f, ", multiplier {multiplier}")?
        }
        OpKind::Dense { .. } | OpKind::Concat { .. } | OpKind::Lookup { .. } | OpKind::Reshape => {}
    }
    f.write_char('\n')
}

fn window(window: &WindowRepr, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, ", {} stride {} padding", Shape(&window.kernel), Shape(&window.stride))?;
    window.padding.iter().try_for_each(|padding| write!(f, " {padding}"))?;
    write!(f, " dilation {}", Shape(&window.dilation))
}

const fn weights(kind: &OpKind) -> Option<&WeightsRepr> {
    match kind {
        OpKind::Conv2d { weights, .. } | OpKind::Dense { weights } => Some(weights),
        _ => None,
    }
}

/// Where the bytes of the file go, and the work of one run.
fn totals(image: &Image, f: &mut Formatter<'_>) -> fmt::Result {
    let (mut packed, mut constants, mut macs) = (0u64, 0u64, 0u64);
    for op in image.ops() {
        macs = macs.saturating_add(op.macs());
        if let Some(weights) = weights(&op.repr.kind) {
            packed += u64::from(weights.data.len);
            constants += [weights.zero_points, weights.bias, weights.multipliers]
                .map(|span| u64::from(span.len))
                .iter()
                .sum::<u64>();
        }
    }
    let tables = image.tensors().len() * TensorRepr::BYTES + image.ops().len() * OpRepr::BYTES;
    writeln!(f, "\ntotal {} bytes, {} ops, {macs} MAC", image.bytes.len(), image.ops().len())?;
    writeln!(f, "weights {packed} bytes, their zero points, biases and multipliers {constants} bytes")?;
    writeln!(f, "header {} bytes, op and tensor records {tables} bytes", HeaderRepr::BYTES)?;
    #[cfg(any(test, feature = "std"))]
    for packed in image.packed() {
        writeln!(f, "weights packed for {} {} bytes", packed.packing.executors().join(" and "), packed.bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Image, testing::zoo};

    /// The whole text of the image that has every op. To record it anew: `INTACT_BLESS=1 cargo test -p intact-runtime`.
    #[test]
    fn zoo_in_words() {
        let file = zoo();
        let text = Image::check(&file).unwrap().to_string();
        if std::env::var_os("INTACT_BLESS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/image/zoo.txt"), &text).unwrap();
        }
        assert_eq!(text, include_str!("zoo.txt"));
    }

    #[test]
    fn texts_cannot_steer_a_terminal() {
        let mut builder = crate::testing::Builder::new(
            [1, 1, 1],
            crate::testing::Encoding { bits: 8, signed: false, scale: 1.0, zero_point: 0 },
        );
        builder.header.name = builder.data(b"\x1b[2Jgone");
        builder.tensor([1, 1, 1], crate::testing::Encoding { bits: 8, signed: false, scale: 1.0, zero_point: 0 });
        let table = builder.data(&[0; 256]);
        builder.op(crate::image::repr::OpKind::Lookup { table }, &[0], 1, [0, 255]);
        let text = Image::check(&builder.finish()).unwrap().to_string();
        assert!(text.starts_with("\\u{1b}[2Jgone: flash image"), "{text}");
    }
}
