//! Publishing signed as the configuration says: see [`dirless_publish`], whose names these are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dirless_client::{Client, ClientBuilder};
use dirless_program::{Clock, Lookup};
use dirless_seal::{Digest, SigningKey, VerifyingKey};
use dirless_wire::TenantId;

pub use dirless_publish::*;

use crate::config::Config;
use crate::keys;

/// Where its state is, below the state folder.
const STATE: &str = "signed";

/// The connections to backends, kept from one use to the next: the publisher's key, and what it asks with.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Option<(VerifyingKey, Arc<BackendFolder>)>>);

/// What signs, as `config` says; none when it has no `[signed]`.
///
/// # Errors
/// When the keys are missing or unusable, or the tenant is unknown.
pub fn signer(
    config: &Config,
    environment: Lookup<'_>,
    clock: Clock,
    connections: &Connections,
) -> Result<Option<Signer>, SignedError> {
    let Some(own) = &config.signed else {
        return Ok(None);
    };
    let keys = Custody::load(key_folder(own, config), environment)?;
    let tenant = tenant(own, config)?;
    let state: Arc<dyn Folder> = Arc::new(DiskFolder::private(&state_folder(config)));
    let backend = match own.urls.is_empty() {
        true => None,
        false => Some(connections.to(
            own,
            tenant,
            &asking_key(&keys.publisher, state.as_ref())?,
            clock.clone(),
        )?),
    };
    let copy = own.folder.as_deref().map(DiskFolder::public);
    let place: Arc<dyn Folder> = match (backend, copy) {
        (Some(backend), Some(copy)) => {
            let policies = Policies {
                tenant,
                roots: own.roots,
                first: own.policy,
            };
            Arc::new(Mirrored::new(backend, copy, Arc::clone(&state), policies))
        }
        (Some(backend), None) => backend,
        (None, Some(folder)) => Arc::new(folder),
        (None, None) => return Err(SignedError::Nothing("[signed] has neither folder nor urls".to_owned())),
    };
    let own = SignedConfig {
        compartment: compartments(own, config),
        hosts_of: config.host_groups.of_compartments(),
        ..own.clone()
    };
    Ok(Some(Signer::over(own, tenant, keys, state, place, clock)))
}

impl Connections {
    fn to(
        &self,
        own: &SignedConfig,
        tenant: Digest,
        key: &SigningKey,
        clock: Clock,
    ) -> Result<Arc<BackendFolder>, SignedError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((with, backend)) = &*kept
            && with == key.verifying()
        {
            return Ok(Arc::clone(backend));
        }
        let client = client(own, tenant, key, clock).map_err(std::io::Error::other)?;
        let backend = Arc::new(BackendFolder::new(client)?);
        *kept = Some((key.verifying().clone(), Arc::clone(&backend)));
        Ok(backend)
    }
}

fn client(own: &SignedConfig, tenant: Digest, key: &SigningKey, clock: Clock) -> anyhow::Result<Client> {
    let mut builder = ClientBuilder::new()
        .urls(own.urls.iter().map(String::as_str))?
        .tenant(TenantId::new(&tenant.to_string())?)
        .key(request_key(key)?)
        .timeouts(keys::timeouts())
        .clock(clock);
    if let Some(file) = &own.ca_file {
        builder = builder.ca_file(file);
    }
    Ok(builder.build()?)
}

/// The compartments, with what each does not read because it is for the hosts of others.
#[must_use]
pub fn compartments(own: &SignedConfig, config: &Config) -> Vec<CompartmentConfig> {
    let mut compartments = own.compartments();
    for (source, readers) in crate::audience::readers(config) {
        let others = compartments.iter_mut().filter(|one| !readers.contains(&one.name));
        for other in others {
            other.without.insert(source.clone());
        }
    }
    compartments
}

fn state_folder(config: &Config) -> PathBuf {
    config.syncer.state_folder.join(STATE)
}

/// Where the keys are.
#[must_use]
pub fn key_folder<'a>(own: &'a SignedConfig, config: &'a Config) -> &'a Path {
    own.key_folder.as_ref().unwrap_or(&config.syncer.key_folder)
}

