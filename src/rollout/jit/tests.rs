//! Every rule of a just-in-time request at its edge.

use super::*;

const PRINCIPAL: &str = "0b1ec700-0000-4000-8000-00000000aa01";
const ROLE: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";

fn at(minutes: i64) -> Timestamp {
    "2026-03-10T12:00:00Z".parse::<Timestamp>().unwrap() + chrono::TimeDelta::minutes(minutes)
}

fn setup() -> JitSetup {
    JitSetup { principal_id: PRINCIPAL.into(), role_id: Some(ROLE.into()), resource_group: None }
}

fn application() -> JitApplication {
    JitApplication {
        terms: Some(JitTerms {
            enabled: true,
            approval_mode: Some("ManualApprove".into()),
            approvers: vec!["Cloud duty officer".into()],
            maximum_duration: Some("PT2H".into()),
        }),
        is_unmanaged: false,
        authorizations: vec![(PRINCIPAL.to_uppercase(), ROLE.into())],
        location: Some("westeurope".into()),
        managed_group: Some("mrg".into()),
    }
}

fn with_terms(change: impl FnOnce(&mut JitTerms)) -> JitApplication {
    let mut application = application();
    change(application.terms.as_mut().unwrap());
    application
}

fn wish(application: &JitApplication) -> Result<JitRequest, Trouble> {
    JitRequest::wish(&setup(), "key", application, at(0))
}

fn filed(word: &str) -> JitRequest {
    let mut request = wish(&application()).unwrap();
    request.heard(stands(word), at(0));
    request
}

fn stands(word: &str) -> JitAnswer {
    JitAnswer::Stands { word: Some(word.into()), error: None }
}

fn error(status: Option<u16>, code: &str, message: &str) -> RemoteError {
    RemoteError { status, code: code.into(), message: message.into() }
}

fn id() -> ApplicationId {
    "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger".parse().unwrap()
}

fn usable(request: &JitRequest, now: Timestamp) -> Usable {
    JitAccess { application_id: id(), requests: vec![request.clone()] }.usable(now)
}

