//! Why the backend refuses a host: what has become of its key there.

use std::collections::BTreeMap;
use std::io;

use dirless_publish::BackendFolder;
use dirless_seal::Label;
use dirless_wire::trust::{CredentialReply, KeyRole};
use jiff::{SignedDuration, Timestamp};

/// How long it is believed what the backend said.
const KNOWN_FOR: SignedDuration = SignedDuration::from_secs(60);

/// What the backend says of hosts' keys.
#[derive(Default)]
pub(super) struct Keys {
    asked: Option<Timestamp>,
    /// By the name of the key; why it is refused, if it is.
    nodes: BTreeMap<String, Option<String>>,
}

impl Keys {
    /// Asks, if the last answer is old.
    pub(super) fn look(&mut self, backend: &BackendFolder, now: Timestamp) -> io::Result<()> {
        if self.asked.is_some_and(|asked| now.duration_since(asked) < KNOWN_FOR) {
            return Ok(());
        }
        self.asked = Some(now);
        self.nodes = of(&backend.credentials()?, now);
        Ok(())
    }

    /// Why the backend refuses this host; none when it does not, or that is not known.
    pub(super) fn refused(&self, node: &Label) -> Option<String> {
        self.asked?;
        match self.nodes.get(node.as_str()) {
            Some(refused) => refused.clone(),
            None => Some("its key is not registered at the backend".to_owned()),
        }
    }
}

fn of(credentials: &[CredentialReply], now: Timestamp) -> BTreeMap<String, Option<String>> {
    let mut nodes = BTreeMap::new();
    for own in credentials.iter().filter(|own| own.role == KeyRole::Node) {
        let is_over = |end: u64| i64::try_from(end).is_ok_and(|end| end <= now.as_second());
        let refused = match (&own.revoked_at, &own.expires_at) {
            (Some(at), _) => Some(format!("its key was revoked at the backend at {}", at.as_str())),
            (None, Some(end)) if is_over(end.unix_seconds()) => {
                Some(format!("its key ended at the backend at {}", end.as_str()))
            }
            _ => None,
        };
        let before = nodes
            .entry(own.key.id().name().to_string())
            .or_insert_with(|| refused.clone());
        // Under one name the key that is taken counts.
        if refused.is_none() {
            *before = None;
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use dirless_wire::trust::Time;

    use super::*;

    #[test]
    fn what_became_of_a_key_is_told() {
        let time = |second| Time::from_unix_seconds(second).unwrap();
        let key = |name: &str, revoked: Option<u64>, expires: Option<u64>| CredentialReply {
            key: dirless_seal::SigningKey::generate(name.parse().unwrap())
                .unwrap()
                .verifying()
                .to_string()
                .parse()
                .unwrap(),
            role: KeyRole::Node,
            created_at: time(1),
            expires_at: expires.map(time),
            revoked_at: revoked.map(time),
            last_used_at: None,
        };
        let all = [
            key("good", None, Some(100)),
            key("revoked", Some(5), None),
            key("ended", None, Some(10)),
            key("twice", Some(5), None),
            key("twice", None, None),
        ];
        let now = Timestamp::from_second(10).unwrap();
        let keys = Keys {
            asked: Some(now),
            nodes: of(&all, now),
        };
        let refused = |name: &str| keys.refused(&name.parse().unwrap());
        assert_eq!((refused("good"), refused("twice")), (None, None));
        assert!(
            refused("revoked")
                .unwrap()
                .ends_with("revoked at the backend at 1970-01-01T00:00:05Z")
        );
        assert!(refused("ended").unwrap().contains("ended"));
        assert!(refused("unknown").unwrap().contains("not registered"));
        assert_eq!(Keys::default().refused(&"unknown".parse().unwrap()), None);
    }
}
