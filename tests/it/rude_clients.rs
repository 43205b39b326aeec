//! Clients that are slow, break off, or send too much, over real sockets to the real handler: the others do not notice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use permafresh::rollout::ApplicationId;
use serde_json::{Value, json};

use crate::handler_process::{Handler, SIG, command};
use crate::processes::{Home, until};
use crate::world::application;

/// As many slow ones of each kind, and as many deployments that others tell of meanwhile.
const MANY: usize = 150;
/// How much a notification may have.
const LIMIT: usize = 1024 * 1024;

fn head(length: usize) -> String {
    format!(
        "POST /api/notification/resource?sig={SIG} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

fn notification(id: &ApplicationId) -> String {
    json!({"eventType": "PUT", "applicationId": id, "eventTime": "2026-01-16T08:00:00Z", "provisioningState": "Succeeded"})
        .to_string()
}

/// A connection on which this much was sent.
fn sent(handler: &Handler, begin: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(begin.as_bytes()).unwrap();
    stream
}

fn status(stream: &mut TcpStream) -> String {
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8(line[9..].to_vec()).unwrap()
}

/// How often each deployment is in the registry.
fn registered(handler: &Handler) -> Vec<String> {
    let (status, body) = handler.call("GET", "/api/deployments?top=1000", String::new()).unwrap();
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    let ids = page["value"].as_array().unwrap().iter().map(|deployment| deployment["applicationId"].as_str().unwrap());
    let mut ids: Vec<_> = ids.map(str::to_ascii_lowercase).collect();
    ids.sort();
    ids
}

#[test]
fn slow_and_broken_clients_hold_up_nobody_and_register_nothing() {
    let home = Home::new();
    let handler = Handler::of(command(&home));
    until("an answer", || handler.is_up());
    let body = notification(&application(9_999));
    let half = &body[..body.len() / 2];
    let whole = head(body.len());

    // They stay until the end: in the middle of their heads, and in the middle of their bodies.
    let slow_heads: Vec<_> = (0..MANY).map(|_| sent(&handler, &whole[..whole.len() / 2])).collect();
    let mut slow_bodies: Vec<_> = (0..MANY).map(|_| sent(&handler, &format!("{whole}{half}"))).collect();
    for number in 0..MANY {
        // Broken off in the head and in the body, and no HTTP at all.
        drop(sent(&handler, &whole[..10]));
        sent(&handler, &format!("{whole}{half}")).shutdown(Shutdown::Both).unwrap();
        drop(sent(&handler, "\u{16}\u{3}\u{1}\u{2}\r\n\r\n"));
        let (answer, _) = handler
            .call("POST", &format!("/api/notification/resource?sig={SIG}"), notification(&application(number)))
            .unwrap();
        assert_eq!(answer, 200);
    }
    let mut expected: Vec<_> = (0..MANY).map(|number| application(number).to_string().to_ascii_lowercase()).collect();
    expected.sort();
    assert_eq!(registered(&handler), expected, "each once, and nothing of what was broken off");

    // Whoever was slow is served all the same.
    let mut last = slow_bodies.pop().unwrap();
    last.write_all(&body.as_bytes()[half.len()..]).unwrap();
    assert_eq!(status(&mut last), "200");
    assert_eq!(registered(&handler).len(), MANY + 1);
    drop((slow_heads, slow_bodies));
    handler.is_up().unwrap();
}

#[test]
fn a_body_over_the_limit_is_refused_before_all_of_it_has_come() {
    let home = Home::new();
    let handler = Handler::of(command(&home));
    until("the functions", || handler.call("GET", "/api/rollouts", String::new()));
    let blanks = " ".repeat(LIMIT + 1);
    // It promises a hundred times as much as it sends.
    for _ in 0..20 {
        let mut stream = sent(&handler, &head(100 * LIMIT));
        stream.write_all(blanks.as_bytes()).unwrap();
        assert_eq!(status(&mut stream), "413");
    }
    // At the limit it is read, and is no notification.
    let mut stream = sent(&handler, &head(LIMIT));
    stream.write_all(&blanks.as_bytes()[1..]).unwrap();
    assert_eq!(status(&mut stream), "400");
    handler.is_up().unwrap();
}
