//! What is counted, and which limits read it: worked out once for each edit, not for each call.
//!
//! **Invariant**: a meter is named by what it counts and never by an amount, so that an edit of limits
//! resets no usage (test `edits_never_reset_usage`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::admit::limit::{Limit, Measure, Mode, Which};
use crate::admit::scope::Kind;
use crate::admit::window::{Span, Window};
use crate::moment::Moment;

/// A place in the list of meters; never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MeterId(pub(super) u32);

impl MeterId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The limits that read one counter: at most one of each mode.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules([Option<Arc<Limit>>; Mode::ALL.len()]);

impl Rules {
    pub(super) fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.0.iter().flatten()
    }

    fn add(&mut self, limit: Arc<Limit>) {
        if let Some(place) = self.0.get_mut(limit.mode as usize) {
            *place = Some(limit);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Whose usage is counted.
#[derive(Clone, Debug, Default)]
struct Coverage {
    each: bool,
    ones: HashSet<Arc<str>>,
}

impl Coverage {
    fn has(&self, id: &str) -> bool {
        self.each || self.ones.contains(id)
    }
}

/// Usage of one kind of payer, by one measure, in one sort of window.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pub(super) kind: Kind,
    pub(super) measure: Measure,
    pub(super) window: Window,
    /// The window that the book's time lies in.
    pub(super) span: Span,
    each: Rules,
    ones: HashMap<Arc<str>, Rules>,
    /// Whose usage was counted before an edit: it is counted on until the window ends, so that a
    /// limit that comes back finds it complete.
    before: Option<Coverage>,
}

impl Meter {
    pub(super) fn new(limit: &Limit, now: Moment) -> Self {
        let window = limit.quota.window();
        Self {
            kind: limit.kind,
            measure: limit.quota.measure(),
            span: window.span(now),
            window,
            each: Rules::default(),
            ones: HashMap::new(),
            before: None,
        }
    }

    /// Whether the limit reads this meter.
    pub(super) fn counts_for(&self, limit: &Limit) -> bool {
        self.kind == limit.kind
            && self.measure == limit.quota.measure()
            && self.window.cuts_like(&limit.quota.window())
    }

    /// The limits of a payer: its own in place of everyone's.
    pub(super) fn rules(&self, id: &str) -> &Rules {
        if self.ones.is_empty() {
            return &self.each;
        }
        self.ones.get(id).unwrap_or(&self.each)
    }

    /// Whether a payer's usage is counted.
    pub(super) fn counts(&self, id: &str) -> bool {
        !self.rules(id).is_empty() || self.before.as_ref().is_some_and(|it| it.has(id))
    }

    /// Whether anyone's is.
    pub(super) fn is_idle(&self) -> bool {
        self.each.is_empty() && self.ones.is_empty() && self.before.is_none()
    }

    /// Moves to the window of this moment.
    pub(super) fn advance(&mut self, now: Moment) {
        if self.span.is_over(now) {
            self.span = self.window.span(now);
            self.before = None;
        }
    }

    /// Forgets the limits, and remembers whose usage was counted.
    pub(super) fn clear(&mut self) {
        let mut before = self.before.take().unwrap_or_default();
        before.each |= !self.each.is_empty();
        before.ones.extend(self.ones.drain().map(|(id, _)| id));
        self.each = Rules::default();
        self.before = (before.each || !before.ones.is_empty()).then_some(before);
    }

    /// Adds a limit that reads this meter.
    pub(super) fn add(&mut self, limit: Arc<Limit>) {
        match &limit.which {
            Which::Each => self.each.add(limit),
            Which::One(id) => self.ones.entry(id.clone()).or_default().add(limit),
        }
    }

    /// Whose usage is counted now and was not before the last [`Meter::clear`].
    pub(super) fn gaps(&self, meter: MeterId) -> Vec<Gap> {
        let none = Coverage::default();
        let before = self.before.as_ref().unwrap_or(&none);
        let gap = |which, except| Gap {
            meter,
            kind: self.kind,
            measure: self.measure,
            window: self.span,
            which,
            except,
        };
        if before.each {
            return Vec::new();
        }
        if !self.each.is_empty() {
            return vec![gap(Which::Each, before.ones.clone())];
        }
        let new = self.ones.keys().filter(|id| !before.has(id));
        new.map(|id| gap(Which::One(id.clone()), HashSet::new()))
            .collect()
    }
}

/// Usage of the current window that an edited limit counts and the book has not seen.
///
/// The ledger has it: [`super::Book::fill`] takes it in. Until then the limit counts from zero.
#[derive(Clone, Debug)]
pub struct Gap {
    pub(super) meter: MeterId,
    /// The kind of payer.
    pub kind: Kind,
    /// What is counted.
    pub measure: Measure,
    /// The window: rows from its start on are missing.
    pub window: Span,
    /// Whose usage is missing.
    pub which: Which,
    except: HashSet<Arc<str>>,
}

impl Gap {
    /// Whether this payer's usage is missing.
    pub(super) fn misses(&self, kind: Kind, id: &str) -> bool {
        let named = match &self.which {
            Which::Each => !self.except.contains(id),
            Which::One(one) => **one == *id,
        };
        self.kind == kind && named
    }
}
