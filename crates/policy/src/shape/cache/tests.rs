//! Properties of decisions over generated traffic.

use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use wire::dialect::request::ClientCache;
use wire::prompt::{Chain, Kind, Part, Prompt, Role, Segment, Slot};
use wire::usage::{CacheWrites, Tokens, Ttl, Usage};

use super::decide::decide;
use super::explain::Cause;
use super::memory::Memory;
use super::{Decision, Grain, Mark, Mode, Sight, Terms, rules, walk};
use crate::moment::Moment;
use crate::money::Price;
use crate::prices::model::{CacheFamily, Rates};

fn terms(family: CacheFamily) -> Terms {
    let price = |micro_usd| Some(Price::from_micro_usd_per_mtok(micro_usd));
    let rates = Rates {
        input: price(1_000_000),
        read: price(100_000),
        write_5m: price(1_250_000),
        write_30m: price(1_250_000),
        write_1h: price(2_000_000),
        write_12h: price(2_500_000),
        ..Rates::default()
    };
    Terms {
        family,
        minimum: Tokens(1_024),
        rates,
        grain: Grain::Breakpoints,
    }
}

/// One segment of a generated prompt.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// What it says.
    text: u64,
    tokens: u64,
    is_open: bool,
    marker: Option<Ttl>,
}

/// A prompt of two tools, and turns of user and model.
fn prompt(pieces: &[Piece]) -> (Prompt, Vec<Tokens>) {
    let mut chain = 0_u128;
    let segments = (0..).zip(pieces).map(|(position, piece)| {
        chain = (chain ^ u128::from(piece.text) ^ u128::from(position))
            .wrapping_mul(0x1234_5678_9abc_def1);
        let (part, role, kind) = match position {
            0 | 1 => (Part::Tools, Role::System, Kind::ToolDefinition),
            _ if position % 2 == 0 => (Part::Messages, Role::User, Kind::Text),
            _ => (Part::Messages, Role::Assistant, Kind::Text),
        };
        Segment {
            part,
            role,
            kind,
            index: position,
            block: 0,
            span: 0..0,
            chain: Chain(chain),
            position,
            marker: piece.marker,
            slot: if piece.is_open && piece.marker.is_none() {
                Slot::Member { at: 0 }
            } else {
                Slot::Closed
            },
        }
    });
    let prompt = Prompt {
        segments: segments.collect(),
    };
    (
        prompt,
        pieces.iter().map(|piece| Tokens(piece.tokens)).collect(),
    )
}

