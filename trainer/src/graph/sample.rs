//! Drawing networks. Enters: a [`Request`]. Leaves: network number `i` of the set it describes, or all of them, the same for
//! any order and any number of threads. Refused: rules under which hardly any network fits the caps.
//!
//! Every network has its own stream of random numbers; one that breaks a rule or a cap is drawn again from its stream.

use super::architecture::{Architecture, CellOp, Stem, Step};
use super::blueprint::{Blueprint, Task};
use super::build::BuildError;
use super::file::GraphSet;
use super::network::{ArenaError, arena_fits};
use super::random::{Key, Stream};
use super::space::{Caps, NormFree, Rules, Space, Split, Switches, Widths};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Changes whenever the rules give other networks than before. Where the cap of the arena binds, so does the exporter's
/// planner.
pub(super) const GENERATOR: u16 = 1;

/// Draws after which the rules are given up.
const MOST_DRAWS: usize = 20_000;

/// A set of networks, described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The design space.
    pub space: Space,
    /// Which part of it.
    pub split: Split,
    /// Operations had or left.
    pub switches: Switches,
    /// What no network exceeds; [`Space::caps`] unless there are reasons.
    pub caps: Caps,
    /// Images and classes.
    pub task: Task,
    /// Everything random comes from it. Splits of one seed have different networks.
    pub seed: u64,
}

impl Request {
    /// The space as it is, for CIFAR-10.
    pub fn new(space: Space, split: Split, seed: u64) -> Self {
        Self { space, split, switches: Switches::default(), caps: space.caps(split), task: Task::CIFAR10, seed }
    }

    /// The same for another split, its own caps in place of this one's own.
    fn judged_on(self, split: Split) -> Self {
        let own = self.caps == self.space.caps(self.split);
        Self { split, caps: if own { self.space.caps(split) } else { self.caps }, ..self }
    }

    fn key(&self) -> Key {
        // The widened networks are those of the ID split.
        let split = if self.split == Split::IdWidened { Split::Id } else { self.split };
        let mut key: Key = [0; 32];
        key[..6].copy_from_slice(b"graphs");
        key[6..8].copy_from_slice(&GENERATOR.to_le_bytes());
        key[8..16].copy_from_slice(&self.seed.to_le_bytes());
        (key[16], key[17]) = (self.space as u8, split as u8);
        key
    }
}

/// Why a draw was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// No operation of either cell is a convolution.
    NoConvolution,
    /// More than one 5x5 or 7x7 convolution in a cell.
    LargeConvolutions,
    /// The output does not depend on the image.
    Disconnected,
    /// Too many parameters.
    Parameters,
    /// Too many multiply-accumulates.
    Macs,
    /// Too large an arena.
    Arena,
    /// Drawn for training, but in a split that the hypernetwork is judged on.
    HeldOut,
}

impl Rejection {
    /// All reasons, in the order in which they are looked at.
    pub const ALL: [Self; 7] = [
        Self::NoConvolution,
        Self::LargeConvolutions,
        Self::Disconnected,
        Self::Parameters,
        Self::Macs,
        Self::Arena,
        Self::HeldOut,
    ];

    /// In words, for a count in front of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoConvolution => "without a convolution",
            Self::LargeConvolutions => "with two large convolutions in a cell",
            Self::Disconnected => "whose output does not depend on the image",
            Self::Parameters => "with too many parameters",
            Self::Macs => "with too many MACs",
            Self::Arena => "with too large an arena",
            Self::HeldOut => "held out",
        }
    }
}

/// How often draws were not taken, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All draws, those taken included.
    pub draws: u64,
    /// For each reason in the order of [`Rejection::ALL`], how many were not.
    pub rejected: [u64; Rejection::ALL.len()],
}

impl Tally {
    fn plus(mut self, other: Self) -> Self {
        self.draws += other.draws;
        self.rejected.iter_mut().zip(other.rejected).for_each(|(sum, n)| *sum += n);
        self
    }
}

