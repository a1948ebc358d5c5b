//! Who pays for a key's calls and which models it may call, as a person says it.
//!
//! **Invariant**: what enters a record has passed its check, so that a table or a log line cannot
//! be broken by a name (test `terms_are_checked`).

use policy::key::terms::{MODELS_MAX, TAGS_MAX, check, sorted};
use policy::ports::KeyRecord;

use crate::print::failure::UsageError;

/// What a key is made or assigned with.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Terms {
    /// The organisation that pays for its calls.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// The team that pays for its calls.
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// The person or service that its calls are for, where a call names none.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A label of its calls; can be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A model that it may call, as clients name it, where `*` stands for any text; can be given
    /// several times. A key without any may call all.
    #[arg(long = "model", value_name = "GLOB")]
    models: Vec<String>,
}

/// What can be taken away from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// No organisation pays.
    Organisation,
    /// No team pays.
    Team,
    /// Its calls are for nobody in particular.
    User,
    /// Its calls have no labels.
    Tags,
    /// It may call all models.
    Models,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::User => "user",
            Self::Tags => "tags",
            Self::Models => "models",
        }
    }

    /// Takes it away.
    pub(super) fn clear(self, record: &mut KeyRecord) {
        match self {
            Self::Organisation => record.payers.organisation = None,
            Self::Team => record.payers.team = None,
            Self::User => record.payers.user = None,
            Self::Tags => record.payers.tags.clear(),
            Self::Models => record.models.clear(),
        }
    }
}

impl Terms {
    /// Whether every term can be stored.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        let one = [
            ("--organisation", &self.organisation),
            ("--team", &self.team),
            ("--user", &self.user),
        ];
        let one = one
            .into_iter()
            .filter_map(|(what, text)| Some((what, text.as_ref()?)));
        let tags = self.tags.iter().map(|tag| ("--tag", tag));
        let models = self.models.iter().map(|model| ("--model", model));
        for (what, text) in one.chain(tags).chain(models) {
            checked(&format!("`{what}`"), text)?;
        }
        for (what, given, most) in [
            ("tag", self.tags.len(), TAGS_MAX),
            ("model", self.models.len(), MODELS_MAX),
        ] {
            if given > most {
                let problem = format!("`--{what}` is given {given} times; allowed: {most}");
                return Err(UsageError(problem));
            }
        }
        Ok(())
    }

    /// Whether these terms and what is to be taken away make a change together.
    pub(super) fn check_change(&self, clear: &[Part]) -> Result<(), UsageError> {
        self.check()?;
        let given = self.given();
        if given.is_empty() && clear.is_empty() {
            return Err(UsageError(
                "nothing to change; give `--organisation`, `--team`, `--user`, `--tag`, `--model` \
                 or `--clear`"
                    .to_owned(),
            ));
        }
        match clear.iter().find(|part| given.contains(part)) {
            None => Ok(()),
            Some(part) => Err(UsageError(format!(
                "the {0} cannot be given and cleared at once; leave out `--clear {0}`, since what is \
                 given replaces what was there",
                part.name()
            ))),
        }
    }

    fn given(&self) -> Vec<Part> {
        [
            (Part::Organisation, self.organisation.is_some()),
            (Part::Team, self.team.is_some()),
            (Part::User, self.user.is_some()),
            (Part::Tags, !self.tags.is_empty()),
            (Part::Models, !self.models.is_empty()),
        ]
        .into_iter()
        .filter_map(|(part, given)| given.then_some(part))
        .collect()
    }

    /// Puts what is given in the place of what was there. Lists are sorted, each text once.
    pub(super) fn apply(&self, record: &mut KeyRecord) {
        let payers = &mut record.payers;
        for (given, place) in [
            (&self.organisation, &mut payers.organisation),
            (&self.team, &mut payers.team),
            (&self.user, &mut payers.user),
        ] {
            if given.is_some() {
                place.clone_from(given);
            }
        }
        for (given, place) in [
            (&self.tags, &mut payers.tags),
            (&self.models, &mut record.models),
        ] {
            if !given.is_empty() {
                *place = sorted(given.clone());
            }
        }
    }
}

/// Whether a text can be a name; `what` begins the message.
pub(super) fn checked(what: &str, text: &str) -> Result<(), UsageError> {
    check(text).map_err(|unfit| UsageError(format!("{what} {unfit}")))
}

#[cfg(test)]
mod tests {
    use policy::key::terms::described;
    use policy::key::{SECRET_BYTES, issue};
    use policy::moment::Moment;

    use super::*;

    #[test]
    fn terms_are_checked() {
        // What fits is `policy`'s to say; that each place asks it is said here.
        for (text, fits) in [("search", true), ("a\n", false)] {
            let terms = Terms {
                team: Some(text.to_owned()),
                ..Terms::default()
            };
            assert_eq!(terms.check().is_ok(), fits, "{text:?}");
            let terms = Terms {
                tags: vec!["a".to_owned(), text.to_owned()],
                ..Terms::default()
            };
            assert_eq!(terms.check().is_ok(), fits, "{text:?}");
        }
        let terms = Terms {
            tags: vec!["a".to_owned(); 17],
            ..Terms::default()
        };
        assert!(terms.check().unwrap_err().0.contains("allowed: 16"));
    }

    #[test]
    fn what_is_not_given_stays() {
        let (_, mut record) = issue("ci", [1; SECRET_BYTES], Moment(0), None);
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let first = Terms {
            organisation: Some("acme".to_owned()),
            team: Some("search".to_owned()),
            tags: text(&["b", "a", "b"]),
            ..Terms::default()
        };
        first.apply(&mut record);
        assert_eq!(
            described(&record),
            "organisation `acme`, team `search`, tags `a` `b`, all models"
        );
        let second = Terms {
            team: Some("ads".to_owned()),
            models: text(&["gpt-*"]),
            ..Terms::default()
        };
        Part::Tags.clear(&mut record);
        second.apply(&mut record);
        assert_eq!(
            described(&record),
            "organisation `acme`, team `ads`, models `gpt-*`"
        );
        assert!(second.check_change(&[Part::Tags]).is_ok());
        assert!(second.check_change(&[Part::Team]).is_err());
        assert!(Terms::default().check_change(&[]).is_err());
    }
}
