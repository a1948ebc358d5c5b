//! Where breakpoints stand, once it is known how far writing pays.
//!
//! **Invariant**: never more than four counting the client's, never on a segment that cannot take
//! one, and lifetimes never grow along the prompt (property `breakpoints_keep_the_rules`).

use wire::prompt::{Part, Slot};
use wire::usage::Ttl;

use super::decide::Held;
use super::lifetime::Lifetimes;
use super::walk::{Path, reaches_minimum};
use super::{Mark, Mode, Sight, rules};
use crate::prices::model::CacheFamily;

/// Breakpoints and what they leave at the provider.
#[derive(Clone, Debug, Default)]
pub(super) struct Spots {
    /// Ours, in rendered order.
    pub(super) marks: Vec<Mark>,
    pub(super) mode: Mode,
    /// Where the provider will hold an entry: ours, the client's, and those it places itself.
    pub(super) written: Vec<Mark>,
}

/// Places breakpoints.
pub(super) fn spots(
    sight: &Sight<'_>,
    path: &Path,
    top: Option<usize>,
    held: Held,
    lifetimes: Lifetimes,
) -> Spots {
    match sight.terms.family {
        CacheFamily::Anthropic => anthropic(sight, path, top, held, lifetimes),
        CacheFamily::OpenaiBreakpoints => openai(sight, path, top, held, lifetimes),
        CacheFamily::OpenaiAuto
        | CacheFamily::GeminiImplicit
        | CacheFamily::Deepseek
        | CacheFamily::Xai
        | CacheFamily::Automatic
        | CacheFamily::None => Spots::default(),
    }
}

fn anthropic(
    sight: &Sight<'_>,
    path: &Path,
    top: Option<usize>,
    held: Held,
    lifetimes: Lifetimes,
) -> Spots {
    let taken = sight.client.markers + usize::from(sight.client.automatic.is_some());
    let free = rules::BREAKPOINTS_MAX.saturating_sub(taken);
    let wanted = wanted(sight, path, top, held, lifetimes.long);
    let marks = settle_lifetimes(sight, path, &pick(sight, path, &wanted, free), lifetimes);
    let mut written = marks.clone();
    let segments = sight.prompt.segments.iter().enumerate();
    written.extend(segments.filter_map(|(segment, it)| {
        Some(Mark {
            segment,
            ttl: it.marker?,
        })
    }));
    if let (Some(ttl), Some(segment)) = (
        sight.client.automatic,
        sight.prompt.segments.len().checked_sub(1),
    ) {
        written.push(Mark { segment, ttl });
    }
    Spots {
        marks,
        mode: Mode::Default,
        written: kept(sight, path, written),
    }
}

/// GPT-5.6 and later: the provider itself places a breakpoint on the latest message, unless told to
/// place none but ours.
fn openai(
    sight: &Sight<'_>,
    path: &Path,
    top: Option<usize>,
    held: Held,
    lifetimes: Lifetimes,
) -> Spots {
    let last = sight.prompt.segments.len().checked_sub(1);
    let own = |ttl| last.map(|segment| Mark { segment, ttl }).into_iter();
    if sight.client.options_given || sight.client.markers > 0 {
        let written = kept(sight, path, own(lifetimes.own).collect());
        return Spots {
            written,
            ..Spots::default()
        };
    }
    let implicit = top.is_some() && top == last;
    let free = rules::BREAKPOINTS_MAX - usize::from(implicit);
    let wanted: Vec<usize> = wanted(sight, path, top, held, lifetimes.long)
        .into_iter()
        .filter(|segment| !implicit || Some(*segment) != last)
        .collect();
    let mut marks = settle_lifetimes(sight, path, &pick(sight, path, &wanted, free), lifetimes);
    if implicit {
        // The provider's own breakpoint has its default lifetime; ours before it may live longer.
        let mut written = marks.clone();
        written.extend(own(Ttl::Minutes30));
        return Spots {
            marks,
            mode: Mode::Default,
            written: kept(sight, path, written),
        };
    }
    let reach = top.max(held.live);
    marks.retain(|mark| Some(mark.segment) <= reach);
    Spots {
        written: kept(sight, path, marks.clone()),
        marks,
        mode: Mode::Explicit,
    }
}

