//! `dirless ssh`: which certificate authorities this host accepts.

use anyhow::{Context, bail};
use clap::Subcommand;
use dirless_program::Lookup;

use super::places::Places;
use crate::daemon::state;
use crate::host::ca;
use crate::host::ssh_key::SshPublicKey;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Accept the authority with this fingerprint; sshd trusts it while the backend names it
    AcceptCa {
        /// SHA256:..., as ssh-keygen -lf prints it, or a file with the public key
        fingerprint: String,
    },
    /// Accept this authority no longer
    ForgetCa {
        /// SHA256:...
        fingerprint: String,
    },
    /// Show what is trusted, accepted and proposed
    Show,
}

pub(crate) fn run(places: &Places, environment: Lookup<'_>, command: &Command) -> anyhow::Result<()> {
    let paths = places.paths(environment);
    let memory = || state::load(&paths.daemon_state()).ca;
    match command {
        Command::AcceptCa { fingerprint } => {
            let fingerprint = resolve(fingerprint)?;
            ca::accept(&paths, &fingerprint).with_context(|| paths.accepted_ca().display().to_string())?;
            println!("accepted {fingerprint}");
            match memory().proposed {
                Some(proposed) if proposed == fingerprint => {
                    println!("sshd trusts it from the next cycle on (dirless refresh)")
                }
                Some(proposed) => println!("note: the backend proposes another one, {proposed}"),
                None => println!("it is trusted once the backend names it"),
            }
        }
        Command::ForgetCa { fingerprint } => {
            let fingerprint = resolve(fingerprint)?;
            if ca::forget(&paths, &fingerprint).with_context(|| paths.accepted_ca().display().to_string())? {
                println!(
                    "{fingerprint} is no longer accepted; sshd stops trusting it with the next cycle (dirless refresh)"
                );
            } else {
                bail!("{fingerprint} is not in {}", paths.accepted_ca().display());
            }
        }
        Command::Show => {
            let configured = places
                .load(environment)
                .map(|(config, _)| config.trusted_ca_keys)
                .unwrap_or_default();
            for name in ca::accepted(&paths, &configured)? {
                println!("accepted  {name}");
            }
            match std::fs::read_to_string(paths.ca_key())
                .ok()
                .and_then(|text| SshPublicKey::parse(&text).ok())
            {
                Some(key) => println!("trusted   {}", key.fingerprint()),
                None => println!("trusted   none"),
            }
            if let Some(proposed) = memory().proposed {
                println!("proposed  {proposed}");
            }
        }
    }
    Ok(())
}

/// A fingerprint as it is, or that of the key in a file.
fn resolve(given: &str) -> anyhow::Result<String> {
    let given = given.trim();
    if let Some(digest) = given.strip_prefix("SHA256:") {
        // 32 bytes in unpadded base64.
        if digest.len() == 43
            && digest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
        {
            return Ok(given.to_owned());
        }
        bail!("{given} is not a whole fingerprint; copy it from dirless ssh show, or from ssh-keygen -lf FILE");
    }
    let text = std::fs::read_to_string(given)
        .with_context(|| format!("{given} is neither a fingerprint (SHA256:...) nor a readable file"))?;
    let key = SshPublicKey::parse(&text).with_context(|| format!("{given} holds no usable key: it"))?;
    Ok(key.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_taken_whole_or_from_a_key_file() {
        let whole = "SHA256:ICRz6TsJeB9hZfsYR7Fa7pYtWl5GLPI7IV17Op4qf2E";
        assert_eq!(resolve(&format!(" {whole}\n")).unwrap(), whole);
        assert!(resolve("SHA256:ICRz6").is_err());
        assert!(resolve("MD5:aa:bb").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pub");
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJp9lpH3Z689KCtDoNSOM11fp0QvdvGeloyE3uFf/0i7 ca@example\n";
        std::fs::write(&path, key).unwrap();
        assert_eq!(resolve(path.to_str().unwrap()).unwrap(), whole);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(resolve(path.to_str().unwrap()).is_err());
    }
}
