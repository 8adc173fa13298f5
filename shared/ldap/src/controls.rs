//! The controls that are understood, and what becomes of others (RFC 4511 section 4.1.11).

use dirless_directory::Filter;

use crate::ResultCode;
use crate::ber::{DecodeError, ENUMERATED, INTEGER, Reader};
use crate::decode_filter::{FilterLimits, filter};
use crate::request::RawControl;

pub(crate) const PAGED: &str = "1.2.840.113556.1.4.319";
pub(crate) const SORT: &str = "1.2.840.113556.1.4.473";
pub(crate) const SORT_RESULT: &str = "1.2.840.113556.1.4.474";
pub(crate) const ASSERTION: &str = "1.3.6.1.1.12";
pub(crate) const PRE_READ: &str = "1.3.6.1.1.13.1";
pub(crate) const POST_READ: &str = "1.3.6.1.1.13.2";
pub(crate) const MATCHED_VALUES: &str = "1.2.826.0.1.3344810.2.3";
pub(crate) const DEREFERENCE: &str = "1.3.6.1.4.1.4203.666.5.16";
pub(crate) const MANAGE_DSA_IT: &str = "2.16.840.1.113730.3.4.2";
pub(crate) const DOMAIN_SCOPE: &str = "1.2.840.113556.1.4.1339";
pub(crate) const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
pub(crate) const SYNC: &str = "1.3.6.1.4.1.4203.1.9.1.1";
pub(crate) const SYNC_STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
pub(crate) const SYNC_DONE: &str = "1.3.6.1.4.1.4203.1.9.1.3";

/// What RootDSE lists as `supportedControl`.
pub(crate) const SUPPORTED: [&str; 11] = [
    PAGED,
    SORT,
    ASSERTION,
    PRE_READ,
    POST_READ,
    MATCHED_VALUES,
    DEREFERENCE,
    MANAGE_DSA_IT,
    DOMAIN_SCOPE,
    PASSWORD_POLICY,
    SYNC,
];

/// The operation a request is for, as far as controls care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Bind,
    Search,
    Compare,
    Write,
    Extended,
}

/// The controls of a request.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    pub(crate) paged: Option<Paged>,
    pub(crate) sort: Option<Sort>,
    pub(crate) assertion: Option<Filter>,
    pub(crate) pre_read: Option<Vec<String>>,
    pub(crate) post_read: Option<Vec<String>>,
    pub(crate) matched_values: Option<Vec<Filter>>,
    pub(crate) dereference: Vec<Dereference>,
    pub(crate) sync: Option<Sync>,
}

/// Simple paged results (RFC 2696).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Paged {
    pub(crate) size: u32,
    pub(crate) cookie: Vec<u8>,
}

/// Server-side sorting (RFC 2891).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) keys: Vec<SortKey>,
    pub(crate) critical: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SortKey {
    pub(crate) attribute: String,
    pub(crate) rule: Option<String>,
    pub(crate) reverse: bool,
}

/// One attribute of names to be followed, and what is wanted from where they lead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dereference {
    pub(crate) attribute: String,
    pub(crate) wanted: Vec<String>,
}

/// Content synchronisation (RFC 4533).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) persist: bool,
    pub(crate) cookie: Option<Vec<u8>>,
}

/// Why a request stops at its controls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ControlError {
    pub(crate) code: ResultCode,
    pub(crate) message: String,
}

