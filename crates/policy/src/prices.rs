//! The price book: what each model costs, dated and tiered, and what its cache can do.
//!
//! **Invariant**: what is not known is never priced: an unknown model, tier, date or class gives
//! [`Unpriced`], never 0 (test `unknown_is_never_zero`).

pub mod bill;
pub mod calendar;
pub mod model;
pub mod names;
pub mod read;
pub mod refresh;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use wire::usage::Usage;

use crate::moment::Moment;
use crate::prices::bill::{Bill, Unpriced};
use crate::prices::calendar::Date;
use crate::prices::model::Model;
use crate::prices::names::Names;
use crate::prices::read::PriceError;

/// The price files in the binary, alphabetical: name, text.
const FILES: &[(&str, &str)] = &[
    ("anthropic.toml", include_str!("../prices/anthropic.toml")),
    (
        "azure_openai.toml",
        include_str!("../prices/azure_openai.toml"),
    ),
    ("cerebras.toml", include_str!("../prices/cerebras.toml")),
    ("deepseek.toml", include_str!("../prices/deepseek.toml")),
    ("fireworks.toml", include_str!("../prices/fireworks.toml")),
    ("gemini.toml", include_str!("../prices/gemini.toml")),
    ("groq.toml", include_str!("../prices/groq.toml")),
    ("minimax.toml", include_str!("../prices/minimax.toml")),
    ("mistral.toml", include_str!("../prices/mistral.toml")),
    ("moonshot.toml", include_str!("../prices/moonshot.toml")),
    ("openai.toml", include_str!("../prices/openai.toml")),
    ("openrouter.toml", include_str!("../prices/openrouter.toml")),
    ("qwen.toml", include_str!("../prices/qwen.toml")),
    ("together.toml", include_str!("../prices/together.toml")),
    ("xai.toml", include_str!("../prices/xai.toml")),
    ("zai.toml", include_str!("../prices/zai.toml")),
];

static BUILT_IN: LazyLock<PriceBook> = LazyLock::new(|| {
    PriceBook::parse(FILES)
        .expect("the test `every_row_has_a_source_and_a_date` parses these files")
});

/// Dated prices of every known model, by provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    version: String,
    /// The day that the newest file describes.
    dated: Date,
    providers: BTreeMap<String, Provider>,
}

/// One provider's part of the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The provider's id, as in the provider registry.
    pub id: String,
    /// Other names for the same provider.
    pub aliases: Vec<String>,
    /// The day that the file describes.
    pub dated: Date,
    /// Whether a model missing here is gone, rather than not mentioned.
    pub coverage: Coverage,
    /// Whether it sells its own models.
    pub seller: Seller,
    models: Vec<Model>,
    names: Names,
}

/// What a file says about models that it does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Nothing: it adds to or corrects what is known.
    #[default]
    Some,
    /// They are no longer sold.
    Whole,
}

/// Whose models a provider sells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seller {
    /// Its own.
    #[default]
    Maker,
    /// Those of others.
    Host,
}

impl Provider {
    /// Every model, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model that answers to `name`: exactly, dated (`-2026-10-21`, `-20251001`), or by glob.
    pub fn find(&self, name: &str) -> Option<&Model> {
        self.names
            .find(name)
            .and_then(|index| self.models.get(index))
    }
}

impl PriceBook {
    /// The book that ships in the binary. Parsed at first use.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Reads price files, given as (name, text); names appear in errors.
    ///
    /// ```
    /// use policy::prices::PriceBook;
    ///
    /// let file = r#"
    ///     provider = "acme"
    ///     dated = 2026-11-24
    ///     [[model]]
    ///     id = "anvil"
    ///     source = "https://acme.example/prices"
    ///     read = 2026-11-24
    ///     [[model.window]]
    ///     rates = [{ input = "0.0375", output = "1" }]
    /// "#;
    /// assert!(PriceBook::parse(&[("acme.toml", file)]).is_ok());
    ///
    /// let finer = file.replace("0.0375", "0.00000001");
    /// let error = PriceBook::parse(&[("acme.toml", &finer)]).unwrap_err();
    /// assert!(error.to_string().contains("finer than 6 decimal places"));
    /// ```
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, PriceError> {
        let mut providers = BTreeMap::new();
        for (file, text) in files {
            let provider = read::provider(file, text)?;
            if let Some(earlier) = providers.insert(provider.id.clone(), provider) {
                return Err(PriceError::row(
                    file,
                    &earlier.id,
                    "this provider has a file already; keep one file for each provider",
                ));
            }
        }
        let dated = providers
            .values()
            .map(|provider| provider.dated)
            .max()
            .unwrap_or_default();
        let texts = files.iter().map(|(_, text)| *text).collect::<String>();
        Ok(Self {
            version: version(dated, &texts),
            dated,
            providers,
        })
    }

    /// What a ledger row stores to name this book: newest date and a hash of the content.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every provider, by id.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.values()
    }

    /// A provider by its id or another of its names.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(name).or_else(|| {
            self.providers()
                .find(|provider| provider.aliases.iter().any(|alias| alias == name))
        })
    }

    /// The model that `provider` sells under `model`.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Model> {
        self.provider(provider)?.find(model)
    }

    /// The model that goes by this name anywhere: `provider/model`, or a name that one provider has.
    ///
    /// A maker's own listing wins over resellers; otherwise two providers are one too many.
    pub fn find_any(&self, model: &str) -> Option<&Model> {
        let prefixed = model
            .split_once('/')
            .and_then(|(provider, name)| self.find(provider, name));
        prefixed.or_else(|| {
            let found = |seller| {
                let sellers = self
                    .providers()
                    .filter(move |provider| provider.seller == seller);
                sellers
                    .filter_map(|provider| provider.find(model))
                    .collect::<Vec<_>>()
            };
            match (
                found(Seller::Maker).as_slice(),
                found(Seller::Host).as_slice(),
            ) {
                ([only], _) | ([], [only]) => Some(*only),
                _ => None,
            }
        })
    }

    /// The price of one upstream call at `at`, by class; or why it has none.
    pub fn cost(
        &self,
        provider: &str,
        model: &str,
        usage: &Usage,
        at: Moment,
    ) -> Result<Bill, Unpriced> {
        let found = self.find(provider, model);
        found
            .ok_or_else(|| Unpriced::unknown(provider, model))?
            .cost(usage, at)
    }

    /// As [`PriceBook::cost`], served from `region`, whose factor becomes a line of its own.
    pub fn cost_in(
        &self,
        provider: &str,
        model: &str,
        usage: &Usage,
        at: Moment,
        region: &str,
    ) -> Result<Bill, Unpriced> {
        let found = self.find(provider, model);
        found
            .ok_or_else(|| Unpriced::unknown(provider, model))?
            .cost_in(region, usage, at)
    }
}

/// Names a content: its date, then 64 bits of its hash, enough to tell files apart.
fn version(dated: Date, content: &str) -> String {
    format!(
        "{dated}.{:016x}",
        xxhash_rust::xxh3::xxh3_64(content.as_bytes())
    )
}
