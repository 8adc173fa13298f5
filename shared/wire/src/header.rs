//! Header names, lower-case as HTTP/2 and the `http` crate want them, and their fixed values.

/// Names the tenant on every authenticated call but enrolment.
pub const TENANT_ID: &str = "x-tenant-id";
/// Set to [`ENCRYPTED_AGE`] on every snapshot answer; without it deployed agents read plain JSON.
pub const ENCRYPTED: &str = "x-dirless-encrypted";
/// The only value of [`ENCRYPTED`] that deployed agents take for "sealed" (exactly these bytes).
pub const ENCRYPTED_AGE: &str = "age";
/// The `age1…` key a pushed snapshot was sealed to.
pub const RECIPIENT: &str = "x-dirless-recipient";
/// On answers: the tenant's registered key. Deployed agents refuse when it is not their own key.
pub const REGISTERED_KEY: &str = "x-dirless-registered-key";
/// On answers: the key this snapshot was sealed to; deployed agents use it in an error text only.
pub const SNAPSHOT_RECIPIENT: &str = "x-dirless-snapshot-recipient";
/// Number of users in a pushed snapshot, as the syncer counts them.
pub const USER_COUNT: &str = "x-dirless-user-count";
/// Number of groups in a pushed snapshot, as the syncer counts them.
pub const GROUP_COUNT: &str = "x-dirless-group-count";
/// The AWS account a pushed snapshot was read from.
pub const AWS_ACCOUNT_ID: &str = "x-aws-account-id";
/// On answers to heartbeats: the tag of [`crate::TenantState`]. A host for which it is what it was at
/// the last good cycle has nothing to fetch.
pub const TENANT_STATE: &str = "x-dirless-tenant-state";
/// Correlates a reply with the server's log line.
pub const REQUEST_ID: &str = "x-request-id";

/// Media type of sealed bodies.
pub const SEALED_MEDIA_TYPE: &str = "application/octet-stream";
/// Media type of everything else.
pub const JSON_MEDIA_TYPE: &str = "application/json";
/// What comes before the secret in an `Authorization` value.
pub const BEARER_PREFIX: &str = "Bearer ";
