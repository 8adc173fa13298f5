//! `revoke`: takes people away now, whatever their sources say. By hand here, and by REST through [`door`].

pub(super) mod door;
mod work;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dirless_program::Lookup;
use dirless_publish::revocation::{RestoreReply, RevokeArguments, text};
use serde::Serialize;

use super::Setting;
use crate::signed::Pace;

pub(super) async fn revoke(setting: &Setting<'_>, arguments: RevokeArguments) -> anyhow::Result<ExitCode> {
    let as_json = arguments.json;
    let by = account(setting.environment);
    if arguments.list {
        tell(&work::list(setting).await?, as_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.undo {
        for restored in arguments.names {
            work::restore(setting, &restored, &by).await?;
            tell(&RestoreReply { restored }, as_json)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let (mut reply, awaited) = work::revoke(setting, &arguments.request(), &by).await?;
    if let Some(awaited) = awaited.filter(|_| arguments.wait) {
        let until = began + Duration::from_secs(arguments.timeout);
        let applied = work::applied(setting, awaited, &mut Pace::since(began), until).await;
        work::note_hosts(&mut reply, applied);
    }
    tell(&reply, as_json)?;
    Ok(ExitCode::from(reply.exit_code()))
}

/// Who sits here, as far as the environment knows.
fn account(environment: Lookup<'_>) -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(environment);
    // It goes into logs and lists.
    let name = name.filter(|name| !name.is_empty() && name.chars().all(|character| character.is_ascii_graphic()));
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn tell<T: std::fmt::Display + Serialize>(answer: &T, as_json: bool) -> anyhow::Result<()> {
    match text(answer, as_json) {
        nothing if nothing.is_empty() => Ok(()),
        text => Setting::print(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_became_root_is_named() {
        let of = |named: &'static [(&str, &str)]| {
            account(&move |name: &str| {
                let found = named.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[("USER", "root"), ("SUDO_USER", "zoe")]), "zoe");
        assert_eq!(of(&[("LOGNAME", "zoe")]), "zoe");
        assert!(of(&[]).starts_with("uid ") && of(&[("USER", "a\u{1b}[2J")]).starts_with("uid "));
    }
}
