//! Lines: how far what the trees say is believed, with and without the segment.
//!
//! **Invariant**: where a text tells how hard a call is and nothing of the differences between targets,
//! targets keep their distance whatever is asked (test `what_only_looks_different_is_not_believed`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "lines are stored as they are read; counts of rows are small"
)]

use std::collections::BTreeMap;

use policy::route::predictor::{Line, OUTPUTS};

use crate::corpus::Corpus;

/// 20 rows: a segment with fewer is believed less than the model over all segments.
const SEGMENT_ROWS: f64 = 20.0;

/// 2 targets: between two, a slope of the difference orders no call anew among those of its segment.
/// Among more, one too steep takes the target whose error is the greatest.
const TARGETS_AS_ONE: usize = 2;

/// Raw outputs for rows that were held out, beside their labels.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'data> {
    /// The rows, by their place in the corpus.
    pub on: &'data [usize],
    /// Outputs of each row: [`OUTPUTS`] of each target.
    pub width: usize,
    /// For each row of the corpus; `NAN` where unknown.
    pub labels: &'data [f32],
    /// For each row of the corpus.
    pub weights: &'data [f32],
    /// For each of `on`.
    pub raw: &'data [f32],
}

/// How raw outputs become estimates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// Where the segment is unknown.
    pub all: Vec<Line>,
    /// By segment of the corpus.
    pub segments: BTreeMap<usize, Vec<Line>>,
}

impl Lines {
    /// Fits lines: near the means of their segments, as far as those have rows.
    pub fn new(corpus: &Corpus, beside: &Beside<'_>) -> Self {
        let mut lines = Self::default();
        let (none, count) = (vec![0usize; corpus.len()], corpus.segment_names.len());
        let kinds = 0..OUTPUTS.len();
        let all_slopes: Vec<_> = kinds
            .clone()
            .map(|it| beside.slopes(it, &none, 1))
            .collect();
        let own_slopes: Vec<_> = kinds
            .map(|it| beside.slopes(it, &corpus.segments, count))
            .collect();
        for output in 0..beside.width {
            let kind = output % OUTPUTS.len();
            let over_all = beside.means(output, &none, 1)[0];
            let slopes = all_slopes[kind].of(0);
            lines.all.push(slopes.line(over_all.off(slopes)));
            let means = beside.means(output, &corpus.segments, count);
            for (segment, mean) in means.iter().enumerate() {
                let slopes = own_slopes[kind].of(segment);
                let belief = believed(mean.rows);
                let offset = belief * mean.off(slopes) + (1.0 - belief) * over_all.off(slopes);
                let own = lines.segments.entry(segment).or_default();
                own.push(slopes.line(offset));
            }
        }
        lines
    }
}

/// How far a segment of so many rows is believed.
fn believed(rows: f64) -> f64 {
    rows / (rows + SEGMENT_ROWS)
}

/// Means of raw outputs, of those of all targets, and of labels.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    weight: f64,
    rows: f64,
    raw: f64,
    shared: f64,
    label: f64,
}

impl Mean {
    fn add(&mut self, weight: f64, values: [f64; 3]) {
        let [raw, shared, label] = values;
        self.weight += weight;
        self.rows += 1.0;
        self.raw += weight * raw;
        self.shared += weight * shared;
        self.label += weight * label;
    }

    fn done(mut self) -> Self {
        if self.weight > 0.0 {
            self.raw /= self.weight;
            self.shared /= self.weight;
            self.label /= self.weight;
        }
        self
    }

    /// What the slopes leave of the label.
    fn off(&self, slopes: Slopes) -> f64 {
        let apart = slopes.apart * (self.raw - self.shared);
        self.label - apart - slopes.together * self.shared
    }
}

/// How far the mean over targets is believed, and what a target is off it.
#[derive(Clone, Copy, Debug)]
struct Slopes {
    together: f64,
    apart: f64,
}

impl Slopes {
    fn line(self, offset: f64) -> Line {
        Line {
            slope: self.apart as f32,
            shared: (self.together - self.apart) as f32,
            offset: offset as f32,
        }
    }
}

/// One for all groups, and one for each group.
#[derive(Clone, Debug)]
struct Fits {
    together: f64,
    apart: Vec<f64>,
}

impl Fits {
    fn of(&self, group: usize) -> Slopes {
        Slopes {
            together: self.together,
            apart: self.apart[group],
        }
    }
}

/// Sums for a slope through the origin.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    rows: f64,
    with: f64,
    own: f64,
}

impl Sums {
    fn add(&mut self, weight: f64, [raw, label]: [f64; 2]) {
        self.with += weight * raw * label;
        self.own += weight * raw * raw;
    }

    fn slope(self) -> f64 {
        if self.own > 1e-12 {
            (self.with / self.own).clamp(0.0, 1.5)
        } else {
            0.0
        }
    }
}

