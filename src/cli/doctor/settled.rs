//! What the settings alone tell: what is odd about them, which functions do nothing, and when the timers fire.

use super::check::{Finding, Verdict};
use crate::ncrontab::Schedule;
use crate::rollout::Timestamp;
use crate::settings::{DashboardAuth, Mode, Settings};

/// A function and what it needs.
struct Needs {
    function: &'static str,
    is_there: bool,
    what: &'static str,
    without: &'static str,
    to_do: &'static str,
}

/// What is odd about the settings, one finding each; one that says so if nothing is.
pub fn remarks(settings: &Settings) -> Vec<Finding> {
    const TRIED: &str = "every setting was read and checked";
    if settings.remarks.is_empty() {
        return vec![Verdict::ok("they can be used").of("settings", TRIED)];
    }
    let remarks = settings.remarks.iter();
    remarks
        .map(|odd| Verdict::warning(odd.why.clone(), odd.fix.clone()).of(format!("setting {}", odd.name), TRIED))
        .collect()
}

/// What does nothing for want of a setting; one finding says what there is.
pub fn functions(settings: &Settings) -> Vec<Finding> {
    let needs = [
        Needs {
            function: "RefreshDeployment",
            is_there: settings.mode == Mode::Act,
            what: "MODE=act",
            without: "MODE is observe: everything is planned, linted and reported, and no refresh is posted",
            to_do: "set MODE to act when the dry runs are as you want them",
        },
        Needs {
            function: "Notification",
            is_there: !settings.notifications.sigs.is_empty(),
            what: "NOTIFICATION_SIG",
            without: "NOTIFICATION_SIG is absent: notifications of Azure are refused, and new deployments are found by the daily sync only",
            to_do: "set it to a long random value, and put it as ?sig= into the plan's notification endpoint",
        },
        match settings.partner_center.app {
            Some(_) => Needs {
                function: "WatchOffers",
                is_there: !settings.offers.offers.is_empty(),
                what: "OFFERS",
                without: "OFFERS names none, so there is nothing to watch",
                to_do: "list your offers and plans in OFFERS",
            },
            None => Needs {
                function: "WatchOffers",
                is_there: false,
                what: "PARTNER_CENTER_TENANT_ID, _CLIENT_ID and _CLIENT_SECRET (or _CLIENT_CERTIFICATE)",
                without: "the settings of Partner Center are absent: a publish has to be posted to /api/offer-publishes",
                to_do: "set all three, or post publishes from your pipeline",
            },
        },
        Needs {
            function: "RenewTokens and Consent",
            is_there: settings.gdap.client_id.is_some(),
            what: "GDAP_CLIENT_ID",
            without: "GDAP_CLIENT_ID is absent: there is no way into customers' tenants by GDAP",
            to_do: "set it if you are your customers' CSP partner; other ways do without",
        },
        Needs {
            function: "Dashboard",
            is_there: settings.dashboard.key.is_some() || settings.dashboard.auth == DashboardAuth::EasyAuth,
            what: "DASHBOARD_KEY or DASHBOARD_AUTH",
            without: "DASHBOARD_KEY is absent: the dashboard is refused to everybody",
            to_do: "set it to a long random value, or DASHBOARD_AUTH to easyauth behind App Service authentication",
        },
        Needs {
            function: "the webhook for people",
            is_there: settings.notify.url.is_some(),
            what: "NOTIFY_URL",
            without: "NOTIFY_URL is absent: nobody is told when a rollout pauses, halts or ends",
            to_do: "set it and NOTIFY_SECRET to your chat's or your incident tool's webhook",
        },
    ];
    let (there, absent): (Vec<_>, Vec<_>) = needs.iter().partition(|needs| needs.is_there);
    let tried = |needs: &Needs| format!("whether {} is set", needs.what);
    let mut findings: Vec<_> = absent
        .iter()
        .map(|needs| Verdict::note(needs.without, needs.to_do).of(format!("function {}", needs.function), tried(needs)))
        .collect();
    if !there.is_empty() {
        let names: Vec<_> = there.iter().map(|needs| needs.function).collect();
        findings.push(Verdict::ok(format!("set up: {}", names.join("; "))).of("functions", "what each needs"));
    }
    findings
}

/// When each timer fires next.
pub fn schedules(settings: &Settings, now: Timestamp) -> Vec<Finding> {
    let all = &settings.schedules;
    [
        ("POLL_SCHEDULE", "PollOperations", &all.poll),
        ("BULK_REFRESH_SCHEDULE", "ScheduledRefresh", &all.bulk_refresh),
        ("WATCH_OFFERS_SCHEDULE", "WatchOffers", &all.watch_offers),
        ("SYNC_SCHEDULE", "SyncDeployments", &all.sync),
        ("RENEW_TOKENS_SCHEDULE", "RenewTokens", &all.renew_tokens),
    ]
    .into_iter()
    .map(|(setting, function, text)| {
        let verdict = match Schedule::parse(text) {
            Ok(schedule) => match schedule.next_after(now) {
                Some(next) => Verdict::ok(format!("next run {}", next.format("%Y-%m-%d %H:%M:%S UTC"))),
                None => Verdict::failed("it never comes round", format!("correct {setting}")),
            },
            Err(error) => Verdict::failed(error.to_string(), format!("correct {setting}, in NCRONTAB with six fields")),
        };
        verdict.of(format!("timer {function}"), format!("{setting}={text}"))
    })
    .collect()
}
