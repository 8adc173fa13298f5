//! What breaks while hosts and writers go on, how long that is felt, and whether anything was lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::act::Trouble;
use crate::event::Notes as _;
use crate::fleet::{Fleet, PATIENCE};
use crate::means::Means;
use crate::report::Played;
use crate::writers::Writers;

/// Writes that have to be acknowledged before anything breaks, and after it was mended.
const WRITES: usize = 20;

impl Fleet {
    /// Writers that stay.
    pub(crate) async fn write(&mut self, writers: usize) -> anyhow::Result<()> {
        if self.writers.is_some() {
            return Err(anyhow!("the writers are there already"));
        }
        let site = self.sites.first().context("there is no site")?;
        let clients: Result<Vec<_>, _> = (0..writers).map(|_| site.publisher()).collect();
        self.writers = Some(Writers::start(clients?, &self.board));
        self.more_writes().await
    }

    /// Waits until some more writes were acknowledged.
    async fn more_writes(&self) -> anyhow::Result<()> {
        let Some(writers) = &self.writers else { return Ok(()) };
        let (wanted, until) = (writers.count() + WRITES, self.board.now() + PATIENCE);
        while writers.count() < wanted {
            if self.board.now() > until {
                return Err(anyhow!("writing does not go on: {:?}", writers.refused()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Something breaks: how long until a change after it is acknowledged, until all hosts have that, and how long no write was.
    pub(crate) async fn trouble(&mut self, trouble: &Trouble, played: &mut Played) -> anyhow::Result<()> {
        let refused = self.writers.as_ref().map(Writers::refused).unwrap_or_default();
        self.board.wipe(&self.board.told);
        self.board.wipe(&self.board.applied);
        let began = self.board.now();
        self.strike(trouble).await?;
        // A standby that takes over is promoted then.
        let struck = self.board.now().saturating_sub(began);
        played.figure("struck_after_ms", struck.as_secs_f64() * 1000.0);
        let acknowledged = self.publish().await?;
        let after = acknowledged
            .iter()
            .map(|at| at.saturating_sub(began))
            .max()
            .unwrap_or_default();
        played.figure("change_acknowledged_after_ms", after.as_secs_f64() * 1000.0);
        let board = &self.board;
        board
            .all(&board.applied, &self.everybody(), PATIENCE, "have the change after it")
            .await?;
        let applied = board
            .applied
            .times()
            .flatten()
            .map(|at| at.saturating_sub(began))
            .collect();
        played.times("applied_after_the_event", applied);
        if let Trouble::Cut(time) = trouble {
            tokio::time::sleep(time.saturating_sub(self.board.now() - began)).await;
        }
        self.mend(trouble).await?;
        self.more_writes().await?;
        if let Some(writers) = &self.writers {
            let gap = writers.longest_gap(began, self.board.now());
            played.figure("longest_time_without_a_write_ms", gap.as_secs_f64() * 1000.0);
            for (kind, count) in writers.refused() {
                let before = refused.get(&kind).copied().unwrap_or_default();
                played.figure(&format!("writes_refused_{kind}"), (count - before) as f64);
            }
        }
        self.board.quiet(PATIENCE).await?;
        self.everybody_hears_of_the_next(played).await
    }

    fn means(&self) -> anyhow::Result<&Means> {
        let means = self.play.means.as_ref();
        means.context("nobody knows how to strike: --means PROGRAM")
    }

    async fn strike(&mut self, trouble: &Trouble) -> anyhow::Result<()> {
        if let Trouble::Strike(name) = trouble {
            return self.means()?.strike(name).await;
        }
        let site = self.sites.first_mut().context("there is no site")?;
        match trouble {
            Trouble::KillBackend => site.backend(0)?.end(false).await,
            Trouble::KillPrimary => tokio::task::block_in_place(|| site.database()?.fail_over()),
            Trouble::KillBoth => {
                // Looked for first: a backend that is killed for nothing would be missed later.
                site.database()?;
                site.backend(0)?.end(false).await?;
                tokio::task::block_in_place(|| site.database()?.fail_over())
            }
            Trouble::Cut(_) => site.backend(0)?.cable()?.pull(),
            Trouble::FullDisk(time) => {
                let ballast = site.backend(0)?.fill_disk()?;
                tokio::time::sleep(*time).await;
                Ok(ballast.close()?)
            }
            Trouble::SlowDisk(each) => site.backend(0)?.slow_disk(*each).await,
            Trouble::Strike(_) => Ok(()),
        }
    }

    async fn mend(&mut self, trouble: &Trouble) -> anyhow::Result<()> {
        if let Trouble::Strike(name) = trouble {
            return self.means()?.mend(name).await;
        }
        let site = self.sites.first_mut().context("there is no site")?;
        match trouble {
            Trouble::KillBackend => site.backend(0)?.run().await,
            Trouble::KillPrimary => tokio::task::block_in_place(|| site.database()?.mend()),
            Trouble::KillBoth => {
                site.backend(0)?.run().await?;
                tokio::task::block_in_place(|| site.database()?.mend())
            }
            Trouble::Cut(_) => site.backend(0)?.cable()?.plug(),
            Trouble::FullDisk(_) | Trouble::Strike(_) => Ok(()),
            Trouble::SlowDisk(_) => site.backend(0)?.usual_disk().await,
        }
    }

    /// Ends the writers and looks for every acknowledged write in the audit log, which is written with it or not at all.
    pub(crate) async fn verify(&mut self) -> anyhow::Result<Option<(Played, anyhow::Result<()>)>> {
        let Some(writers) = self.writers.take() else {
            return Ok(None);
        };
        let mut played = Played {
            act: "verify".to_owned(),
            ..Played::default()
        };
        let acknowledged = writers.stop().await;
        let log = match &self.play.means {
            Some(means) => means.audit().await?,
            None => {
                let site = self.sites.first_mut().context("there is no site")?;
                site.backend(0)?.audit().await?
            }
        };
        let stored: BTreeSet<String> = log
            .lines()
            .filter_map(|line| {
                let entry: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(entry.get("details")?.get("key")?.as_str()?.to_owned())
            })
            .collect();
        let lost: Vec<_> = acknowledged.difference(&stored).take(5).collect();
        played.figure("acknowledged_writes", acknowledged.len() as f64);
        played.figure("lost_writes", acknowledged.difference(&stored).count() as f64);
        let (wrong, older) = self.board.wrong_and_older();
        played.figure("wrong_bodies", wrong as f64);
        played.figure("older_bodies", older as f64);
        played.figure("older_files_refused", self.board.refused_as_older() as f64);
        let verdict = match lost.is_empty() {
            true => Ok(()),
            false => Err(anyhow!("acknowledged writes are lost, such as {lost:?}")),
        };
        Ok(Some((played, verdict)))
    }
}