impl Beside<'_> {
    fn targets(&self) -> usize {
        self.width / OUTPUTS.len()
    }

    /// Visits the rows whose label is known, with weight, raw output, that of all targets, and label.
    fn each(&self, output: usize, mut visit: impl FnMut(usize, f64, [f64; 3])) {
        let kind = output % OUTPUTS.len();
        for (local, row) in self.on.iter().enumerate() {
            let label = self.labels[row * self.width + output];
            if !label.is_nan() {
                let raw = &self.raw[local * self.width..][..self.width];
                let of_kind = raw.iter().skip(kind).step_by(OUTPUTS.len());
                let all: f64 = of_kind.map(|it| f64::from(*it)).sum();
                let shared = all / self.targets() as f64;
                let values = [f64::from(raw[output]), shared, f64::from(label)];
                visit(*row, f64::from(self.weights[*row]), values);
            }
        }
    }

    fn means(&self, output: usize, groups: &[usize], count: usize) -> Vec<Mean> {
        let mut means = vec![Mean::default(); count];
        self.each(output, |row, weight, values| {
            means[groups[row]].add(weight, values);
        });
        means.into_iter().map(Mean::done).collect()
    }

    /// The slopes of one kind of output over all targets, within groups.
    fn slopes(&self, kind: usize, groups: &[usize], count: usize) -> Fits {
        let outputs = || (kind..self.width).step_by(OUTPUTS.len());
        let means: Vec<Vec<Mean>> = outputs().map(|it| self.means(it, groups, count)).collect();
        let (mut single, mut together) = (Sums::default(), Sums::default());
        let mut apart = vec![Sums::default(); count];
        let mut known: Vec<[f64; 2]> = Vec::new();
        for (local, row) in self.on.iter().enumerate() {
            let (group, weight) = (groups[*row], f64::from(self.weights[*row]));
            known.clear();
            for (output, means) in outputs().zip(&means) {
                let label = self.labels[row * self.width + output];
                if !label.is_nan() {
                    let raw = f64::from(self.raw[local * self.width + output]);
                    known.push([
                        raw - means[group].raw,
                        f64::from(label) - means[group].label,
                    ]);
                }
            }
            let part = 1.0 / known.len().max(1) as f64;
            let mean = [0, 1].map(|at| part * known.iter().map(|it| it[at]).sum::<f64>());
            together.add(weight, mean);
            apart[group].rows += 1.0;
            for off in &known {
                single.add(weight, *off);
                apart[group].add(weight, [off[0] - mean[0], off[1] - mean[1]]);
            }
        }
        if self.targets() <= TARGETS_AS_ONE {
            return Fits {
                together: single.slope(),
                apart: vec![single.slope(); count],
            };
        }
        let over_all = apart.iter().fold(Sums::default(), |sum, it| Sums {
            rows: sum.rows + it.rows,
            with: sum.with + it.with,
            own: sum.own + it.own,
        });
        let own = |it: &Sums| {
            let belief = believed(it.rows);
            belief * it.slope() + (1.0 - belief) * over_all.slope()
        };
        Fits {
            together: together.slope(),
            apart: apart.iter().map(own).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::route::predictor::OUTPUTS;

    use super::{Beside, Lines};
    use crate::corpus::Corpus;
    use crate::draw::Draws;
    use crate::outcome::Row;

    /// Raw outputs know how hard each row is; what they say beyond that of three targets is noise.
    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn what_only_looks_different_is_not_believed() {
        let mut draws = Draws::new(6);
        let mut uniform = || draws.below(1000) as f32 / 1000.0;
        let rows: Vec<Row> = (0..600)
            .map(|row| Row {
                segment: ["one", "two"][row % 2].to_owned(),
                ..Row::default()
            })
            .collect();
        let (mut labels, mut raw) = (Vec::new(), Vec::new());
        for _ in &rows {
            let ease = uniform();
            for strength in [0.1, 0.2, 0.3] {
                for _ in 0..OUTPUTS.len() {
                    labels.push(0.5 * ease + strength + 0.1 * uniform());
                    raw.push(0.5 * ease + 0.4 * uniform());
                }
            }
        }
        let on: Vec<usize> = (0..rows.len()).collect();
        let beside = Beside {
            on: &on,
            width: 3 * OUTPUTS.len(),
            labels: &labels,
            weights: &vec![1.0; rows.len()],
            raw: &raw,
        };
        let lines = Lines::new(&Corpus::new(&rows), &beside);
        for line in lines.all.iter().chain(lines.segments.values().flatten()) {
            assert!(line.slope < 0.1 && line.shared > 0.5, "{line:?}");
        }
        let quality = |target: usize| lines.all[target * OUTPUTS.len()].at(0.4, 0.4);
        assert!((quality(2) - quality(0) - 0.2).abs() < 0.03);
    }
}
