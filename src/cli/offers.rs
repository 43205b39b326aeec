//! `permafresh offers`: what the service knows of the offers it looks after, and what a rollout changes, in words.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use super::client::{ApiClient, ServiceArgs};
use super::failure::{Exit, Failure};
use super::output;
use super::plain_text::{plain, table};
use crate::functions::wire::offers_api::{OfferView, PlanView};
use crate::rollout::Changes;
use crate::rollout::watch::{Outcome, Seen};

/// How many offers are listed.
const MANY: usize = 1_000;

/// Show what was published of each offer, and which versions allow more than the wanted one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  permafresh offers\n  permafresh offers --json")]
pub struct OffersArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Which service.
    #[command(flatten)]
    service: ServiceArgs,
}

/// Lists the offers.
pub async fn run(args: OffersArgs) -> Result<Exit, Failure> {
    const ACTION: &str = "list the offers";
    let client = ApiClient::new(&args.service)?;
    if args.json {
        let offers: Vec<Value> = client.list(ACTION, "/api/offers", MANY).await?;
        output::print_json(&offers)?;
        return Ok(Exit::Success);
    }
    let offers: Vec<OfferView> = client.list(ACTION, "/api/offers", MANY).await?;
    if offers.is_empty() {
        output::say("the service looks after no offer; list yours in the setting OFFERS");
        return Ok(Exit::Success);
    }
    output::print(&listing(&offers))?;
    Ok(Exit::Success)
}

fn listing(offers: &[OfferView]) -> String {
    let version = |seen: &Option<Seen>| seen.as_ref().map_or_else(|| "–".to_owned(), |seen| seen.version.to_string());
    let row = |offer: &OfferView, plan: &PlanView| {
        [
            format!("{}/{}/{}", offer.publisher, offer.offer, plan.plan),
            plan.wanted_version.map_or_else(|| "–".to_owned(), |version| version.to_string()),
            version(&plan.preview),
            version(&plan.live),
            match &plan.wider {
                None => "not known".to_owned(),
                Some(wider) if wider.is_empty() => "none".to_owned(),
                Some(wider) => wider.iter().map(|wider| wider.version.to_string()).collect::<Vec<_>>().join(", "),
            },
        ]
    };
    let rows: Vec<_> = offers.iter().flat_map(|offer| offer.plans.iter().map(move |plan| row(offer, plan))).collect();
    let mut text = table(["PLAN", "WANTED", "SIGN-OFF", "LIVE", "WIDER"], &rows);
    for offer in offers {
        if let Some(trouble) = offer.watch.as_ref().and_then(|watch| watch.trouble.as_ref()) {
            let _ = writeln!(
                text,
                "\n{}/{}, since {}: {}",
                offer.publisher,
                offer.offer,
                trouble.since,
                plain(&trouble.what)
            );
        }
        for plan in &offer.plans {
            for seen in [&plan.preview, &plan.live].into_iter().flatten() {
                if let Outcome::Refused { why } = &seen.outcome {
                    let _ = writeln!(text, "\n{} of plan {} was not started: {}", seen.version, plan.plan, plain(why));
                }
            }
            for unreadable in &plan.unreadable {
                let _ = writeln!(text, "\nWhat is recorded as {} cannot be read", plain(unreadable));
            }
            for wider in plan.wider.iter().flatten() {
                let _ = writeln!(
                    text,
                    "\n{} of plan {} allows more than the wanted version, and any customer may set itself to it:",
                    wider.version, plan.plan
                );
                for allowed in &wider.allows {
                    let _ = writeln!(text, "  {}", plain(allowed));
                }
            }
        }
    }
    text
}

/// What a rollout changes for its deployments.
pub fn changes(changes: &Changes) -> String {
    let mut text = String::new();
    if let Some(against) = changes.against {
        let _ = writeln!(text, "\nChanged since {against}");
    }
    for line in changes.lines() {
        let _ = writeln!(text, "  {}", plain(&line));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_listing_names_versions_troubles_and_what_is_wider() {
        let offers: Vec<OfferView> = serde_json::from_value(json!([{
            "publisher": "fabrikam", "offer": "ledger",
            "watch": {"publisher": "fabrikam", "offer": "ledger", "lookedAt": null, "nextLook": null, "submissions": [],
                "trouble": {"kind": "forbidden", "what": "we may not ask", "since": "2026-03-10T12:00:00Z"}},
            "plans": [{"plan": "standard", "wantedVersion": "1.4.0", "versions": ["1.3.0", "1.4.0"],
                "wider": [{"version": "1.3.0", "allows": ["control action a/b"]}]}],
        }]))
        .unwrap();
        let text = listing(&offers);
        for said in
            ["fabrikam/ledger/standard", "1.3.0 of plan standard allows more", "control action a/b", "we may not ask"]
        {
            assert!(text.contains(said), "{said} is not in\n{text}");
        }
    }

    #[test]
    fn changes_are_told_with_signs_and_what_is_frozen_with_a_remark() {
        let told: Changes = serde_json::from_value(json!({
            "rolloutId": "00000000-0000-0000-0000-000000000000", "against": "1.4.0", "doubts": ["nobody knows"],
            "difference": {"controlActions": {"added": ["a/b"], "removed": ["c/d"]},
                "impossible": [{"name": "publisherManagementMode", "before": "managed", "after": null}]},
        }))
        .unwrap();
        let text = changes(&told);
        for said in
            ["since 1.4.0", "+ control action a/b", "- control action c/d", "no refresh can bring it", "? nobody knows"]
        {
            assert!(text.contains(said), "{said} is not in\n{text}");
        }
    }
}
