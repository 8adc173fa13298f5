//! What every route shares: who asks, what may be asked how often, how bodies come in and answers
//! go out.

pub(crate) mod address;
pub(crate) mod auth;
mod body;
pub(crate) mod front;
pub(crate) mod limits;
pub(crate) mod log;
mod reply;
pub(crate) mod sniff;
mod streams;

pub(crate) use body::{check_announced, next_piece, parse_json, read_small};
pub(crate) use reply::{Failure, json, json_with_tag, status_ok};
pub(crate) use streams::{Endless, Finished, ReplyBody, RequestBody};
