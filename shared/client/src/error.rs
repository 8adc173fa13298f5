use std::fmt;
use std::time::Duration;

use dirless_wire::trust::CLOCK_TOLERANCE_SECONDS;
use dirless_wire::{AgePublicKey, ErrorCode};

/// Why a call failed: one variant for each thing a caller does differently. No variant holds a
/// secret or any part of a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// 401. The bearer or the tenant id is wrong; trying again will not help.
    #[error(
        "the backend does not accept this token for this tenant; check the token and the tenant id, \
         and that this tenant is enrolled (dirless enroll)"
    )]
    Unauthorized,
    /// 401 to a signed request: the key is not registered, was revoked or has ended, or the clocks differ too much.
    #[error("the backend does not accept this key for this tenant{}", Clocks(*.ahead))]
    KeyRefused {
        /// By how many seconds this clock is ahead of the backend's (negative: behind), when it tells its time.
        ahead: Option<i64>,
    },
    /// 403 for the whole realm. The last good copy stays valid; only an operator can lift it.
    #[error("the backend has suspended this customer ({error}); ask whoever operates the backend")]
    Suspended {
        /// The backend's own words.
        error: String,
    },
    /// 403 for this call only.
    #[error("this token may not do this ({error}); use a token with the needed role")]
    Forbidden {
        /// The backend's own words.
        error: String,
    },
    /// 409. Another age key is registered than the one used.
    #[error(
        "another age key is registered for this tenant{}; use that key on this machine, or register \
         this one with: dirless rotate-key", Named(.registered_key.as_ref())
    )]
    KeyConflict {
        /// The registered key, when the backend tells.
        registered_key: Option<AgePublicKey>,
    },
    /// 409. The tenant belongs to another AWS account.
    #[error(
        "this tenant belongs to another AWS account ({error}); check the tenant id and the account of this machine"
    )]
    AccountConflict {
        /// The backend's own words.
        error: String,
    },
    /// 412, or found out by reading again. Somebody else wrote in between: fetch, redo, put.
    #[error("somebody else changed this in the meantime; nothing was written, try again")]
    Changed,
    /// 413. What was sent is over the backend's limit.
    #[error("the backend refused {sent} bytes as too large ({error}); raise [sync] max_payload_bytes there")]
    TooLarge {
        /// Bytes sent.
        sent: u64,
        /// The backend's own words.
        error: String,
    },
    /// 429, and waiting as asked would take longer than this client may wait.
    #[error("the backend asks to slow down{}", After(*.retry_after))]
    RateLimited {
        /// How long the backend asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other refusal. Trying the same again will not help.
    #[error("the backend refused with status {status}: {error}{}", Hint(.hint.as_deref()))]
    Rejected {
        /// HTTP status.
        status: u16,
        /// For programs; `Unknown` from backends that send none.
        code: ErrorCode,
        /// The backend's own words.
        error: String,
        /// What the backend, or this client, advises.
        hint: Option<String>,
    },
    /// No address gave an answer. Try later; keep what is there.
    #[error("no backend answered; tried {}", List(.tried))]
    Unavailable {
        /// Every try, in order, each with its reason.
        tried: Vec<Attempt>,
    },
    /// The answer is not what this route answers.
    #[error("{backend} sent an answer that makes no sense ({reason}); check that the URL names a Dirless backend")]
    Malformed {
        /// Which backend.
        backend: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The body is longer than the caller allows; nothing past the limit was read.
    #[error("{backend} sent more than {limit} bytes, which is over the limit; nothing of it is used")]
    BodyTooLarge {
        /// Which backend.
        backend: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The caller's own sink failed (a full disk, say); the backend is fine.
    #[error("cannot keep what the backend sent: {0}")]
    Sink(#[source] std::io::Error),
}

impl Error {
    /// Whether a signed request was refused for its key, and not for its time.
    #[must_use]
    pub fn refuses_key(&self) -> bool {
        matches!(self, Self::KeyRefused { ahead } if !differ(*ahead))
    }

    /// Whether the same call may well succeed later without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::RateLimited { .. } | Self::Changed | Self::Sink(_)
        )
    }
}

/// One try that got no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The URL, with the address when the host has one.
    pub backend: String,
    /// Why it failed, for people.
    pub reason: String,
}

