//! Every way in which a call can break off, at every boundary of its answer, with money held for it:
//! on its first leg and on the one after a failover.
//!
//! **Invariant**: no output seen that was not written down, estimates flagged, the upstream's
//! connection closed at once, and nothing held or in flight afterwards
//! (`whatever_breaks_off_is_billed_and_let_go`).

use std::time::Duration;

use gateway::setup::Setup;
use policy::admit::limit::{Limit, Mode, Quota, Then as Follow, Which};
use policy::admit::scope::Kind;
use policy::admit::window::Window;
use policy::dispatch::patience;
use policy::dispatch::retry::Policy;
use policy::money::PicoUsd;
use policy::ports::End;
use policy::ports::read::StoredCall;
use testkit::client::Client;
use testkit::http1::Piece;
use testkit::upstream::{Step, Upstream};
use tokio::time::Instant;
use wire::dialect::Dialect;

use crate::misbehaviour_world::{
    Delivery, Does, HALF, Story, World, events, legs, models, quick, told, whole, words,
};

/// How a call breaks off, and after how many pieces of its answer.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// The upstream falls silent, and the client leaves.
    ClientLeaves { sent: usize },
    /// The upstream cuts the connection.
    UpstreamCuts { sent: usize },
    /// Both: the client leaves after fewer pieces than were sent before the cut.
    Both { sent: usize, read: usize },
}

/// An answer in pieces.
struct Answer {
    dialect: Dialect,
    delivery: Delivery,
    pieces: Vec<String>,
}

/// From this piece of a stream on its usage is known.
const METERED_FROM: usize = 6;

/// The output that every answer reports, in tokens.
const OUTPUT: u64 = 40;

const OVERFLOW: &str = r#"{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"too long"}}"#;

impl Exit {
    const fn sent(self) -> usize {
        match self {
            Self::ClientLeaves { sent } | Self::UpstreamCuts { sent } | Self::Both { sent, .. } => {
                sent
            }
        }
    }

    const fn read(self) -> usize {
        match self {
            Self::ClientLeaves { sent } => sent,
            Self::UpstreamCuts { .. } => 0,
            Self::Both { read, .. } => read,
        }
    }
}

impl Answer {
    fn of(dialect: Dialect, delivery: Delivery) -> Self {
        let words = words(1);
        let pieces = match delivery {
            Delivery::Stream => events(dialect, &words),
            Delivery::Whole => {
                let answer = whole(dialect, &words);
                let (first, second) = answer.split_at(answer.len() / 2);
                vec![first.to_owned(), second.to_owned()]
            }
        };
        Self {
            dialect,
            delivery,
            pieces,
        }
    }

    fn exits(&self) -> Vec<Exit> {
        let boundaries = 0..=self.pieces.len();
        let mut exits = Vec::new();
        for sent in boundaries {
            exits.extend([Exit::ClientLeaves { sent }, Exit::UpstreamCuts { sent }]);
            let readable = (0..=self.readable(sent)).filter(|read| *read == 0 || *read >= HALF);
            exits.extend(readable.map(|read| Exit::Both { sent, read }));
        }
        exits
    }

    /// Pieces that a client can have when so many were sent: none before something is shown, and
    /// the terminal event only with the end.
    fn readable(&self, sent: usize) -> usize {
        match self.delivery {
            Delivery::Stream if sent >= HALF => sent.min(self.pieces.len() - 1),
            Delivery::Stream | Delivery::Whole => 0,
        }
    }

    /// Tokens that somebody who has so many pieces has seen, at four bytes each.
    fn seen(&self, pieces: usize) -> u64 {
        let bytes = words(1).len() as u64;
        match pieces {
            _ if self.delivery == Delivery::Whole => 0,
            0..HALF => 0,
            HALF => (bytes / 2).div_ceil(4),
            METERED_FROM.. => OUTPUT,
            _ => bytes.div_ceil(4),
        }
    }

    fn script(&self, exit: Exit) -> Vec<Step> {
        let kind = match self.delivery {
            Delivery::Stream => "text/event-stream",
            Delivery::Whole => "application/json",
        };
        let mut steps = vec![Step::head(200, kind)];
        let sent = self.pieces.iter().take(exit.sent());
        steps.extend(sent.map(|piece| Step::Chunk(piece.clone().into_bytes())));
        steps.push(match exit {
            Exit::ClientLeaves { .. } => Step::Hang,
            Exit::UpstreamCuts { .. } | Exit::Both { .. } => Step::Cut,
        });
        steps
    }
}

