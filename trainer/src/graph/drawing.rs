//! A network's graph as a picture. Enters: a blueprint and a title. Leaves: SVG text that needs nothing but a browser: the
//! image at the top, data flowing down, a colour for each primitive, names and shapes when pointed at. Refuses nothing.
//!
//! A layered drawing after Sugiyama: a node's layer is its level; edges across several layers get a bend in each; the order
//! within a layer follows the neighbours' mean position; horizontal positions are moved towards the neighbours' mean, as
//! near as order and distance allow.

use super::blueprint::Blueprint;
use super::nodes::Node;
use super::primitive::Primitive;
use std::fmt::Write;

const BOX: [f64; 2] = [122.0, 22.0];
const GAP: f64 = 14.0;
const BEND: f64 = 10.0;
const LAYER: f64 = 46.0;
const MARGIN: f64 = 20.0;
const HEAD: f64 = 64.0;
/// Times that all layers are gone through, for the order and for the positions.
const SWEEPS: usize = 12;

/// Something with a place in the drawing: a node of the graph, or a bend of an edge.
struct Item {
    layer: usize,
    node: Option<usize>,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

impl Item {
    fn half_width(&self) -> f64 {
        if self.node.is_some() { BOX[0] / 2.0 } else { BEND / 2.0 }
    }
}

struct Drawing {
    items: Vec<Item>,
    /// From left to right.
    layers: Vec<Vec<usize>>,
    /// Items along each edge of the graph, both ends included.
    edges: Vec<Vec<usize>>,
}

impl Drawing {
    fn new(blueprint: &Blueprint) -> Self {
        let level = blueprint.graph.levels_forward();
        let item = |layer, node| Item { layer, node, x: 0.0, above: Vec::new(), below: Vec::new() };
        let mut items: Vec<Item> = level.iter().enumerate().map(|(v, &l)| item(l as usize, Some(v))).collect();
        let mut edges = Vec::new();
        for &(source, target) in &blueprint.graph.edges {
            let mut path = vec![source as usize];
            for layer in level[source as usize] + 1..level[target as usize] {
                path.push(items.len());
                items.push(item(layer as usize, None));
            }
            path.push(target as usize);
            for pair in path.windows(2) {
                items[pair[0]].below.push(pair[1]);
                items[pair[1]].above.push(pair[0]);
            }
            edges.push(path);
        }
        let mut layers = vec![Vec::new(); items.iter().map(|item| item.layer + 1).max().unwrap_or(0)];
        for (i, item) in items.iter().enumerate() {
            layers[item.layer].push(i);
        }
        let mut drawing = Self { items, layers, edges };
        drawing.layers_left_to_right();
        for sweep in 0..SWEEPS {
            drawing.sweep(sweep, |drawing, layer, wanted| {
                let mut order: Vec<_> = wanted.into_iter().zip(drawing.layers[layer].clone()).collect();
                order.sort_by(|a, b| a.0.total_cmp(&b.0));
                drawing.layers[layer] = order.into_iter().map(|(_, item)| item).collect();
                drawing.left_to_right(layer);
            });
        }
        for sweep in 0..SWEEPS {
            drawing.sweep(sweep, |drawing, layer, wanted| drawing.place(layer, &wanted));
        }
        drawing
    }

    fn layers_left_to_right(&mut self) {
        (0..self.layers.len()).for_each(|layer| self.left_to_right(layer));
    }

    /// Packs a layer, its middle at 0.
    fn left_to_right(&mut self, layer: usize) {
        let wanted = vec![0.0; self.layers[layer].len()];
        self.place(layer, &wanted);
    }

    /// Goes through the layers, down and up in turn, with the mean position of each item's neighbours on the way.
    fn sweep(&mut self, sweep: usize, mut apply: impl FnMut(&mut Self, usize, Vec<f64>)) {
        for step in 0..self.layers.len() {
            let down = sweep.is_multiple_of(2);
            let layer = if down { step } else { self.layers.len() - 1 - step };
            let mean = |&item: &usize| {
                let Item { above, below, x, .. } = &self.items[item];
                let neighbours = if down { above } else { below };
                let sum: f64 = neighbours.iter().map(|&other| self.items[other].x).sum();
                if neighbours.is_empty() { *x } else { sum / neighbours.len() as f64 }
            };
            let wanted = self.layers[layer].iter().map(mean).collect();
            apply(self, layer, wanted);
        }
    }

