//! A hostile backend against the real agent: each lie is refused under its own code and told once, look-ups answer from the
//! last good generation, and the truth heals it without anybody's help.

#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod bodies;
mod codes;
mod compartments;
mod hosts;
mod lie;
mod logs;
mod objects;
mod successions;
mod times;
