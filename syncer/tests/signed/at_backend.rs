//! A backend in this process that serves a tenant, and what it holds as a folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use dirless_backend::App;
use dirless_backend::config::Config;
use dirless_backend::net::{Serving, bind};
use dirless_backend::store::{
    NewToken, Purpose, RealmChange, RealmName, Scope, SecretHash, Store, StoreOptions, TokenCreation, TokenId,
};
use dirless_client::{Client, ClientBuilder};
use dirless_program::{Clock, Secret};
use dirless_seal::trust::JoinCode;
use dirless_seal::{Digest, SigningKey};
use dirless_syncer::signed::{BackendFolder, Folder, Registry, request_key};
use dirless_wire::TenantId;
use tokio::sync::oneshot;

/// The backend of one tenant.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    tenant: TenantId,
    clock: Clock,
    posted: Mutex<Vec<(JoinCode, Vec<u8>)>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

/// Everything in it.
pub(crate) struct Dump {
    objects: BTreeMap<String, Vec<u8>>,
    /// The requests in the mailbox.
    waiting: Vec<(JoinCode, Vec<u8>)>,
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

impl Site {
    /// With a realm, a token for its tenants, and the publisher's key.
    pub(crate) fn start(tenant: Digest, publisher: &SigningKey, clock: &Clock) -> Self {
        let folder = crate::support::temporary();
        let config: Config = dirless_program::config::parse("", Path::new("test.toml")).unwrap();
        let mut options = StoreOptions::new(folder.path().join("store"));
        options.clock = clock.clone();
        let store = Store::open(options, Purpose::Serve).unwrap();
        let random = ring::rand::SystemRandom::new();
        let id = TokenId::generate(&random).unwrap();
        let token = format!("token-{}", id.as_str());
        let new = NewToken {
            id,
            label: "test".to_owned(),
            scopes: vec![Scope::Tenants],
            realm: Some(RealmName::parse("default").unwrap()),
            expires_at: None,
            secret: SecretHash::of(token.as_bytes()),
        };
        block_on(async {
            let realm = store.ensure_default_realm(SecretHash::of(b"sekret-token-1")).await;
            assert_eq!(realm.unwrap(), RealmChange::Done);
            assert_eq!(store.create_token(new).await.unwrap(), TokenCreation::Created);
        });
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let serving = Serving {
            app: App::new(config, store, clock.clone()),
            listeners,
            tls: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            block_on(serving.run(async { drop(stopped.await) }, || {})).unwrap();
        });
        let site = Self {
            address,
            token,
            tenant: TenantId::new(&tenant.to_string()).unwrap(),
            clock: clock.clone(),
            posted: Mutex::default(),
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        };
        let operator = site.operator();
        operator.make_tenant().unwrap();
        operator.register_publisher(publisher.verifying()).unwrap();
        site
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self, urls: &[&str], with: impl FnOnce(ClientBuilder) -> ClientBuilder, clock: &Clock) -> Client {
        let builder = ClientBuilder::new().urls(urls.iter().copied()).unwrap();
        let builder = builder.tenant(self.tenant.clone()).clock(clock.clone());
        with(builder).build().unwrap()
    }

    /// As an operator sees it.
    pub(crate) fn operator(&self) -> BackendFolder {
        let token = Secret::new(self.token.clone());
        let client = self.client(&[&self.url()], |builder| builder.bearer(token), &self.clock);
        BackendFolder::new(client).unwrap()
    }

    /// As the owner of a key sees it, who has been told of these addresses.
    pub(crate) fn of(&self, key: &SigningKey, urls: &[&str], clock: &Clock) -> BackendFolder {
        let key = request_key(key).unwrap();
        BackendFolder::new(self.client(urls, |builder| builder.key(key), clock)).unwrap()
    }

    /// Puts a request into the mailbox, as a host does.
    pub(crate) fn post(&self, code: &JoinCode, sealed: &[u8]) -> Result<(), dirless_client::Error> {
        let bearer = Secret::new(code.secret.bearer(code.tenant, &code.code).to_string());
        let client = self.client(&[&self.url()], |builder| builder.bearer(bearer), &self.clock);
        let label = code.code.as_str().parse().unwrap();
        block_on(client.cycle().post_join_request(&label, sealed.to_vec().into()))?;
        self.posted.lock().unwrap().push((code.clone(), sealed.to_vec()));
        Ok(())
    }

    /// Sends a heartbeat with this receipt, as the owner of a key.
    pub(crate) fn beat(&self, key: &SigningKey, receipt: &[u8]) {
        let key = request_key(key).unwrap();
        let client = self.client(&[&self.url()], |builder| builder.key(key), &self.clock);
        block_on(client.cycle().post_receipt(Some(receipt.to_vec().into()))).unwrap();
    }

    /// Everything that is stored.
    pub(crate) fn dump(&self) -> Dump {
        let operator = self.operator();
        let paths = operator.paths("").unwrap();
        let read = |path: String| {
            let bytes = operator.get(&path, 1 << 30).unwrap().unwrap();
            (path, bytes)
        };
        let objects = paths.into_iter().map(read).collect();
        let waiting = operator.mailbox(100).unwrap();
        let posted = self.posted.lock().unwrap().clone();
        let waits = |(_, sealed): &(JoinCode, Vec<u8>)| waiting.iter().any(|(_, digest)| *digest == Digest::of(sealed));
        Dump {
            objects,
            waiting: posted.into_iter().filter(waits).collect(),
        }
    }

    /// Stores what `dump` held, and nothing else.
    pub(crate) fn restore(&self, dump: &Dump, publisher: &SigningKey) {
        let (operator, own) = (self.operator(), self.of(publisher, &[&self.url()], &self.clock));
        let (now, then) = (self.dump(), &dump.objects);
        for path in now.objects.keys().filter(|path| !then.contains_key(*path)) {
            match ["policy/", "succession/"].iter().any(|kind| path.starts_with(kind)) {
                true => operator.remove(path).unwrap(),
                false => own.remove(path).unwrap(),
            }
        }
        let differs = |(path, bytes): &(&String, &Vec<u8>)| now.objects.get(*path) != Some(*bytes);
        for (path, bytes) in then.iter().filter(differs) {
            match path.split('/').next() {
                Some("head") => own.replace(path, bytes).unwrap(),
                Some("policy") => operator.create(&[(path.clone(), bytes.clone())]).unwrap(),
                _ => own.create(&[(path.clone(), bytes.clone())]).unwrap(),
            }
        }
        // Of its keys the first one alone.
        let first = publisher.verifying();
        let first = format!("{}+{}", first.name(), first.hash());
        for id in operator.publishers().unwrap().iter().filter(|id| **id != first) {
            operator.end_key(id).unwrap();
        }
        for (code, sealed) in &dump.waiting {
            self.post(code, sealed).unwrap();
        }
    }

    /// Writes what is stored into a folder that holds nothing else.
    pub(crate) fn export(&self, to: &Path) {
        let dump = self.dump();
        if to.exists() {
            std::fs::remove_dir_all(to).unwrap();
        }
        for (path, bytes) in &dump.objects {
            let file = to.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// What a tenant of the tests is at.
#[derive(Clone)]
pub(crate) enum Place {
    Folder,
    Backend(Arc<Site>),
}
