//! Calls of the verified protocol for those who look after a whole tenant: publishers and operators.

use std::collections::BTreeSet;

use dirless_wire::ErrorCode;
use dirless_wire::trust::{CredentialList, KeyId, ObjectPath, StoredList};
use http::{Method, StatusCode};

use crate::reply::{Accepted, Answer, Failure, Json, Reader};
use crate::{Cycle, Error};

/// Most pages of paths that are asked for, a thousand paths each.
const MOST_PAGES: usize = 5_000;

impl Cycle {
    /// `HEAD` of an object: is it there?
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn has_object(&self, path: &ObjectPath) -> Result<bool, Error> {
        self.run(&self.signed(Method::HEAD, &path.to_string()), &mut Presence)
            .await
    }

    /// `GET /v2/{tenant}/`: what is stored, by path, behind the text `after`, at most `limit` of it (1 to 1000).
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_objects(&self, after: &str, limit: u16) -> Result<StoredList, Error> {
        let path = format!("?after={after}&limit={limit}");
        self.run(&self.signed(Method::GET, &path), &mut Json::new()).await
    }

    /// `GET credential`: the keys that are or were registered, the first page or the one `after` a key.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_credentials(&self, after: Option<&KeyId>) -> Result<CredentialList, Error> {
        let page = after.map_or_else(String::new, |after| format!("?after={after}"));
        self.run(
            &self.signed(Method::GET, &format!("credential{page}")),
            &mut Json::new(),
        )
        .await
    }

    /// `POST /v2/{tenant}`: makes the tenant, unless it is there.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Unauthorized`] also when it is somebody else's.
    pub async fn post_tenant(&self) -> Result<(), Error> {
        let mut call = self.signed(Method::POST, "");
        // The one route whose path ends with the tenant.
        call.path.truncate(call.path.trim_end_matches('/').len());
        self.run(&call, &mut Accepted).await.map(drop)
    }

    /// The names in the folder `path` of a tenant, in order.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn names_below(&self, path: &str) -> Result<BTreeSet<String>, Error> {
        let folder = format!("{path}/");
        let paths = self.objects_below(&folder).await?;
        let names = paths
            .iter()
            .filter_map(|path| path.strip_prefix(&folder)?.split('/').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The paths of all objects that begin with `prefix`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn objects_below(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (mut all, mut after) = (Vec::new(), prefix.to_owned());
        // A backend that makes paths up as it goes comes to no end by itself.
        for _ in 0..MOST_PAGES {
            let page = self.get_objects(&after, 1000).await?;
            let more = page.objects.len();
            let ours = page.objects.into_iter().map(|object| object.path);
            all.extend(ours.filter(|path| path.starts_with(prefix)));
            // Sorted by path: behind the first that begins otherwise there is nothing more.
            match page.next {
                Some(next) if next.starts_with(prefix) && next > after && more > 0 => after = next,
                _ => return Ok(all),
            }
        }
        Err(Error::Malformed {
            backend: "the backend".to_owned(),
            reason: format!("{} paths, and no end", all.len()),
        })
    }
}

/// Reads whether something is there.
struct Presence;

impl Reader for Presence {
    type Output = bool;

    async fn read(&mut self, answer: Answer) -> Result<bool, Failure> {
        match answer.status() {
            status if status.is_success() => Ok(true),
            // The answer to HEAD has no body, so that nobody can say who gave it; what is then written is told.
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(Error::Rejected {
                status: status.as_u16(),
                code: ErrorCode::Unknown,
                error: "no answer to HEAD".to_owned(),
                hint: None,
            }
            .into()),
        }
    }
}
