//! Trees: regression by boosting, on histograms.
//!
//! **Invariant**: a split leaves no side with fewer rows than [`Growth::rows_min`]; the same seed
//! grows the same trees (test `planted_steps_are_found`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "bins are bytes, nodes are few, counts of rows are small"
)]

use policy::route::predictor::{Head, Node, Tree};

use crate::draw::Draws;

/// 48 bins of about equal rows: an edge each fiftieth part, and a sum of all bins fits the cache.
const BINS_MAX: usize = 48;

/// How trees grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// How many trees.
    pub rounds: usize,
    /// Leaves of each.
    pub leaves: usize,
    /// How much of what a tree learned is kept.
    pub rate: f32,
    /// Rows of a leaf, at least.
    pub rows_min: usize,
    /// How strongly leaves are drawn to zero, in rows.
    pub pull: f64,
    /// Of 256, how many rows a tree looks at.
    pub rows_of_256: u64,
    /// Of 256, how many inputs a tree may ask about.
    pub inputs_of_256: u64,
}

/// Mild: small trees and slow steps, for outcomes are noisy draws.
pub const GROWTH: Growth = Growth {
    rounds: 160,
    leaves: 8,
    rate: 0.04,
    rows_min: 40,
    pull: 10.0,
    rows_of_256: 180,
    inputs_of_256: 102,
};

/// Inputs in bins, column by column.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    columns: Vec<Vec<u8>>,
    /// The upper edge of each bin but the last.
    edges: Vec<Vec<f32>>,
}

impl Grid {
    /// Bins of about equal weight; `inputs` holds `width` values a row.
    pub fn new(inputs: &[f32], width: usize) -> Self {
        let mut grid = Self::default();
        for column in 0..width {
            let values: Vec<f32> = inputs.iter().skip(column).step_by(width).copied().collect();
            let mut sorted = values.clone();
            sorted.sort_unstable_by(f32::total_cmp);
            let count = sorted.len();
            let mut edges: Vec<f32> = (1..BINS_MAX)
                .map(|bin| (bin * count / BINS_MAX).min(count.saturating_sub(1)))
                .filter_map(|at| sorted.get(at).copied())
                .collect();
            edges.dedup_by(|left, right| left.total_cmp(right).is_eq());
            if edges
                .last()
                .zip(sorted.last())
                .is_some_and(|(edge, last)| edge >= last)
            {
                edges.pop();
            }
            let bin = |value: &f32| edges.partition_point(|edge| edge < value) as u8;
            grid.columns.push(values.iter().map(bin).collect());
            grid.edges.push(edges);
        }
        grid
    }
}

/// A sum of labels over some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    errors: f64,
    weight: f64,
    rows: usize,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.errors += other.errors;
        self.weight += other.weight;
        self.rows += other.rows;
    }

    fn minus(self, other: Sum) -> Sum {
        Sum {
            errors: self.errors - other.errors,
            weight: self.weight - other.weight,
            rows: self.rows - other.rows,
        }
    }

    fn gain(self, pull: f64) -> f64 {
        self.errors * self.errors / (self.weight + pull)
    }
}

/// The best question for a leaf.
#[derive(Clone, Copy, Debug)]
struct Split {
    column: usize,
    bin: usize,
    gain: f64,
}

struct Leaf {
    rows: Vec<u32>,
    sum: Sum,
    split: Option<Split>,
    /// The node that leads here, and on which side.
    parent: Option<(usize, Side)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

struct Grower<'data> {
    grid: &'data Grid,
    errors: Vec<f32>,
    weights: &'data [f32],
    growth: Growth,
    inputs: Vec<usize>,
}

/// Grows trees for the rows whose label is known.
pub fn grow(
    grid: &Grid,
    rows: &[usize],
    labels: &[f32],
    weights: &[f32],
    growth: Growth,
    seed: u64,
) -> Head {
    let rows: Vec<u32> = rows
        .iter()
        .filter(|it| !labels[**it].is_nan())
        .map(|it| *it as u32)
        .collect();
    let growth = Growth {
        rows_min: growth.rows_min.min(rows.len() / 20).max(1),
        ..growth
    };
    let total = |of: &dyn Fn(usize) -> f64| rows.iter().map(|it| of(*it as usize)).sum::<f64>();
    let weight = total(&|row| f64::from(weights[row]));
    let sum = total(&|row| f64::from(weights[row] * labels[row]));
    let mut head = Head {
        base: if weight > 0.0 {
            (sum / weight) as f32
        } else {
            0.0
        },
        trees: Vec::new(),
    };
    let errors = labels.iter().map(|it| it - head.base).collect();
    let mut grower = Grower {
        grid,
        errors,
        weights,
        growth,
        inputs: Vec::new(),
    };
    let mut draws = Draws::new(seed);
    for _ in 0..growth.rounds {
        let drawn: Vec<u32> = rows
            .iter()
            .copied()
            .filter(|_| draws.number() % 256 < growth.rows_of_256)
            .collect();
        grower.inputs = (0..grid.columns.len())
            .filter(|_| draws.number() % 256 < growth.inputs_of_256)
            .collect();
        let (tree, questions) = grower.tree(drawn);
        for row in &rows {
            grower.errors[*row as usize] -= leaf(grid, &tree, &questions, *row as usize);
        }
        if !tree.nodes.is_empty() {
            head.trees.push(tree);
        }
    }
    head
}

