use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use dirless_seal::Label;

use super::Setting;
use super::token::{end, private_file};
use crate::signed::NewCode;

/// Codes that let hosts in.
#[derive(Debug, clap::Subcommand)]
pub(super) enum JoinCodeCommand {
    /// Make a code and show it, once: on a terminal, or in a file that only its owner can read.
    Create {
        /// What its hosts will read; several by repeating it. Not needed where there is one compartment alone.
        #[arg(long = "compartment", value_name = "NAME")]
        compartments: Vec<Label>,
        /// A group of [host_groups]: its hosts alone are let in, and read its compartments; several by repeating it.
        #[arg(long = "host-group", value_name = "NAME")]
        host_groups: Vec<String>,
        /// How many hosts it lets in.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        uses: u32,
        /// When it ends, such as 12h or 7d.
        #[arg(long, value_name = "SPAN", default_value = "24h")]
        expires: jiff::Span,
        /// Where its hosts find the tenant; without it [signed] url.
        #[arg(long)]
        url: Option<String>,
        /// Write it to this new file instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List all codes, without their secrets.
    List,
    /// End a code. Hosts that it let in stay in.
    Revoke {
        /// Its name.
        code: Label,
    },
}

pub(super) fn join_code(setting: &Setting<'_>, command: JoinCodeCommand) -> anyhow::Result<ExitCode> {
    let signer = setting.needed_signer()?;
    match command {
        JoinCodeCommand::Create {
            compartments,
            host_groups,
            uses,
            expires,
            url,
            out,
        } => {
            let groups = setting.config.host_groups.named(&host_groups, &[]);
            let groups = groups.map_err(anyhow::Error::msg)?;
            let mut compartments: BTreeSet<Label> = compartments.into_iter().collect();
            compartments.extend(groups.compartments.into_iter().flatten());
            if compartments.is_empty() {
                compartments = only(setting, !host_groups.is_empty())?;
            }
            let configured = || {
                setting
                    .config
                    .signed
                    .as_ref()
                    .and_then(|own| own.url().map(str::to_owned))
            };
            let url = url.or_else(configured);
            let new = NewCode {
                compartments,
                hosts: groups.hosts.into_iter().collect(),
                uses,
                expires: end(setting.clock.now(), expires)?,
                url: url.context("nobody says where hosts find the tenant: set [signed] url, or give --url")?,
            };
            if out.is_none() && !std::io::stdout().is_terminal() {
                bail!(
                    "standard output is no terminal, and a code in a log lets anybody in: name a new file with --out"
                );
            }
            let file = out.as_deref().map(private_file).transpose()?;
            let code = signer.enroller().create_code(&new)?;
            let text = code.expose().context("writing the code")?;
            match file.zip(out) {
                Some((mut file, path)) => {
                    let written = writeln!(file, "{}", text.as_str()).and_then(|()| file.sync_all());
                    written.with_context(|| format!("writing {}", path.display()))?;
                    Setting::print(&format!("join code {} is in {}", code.code, path.display()))?;
                }
                None => {
                    Setting::print(&format!("join code {}, shown only this once:", code.code))?;
                    Setting::print(&text)?;
                }
            }
        }
        JoinCodeCommand::List => {
            for code in signer.enroller().codes()? {
                let compartments: Vec<_> = code.compartments.into_iter().collect();
                Setting::print(&format!(
                    "{}  {} of {} used, until {}, {}",
                    code.code,
                    code.used,
                    code.uses,
                    code.expires,
                    compartments.join(",")
                ))?;
            }
        }
        JoinCodeCommand::Revoke { code } => {
            if !signer.enroller().revoke_code(&code)? {
                bail!("there is no join code {code}; see: dirless-syncer join-code list");
            }
            Setting::print(&format!("join code {code} is revoked"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The only compartment there is.
fn only(setting: &Setting<'_>, of_group: bool) -> anyhow::Result<BTreeSet<Label>> {
    let all = setting.config.signed.as_ref().map(|own| own.compartments());
    let all: BTreeSet<Label> = all.unwrap_or_default().into_iter().map(|own| own.name).collect();
    if all.len() > 1 && of_group {
        bail!("a group of hosts says not which compartments its hosts read: say it there, or give --compartment");
    }
    if all.len() > 1 {
        let names: Vec<_> = all.iter().map(Label::as_str).collect();
        bail!(
            "say with --host-group or --compartment what its hosts will read: {} are configured",
            names.join(", ")
        );
    }
    Ok(all)
}
