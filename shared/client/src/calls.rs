use bytes::Bytes;
use dirless_wire::{
    AgePublicKey, AuthzConfig, CaPublicKeyReply, Duplicates, ETag, EnrollRequest, ErrorCode, Health, Heartbeat,
    PublicKeyReply, PublicKeyRequest, Setting, SourceName, TenantId, TenantState, header,
};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::reply::{Accepted, Answer, Failure, Json, Reader, Tagged};
use crate::snapshot::Download;
use crate::transport::{Call, Identity, Pace};
use crate::{Cycle, Error, Fetched, MAX_JSON_BYTES, Previous, SnapshotHeaders, SnapshotSink};

/// What must be stored for a conditional write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything: write in any case.
    Anything,
    /// Nothing yet (`If-None-Match: *`).
    Absent,
    /// The state with this tag (`If-Match`).
    Tag(ETag),
}

/// What a backend says of a finished write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Entity tag of what is stored now; deployed backends send none.
    pub etag: Option<ETag>,
}

/// Access rules as the backend holds them.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRules {
    /// The known part, checked.
    pub config: AuthzConfig,
    /// All of it, unknown keys included, for whoever edits it.
    pub json: Map<String, Value>,
    /// The text as it came, for whoever keeps it.
    pub text: Vec<u8>,
    /// Entity tag, when the backend sends one.
    pub etag: Option<ETag>,
}

impl Cycle {
    /// `GET /v1/snapshot/{source}` into `sink`, at most `limit` bytes. A body that breaks off is
    /// fetched anew from another backend, after [`SnapshotSink::begin`].
    ///
    /// # Errors
    /// Any [`Error`]; then what the sink holds is worthless.
    pub async fn get_snapshot<S: SnapshotSink>(
        &self,
        source: &SourceName,
        etag: Option<&ETag>,
        limit: u64,
        sink: &mut S,
    ) -> Result<Fetched, Error> {
        let call = Call::new(Method::GET, snapshot_path(source));
        self.download(call, etag, limit, sink).await
    }

    /// Fetches what `call` asks for into `sink`, unless it still has the tag `etag`.
    pub(crate) async fn download<S: SnapshotSink>(
        &self,
        call: Call,
        etag: Option<&ETag>,
        limit: u64,
        sink: &mut S,
    ) -> Result<Fetched, Error> {
        let mut call = Call {
            pace: Pace::Fetch,
            ..call
        };
        if let Some(etag) = etag {
            call = call.header("if-none-match", etag.header());
        }
        let conditional = etag.is_some();
        let mut reader = Download {
            sink,
            limit,
            conditional,
        };
        self.run(&call, &mut reader).await
    }

    /// `PUT /v1/snapshot/{source}`. With [`Expected::Anything`] it is repeated as needed; a
    /// conditional one is not repeated once it may have arrived: fetch, and see.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Changed`] when the condition does not hold.
    pub async fn put_snapshot(
        &self,
        source: &SourceName,
        headers: &SnapshotHeaders,
        body: Bytes,
        expected: &Expected,
    ) -> Result<Written, Error> {
        let mut call = Call {
            pace: Pace::Fetch,
            body: Some(body),
            ..Call::new(Method::PUT, snapshot_path(source))
        }
        .header("content-type", header::SEALED_MEDIA_TYPE)
        .header(header::RECIPIENT, headers.recipient.as_str());
        if let Some(users) = headers.users {
            call = call.header(header::USER_COUNT, &users.to_string());
        }
        if let Some(groups) = headers.groups {
            call = call.header(header::GROUP_COUNT, &groups.to_string());
        }
        if let Some(account) = &headers.account {
            call = call.header(header::AWS_ACCOUNT_ID, account.as_str());
        }
        let etag = self.run(&conditional(call, expected), &mut Accepted).await?;
        Ok(Written { etag })
    }

