//! From `[[providers]]`, or from the keys in the environment, to upstreams.
//!
//! **Invariant**: without configuration there is always something to call (test
//! `the_environment_names_the_providers`).

use gateway::dispatch::headers;
use gateway::setup::{Credential, Upstream};
use hyper::Uri;
use policy::prices::PriceBook;
use wire::dialect::Dialect;
use wire::provider::{Auth, CacheKey, PROVIDERS, Provider, find};

use super::build::Build;
use super::fault::ConfigError;
use super::raw::{RawDialect, RawProvider};
use super::secret::Reference;

/// Called with each client's own key where no key is set: coding agents bring one of these.
const WITHOUT_KEYS: [&str; 2] = ["anthropic", "openai"];

/// First parts of paths that are the gateway's own.
const RESERVED: [&str; 8] = [
    "admin",
    "v1",
    "chat",
    "messages",
    "embeddings",
    "models",
    "healthz",
    "readyz",
];

/// An upstream, and where its key comes from.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    /// The upstream.
    pub(crate) upstream: Upstream,
    /// Where its key comes from.
    pub(crate) key: Reference,
}

/// What is called: as configured, else as the environment suggests.
pub(super) fn build(
    build: &mut Build<'_>,
    book: &PriceBook,
) -> Result<Vec<Configured>, ConfigError> {
    let rows = build.raw.providers.clone();
    if !rows.is_empty() {
        return rows
            .iter()
            .map(|row| configured(build, row, book))
            .collect();
    }
    let mut rows: Vec<RawProvider> = Vec::new();
    for provider in PROVIDERS {
        let mut names = provider.key_env.iter();
        let Some(name) = names.find(|name| build.environment.get(name).is_some()) else {
            continue;
        };
        if provider.base_url.is_empty() {
            build.remarks.push(format!(
                "{name} is set, but {} has no common address; name yours in a [[providers]] table",
                provider.name
            ));
        } else {
            rows.push(row(provider.id, format!("env:{name}")));
        }
    }
    if rows.is_empty() {
        build.remarks.push(
            "no provider key is set in the environment: anthropic and openai are called with each \
             client's own key"
                .to_owned(),
        );
        rows.extend(WITHOUT_KEYS.map(|id| row(id, "client".to_owned())));
    }
    rows.iter()
        .map(|row| configured(build, row, book))
        .collect()
}

fn row(id: &str, api_key: String) -> RawProvider {
    RawProvider {
        id: id.to_owned(),
        dialect: None,
        base_url: None,
        api_key: Some(api_key),
        models: None,
        prices: None,
    }
}

/// One row; a known provider fills in what the row does not say.
fn configured(
    build: &mut Build<'_>,
    row: &RawProvider,
    book: &PriceBook,
) -> Result<Configured, ConfigError> {
    let key = |field: &str| format!("providers.{}.{field}", row.id);
    check_id(build, &row.id)?;
    let known = find(&row.id);
    let dialect = row
        .dialect
        .map(dialect)
        .or(known.map(|known| known.dialect));
    let dialect = dialect.ok_or_else(|| {
        let problem = format!(
            "is missing, and `{}` is not a provider that is known here ({}); write \
             `dialect = \"openai_chat\"` or `dialect = \"anthropic_messages\"`",
            row.id,
            known_ids()
        );
        build.fault(key("dialect"), problem)
    })?;
    // A known provider's other facts hold for the dialect that it is known to speak.
    let known = known.filter(|known| known.dialect == dialect);
    let base = base(build, row, known, dialect)?;
    let reference = reference(build, row, known)?;
    let secret = reference
        .secret(build.environment, build.folder)
        .map_err(|problem| build.fault(key("api_key"), problem))?;
    let auth = auth(known, dialect, secret.is_some());
    let credential = match (&secret, &reference) {
        (Some(secret), _) => configured_credential(secret, auth)
            .ok_or_else(|| build.fault(key("api_key"), NOT_A_HEADER.to_owned()))?,
        (None, Reference::Client) => Credential::FromClient,
        (None, Reference::Variable(_) | Reference::File(_) | Reference::Nothing) => {
            Credential::Nothing
        }
    };
    if secret.is_some() && base.scheme_str() == Some("http") && !is_loopback(&base) {
        build.remarks.push(format!(
            "the key of `{}` travels unencrypted to {base}",
            row.id
        ));
    }
    let prices = prices(build, row, known, book)?;
    let models = row.models.clone().unwrap_or_else(|| {
        // A server of one's own and a seller of everybody's models take what nobody else names.
        let globs = known.map_or(&[][..], |known| known.models);
        let globs = if globs.is_empty() { &["*"][..] } else { globs };
        globs.iter().map(|glob| (*glob).to_owned()).collect()
    });
    if models.iter().any(String::is_empty) {
        let problem = "has an empty glob; `*` stands for every model".to_owned();
        return Err(build.fault(key("models"), problem));
    }
    let upstream = Upstream {
        id: row.id.clone(),
        prices,
        dialect,
        base,
        auth,
        credential,
        models,
        cache_key: known.map_or(CacheKey::None, |known| known.cache_key),
        asks_usage: known.map_or(dialect == Dialect::OpenAiChat, |known| known.asks_usage),
    };
    Ok(Configured {
        upstream,
        key: reference,
    })
}

