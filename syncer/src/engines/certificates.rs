//! Certificates: each PEM file is an entry, and `bindings` says which service shows which certificate.
//! Serial number, expiry and fingerprint are what stands in the certificate, not what somebody typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use x509_parser::pem::Pem;

use super::agents::time;
use super::draft::{Draft, check_name};
use super::inputs::parse;
use super::{Engine, Inputs, Made, Make, Place};
use crate::sources::files::{File, FileError, error};

pub(super) struct Certificates;

/// Which service shows which certificate.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Bindings {
    #[serde(default)]
    bindings: BTreeMap<String, Binding>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    /// The PEM file, by its path in the folder.
    certificate: PathBuf,
    /// What the site calls the authority; the issuer's common name when missing.
    ca: Option<String>,
    tenant: Option<String>,
}

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The authority.
    pub(super) authority: String,
    /// The serial number in hexadecimal digits.
    pub(super) serial: String,
    /// When it expires, as LDAP writes it.
    pub(super) not_after: String,
    /// SHA-256 of the whole certificate in hexadecimal digits.
    pub(super) fingerprint: String,
    der: Vec<u8>,
}

/// A binding with the facts of its certificate.
#[derive(Clone, Debug)]
pub(super) struct Bound<'i> {
    /// The file that says so.
    pub(super) file: &'i File,
    /// The service.
    pub(super) service: String,
    tenant: Option<String>,
    certificate: PathBuf,
    /// What stands in the certificate.
    pub(super) facts: Facts,
}

impl Make for Certificates {
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError> {
        let bound = bindings(inputs)?;
        let mut all = Vec::new();
        for file in inputs.of(Engine::Certificates).iter().filter(|file| is_pem(file)) {
            let mut facts = facts(file)?;
            let own: Vec<&Bound<'_>> = bound.iter().filter(|bound| bound.certificate == file.path).collect();
            if let Some(first) = own.first() {
                facts.authority.clone_from(&first.facts.authority);
            }
            let name = file.path.with_extension("").display().to_string().replace('/', ".");
            check_name(&name).map_err(|reason| error(file, "", format!("a certificate's name {reason}")))?;
            let mut services = Vec::new();
            for bound in own {
                let above = place.unit(bound.tenant.as_deref(), "services");
                let above = above.map_err(|reason| error(bound.file, &bound.service, reason))?;
                services.push(Draft::new(&above, "cn", &bound.service, &[]).entry().dn().clone());
            }
            let above = place
                .unit(None, "certificates")
                .map_err(|reason| error(file, "", reason))?;
            let mut draft = Draft::new(&above, "cn", &name, &["aitherCertificate"]);
            draft
                .text("aitherCertificateAuthority", Some(&facts.authority))
                .text("aitherCertificateSerial", Some(&facts.serial))
                .text("aitherCertificateNotAfter", Some(&facts.not_after))
                .text("aitherCertificateFingerprint", Some(&facts.fingerprint))
                .names("aitherService", services)
                .bytes("userCertificate;binary", &facts.der);
            all.push(Made {
                entry: draft.entry(),
                file: Some(file),
                word: String::new(),
            });
        }
        Ok(all)
    }
}

/// All bindings, checked: each names a certificate that is there, and no service comes twice.
pub(super) fn bindings(inputs: &Inputs) -> Result<Vec<Bound<'_>>, FileError> {
    let files = inputs.of(Engine::Certificates);
    let mut all: BTreeMap<String, Bound<'_>> = BTreeMap::new();
    for file in files.iter().filter(|file| !is_pem(file)) {
        let Bindings { bindings } = parse(file)?;
        for (service, binding) in bindings {
            let pem = files.iter().find(|pem| is_pem(pem) && pem.path == binding.certificate);
            let Some(pem) = pem else {
                let reason = format!(
                    "{service}: there is no {} in the folder; add it",
                    binding.certificate.display()
                );
                return Err(error(file, &service, reason));
            };
            let mut facts = facts(pem)?;
            if let Some(ca) = &binding.ca {
                facts.authority.clone_from(ca);
            }
            let bound = Bound {
                file,
                service: service.clone(),
                tenant: binding.tenant,
                certificate: binding.certificate,
                facts,
            };
            if let Some(other) = all.insert(service.to_lowercase(), bound) {
                let reason = format!(
                    "{service} is bound in {} too; keep one of them",
                    other.file.path.display()
                );
                return Err(error(file, &service, reason));
            }
        }
    }
    Ok(all.into_values().collect())
}

fn is_pem(file: &File) -> bool {
    let ending = file.path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("pem" | "crt"))
}

/// What stands in the first certificate of a PEM file, which is the leaf of a chain.
pub(super) fn facts(file: &File) -> Result<Facts, FileError> {
    let refuse = |reason: String| error(file, "", reason);
    let mut first = None;
    for block in Pem::iter_from_buffer(file.text.as_bytes()) {
        let block = block.map_err(|reason| refuse(format!("is no PEM file: {reason}")))?;
        match block.label.as_str() {
            "CERTIFICATE" => {
                first.get_or_insert(block);
            }
            label if label.ends_with("PRIVATE KEY") => {
                return Err(refuse(
                    "holds a private key; keys have no place here, take it out and renew it".to_owned(),
                ));
            }
            _ => {}
        }
    }
    let block = first.ok_or_else(|| refuse("holds no certificate; export it as PEM".to_owned()))?;
    let certificate = block
        .parse_x509()
        .map_err(|reason| refuse(format!("its certificate is damaged: {reason}")))?;
    let issuer = certificate.issuer();
    let common = issuer.iter_common_name().next().and_then(|name| name.as_str().ok());
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp());
    Ok(Facts {
        authority: common.map_or_else(|| issuer.to_string(), str::to_owned),
        serial: hex(certificate.raw_serial()),
        not_after: time(not_after.map_err(|reason| refuse(format!("its expiry makes no sense: {reason}")))?),
        fingerprint: dirless_seal::sha256_hex(&block.contents),
        der: block.contents.clone(),
    })
}

/// Serial numbers are read as numbers: the zero byte that keeps one positive is not shown.
fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let plain = digits.trim_start_matches("00");
    if plain.is_empty() {
        "00".to_owned()
    } else {
        plain.to_owned()
    }
}