/// The value of a tree for a row, by bins.
fn leaf(grid: &Grid, tree: &Tree, questions: &[(usize, usize)], row: usize) -> f32 {
    let mut at = if tree.nodes.is_empty() { -1 } else { 0i16 };
    while at >= 0 {
        let (column, bin) = questions[at as usize];
        let goes_left = usize::from(grid.columns[column][row]) <= bin;
        let node = tree.nodes[at as usize];
        at = if goes_left { node.left } else { node.right };
    }
    tree.leaves[(-1 - at) as usize]
}

impl Grower<'_> {
    /// One tree, and its questions in bins.
    fn tree(&self, rows: Vec<u32>) -> (Tree, Vec<(usize, usize)>) {
        let mut tree = Tree::default();
        let mut questions = Vec::new();
        let mut leaves = vec![self.leaf(rows, None)];
        while leaves.len() < self.growth.leaves {
            let gain = |leaf: &Leaf| leaf.split.map_or(0.0, |it| it.gain);
            let best = (0..leaves.len())
                .max_by(|left, right| gain(&leaves[*left]).total_cmp(&gain(&leaves[*right])));
            let Some((at, split)) = best.and_then(|at| leaves[at].split.map(|split| (at, split)))
            else {
                break;
            };
            let leaf = leaves.swap_remove(at);
            let node = tree.nodes.len();
            link(&mut tree, leaf.parent, node as i16);
            tree.nodes.push(Node {
                input: split.column as u16,
                threshold: self.grid.edges[split.column][split.bin],
                left: 0,
                right: 0,
            });
            questions.push((split.column, split.bin));
            let bins = &self.grid.columns[split.column];
            let (left, right) = leaf
                .rows
                .iter()
                .partition(|row| usize::from(bins[**row as usize]) <= split.bin);
            leaves.push(self.leaf(left, Some((node, Side::Left))));
            leaves.push(self.leaf(right, Some((node, Side::Right))));
        }
        for leaf in leaves {
            let next = -1 - tree.leaves.len() as i16;
            link(&mut tree, leaf.parent, next);
            let mean = leaf.sum.errors / (leaf.sum.weight + self.growth.pull);
            tree.leaves.push(mean as f32 * self.growth.rate);
        }
        (tree, questions)
    }

    fn leaf(&self, rows: Vec<u32>, parent: Option<(usize, Side)>) -> Leaf {
        let mut sum = Sum::default();
        for row in &rows {
            sum.add(self.one(*row));
        }
        let split = if rows.len() >= 2 * self.growth.rows_min {
            self.split(&rows, sum)
        } else {
            None
        };
        Leaf {
            rows,
            sum,
            split,
            parent,
        }
    }

    fn one(&self, row: u32) -> Sum {
        let weight = f64::from(self.weights[row as usize]);
        Sum {
            errors: weight * f64::from(self.errors[row as usize]),
            weight,
            rows: 1,
        }
    }

    fn split(&self, rows: &[u32], all: Sum) -> Option<Split> {
        let (pull, rows_min) = (self.growth.pull, self.growth.rows_min);
        let mut best: Option<Split> = None;
        for column in &self.inputs {
            let bins = &self.grid.columns[*column];
            let mut sums = [Sum::default(); BINS_MAX];
            for row in rows {
                sums[usize::from(bins[*row as usize])].add(self.one(*row));
            }
            let mut left = Sum::default();
            for (bin, sum) in sums.iter().enumerate().take(self.grid.edges[*column].len()) {
                left.add(*sum);
                let right = all.minus(left);
                if left.rows < rows_min || right.rows < rows_min {
                    continue;
                }
                let gain = left.gain(pull) + right.gain(pull) - all.gain(pull);
                if gain > best.map_or(1e-9, |it| it.gain) {
                    best = Some(Split {
                        column: *column,
                        bin,
                        gain,
                    });
                }
            }
        }
        best
    }
}

fn link(tree: &mut Tree, parent: Option<(usize, Side)>, to: i16) {
    match parent {
        Some((node, Side::Left)) => tree.nodes[node].left = to,
        Some((node, Side::Right)) => tree.nodes[node].right = to,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{GROWTH, Grid, grow};
    use crate::draw::Draws;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn planted_steps_are_found() {
        let mut draws = Draws::new(5);
        let inputs: Vec<f32> = (0..4000).map(|_| draws.below(100) as f32).collect();
        let expect = |row: &[f32]| {
            if row[0] > 60.0 && row[1] < 50.0 {
                1.0
            } else {
                0.0
            }
        };
        let labels: Vec<f32> = inputs.chunks(2).map(expect).collect();
        let rows: Vec<usize> = (0..1500).collect();
        let grid = Grid::new(&inputs, 2);
        let growth = super::Growth {
            inputs_of_256: 256,
            ..GROWTH
        };
        let head = grow(&grid, &rows, &labels, &vec![1.0; 2000], growth, 1);
        assert_eq!(
            head,
            grow(&grid, &rows, &labels, &vec![1.0; 2000], growth, 1)
        );
        let right = (1500..2000)
            .filter(|row| (head.value(&inputs[row * 2..]) > 0.5) == (labels[*row] > 0.5));
        assert!(right.count() > 480);
    }
}
