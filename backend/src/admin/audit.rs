//! `audit`: the audit log as JSON, one line an entry.

use anyhow::Context as _;
use dirless_wire::TenantId;
use serde_json::json;

use super::Console;
use crate::store::{AUDIT_PAGE_MAX, AuditEntry, Store};

/// Which lines to print.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArguments {
    /// Only this tenant's.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Only those after this number, such as the last one read before.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
}

pub(super) async fn run(arguments: AuditArguments, store: &Store, console: &mut Console<'_>) -> anyhow::Result<()> {
    let everything = store.all_tenants_bypassing_realm_scope();
    let mut after = arguments.after;
    loop {
        let page = match &arguments.tenant {
            Some(tenant) => everything.audit_of(tenant, after, AUDIT_PAGE_MAX).await?,
            None => everything.audit(after, AUDIT_PAGE_MAX).await?,
        };
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for entry in &page {
            writeln!(console.output, "{}", line(entry)).context("cannot write to standard output")?;
        }
    }
}

fn line(entry: &AuditEntry) -> serde_json::Value {
    json!({
        "id": entry.id,
        "at": entry.at,
        "realm": entry.realm.as_ref().map(|realm| realm.as_str()),
        "tenant": entry.tenant.as_ref().map(|tenant| tenant.as_str()),
        "role": entry.role,
        "token": entry.token.as_ref().map(|token| token.as_str()),
        "action": entry.action,
        "address": entry.address,
        "details": entry.details,
    })
}
