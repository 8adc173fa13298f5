//! AWS IAM Identity Center, through the official SDK.
//!
//! A read is three kinds of lists: all users, all groups, and the members of each group. AWS hands
//! out at most 100 entries a call and throttles calls per account, so the two long lists are read
//! side by side, member lists several at once, and all of them share one `Pace`, in which the two long
//! lists go first: their pages name each other, so they are what a read waits for at its end.

mod aws;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_identitystore::Client;
use aws_sdk_identitystore::types::{MemberId, UserStatus};
use dirless_wire::AwsAccountId;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::pace::{Line, Pace};
use super::{Complete, Page, Progress, Source, SourceDirectory, SourceError, SourceGroup, SourceUser, read_to_end};
use crate::config::IdentityCenterConfig;

/// Entries a page, the most that the API gives.
const PAGE: i32 = 100;

/// The source's name.
pub const NAME: &str = "aws-identity-center";

/// The source `aws-identity-center`.
#[derive(Debug)]
pub struct IdentityCenter {
    client: Client,
    store: String,
    account: Option<AwsAccountId>,
    metadata: aws_config::imds::Client,
    concurrency: usize,
    deadline: Duration,
    pace: Pace,
}

impl IdentityCenter {
    /// Finds region, credentials and identity store.
    ///
    /// # Errors
    /// When there is no region, or not exactly one Identity Center instance and none is configured.
    pub async fn open(config: &IdentityCenterConfig) -> Result<Self, SourceError> {
        let surroundings = aws::surroundings(config.region.as_deref()).await?;
        let store = match &config.identity_store_id {
            Some(store) => store.clone(),
            None => aws::only_store(&surroundings.sdk).await?,
        };
        Ok(Self {
            client: aws::identity_store(&surroundings.sdk),
            store,
            account: config.account_id.clone(),
            metadata: surroundings.metadata,
            concurrency: config.concurrency,
            deadline: Duration::from_secs(config.deadline_seconds),
            pace: Pace::new(Instant::now()),
        })
    }

    /// The account that the tenant belongs to: the configured one, or the EC2 instance's. Needs no
    /// permission in AWS.
    ///
    /// # Errors
    /// When nothing can tell the account.
    pub async fn account_of(config: &IdentityCenterConfig) -> Result<AwsAccountId, SourceError> {
        match &config.account_id {
            Some(account) => Ok(account.clone()),
            None => aws::account_of_instance(&aws::metadata(&aws::http())).await,
        }
    }

    async fn users(&self, watch: &Watch<'_>) -> Result<Complete<Vec<SourceUser>>, SourceError> {
        let page = |token: Option<String>| async move {
            let reply = aws::call("ListUsers", &self.pace, Line::Chain, || {
                let request = self
                    .client
                    .list_users()
                    .identity_store_id(&self.store)
                    .max_results(PAGE);
                request.set_next_token(token.clone()).send()
            })
            .await?;
            Ok(Page {
                entries: reply.users.into_iter().map(user).collect(),
                next: reply.next_token,
            })
        };
        read_to_end(page, |count| watch.users(count)).await
    }

    async fn groups(&self, watch: &Watch<'_>) -> Result<Complete<Vec<SourceGroup>>, SourceError> {
        let page = |token: Option<String>| async move {
            let reply = aws::call("ListGroups", &self.pace, Line::Chain, || {
                let request = self
                    .client
                    .list_groups()
                    .identity_store_id(&self.store)
                    .max_results(PAGE);
                request.set_next_token(token.clone()).send()
            })
            .await?;
            let entries = reply.groups.into_iter().map(|group| SourceGroup {
                id: group.group_id,
                name: group.display_name.unwrap_or_default(),
                ..SourceGroup::default()
            });
            Ok(Page {
                entries: entries.collect(),
                next: reply.next_token,
            })
        };
        read_to_end(page, |count| watch.groups(count)).await
    }

