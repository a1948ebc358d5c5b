//! The bytes of a model file: a mark, a version, then the parts in order, little-endian.
//!
//! **Invariant**: any bytes are read into a model or refused, without a panic and without trusting a
//! length beyond what is there (test `cut_or_foreign_bytes_are_refused`).

use std::collections::BTreeMap;

use super::{Floor, Head, Line, Linear, Node, OUTPUTS, Predictor, Target, Tree};
use crate::route::features::BUCKETS;

/// What a model file begins with.
const MARK: &[u8; 8] = b"TWROUTE\n";

/// Raised when the parts, or what features mean, change: a model of another version is retrained.
pub const VERSION: u32 = 3;

/// Why bytes are not a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another kind of file.
    #[error("not a router model; train one with `tokenwise learn`")]
    Foreign,
    /// Written by another version.
    #[error(
        "the router model has version {0}, this program reads {VERSION}; train it again with `tokenwise learn`"
    )]
    Version(u32),
    /// Cut short, or damaged.
    #[error("the router model is damaged at byte {0}; copy or train it again")]
    Damaged(usize),
}

/// The bytes of a model.
pub fn write(model: &Predictor) -> Vec<u8> {
    let mut out = Out(MARK.to_vec());
    out.count32(VERSION as usize);
    out.text(&model.card);
    out.0.extend(model.novelty_max.to_le_bytes());
    let linear = &model.linear;
    out.bytes(&linear.rarity);
    out.floats(&linear.bias);
    out.floats(&linear.scale);
    out.count32(linear.weights.len());
    out.0
        .extend(linear.weights.iter().flat_map(|it| it.to_le_bytes()));
    out.count32(model.targets.len());
    for target in &model.targets {
        out.text(&target.name);
        out.0.extend(target.cost_usd.to_le_bytes());
        out.lines(&target.lines);
        out.count32(target.heads.len());
        target.heads.iter().for_each(|head| out.head(head));
    }
    out.count32(model.segments.len());
    for (name, lines) in &model.segments {
        out.text(name);
        out.lines(lines);
    }
    out.count32(model.floors.len());
    for floor in &model.floors {
        out.text(&floor.segment);
        out.0.extend(floor.strong.to_le_bytes());
        out.0.extend(floor.weak.to_le_bytes());
        let numbers = [floor.quality, floor.threshold, floor.lowered];
        out.0.extend(numbers.iter().flat_map(|it| it.to_le_bytes()));
    }
    out.0
}

/// The model that bytes hold.
pub fn read(bytes: &[u8]) -> Result<Predictor, Unreadable> {
    let rest = bytes.strip_prefix(MARK).ok_or(Unreadable::Foreign)?;
    let mut input = In {
        all: bytes.len(),
        rest,
    };
    let version = u32::from_le_bytes(input.array()?);
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let model = input.model()?;
    let outputs = model.linear.bias.len();
    let is_whole = input.rest.is_empty()
        && model.linear.rarity.len() == BUCKETS
        && model.linear.scale.len() == outputs
        && model.linear.weights.len() == BUCKETS * outputs
        && model.novelty_max.is_finite()
        && model.targets.iter().all(is_target)
        && model.floors.iter().all(|it| is_floor(it, &model))
        && model
            .segments
            .values()
            .all(|it| it.len() == OUTPUTS.len() * model.targets.len());
    if is_whole {
        Ok(model)
    } else {
        Err(input.damaged())
    }
}

/// Whether a promise is about targets that there are, in numbers that can be compared.
fn is_floor(floor: &Floor, model: &Predictor) -> bool {
    let is_known = |place: u16| usize::from(place) < model.targets.len();
    is_known(floor.strong)
        && is_known(floor.weak)
        && (0.0..=1.0).contains(&floor.quality)
        && (0.0..=1.0).contains(&floor.lowered)
        && !floor.threshold.is_nan()
}

