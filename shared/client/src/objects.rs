//! Calls of the verified protocol, `/v2/{tenant}/…`: objects, credentials, join codes and the mailbox, heartbeats.
//! What objects say is for others to check.

use bytes::Bytes;
use dirless_wire::trust::{
    CONTENT_DIGEST, CredentialRequest, Digest, HeartbeatReply, JOIN_REQUEST_MAX, JoinCodeRequest, JoinList, KeyId,
    Label, ObjectPath, ReceiptList, UNANNOUNCED_MAX, Version,
};
use dirless_wire::{ETag, ErrorCode, header};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::calls::{conditional, encode};
use crate::key::digest_of;
use crate::reply::{Accepted, Answer, Failure, Json, Reader};
use crate::snapshot::Download;
use crate::transport::{Call, Identity, Pace};
use crate::{Cycle, Error, Expected, Fetched, SnapshotSink, Written};

impl Cycle {
    /// `GET` of an object into `sink`, at most `limit` bytes. A body that breaks off is fetched anew from another
    /// backend, after [`SnapshotSink::begin`].
    ///
    /// # Errors
    /// Any [`Error`]; then what the sink holds is worthless.
    pub async fn get_object<S: SnapshotSink>(
        &self,
        path: &ObjectPath,
        etag: Option<&ETag>,
        limit: u64,
        sink: &mut S,
    ) -> Result<Fetched, Error> {
        let call = self.signed(Method::GET, &path.to_string());
        self.download(call, etag, limit, sink).await
    }

    /// `PUT` of an object: write-once ones with [`Expected::Anything`], heads with what they replace.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Changed`] when another head is stored than expected, [`Error::Rejected`] with
    /// [`ErrorCode::AlreadyExists`] when other bytes are stored under a name that is written once.
    pub async fn put_object(&self, path: &ObjectPath, body: Bytes, expected: &Expected) -> Result<Written, Error> {
        let call = Call {
            pace: Pace::Fetch,
            ..with_body(self.signed(Method::PUT, &path.to_string()), body)
        };
        let etag = self.run(&conditional(call, expected), &mut Accepted).await?;
        Ok(Written { etag })
    }

