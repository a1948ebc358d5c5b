//! Cascade: asks the cheap target first, and keeps its answer back until it convinces.
//!
//! **Invariant**: the client sees one answer, byte for byte as its target sent it: the cheap one if
//! it convinced, or that of its own target as if the cheap one had not been asked (tests
//! `what_convinces_is_passed_on_unchanged` and
//! `an_answer_that_does_not_convince_is_booked_and_replaced`).

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use policy::cascade::signals::{AnswerSeen, Check, Hearing};
use policy::cascade::verdict::{Doubt, Ground, Need, Verdict, judge, judge_prefix};
use policy::dispatch::fault::Fault;
use policy::ports::End;
use tokio::time::{Instant, timeout_at};
use wire::dialect::stream::{Pass, Stream};

use crate::dispatch::agree::agree;
use crate::dispatch::judge::judge as asked;
use crate::dispatch::legs::{self, Answer, Failed, Job, Looking};
use crate::dispatch::peek::Beginning;
use crate::dispatch::shape::Shaped;
use crate::dispatch::turn::Turn;
use crate::dispatch::verify::verify;
use crate::life::Service;
use crate::relay::reply::ReplyBody;
use crate::relay::stream::{Reading, reported};
use crate::route::Plan;
use crate::route::cascade::First;
use crate::settle::receipt::{Receipt, Reported};

/// What asking the cheap target has brought.
pub enum Asked {
    /// Nothing: there is none, or it cannot be asked now.
    Nobody,
    /// The answer.
    Answered(Response<ReplyBody>),
    /// No answer that convinces; the call's account goes on.
    InVain(Box<Receipt>),
}

/// What has come of the cheap leg.
enum Came {
    /// An answer that convinces.
    Convincing(Answer, Ground),
    /// One that does not, and what it used.
    Doubtful(Doubt, Reported),
    /// None.
    Broken {
        fault: Fault,
        end: End,
        so_far: Option<Reported>,
    },
}

/// Asks the cheap target of a call's cascade, if it has one.
pub async fn ask(service: &Service<'_>, job: &Job<'_>, shape: impl Fn(&Plan) -> Shaped) -> Asked {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let Some(first) = job.placed.and_then(|placed| placed.first()) else {
        return Asked::Nobody;
    };
    let rules = (setup.breaker, first.policy(setup.retry));
    let (lineup, conversation) = (&first.route.lineup, Some(first.conversation));
    let turn = Turn::start_by(rules, gateway, lineup, job.need, conversation, &call.id.0);
    // Any other than the first candidate means that the cheap target just began to fail.
    let Some(turn) = turn.filter(|turn| turn.candidate() == 0) else {
        return Asked::Nobody;
    };
    let mut shaped = shape(&first.plan);
    // Where a limit has no room for it, the limit says what becomes of the call.
    let Ok(mut receipt) = legs::open(service, job, &first.plan, &mut shaped, turn) else {
        return Asked::Nobody;
    };
    receipt.cascades(first);
    let leg = legs::leg(service, job, &first.plan, shaped, &mut receipt);
    let answer = match Box::pin(leg).await {
        Err(Failed {
            fault, end, so_far, ..
        }) => {
            receipt.gave_way(fault, end, so_far);
            None
        }
        Ok(answer) => accepted(service, first, answer, &mut receipt).await,
    };
    let Some(answer) = answer else {
        return Asked::InVain(Box::new(receipt));
    };
    let idle = setup.limits.idle_timeout;
    Asked::Answered(legs::reply(answer, receipt, idle).await)
}

/// The cheap target's answer, if it is the call's.
async fn accepted(
    service: &Service<'_>,
    first: &First,
    answer: Answer,
    receipt: &mut Receipt,
) -> Option<Answer> {
    if let Some(ground) = first.foreseen.vouched {
        receipt.vouched(ground);
        return Some(answer);
    }
    match Box::pin(convince(service, first, answer, receipt)).await {
        Came::Convincing(answer, ground) => {
            receipt.convinced(ground, first.word(Ok(&ground)));
            return Some(answer);
        }
        Came::Doubtful(doubt, reported) => {
            if doubt.is_checked() {
                service.gateway.thinking.failed(first.of);
            }
            receipt.doubted(&doubt, first.word(Err(&doubt)), reported);
        }
        Came::Broken { fault, end, so_far } => receipt.gave_way(fault, end, so_far),
    }
    None
}

/// Judges the cheap target's answer.
async fn convince(
    service: &Service<'_>,
    first: &First,
    answer: Answer,
    receipt: &mut Receipt,
) -> Came {
    match answer {
        Answer::Whole(head, bytes, reported) => {
            whole(service, first, (head, bytes, reported), receipt).await
        }
        Answer::Flowing(head, beginning, body, reading) => {
            let held = Held {
                first,
                hearing: Hearing::new(first.plan.upstream.dialect),
                beginning,
                body,
            };
            held.flowing(service, head, reading, receipt).await
        }
    }
}

