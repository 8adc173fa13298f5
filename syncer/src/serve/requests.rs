//! What requests hold, read without a server: the very parsers of the routes, for whoever holds them
//! against bytes of strangers. Pure.

use dirless_directory::{DnKey, Entry, Filter, Schema};
use dirless_publish::revocation::RevokeRequest;
use http::header::IF_MATCH;
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::etag::Conditions;
use super::routes::{EntryBody, RenameBody, SearchBody, cursor, next};
use super::{app, body, json};
use crate::tree::secrets::Secrets;

/// Reads requests as a server with this schema does. Answers are `None` where it refuses.
#[derive(Clone, Debug)]
pub struct Requests {
    schema: Schema,
    secrets: Secrets,
}

impl Requests {
    /// Under `schema`.
    #[must_use]
    pub fn new(schema: Schema) -> Self {
        Self {
            secrets: Secrets::passwords(&schema),
            schema,
        }
    }

    /// What the body of `POST /v1/search` looks for.
    #[must_use]
    pub fn search(&self, body: &[u8]) -> Option<Filter> {
        let content: SearchBody = body::parse(body).ok()?;
        Some(content.asked(&self.secrets).ok()?.filter)
    }

    /// Does no answer depend on a secret when it is filtered so?
    #[must_use]
    pub fn is_permitted(&self, filter: &Filter) -> bool {
        !self.secrets.are_in(filter)
    }

    /// The entry that `PUT /v1/entries/{dn}` with that body is to make.
    #[must_use]
    pub fn entry(&self, dn: &str, body: &[u8]) -> Option<Entry> {
        let dn = app::name(dn, "path").ok()?;
        let content: EntryBody = body::parse(body).ok()?;
        json::entry(dn, &content.attributes, &self.secrets, None).ok()
    }

    /// The body that says so of an entry, as `GET` shows it.
    #[must_use]
    pub fn shown(&self, entry: &Entry) -> Vec<u8> {
        let attributes = json::attributes(&self.schema, &self.secrets, entry, &[]);
        json!({ "attributes": attributes }).to_string().into_bytes()
    }

    /// Is that a body of `POST /v1/entries/{dn}/rename`?
    #[must_use]
    pub fn is_rename(&self, body: &[u8]) -> bool {
        body::parse::<RenameBody>(body).is_ok_and(|content| content.names().is_ok())
    }

    /// Is that a body of `POST /v1/revocations`?
    #[must_use]
    pub fn is_revocation(&self, body: &[u8]) -> bool {
        body::parse::<RevokeRequest>(body).is_ok()
    }

    /// Where a page starts.
    #[must_use]
    pub fn cursor(&self, text: &str) -> Option<DnKey> {
        cursor(Some(text), "query.cursor").ok().flatten()
    }

    /// The cursor of a page that starts there.
    #[must_use]
    pub fn next(&self, key: &DnKey) -> String {
        next(key)
    }

    /// Is that a value of `If-Match`?
    #[must_use]
    pub fn is_condition(&self, value: &[u8]) -> bool {
        let Ok(value) = HeaderValue::from_bytes(value) else {
            return false;
        };
        let headers = HeaderMap::from_iter([(IF_MATCH, value)]);
        Conditions::read(&headers).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> Requests {
        Requests::new(Schema::standard())
    }

    #[test]
    fn good_requests_are_read() {
        let requests = requests();
        let filter = requests
            .search(br#"{"filter": "(uid=a)", "scope": "one", "limit": 5}"#)
            .unwrap();
        assert_eq!(filter.to_string(), "(uid=a)");
        assert_eq!(requests.search(br#"{"filter": "(userPassword=a)"}"#), None);
        assert_eq!(requests.search(br#"{"limit": 1001}"#), None);
        assert!(requests.is_rename(br#"{"rdn": "uid=b", "above": "ou=x"}"#));
        assert!(!requests.is_rename(br#"{"rdn": "uid=b,ou=x"}"#));
        assert!(requests.is_revocation(br#"{"names": ["b"]}"#) && !requests.is_revocation(br#"[["b"]]"#));
        assert!(requests.is_condition(b"\"1-a\", *") || requests.is_condition(b"*"));
        assert!(!requests.is_condition(b"1"));
    }

    proptest! {
        #[test]
        fn any_request_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[ -~]{0,60}") {
            let requests = requests();
            let _ = (requests.search(&bytes), requests.is_rename(&bytes), requests.is_condition(&bytes));
            let _ = requests.is_revocation(&bytes);
            for content in [text.clone(), format!("{{\"filter\":{text:?}}}"), format!("{{\"cursor\":{text:?},\"base\":{text:?}}}")] {
                if let Some(filter) = requests.search(content.as_bytes()) {
                    prop_assert!(requests.is_permitted(&filter));
                }
            }
            if let Some(entry) = requests.entry("cn=a", format!("{{\"attributes\":{{\"cn\":{text:?}}}}}").as_bytes()) {
                let shown = requests.shown(&entry);
                prop_assert_eq!(requests.entry("cn=a", &shown), Some(entry));
            }
        }

        #[test]
        fn cursors_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[a-zA-Z0-9_=-]{0,40}") {
            let requests = requests();
            let key = DnKey::from(bytes);
            let there = requests.next(&key);
            prop_assert_eq!(requests.cursor(&there), Some(key));
            if let Some(key) = requests.cursor(&text) {
                prop_assert_eq!(requests.next(&key), text);
            }
        }
    }
}