/// Segments that should carry a breakpoint, most important first.
fn wanted(
    sight: &Sight<'_>,
    path: &Path,
    top: Option<usize>,
    held: Held,
    long: Option<Mark>,
) -> Vec<usize> {
    let segments = &sight.prompt.segments;
    let Some(deepest) = top.max(held.live) else {
        return Vec::new();
    };
    let mut wanted = vec![deepest];
    wanted.extend(long.map(|mark| mark.segment));
    if let Some(live) = held.live {
        // Lookback finds the earlier entry only so far; a breakpoint on it finds it surely.
        let position = |segment: usize| segments.get(segment).map_or(0, |it| it.position);
        let finds = |segment: &usize| {
            let reach = position(live) + rules::LOOKBACK_POSITIONS_SAFE;
            *segment >= live && position(*segment) <= reach
        };
        if !wanted.iter().any(finds) {
            wanted.push(live);
        }
    }
    // Others read the head and what they opened with alike; a breakpoint there costs nothing once
    // the tokens are written anyway.
    wanted.extend(sight.prompt.head_end());
    wanted.extend(path.shared);
    // Another conversation parted from the known path here; a third one may, too.
    wanted.extend(path.matched.checked_sub(1));
    if path.matched < path.opening {
        let last_message = segments.get(path.opening - 1).map(|segment| segment.index);
        let before = segments.iter().rposition(|segment| {
            segment.part == Part::Messages && Some(segment.index) < last_message
        });
        wanted.extend(before.filter(|before| *before < path.opening));
    }
    wanted.retain(|segment| *segment <= deepest);
    wanted
}

/// Takes the first wanted segments that fit, each moved back to one that can take a breakpoint.
fn pick(sight: &Sight<'_>, path: &Path, wanted: &[usize], free: usize) -> Vec<usize> {
    let segments = &sight.prompt.segments;
    let automatic_on = sight.client.automatic.and(segments.len().checked_sub(1));
    let mut picked: Vec<usize> = Vec::new();
    for segment in wanted {
        if picked.len() >= free {
            break;
        }
        let until = segments.get(..=*segment).unwrap_or_default();
        let open = until
            .iter()
            .rposition(|it| it.slot != Slot::Closed || it.marker.is_some());
        let Some(open) = open else { continue };
        let is_marked = segments.get(open).is_some_and(|it| it.marker.is_some());
        let is_taken = is_marked || Some(open) == automatic_on || picked.contains(&open);
        if !is_taken && reaches_minimum(sight, path.tokens(open)) {
            picked.push(open);
        }
    }
    picked.sort_unstable();
    picked
}

/// Gives each breakpoint its lifetime, in an order that the provider takes: longer ones first, the
/// client's own included. One that fits nowhere is left out.
fn settle_lifetimes(
    sight: &Sight<'_>,
    path: &Path,
    picked: &[usize],
    lifetimes: Lifetimes,
) -> Vec<Mark> {
    let segments = &sight.prompt.segments;
    let shared_end = path.shared.max(sight.prompt.head_end());
    let marks = picked.iter().filter_map(|&segment| {
        let long = lifetimes.long.filter(|long| segment <= long.segment);
        let wanted = match long {
            Some(long) => long.ttl,
            None if Some(segment) <= shared_end => lifetimes.shared,
            None => lifetimes.own,
        };
        let before = segments
            .get(..segment)?
            .iter()
            .filter_map(|it| it.marker)
            .min();
        let after = segments
            .get(segment..)?
            .iter()
            .filter_map(|it| it.marker)
            .max();
        let after = after.max(sight.client.automatic);
        let ttl = after.map_or(wanted, |after| wanted.max(after));
        before
            .is_none_or(|before| ttl <= before)
            .then_some(Mark { segment, ttl })
    });
    let mut marks: Vec<Mark> = marks.collect();
    let mut longest = marks.last().map(|mark| mark.ttl);
    for mark in marks.iter_mut().rev() {
        longest = longest.max(Some(mark.ttl));
        mark.ttl = longest.unwrap_or(mark.ttl);
    }
    marks
}

/// What the provider will really keep, in rendered order.
fn kept(sight: &Sight<'_>, path: &Path, mut written: Vec<Mark>) -> Vec<Mark> {
    written.retain(|mark| reaches_minimum(sight, path.tokens(mark.segment)));
    written.sort_by_key(|mark| mark.segment);
    written
}
