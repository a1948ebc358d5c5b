//! Calibration: probabilities that mean what they say.
//!
//! **Invariant**: a calibrated probability keeps the order of what it was made of (test
//! `a_skewed_probability_is_straightened`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "bins of probabilities"
)]

/// `1 / (1 + e^-(slope × logit + offset))` (Platt, 1999).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Platt {
    /// Of the logit; above 0.
    pub slope: f64,
    /// Added to it.
    pub offset: f64,
}

/// 25 steps of Newton's method, which doubles its right digits with each near the optimum.
const STEPS: usize = 25;

fn logit(probability: f64) -> f64 {
    let probability = probability.clamp(1e-4, 1.0 - 1e-4);
    (probability / (1.0 - probability)).ln()
}

impl Platt {
    /// Fits probabilities to what came true; drawn to leaving them as they are.
    pub fn fit(probabilities: &[f64], came_true: &[bool]) -> Self {
        let mut fit = Self {
            slope: 1.0,
            offset: 0.0,
        };
        for _ in 0..STEPS {
            let (mut first, mut second) = ([-(fit.slope - 1.0), -fit.offset], [1.0, 0.0, 1.0]);
            for (probability, truth) in probabilities.iter().zip(came_true) {
                let (logit, now) = (logit(*probability), fit.at(*probability));
                let error = f64::from(u8::from(*truth)) - now;
                let spread = now * (1.0 - now);
                first[0] += error * logit;
                first[1] += error;
                second[0] += spread * logit * logit;
                second[1] += spread * logit;
                second[2] += spread;
            }
            let determinant = second[0] * second[2] - second[1] * second[1];
            if determinant.abs() < 1e-12 {
                break;
            }
            fit.slope += (second[2] * first[0] - second[1] * first[1]) / determinant;
            fit.offset += (second[0] * first[1] - second[1] * first[0]) / determinant;
            fit.slope = fit.slope.clamp(0.05, 5.0);
        }
        fit
    }

    /// The calibrated probability.
    pub fn at(self, probability: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * logit(probability) + self.offset)).exp())
    }
}

/// A row of a reliability table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many probabilities lie in it.
    pub rows: usize,
    /// Their mean.
    pub said: f64,
    /// The share that came true.
    pub came_true: f64,
}

/// Bins of equal width.
pub fn reliability(probabilities: &[f64], came_true: &[bool], bins: usize) -> Vec<Bin> {
    let mut table = vec![Bin::default(); bins];
    for (probability, truth) in probabilities.iter().zip(came_true) {
        let bin = &mut table[((probability * bins as f64) as usize).min(bins - 1)];
        bin.rows += 1;
        bin.said += probability;
        bin.came_true += f64::from(u8::from(*truth));
    }
    for bin in &mut table {
        let rows = bin.rows.max(1) as f64;
        bin.said /= rows;
        bin.came_true /= rows;
    }
    table
}

/// The expected calibration error: how far bins are off, by their rows.
pub fn error(table: &[Bin]) -> f64 {
    let rows: usize = table.iter().map(|it| it.rows).sum();
    let off = |bin: &Bin| (bin.said - bin.came_true).abs() * bin.rows as f64;
    table.iter().map(off).sum::<f64>() / rows.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{Platt, error, reliability};
    use crate::draw::Draws;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn a_skewed_probability_is_straightened() {
        let mut draws = Draws::new(4);
        let (mut said, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..4000 {
            let probability = draws.below(1000) as f64 / 1000.0;
            truth.push((draws.below(1000) as f64 / 1000.0) < probability);
            said.push(probability.powi(3));
        }
        let fit = Platt::fit(&said[..2000], &truth[..2000]);
        assert!(fit.slope > 0.0);
        let after: Vec<f64> = said[2000..].iter().map(|it| fit.at(*it)).collect();
        let before = error(&reliability(&said[2000..], &truth[2000..], 15));
        let after = error(&reliability(&after, &truth[2000..], 15));
        assert!(before > 0.2 && after < 0.05, "{before} {after}");
    }
}