/// Whether a target has what each needs, and its trees end.
fn is_target(target: &Target) -> bool {
    let is_tree = |tree: &Tree| {
        let leads = |from: usize, to: i16| match usize::try_from(to) {
            Ok(node) => node > from && node < tree.nodes.len(),
            Err(_) => usize::from((-1 - to).unsigned_abs()) < tree.leaves.len(),
        };
        let mut nodes = tree.nodes.iter().enumerate();
        nodes.all(|(at, node)| leads(at, node.left) && leads(at, node.right))
    };
    target.cost_usd.is_finite()
        && target.lines.len() == OUTPUTS.len()
        && target.heads.len() == OUTPUTS.len()
        && target.heads.iter().flat_map(|it| &it.trees).all(is_tree)
}

struct Out(Vec<u8>);

impl Out {
    fn count32(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.extend(count.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count32(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn floats(&mut self, floats: &[f32]) {
        self.count32(floats.len());
        self.0.extend(floats.iter().flat_map(|it| it.to_le_bytes()));
    }

    fn lines(&mut self, lines: &[Line]) {
        let floats = lines.iter().flat_map(|it| [it.slope, it.offset, it.shared]);
        self.floats(&floats.collect::<Vec<f32>>());
    }

    fn head(&mut self, head: &Head) {
        self.0.extend(head.base.to_le_bytes());
        self.count32(head.trees.len());
        for tree in &head.trees {
            self.count32(tree.nodes.len());
            for node in &tree.nodes {
                self.0.extend(node.input.to_le_bytes());
                self.0.extend(node.threshold.to_le_bytes());
                self.0.extend(node.left.to_le_bytes());
                self.0.extend(node.right.to_le_bytes());
            }
            self.floats(&tree.leaves);
        }
    }
}

struct In<'bytes> {
    all: usize,
    rest: &'bytes [u8],
}

impl<'bytes> In<'bytes> {
    fn damaged(&self) -> Unreadable {
        Unreadable::Damaged(self.all - self.rest.len())
    }

    fn take(&mut self, count: usize) -> Result<&'bytes [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.damaged())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Unreadable> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.damaged())?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A count of things that take at least `bytes` each.
    fn count(&mut self, bytes: usize) -> Result<usize, Unreadable> {
        let count = u32::from_le_bytes(self.array()?);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let fits = count
            .checked_mul(bytes)
            .is_some_and(|it| it <= self.rest.len());
        if fits { Ok(count) } else { Err(self.damaged()) }
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        let count = self.count(1)?;
        let text = self.take(count)?.to_vec();
        String::from_utf8(text).map_err(|_| self.damaged())
    }

    fn float(&mut self) -> Result<f32, Unreadable> {
        let float = f32::from_le_bytes(self.array()?);
        if float.is_finite() {
            Ok(float)
        } else {
            Err(self.damaged())
        }
    }

    fn floats(&mut self) -> Result<Vec<f32>, Unreadable> {
        (0..self.count(4)?).map(|_| self.float()).collect()
    }

    fn lines(&mut self) -> Result<Vec<Line>, Unreadable> {
        let floats = self.floats()?;
        let line = |floats: &[f32]| Line {
            slope: floats[0],
            offset: floats[1],
            shared: floats[2],
        };
        Ok(floats.chunks_exact(3).map(line).collect())
    }

    fn head(&mut self) -> Result<Head, Unreadable> {
        let base = self.float()?;
        let mut trees = Vec::new();
        for _ in 0..self.count(8)? {
            let mut nodes = Vec::new();
            for _ in 0..self.count(10)? {
                nodes.push(Node {
                    input: u16::from_le_bytes(self.array()?),
                    threshold: self.float()?,
                    left: i16::from_le_bytes(self.array()?),
                    right: i16::from_le_bytes(self.array()?),
                });
            }
            trees.push(Tree {
                nodes,
                leaves: self.floats()?,
            });
        }
        Ok(Head { base, trees })
    }

    fn target(&mut self) -> Result<Target, Unreadable> {
        let name = self.text()?;
        let cost_usd = f64::from_le_bytes(self.array()?);
        let lines = self.lines()?;
        let heads = (0..self.count(8)?)
            .map(|_| self.head())
            .collect::<Result<_, _>>()?;
        Ok(Target {
            name,
            cost_usd,
            heads,
            lines,
        })
    }

    fn floor(&mut self) -> Result<Floor, Unreadable> {
        Ok(Floor {
            segment: self.text()?,
            strong: u16::from_le_bytes(self.array()?),
            weak: u16::from_le_bytes(self.array()?),
            quality: f64::from_le_bytes(self.array()?),
            threshold: f64::from_le_bytes(self.array()?),
            lowered: f64::from_le_bytes(self.array()?),
        })
    }

    fn model(&mut self) -> Result<Predictor, Unreadable> {
        let card = self.text()?;
        let novelty_max = f64::from_le_bytes(self.array()?);
        let rarity_count = self.count(1)?;
        let rarity = self.take(rarity_count)?.to_vec();
        let bias = self.floats()?;
        let scale = self.floats()?;
        let weight_count = self.count(1)?;
        let weights = self
            .take(weight_count)?
            .iter()
            .map(|it| it.cast_signed())
            .collect();
        let targets = (0..self.count(20)?)
            .map(|_| self.target())
            .collect::<Result<_, _>>()?;
        let mut segments = BTreeMap::new();
        for _ in 0..self.count(8)? {
            segments.insert(self.text()?, self.lines()?);
        }
        let floors = (0..self.count(32)?)
            .map(|_| self.floor())
            .collect::<Result<_, _>>()?;
        Ok(Predictor {
            floors,
            card,
            targets,
            linear: Linear {
                rarity,
                bias,
                scale,
                weights,
            },
            segments,
            novelty_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Floor, Head, Line, Linear, Node, OUTPUTS, Predictor, Target, Tree};
    use super::{Unreadable, read, write};
    use crate::route::features::BUCKETS;

    fn model() -> Predictor {
        let node = Node {
            input: 3,
            threshold: 0.5,
            left: -1,
            right: -2,
        };
        let tree = Tree {
            nodes: vec![node],
            leaves: vec![0.25, -0.25],
        };
        let head = Head {
            base: 0.5,
            trees: vec![tree],
        };
        let line = Line {
            slope: 0.9,
            shared: 0.1,
            offset: 0.05,
        };
        let target = Target {
            name: "acme/small".to_owned(),
            cost_usd: 0.01,
            heads: vec![head; OUTPUTS.len()],
            lines: vec![line; OUTPUTS.len()],
        };
        Predictor {
            card: "rows: 3".to_owned(),
            targets: vec![target],
            linear: Linear {
                rarity: vec![24; BUCKETS],
                bias: vec![0.1],
                scale: vec![0.01],
                weights: vec![-3; BUCKETS],
            },
            segments: BTreeMap::from([("support".to_owned(), vec![line; OUTPUTS.len()])]),
            novelty_max: 0.4,
            floors: vec![Floor {
                segment: "support".to_owned(),
                strong: 0,
                weak: 0,
                quality: 0.97,
                threshold: f64::NEG_INFINITY,
                lowered: 0.0,
            }],
        }
    }

    #[test]
    fn a_model_reads_back_as_written() {
        assert_eq!(read(&write(&model())), Ok(model()));
    }

    #[test]
    fn cut_or_foreign_bytes_are_refused() {
        let bytes = write(&model());
        assert_eq!(read(b"GGUF"), Err(Unreadable::Foreign));
        let mut other = bytes.clone();
        other[8] = 9;
        assert_eq!(read(&other), Err(Unreadable::Version(9)));
        for cut in (8..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
            assert!(
                matches!(read(&bytes[..cut]), Err(Unreadable::Damaged(_))),
                "{cut}"
            );
        }
        let mut unknown = model();
        unknown.floors[0].weak = 1;
        assert!(matches!(
            read(&write(&unknown)),
            Err(Unreadable::Damaged(_))
        ));
        let mut endless = model();
        endless.targets[0].heads[0].trees[0].nodes[0].left = 0;
        assert!(matches!(
            read(&write(&endless)),
            Err(Unreadable::Damaged(_))
        ));
    }
}
