//! Telling what happens: numbered steps, commands, and their real output.

use std::fmt::Display;
use std::time::Instant;

use anyhow::Context;

/// A story told on standard output.
#[derive(Debug)]
pub struct Story {
    started: Instant,
    steps: usize,
    findings: Vec<String>,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            steps: 0,
            findings: Vec::new(),
        }
    }
}

impl Story {
    /// Tells and does one step; its error names it.
    ///
    /// # Errors
    /// What `act` reports.
    pub fn step<T>(&mut self, title: &str, act: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.steps += 1;
        let number = self.steps;
        println!("\n{number}. {title}");
        act(self).with_context(|| format!("step {number}, {title}"))
    }

    /// Shows a command as a person would type it.
    pub fn command(&self, text: impl Display) {
        println!("   $ {text}");
    }

    /// Shows what a command wrote.
    pub fn output(&self, text: impl Display) {
        for line in text.to_string().lines() {
            println!("     {line}");
        }
    }

    /// Says something in between.
    pub fn remark(&self, text: impl Display) {
        println!("   {text}");
    }

    /// Keeps a finding for the summary.
    pub fn found(&mut self, text: impl Into<String>) {
        self.findings.push(text.into());
    }

    /// Ends the story: all findings on one screen.
    pub fn summary(&self) {
        let elapsed = self.started.elapsed();
        println!("\nWhat was seen, in {:.1} s:", elapsed.as_secs_f32());
        for finding in &self.findings {
            println!("  ok  {finding}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_in_the_error() {
        let mut story = Story::default();
        story.step("first", |_| Ok(())).unwrap();
        let error = story
            .step("second", |_| Err::<(), _>(anyhow::anyhow!("boom")))
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "step 2, second: boom");
    }
}
