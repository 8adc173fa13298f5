//! Entry tags: an entry's version and the start of its `entryUUID`, so that an entry that was deleted
//! and made again has another tag although its versions start over.

use dirless_directory::encoded::Attributes;
use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::problem::{Code, Problem};
use crate::tree::Record;

/// The tag of an entry, quotes included.
pub(crate) fn of(record: &Record) -> String {
    let uuid = Attributes::new(record.encoded()).ok().and_then(|attributes| {
        let value = attributes.attribute("entryUUID")?.values.into_iter().next()?;
        Some(String::from_utf8_lossy(value.get(..8)?).into_owned())
    });
    format!("\"{}-{}\"", record.version(), uuid.unwrap_or_default())
}

/// One condition (RFC 9110 sections 13.1.1 and 13.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<String>),
}

/// What a request says must hold of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    is: Option<Tags>,
    is_not: Option<Tags>,
}

impl Conditions {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            is: tags(headers, &IF_MATCH)?,
            is_not: tags(headers, &IF_NONE_MATCH)?,
        })
    }

    /// Does `If-None-Match` name the entry that is there? The answer to a read is 304 then.
    pub(crate) fn is_known(&self, record: &Record) -> bool {
        self.is_not
            .as_ref()
            .is_some_and(|tags| matches(tags, &of(record), true))
    }

    /// Holds a write's conditions against what is there.
    pub(crate) fn check(&self, held: Option<&Record>, dn: &str) -> Result<(), Problem> {
        let tag = held.map(of);
        let fits = |tags: &Tags, weak| tag.as_deref().is_some_and(|tag| matches(tags, tag, weak));
        let refused = |header: &str| {
            let state = match &tag {
                Some(tag) => format!("the entry {dn:?} has the tag {tag}"),
                None => format!("there is no entry {dn:?}"),
            };
            Problem::new(Code::VersionMismatch, state)
                .at(format!("header {header}"))
                .hint("read the entry again and repeat the change with its ETag")
        };
        if self.is.as_ref().is_some_and(|tags| !fits(tags, false)) {
            return Err(refused("If-Match"));
        }
        if self.is_not.as_ref().is_some_and(|tags| fits(tags, true)) {
            return Err(refused("If-None-Match"));
        }
        Ok(())
    }
}

fn matches(tags: &Tags, tag: &str, weak: bool) -> bool {
    match tags {
        Tags::Any => true,
        Tags::These(tags) => tags.iter().any(|one| {
            let one = if weak {
                one.strip_prefix("W/").unwrap_or(one)
            } else {
                one
            };
            one == tag
        }),
    }
}

fn tags(headers: &HeaderMap, header: &HeaderName) -> Result<Option<Tags>, Problem> {
    let mut all = Vec::new();
    for value in headers.get_all(header) {
        let wrong = || {
            Problem::new(Code::InvalidRequest, "is no entry tag")
                .at(format!("header {header}"))
                .hint("send an ETag as it was received, quotes included, or *")
        };
        let text = value.to_str().map_err(|_| wrong())?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let opaque = one.strip_prefix("W/").unwrap_or(one);
            if !(opaque.len() >= 2 && opaque.starts_with('"') && opaque.ends_with('"')) {
                return Err(wrong());
            }
            all.push(one.to_owned());
        }
    }
    Ok((headers.contains_key(header)).then_some(Tags::These(all)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(header: HeaderName, lines: &[&'static str]) -> Result<Option<Tags>, Problem> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.clone(), HeaderValue::from_static(line));
        }
        tags(&headers, &header)
    }

    #[test]
    fn tags_are_read_as_the_rfc_writes_them() {
        assert_eq!(read(IF_MATCH, &[]).unwrap(), None);
        assert_eq!(read(IF_MATCH, &["*"]).unwrap(), Some(Tags::Any));
        let these = read(IF_MATCH, &["\"1-a\", W/\"2-b\"", "\"3-c\""]).unwrap().unwrap();
        assert_eq!(
            these,
            Tags::These(vec!["\"1-a\"".into(), "W/\"2-b\"".into(), "\"3-c\"".into()])
        );
        assert!(matches(&these, "\"1-a\"", false) && matches(&these, "\"2-b\"", true));
        assert!(!matches(&these, "\"2-b\"", false), "a weak tag never matches strongly");
        for wrong in ["1-a", "\"", "W/x", "\"a\" b"] {
            assert_eq!(
                read(IF_MATCH, &[wrong]).unwrap_err().code(),
                Code::InvalidRequest,
                "{wrong}"
            );
        }
    }
}