impl Controls {
    /// Reads the controls of an operation. Those that are neither known nor critical are passed over.
    pub(crate) fn read(raw: &[RawControl<'_>], operation: For, limits: FilterLimits) -> Result<Self, ControlError> {
        let mut controls = Self::default();
        for control in raw {
            if fits(control.oid, operation) {
                controls.take(control, limits).map_err(|error| ControlError {
                    code: ResultCode::ProtocolError,
                    message: format!("control {}: {error}", control.oid),
                })?;
            } else if control.critical {
                return Err(ControlError {
                    code: ResultCode::UnavailableCriticalExtension,
                    message: format!("the critical control {} is not supported here", printable(control.oid)),
                });
            }
        }
        if controls.sync.is_some() && (controls.paged.is_some() || controls.sort.is_some()) {
            return Err(ControlError {
                code: ResultCode::UnwillingToPerform,
                message: "synchronisation is neither paged nor sorted".to_owned(),
            });
        }
        Ok(controls)
    }

    fn take(&mut self, control: &RawControl<'_>, limits: FilterLimits) -> Result<(), DecodeError> {
        let value = || control.value.ok_or(DecodeError::Malformed("value: there is none"));
        match control.oid {
            PAGED => self.paged = Some(paged(value()?)?),
            SORT => {
                self.sort = Some(Sort {
                    keys: sort_keys(value()?)?,
                    critical: control.critical,
                });
            }
            ASSERTION => self.assertion = Some(filter(&mut Reader::new(value()?), limits)?),
            PRE_READ => self.pre_read = Some(names(Reader::new(value()?))?),
            POST_READ => self.post_read = Some(names(Reader::new(value()?))?),
            MATCHED_VALUES => {
                let mut list = Reader::new(value()?).sequence("filters")?;
                let mut filters = Vec::new();
                while !list.is_empty() && filters.len() < 1024 {
                    filters.push(filter(&mut list, limits)?);
                }
                self.matched_values = Some(filters);
            }
            DEREFERENCE => self.dereference = dereferences(value()?)?,
            SYNC => self.sync = Some(sync(value()?)?),
            _ => {}
        }
        Ok(())
    }
}

/// An OID of a stranger in a message of ours.
fn printable(oid: &str) -> String {
    oid.chars()
        .filter(|c| c.is_ascii_digit() || *c == '.')
        .take(64)
        .collect()
}

fn fits(oid: &str, operation: For) -> bool {
    match oid {
        PAGED | SORT | MATCHED_VALUES | DEREFERENCE | DOMAIN_SCOPE | SYNC => operation == For::Search,
        ASSERTION => matches!(operation, For::Search | For::Compare | For::Write),
        PRE_READ | POST_READ => operation == For::Write,
        MANAGE_DSA_IT => matches!(operation, For::Search | For::Compare | For::Write),
        PASSWORD_POLICY => true,
        _ => false,
    }
}

fn paged(value: &[u8]) -> Result<Paged, DecodeError> {
    let mut reader = Reader::new(value).sequence("paged results")?;
    Ok(Paged {
        size: reader.number(INTEGER, "page size")?,
        cookie: reader.octets("page cookie")?.to_vec(),
    })
}

fn sort_keys(value: &[u8]) -> Result<Vec<SortKey>, DecodeError> {
    let mut list = Reader::new(value).sequence("sort keys")?;
    let mut keys = Vec::new();
    while !list.is_empty() {
        let mut key = list.sequence("sort key")?;
        let attribute = key.text("sort attribute")?.to_owned();
        let rule = key
            .optional(0x80, "sort rule")?
            .map(|rule| crate::ber::text(rule, "sort rule").map(str::to_owned))
            .transpose()?;
        let reverse = matches!(key.optional(0x81, "sort order")?, Some([byte]) if *byte != 0);
        keys.push(SortKey {
            attribute,
            rule,
            reverse,
        });
        if keys.len() > 16 {
            return Err(DecodeError::Malformed("sort keys: more than 16"));
        }
    }
    if keys.is_empty() {
        return Err(DecodeError::Malformed("sort keys: none"));
    }
    Ok(keys)
}

fn names(mut reader: Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let mut list = reader.sequence("attributes")?;
    list_of_names(&mut list)
}

fn list_of_names(list: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(list.text("attribute")?.to_owned());
    }
    Ok(names)
}

fn dereferences(value: &[u8]) -> Result<Vec<Dereference>, DecodeError> {
    let mut list = Reader::new(value).sequence("dereference")?;
    let mut found = Vec::new();
    while !list.is_empty() && found.len() < 16 {
        let mut one = list.sequence("dereference")?;
        found.push(Dereference {
            attribute: one.text("attribute to dereference")?.to_owned(),
            wanted: names(one)?,
        });
    }
    Ok(found)
}

fn sync(value: &[u8]) -> Result<Sync, DecodeError> {
    let mut reader = Reader::new(value).sequence("synchronisation")?;
    let persist = match reader.number(ENUMERATED, "mode")? {
        1 => false,
        3 => true,
        _ => return Err(DecodeError::Malformed("mode")),
    };
    Ok(Sync {
        persist,
        cookie: reader.optional(0x04, "cookie")?.map(<[u8]>::to_vec),
    })
}
