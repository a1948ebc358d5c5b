//! What the calls of the measured window have shown.
//!
//! **Invariant**: records add up: what is merged from many connections is what one would have seen.

/// Counts and times; the times are in 0.1 µs.
#[derive(Default)]
pub struct Record {
    pub latency: Vec<u32>,
    pub first_token: Vec<u32>,
    pub transit: Vec<u32>,
    pub ok: u64,
    pub non2xx: u64,
    pub errors: u64,
    pub incomplete: u64,
    pub no_usage: u64,
    pub reconnects: u64,
    pub late: u64,
    pub sample_error: String,
}

impl Record {
    /// Something failed that is not an answer; the first problem is kept as a sample.
    pub fn failed(&mut self, problem: &str) {
        self.errors += 1;
        self.sample(problem);
    }

    /// Keeps the first problem.
    pub fn sample(&mut self, problem: &str) {
        if self.sample_error.is_empty() {
            self.sample_error = problem.to_string();
        }
    }

    /// Adds what another connection has seen.
    pub fn merge(&mut self, mut other: Self) {
        self.latency.append(&mut other.latency);
        self.first_token.append(&mut other.first_token);
        self.transit.append(&mut other.transit);
        self.ok += other.ok;
        self.non2xx += other.non2xx;
        self.errors += other.errors;
        self.incomplete += other.incomplete;
        self.no_usage += other.no_usage;
        self.reconnects += other.reconnects;
        self.late += other.late;
        self.sample(&other.sample_error);
    }
}

/// Nanoseconds in the unit of a record.
pub fn tenths(ns: u64) -> u32 {
    (ns / 100).min(u32::MAX.into()) as u32
}

/// Times as a member of a JSON object, in microseconds.
pub fn member(name: &str, times: &mut [u32]) -> String {
    times.sort_unstable();
    if times.is_empty() {
        return format!("\"{name}\":null");
    }
    let sum: f64 = times.iter().map(|time| f64::from(*time)).sum();
    let mut text = format!(
        "\"{name}\":{{\"n\":{},\"mean\":{:.1}",
        times.len(),
        sum / times.len() as f64 / 10.0
    );
    for (label, share) in [
        ("min", 0.0),
        ("p10", 0.1),
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p999", 0.999),
        ("max", 1.0),
    ] {
        let place = ((times.len() as f64 - 1.0) * share).round() as usize;
        let micros = f64::from(times[place]) / 10.0;
        text += &format!(",\"{label}\":{micros:.1}");
    }
    text + "}"
}
