//! What is in every tree from the start.

use dirless_directory::schema::object_class;
use dirless_directory::{Dn, Entry, Filter, Rdn, Value};

use super::operational::name;
use super::read::Reader;
use super::write::Batch;
use super::{Actor, TreeError};

/// The organisational units right below the base.
pub const UNITS: [&str; 21] = [
    "users",
    "groups",
    "roles",
    "agents",
    "services",
    "tenants",
    "devices",
    "calendars",
    "contacts",
    "emails",
    "configs",
    "entities",
    "certificates",
    "secrets",
    "policies",
    "mailboxes",
    "lockboxes",
    "distribution-lists",
    "routepolicies",
    "sessions",
    "tasks",
];

/// The organisational units below each tenant.
pub const TENANT_UNITS: [&str; 11] = [
    "users",
    "groups",
    "roles",
    "agents",
    "services",
    "calendars",
    "contacts",
    "emails",
    "configs",
    "devices",
    "entities",
];

/// The tenants that are there from the start.
pub const TENANTS: [&str; 2] = ["platform", "public"];

/// The name of a unit below `above`.
#[must_use]
pub fn unit(above: &Dn, unit: &str) -> Dn {
    above.child(Rdn::new(name("ou"), Value::from(unit)))
}

/// The name of a tenant.
#[must_use]
pub fn tenant(base: &Dn, tenant: &str) -> Dn {
    unit(base, "tenants").child(Rdn::new(name("o"), Value::from(tenant)))
}

/// Every name of the skeleton, those above first.
#[must_use]
pub fn names(base: &Dn) -> Vec<Dn> {
    let mut names = vec![base.clone()];
    names.extend(UNITS.map(|name| unit(base, name)));
    for tenant in TENANTS.map(|name| tenant(base, name)) {
        names.extend(TENANT_UNITS.map(|name| unit(&tenant, name)));
        names.push(tenant);
    }
    names.sort_by_key(|dn| dn.rdns().len());
    names
}

/// An entry of the skeleton as far as it matters before there is one: the syncer made it.
pub(super) fn made(dn: Dn) -> Entry {
    let mut entry = Entry::new(dn);
    let syncer = Actor::syncer().dn().to_string();
    entry.set(name("creatorsName"), vec![Value::from(syncer)]);
    entry
}

/// Is something of the skeleton missing?
pub(super) fn is_missing(reader: Reader<'_>) -> Result<bool, TreeError> {
    for dn in names(reader.base()) {
        if reader.get(&dn)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds what is missing of the skeleton.
pub(super) fn add(batch: &mut Batch<'_>) -> Result<(), TreeError> {
    let base = batch.reader().base().clone();
    if batch.reader().get(&base)?.is_none() {
        let entry = base_entry(&base)?;
        batch.add(&entry)?;
    }
    for name in UNITS {
        add_unit(batch, &base, name)?;
    }
    for name in TENANTS {
        let dn = tenant(&base, name);
        if batch.reader().get(&dn)?.is_none() {
            let mut entry = of_classes(dn, &["organization", "aitherTenant"]);
            entry.add(self::name("aitherSlug"), Value::from(name));
            batch.add(&entry)?;
        } else {
            add_tenant_units(batch, &dn)?;
        }
    }
    Ok(())
}

/// Gives a tenant its units. Any other entry is left alone.
pub(super) fn below_tenant(batch: &mut Batch<'_>, entry: &Entry) -> Result<(), TreeError> {
    let schema = batch.reader().schema();
    let is_tenant = Filter::Equality(object_class(), Value::from("aitherTenant"));
    let stands = entry.dn().parent() == Some(unit(batch.reader().base(), "tenants"));
    if stands && is_tenant.evaluate(schema, entry) == dirless_directory::filter::Truth::True {
        add_tenant_units(batch, entry.dn())?;
    }
    Ok(())
}

fn add_tenant_units(batch: &mut Batch<'_>, tenant: &Dn) -> Result<(), TreeError> {
    TENANT_UNITS.iter().try_for_each(|name| add_unit(batch, tenant, name))
}

fn add_unit(batch: &mut Batch<'_>, above: &Dn, name: &str) -> Result<(), TreeError> {
    let dn = unit(above, name);
    if batch.reader().get(&dn)?.is_some() {
        return Ok(());
    }
    batch.add(&of_classes(dn, &["organizationalUnit"]))
}

fn of_classes(dn: Dn, classes: &[&str]) -> Entry {
    let mut entry = Entry::new(dn);
    let classes = std::iter::once("top").chain(classes.iter().copied());
    entry.set(object_class(), classes.map(Value::from).collect());
    entry
}

fn base_entry(base: &Dn) -> Result<Entry, TreeError> {
    let first = base.rdn().and_then(|rdn| rdn.avas().first());
    let class = match first.map(|ava| ava.name.key()).as_deref() {
        Some("dc") => "domain",
        Some("o") => "organization",
        Some("ou") => "organizationalUnit",
        _ => {
            return Err(TreeError::Setting {
                key: "base_dn",
                reason: format!("{:?} must start with dc=, o= or ou=", base.to_string()),
            });
        }
    };
    Ok(of_classes(base.clone(), &[class]))
}