/// A gateway whose target `b` plays these exits, after a failover from `a` or at once.
async fn world(answer: &Answer, exits: &[Exit], legs: usize) -> World {
    let (dialect, larger) = (answer.dialect, models(answer.dialect)[2]);
    let overflows = Upstream::playing(|_| Step::json(400, OVERFLOW)).await;
    let breaks = Upstream::scripted(exits.iter().map(|exit| answer.script(*exit))).await;
    let route = [("a", models(dialect)[0]), ("b", larger)];
    let change = |setup: &mut Setup| {
        setup.budgets.limits = vec![limit(PicoUsd(1_000_000_000_000_000))];
        setup.retry = Policy {
            retries: 0,
            ..quick(patience::Rules::default())
        };
    };
    World::between(dialect, [overflows, breaks], &route[2 - legs..], change).await
}

/// A key's money for ever.
pub(crate) fn limit(money: PicoUsd) -> Limit {
    Limit {
        id: "all".into(),
        kind: Kind::Key,
        which: Which::Each,
        quota: Quota::Usd(money, Window::lifetime()),
        mode: Mode::Hard,
        then: Follow::Refuse,
    }
}

/// Plays an exit; gives how long the upstream waited for the end of a call whose client had left.
async fn leave(
    (world, legs): (&World, usize),
    answer: &Answer,
    exit: Exit,
    index: usize,
) -> Option<Duration> {
    let [_, upstream] = &world.upstreams;
    let mut client = world.ask(answer.delivery).await;
    upstream.request(index).await;
    match exit {
        Exit::ClientLeaves { sent } => {
            read(&mut client, answer, answer.readable(sent)).await;
            let is_answered = sent == answer.pieces.len() && answer.delivery == Delivery::Stream;
            if !is_answered {
                assert_eq!(world.stage.gateway.accounts.open_holds(), 1, "{exit:?}");
            }
            let left = Instant::now();
            client.hang_up();
            upstream.gone(index).await;
            Some(left.elapsed())
        }
        Exit::Both { read: pieces, .. } => {
            read(&mut client, answer, pieces).await;
            client.hang_up();
            upstream.played(index).await;
            None
        }
        Exit::UpstreamCuts { sent } => {
            let response = client.response().await.unwrap();
            let expect = match answer.delivery {
                Delivery::Stream if sent == answer.pieces.len() => "200 b",
                Delivery::Stream if sent >= HALF => "event",
                // What the first target said is what the client is told.
                Delivery::Stream | Delivery::Whole if legs == 2 => "400",
                Delivery::Stream | Delivery::Whole => "502",
            };
            assert_eq!(
                told(answer.dialect, answer.delivery, &response),
                expect,
                "{exit:?}"
            );
            None
        }
    }
}

/// Reads a stream's head and so many of its pieces.
async fn read(client: &mut Client, answer: &Answer, pieces: usize) {
    if pieces == 0 {
        return;
    }
    assert_eq!(client.head().await.unwrap().status(), 200);
    let bytes = answer.pieces[..pieces].concat().len();
    let mut got = 0;
    while got < bytes {
        match client.piece().await {
            Piece::Data(data) => got += data.len(),
            end @ (Piece::End | Piece::Broken) => panic!("{end:?} after {got} of {bytes} bytes"),
        }
    }
}

fn check(answer: &Answer, exit: Exit, legs: usize, call: &StoredCall) {
    let settled = call.settled.as_ref().unwrap();
    let (leg, before) = settled.legs.split_last().unwrap();
    assert_eq!(settled.legs.len(), legs, "{exit:?}: {settled:?}");
    for refused in before {
        let found = (
            refused.provider.as_str(),
            refused.end,
            refused.cost.unwrap().0,
        );
        assert_eq!(found, ("a", End::UpstreamError, 0));
    }
    let is_all = exit.sent() == answer.pieces.len() && answer.delivery == Delivery::Stream;
    let ends: &[End] = match exit {
        // With both gone, either may be noticed first.
        Exit::Both { .. } => &[End::ClientGone, End::UpstreamBroke, End::Answered],
        _ if is_all => &[End::Answered],
        Exit::ClientLeaves { .. } => &[End::ClientGone],
        Exit::UpstreamCuts { .. } => &[End::UpstreamBroke],
    };
    assert!(ends.contains(&leg.end), "{exit:?}: {settled:?}");
    let is_told_by_the_first = settled.end == End::UpstreamError && legs == 2;
    assert!(
        settled.end == leg.end || is_told_by_the_first,
        "{exit:?}: {settled:?}"
    );
    let read = match exit {
        Exit::UpstreamCuts { sent } => sent,
        Exit::ClientLeaves { .. } | Exit::Both { .. } => exit.read(),
    };
    let seen = answer.seen(answer.readable(read));
    assert!(leg.usage.output.0 >= seen, "{exit:?}: {settled:?}");
    let is_metered = answer.delivery == Delivery::Stream && exit.sent() >= METERED_FROM;
    if !(is_metered && matches!(exit, Exit::Both { .. })) {
        assert_eq!(leg.estimated, !is_metered, "{exit:?}: {settled:?}");
    }
    assert!(leg.cost.unwrap().0 > 0, "{exit:?}: {settled:?}");
    let total: Option<PicoUsd> = settled.legs.iter().map(|leg| leg.cost).sum();
    assert_eq!(settled.cost, total);
}

