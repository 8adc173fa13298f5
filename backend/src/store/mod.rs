//! The store: realms, tenants, sealed snapshots, settings, agents, tokens and the audit log.
//!
//! What it is: one SQLite file in the storage folder, or a database of PostgreSQL that several
//! backends share; one writing thread that commits writes in groups, a few reading connections. What it is not: a cache of bodies (the HTTP side keeps one,
//! told of changes by [`Store::subscribe`] and [`Store::observe`]) and a reader of bodies, which
//! are sealed and opaque.
//!
//! What always holds: a write that was answered is on disk; a tenant's data is reached only
//! through its [`TenantHandle`], which only a credential of the realm that enrolled it gets, or its
//! [`TrustHandle`], for owners of its registered keys and operators of its realm; a
//! secret is kept as its SHA-256 only; each write leaves its line in the audit log, in the same
//! transaction. No type of the database engine appears in the interface, and the contract tests
//! (`tests/store_contract.rs`) are written against the interface alone.

mod audit;
mod backup;
mod body;
mod bypass;
mod change;
mod directory;
mod enroll;
mod error;
mod expected;
mod heartbeat;
mod lock;
mod open;
pub mod policy;
mod postgres;
mod readers;
mod realm;
mod schema;
mod settings;
mod snapshot;
mod spool;
mod sql;
mod tenant;
mod tenant_state;
mod token;
mod transfer;
mod trust;
mod types;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dirless_program::Clock;
use dirless_wire::TenantId;
use tokio::sync::broadcast;

pub use audit::{AUDIT_PAGE_MAX, AuditEntry};
pub use backup::{BackupError, RestoreError, Restored, backup, restore};
pub use bypass::{AllTenants, Totals};
pub use change::{Change, Observer};
pub use directory::{Credential, Operator, Principal};
pub use enroll::Enrolment;
pub use error::StoreError;
pub use expected::Expected;
pub(crate) use heartbeat::Mark;
pub use heartbeat::{Absorbed, Agent, Beat, EXTRAS_MAX, HeartbeatLimits, HeartbeatSink};
pub use open::{EngineState, Location};
pub use policy::ReplaceBy;
pub use postgres::{PlaceError, PostgresPlace};
pub use realm::{NewRealm, Realm, RealmChange};
pub use settings::{AccessRules, DuplicatesReport};
pub use snapshot::{BodyReader, DeleteOutcome, PutOutcome, SnapshotMeta, SnapshotPut, SourceState};
pub use spool::{BodyWriter, CHUNK_MAX, MEMORY_MAX, SpooledBody};
pub use tenant::{KeyChange, TenantHandle};
pub use token::{NewToken, Token, TokenCreation};
pub use transfer::{TransferError, Transferred, transfer};
pub use trust::{
    Caller, JoinCode, JoinPost, JoinRequest, KeyCredential, KeyHolder, KeyInfo, NewTenant, News, ObjectMeta, ObjectPut,
    PAGE_MAX, Page, Receipt, Registration, Revocation, SplitContent, SplitView, TrustHandle,
};
pub(crate) use types::sha256 as sha256_of;
pub use types::{
    BadRealmName, Generation, Origin, RealmName, RealmState, Role, Scope, SecretHash, TokenId, etag_of, generate_secret,
};
pub use verify::{Problem, Verification, verify};
pub use writer::GroupLimits;

use change::Notices;
use directory::Directory;
use readers::Readers;
use sql::Connection;
use writer::{Effects, Told, Workshop, Writer};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The storage folder (`[storage] path`); made with mode 0700 when missing.
    pub folder: PathBuf,
    /// The database of PostgreSQL; `None` is the embedded engine in the folder.
    pub database: Option<PostgresPlace>,
    /// Reading connections.
    pub readers: usize,
    /// Writes that may wait; more of them wait to be queued.
    pub queue: usize,
    /// When a group of writes is full.
    pub group: GroupLimits,
    /// Where times come from.
    pub clock: Clock,
}

impl StoreOptions {
    /// The defaults, for a storage folder or another location.
    #[must_use]
    pub fn new(location: impl Into<Location>) -> Self {
        let Location { folder, database } = location.into();
        Self {
            folder,
            database,
            readers: 4,
            queue: 1024,
            group: GroupLimits::default(),
            clock: Clock::system(),
        }
    }
}

/// Who opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server: of a folder the only one.
    Serve,
    /// The command line, beside a running server.
    Console,
}

/// A handle to the store; clones share it. The last one dropped finishes the queued writes.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

