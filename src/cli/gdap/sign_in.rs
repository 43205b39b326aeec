//! `permafresh gdap sign-in`: mints the refresh token, and puts it straight into the vault.

use std::future::IntoFuture as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::SETTINGS;
use crate::access::gdap::sign_in::{SignIn, SignInError, scope};
use crate::access::gdap::{Gdap, GdapError};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{print_json, say};
use crate::engine::Engine;
use crate::rollout::counted;

const NOTES: &str = "\
The app registration needs the redirect URI http://localhost under \"Mobile and desktop
applications\". Sign in as the service's own user, with a second factor; it has to be a member of
AdminAgents, and of the security group that your GDAP relationships name.

Examples:
  permafresh gdap sign-in

Exit codes:
  0  the token is in the vault
  1  the sign-in was refused, or is worth nothing
  2  the command line or a setting is wrong
  4  Entra or the vault cannot be reached";

/// Sign in as the service's user, and keep the refresh token in the vault
///
/// Prints an address for your browser and waits until you come back from it. The token is never shown; it is renewed every
/// day from then on, and lasts until it is revoked or not renewed for 90 days.
#[derive(Debug, Args)]
#[command(after_help = format!("{NOTES}\n\n{SETTINGS}"))]
pub struct SignInArgs {
    /// How long to wait for the browser, in seconds
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS")]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Waits for the browser, and keeps what it brings.
pub async fn run(args: &SignInArgs, engine: &Engine, gdap: &Gdap) -> Result<Exit, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen for the browser");
    let listener = listener.map_err(|error| Failure::new(error, "check the limits of this process"))?;
    let port = listener
        .local_addr()
        .context("cannot listen for the browser")
        .map_err(|error| Failure::new(error, "try again"))?
        .port();
    let sign_in = SignIn::new(format!("http://localhost:{port}"));
    let endpoint = gdap.broker().endpoint();
    let url = sign_in.url(&endpoint.authority, gdap.partner_tenant(), &endpoint.client_id);
    say(&format!("Open this address, and sign in as the service's user with a second factor:\n\n  {url}\n"));

    let code = tokio::time::timeout(Duration::from_secs(args.timeout), answer(listener, &sign_in)).await;
    let code = match code {
        Ok(code) => code.map_err(refused)?,
        Err(_) => {
            let error = anyhow::anyhow!("nobody came back within {} s", args.timeout);
            return Err(Failure::new(error, "run it again, or give more time with --timeout"));
        }
    };
    let tenant = gdap.partner_tenant();
    let tokens = endpoint.code(tenant, &code, sign_in.verifier(), sign_in.redirect(), &scope()).await;
    let tokens = tokens.map_err(|error| {
        let hint = "check GDAP_CLIENT_ID, how the app proves itself, and its redirect URI http://localhost";
        Failure::new(error, hint)
    })?;
    let (refresh_token, user) = sign_in.accept(tokens, tenant).map_err(refused)?;
    let replaced = gdap.broker().vault().replace(&refresh_token, user.as_deref(), engine.now()).await;
    if let Err(error) = replaced.map_err(GdapError::from)? {
        say(&format!("The token is kept, but the one before could not be switched off: {error}"));
    }
    say("The token is in the vault, and the service uses it from now on.");
    let resumed = engine.resume_consents().await?;
    if resumed > 0 {
        say(&format!("{} that had stood still for want of it go on.", counted(resumed as u64, "customer")));
    }
    if args.json {
        print_json(&json!({"user": user, "resumedCustomers": resumed}))?;
    }
    Ok(Exit::Success)
}

fn refused(error: SignInError) -> Failure {
    let hint = match &error {
        SignInError::NoSecondFactor => "switch multifactor authentication on for this user, and sign in again",
        SignInError::OtherTenant(_) => "sign in as a user of your own tenant",
        _ => "run it again, and finish it in the same browser",
    };
    Failure::new(error, hint)
}

/// The code that the browser brings. Who brings something else is told so, and waited for.
async fn answer(listener: TcpListener, sign_in: &SignIn) -> Result<String, SignInError> {
    let (sender, mut receiver) = mpsc::channel::<(String, mpsc::Sender<Response>)>(4);
    let take = move |RawQuery(query): RawQuery| {
        let sender = sender.clone();
        async move {
            let (reply, mut replies) = mpsc::channel(1);
            let sent = sender.send((query.unwrap_or_default(), reply)).await;
            match sent {
                Ok(()) => replies.recv().await.unwrap_or_else(|| StatusCode::GONE.into_response()),
                Err(_) => StatusCode::GONE.into_response(),
            }
        }
    };
    let server = tokio::spawn(axum::serve(listener, Router::new().route("/", get(take))).into_future());
    let code = loop {
        let Some((query, reply)) = receiver.recv().await else { break Err(SignInError::NoCode) };
        let code = sign_in.code(&query);
        let (status, text) = match &code {
            Ok(_) => (StatusCode::OK, "You are signed in. Close this page, and look at the terminal."),
            Err(SignInError::OtherState) => (StatusCode::BAD_REQUEST, "This belongs to another sign-in."),
            Err(_) => (StatusCode::BAD_REQUEST, "The sign-in did not work. The terminal says more."),
        };
        let page = Html(format!("<!doctype html><meta charset=\"utf-8\"><title>Permafresh</title><p>{text}</p>\n"));
        let _ = reply.send((status, page).into_response()).await;
        if !matches!(code, Err(SignInError::OtherState)) {
            break code;
        }
    };
    // The page has to leave before its server goes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.abort();
    code
}
