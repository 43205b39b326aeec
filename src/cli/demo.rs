//! `permafresh demo`: the whole loop on one machine, with Azure simulated.

use clap::Args;

use super::failure::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  permafresh demo
  permafresh demo --bad-permission
  permafresh demo --deployments 1000 --throttle";

/// See it work: publishes a version to some hundred simulated deployments
///
/// Needs nothing: Azure Resource Manager is simulated, everything else is the real service, on this machine and in a
/// temporary folder that is removed at the end. A few refreshes are throttled and a few fail, each in another way.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Publish a version whose permissions name an action that does not exist
    #[arg(long)]
    pub bad_permission: bool,
    /// Have Azure throttle much more often
    #[arg(long)]
    pub throttle: bool,
    /// How many deployments
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub deployments: u32,
    /// Port of the service; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

/// Runs the demo to its end.
pub async fn run(_args: DemoArgs) -> Result<Exit, Failure> {
    Err(Failure::new(anyhow::anyhow!("the demo is not in this build yet"), "use `permafresh local`"))
}
