//! Requests and blobs of deployed programs, as recorded; synthetic values, whole.

use crate::site::{BACKEND, SECRET, TENANT};

/// The identity that opens [`SEALED`].
pub const IDENTITY: &str = "AGE-SECRET-KEY-1QQXTNUSC48NY9JYL8M7TUU7C7HW0EGUCZJ8ZUKU9FAZ5QP08SASS6MXCWJ";

/// A snapshot sealed by syncer 0.5.3.
pub const SEALED: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSB1bmxTMmNKYXZ2SzloMDVEQ2d3VktxY2YyZlUrZGlZRGVqNE54Q0xxTzJ3CnVNNTRlUkp4TmFqSTJDVTA5MlI1bWdBalliL1l1RzdZT3ZYcFNZbGhSdEkKLS0tIE05amZibm9mYlFOdDQ4NzVyZTEwRzZSa0tqclZhUXRpNmtSSUhEQ3NaakkKSdO33VusuTxLoQqKRhcm6l/4MvYlaJkiwZVc6Vh4f70Z4XMtk9nwHrslYsbLkrzjNGpYQfIhp/5oPi28VG5puMV8Le636aV0gjvtKorGV1jI9BYGzdNLCh/4h9gx/KIpg0gP+I+3n5WTMVO5ILWUC9ogHuAjYlCrYo7cCZhVGm5OxT/hVAPIiynBK1YsvRSVNULNKNegOnE3FcA2+lhATAuIIUbug/8K8CGRUR9w2QNxxLXCVVamjMBBKWvyzGKVzhgzF3kOsSc5QnQ=";

/// What [`SEALED`] holds.
pub const OPENED: &str = r#"{"groups":[{"name":"Engineering Team","gid":60001,"members":["alice"]}],"users":[{"username":"alice","uid":60002,"gid":60001,"gecos":"Alice Example","home":"/home/alice","shell":"/bin/bash"},{"username":"bob","uid":60003,"gid":60003,"gecos":"Bob Example","home":"/home/bob","shell":"/bin/bash"}]}"#;

/// cli 0.3.14 enrols with `age_public_key`.
#[must_use]
pub fn enrolment(age_public_key: &str) -> Vec<u8> {
    let body = format!("{{\"tenant_id\":\"{TENANT}\",\"age_public_key\":\"{age_public_key}\"}}");
    let head = format!(
        "POST /v1/enrollment/enroll HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer {SECRET}\r\n\
         Content-Length: {}\r\nHost: {BACKEND}\r\nUser-Agent: Crystal\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// syncer 0.5.3 pushes `body` for `recipient`, naming its tenant `aws___…`.
#[must_use]
pub fn push(recipient: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "PUT /v1/snapshot/aws-identity-center HTTP/1.1\r\nContent-Type: application/octet-stream\r\n\
         Authorization: Bearer {SECRET}\r\nX-Tenant-ID: aws___{TENANT}\r\nX-Dirless-Recipient: {recipient}\r\n\
         X-Dirless-User-Count: 2\r\nX-Dirless-Group-Count: 1\r\nX-AWS-Account-ID: 123456789012\r\n\
         Content-Length: {}\r\nHost: {BACKEND}\r\nUser-Agent: Crystal\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
        body.len()
    );
    (head + body).into_bytes()
}

/// agent 0.4.12 asks for `path`.
#[must_use]
pub fn ask(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\nX-Tenant-ID: {TENANT}\r\nHost: {BACKEND}\r\n\
         User-Agent: Crystal\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
    )
    .into_bytes()
}

/// agent 0.4.12 sends `body` to `path`.
#[must_use]
pub fn tell(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer {SECRET}\r\n\
         X-Tenant-ID: {TENANT}\r\nContent-Length: {}\r\nHost: {BACKEND}\r\nUser-Agent: Crystal\r\n\
         Accept-Encoding: gzip, deflate\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The unauthenticated look that agent 0.4.12 takes at each address.
#[must_use]
pub fn probe() -> Vec<u8> {
    format!(
        "GET /v1/snapshot/aws-identity-center HTTP/1.1\r\nHost: {BACKEND}\r\nUser-Agent: Crystal\r\n\
         Accept-Encoding: gzip, deflate\r\n\r\n"
    )
    .into_bytes()
}