    async fn members(&self, group: &str) -> Result<Complete<Vec<String>>, SourceError> {
        let page = |token: Option<String>| async move {
            let reply = aws::call("ListGroupMemberships", &self.pace, Line::Common, || {
                let request = self.client.list_group_memberships().identity_store_id(&self.store);
                request
                    .group_id(group)
                    .max_results(PAGE)
                    .set_next_token(token.clone())
                    .send()
            })
            .await?;
            let entries = reply
                .group_memberships
                .into_iter()
                .filter_map(|membership| match membership.member_id {
                    Some(MemberId::UserId(id)) => Some(id),
                    _ => None,
                });
            Ok(Page {
                entries: entries.collect(),
                next: reply.next_token,
            })
        };
        read_to_end(page, |_| {}).await
    }

    async fn read_all(&self, watch: &Watch<'_>) -> Result<SourceDirectory, SourceError> {
        let groups_and_members = async {
            let groups = self.groups(watch).await?;
            let ids: Vec<String> = groups.get().iter().map(|group| group.id.clone()).collect();
            let all = ids.len();
            watch.memberships(0, all);
            let lists = stream::iter(ids)
                .map(|id| async move {
                    let list = self.members(&id).await?;
                    watch.membership_read(all);
                    Ok::<_, SourceError>((id, list))
                })
                .buffer_unordered(self.concurrency)
                .try_collect::<Vec<_>>()
                .await?;
            Ok((groups, lists))
        };
        let (users, (groups, members)) = futures_util::try_join!(self.users(watch), groups_and_members)?;
        SourceDirectory::assemble(users, groups, members)
    }
}

impl Source for IdentityCenter {
    fn name(&self) -> &str {
        NAME
    }

    fn account(&self) -> BoxFuture<'_, Result<Option<AwsAccountId>, SourceError>> {
        Box::pin(async {
            match &self.account {
                Some(account) => Ok(Some(account.clone())),
                None => aws::account_of_instance(&self.metadata).await.map(Some),
            }
        })
    }

    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>> {
        Box::pin(async move {
            let watch = Watch::new(progress);
            match tokio::time::timeout(self.deadline, self.read_all(&watch)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(SourceError::Deadline {
                    after: self.deadline,
                    progress: watch.to_string(),
                }),
            }
        })
    }
}

fn user(user: aws_sdk_identitystore::types::User) -> SourceUser {
    let email = user.emails.and_then(|emails| {
        let primary = emails.iter().position(|email| email.primary).unwrap_or(0);
        emails.into_iter().nth(primary).and_then(|email| email.value)
    });
    SourceUser {
        id: user.user_id,
        name: user.user_name.unwrap_or_default(),
        display_name: user.display_name.filter(|name| !name.is_empty()),
        email: email.filter(|email| !email.is_empty()),
        // Stores that predate the field send none: those people are enabled.
        enabled: user.user_status != Some(UserStatus::Disabled),
        ..SourceUser::default()
    }
}

/// Passes progress on, and remembers it for the error text.
struct Watch<'a> {
    progress: &'a dyn Progress,
    users: AtomicUsize,
    groups: AtomicUsize,
    lists: AtomicUsize,
}

impl<'a> Watch<'a> {
    fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            users: AtomicUsize::new(0),
            groups: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
        }
    }

    fn users(&self, count: usize) {
        self.users.store(count, Ordering::Relaxed);
        self.progress.users(count);
    }

    fn groups(&self, count: usize) {
        self.groups.store(count, Ordering::Relaxed);
        self.progress.groups(count);
    }

    fn memberships(&self, done: usize, all: usize) {
        self.progress.memberships(done, all);
    }

    fn membership_read(&self, all: usize) {
        let done = self.lists.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.memberships(done, all);
    }
}

impl std::fmt::Display for Watch<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        write!(
            formatter,
            "{} users, {} groups and {} member lists by then",
            count(&self.users),
            count(&self.groups),
            count(&self.lists)
        )
    }
}
