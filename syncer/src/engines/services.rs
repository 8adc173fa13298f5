//! Services: a registry, with certificate bindings and SMTP settings laid over it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::certificates::{self, Bound};
use super::draft::{Draft, Strict, check_name};
use super::inputs::parse;
use super::mail::{self, Smtp};
use super::{Engine, Inputs, Made, Make, Place};
use crate::sources::files::{File, FileError, error};

pub(super) struct Services;

/// What carries the mail, when no service of the registry does.
const SMTP: &str = "smtp";

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    #[serde(default)]
    services: BTreeMap<String, Service>,
}

/// A service of the registry.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    display_name: Option<String>,
    description: Option<String>,
    port: Option<u16>,
    url: Option<String>,
    endpoint: Option<String>,
    version: Option<String>,
    enabled: Option<bool>,
    status: Option<String>,
    /// Services that it needs; they need not be in the registry.
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    /// What it stores for others, such as `virtual_storage_system`.
    storage_role: Option<String>,
    storage_type: Option<String>,
    /// The service that it runs inside of.
    compound: Option<String>,
    /// Services that it took the place of.
    #[serde(default)]
    absorbs: Vec<String>,
    owner: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: Strict,
}

impl Make for Services {
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError> {
        let mut services: BTreeMap<String, (&'i File, String, Service)> = BTreeMap::new();
        for file in inputs.of(Engine::Services) {
            let registry: Registry = parse(file)?;
            for (name, service) in registry.services {
                check_name(&name).map_err(|reason| error(file, &name, format!("a service's name {reason}")))?;
                let word = name.clone();
                if let Some((other, ..)) = services.insert(name.to_lowercase(), (file, name, service)) {
                    let reason = format!("service {word:?} is in {} too; keep one of them", other.path.display());
                    return Err(error(file, &word, reason));
                }
            }
        }
        let smtp = mail::smtp(inputs)?;
        if let Some((file, _)) = &smtp {
            services
                .entry(SMTP.to_owned())
                .or_insert_with(|| (file, SMTP.to_owned(), Service::default()));
        }
        let bindings = certificates::bindings(inputs)?;
        for bound in &bindings {
            if !services.contains_key(&bound.service.to_lowercase()) {
                let reason = format!(
                    "there is no service {:?} to bind a certificate to; add it to the registry",
                    bound.service
                );
                return Err(error(bound.file, &bound.service, reason));
            }
        }
        if let Some((file, settings)) = &smtp
            && let Some(unknown) = settings
                .services
                .iter()
                .find(|name| !services.contains_key(&name.to_lowercase()))
        {
            return Err(error(
                file,
                unknown,
                format!("there is no service {unknown:?}; add it to the registry"),
            ));
        }
        let smtp = smtp.as_ref().map(|(_, settings)| settings);
        let all = services.into_values().map(|(file, name, service)| {
            let bound = bindings.iter().find(|bound| bound.service.eq_ignore_ascii_case(&name));
            made(file, &name, &service, bound, smtp, place)
        });
        all.collect()
    }
}

fn made<'i>(
    file: &'i File,
    name: &str,
    service: &Service,
    bound: Option<&Bound<'_>>,
    smtp: Option<&Smtp>,
    place: &Place<'_>,
) -> Result<Made<'i>, FileError> {
    let tenant = service.tenant.as_deref();
    let above = place.unit(tenant, "services");
    let above = above.map_err(|reason| error(file, name, format!("service {name}: {reason}")))?;
    let mut draft = Draft::new(&above, "cn", name, &["aitherService"]);
    draft
        .text("displayName", service.display_name.as_deref())
        .text("description", service.description.as_deref())
        .number("aitherPort", service.port.map(u64::from))
        .text("aitherUrl", service.url.as_deref())
        .text("aitherEndpoint", service.endpoint.as_deref())
        .text("aitherVersion", service.version.as_deref())
        .boolean("aitherEnabled", service.enabled)
        .text("aitherStatus", service.status.as_deref())
        .list("aitherDependencies", &service.depends_on)
        .list("aitherFeatures", &service.features)
        .list("aitherCapabilities", &service.capabilities)
        .text("aitherStorageRole", service.storage_role.as_deref())
        .text("aitherOwnerUid", service.owner.as_deref())
        .text("aitherTenantId", tenant)
        .list("aitherTag", &service.tags)
        .json("aitherMetadata", &metadata(file, name, service)?);
    if let Some(bound) = bound {
        draft
            .text("aitherCertificateAuthority", Some(&bound.facts.authority))
            .text("aitherCertificateSerial", Some(&bound.facts.serial))
            .text("aitherCertificateNotAfter", Some(&bound.facts.not_after))
            .text("aitherCertificateFingerprint", Some(&bound.facts.fingerprint));
    }
    if let Some(smtp) = smtp {
        let itself = name.eq_ignore_ascii_case(SMTP);
        if itself || smtp.services.iter().any(|sender| sender.eq_ignore_ascii_case(name)) {
            draft
                .text("aitherMailProvider", smtp.provider.as_deref())
                .text("aitherMailRelay", smtp.relay.as_deref());
        }
        if itself {
            draft
                .number("aitherPort", smtp.port.or(service.port).map(u64::from))
                .boolean("aitherEnabled", smtp.enabled.or(service.enabled))
                .text(
                    "description",
                    smtp.description.as_deref().or(service.description.as_deref()),
                );
        }
    }
    Ok(Made {
        entry: draft.entry(),
        file: Some(file),
        word: name.to_owned(),
    })
}

/// The relationships that have no attribute of their own stand beside the service's own metadata.
fn metadata(file: &File, name: &str, service: &Service) -> Result<Json, FileError> {
    let mut table = match &service.metadata.0 {
        Json::Null => Map::new(),
        Json::Object(table) => table.clone(),
        _ => return Err(error(file, name, format!("service {name}: metadata must be a table"))),
    };
    let storage = service.storage_type.as_deref().map(Json::from);
    let compound = service.compound.as_deref().map(Json::from);
    let absorbs = (!service.absorbs.is_empty()).then(|| Json::from(service.absorbs.clone()));
    for (key, value) in [("absorbs", absorbs), ("compound", compound), ("storageType", storage)] {
        if let Some(value) = value
            && table.insert(key.to_owned(), value).is_some()
        {
            return Err(error(
                file,
                name,
                format!("service {name}: {key} stands in metadata too; keep one of them"),
            ));
        }
    }
    // In the order of their keys, whatever the map does.
    let sorted: BTreeMap<String, Json> = table.into_iter().collect();
    Ok(Json::Object(sorted.into_iter().collect()))
}
