//! A program of whoever runs what the hosts are played against, which breaks it and mends it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, bail};

/// The program. What it says on standard error is passed on.
#[derive(Clone, Debug)]
pub(crate) struct Means(PathBuf);

impl FromStr for Means {
    type Err = std::convert::Infallible;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Ok(Self(path.into()))
    }
}

impl Means {
    /// Breaks something; ends when that is done, or over by itself.
    pub(crate) async fn strike(&self, name: &str) -> anyhow::Result<()> {
        self.call(&["strike", name]).await.map(drop)
    }

    /// Mends it; ends when all is well again.
    pub(crate) async fn mend(&self, name: &str) -> anyhow::Result<()> {
        self.call(&["mend", name]).await.map(drop)
    }

    /// All of the audit log, an entry of JSON in each line.
    pub(crate) async fn audit(&self) -> anyhow::Result<String> {
        self.call(&["audit"]).await
    }

    async fn call(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let shown = format!("{} {}", self.0.display(), arguments.join(" "));
        let mut command = Command::new(&self.0);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.with_context(|| shown.clone())?;
        if !output.status.success() {
            bail!("{shown}: {}", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_prints_is_the_audit_log_and_its_failure_is_told() {
        let echo: Means = "echo".parse().unwrap();
        assert_eq!(echo.audit().await.unwrap(), "audit\n");
        let error = "false".parse::<Means>().unwrap().strike("machine").await.unwrap_err();
        assert!(error.to_string().contains("false strike machine"), "{error}");
        assert!("/nonexistent".parse::<Means>().unwrap().mend("x").await.is_err());
    }
}