    /// Moves a layer's items as near to `wanted` as their order and widths allow (least squares: neighbours that would
    /// overlap move as one block).
    fn place(&mut self, layer: usize, wanted: &[f64]) {
        let mut offset = 0.0;
        let mut offsets = Vec::new();
        for (i, &item) in self.layers[layer].iter().enumerate() {
            if i > 0 {
                let before = self.items[self.layers[layer][i - 1]].half_width();
                offset += before + GAP + self.items[item].half_width();
            }
            offsets.push(offset);
        }
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        for (want, offset) in wanted.iter().zip(&offsets) {
            blocks.push((want - offset, 1));
            while let [.., (left, m), (right, n)] = blocks[..]
                && left > right
            {
                blocks.truncate(blocks.len() - 2);
                blocks.push(((left * m as f64 + right * n as f64) / (m + n) as f64, m + n));
            }
        }
        let starts = blocks.into_iter().flat_map(|(start, n)| std::iter::repeat_n(start, n));
        for ((&item, offset), start) in self.layers[layer].iter().zip(offsets).zip(starts) {
            self.items[item].x = start + offset;
        }
    }
}

/// Fill of a box.
const fn colour(primitive: Primitive) -> &'static str {
    match primitive {
        Primitive::Input => "#c9c9c9",
        Primitive::Conv => "#8ecae6",
        Primitive::SepConv => "#90dbb4",
        Primitive::DilConv => "#52b788",
        Primitive::MaxPool => "#f4a261",
        Primitive::AveragePool => "#f6bd60",
        Primitive::GlobalAverage => "#f7d488",
        Primitive::BatchNorm => "#e5e1f5",
        Primitive::Bias => "#cdb4db",
        Primitive::Sum => "#f28482",
        Primitive::Concat => "#f5cac3",
    }
}

/// Text in a box.
fn label(node: &Node) -> String {
    let name = node.primitive.name();
    match (node.primitive, node.shape) {
        (Primitive::Conv, Some([k, c, r, s])) => format!("{name} {r}x{s} {c}→{k}"),
        (Primitive::SepConv | Primitive::DilConv, Some([k, _, r, s])) => format!("{name} {r}x{s} {k}"),
        (Primitive::BatchNorm | Primitive::Bias, Some([k, ..])) => format!("{name} {k}"),
        _ => name.into(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws the graph, with the lines of `title` above it.
pub fn svg(blueprint: &Blueprint, title: &str) -> String {
    let drawing = Drawing::new(blueprint);
    let left = drawing.items.iter().map(|item| item.x - item.half_width()).fold(f64::INFINITY, f64::min);
    let right = drawing.items.iter().map(|item| item.x + item.half_width()).fold(f64::NEG_INFINITY, f64::max);
    let present: Vec<_> = blueprint.census().into_iter().filter(|(_, count)| *count > 0).collect();
    // A letter of the title is about 6 wide.
    let text = title.lines().map(|line| line.chars().count() as f64 * 6.0).fold(present.len() as f64 * 92.0, f64::max);
    let width = (right - left).max(text) + 2.0 * MARGIN;
    let shift = (width - (right - left)) / 2.0 - left;
    let lines = title.lines().count() as f64 * 16.0;
    let top = HEAD + lines;
    let height = top + drawing.layers.len() as f64 * LAYER + MARGIN;
    let y = |layer: usize| top + layer as f64 * LAYER;
    let mut svg = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("text grows");
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    ));
    for (i, line) in title.lines().enumerate() {
        let y = MARGIN + 4.0 + i as f64 * 16.0;
        put(format_args!("<text x=\"{MARGIN}\" y=\"{y}\">{}</text>\n", escaped(line)));
    }
    for (i, (primitive, count)) in present.iter().enumerate() {
        let (x, y) = (MARGIN + i as f64 * 92.0, lines + MARGIN);
        put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\" stroke=\"#555\"/>\
             <text x=\"{}\" y=\"{}\">{count} {}</text>\n",
            colour(*primitive),
            x + 16.0,
            y + 10.0,
            primitive.name()
        ));
    }
    put(format_args!("<g fill=\"none\" stroke=\"#888\">\n"));
    for path in &drawing.edges {
        put(format_args!("<path d=\""));
        for (i, pair) in path.windows(2).enumerate() {
            let [from, to] = [&drawing.items[pair[0]], &drawing.items[pair[1]]];
            let start = y(from.layer) + if from.node.is_some() { BOX[1] } else { BOX[1] / 2.0 };
            let end = y(to.layer) + if to.node.is_some() { 0.0 } else { BOX[1] / 2.0 };
            let (x0, x1, middle) = (from.x + shift, to.x + shift, (start + end) / 2.0);
            if i == 0 {
                put(format_args!("M{x0:.1} {start:.1}"));
            }
            put(format_args!("C{x0:.1} {middle:.1} {x1:.1} {middle:.1} {x1:.1} {end:.1}"));
        }
        put(format_args!("\"/>\n"));
    }
    put(format_args!("</g>\n<g text-anchor=\"middle\">\n"));
    for item in &drawing.items {
        let Some(v) = item.node else { continue };
        let node = &blueprint.graph.nodes[v];
        let layer = node.parameter.map(|p| blueprint.layers[blueprint.parameters[p].layer].name.as_str());
        put(format_args!(
            "<g><title>{}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{}\" \
             stroke=\"#555\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>\n",
            escaped(layer.unwrap_or(node.primitive.name())),
            item.x + shift - BOX[0] / 2.0,
            y(item.layer),
            BOX[0],
            BOX[1],
            colour(node.primitive),
            item.x + shift,
            y(item.layer) + 15.0,
            escaped(&label(node))
        ));
    }
    put(format_args!("</g>\n</svg>\n"));
    svg
}
