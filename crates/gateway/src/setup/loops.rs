//! What is done about agents that go in circles.
//!
//! **Invariant**: each action includes those before it (test `actions_are_in_order`).

use policy::agents::steps::POLLING;

use crate::setup::Target;

/// How far a route may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing is looked at.
    Off,
    /// Loops are written down and named in a header.
    Observe,
    /// The agent is told, in the text that it reads next.
    Nudge,
    /// For as long as a loop lasts, calls go to a cheaper target.
    Degrade,
    /// A task that goes on with it is refused.
    Stop,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 5] = [
        Self::Off,
        Self::Observe,
        Self::Nudge,
        Self::Degrade,
        Self::Stop,
    ];

    /// As configuration and notes have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Nudge => "nudge",
            Self::Degrade => "degrade",
            Self::Stop => "stop",
        }
    }
}

/// What is done about loops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loops {
    /// How far it may go.
    pub action: Action,
    /// Tools that may repeat, besides those that are known to wait.
    pub polling: Vec<String>,
    /// Where calls go while a loop lasts.
    pub degrade_to: Option<Target>,
}

impl Loops {
    /// Nothing.
    pub const OFF: Self = Self {
        action: Action::Off,
        polling: Vec::new(),
        degrade_to: None,
    };

    /// All tools that may repeat.
    pub fn may_repeat(&self) -> Vec<&str> {
        let own = self.polling.iter().map(String::as_str);
        POLLING.into_iter().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Action;

    #[test]
    fn actions_are_in_order() {
        assert!(Action::ALL.is_sorted());
        assert_eq!(
            Action::ALL.map(Action::name),
            ["off", "observe", "nudge", "degrade", "stop"]
        );
    }
}
