//! Configs: every file is one document, called by its path with dots for slashes
//! (`security/permissions.yaml` is `security.permissions`) and kept as JSON with sorted keys.

use std::path::Path;

use super::draft::{Draft, LARGEST_JSON, Strict, check_name};
use super::inputs::parse;
use super::{Engine, Inputs, Made, Make, Place};
use crate::sources::files::{File, FileError, error};

pub(super) struct Configs;

impl Make for Configs {
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError> {
        let made = |file: &'i File| made(file, &file.path, None, place);
        inputs.of(Engine::Configs).iter().map(made).collect()
    }
}

/// The config in `file`, called by `path`, of the platform or of `tenant`.
pub(super) fn made<'i>(
    file: &'i File,
    path: &Path,
    tenant: Option<&str>,
    place: &Place<'_>,
) -> Result<Made<'i>, FileError> {
    let refuse = |reason: String| error(file, "", reason);
    let name = path.with_extension("").to_str().map(|path| path.replace('/', "."));
    let name = name.ok_or_else(|| refuse("its path is no UTF-8; rename it".to_owned()))?;
    check_name(&name).map_err(|reason| refuse(format!("a config's name {reason}; rename the file")))?;
    let above = place.unit(tenant, "configs").map_err(refuse)?;
    let Strict(json) = parse(file)?;
    let text = json.to_string();
    if text.len() > LARGEST_JSON {
        return Err(refuse(format!(
            "config {name:?} is larger than 1 MiB as JSON; split it"
        )));
    }
    let mut draft = Draft::new(&above, "cn", &name, &["aitherConfig"]);
    draft
        .text("aitherConfigData", Some(&text))
        .text(
            "aitherConfigScope",
            Some(if tenant.is_some() { "tenant" } else { "platform" }),
        )
        .text("aitherContentHash", Some(&dirless_seal::sha256_hex(text.as_bytes())))
        .text("aitherTenantId", tenant);
    Ok(Made {
        entry: draft.entry(),
        file: Some(file),
        word: String::new(),
    })
}
