//! A host among signed files: what it takes, and what whoever serves them cannot make it take.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod follow;
mod follow_copy;
mod honest;
mod hostile;
mod logs;
mod network;
mod publish;
mod publishers;
mod served_logs;
mod site;
mod succession;
mod support;
mod waiting;
