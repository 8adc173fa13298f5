//! What is read of a heartbeat, and what is kept of its report. Pure.

use std::borrow::Cow;

use dirless_wire::HostReport;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A heartbeat whose report was passed over.
#[derive(Deserialize)]
pub(super) struct Sender<'a> {
    #[serde(borrow)]
    pub(super) agent_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) hostname: Cow<'a, str>,
    #[serde(default)]
    pub(super) report: Option<IgnoredAny>,
}

/// The report as text of at most `most` bytes: of long lists the end is left out, the totals stay.
pub(super) fn fit(mut report: HostReport, most: usize) -> String {
    report.cap();
    loop {
        let text = serde_json::to_string(&report).unwrap_or_default();
        if text.len() <= most {
            return text;
        }
        if report.dropped.is_empty() && report.problems.is_empty() && report.sources.is_empty() {
            return String::new();
        }
        let half = report.dropped.len() / 2;
        report.dropped.truncate(half);
        if half == 0 {
            report.problems.truncate(report.problems.len() / 2);
            report.sources.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use dirless_wire::DroppedEntry;

    use super::*;

    const MOST: usize = 8 * 1024;

    #[test]
    fn a_long_report_is_cut_to_what_the_store_takes() {
        let entry = DroppedEntry {
            kind: "user".to_owned(),
            name: "n".repeat(256),
            reason: "r".repeat(256),
        };
        let report = HostReport {
            dropped: vec![entry; 500],
            dropped_total: 500,
            problems: vec!["p".repeat(300); 40],
            ..HostReport::default()
        };
        let text = fit(report, MOST);
        assert!(text.len() <= MOST && !text.is_empty());
        let kept: HostReport = serde_json::from_str(&text).unwrap();
        assert_eq!(kept.dropped_total, 500);
        assert!(!kept.dropped.is_empty());
    }
}
