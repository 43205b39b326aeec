//! `permafresh gdap webhook …`: have Partner Center tell the service when relationships begin and end.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::SETTINGS;
use crate::access::gdap::Gdap;
use crate::access::gdap::registration::{Needed, Registration, Trial};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{print, print_json, say};
use crate::cli::plain_text::plain;
use crate::rollout::counted;

/// How long to wait between two looks at a trial.
const GAP: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  permafresh gdap webhook show
  permafresh gdap webhook register
  permafresh gdap webhook test

Exit codes:
  0  it is registered, or the trial got through
  1  it failed; with show: it is not registered
  2  the command line or a setting is wrong
  4  Partner Center cannot be reached";

/// What to do about the webhook.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "a doc comment would stand in for the help of the command")]
pub enum WebhookCommand {
    /// See what is registered with Partner Center
    #[command(after_help = format!("{EXAMPLES}\n\n{SETTINGS}"))]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Register(RegisterArgs),
    /// Have Partner Center post a trial to the service, and see whether it got through
    #[command(after_help = format!("{EXAMPLES}\n\n{SETTINGS}"))]
    Test {
        /// How long to wait for it, in seconds
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=600), value_name = "SECONDS")]
        timeout: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Register the service's webhook with Partner Center
///
/// For the events of GDAP relationships and their access assignments, at PUBLIC_URL. Registering again changes nothing; other
/// events of the same address stay. A partner has one registration: where another address has it, --replace takes it over.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{SETTINGS}\nPUBLIC_URL (where Partner Center reaches the service)."))]
pub struct RegisterArgs {
    /// Take the registration over from another address, which gets no events any more
    #[arg(long)]
    replace: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    url: Option<&'a str>,
    events: &'a [String],
    is_complete: bool,
}

impl WebhookCommand {
    /// Does one of the commands.
    pub(super) async fn run(self, gdap: &Gdap) -> Result<Exit, Failure> {
        match self {
            Self::Show { json } => show(gdap, json).await,
            Self::Register(args) => register(&args, gdap).await,
            Self::Test { timeout, json } => test(gdap, Duration::from_secs(timeout), json).await,
        }
    }
}

fn wanted(gdap: &Gdap) -> Result<Registration, Failure> {
    let missing = || {
        let error = anyhow::anyhow!("Partner Center has nowhere to post to: PUBLIC_URL is absent");
        Failure::new(error, "set it to the https address under which the service is reached").exit(Exit::Usage)
    };
    Ok(Registration::ours(&gdap.webhook_url().ok_or_else(missing)?))
}

async fn show(gdap: &Gdap, json: bool) -> Result<Exit, Failure> {
    let known = gdap.registration().await?;
    let is_complete = match gdap.webhook_url() {
        Some(url) => Needed::of(known.as_ref(), Registration::ours(&url)) == Needed::Nothing,
        None => false,
    };
    let events = known.as_ref().map_or(&[][..], |known| &known.events[..]);
    if json {
        print_json(&Shown { url: known.as_ref().map(|known| &*known.url), events, is_complete })?;
    } else if let Some(known) = &known {
        print(&format!("{}\n", plain(&known.url)))?;
        for event in events {
            print(&format!("  {}\n", plain(event)))?;
        }
    }
    if !is_complete {
        say("The service's webhook is not registered, or not for all its events: `permafresh gdap webhook register`.");
    }
    Ok(if is_complete { Exit::Success } else { Exit::Failure })
}

async fn register(args: &RegisterArgs, gdap: &Gdap) -> Result<Exit, Failure> {
    let wanted = wanted(gdap)?;
    // Once more where somebody registers at the same time.
    for _ in 0..3 {
        let known = gdap.registration().await?;
        match Needed::of(known.as_ref(), wanted.clone()) {
            Needed::Nothing => {
                if args.json {
                    print_json(&Shown { url: Some(&wanted.url), events: &wanted.events, is_complete: true })?;
                } else {
                    print(&format!("{}\n", wanted.url))?;
                    say("It is registered.");
                }
                return Ok(Exit::Success);
            }
            // The next look shows whether it is there.
            Needed::Make(registration) => _ = gdap.make_registration(&registration).await?,
            Needed::Extend(registration) => gdap.change_registration(&registration).await?,
            Needed::TakeOver(registration) if args.replace => gdap.change_registration(&registration).await?,
            Needed::TakeOver(_) => {
                let other = known.map(|known| plain(&known.url)).unwrap_or_default();
                let error = anyhow::anyhow!("Partner Center posts to another address: {other}");
                return Err(Failure::new(error, "say --replace if that one needs its events no more"));
            }
        }
    }
    let error = anyhow::anyhow!("Partner Center does not show what was registered");
    Err(Failure::new(error, "see `permafresh gdap webhook show`, and try again in a few minutes"))
}

async fn test(gdap: &Gdap, patience: Duration, json: bool) -> Result<Exit, Failure> {
    let id = gdap.start_trial().await?;
    let mut waited = Duration::ZERO;
    let trial: Trial = loop {
        let trial = gdap.trial(id).await?;
        if trial.is_over() || waited >= patience {
            break trial;
        }
        tokio::time::sleep(GAP).await;
        waited += GAP;
    };
    if json {
        let answers: Vec<_> = trial.results.iter().map(|result| &result.response_code).collect();
        print_json(&json!({"gotThrough": trial.got_through(), "answers": answers}))?;
    }
    if trial.got_through() {
        say("Partner Center's trial got through, and the service believed it.");
        return Ok(Exit::Success);
    }
    let tries = counted(trial.results.len() as u64, "try");
    let last = trial.results.last().map(|last| format!(", the last one answered {}", plain(&last.response_code)));
    let error = anyhow::anyhow!("Partner Center's trial did not get through: {tries}{}", last.unwrap_or_default());
    Err(Failure::new(error, "look whether PUBLIC_URL reaches the service, and at its log"))
}
