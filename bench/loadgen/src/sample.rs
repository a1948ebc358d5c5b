//! What processes use while the window is measured.
//!
//! **Invariant**: both readings are taken at the window's edges, so that CPU time and calls are of the
//! same stretch of time.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{now_ns, until};
use crate::mode::{Live, Window};
use crate::options::Options;
use crate::processes::{
    cpu_between, cpu_times, machine, own_cpu_us, tree, CpuTimes, Machine, Memory,
};

/// Memory is looked at twice a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was used within the window.
pub struct Used {
    /// How long it was.
    pub seconds: f64,
    /// CPU time of the measured processes.
    pub cpu_us: f64,
    /// CPU time of the helping processes, in CPUs.
    pub helping: f64,
    /// CPU time of this process, in CPUs.
    pub own: f64,
    /// Streamed chunks that came.
    pub chunks: u64,
    /// The most memory that the measured processes had.
    pub memory: Memory,
    /// Threads of the measured processes at the end.
    pub threads: usize,
    /// The share of the machine's time at work.
    pub machine_busy: f64,
    /// The share of the machine's time that its host took.
    pub machine_stolen: f64,
}

/// All counters at one moment.
struct Reading {
    at: Instant,
    measured: CpuTimes,
    helping: CpuTimes,
    own_us: f64,
    chunks: u64,
    machine: Machine,
}

impl Reading {
    fn now(options: &Options, live: &Live) -> Self {
        Self {
            measured: cpu_times(&tree(&options.measured)),
            chunks: live.chunks.load(Relaxed),
            own_us: own_cpu_us(),
            helping: cpu_times(&tree(&options.helping)),
            machine: machine(),
            at: Instant::now(),
        }
    }
}

/// Waits for the window, measures, and returns when it is over.
pub fn sample(options: &Options, window: Window, live: &Live) -> Used {
    sleep_until(window.from_ns);
    let before = Reading::now(options, live);
    let mut memory = Memory::default();
    while let Some(left) = until(window.to_ns) {
        thread::sleep(left.min(LOOK_EVERY));
        if now_ns() < window.to_ns {
            memory = memory.max(Memory::of(&tree(&options.measured)));
        }
    }
    let after = Reading::now(options, live);
    memory = memory.max(Memory::of(&tree(&options.measured)));
    let seconds = (after.at - before.at).as_secs_f64();
    let cpus = |ns: u64| ns as f64 / 1e9 / seconds;
    let ticks = (after.machine.total - before.machine.total).max(1) as f64;
    Used {
        seconds,
        cpu_us: cpu_between(&before.measured, &after.measured) as f64 / 1e3,
        helping: cpus(cpu_between(&before.helping, &after.helping)),
        own: (after.own_us - before.own_us) / 1e6 / seconds,
        chunks: after.chunks - before.chunks,
        memory,
        threads: after.measured.len(),
        machine_busy: (after.machine.busy - before.machine.busy) as f64 / ticks,
        machine_stolen: (after.machine.stolen - before.machine.stolen) as f64 / ticks,
    }
}

fn sleep_until(at_ns: u64) {
    if let Some(left) = until(at_ns) {
        thread::sleep(left);
    }
}