#[test]
fn a_name_is_short_and_the_same_for_the_same_application_and_start() {
    let first = wish(&application()).unwrap();
    assert_eq!((first.name.len(), first.resource_group.as_str()), (10, "mrg"));
    assert!(first.name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let name = |key, now| JitRequest::wish(&setup(), key, &application(), now).unwrap().name;
    assert_eq!(name("key", at(0) + Duration::from_millis(900)), first.name, "the start has whole seconds");
    assert_ne!(name("key", at(1)), first.name);
    assert_ne!(name("another", at(0)), first.name);
}

#[test]
fn a_window_is_as_long_as_the_customer_allows_whichever_way_they_spell_it() {
    for (mode, maximum, minutes) in [
        ("ManualApprove", Some("PT2H"), Some(120)),
        ("ManualApprove", Some("PT120M"), Some(120)),
        ("ManualApprove", Some("PT7200S"), Some(120)),
        ("ManualApprove", Some("P1D"), Some(480)),
        ("ManualApprove", None, Some(480)),
        ("SomethingNew", Some("PT24H"), Some(480)),
        ("autoapprove", Some("PT8H"), Some(60)),
        ("AutoApprove", Some("PT40M"), Some(40)),
        ("AutoApprove", Some("PT20M"), Some(20)),
        ("AutoApprove", Some("PT1199S"), None),
        ("ManualApprove", Some("PT15M"), None),
        ("ManualApprove", Some("some hours"), Some(60)),
    ] {
        let application = with_terms(|terms| {
            terms.approval_mode = Some(mode.into());
            terms.maximum_duration = maximum.map(str::to_owned);
        });
        let window = wish(&application).map(|request| request.duration.as_secs() / 60).ok();
        assert_eq!(window, minutes, "{mode} {maximum:?}");
    }
}

#[test]
fn what_makes_a_request_pointless_is_known_before_it_is_filed() {
    let other = "00000000-0000-4000-8000-000000000000";
    let with = |change: &dyn Fn(&mut JitApplication)| {
        let mut application = application();
        change(&mut application);
        wish(&application).unwrap_err().code()
    };
    assert_eq!(with(&|a| a.terms = None), "JitNotEnabled");
    assert_eq!(with(&|a| a.terms.as_mut().unwrap().enabled = false), "JitNotEnabled");
    assert_eq!(with(&|a| a.is_unmanaged = true), "JitUnmanaged");
    assert_eq!(with(&|a| a.authorizations = vec![(other.into(), ROLE.into())]), "JitPrincipalNotAuthorized");
    assert_eq!(with(&|a| a.authorizations = vec![(PRINCIPAL.into(), other.into())]), "JitRoleNotAuthorized");
    assert_eq!(with(&|a| a.managed_group = None), "JitApplicationIncomplete");
    assert_eq!(with(&|a| a.location = None), "JitApplicationIncomplete");
}

#[test]
fn the_role_is_the_configured_one_or_the_one_that_the_plan_lists() {
    let of = |role_id: Option<&str>, listed: &str| {
        let setup = JitSetup { role_id: role_id.map(str::to_owned), resource_group: Some("rg".into()), ..setup() };
        let authorizations =
            if listed.is_empty() { Vec::new() } else { vec![(PRINCIPAL.to_owned(), listed.to_owned())] };
        let application = JitApplication { authorizations, ..application() };
        JitRequest::wish(&setup, "key", &application, at(0)).map(|request| (request.role_id, request.resource_group))
    };
    let found = |role: &str| Ok((role.to_owned(), "rg".to_owned()));
    assert_eq!(of(None, ROLE), found(ROLE));
    let long = format!("/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/{ROLE}");
    assert_eq!(of(Some(ROLE), &long), found(ROLE));
    assert_eq!(of(Some("role"), ""), found("role"), "Azure may show none of them");
    assert_eq!(of(None, ""), Err(Trouble::PrincipalNotAuthorized { principal_id: PRINCIPAL.into() }));
}

#[test]
fn a_window_counts_only_while_a_refresh_surely_fits_into_it() {
    let approved = filed("approved");
    assert_eq!(approved.ends(), at(120));
    assert_eq!(usable(&approved, at(100)), Usable::Now, "a quarter of an hour, and the margin");
    assert_eq!(usable(&approved, at(100) + Duration::from_secs(1)), Usable::Spent);
    assert!(approved.covers(at(115)) && !approved.covers(at(115) + Duration::from_secs(1)));
    assert!(!filed("Pending").covers(at(1)));
}

#[test]
fn looks_come_at_growing_gaps_and_end_after_a_day() {
    let mut request = filed("Pending");
    let mut now = at(0);
    let mut gaps = Vec::new();
    while let Usable::Waits { next_look } = usable(&request, now) {
        gaps.push((next_look - now).num_seconds());
        now = next_look;
        if gaps.len() == 8 {
            break;
        }
        request.take_look(now);
        request.heard(stands("Pending"), now);
    }
    assert_eq!(gaps, [30, 60, 120, 240, 480, 900, 900, 900]);
    assert_eq!(usable(&request, at(24 * 60) - Duration::from_secs(1)), Usable::ToLook);
    assert_eq!(
        (usable(&request, at(24 * 60)), request.trouble(at(24 * 60))),
        (Usable::Spent, Some(Trouble::Unanswered))
    );
}

#[test]
fn every_word_of_azure_leads_somewhere_and_an_unknown_one_waits() {
    for (word, code) in [
        ("Denied", Some("JitDenied")),
        ("FAILED", Some("JitFailed")),
        ("Canceled", Some("JitCanceled")),
        ("cancelled", Some("JitCanceled")),
        ("Expired", Some("JitExpired")),
        ("Timeout", Some("JitTimeout")),
        ("Pending", None),
        ("NotSpecified", None),
        ("UnderConsideration", None),
        ("", None),
    ] {
        let request = filed(word);
        assert_eq!(request.trouble(at(1)).map(|trouble| trouble.code()), code, "{word}");
        let waits = matches!(&request.state, RequestState::Pending { word: known, .. } if known == word);
        assert_eq!(waits, code.is_none(), "{word}");
    }
}

#[test]
fn a_missing_licence_is_told_apart_by_code_or_words_wherever_it_is_met() {
    let said = [
        error(Some(400), "AadPremiumLicenseRequired", "The tenant needs a licence."),
        error(
            Some(403),
            "Forbidden",
            "The tenant needs to have Microsoft Entra ID P2 or Microsoft Entra ID Governance license.",
        ),
        error(None, "Unknown", "No AAD Premium 2 licence was found."),
    ];
    for error in said {
        let mut request = wish(&application()).unwrap();
        request.heard(JitAnswer::Refused { error: error.clone() }, at(0));
        assert_eq!(request.trouble(at(0)), Some(Trouble::NoP2), "at the filing: {error:?}");
        let mut request = filed("Pending");
        request.heard(JitAnswer::Stands { word: Some("Failed".into()), error: Some(error.clone()) }, at(1));
        assert_eq!(request.trouble(at(1)), Some(Trouble::NoP2), "later: {error:?}");
    }
    for other in ["The licence agreement was not accepted.", "Stage p2 failed."] {
        assert!(!is_missing_p2(&error(Some(400), "BadRequest", other)), "{other}");
    }
    let sentence = Trouble::NoP2.sentence(Some("ab12"));
    for said in [
        "ab12",
        "Entra ID P2",
        "licence",
        "JIT Access > Approve Requests",
        "Privileged Identity Management",
        "Azure managed applications",
    ] {
        assert!(sentence.contains(said), "{said} is not in {sentence}");
    }
}

#[test]
fn a_look_that_tells_nothing_ends_nothing() {
    let mut request = filed("Pending");
    request.take_look(at(1));
    let planned = usable(&request, at(1));
    let unclear = JitAnswer::Unclear { error: error(Some(503), "Busy", ""), wait: None };
    for answer in [unclear, JitAnswer::Refused { error: error(Some(403), "Forbidden", "no") }, JitAnswer::Missing] {
        request.heard(answer, at(1));
        assert_eq!(usable(&request, at(1)), planned);
    }
    let wait = Some(Duration::from_secs(600));
    request.heard(JitAnswer::Unclear { error: error(Some(429), "Throttled", ""), wait }, at(1));
    assert_eq!(usable(&request, at(1)), Usable::Waits { next_look: at(11) }, "as Azure says");
    request.take_look(at(11));
    request.heard(JitAnswer::Missing, at(11));
    assert_eq!(request.trouble(at(11)), Some(Trouble::Withdrawn), "missing twice");
}

#[test]
fn one_worker_files_and_another_takes_over_when_its_lease_is_over() {
    let mut request = wish(&application()).unwrap();
    assert_eq!(usable(&request, at(0)), Usable::Waits { next_look: at(3) });
    assert_eq!(usable(&request, at(3)), Usable::ToFile);
    assert!(!request.is_stale(at(1)) && request.is_stale(at(1) + Duration::from_secs(1)));
    request.take_filing(at(3));
    assert_eq!(usable(&request, at(3)), Usable::Waits { next_look: at(6) });
    let mut access = JitAccess::new(id());
    assert_eq!(access.usable(at(0)), Usable::Spent);
    access.ask(request.clone());
    access.ask(JitRequest { name: "renewed".into(), ..request });
    assert_eq!(access.requests.len(), 1, "what was never filed leaves no trace");
}

#[test]
fn a_refusal_right_after_the_approval_may_be_too_early() {
    let approved = filed("Approved");
    assert!(approved.is_settling(at(10) - Duration::from_secs(1)) && !approved.is_settling(at(10)));
    assert!(!filed("Pending").is_settling(at(0)));
}

#[test]
fn an_application_gets_six_requests_a_day_and_ten_are_remembered() {
    let mut access = JitAccess::new(id());
    for hour in 0..12 {
        let worn_out = access.is_worn_out(at(hour * 60));
        assert_eq!(worn_out, hour >= 6, "{hour}");
        access.ask(JitRequest { starts: at(hour * 60), ..filed("Approved") });
    }
    assert_eq!((access.requests.len(), access.requests[0].starts), (REMEMBERED, at(120)));
    assert!(access.is_worn_out(at(24 * 60)) && !access.is_worn_out(at((24 + 6) * 60)));
}

#[test]
fn who_waits_for_an_older_request_hears_what_became_of_that_one() {
    let mut access = JitAccess::new(id());
    access.ask(JitRequest { name: "first".into(), ..filed("Denied") });
    access.ask(JitRequest { name: "second".into(), ..filed("Approved") });
    assert_eq!(access.trouble_with("first", at(1)), Some(Trouble::Denied));
    assert_eq!((access.trouble_with("second", at(1)), access.trouble_with("never", at(1))), (None, None));
}

#[test]
fn a_stored_record_reads_back_as_it_was() {
    let mut access = JitAccess::new(id());
    for word in ["Pending", "Approved", "Denied", "Failed"] {
        access.ask(filed(word));
    }
    access.ask(wish(&application()).unwrap());
    let text = serde_json::to_string(&access).unwrap();
    assert_eq!(serde_json::from_str::<JitAccess>(&text).unwrap(), access);
}

#[test]
fn who_has_to_approve_is_told_with_both_places() {
    let by = |automatic, names: &[&str]| {
        Approval { automatic, approvers: names.iter().map(|&n| n.to_owned()).collect() }.who_and_where()
    };
    assert!(by(false, &["Ada", "Cloud duty"]).contains("by Ada or Cloud duty, in the Azure portal"));
    assert!(by(false, &[]).contains("an approver of the customer"));
    assert!(by(true, &["Ada"]).contains("automatically"));
}
