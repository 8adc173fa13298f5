//! The hostile backend: a server that knows everything a backend knows and says what it likes ([`Liar`]), what it makes up
//! ([`forge`]), and hosts that believe it or not ([`Host`]).

pub mod forge;
mod host;
mod liar;
mod scene;

pub use host::Host;
pub use liar::{Answer, Liar};
pub use scene::{CODE, Keys, Kind, Scene, World};
