//! How hosts get to the backends of a site, in a form that another process can be told.

use std::path::PathBuf;

use anyhow::Context;
use dirless_client::{Client, ClientBuilder, RequestKey, RetryPolicy, Timeouts};
use dirless_program::Secret;
use dirless_wire::TenantId;

use crate::classic::Classic;
use crate::host::Speaks;
use crate::verified::{Joined, Membership, Verified};

/// The way to a site. What is secret of it is in files.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Reach {
    /// Addresses of its backends.
    pub(crate) urls: Vec<String>,
    /// Hosts know them all; otherwise each knows one of them.
    pub(crate) all: bool,
    /// The bearer of the classic protocol.
    pub(crate) bearer_file: PathBuf,
    /// The tenant of the classic protocol.
    pub(crate) tenant: String,
    /// What hosts of the verified protocol have joined.
    pub(crate) joined: Option<Joined>,
}

/// A [`Reach`] with its secrets read.
#[derive(Debug)]
pub(crate) struct Way {
    reach: Reach,
    bearer: Secret,
    membership: Option<Membership>,
}

impl Reach {
    /// Reads the secrets.
    pub(crate) fn open(self) -> anyhow::Result<Way> {
        Ok(Way {
            bearer: Secret::from_file(&self.bearer_file)?,
            membership: self.joined.as_ref().map(Membership::of).transpose()?,
            reach: self,
        })
    }
}

/// A client for the tenant called `tenant`, at all of these URLs. Hosts have their own pace, as agents do.
pub(crate) fn towards<'a>(urls: impl IntoIterator<Item = &'a str>, tenant: &str) -> anyhow::Result<ClientBuilder> {
    let builder = ClientBuilder::new().urls(urls)?.tenant(TenantId::new(tenant)?);
    Ok(builder.retry(RetryPolicy::none()))
}

impl Way {
    /// What host `host` of all, the `number`th of this site, speaks.
    pub(crate) fn host(&self, host: usize, number: usize) -> anyhow::Result<Speaks> {
        let Some(membership) = &self.membership else {
            let client = self.towards(host, &self.reach.tenant)?;
            return Ok(Speaks::Classic(Classic::new(
                client.bearer(self.bearer.duplicate()).build()?,
            )));
        };
        let node = membership.node(number)?;
        let client = self.towards(host, &membership.tenant.to_string())?;
        let key: RequestKey = dirless_publish::request_key(&node.key)?;
        let client: Client = client.key(key).build()?;
        Ok(Speaks::Verified(Box::new(Verified::new(client, node, membership))))
    }

    fn towards(&self, host: usize, tenant: &str) -> anyhow::Result<ClientBuilder> {
        let urls = &self.reach.urls;
        let one = urls
            .get(host % urls.len().max(1))
            .context("a site without an address")?;
        let asked = if self.reach.all {
            urls.as_slice()
        } else {
            std::slice::from_ref(one)
        };
        let builder = towards(asked.iter().map(String::as_str), tenant)?;
        Ok(builder.timeouts(Timeouts::of_usual_host()))
    }
}
