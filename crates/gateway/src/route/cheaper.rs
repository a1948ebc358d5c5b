//! Cheaper: whether targets that cost less would answer a call well enough.
//!
//! **Invariant**: a call is tried where nothing is known only as often as its route says (test
//! `a_call_leaves_only_for_a_reason` in `tests/it/cheaper.rs`).

use std::f64::consts::TAU;

use policy::route::adequacy::{Doubt, Evidence, Ground, Word, explores, judge};
use policy::route::features::{Features, Sight, read};
use policy::route::memory::Head;
use policy::route::posterior::Belief;
use policy::route::predictor::{Estimate, Predictor, Rank, worth};
use wire::dialect::request::Request;
use wire::prompt::Role;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::life::Service;
use crate::route::Plan;
use crate::setup::Rule;

/// A call, looked at for targets that are cheaper than its own.
pub struct Appraisal<'a> {
    service: &'a Service<'a>,
    rule: &'a Rule,
    conversation: u64,
    /// The kinds of traffic that the call belongs to, from the most general on.
    pub kinds: Vec<u64>,
    features: Features,
    /// What the router of one's own expects of each of its targets, unless the call is unlike all
    /// that it was trained on.
    estimates: Option<Vec<Estimate>>,
}

/// What is thought of one target.
#[derive(Clone, Copy, Debug)]
pub struct Opinion {
    /// Whether it may answer.
    pub verdict: Result<Ground, Doubt>,
    /// How probable it is that its answer would do.
    pub adequate: f64,
    /// The same of the call's own target.
    pub own: f64,
}

impl<'a> Appraisal<'a> {
    /// Looks at a call: what its user wrote last, its head, and what names its conversation.
    pub fn of(
        service: &'a Service<'a>,
        rule: &'a Rule,
        request: &Request<'_>,
        (asked, head, conversation): (&str, Option<Head>, u64),
    ) -> Self {
        // Turns and tools are left out as they are when a router is trained.
        let features = read(Sight {
            text: asked,
            turns: 0,
            tools: 0,
        });
        let router = service.setup.router.as_deref();
        let router = router.filter(|router| !router.is_new(&features));
        Self {
            service,
            rule,
            conversation,
            kinds: kinds(&rule.name, request, head),
            estimates: router.map(|router| router.estimates(&features, Some(&rule.name))),
            features,
        }
    }

    /// Whether a target may answer in place of the call's own, as its route asks for.
    pub fn opinion(&self, cheaper: &Plan, own: &Plan) -> Opinion {
        self.opinion_at(self.rule.quality, (cheaper, own), None)
    }

    /// The same for this share of the own target's quality. `expects` is what is expected of the
    /// cheaper one where no router of one's own knows it; it is no ground for a verdict.
    pub fn opinion_at(
        &self,
        quality: f64,
        (cheaper, own): (&Plan, &Plan),
        expects: Option<f64>,
    ) -> Opinion {
        let (cheaper_name, own_name) = (cheaper.name(), own.name());
        let pair = self.service.setup.router.as_deref().and_then(|router| {
            let place = |plan: &Plan, name: &str| router.place(&[name, &plan.model]);
            Some((
                router,
                place(own, &own_name)?,
                place(cheaper, &cheaper_name)?,
            ))
        });
        let word = pair.map_or(Word::Nothing, |(router, own, cheaper)| {
            self.word(quality, router, own, cheaper)
        });
        let expected = pair.and_then(|(_, _, cheaper)| self.estimates.as_ref()?.get(cheaper));
        let expected = expected.map(|it| it.adequate);
        let prior = expected.unwrap_or_else(|| self.prior());
        let learned = &self.service.gateway.learned;
        let believed = |name: &str, prior| learned.belief(&self.kinds, name, prior);
        // The client's own target is held to be right until outcomes say otherwise.
        let beliefs = (believed(&cheaper_name, prior), believed(&own_name, 1.0));
        let evidence = Evidence::of(beliefs.0, beliefs.1, quality);
        Opinion {
            verdict: judge(evidence, word, self.explores(beliefs, quality)),
            adequate: expected
                .or(expects)
                .map_or(beliefs.0, |prior| believed(&cheaper_name, prior))
                .mean,
            own: beliefs.1.mean,
        }
    }

    fn word(&self, quality: f64, router: &Predictor, own: usize, cheaper: usize) -> Word {
        let pair = (own, cheaper);
        let Some(floor) = router.floor(&self.rule.name, pair, quality) else {
            return Word::Nothing;
        };
        let Some(estimates) = &self.estimates else {
            return Word::Unlike;
        };
        match (estimates.get(own), estimates.get(cheaper)) {
            (Some(own), Some(cheaper)) => Word::Worth {
                worth: worth(own, cheaper, Rank::Dollar),
                threshold: floor.threshold,
            },
            _ => Word::Nothing,
        }
    }

    /// What a weaker target is expected to do with such a text, by outcomes of other targets.
    fn prior(&self) -> f64 {
        let public = Predictor::built_in();
        let weak = public.place(&[WEAK]);
        let expected =
            weak.and_then(|weak| public.estimates(&self.features, None).get(weak).copied());
        expected.map_or(EVEN, |it| it.adequate)
    }

    /// Drawn from what names the conversation, so that all of its calls are tried or none: one that
    /// went to and fro would pay for two caches.
    fn explores(&self, beliefs: (Belief, Belief), quality: f64) -> bool {
        let seed = self.conversation;
        let draw = |number: u64| uniform(xxh3_64_with_seed(&number.to_le_bytes(), seed));
        let radius = (-2.0 * draw(1).max(f64::MIN_POSITIVE).ln()).sqrt();
        let (sin, cos) = (TAU * draw(2)).sin_cos();
        let normals = [radius * sin, radius * cos];
        explores(beliefs, quality, self.rule.explore, draw(0), normals)
    }
}

/// What the weaker target is called in the router that is built in.
const WEAK: &str = "weak";

/// Where nothing at all is expected.
const EVEN: f64 = 0.5;

/// The route; its calls with these tools and instructions; and those of them at the same kind of
/// step.
fn kinds(route: &str, request: &Request<'_>, head: Option<Head>) -> Vec<u64> {
    let general = xxh3_64(route.as_bytes());
    let prompt = xxh3_64_with_seed(&head.map_or(0, |head| head.number).to_le_bytes(), general);
    let last = request.prompt.segments.last().map(|segment| segment.role);
    let step = [
        u8::from(request.has_tools),
        u8::from(last == Some(Role::Tool)),
    ];
    vec![general, prompt, xxh3_64_with_seed(&step, prompt)]
}

/// 0..1 of a hash: 53 bits are what a float of this size holds.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn uniform(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