/// Why networks cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Nearly every draw breaks a cap.
    #[error("network {index}: none of {draws} draws keeps the caps {caps:?}; rejected: {rejected:?}", draws = tally.draws, rejected = tally.rejected)]
    Starved {
        /// Which network.
        index: u64,
        /// The caps.
        caps: Caps,
        /// What became of the draws.
        tally: Tally,
    },
    /// The split makes no sense in this space.
    #[error(
        "split `id-widened`: found space `{0}`, expected `mobile`; 2.5 million parameters break the caps of the other"
    )]
    Split(Space),
    /// The task fits no network.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The arena cannot be planned.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

/// Draws the networks of one request.
#[derive(Debug)]
pub struct Sampler {
    request: Request,
    rules: Rules,
    /// Keys of the networks that training must not see.
    held_out: HashSet<Vec<u8>>,
}

impl Sampler {
    /// Prepares to draw. For a training split this draws the splits that the hypernetwork is judged on, each with its
    /// [`Split::default_count`], so that none of their networks, of whatever width, is trained on.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn new(request: Request) -> Result<Self, SampleError> {
        if request.split == Split::IdWidened && request.space != Space::Mobile {
            return Err(SampleError::Split(request.space));
        }
        let rules = request.space.rules(request.split, request.switches);
        let mut sampler = Self { request, rules, held_out: HashSet::new() };
        if request.split.is_training() {
            let judged = [Split::Validation, Split::Id, Split::Deep, Split::Wide, Split::BnFree];
            for split in judged {
                let judge = Self::new(request.judged_on(split))?;
                let nets: Result<Vec<_>, _> =
                    (0..split.default_count() as u64).into_par_iter().map(|index| judge.draw(index)).collect();
                nets?.into_iter().for_each(|(net, _)| sampler.hold_out(net));
            }
        }
        Ok(sampler)
    }

    /// Keeps a network, at whatever width, from being drawn.
    pub fn hold_out(&mut self, net: Architecture) {
        self.held_out.insert(key_but_width(net));
    }

    /// Whether a network is kept from being drawn.
    pub fn is_held_out(&self, net: &Architecture) -> bool {
        self.held_out.contains(&key_but_width(net.clone()))
    }

    /// Network number `index`, and what became of its draws.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn draw(&self, index: u64) -> Result<(Architecture, Tally), SampleError> {
        let mut stream = Stream::new(self.request.key(), index);
        let mut tally = Tally::default();
        while tally.draws < MOST_DRAWS as u64 {
            tally.draws += 1;
            let drawn = match self.rules.arguments(&mut stream) {
                Ok(arguments) => self.widen(arguments, &mut stream)?,
                Err(rejection) => Err(rejection),
            };
            match drawn {
                Ok(net) if !self.is_held_out(&net) => return Ok((net, tally)),
                Ok(_) => tally.rejected[Rejection::HeldOut as usize] += 1,
                Err(rejection) => tally.rejected[rejection as usize] += 1,
            }
        }
        Err(SampleError::Starved { index, caps: self.request.caps, tally })
    }

    /// Networks `0..count`; `progress` hears, from any thread, how many more are done.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn generate(&self, count: usize, progress: &(dyn Fn(usize) + Sync)) -> Result<(GraphSet, Tally), SampleError> {
        const CHUNK: usize = 256;
        let chunk = |first: usize| {
            let mut nets = Vec::with_capacity(CHUNK);
            let mut tally = Tally::default();
            for index in first..count.min(first + CHUNK) {
                let (net, of_net) = self.draw(index as u64)?;
                nets.push(net.to_bytes().map_err(BuildError::from)?);
                tally = tally.plus(of_net);
            }
            progress(nets.len());
            Ok((nets, tally))
        };
        // Which error is told must not depend on which thread was first: nothing behind the first is drawn, all before it is.
        let failed = AtomicUsize::new(usize::MAX);
        let unless_failed = |first: usize| {
            (first < failed.load(Ordering::Relaxed)).then(|| {
                chunk(first).inspect_err(|_| {
                    failed.fetch_min(first, Ordering::Relaxed);
                })
            })
        };
        let starts: Vec<usize> = (0..count).step_by(CHUNK).collect();
        let chunks: Vec<_> = starts.into_par_iter().map(unless_failed).collect();
        let chunks: Vec<_> = chunks.into_iter().flatten().collect::<Result<_, SampleError>>()?;
        let tally = chunks.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally));
        let records = chunks.into_iter().flat_map(|(nets, _)| nets);
        Ok((GraphSet::new(self.request, records), tally))
    }

    /// Gives drawn arguments their width, or says which rule or cap is in the way.
    fn widen(
        &self,
        mut net: Architecture,
        stream: &mut Stream,
    ) -> Result<Result<Architecture, Rejection>, SampleError> {
        let with_hidden = net.hidden.is_some();
        match &self.rules.widths {
            Widths::Training => {
                (net.width, net.hidden) = (32, with_hidden.then_some(256));
                let Some(small) = self.build(&net)? else { return Ok(Err(Rejection::Disconnected)) };
                let (width, hidden) = training_width(&net, small.declared_parameters, &self.rules.hidden, stream);
                (net.width, net.hidden) = (width, with_hidden.then_some(hidden));
            }
            Widths::Uniform(widths) => {
                net.width = stream.pick(widths);
                net.hidden = with_hidden.then(|| stream.pick(&self.rules.hidden));
            }
            Widths::Fitting(widths) => {
                net.hidden = with_hidden.then(|| stream.pick(&self.rules.hidden));
                // Costs grow with the width, so what is narrower than a network that fits does too; plans of arenas take
                // time, so only the width that is drawn gets one.
                let mut choices = &widths[..];
                let mut rejection = Rejection::Disconnected;
                while let [narrower @ .., widest] = choices {
                    net.width = *widest;
                    match self.cost(&net)? {
                        Ok(_) => break,
                        Err(reason) => (choices, rejection) = (narrower, reason),
                    }
                }
                while !choices.is_empty() {
                    net.width = stream.pick(choices);
                    match self.rejection(&net)? {
                        None => return Ok(Ok(net)),
                        Some(reason) => rejection = reason,
                    }
                    choices = &choices[..choices.iter().take_while(|&&width| width < net.width).count()];
                }
                return Ok(Err(rejection));
            }
        }
        if let Some(rejection) = self.rejection(&net)? {
            return Ok(Err(rejection));
        }
        if self.request.split == Split::IdWidened {
            net.width = 32;
            while self.build(&net)?.is_some_and(|built| built.declared_parameters < 2_500_000) {
                net.width += 16;
            }
        }
        Ok(Ok(net))
    }

    /// The network spelled out; nothing if its output does not depend on the image.
    fn build(&self, net: &Architecture) -> Result<Option<Blueprint>, BuildError> {
        match Blueprint::build(net, self.request.task) {
            Ok(built) => Ok(Some(built)),
            Err(BuildError::Disconnected) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The network spelled out, or which cap but the arena's is in the way.
    fn cost(&self, net: &Architecture) -> Result<Result<Blueprint, Rejection>, SampleError> {
        let Caps { parameters, macs, .. } = self.request.caps;
        let Some(built) = self.build(net)? else { return Ok(Err(Rejection::Disconnected)) };
        if built.declared_parameters > parameters {
            return Ok(Err(Rejection::Parameters));
        }
        if macs.is_some_and(|cap| built.macs().total() > cap) {
            return Ok(Err(Rejection::Macs));
        }
        Ok(Ok(built))
    }

    /// What is in the way of a complete network.
    fn rejection(&self, net: &Architecture) -> Result<Option<Rejection>, SampleError> {
        let built = match self.cost(net)? {
            Ok(built) => built,
            Err(rejection) => return Ok(Some(rejection)),
        };
        let fits = match self.request.caps.arena_bytes {
            // No plan is below the least, which is found at once.
            Some(cap) => built.least_arena_bytes() <= cap && arena_fits(&built, cap)?,
            None => true,
        };
        Ok((!fits).then_some(Rejection::Arena))
    }
}

/// What makes a network unseen: all arguments but width and hidden features.
fn key_but_width(mut net: Architecture) -> Vec<u8> {
    net.width = 2;
    net.hidden = net.hidden.map(|_| 1);
    net.to_bytes().expect("drawn arguments are in range")
}

/// Width and hidden features by the rule of GHN-2's training loader, from the parameters at width 32.
fn training_width(net: &Architecture, parameters: u64, hidden: &[u16], stream: &mut Stream) -> (u16, u16) {
    const WIDTHS: [u16; 7] = [32, 48, 64, 80, 96, 112, 128];
    const HIDDEN: [u16; 8] = [64, 128, 192, 256, 320, 384, 448, 512];
    let few = stream.pick(hidden);
    if parameters > 800_000 || !net.global_average || net.ops().any(CellOp::is_large) || net.cells > 12 {
        (32, few)
    } else if parameters > 400_000 || net.cells > 10 {
        (stream.pick(&WIDTHS[..2]), few)
    } else if parameters > 200_000 || net.cells > 8 {
        (stream.pick(&WIDTHS[..3]), few)
    } else {
        let width = stream.pick(&WIDTHS);
        (width, if width <= 64 { stream.pick(&HIDDEN) } else { few })
    }
}

impl Rules {
    /// Everything but the width; the rules of DeepNets-1M.
    fn arguments(&self, stream: &mut Stream) -> Result<Architecture, Rejection> {
        let cells = stream.within(&self.cells);
        let deep = cells > stream.within(&self.deep_beyond);
        let steps = usize::from(stream.within(&(1..=self.most_steps[usize::from(deep)])));
        let allowed = |op: &CellOp| steps > 1 || *op != CellOp::None;
        let ops: Vec<CellOp> = self.ops.iter().copied().filter(allowed).collect();
        let weightless: Vec<CellOp> = ops.iter().copied().filter(|op| !op.is_convolution()).collect();
        let normal = cell(&ops, steps, stream);
        let reduction = cell(if stream.once_in(2) { &weightless } else { &ops }, steps, stream);
        let drop_states = steps > 1 && stream.once_in(2);
        let concat = (1..=steps).map(|k| k == steps || !drop_states || stream.once_in(2)).collect();
        let shallow = cells <= self.cells.start() + 1 && steps <= usize::from(self.most_steps[1]);
        let norm_free = match self.norm_free {
            NormFree::All => true,
            NormFree::OnceIn(n) => shallow && stream.once_in(n),
        };
        let net = Architecture {
            cells,
            width: 0,
            widening: stream.pick(&[1, 2]),
            normal,
            reduction,
            concat,
            stem: if stream.once_in(2) { Stem::Strided } else { Stem::Simple { pool: stream.once_in(2) } },
            stem_kernel: stream.pick(self.stem_kernels),
            batch_norm: !norm_free,
            global_average: deep || !stream.once_in(10),
            hidden: stream.once_in(2).then_some(0),
        };
        let large = |cell: &[Step]| cell.iter().flat_map(|step| step.branches).filter(|(op, _)| op.is_large()).count();
        if !net.ops().any(CellOp::is_convolution) {
            Err(Rejection::NoConvolution)
        } else if large(&net.normal) > 1 || large(&net.reduction) > 1 {
            Err(Rejection::LargeConvolutions)
        } else {
            Ok(net)
        }
    }
}

/// Steps with uniform operations on two different earlier states.
fn cell(ops: &[CellOp], steps: usize, stream: &mut Stream) -> Vec<Step> {
    let step = |k: usize| {
        let first = stream.below(k + 2);
        let second = (first + 1 + stream.below(k + 1)) % (k + 2);
        Step::new((stream.pick(ops), first as u8), (stream.pick(ops), second as u8))
    };
    (0..steps).map(step).collect()
}
