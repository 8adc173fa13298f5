//! The command line.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use dirless_program::service::raise_open_files;

use crate::cost::Cost;
use crate::fleet::{Fleet, Play};
use crate::listen::Compare;
use crate::report::Report;
use crate::{chart, child};

/// Descriptors of this process, and of a backend, besides those of hosts.
const OTHER_FILES: usize = 256;

/// Plays many hosts against real backends, and measures. The report is JSON on standard output.
#[derive(Clone, Debug, Parser)]
#[command(name = "dirless-fleet", version, about, max_term_width = 100)]
pub struct Arguments {
    /// Draw the report as a chart (SVG) too.
    #[arg(long, global = true, value_name = "FILE")]
    chart: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Play acts, one after the other, with hosts that are the agent's own client.
    Run(Play),
    /// Compare how soon servers tell hosts that only listen on bare connections.
    Listen(Compare),
    /// What one changed person costs a host, by the log and by the whole snapshot; tables in markdown. Needs
    /// dirless-agent and dirless beside it.
    Cost(Cost),
    /// Plays hosts as standard input says; what starts the processes of run calls it.
    #[command(name = child::COMMAND, hide = true)]
    Hosts,
    /// Draw reports that were written before; one panel for each act.
    Chart {
        /// The reports.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
}

impl Arguments {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// When a backend cannot be run, or a host was not reached in time.
    pub fn run(self) -> anyhow::Result<()> {
        let mut report = Report {
            arguments: std::env::args().skip(1).collect(),
            ..Report::default()
        };
        let outcome = match self.command {
            Command::Chart { reports } => {
                for path in reports {
                    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
                    let more: Report = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
                    report.acts.extend(more.acts);
                }
                let drawn = chart::draw(&report.acts);
                return match self.chart {
                    Some(path) => std::fs::write(&path, drawn).with_context(|| path.display().to_string()),
                    None => {
                        print!("{drawn}");
                        Ok(())
                    }
                };
            }
            Command::Hosts => return child::play(),
            Command::Cost(cost) => return runtime()?.block_on(cost.run()),
            Command::Run(play) => {
                report.hosts = play.hosts;
                if play.processes < 2 {
                    make_room(play.hosts)?;
                }
                runtime()?.block_on(run(play, &mut report))
            }
            Command::Listen(compare) => {
                report.hosts = compare.hosts;
                // Each of them is one connection.
                make_room(compare.hosts.div_ceil(2))?;
                runtime()?.block_on(listen(&compare, &mut report))
            }
        };
        // What was found until something failed is worth as much as before.
        println!("{}", serde_json::to_string_pretty(&report)?);
        if let Some(path) = self.chart {
            std::fs::write(&path, chart::draw(&report.acts)).with_context(|| path.display().to_string())?;
        }
        outcome
    }
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Sees that this process can play so many hosts, each with a stream and a call. What it starts inherits the limit.
pub(crate) fn make_room(hosts: usize) -> anyhow::Result<()> {
    let wanted = (hosts * 2 + OTHER_FILES) as u64;
    let limit = raise_open_files(wanted)?;
    if limit.is_some_and(|limit| limit < wanted) {
        let limit = limit.unwrap_or_default();
        bail!(
            "{hosts} hosts in one process take {wanted} open files, and the limit is {limit}: raise it (ulimit -n), play them in \
             several (--processes), or play fewer"
        );
    }
    Ok(())
}

async fn run(play: Play, report: &mut Report) -> anyhow::Result<()> {
    let acts = play.acts.clone();
    let mut fleet = Box::pin(Fleet::start(play)).await?;
    for act in acts {
        let played = Box::pin(fleet.play(act)).await?;
        eprintln!("{}: {:.1} s", played.act, played.seconds);
        report.acts.push(played);
    }
    if let Some((played, verdict)) = Box::pin(fleet.verify()).await? {
        report.acts.push(played);
        verdict?;
    }
    Ok(())
}

async fn listen(compare: &Compare, report: &mut Report) -> anyhow::Result<()> {
    for kind in &compare.servers {
        match Box::pin(compare.play(*kind)).await? {
            Some(played) => report.acts.push(played),
            None => eprintln!("{kind:?} is not installed and left out"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
        let given = [
            "dirless-fleet",
            "run",
            "--hosts",
            "3",
            "connect=1",
            "restart",
            "--chart",
            "x.svg",
        ];
        assert!(Arguments::try_parse_from(given).is_ok());
        assert!(Arguments::try_parse_from(["dirless-fleet", "run", "dance"]).is_err());
        assert!(Arguments::try_parse_from(["dirless-fleet", "run", "--url", "http://h", "restart"]).is_err());
    }

    #[test]
    fn what_cannot_have_enough_files_says_what_to_do() {
        let error = make_room(usize::MAX >> 8).unwrap_err().to_string();
        assert!(error.contains("ulimit") && error.contains("--processes"), "{error}");
    }
}
