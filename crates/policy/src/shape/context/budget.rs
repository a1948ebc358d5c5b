//! Budgets of a context: how many tokens a class of it may have, and what follows beyond that.
//!
//! **Invariant**: only what is over its budget is named, and only results of tools are ever shortened
//! (test `budgets_are_held_against_their_class`).

use wire::usage::Tokens;

use super::classes::Classes;

/// What a budget is for: a class of the context, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// System text.
    System,
    /// Definitions of tools.
    Tools,
    /// What was said before the last message, documents aside.
    History,
    /// Results of tools.
    ToolResults,
    /// Thinking blocks.
    Thinking,
    /// Documents that questions come with.
    Documents,
    /// Images, documents in encoded form, and sound.
    Media,
    /// The last message, results of tools and documents aside.
    LastMessage,
    /// Everything.
    Input,
}

impl Class {
    /// Every one, in the order of the prompt.
    pub const ALL: [Self; 9] = [
        Self::System,
        Self::Tools,
        Self::History,
        Self::ToolResults,
        Self::Thinking,
        Self::Documents,
        Self::Media,
        Self::LastMessage,
        Self::Input,
    ];

    /// The name in configuration, notes and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Tools => "tools",
            Self::History => "history",
            Self::ToolResults => "tool_results",
            Self::Thinking => "thinking",
            Self::Documents => "documents",
            Self::Media => "media",
            Self::LastMessage => "last_message",
            Self::Input => "input",
        }
    }

    /// What a client can do that has too much of it.
    const fn advice(self) -> &'static str {
        match self {
            Self::System => "shorten the instructions",
            Self::Tools => "define fewer tools, or describe them in fewer words",
            Self::History | Self::Input => "compact the conversation, or begin a new one",
            Self::ToolResults => {
                "ask tools for less at once, compact the conversation, or begin a new one"
            }
            Self::Thinking => {
                "leave out the thinking of earlier turns, or begin a new conversation"
            }
            Self::Documents => "send only the documents that the question needs",
            Self::Media => "send fewer or smaller images and documents",
            Self::LastMessage => "send less at once",
        }
    }

    fn of(self, classes: &Classes) -> u64 {
        match self {
            Self::System => classes.system,
            Self::Tools => classes.tools,
            Self::History => classes.history,
            Self::ToolResults => classes.tool_results,
            Self::Thinking => classes.thinking,
            Self::Documents => classes.documents,
            Self::Media => classes.media,
            Self::LastMessage => classes.last_message,
            Self::Input => classes.sum(),
        }
    }
}

/// What follows when a budget is exceeded, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// New results of tools are said in fewer tokens.
    Compress,
    /// Old results of tools are left out, where that pays or is forced.
    Prune,
    /// The call is refused.
    Refuse,
}

impl Step {
    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compress => "compress",
            Self::Prune => "prune",
            Self::Refuse => "refuse",
        }
    }

    /// Whether it can be done to a class.
    pub const fn fits(self, class: Class) -> bool {
        match self {
            Self::Compress | Self::Prune => matches!(class, Class::ToolResults),
            Self::Refuse => true,
        }
    }
}

/// How many tokens a class may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of what.
    pub class: Class,
    /// The most.
    pub tokens_max: Tokens,
    /// What follows beyond that; nothing means that it is only told.
    pub over: Vec<Step>,
}

/// A budget that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Of what.
    pub class: Class,
    /// What was given.
    pub given: Tokens,
    /// What is allowed.
    pub allowed: Tokens,
    /// Whether the call is refused for it.
    pub refuses: bool,
}

/// The budgets that a call exceeds, as it would be sent.
pub fn exceeded(budgets: &[Budget], classes: &Classes) -> Vec<Excess> {
    let held = budgets.iter().map(|budget| Excess {
        class: budget.class,
        given: Tokens(budget.class.of(classes)),
        allowed: budget.tokens_max,
        refuses: budget.over.contains(&Step::Refuse),
    });
    held.filter(|it| it.given > it.allowed).collect()
}

/// The most tokens of results before a step is taken with them; none if no budget asks for it.
pub fn beyond(budgets: &[Budget], step: Step) -> Option<Tokens> {
    let asks = |budget: &&Budget| step.fits(budget.class) && budget.over.contains(&step);
    budgets.iter().find(asks).map(|budget| budget.tokens_max)
}

impl Excess {
    /// In figures, as headers show it.
    pub fn figures(&self) -> String {
        format!(
            "class={}; tokens={}; allowed={}",
            self.class.name(),
            self.given.0,
            self.allowed.0
        )
    }

    /// What the client of a refused call is told. It begins as the providers' own error does, which
    /// agents know and answer by compacting.
    pub fn wording(&self, route: &str) -> String {
        format!(
            "prompt is too long: {} has {} tokens, and route `{route}` allows {}; {}",
            self.class.name(),
            self.given.0,
            self.allowed.0,
            self.class.advice()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_held_against_their_class() {
        let classes = Classes {
            system: 10,
            tools: 20,
            tool_results: 70,
            ..Classes::default()
        };
        let budget = |class, most, over: &[Step]| Budget {
            class,
            tokens_max: Tokens(most),
            over: over.to_vec(),
        };
        let budgets = [
            budget(Class::System, 10, &[Step::Refuse]),
            budget(Class::Tools, 19, &[]),
            budget(Class::ToolResults, 60, &[Step::Prune, Step::Refuse]),
            budget(Class::Input, 99, &[Step::Refuse]),
        ];
        let found: Vec<(&str, u64, bool)> = exceeded(&budgets, &classes)
            .iter()
            .map(|it| (it.class.name(), it.given.0, it.refuses))
            .collect();
        let expect = [
            ("tools", 20, false),
            ("tool_results", 70, true),
            ("input", 100, true),
        ];
        assert_eq!(found, expect);
        assert_eq!(beyond(&budgets, Step::Prune), Some(Tokens(60)));
        assert_eq!(beyond(&budgets, Step::Compress), None);
        for class in Class::ALL {
            let shortened = class == Class::ToolResults;
            assert_eq!(Step::Compress.fits(class), shortened);
            assert!(Step::Refuse.fits(class));
        }
        let wording = exceeded(&budgets, &classes)[1].wording("agents");
        assert!(
            wording
                .starts_with("prompt is too long: tool_results has 70 tokens, and route `agents`"),
            "{wording}"
        );
    }
}
