//! The kill switch: who may call no more, and how calls under way learn of it.
//!
//! **Invariant**: once a stop is set, no call that it covers begins, and those under way end with an
//! error in their own dialect and are settled (test `a_stop_ends_calls_under_way`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::ports::{CallId, Stop};
use policy::refusal::{Reason, Refusal};
use tokio_util::sync::CancellationToken;

/// Who is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Everybody.
    pub everything: bool,
    /// Keys, by public id.
    pub keys: BTreeSet<String>,
    /// Tasks, as clients name them.
    pub tasks: BTreeSet<String>,
}

impl Stopped {
    /// Why a call with this key, of this task and those that it is part of, may not go on, if it may
    /// not.
    pub fn refusal(&self, key: &str, tasks: &[String]) -> Option<Refusal> {
        let task = tasks.iter().find(|task| self.tasks.contains(*task));
        let what = match task {
            _ if self.everything => "every call was stopped".to_owned(),
            _ if self.keys.contains(key) => format!("key `{key}` was stopped"),
            Some(task) => format!("task `{task}` was stopped"),
            None => return None,
        };
        let message = format!("{what} by an operator; `tokenwise resume` lets it go on");
        Some(Refusal::new(Reason::Stopped, message))
    }
}

impl FromIterator<Stop> for Stopped {
    fn from_iter<I: IntoIterator<Item = Stop>>(stops: I) -> Self {
        let mut stopped = Self::default();
        for stop in stops {
            match stop {
                Stop::Everything => stopped.everything = true,
                Stop::Key(id) => _ = stopped.keys.insert(id),
                Stop::Task(name) => _ = stopped.tasks.insert(name),
            }
        }
        stopped
    }
}

/// The kill switch, and the calls that it can reach.
#[derive(Debug, Default)]
pub struct Stops {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: Stopped,
    /// The gateway ends, and waits for nobody.
    cut_off: bool,
    live: HashMap<CallId, Reached>,
}

/// A call under way.
#[derive(Debug)]
struct Reached {
    key: String,
    tasks: Vec<String>,
    token: CancellationToken,
}

/// Held for as long as a call is under way.
#[derive(Debug)]
pub struct Live {
    stops: Arc<Stops>,
    call: CallId,
    token: CancellationToken,
}

impl Stops {
    /// Sets who is stopped, and ends their calls.
    pub fn set(&self, stopped: Stopped) {
        let mut state = self.lock();
        for call in state.live.values() {
            if stopped.refusal(&call.key, &call.tasks).is_some() {
                call.token.cancel();
            }
        }
        state.stopped = stopped;
    }

    /// Ends every call under way, since the gateway ends itself.
    pub fn cut_off(&self) {
        let mut state = self.lock();
        state.cut_off = true;
        state.live.values().for_each(|call| call.token.cancel());
    }

    /// Who is stopped.
    pub fn stopped(&self) -> Stopped {
        self.lock().stopped.clone()
    }

    /// Lets a call begin, unless it is stopped.
    pub fn enter(
        self: &Arc<Self>,
        call: &CallId,
        key: &str,
        tasks: Vec<String>,
    ) -> Result<Live, Refusal> {
        let mut state = self.lock();
        if let Some(refusal) = state.stopped.refusal(key, &tasks) {
            return Err(refusal);
        }
        if state.cut_off {
            return Err(ending());
        }
        let token = CancellationToken::new();
        let reached = Reached {
            key: key.to_owned(),
            tasks,
            token: token.clone(),
        };
        state.live.insert(call.clone(), reached);
        Ok(Live {
            stops: Arc::clone(self),
            call: call.clone(),
            token,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Says which tasks the call belongs to, where that is known only once it is under way; refuses if
    /// one of them was stopped.
    pub fn belongs_to(&self, tasks: Vec<String>) -> Result<(), Refusal> {
        let mut state = self.stops.lock();
        let State { stopped, live, .. } = &mut *state;
        let Some(call) = live.get_mut(&self.call) else {
            return Ok(());
        };
        call.tasks = tasks;
        stopped.refusal(&call.key, &call.tasks).map_or(Ok(()), Err)
    }

    /// Cancelled when the call is stopped.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// What the client of a stopped call is told.
    pub fn refusal(&self) -> Refusal {
        let state = self.stops.lock();
        let told = state.live.get(&self.call).and_then(|call| {
            let stopped = &state.stopped;
            stopped.refusal(&call.key, &call.tasks)
        });
        told.unwrap_or_else(|| {
            if state.cut_off {
                return ending();
            }
            Refusal::new(Reason::Stopped, "this call was stopped by an operator")
        })
    }
}

/// What calls are told that the gateway does not wait for.
fn ending() -> Refusal {
    let message = "the gateway has stopped before this answer was whole; try again";
    Refusal::new(Reason::ShuttingDown, message)
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stops.lock().live.remove(&self.call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_reaches_whom_it_names() {
        let stops = Arc::new(Stops::default());
        let enter = |call: &str, key: &str, tasks: &[&str]| {
            let tasks = tasks.iter().map(|task| (*task).to_owned()).collect();
            stops.enter(&CallId(call.into()), key, tasks)
        };
        let one = enter("1", "a", &["s", "t"]).expect("nobody is stopped");
        let two = enter("2", "b", &[]).expect("nobody is stopped");
        let tasks = Stopped {
            tasks: BTreeSet::from(["t".to_owned()]),
            ..Stopped::default()
        };
        stops.set(tasks);
        assert!(one.token().is_cancelled());
        assert!(!two.token().is_cancelled());
        let message = one.refusal().message;
        assert!(message.starts_with("task `t` was stopped"), "{message}");
        assert!(enter("3", "a", &["s", "t"]).is_err());
        drop(enter("4", "a", &[]).expect("another task"));
        stops.set(Stopped {
            everything: true,
            ..Stopped::default()
        });
        assert!(two.token().is_cancelled());
        stops.set(Stopped::default());
        assert!(enter("5", "a", &["s", "t"]).is_ok());
        drop((one, two));
        assert!(stops.lock().live.is_empty());
    }
}