#[tokio::test]
async fn whatever_breaks_off_is_billed_and_let_go() {
    let mut waited = Vec::new();
    let mut count = 0;
    for dialect in Dialect::ALL {
        for delivery in [Delivery::Stream, Delivery::Whole] {
            for legs in [1, 2] {
                let answer = Answer::of(dialect, delivery);
                let exits = answer.exits();
                let world = world(&answer, &exits, legs).await;
                for (index, exit) in exits.iter().enumerate() {
                    waited.extend(leave((&world, legs), &answer, *exit, index).await);
                    let calls = world.stage.books.settled(index + 1).await;
                    check(&answer, *exit, legs, &calls[index]);
                    world.assert_at_rest();
                    count += 1;
                }
            }
        }
    }
    // A busy machine may be slow now and then; whoever waits for a timer is slow always.
    waited.sort();
    let (median, most) = (waited[waited.len() / 2], waited[waited.len() - 1]);
    println!("{count} exits; upstream closed after {median:?} in the median, {most:?} at most");
    assert!(median < Duration::from_millis(100), "{median:?}");
}

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#;

#[tokio::test]
async fn a_client_that_leaves_between_two_legs_leaves_nothing_behind() {
    let story: Story = |_, _| Does::Status(429, LIMITED, Some(("retry-after-ms", "9000")));
    for dialect in Dialect::ALL {
        for delivery in [Delivery::Stream, Delivery::Whole] {
            let equal = models(dialect)[1];
            let change = |setup: &mut Setup| {
                setup.budgets.limits = vec![limit(PicoUsd(1_000_000_000_000_000))];
            };
            let world = World::new(dialect, delivery, story, 1, equal, change).await;
            let client = world.ask(delivery).await;
            world.upstreams[0].played(0).await;
            client.hang_up();
            let calls = world.stage.books.settled(1).await;
            let settled = calls[0].settled.as_ref().unwrap();
            assert_eq!(
                (settled.end, settled.cost),
                (End::ClientGone, Some(PicoUsd(0)))
            );
            world.assert_at_rest();
        }
    }
}

#[tokio::test]
async fn a_fallback_that_the_budget_does_not_bear_is_not_asked() {
    let story: Story = |target, _| match target {
        0 => Does::Status(400, OVERFLOW, None),
        _ => Does::Answers,
    };
    for dialect in Dialect::ALL {
        for delivery in [Delivery::Stream, Delivery::Whole] {
            let larger = models(dialect)[2];
            let world = async |money: PicoUsd| {
                let change = |setup: &mut Setup| setup.budgets.limits = vec![limit(money)];
                World::new(dialect, delivery, story, 2, larger, change).await
            };
            let rich = world(PicoUsd(1_000_000_000_000_000)).await;
            let (_, call) = rich.call(delivery, "").await;
            // Enough for the first target's worst case, and a pico-dollar short of both.
            let both = call.opened.held.unwrap().usd.unwrap();
            let world = world(both - PicoUsd(1)).await;
            let (response, call) = world.call(delivery, "").await;
            let found = format!("{}: {}", told(dialect, delivery, &response), legs(&call));
            assert_eq!(found, "400: a context_exceeded");
            assert_eq!(world.upstreams[1].requests(), []);
            let counts = world.stage.counts();
            assert!(
                !counts.contains(r#"failed_legs_total{provider="b""#),
                "{counts}"
            );
            world.assert_at_rest();
        }
    }
}