/// The tenant's id.
///
/// # Errors
/// When it stands nowhere.
pub fn tenant(own: &SignedConfig, config: &Config) -> Result<Digest, SignedError> {
    if let Some(tenant) = own.tenant {
        return Ok(tenant);
    }
    let classic = config.backend.tenant_id.as_ref().map(|id| id.as_str().to_owned());
    let file = || std::fs::read_to_string(config.syncer.key_folder.join("tenant_id")).ok();
    let text = classic.or_else(file).ok_or(SignedError::NoTenant)?;
    let id = TenantId::new(text.trim()).map_err(|_| SignedError::NoTenant)?;
    id.as_str().parse().map_err(|_| SignedError::NoTenant)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ROOTS: &str = "1035a858d09bb40f583f65a01422ce15bdf25c8fd30f536d4790d7f42f9707b0";

    fn parse(more: &str) -> Result<SignedConfig, String> {
        let text = format!(
            "[backend]\nurl = \"https://d\"\ntenant_id = \"{}\"\n[signed]\nfolder = \"/srv/tenant\"\nroots = \"{ROOTS}\"\n{more}",
            "a".repeat(64)
        );
        let config = Config::parse(&text, Path::new("/x")).map_err(|error| error.to_string())?;
        let own = config.signed.clone().unwrap();
        assert_eq!(tenant(&own, &config).unwrap().to_string(), "a".repeat(64));
        Ok(own)
    }

    #[test]
    fn two_lines_are_enough() {
        let config = parse("").unwrap();
        assert_eq!(config.compartments().len(), 1);
        assert_eq!((config.policy, config.epoch_days, config.classic), (1, 30, None));
        assert_eq!((config.rotate_days, config.overlap_days), (90, 7));
        assert_eq!(parse("rotate_days = 0").unwrap().rotate_days, 0);
        let lease = config.lease(600);
        assert_eq!((lease.fresh, lease.expires), (600, 600));
        assert_eq!(config.lease(100_000).expires, 86_400);
    }

    #[test]
    fn what_makes_no_sense_names_its_key() {
        for (more, key) in [
            ("fresh_seconds = 60", "signed.fresh_seconds"),
            ("lease_seconds = 200", "signed.lease_seconds"),
            ("epoch_days = 0", "signed.epoch_days"),
            ("rotate_days = 4000", "signed.rotate_days"),
            ("overlap_days = 0", "signed.overlap_days"),
            ("rotate_days = 3", "signed.overlap_days"),
            ("policy = 0", "signed.policy"),
            ("urls = [\"ftp://x\"]", "signed.urls"),
            ("url = \"ftp://x\"", "signed.url"),
            ("tenant = \"abc\"", "64 lower-case"),
            ("[[signed.compartment]]\nname = \"Web\"", "label"),
            (
                "[[signed.compartment]]\nname = \"web\"\nsources = []",
                "signed.compartment[0].sources",
            ),
            (
                "[[signed.compartment]]\nname = \"web\"\n[[signed.compartment]]\nname = \"web\"",
                "signed.compartment[1].name",
            ),
            ("secret = 1", "secret"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(key), "{more}: {error}");
        }
    }

    #[test]
    fn an_audience_is_for_the_compartments_of_its_host_groups() {
        let text = format!(
            "[backend]\nurl = \"https://d\"\n[tree]\npublish = true\n[signed]\nfolder = \"/srv/tenant\"\nroots = \"{ROOTS}\"\n\
             [[signed.compartment]]\nname = \"db\"\n[[signed.compartment]]\nname = \"web\"\n\
             [host_groups.db]\nhosts = [\"db-*\"]\ncompartments = [\"db\"]\n\
             [[audience]]\nname = \"db\"\nsubtrees = [\"ou=secrets,dc=dirless\"]\nhost_groups = [\"db\"]\n\
             [[audience]]\nname = \"any\"\nsubtrees = [\"ou=roles,dc=dirless\"]\nhosts = [\"db-1\"]\n"
        );
        let config = Config::parse(&text, Path::new("/x")).unwrap();
        let compartments = compartments(config.signed.as_ref().unwrap(), &config);
        let reads =
            |at: usize| ["tree", "tree-db", "tree-any"].map(|name| compartments[at].reads(&name.parse().unwrap()));
        assert_eq!((reads(0), reads(1)), ([true; 3], [true, false, true]));
        // Who names the source where it cannot be is told.
        let wrong = text.replace("name = \"web\"", "name = \"web\"\nsources = [\"tree-db\"]");
        let error = Config::parse(&wrong, Path::new("/x")).unwrap_err().to_string();
        assert!(error.contains("signed.compartment[1].sources"), "{error}");
        let wrong = text.replace("compartments = [\"db\"]", "compartments = [\"mail\"]");
        let error = Config::parse(&wrong, Path::new("/x")).unwrap_err().to_string();
        assert!(error.contains("host_groups.db.compartments"), "{error}");
        let wrong = format!("{text}[plan]\nhost_groups = {{ db = [\"db-*\"] }}\n");
        let error = Config::parse(&wrong, Path::new("/x")).unwrap_err().to_string();
        assert!(error.contains("[host_groups.db]"), "{error}");
    }

    #[test]
    fn compartments_have_their_sources() {
        let config = parse("[[signed.compartment]]\nname = \"web\"\nsources = [\"local\"]").unwrap();
        let web = &config.compartments()[0];
        assert!(web.sources.as_ref().unwrap().contains(&"local".parse().unwrap()));
    }
}
