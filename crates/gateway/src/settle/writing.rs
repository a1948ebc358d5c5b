//! What an operator is told of a ledger that cannot be written.
//!
//! **Invariant**: each cause is told once while it lasts, and its end once (test
//! `a_cause_is_told_once_and_its_end_too`).

use policy::ports::LedgerHealth;

/// What was told last.
#[derive(Debug, Default)]
pub struct Writing {
    cause: Option<String>,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
enum News<'h> {
    /// It cannot be written, for this cause.
    Fails(&'h str),
    /// It can again.
    Works,
}

impl Writing {
    /// Logs what is new.
    pub fn tell(&mut self, health: &LedgerHealth) {
        match self.news(health) {
            Some(News::Fails(cause)) => tracing::error!(
                cause,
                waiting = health.queued,
                "the ledger cannot be written; answers wait for it, and its rows are kept in \
                 memory: see to its disk, and do not kill this process"
            ),
            Some(News::Works) => tracing::info!("the ledger is written again; nothing was lost"),
            None => {}
        }
    }

    fn news<'h>(&mut self, health: &'h LedgerHealth) -> Option<News<'h>> {
        if self.cause == health.failing {
            return None;
        }
        self.cause.clone_from(&health.failing);
        let fails = health.failing.as_deref().map(News::Fails);
        Some(fails.unwrap_or(News::Works))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_and_its_end_too() {
        let mut writing = Writing::default();
        let full = "database or disk is full";
        for (failing, expect) in [
            (None, None),
            (Some(full), Some(News::Fails(full))),
            (Some(full), None),
            (Some("disk I/O error"), Some(News::Fails("disk I/O error"))),
            (None, Some(News::Works)),
            (None, None),
        ] {
            let health = LedgerHealth {
                failing: failing.map(str::to_owned),
                ..LedgerHealth::default()
            };
            assert_eq!(writing.news(&health), expect, "{failing:?}");
        }
    }
}