struct Shared {
    writer: Writer,
    readers: Arc<Readers>,
    directory: Arc<Directory>,
    notices: Arc<Notices>,
    clock: Clock,
    folder: PathBuf,
    token_uses: token::TokenUses,
    key_uses: trust::KeyUses,
    receipts: trust::Receipts,
    home: Option<Arc<postgres::Home>>,
    /// Kept for its lock, released last.
    _lock: Option<lock::Lock>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, makes what is missing and brings the schema up to date. Blocks for as long
    /// as that takes; call it before serving.
    ///
    /// # Errors
    /// [`StoreError::InUse`] for a second server of a folder or beside a restore, [`StoreError::NewerSchema`],
    /// [`StoreError::Corrupt`], [`StoreError::DiskFull`], [`StoreError::File`], [`StoreError::Unavailable`].
    pub fn open(options: StoreOptions, purpose: Purpose) -> Result<Self, StoreError> {
        let folder = options.folder.clone();
        dirless_program::fs::ensure_folder(&folder, 0o700).map_err(|error| StoreError::file(&folder, error))?;
        let directory = Arc::new(Directory::default());
        let opened = match &options.database {
            None => open::sqlite(&folder, purpose, &directory)?,
            Some(place) => open::postgresql(place, &options, purpose, &directory)?,
        };
        let notices = Arc::new(Notices::new());
        let workshop = Workshop {
            groups: opened.groups,
            told: Told {
                directory: Arc::clone(&directory),
                notices: Arc::clone(&notices),
            },
            limits: options.group,
        };
        let writer = Writer::start(workshop, options.queue).map_err(|error| StoreError::file(&folder, error))?;
        Ok(Self(Arc::new(Shared {
            writer,
            readers: Arc::new(Readers::new(opened.origin, options.readers)),
            directory,
            notices,
            clock: options.clock,
            folder,
            token_uses: token::TokenUses::default(),
            key_uses: trust::KeyUses::default(),
            receipts: trust::Receipts::default(),
            home: opened.home,
            _lock: opened.lock,
        })))
    }

    /// The engine, and whether it answers. Memory only, never waits.
    #[must_use]
    pub fn engine(&self) -> EngineState {
        match &self.0.home {
            None => EngineState {
                name: "sqlite",
                reachable: true,
            },
            Some(home) => EngineState {
                name: "postgresql",
                reachable: home.is_reachable(),
            },
        }
    }

    /// Who presents a bearer with this hash. Memory only, never waits. `None` is answered with
    /// 401, like everything else that is wrong with a request's credentials.
    #[must_use]
    pub fn authenticate(&self, bearer: &SecretHash) -> Option<Principal> {
        self.0.directory.authenticate(bearer, self.0.clock.now())
    }

    /// The tenant, for a credential of the realm that enrolled it. Memory only, never waits.
    ///
    /// `None` when no realm or another realm enrolled it: the caller cannot tell which. Whether
    /// the realm is suspended is the caller's to check ([`Credential::is_suspended`]).
    #[must_use]
    pub fn tenant(&self, credential: &Arc<Credential>, tenant: &str) -> Option<TenantHandle> {
        let binding = self.0.directory.binding(tenant)?;
        if binding.realm_row != credential.realm_row {
            return None;
        }
        TenantHandle::new(self.clone(), binding, Arc::clone(credential))
    }

    /// The tenant, for whoever presents a bearer with this hash: [`Store::authenticate`] and [`Store::tenant`] in one step, which
    /// takes as long for an unknown bearer as for an unknown tenant.
    #[must_use]
    pub fn tenant_of_bearer(&self, bearer: &SecretHash, tenant: &str) -> Option<TenantHandle> {
        let (binding, credential) = self.0.directory.binding_for(bearer, tenant, self.0.clock.now())?;
        TenantHandle::new(self.clone(), binding, credential)
    }

    /// A number that changes before any answer of [`Store::authenticate`] and [`Store::tenant`] does,
    /// other than by a bearer's expiry. Memory only, never waits.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.directory.version()
    }

    /// Takes a body of at most `limit` bytes, piece by piece.
    #[must_use]
    pub fn body_writer(&self, limit: u64) -> BodyWriter {
        BodyWriter::new(self.0.folder.clone(), limit)
    }

    /// Changes from now on, in commit order. A receiver that lags must forget what it cached.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.notices.subscribe()
    }

    /// Sets the one function that is called with each change after its commit and before its
    /// writer is answered; `false` when there is one already.
    pub fn observe(&self, observer: Observer) -> bool {
        self.0.notices.observe(observer)
    }

    /// Whether writes are possible. `false` after [`Store::close`], or when the writing thread
    /// ended by a defect, and then the program should exit.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.writer.is_alive()
    }

    /// Waits until writes are no longer possible: after [`Store::close`], or when the writing thread
    /// ended by a defect. A server that did not close the store should exit then.
    pub async fn ended(&self) {
        self.0.writer.ended().await;
    }

    /// Finishes the queued writes, empties the write-ahead log, and refuses everything after.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.0);
        shared.readers.stop();
        // The thread is joined where blocking is allowed; that it panicked is logged there.
        let _joined = tokio::task::spawn_blocking(move || shared.writer.stop()).await;
    }

    /// The storage folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Whether other backends may serve the same store.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.home.is_some()
    }

    /// Changes whenever something that hosts of the verified protocol apply is stored for the tenant.
    pub(crate) fn stored(&self, tenant: &TenantId) -> u64 {
        self.0.notices.stored(tenant)
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.0.clock.now()
    }

    /// For writes, which may have waited when they run.
    pub(crate) fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection, &mut Effects) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.writer.write(0, work).await
    }

    pub(crate) async fn write_body<T, F>(&self, bytes: u64, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection, &mut Effects) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.writer.write(bytes, work).await
    }

    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.readers.read(work).await
    }

    pub(crate) fn token_uses(&self) -> &token::TokenUses {
        &self.0.token_uses
    }

    pub(crate) fn key_uses(&self) -> &trust::KeyUses {
        &self.0.key_uses
    }

    pub(crate) fn receipts(&self) -> &trust::Receipts {
        &self.0.receipts
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.0.directory
    }
}
