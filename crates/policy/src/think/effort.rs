//! One scale of effort for all providers, and how each provider's words map onto it.
//!
//! **Invariant**: a name reads back as the level that it names (test `names_read_back`).

/// Budgets of thinking tokens for models that take a number: Anthropic's least is 1,024, and each
/// level doubles or quadruples it.
/// Source: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>, read 2026-11-23.
const BUDGETS: [(Effort, u64); 6] = [
    (Effort::Minimal, 1_024),
    (Effort::Low, 2_048),
    (Effort::Medium, 8_192),
    (Effort::High, 16_384),
    (Effort::ExtraHigh, 24_576),
    (Effort::Max, 32_000),
];

/// How hard a model is to think, least first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as the model can.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// More.
    #[serde(rename = "xhigh")]
    ExtraHigh,
    /// As much as the model can.
    Max,
}

impl Effort {
    /// Every level, least first.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Minimal,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::ExtraHigh,
        Self::Max,
    ];

    /// The name that providers use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::ExtraHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The level of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// The budget of thinking tokens that stands for the level; 0 for none.
    pub fn budget_tokens(self) -> u64 {
        let found = BUDGETS.iter().find(|(level, _)| *level == self);
        found.map_or(0, |(_, tokens)| *tokens)
    }

    /// The highest level whose budget is within so many tokens.
    pub fn of_budget(tokens: u64) -> Self {
        let within = BUDGETS.iter().rev().find(|(_, budget)| *budget <= tokens);
        within.map_or(Self::None, |(level, _)| *level)
    }

    /// What a client asked for, on this scale; none if it asked for nothing that we know.
    pub fn asked(asked: &wire::dialect::effort::Asked) -> Option<Self> {
        if asked.thinking.as_deref() == Some("disabled") || asked.enabled == Some(false) {
            return Some(Self::None);
        }
        let named = asked.effort.as_deref().and_then(Self::named);
        named.or_else(|| asked.budget_tokens.map(Self::of_budget))
    }
}

impl std::fmt::Display for Effort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use wire::dialect::effort::Asked;

    use super::Effort;

    #[test]
    fn names_read_back() {
        for level in Effort::ALL {
            assert_eq!(Effort::named(level.name()), Some(level));
            assert_eq!(Effort::of_budget(level.budget_tokens()), level);
        }
        assert!(Effort::ALL.is_sorted());
        assert_eq!(Effort::named("ultra"), None);
        assert_eq!(Effort::of_budget(10_000), Effort::Medium);
    }

    #[test]
    fn a_clients_words_are_translated() {
        let check = |asked: Asked, expect: Option<Effort>| {
            assert_eq!(Effort::asked(&asked), expect, "{asked:?}");
        };
        let none = Asked::default();
        check(none.clone(), None);
        let effort = Some("xhigh".to_owned());
        check(
            Asked {
                effort,
                ..none.clone()
            },
            Some(Effort::ExtraHigh),
        );
        let thinking = Some("disabled".to_owned());
        check(
            Asked {
                thinking,
                ..none.clone()
            },
            Some(Effort::None),
        );
        let budget_tokens = Some(5_000);
        check(
            Asked {
                budget_tokens,
                ..none.clone()
            },
            Some(Effort::Low),
        );
        let enabled = Some(false);
        check(Asked { enabled, ..none }, Some(Effort::None));
    }
}
