//! Ridge regression: a weighted sum of a few inputs, drawn towards saying nothing.
//!
//! **Invariant**: with a strong pull every prediction is the mean outcome (test
//! `a_planted_line_is_found`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

/// A fitted sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ridge {
    /// Mean and spread of each input.
    scales: Vec<(f64, f64)>,
    weights: Vec<f64>,
    base: f64,
}

impl Ridge {
    /// Fits the outcomes of the rows `on`; `pull` is the strength of the pull, in rows.
    pub fn fit(inputs: &[Vec<f64>], outcomes: &[f64], on: &[usize], pull: f64) -> Self {
        let rows = on.len().max(1) as f64;
        let width = inputs.first().map_or(0, Vec::len);
        let scale = |at: usize| {
            let mean = on.iter().map(|row| inputs[*row][at]).sum::<f64>() / rows;
            let apart = |row: &usize| (inputs[*row][at] - mean).powi(2);
            let spread = (on.iter().map(apart).sum::<f64>() / rows).sqrt();
            (mean, spread.max(1e-9))
        };
        let mut fitted = Self {
            scales: (0..width).map(scale).collect(),
            weights: vec![0.0; width],
            base: on.iter().map(|row| outcomes[*row]).sum::<f64>() / rows,
        };
        // Normal equations, the outcome as the last column.
        let mut equations = vec![vec![0.0; width + 1]; width];
        for row in on {
            let input = fitted.scaled(&inputs[*row]);
            for (left, equation) in equations.iter_mut().enumerate() {
                for (right, value) in input.iter().enumerate() {
                    equation[right] += input[left] * value;
                }
                equation[width] += input[left] * (outcomes[*row] - fitted.base);
            }
        }
        for (at, equation) in equations.iter_mut().enumerate() {
            equation[at] += pull;
        }
        fitted.weights = solve(equations);
        fitted
    }

    /// The prediction.
    pub fn at(&self, input: &[f64]) -> f64 {
        let parts = self.scaled(input).into_iter().zip(&self.weights);
        self.base + parts.map(|(value, weight)| value * weight).sum::<f64>()
    }

    fn scaled(&self, input: &[f64]) -> Vec<f64> {
        let parts = input.iter().zip(&self.scales);
        parts
            .map(|(value, (mean, spread))| (value - mean) / spread)
            .collect()
    }
}

/// Gaussian elimination without pivoting: the pull makes the matrix positive definite.
pub(crate) fn solve(mut equations: Vec<Vec<f64>>) -> Vec<f64> {
    let width = equations.len();
    for at in 0..width {
        let lead = equations[at].clone();
        for equation in equations.iter_mut().skip(at + 1) {
            let factor = equation[at] / lead[at];
            for (value, lead) in equation.iter_mut().zip(&lead) {
                *value -= factor * lead;
            }
        }
    }
    let mut found = vec![0.0; width];
    for at in (0..width).rev() {
        let known: f64 = (at + 1..width)
            .map(|it| equations[at][it] * found[it])
            .sum();
        found[at] = (equations[at][width] - known) / equations[at][at];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::Ridge;

    #[test]
    fn a_planted_line_is_found() {
        let inputs: Vec<Vec<f64>> = (0..60)
            .map(|row| {
                vec![
                    f64::from(row % 7),
                    f64::from(row % 11) * 10.0,
                    f64::from(row % 5),
                ]
            })
            .collect();
        let planted = |input: &[f64]| 1.0 + 2.0 * input[0] - 0.3 * input[1];
        let outcomes: Vec<f64> = inputs.iter().map(|input| planted(input)).collect();
        let on: Vec<usize> = (0..60).collect();
        let close = Ridge::fit(&inputs, &outcomes, &on, 1e-6);
        let still = Ridge::fit(&inputs, &outcomes, &on, 1e9);
        let mean = outcomes.iter().sum::<f64>() / 60.0;
        for input in [[3.0, 40.0, 2.0], [6.0, 0.0, 4.0]] {
            assert!((close.at(&input) - planted(&input)).abs() < 1e-4);
            assert!((still.at(&input) - mean).abs() < 1e-4);
        }
    }
}
