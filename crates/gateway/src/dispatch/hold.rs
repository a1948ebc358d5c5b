//! Hold: how much money and how many tokens a leg may use at most, before it is sent.
//!
//! **Invariant**: what is held is never less than what the leg can cost by the price book's rules
//! and the size of its body (property `no_usage_within_the_bounds_costs_more` in `policy`; test
//! `reservation_is_an_upper_bound`). Where the provider fetches or runs something by itself, it is
//! the most that one turn can take in.

use policy::admit::book::hold::Need;
use policy::admit::worst::{
    Counting, FRAME, Leg, OUTPUT_CEILING, Sound, Tiers, input_limit, worst,
};
use policy::moment::Moment;
use policy::money::PicoUsd;
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::prompt::Kind;
use wire::usage::{Tokens, Ttl};

use crate::dispatch::extras::{Extras, Inputs, Speech, Speed, extras, is_image};
use crate::route::Plan;
use crate::setup::Setup;

/// 2 000 000: the largest context of any model in the price book, for those whose own is not known.
const CONTEXT_CEILING: Tokens = Tokens(2_000_000);

/// 25: searches that a turn may make; providers name no limit, and models seldom make ten.
const SEARCHES_MAX: u64 = 25;

/// What bounds the usage of a call, whoever serves it.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    costs: Costs,
    /// Bytes that the prompt is made of: it has at most one token for each.
    body: Tokens,
    /// Tokens of images, which have nothing to do with their bytes.
    images: Tokens,
    /// What the provider adds by itself.
    extras: Extras,
    /// The longest answer that the client allows.
    output: Option<Tokens>,
    /// Answers asked for.
    choices: u64,
    /// Whether the client names a service tier, so that any may be billed.
    any_tier: bool,
    /// The tier of calls that name none, as the dialect's answers call it.
    usual_tier: &'static str,
    sound: Sound,
}

/// Whether a call can cost anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Costs {
    /// What it uses.
    Something,
    /// Nothing, by the provider's rules.
    Nothing,
}

impl Bound {
    /// Of a conversation.
    pub fn of(request: &Request<'_>) -> Self {
        let extras = extras(request.body);
        let segments = request.prompt.segments.iter();
        let media = segments.filter(|segment| segment.kind == Kind::Media);
        let media = media.filter_map(|segment| request.body.get(segment.span.clone()));
        let pictured: usize = media.filter(|it| is_image(it)).map(<[u8]>::len).sum();
        let image = image_tokens(request.dialect);
        Self {
            costs: Costs::Something,
            body: Tokens((request.body.len() - pictured) as u64),
            images: Tokens(image.0.saturating_mul(extras.images)),
            extras,
            output: request.max_output,
            choices: request.choices.max(1),
            any_tier: request.tier.is_some() || extras.speed == Speed::Named,
            usual_tier: usual_tier(request.dialect),
            sound: match extras.speech {
                Speech::Named => Sound::Possible,
                Speech::None => Sound::None,
            },
        }
    }

    /// Of a call that costs nothing by the provider's rules.
    pub fn free(dialect: Dialect) -> Self {
        Self {
            costs: Costs::Nothing,
            ..Self::of_embeddings(0, dialect)
        }
    }

    /// Of texts of so many bytes that are not answered in words.
    pub fn of_embeddings(bytes: usize, dialect: Dialect) -> Self {
        Self {
            costs: Costs::Something,
            body: Tokens(bytes as u64),
            images: Tokens(0),
            extras: Extras::default(),
            output: Some(Tokens(0)),
            choices: 1,
            any_tier: true,
            usual_tier: usual_tier(dialect),
            sound: Sound::None,
        }
    }

    /// Of a body that nobody reads: it may name files, earlier answers and tools.
    pub fn unread(bytes: usize, dialect: Dialect) -> Self {
        Self {
            extras: Extras {
                inputs: Inputs::Searched,
                ..Extras::default()
            },
            output: None,
            sound: Sound::Possible,
            ..Self::of_embeddings(bytes, dialect)
        }
    }
}

impl Bound {
    /// Tokens that the body does not show, at a model that takes in so many.
    fn added(&self, context: Tokens) -> Tokens {
        match self.extras.inputs {
            Inputs::InBody => self.images,
            Inputs::Fetched | Inputs::Searched => context,
        }
    }
}

const fn usual_tier(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => "standard",
        Dialect::OpenAiChat => "default",
    }
}

/// The most tokens of one image, however small it is: 4 784 on Anthropic's models of the highest
/// resolution; on OpenAI's, 48 169 for eight tiles at `gpt-4o-mini`, which has the dearest ones.
pub(super) const fn image_tokens(dialect: Dialect) -> Tokens {
    match dialect {
        Dialect::AnthropicMessages => Tokens(4_784),
        Dialect::OpenAiChat => Tokens(48_169),
    }
}

/// What one leg of a call may use, if the worst is expected.
pub fn need(setup: &Setup, plan: &Plan, bound: &Bound, at: Moment) -> Need {
    let unknown_price = setup.budgets.unknown_price;
    if bound.costs == Costs::Nothing {
        return Need {
            worst: Some(PicoUsd::ZERO),
            unknown_price,
            ..Need::default()
        };
    }
    let Some(model) = setup.prices.find(&plan.upstream.prices, &plan.model) else {
        let output = bound.output.unwrap_or(OUTPUT_CEILING);
        let output = Tokens(output.0.saturating_mul(bound.choices));
        let tokens = bound.body + bound.added(CONTEXT_CEILING) + FRAME + output;
        return Need {
            worst: None,
            expected: None,
            worst_tokens: tokens,
            expected_tokens: tokens,
            unknown_price,
        };
    };
    let usual = [bound.usual_tier];
    let leg = Leg {
        model,
        prompt: bound.body,
        counting: Counting::Bytes,
        added: bound.added(input_limit(model).unwrap_or(CONTEXT_CEILING)),
        output: bound.output,
        choices: bound.choices,
        writes: &[Ttl::Minutes5, Ttl::Minutes30, Ttl::Hour1, Ttl::Hours12],
        tiers: if bound.any_tier {
            Tiers::Any
        } else {
            Tiers::These(&usual)
        },
        sound: bound.sound,
        searches: match bound.extras.inputs {
            Inputs::InBody | Inputs::Fetched => 0,
            Inputs::Searched => SEARCHES_MAX,
        },
        region: None,
        at,
    };
    // A provider may call its tiers otherwise than its dialect does, and may not sell searches.
    let any = Leg {
        tiers: Tiers::Any,
        ..leg
    };
    let unsearched = Leg { searches: 0, ..any };
    let known = [leg, any, unsearched]
        .iter()
        .find_map(|leg| worst(leg).ok());
    let tokens = leg.input_bound() + leg.output_bound();
    Need {
        worst: known,
        expected: None,
        worst_tokens: tokens,
        expected_tokens: tokens,
        unknown_price,
    }
}

#[cfg(test)]
mod tests {
    use policy::prices::PriceBook;
    use policy::prices::Provider;

    use super::{CONTEXT_CEILING, Tokens};

    #[test]
    fn no_known_context_is_longer_than_the_ceiling() {
        let models = PriceBook::built_in().providers().flat_map(Provider::models);
        let longest: Option<Tokens> = models.filter_map(|model| model.context).max();
        assert_eq!(longest, Some(CONTEXT_CEILING));
    }
}
