//! What Dirless programs say to each other over HTTP: identifiers, header names, request and reply
//! bodies, error codes.
//!
//! It is not a client and not a server, knows no async runtime, and never looks inside a snapshot:
//! sealed bodies are opaque bytes here.
//!
//! What always holds: a value of one of the newtypes has been checked once and needs no second
//! look; a [`TenantId`] never carries the `aws___` prefix that some deployed tools send; field
//! names in JSON are exactly those of deployed Dirless components, and everything we add is
//! optional.
#![forbid(unsafe_code)]

mod access;
mod account;
mod admin;
mod enrollment;
mod error;
mod etag;
mod health;
mod heartbeat;
mod key;
mod notice;
mod source;
mod state;
mod tenant;
mod text;

pub mod header;
pub mod trust;

pub use access::{AuthzConfig, Duplicates, HostGroupRule};
pub use account::{AwsAccountId, AwsAccountIdError, IdentityDocumentError};
pub use admin::{CaPublicKeyReply, Setting, StatusReply};
pub use enrollment::{EnrollReply, EnrollRequest, PublicKeyReply, PublicKeyRequest};
pub use error::{ErrorCode, ErrorReply};
pub use etag::{ETag, ETagError, if_none_match};
pub use health::{Health, HealthAgent, HealthDetails, HealthSplitContent, HealthSplitView};
pub use heartbeat::{AppliedSource, DroppedEntry, Heartbeat, HostReport};
pub use key::{AgePublicKey, AgePublicKeyError};
pub use notice::{KEEP_OPEN, NOTICES_MEDIA_TYPE, Notice, NoticeReader, TooLongNotice};
pub use source::{RESERVED_SOURCE_NAMES, SourceName, SourceNameError};
pub use state::TenantState;
pub use tenant::{TENANT_PREFIX, TenantId, TenantIdError};
