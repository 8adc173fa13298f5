//! Tenants: `NAME.yaml` or `NAME/tenant.yaml` describes one, `NAME/configs/` holds what it has otherwise
//! than the platform. `platform` and `public` are always there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use super::draft::{Draft, Strict};
use super::inputs::parse;
use super::{Engine, Inputs, Made, Make, Place, configs};
use crate::sources::files::{File, FileError, error};
use crate::tree::skeleton;

pub(super) struct Tenants;

/// A tenant's file.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    display_name: Option<String>,
    description: Option<String>,
    slug: Option<String>,
    #[serde(alias = "planTier")]
    plan_tier: Option<String>,
    #[serde(default, alias = "quota")]
    quotas: Strict,
    quota_bytes: Option<u64>,
    #[serde(default)]
    features: Vec<String>,
    enabled: Option<bool>,
    status: Option<String>,
    owner: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: Strict,
}

/// What a file in the folder is.
enum Part<'a> {
    Tenant(&'a str),
    Override(&'a str, &'a Path),
}

impl Make for Tenants {
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError> {
        let mut tenants: BTreeMap<String, (Option<&'i File>, Tenant)> = BTreeMap::new();
        let mut overrides = Vec::new();
        for file in inputs.of(Engine::Tenants) {
            match part(file)? {
                Part::Tenant(name) => {
                    let described = tenants.insert(name.to_owned(), (Some(file), parse(file)?));
                    if let Some((Some(other), _)) = described {
                        let reason = format!("tenant {name:?} is in {} too; keep one of them", other.path.display());
                        return Err(error(file, "", reason));
                    }
                }
                Part::Override(name, path) => overrides.push((file, name, path)),
            }
        }
        for always in skeleton::TENANTS {
            tenants.entry(always.to_owned()).or_default();
        }
        let names: BTreeSet<String> = tenants.keys().chain(place.tenants).cloned().collect();
        let place = Place {
            base: place.base,
            tenants: &names,
        };
        let mut all = Vec::new();
        for (name, (file, tenant)) in &tenants {
            all.push(made(name, *file, tenant, &place));
        }
        for (file, name, path) in overrides {
            all.push(configs::made(file, path, Some(name), &place)?);
        }
        Ok(all)
    }
}

fn made<'i>(name: &str, file: Option<&'i File>, tenant: &Tenant, place: &Place<'_>) -> Made<'i> {
    let above = skeleton::unit(place.base, "tenants");
    let mut draft = Draft::new(&above, "o", name, &["organization", "aitherTenant"]);
    draft
        .text("displayName", tenant.display_name.as_deref())
        .text("description", tenant.description.as_deref())
        .text("aitherSlug", Some(tenant.slug.as_deref().unwrap_or(name)))
        .text("aitherPlanTier", tenant.plan_tier.as_deref())
        .json("aitherQuota", &tenant.quotas.0)
        .number("aitherQuotaBytes", tenant.quota_bytes)
        .list("aitherFeatures", &tenant.features)
        .boolean("aitherEnabled", tenant.enabled)
        .text("aitherStatus", tenant.status.as_deref())
        .text("aitherOwnerUid", tenant.owner.as_deref())
        .list("aitherTag", &tenant.tags)
        .json("aitherMetadata", &tenant.metadata.0);
    Made {
        entry: draft.entry(),
        file,
        word: name.to_owned(),
    }
}

fn part(file: &File) -> Result<Part<'_>, FileError> {
    let parts: Vec<&str> = file
        .path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = match parts.as_slice() {
        [_] => stem,
        [name, ..] => name,
        [] => "",
    };
    check(name).map_err(|reason| error(file, "", reason))?;
    match parts.as_slice() {
        [_] => Ok(Part::Tenant(name)),
        [_, _] if stem == "tenant" => Ok(Part::Tenant(name)),
        [_, "configs", ..] => {
            let inside = file.path.strip_prefix(Path::new(name).join("configs"));
            Ok(Part::Override(name, inside.unwrap_or(&file.path)))
        }
        _ => {
            let reason = format!("is neither {name}.yaml, {name}/tenant.yaml nor in {name}/configs; move it there");
            Err(error(file, "", reason))
        }
    }
}

fn check(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if !name.is_empty() && name.len() <= 63 && name.bytes().all(good) {
        Ok(())
    } else {
        Err(format!(
            "{name:?} cannot name a tenant; use up to 63 of a-z, 0-9, '-' and '_'"
        ))
    }
}
