//! What process trees and the machine have used, read from `/proc`.
//!
//! **Invariant**: CPU time is that of the scheduler, thread by thread, in nanoseconds; a thread that
//! began within a window counts from its beginning.

use std::collections::HashMap;
use std::fs;

/// Nanoseconds on CPU by process and thread.
pub type CpuTimes = HashMap<(i32, i32), u64>;

/// These processes and all that descend from them.
pub fn tree(roots: &[i32]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in numbers("/proc") {
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        if let Some(end) = stat.rfind(')') {
            let fields = &stat[end + 2..];
            let parent = fields.split(' ').nth(1).and_then(|x| x.parse().ok());
            children
                .entry(parent.unwrap_or(0))
                .or_default()
                .push(process);
        }
    }
    let mut found = vec![];
    let mut open: Vec<i32> = roots.to_vec();
    while let Some(process) = open.pop() {
        found.push(process);
        if let Some(more) = children.get(&process) {
            open.extend(more);
        }
    }
    found
}

/// What the threads of these processes have used so far.
pub fn cpu_times(processes: &[i32]) -> CpuTimes {
    let mut times = HashMap::new();
    for &process in processes {
        for thread in numbers(&format!("/proc/{process}/task")) {
            let path = format!("/proc/{process}/task/{thread}/schedstat");
            let Ok(text) = fs::read_to_string(path) else {
                continue;
            };
            if let Some(ns) = text.split(' ').next().and_then(|x| x.parse().ok()) {
                times.insert((process, thread), ns);
            }
        }
    }
    times
}

/// The nanoseconds between two readings.
pub fn cpu_between(before: &CpuTimes, after: &CpuTimes) -> u64 {
    after
        .iter()
        .map(|(thread, ns)| ns.saturating_sub(*before.get(thread).unwrap_or(&0)))
        .sum()
}

/// Microseconds that this process has used.
pub fn own_cpu_us() -> f64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) as f64 * 1e6
        + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) as f64
}

/// What the whole machine did so far, in clock ticks.
#[derive(Clone, Copy, Default)]
pub struct Machine {
    /// At work.
    pub busy: u64,
    /// Taken by the host.
    pub stolen: u64,
    /// In all.
    pub total: u64,
}

/// Reads what the machine did so far; nothing where the kernel says too little.
pub fn machine() -> Machine {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or("");
    let ticks = first.split_whitespace().skip(1);
    let ticks: Vec<u64> = ticks.filter_map(|x| x.parse().ok()).collect();
    match ticks[..] {
        [user, nice, system, _, _, interrupts, soft, stolen, ..] => Machine {
            busy: user + nice + system + interrupts + soft,
            stolen,
            total: ticks[..8].iter().sum(),
        },
        _ => Machine::default(),
    }
}

/// What processes hold in memory, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Resident.
    pub rss_kb: u64,
    /// Resident, with shared pages split over those that share them.
    pub pss_kb: u64,
}

impl Memory {
    /// What these processes hold together.
    pub fn of(processes: &[i32]) -> Self {
        let mut sum = Self::default();
        for process in processes {
            let path = format!("/proc/{process}/smaps_rollup");
            for line in fs::read_to_string(path).unwrap_or_default().lines() {
                let amount = || line.split_whitespace().nth(1)?.parse::<u64>().ok();
                if line.starts_with("Rss:") {
                    sum.rss_kb += amount().unwrap_or(0);
                } else if line.starts_with("Pss:") {
                    sum.pss_kb += amount().unwrap_or(0);
                }
            }
        }
        sum
    }

    /// The larger of each figure.
    pub fn max(self, other: Self) -> Self {
        Self {
            rss_kb: self.rss_kb.max(other.rss_kb),
            pss_kb: self.pss_kb.max(other.pss_kb),
        }
    }
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect()
}