const NOT_A_HEADER: &str = "leads to a text that cannot be sent in a header; it must be one line \
                            of visible ASCII";

fn check_id(build: &Build<'_>, id: &str) -> Result<(), ConfigError> {
    build.check_id("providers.id", id)?;
    if RESERVED.contains(&id) {
        let problem =
            format!("is `{id}`, which is a path of the gateway itself; choose another name");
        return Err(build.fault("providers.id".to_owned(), problem));
    }
    Ok(())
}

const fn dialect(raw: RawDialect) -> Dialect {
    match raw {
        RawDialect::AnthropicMessages => Dialect::AnthropicMessages,
        RawDialect::OpenAiChat => Dialect::OpenAiChat,
    }
}

fn known_ids() -> String {
    let ids: Vec<&str> = PROVIDERS.iter().map(|provider| provider.id).collect();
    ids.join(", ")
}

fn base(
    build: &Build<'_>,
    row: &RawProvider,
    known: Option<&Provider>,
    dialect: Dialect,
) -> Result<Uri, ConfigError> {
    let fault = |problem: String| build.fault(format!("providers.{}.base_url", row.id), problem);
    let default = known
        .map(|known| known.base_url)
        .filter(|base| !base.is_empty());
    let text = row.base_url.as_deref().or(default);
    let text = text.ok_or_else(|| {
        fault("is missing; write scheme, host and path, as `https://llm.example.com/v1`".to_owned())
    })?;
    let allowed = "allowed: `http://` or `https://`, a host, and a path without query, as \
                   `https://llm.example.com/v1`";
    let trimmed = text.trim_end_matches('/');
    let below = match dialect {
        // Its paths begin with `/v1` themselves, and many write it here as for OpenAI.
        Dialect::AnthropicMessages => trimmed.strip_suffix("/v1").unwrap_or(trimmed),
        Dialect::OpenAiChat => trimmed,
    };
    let uri = below.parse::<Uri>();
    let uri = uri.map_err(|error| fault(format!("is `{text}`: {error}; {allowed}")))?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(fault(
            "holds a user name or password; name the key in `api_key`".to_owned(),
        ));
    }
    if !scheme || authority.is_empty() || uri.query().is_some() {
        return Err(fault(format!("is `{text}`; {allowed}")));
    }
    Ok(uri)
}

/// The reference as written, or the usual one.
fn reference(
    build: &Build<'_>,
    row: &RawProvider,
    known: Option<&Provider>,
) -> Result<Reference, ConfigError> {
    let fault = |problem: String| build.fault(format!("providers.{}.api_key", row.id), problem);
    if let Some(text) = &row.api_key {
        return Reference::read(text).map_err(fault);
    }
    let names = known.map_or(&[][..], |known| known.key_env);
    let set = names
        .iter()
        .find(|name| build.environment.get(name).is_some());
    match (set.or(names.first()), known.is_none_or(|known| known.local)) {
        (Some(name), _) if set.is_some() => Ok(Reference::Variable((*name).to_owned())),
        (None, _) | (_, true) => Ok(Reference::Nothing),
        (Some(name), false) => Err(fault(format!(
            "is missing, and its usual variable `{name}` is not set; export it, or write \
             `env:NAME`, `file:PATH`, `client` or `none`"
        ))),
    }
}

/// How the key is sent.
const fn auth(known: Option<&Provider>, dialect: Dialect, has_secret: bool) -> Auth {
    match (known, dialect) {
        (Some(known), _) => match known.auth {
            // A local server that was given a key wants it.
            Auth::None if has_secret => Auth::Bearer,
            Auth::Bearer | Auth::Header(_) | Auth::None => known.auth,
        },
        (None, Dialect::AnthropicMessages) => Auth::Header("x-api-key"),
        (None, Dialect::OpenAiChat) => Auth::Bearer,
    }
}

fn configured_credential(secret: &str, auth: Auth) -> Option<Credential> {
    let value = match auth {
        Auth::Bearer | Auth::None => headers::secret(&format!("Bearer {secret}")),
        Auth::Header(_) => headers::secret(secret),
    };
    value.map(Credential::Configured)
}

fn is_loopback(base: &Uri) -> bool {
    let host = base.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The part of the price book that applies.
fn prices(
    build: &mut Build<'_>,
    row: &RawProvider,
    known: Option<&Provider>,
    book: &PriceBook,
) -> Result<String, ConfigError> {
    if let Some(name) = &row.prices {
        if let Some(provider) = book.provider(name) {
            return Ok(provider.id.clone());
        }
        let ids: Vec<&str> = book
            .providers()
            .map(|provider| provider.id.as_str())
            .collect();
        let problem = format!("is `{name}`; the price book knows {}", ids.join(", "));
        return Err(build.fault(format!("providers.{}.prices", row.id), problem));
    }
    if let Some(provider) = book.provider(&row.id) {
        return Ok(provider.id.clone());
    }
    if !known.is_some_and(|known| known.local) {
        build.remarks.push(format!(
            "provider `{}` has no prices: its cost will be unknown; name a provider of the price \
             book in `prices`, or add a file to `[prices] files`",
            row.id
        ));
    }
    Ok(row.id.clone())
}