/// Looks at a prompt as a decision would.
fn with_sight<T>(
    family: CacheFamily,
    at: u64,
    pieces: &[Piece],
    automatic: Option<Ttl>,
    look: impl FnOnce(&Sight<'_>) -> T,
) -> T {
    let (prompt, sizes) = prompt(pieces);
    let client = ClientCache {
        automatic,
        markers: prompt.client_markers(),
        ..ClientCache::default()
    };
    look(&Sight {
        at: Moment(at),
        tenant: "t",
        target: "p/m",
        terms: terms(family),
        prompt: &prompt,
        sizes: &sizes,
        rest: Tokens(0),
        body: &[],
        session: None,
        client: &client,
    })
}

fn decide_on(
    memory: &mut Memory,
    family: CacheFamily,
    at: u64,
    pieces: &[Piece],
    automatic: Option<Ttl>,
) -> Decision {
    let decision = with_sight(family, at, pieces, automatic, |sight| decide(memory, sight));
    memory.began(&decision.ticket, Moment(at + 500));
    decision
}

fn piece() -> impl Strategy<Value = Piece> {
    (0..4_u64, 1..3_000_u64, prop::bool::weighted(0.8)).prop_map(|(text, tokens, is_open)| Piece {
        text,
        tokens,
        is_open,
        marker: None,
    })
}

/// The client's markers: where, and where the longer lifetime ends.
fn client_marks() -> impl Strategy<Value = (Vec<usize>, usize, bool)> {
    (
        prop::collection::vec(0..30_usize, 0..4),
        0..30_usize,
        prop::bool::weighted(0.1),
    )
}

proptest! {
    #[test]
    fn breakpoints_keep_the_rules(
        pieces in prop::collection::vec(piece(), 1..30),
        (places, long_until, automatic) in client_marks(),
        steps in prop::collection::vec((1..30_usize, 0..4_000_000_u64), 1..8),
        openai in any::<bool>(),
    ) {
        let family =
            if openai { CacheFamily::OpenaiBreakpoints } else { CacheFamily::Anthropic };
        let (short, long) =
            if openai { (Ttl::Minutes30, Ttl::Hours12) } else { (Ttl::Minutes5, Ttl::Hour1) };
        let automatic = (automatic && !openai).then_some(Ttl::Minutes5);
        let mut memory = Memory::default();
        let (mut at, mut length) = (0, 0);
        for (more, pause) in steps {
            at += pause;
            length = (length + more).min(pieces.len());
            let mut sent = pieces[..length].to_vec();
            for place in &places {
                if let Some(piece) = sent.get_mut(*place) {
                    piece.marker = Some(if *place < long_until { long } else { short });
                }
            }
            let decision = decide_on(&mut memory, family, at, &sent, automatic);
            let client = sent.iter().filter(|piece| piece.marker.is_some()).count();
            let own = usize::from(automatic.is_some());
            let implicit = usize::from(openai && decision.mode == Mode::Default && client == 0);
            let free = rules::BREAKPOINTS_MAX.saturating_sub(client + own);
            prop_assert!(decision.marks.len() <= free);
            prop_assert!(decision.marks.len() + implicit <= rules::BREAKPOINTS_MAX);
            for Mark { segment, .. } in &decision.marks {
                let tokens: u64 = sent[..=*segment].iter().map(|piece| piece.tokens).sum();
                prop_assert!(tokens >= 1_024, "{tokens} tokens are below the minimum");
                prop_assert!(sent[*segment].is_open && sent[*segment].marker.is_none());
            }
            // Lifetimes never grow along the prompt, ours and the client's together.
            let mut all: Vec<(usize, Ttl)> =
                decision.marks.iter().map(|mark| (mark.segment, mark.ttl)).collect();
            let ordered = (0..).zip(&sent).filter_map(|(index, it)| Some((index, it.marker?)));
            all.extend(ordered);
            all.extend(automatic.map(|ttl| (length, ttl)));
            all.sort_by_key(|(segment, _)| *segment);
            prop_assert!(all.is_sorted_by(|one, other| one.1 >= other.1), "{all:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_noted_prompt_is_matched_whole(
        prompts in prop::collection::vec(prop::collection::vec(piece(), 1..20), 1..8),
        pause in 0..3_600_000_u64,
    ) {
        let mut memory = Memory::default();
        for (number, pieces) in (0..).zip(&prompts) {
            let at = number * pause;
            decide_on(&mut memory, CacheFamily::Anthropic, at, pieces, None);
            let family = CacheFamily::Anthropic;
            let path = with_sight(family, at + pause, pieces, None, |sight| walk::walk(&memory, sight));
            prop_assert_eq!(path.matched, pieces.len());
            prop_assert!(path.through.is_sorted());
            let whole: u64 = pieces.iter().map(|piece| piece.tokens).sum();
            prop_assert_eq!(path.total(), whole);
        }
    }
}

fn text(text: u64, tokens: u64) -> Piece {
    Piece {
        text,
        tokens,
        is_open: true,
        marker: None,
    }
}

#[test]
fn growing_conversations_are_no_misses() {
    let mut memory = Memory::default();
    let mut pieces = vec![text(1, 2_000), text(2, 2_000), text(3, 500)];
    let mut names = Vec::new();
    for turn in 0..20 {
        let decision = decide_on(
            &mut memory,
            CacheFamily::Anthropic,
            turn * 3_000,
            &pieces,
            None,
        );
        assert_eq!(decision.miss, None, "turn {turn}");
        assert_eq!(u64::from(decision.turn), turn);
        names.push(decision.session);
        pieces.extend([text(10 + turn, 100), text(50 + turn, 300)]);
    }
    names.dedup();
    assert_eq!(names.len(), 1, "it stays one session");
}

#[test]
fn conversations_that_part_are_two_sessions() {
    let mut memory = Memory::default();
    let mut send = |at, tail: &[u64]| {
        let mut pieces = vec![text(1, 2_000), text(2, 2_000), text(3, 500)];
        pieces.extend(tail.iter().map(|it| text(*it, 200)));
        decide_on(&mut memory, CacheFamily::Anthropic, at, &pieces, None).session
    };
    let first = send(0, &[]);
    let second = send(1_000, &[]);
    let [one, other] = [send(2_000, &[7, 8]), send(3_000, &[7, 9])];
    assert_ne!(one, other);
    assert_eq!(send(4_000, &[7, 8, 7, 8]), one);
    assert_eq!(send(5_000, &[7, 9, 7, 9]), other);
    assert!([&first, &second].contains(&&one));
}

#[test]
fn what_many_begin_with_is_no_session() {
    let mut memory = Memory::default();
    let mut send = |at, tail: &[u64]| {
        let mut pieces = vec![text(1, 2_000), text(2, 2_000), text(3, 500)];
        pieces.extend(tail.iter().map(|it| text(*it, 200)));
        decide_on(&mut memory, CacheFamily::Anthropic, at, &pieces, None).session
    };
    let many = [send(0, &[4, 4, 4]), send(1_000, &[5, 5])];
    let short = send(2_000, &[]);
    let next = send(3_000, &[6, 6]);
    assert_ne!(
        next, short,
        "it was not told apart from the short one's next call"
    );
    assert!(!many.contains(&next) && !many.contains(&short));
    assert_eq!(send(4_000, &[6, 6, 7, 7]), next);
}

#[test]
fn the_longer_lifetime_ends_behind_what_is_held() {
    let mut memory = Memory::default();
    let mut pieces = vec![text(1, 2_000), text(2, 2_000), text(3, 60_000)];
    let mut marks = Vec::new();
    for turn in 0..3 {
        let at = turn * 100_000;
        marks.push(decide_on(&mut memory, CacheFamily::Anthropic, at, &pieces, None).marks);
        pieces.extend([text(10 + turn, 100), text(50 + turn, 1_000)]);
    }
    let hour = |marks: &[Mark]| {
        let long = marks.iter().filter(|mark| mark.ttl == Ttl::Hour1);
        long.map(|mark| mark.segment).max()
    };
    let deepest = |marks: &[Mark]| marks.last().map(|mark| (mark.segment, mark.ttl));
    // Nothing is held yet; then it ends with the first new segment, and what grows since is too little
    // to pay for another.
    assert_eq!(hour(&marks[0]), None);
    assert_eq!([hour(&marks[1]), hour(&marks[2])], [Some(3), Some(3)]);
    assert_eq!(deepest(&marks[1]), Some((4, Ttl::Minutes5)));
    assert_eq!(deepest(&marks[2]), Some((6, Ttl::Minutes5)));
}

#[test]
fn what_was_not_kept_is_not_held() {
    let pieces = [text(1, 500), text(2, 500), text(3, 100)];
    let mut longer = pieces.to_vec();
    longer.extend([text(4, 500), text(5, 500)]);
    let expected_after = |usage: &Usage| {
        let (mut memory, family) = (Memory::default(), CacheFamily::Anthropic);
        let first = decide_on(&mut memory, family, 0, &pieces, None);
        assert!(!first.marks.is_empty());
        memory.settled(&first.ticket, usage);
        let second = decide_on(&mut memory, family, 3_000, &longer, None);
        second.ticket.expected_read
    };
    // The provider counted less than the minimum, and wrote nothing.
    let counted_less = Usage {
        uncached: Tokens(1_014),
        ..Usage::default()
    };
    let written = Usage {
        cache_write: CacheWrites {
            minutes_5: Tokens(1_100),
            ..CacheWrites::default()
        },
        ..Usage::default()
    };
    assert_eq!(expected_after(&counted_less), Tokens(0));
    assert_eq!(expected_after(&written), Tokens(1_100));
}

#[test]
fn misses_name_their_cause() {
    let check = |idle_ms: u64, changed: u64, expect: Cause| {
        let mut memory = Memory::default();
        let mut pieces = vec![text(1, 2_000), text(2, 2_000), text(3, 500), text(4, 2_000)];
        decide_on(&mut memory, CacheFamily::Anthropic, 0, &pieces, None);
        pieces[3].text = changed;
        pieces.extend([text(5, 10), text(6, 10)]);
        let decision = decide_on(&mut memory, CacheFamily::Anthropic, idle_ms, &pieces, None);
        assert_eq!(
            decision.miss.map(|miss| miss.cause),
            Some(expect),
            "{idle_ms} {changed}"
        );
    };
    check(
        400_000,
        4,
        Cause::Idle {
            idle_ms: 400_000,
            lifetime_ms: 300_000,
        },
    );
    check(3_000, 9, Cause::Changed(Part::Messages));
}

#[test]
fn memory_is_bounded() {
    let mut memory = Memory::default();
    for call in 0..40_000_u64 {
        let pieces = [text(call, 2_000), text(call, 2_000), text(call, 500)];
        decide_on(
            &mut memory,
            CacheFamily::Anthropic,
            call * 10,
            &pieces,
            None,
        );
    }
    assert!(memory.sessions.len() <= 16_384);
    assert!(memory.nodes.len() <= 262_144);
    assert!(memory.entries.len() <= 131_072);
}