/// An answer that came in one piece.
async fn whole(
    service: &Service<'_>,
    first: &First,
    (head, bytes, reported): (Parts, Bytes, Reported),
    receipt: &mut Receipt,
) -> Came {
    // A verifier may take its time, and the client may not wait for it.
    receipt.flight().saw(reported.clone());
    let seen = AnswerSeen::read(first.plan.upstream.dialect, &bytes);
    match judged(service, first, seen, receipt).await {
        Ok(ground) => Came::Convincing(Answer::Whole(head, bytes, reported), ground),
        Err(doubt) => Came::Doubtful(doubt, reported),
    }
}

/// Judges an answer that is there; asks the verifiers as they are needed.
async fn judged(
    service: &Service<'_>,
    first: &First,
    mut seen: AnswerSeen,
    receipt: &mut Receipt,
) -> Result<Ground, Doubt> {
    loop {
        match judge(&first.contract, &seen, &first.rules) {
            Verdict::Accept(ground) => return Ok(ground),
            Verdict::Escalate(doubt) => return Err(doubt),
            Verdict::NeedMore(Need::Verifier(name)) => {
                let outcome = match first.cascade.judge(&name) {
                    Some(judge) => asked(service, judge, (&first.question, &seen), receipt).await,
                    None => verify(&first.cascade.verifiers, &name, &seen).await,
                };
                seen.checks.push(Check { name, outcome });
            }
            Verdict::NeedMore(Need::Agreement) => {
                seen.agreement = Some(agree(service, first, &seen, receipt).await);
            }
            // Nothing more comes.
            Verdict::NeedMore(Need::More) => return Err(Doubt::Unsure(0.0)),
        }
    }
}

/// A stream that is held back.
struct Held<'f> {
    first: &'f First,
    hearing: Hearing,
    beginning: Beginning,
    body: Incoming,
}

/// How far a stream has come.
enum Step {
    /// It can be judged as a whole.
    Ended,
    /// It was judged by its beginning.
    Judged(Result<Ground, Doubt>),
    /// It broke.
    Broke(Fault, End),
}

impl Held<'_> {
    /// Holds a stream back until it convinces, is given up or breaks. If the client leaves
    /// meanwhile, what was used goes to the receipt.
    async fn flowing(
        mut self,
        service: &Service<'_>,
        head: Parts,
        reading: Reading,
        receipt: &mut Receipt,
    ) -> Came {
        let mut looking = Looking::at(reading, receipt.flight());
        let step = match looking.reading() {
            Some(Reading::Dialect(_, stream)) => self.hold(stream).await,
            // What is no stream of the dialect cannot be judged.
            _ => Step::Judged(Err(Doubt::Broken)),
        };
        let reading = looking.seen();
        drop(looking);
        let verdict = match step {
            Step::Judged(verdict) => verdict,
            Step::Ended => {
                // As above: whoever judges may take its time.
                receipt.flight().saw(reported(reading.clone()));
                judged(service, self.first, self.hearing.finish(), receipt).await
            }
            Step::Broke(fault, end) => {
                let so_far = Some(reported(reading));
                return Came::Broken { fault, end, so_far };
            }
        };
        match verdict {
            Ok(ground) => {
                let answer = Answer::Flowing(head, self.beginning, self.body, reading);
                Came::Convincing(answer, ground)
            }
            Err(doubt) => Came::Doubtful(doubt, reported(reading)),
        }
    }

    async fn hold(&mut self, stream: &mut Stream) -> Step {
        let since = *self.beginning.since.get_or_insert_with(Instant::now);
        let held_until = since + self.first.held_at_most();
        for piece in &self.beginning.pieces {
            self.hearing.push(piece);
        }
        loop {
            if self.beginning.is_all || stream.is_over() {
                return Step::Ended;
            }
            if let Some(verdict) = self.so_far(since) {
                return Step::Judged(verdict);
            }
            // When time is up, the next look at the clock says so.
            let Ok(frame) = timeout_at(held_until, self.body.frame()).await else {
                continue;
            };
            let bytes = match frame {
                None if stream.has_stopped() => {
                    self.beginning.is_all = true;
                    continue;
                }
                None | Some(Err(_)) => return Step::Broke(Fault::Cut, End::UpstreamBroke),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(_) => continue,
                },
            };
            let onward = match stream.push(&bytes) {
                Pass::Whole => bytes,
                Pass::Edited(edited) => Bytes::from(edited),
            };
            if stream.is_torn() {
                return Step::Broke(Fault::Unreadable, End::UpstreamBroke);
            }
            if stream.upstream_error().is_some() {
                return Step::Broke(Fault::Interrupted, End::UpstreamError);
            }
            if !onward.is_empty() {
                self.hearing.push(&onward);
                self.beginning.pieces.push_back(onward);
            }
        }
    }

    /// The verdict on what has come, if there is one.
    fn so_far(&self, since: Instant) -> Option<Result<Ground, Doubt>> {
        let First {
            contract,
            rules,
            cascade,
            ..
        } = self.first;
        let held = (self.hearing.bytes(), since.elapsed());
        let seen = self.hearing.so_far();
        match judge_prefix(contract, seen, rules, held, cascade.hold_back) {
            Verdict::Accept(ground) => Some(Ok(ground)),
            Verdict::Escalate(doubt) => Some(Err(doubt)),
            Verdict::NeedMore(_) => None,
        }
    }
}
