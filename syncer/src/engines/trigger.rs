use super::Engine;

/// What an operator can set off by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// One engine, and those that lay its facts over their own.
    Engine(Engine),
    /// All `[[source]]`s.
    Sources,
    /// All engines and all sources.
    All,
}

/// There is no trigger of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no trigger {0:?}; there are agents, services, tenants, certificates, smtp, configs, sources and all")]
pub struct TriggerError(String);

impl Trigger {
    /// The names, as REST has them.
    pub const NAMES: [&'static str; 8] = [
        "agents",
        "services",
        "tenants",
        "certificates",
        "smtp",
        "configs",
        "sources",
        "all",
    ];

    /// The engines that it sets off, in the order in which they run.
    #[must_use]
    pub fn engines(self) -> Vec<Engine> {
        let all = Engine::ALL.into_iter();
        match self {
            Self::Sources => Vec::new(),
            Self::All => all.collect(),
            Self::Engine(engine) => all
                .filter(|other| *other == engine || other.reads().contains(&engine))
                .collect(),
        }
    }

    /// Are the `[[source]]`s read?
    #[must_use]
    pub fn reads_sources(self) -> bool {
        matches!(self, Self::Sources | Self::All)
    }
}

impl std::str::FromStr for Trigger {
    type Err = TriggerError;

    fn from_str(text: &str) -> Result<Self, TriggerError> {
        match text {
            "sources" => Ok(Self::Sources),
            "all" => Ok(Self::All),
            "smtp" => Ok(Self::Engine(Engine::Mail)),
            _ => match Engine::ALL.into_iter().find(|engine| engine.name() == text) {
                Some(engine) => Ok(Self::Engine(engine)),
                None => Err(TriggerError(text.to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_sets_off_what_it_says() {
        let engines = |name: &str| name.parse::<Trigger>().unwrap().engines();
        for name in Trigger::NAMES {
            assert!(name.parse::<Trigger>().is_ok(), "{name}");
        }
        assert_eq!(engines("agents"), [Engine::Agents]);
        assert_eq!(engines("smtp"), [Engine::Mail, Engine::Services]);
        assert_eq!(engines("certificates"), [Engine::Certificates, Engine::Services]);
        assert_eq!(engines("all"), Engine::ALL);
        assert_eq!(engines("sources"), []);
        assert!("all".parse::<Trigger>().unwrap().reads_sources());
        assert!(!"smtp".parse::<Trigger>().unwrap().reads_sources());
        assert!(
            "users"
                .parse::<Trigger>()
                .unwrap_err()
                .to_string()
                .contains("certificates")
        );
    }
}