    /// Puts `body` in the place of `previous`, losing nobody's update: by entity tag where the
    /// backend has them; otherwise by reading again right before and right after, which leaves a
    /// window of milliseconds to writers that do not check either.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Changed`] when something else is stored than expected.
    pub async fn replace_snapshot(
        &self,
        source: &SourceName,
        headers: &SnapshotHeaders,
        previous: &Previous,
        body: Bytes,
    ) -> Result<Written, Error> {
        let limit = body.len() as u64;
        let (expected, before) = match previous {
            Previous::Absent => (Expected::Absent, None),
            Previous::Body { etag: Some(etag), .. } => (Expected::Tag(etag.clone()), None),
            Previous::Body { etag: None, body } => (Expected::Anything, Some(body)),
        };
        if let Some(before) = before
            && !self.holds(source, before, before.len() as u64).await?
        {
            return Err(Error::Changed);
        }
        let written = self.put_snapshot(source, headers, body.clone(), &expected).await?;
        if written.etag.is_none() && !self.holds(source, &body, limit).await? {
            return Err(Error::Changed);
        }
        Ok(written)
    }

    /// Whether the backend holds exactly `body` now.
    async fn holds(&self, source: &SourceName, body: &Bytes, limit: u64) -> Result<bool, Error> {
        let mut stored = Vec::new();
        match self.get_snapshot(source, None, limit, &mut stored).await {
            Ok(Fetched::Body(_)) => Ok(stored == *body),
            Ok(Fetched::Absent { .. } | Fetched::NotModified) | Err(Error::BodyTooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `DELETE /v1/snapshot/{source}`, whatever is stored; that there was nothing is no error. Hosts
    /// drop the source's entries after it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_snapshot(&self, source: &SourceName) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, snapshot_path(source));
        match self.run(&call, &mut Accepted).await {
            Ok(_) => Ok(()),
            Err(Error::Rejected {
                code: ErrorCode::SourceAbsent | ErrorCode::SourceDeleted,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// `POST /v1/enrollment/enroll`: binds `tenant` to the bearer's realm and registers its key.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::KeyConflict`] when another key is registered already.
    pub async fn enroll(&self, tenant: &TenantId, key: &AgePublicKey) -> Result<(), Error> {
        let request = EnrollRequest {
            tenant_id: tenant.clone(),
            age_public_key: key.clone(),
        };
        let call = Call {
            identity: Identity::Bearer,
            ..Call::new(Method::POST, "/v1/enrollment/enroll")
        };
        self.run(&call.json(encode(&request)), &mut Accepted).await.map(drop)
    }

    /// `PUT /v1/snapshot/public-key`: registers another key.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::KeyConflict`] where the backend lets only enrolment replace a key.
    pub async fn put_public_key(&self, key: &AgePublicKey) -> Result<(), Error> {
        let request = PublicKeyRequest {
            age_public_key: key.clone(),
        };
        let call = Call::new(Method::PUT, "/v1/snapshot/public-key").json(encode(&request));
        self.run(&call, &mut Accepted).await.map(drop)
    }

    /// `GET /v1/snapshot`: the tags of everything that hosts read, `None` when that is another state than the one of `tag`.
    ///
    /// # Errors
    /// Any [`Error`]; deployed backends do not know it.
    pub async fn get_state(&self, tag: &ETag) -> Result<Option<Box<TenantState>>, Error> {
        let call = Call::new(Method::GET, "/v1/snapshot");
        let (own, state) = self.run(&call, &mut Tagged::new()).await?;
        Ok(own.filter(|own| own.opaque() == tag.opaque()).map(|_| Box::new(state)))
    }

    /// `GET /v1/snapshot/public-key`: the registered key, `None` while there is none.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_public_key(&self) -> Result<Option<AgePublicKey>, Error> {
        let call = Call::new(Method::GET, "/v1/snapshot/public-key");
        let reply: PublicKeyReply = self.run(&call, &mut Json::new()).await?;
        Ok(reply.age_public_key)
    }

    /// `GET /v1/snapshot/authz-config`: the access rules, `None` on 404. A field of the wrong type
    /// is [`Error::Malformed`], never "not enforced".
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_access_rules(&self) -> Result<Option<AccessRules>, Error> {
        let call = Call::new(Method::GET, "/v1/snapshot/authz-config");
        self.run(&call, &mut RulesReader).await
    }

    /// `PUT /v1/snapshot/authz-config`.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Changed`] when the condition does not hold.
    pub async fn put_access_rules(&self, rules: &Map<String, Value>, expected: &Expected) -> Result<Written, Error> {
        let call = Call::new(Method::PUT, "/v1/snapshot/authz-config").json(encode(rules));
        let etag = self.run(&conditional(call, expected), &mut Accepted).await?;
        Ok(Written { etag })
    }

    /// `GET /v1/snapshot/ca-public-key`: the SSH CA key the backend proposes; unchecked text.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_ca_public_key(&self) -> Result<Option<String>, Error> {
        let call = Call::new(Method::GET, "/v1/snapshot/ca-public-key");
        let reply: CaPublicKeyReply = self.run(&call, &mut Json::new()).await?;
        Ok(reply.ca_public_key)
    }

    /// `PUT /v1/snapshot/duplicates`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_duplicates(&self, duplicates: &Duplicates) -> Result<(), Error> {
        let call = Call::new(Method::PUT, "/v1/snapshot/duplicates").json(encode(duplicates));
        self.run(&call, &mut Accepted).await.map(drop)
    }

    /// `POST /v1/agent/heartbeat`: the tag of everything that hosts read of this tenant, where the
    /// backend tells it; deployed ones do not.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn post_heartbeat(&self, heartbeat: &Heartbeat) -> Result<Option<ETag>, Error> {
        let call = Call::new(Method::POST, "/v1/agent/heartbeat").json(encode(heartbeat));
        self.run(&call, &mut Greeted).await
    }

    /// `POST /v1/admin/settings`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn post_setting(&self, setting: &Setting) -> Result<(), Error> {
        let call = Call::new(Method::POST, "/v1/admin/settings").json(encode(setting));
        self.run(&call, &mut Accepted).await.map(drop)
    }

    /// `GET /v1/health`, with the bearer (an operator's sees more).
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_health(&self) -> Result<Health, Error> {
        let call = Call {
            identity: Identity::Bearer,
            ..Call::new(Method::GET, "/v1/health")
        };
        self.run(&call, &mut Json::new()).await
    }
}

/// Reads the tag of the tenant's state from the answer to a heartbeat.
struct Greeted;

impl Reader for Greeted {
    type Output = Option<ETag>;

