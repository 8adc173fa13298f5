//! `dirless epoch`.

use clap::Subcommand;
use dirless_seal::Label;

use crate::Surroundings;
use crate::office::With;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask whoever publishes to seal everything to new keys
    ///
    /// The wish stands in the enroller's next node list; the syncer follows it within seconds.
    Rotate {
        #[command(flatten)]
        with: With,
        /// The compartment; without it all of the policy
        #[arg(long = "compartment", value_name = "NAME")]
        compartments: Vec<Label>,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Rotate { with, compartments } => {
            let (enroller, policy) = with.open(surroundings)?;
            let chosen = match compartments.is_empty() {
                true => policy.compartments.into_iter().map(|own| own.name).collect(),
                false => compartments.iter().cloned().collect(),
            };
            enroller.renew(&chosen)?;
            for compartment in &chosen {
                writeln!(surroundings.out, "a new epoch of {compartment} is asked for")?;
            }
            Ok(())
        }
    }
}