    /// `DELETE` of an object; that there was none is no error.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_object(&self, path: &ObjectPath) -> Result<(), Error> {
        self.delete(&path.to_string()).await
    }

    /// `POST heartbeat`: this node is alive, with its signed receipt if it has one. The answer says what may be new.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn post_receipt(&self, receipt: Option<Bytes>) -> Result<HeartbeatReply, Error> {
        let call = with_body(self.signed(Method::POST, "heartbeat"), receipt.unwrap_or_default());
        self.run(&call, &mut Json::new()).await
    }

    /// `GET receipts`: the last receipt of each node, the first page or the one `after` a node.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_receipts(&self, after: Option<&KeyId>) -> Result<ReceiptList, Error> {
        let page = after.map_or_else(String::new, |after| format!("?after={after}"));
        self.run(&self.signed(Method::GET, &format!("receipts{page}")), &mut Json::new())
            .await
    }

    /// `PUT credential/{key}`: registers a key.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Rejected`] with [`ErrorCode::AlreadyExists`] when the id is another key's, or that of
    /// one that was revoked.
    pub async fn put_credential(&self, credential: &CredentialRequest) -> Result<(), Error> {
        let path = format!("credential/{}", credential.key.id());
        self.put_json(&path, credential).await
    }

    /// `DELETE credential/{key}`: revokes a key for good; that there was none is no error.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_credential(&self, key: &KeyId) -> Result<(), Error> {
        self.delete(&format!("credential/{key}")).await
    }

    /// `PUT join/{code}`: registers a join code.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_join_code(&self, code: &Label, request: &JoinCodeRequest) -> Result<(), Error> {
        self.put_json(&format!("join/{code}"), request).await
    }

    /// `DELETE join/{code}`: ends a join code, with the requests that wait under it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_join_code(&self, code: &Label) -> Result<(), Error> {
        self.delete(&format!("join/{code}")).await
    }

    /// `GET join`: the codes that are registered, and the oldest requests that wait.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_mailbox(&self) -> Result<JoinList, Error> {
        self.run(&self.signed(Method::GET, "join"), &mut Json::new()).await
    }

    /// `GET join/{code}/{request}`: the sealed request; none when it does not wait.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_join_request(&self, code: &Label, request: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let mut sealed = Vec::new();
        let call = self.signed(Method::GET, &format!("join/{code}/{request}"));
        self.read_whole(&call, JOIN_REQUEST_MAX, &mut sealed)
            .await
            .map(|found| found.then_some(sealed))
    }

    /// `DELETE join/{code}/{request}`: takes a request out of the mailbox.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_join_request(&self, code: &Label, request: &Digest) -> Result<(), Error> {
        self.delete(&format!("join/{code}/{request}")).await
    }

    /// `POST join/{code}`, with the code's bearer: a host that has no key there yet asks to be let in. The same bytes
    /// again are fine, and cost nothing.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Unauthorized`] when the code is not accepted, or not any more.
    pub async fn post_join_request(&self, code: &Label, sealed: Bytes) -> Result<Posted, Error> {
        let call = self.joining(Method::POST, &format!("join/{code}"));
        self.run(&with_body(call, sealed), &mut Mailbox).await
    }

    /// `GET join/{code}/policy/{version}`, with the code's bearer: a policy, at most `limit` bytes, so that a host knows
    /// whom to seal its request to. None when there is no such policy.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Unauthorized`] when the code is not accepted, or not any more.
    pub async fn get_policy_to_join(
        &self,
        code: &Label,
        version: Version,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut note = Vec::new();
        let call = self.joining(Method::GET, &format!("join/{code}/policy/{version}"));
        self.read_whole(&call, limit, &mut note)
            .await
            .map(|found| found.then_some(note))
    }

    /// Reads one of a backend's own answers whole. Only its word counts as absence: not that of a front that lost its
    /// way.
    async fn read_whole(&self, call: &Call, limit: u64, sink: &mut Vec<u8>) -> Result<bool, Error> {
        let mut reader = Download {
            sink,
            limit,
            conditional: false,
        };
        match self.run(call, &mut reader).await? {
            Fetched::Absent {
                code: ErrorCode::ObjectAbsent,
            } => Ok(false),
            Fetched::Absent { code } => Err(no_object_route(code)),
            Fetched::Body(_) | Fetched::NotModified => Ok(true),
        }
    }

    async fn put_json(&self, path: &str, body: &impl Serialize) -> Result<(), Error> {
        let call = self.signed(Method::PUT, path).json(encode(body));
        self.run(&call, &mut Accepted).await.map(drop)
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        let call = self.signed(Method::DELETE, path);
        self.run(&call, &mut Accepted).await.map(drop)
    }

    pub(crate) fn signed(&self, method: Method, path: &str) -> Call {
        Call {
            identity: self.owner(),
            ..Call::new(method, self.path_below_tenant(path))
        }
    }

    fn joining(&self, method: Method, path: &str) -> Call {
        Call {
            identity: Identity::Bearer,
            ..Call::new(method, self.path_below_tenant(path))
        }
    }
}

/// What became of a join request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It was not in the mailbox, and is now.
    Taken,
    /// It has been waiting there.
    Waits,
}

/// Reads what became of a join request.
struct Mailbox;

impl Reader for Mailbox {
    type Output = Posted;

    async fn read(&mut self, answer: Answer) -> Result<Posted, Failure> {
        let is_new = answer.status() == StatusCode::CREATED;
        Accepted.read(answer).await?;
        Ok(if is_new { Posted::Taken } else { Posted::Waits })
    }
}

/// A 404 that is not a backend's word on an object.
pub(crate) fn no_object_route(code: ErrorCode) -> Error {
    Error::Rejected {
        status: StatusCode::NOT_FOUND.as_u16(),
        code,
        error: "there is no such route".to_owned(),
        hint: Some("this does not look like a Dirless backend of this version; check the URL and its path".to_owned()),
    }
}

fn with_body(call: Call, body: Bytes) -> Call {
    let digest = (body.len() as u64 > UNANNOUNCED_MAX).then(|| digest_of(&body).content_digest());
    let call = Call {
        body: Some(body),
        ..call
    }
    .header("content-type", header::SEALED_MEDIA_TYPE);
    match digest {
        Some(digest) => call.header(CONTENT_DIGEST, &digest),
        None => call,
    }
}