    async fn read(&mut self, answer: Answer) -> Result<Self::Output, Failure> {
        let tag = answer.text_header(header::TENANT_STATE).map(ETag::parse);
        Accepted.read(answer).await?;
        // One that is no tag says no more than none.
        Ok(tag.and_then(Result::ok))
    }
}

struct RulesReader;

impl Reader for RulesReader {
    type Output = Option<AccessRules>;

    async fn read(&mut self, mut answer: Answer) -> Result<Self::Output, Failure> {
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status() != StatusCode::OK {
            return Err(answer.malformed(format!("status {} to access rules", answer.status().as_u16())));
        }
        let etag = answer.etag();
        let text = answer.body(MAX_JSON_BYTES).await?;
        let malformed = |error: serde_json::Error| answer.malformed(format!("access rules: {error}"));
        let json: Map<String, Value> = serde_json::from_slice(&text).map_err(malformed)?;
        let config = serde_json::from_slice(&text).map_err(malformed)?;
        Ok(Some(AccessRules {
            config,
            json,
            text,
            etag,
        }))
    }
}

fn snapshot_path(source: &SourceName) -> String {
    format!("/v1/snapshot/{source}")
}

pub(crate) fn conditional(call: Call, expected: &Expected) -> Call {
    let call = match expected {
        Expected::Anything => return call,
        Expected::Absent => call.header("if-none-match", "*"),
        // Fronts that compress weaken a tag on its way out; If-Match compares strongly (RFC 9110
        // section 13.1.1), so the backend gets back the strong tag it made.
        Expected::Tag(etag) => call.header("if-match", &format!("\"{}\"", etag.opaque())),
    };
    Call {
        repeatable: false,
        ..call
    }
}

pub(crate) fn encode(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("wire types and JSON maps have text keys and no failing serializer")
}