/// Whether clocks differ by more than signed requests may.
fn differ(ahead: Option<i64>) -> bool {
    ahead.is_some_and(|ahead| ahead.unsigned_abs() > CLOCK_TOLERANCE_SECONDS)
}

struct Clocks(Option<i64>);

impl fmt::Display for Clocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ahead) if differ(self.0) => {
                let which = if ahead > 0 { "ahead of" } else { "behind" };
                let seconds = ahead.unsigned_abs();
                write!(
                    formatter,
                    ": this machine's clock is {seconds} seconds {which} the backend's; set it (timedatectl set-ntp true)"
                )
            }
            _ => formatter.write_str(": it is not registered there, was revoked, or has ended"),
        }
    }
}

struct Named<'a>(Option<&'a AgePublicKey>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |key| write!(formatter, " ({key})"))
    }
}

struct After(Option<Duration>);

impl fmt::Display for After {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(wait) => write!(formatter, "; try again in {} seconds", wait.as_secs().max(1)),
            None => formatter.write_str("; try again in a minute"),
        }
    }
}

struct Hint<'a>(Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |hint| write!(formatter, "; {hint}"))
    }
}

struct List<'a>(&'a [Attempt]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounds repeat the same reasons; each is told once, with how often it was seen.
        let mut seen: Vec<(&Attempt, usize)> = Vec::new();
        for attempt in self.0 {
            match seen.iter_mut().find(|(earlier, _)| *earlier == attempt) {
                Some((_, times)) => *times += 1,
                None => seen.push((attempt, 1)),
            }
        }
        for (number, (attempt, times)) in seen.into_iter().enumerate() {
            let comma = if number == 0 { "" } else { "; " };
            write!(formatter, "{comma}{}: {}", attempt.backend, attempt.reason)?;
            if times > 1 {
                write!(formatter, " ({times} times)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_what_to_do() {
        let key = AgePublicKey::new("age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s").unwrap();
        let conflict = Error::KeyConflict {
            registered_key: Some(key),
        };
        assert!(conflict.to_string().contains("(age17vcec") && conflict.to_string().contains("rotate-key"));
        let limited = Error::RateLimited {
            retry_after: Some(Duration::from_secs(90)),
        };
        assert!(limited.to_string().ends_with("try again in 90 seconds"));
        let rejected = Error::Rejected {
            status: 422,
            code: ErrorCode::NotSealed,
            error: "in clear".into(),
            hint: Some("seal it".into()),
        };
        assert_eq!(
            rejected.to_string(),
            "the backend refused with status 422: in clear; seal it"
        );
    }

    #[test]
    fn a_refused_key_is_told_from_a_wrong_clock() {
        let refused = |ahead| Error::KeyRefused { ahead };
        for ahead in [None, Some(0), Some(-300), Some(300)] {
            assert!(refused(ahead).refuses_key() && refused(ahead).to_string().contains("revoked"));
        }
        assert!(!refused(Some(301)).refuses_key() && !Error::Unauthorized.refuses_key());
        assert!(
            refused(Some(-400))
                .to_string()
                .contains("400 seconds behind the backend's")
        );
    }

    #[test]
    fn repeated_reasons_are_told_once() {
        let attempt = |backend: &str| Attempt {
            backend: backend.into(),
            reason: "connection refused".into(),
        };
        let error = Error::Unavailable {
            tried: vec![attempt("a"), attempt("b"), attempt("a")],
        };
        assert_eq!(
            error.to_string(),
            "no backend answered; tried a: connection refused (2 times); b: connection refused"
        );
        assert!(error.is_transient() && !Error::Unauthorized.is_transient());
    }
}
