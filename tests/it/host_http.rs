//! HTTP functions: routes, keys, and requests that are passed on as they are.

use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use http::{Request, Response};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};

use crate::host_stub::{DEADLINE, Ground, KEY, Stub, ask, done, get, http_function, reply_with};

#[tokio::test]
async fn a_proxied_request_arrives_as_it_was_sent_but_for_what_belongs_to_the_connection() {
    let stub = Stub::answering(|_| reply_with(200, None, "")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f/{*path}"))]);
    let host = ground.start().await;
    let request = Request::put("/api/f/a%2Fb/c?x=1&x=2&y=%20")
        .header("host", "example.test:81")
        .header("user-agent", "curl/8.5.0")
        .header("x-twice", "1")
        .header("x-twice", "2")
        .header("x-azure-functions-invocationid", "forged")
        .header("x-forwarded-host", "forged")
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(Body::from("the body"))
        .expect("this is valid");
    assert_eq!(ask(&host, request).await.status, 200);

    let call = stub.calls().remove(0);
    assert_eq!((call.method.as_str(), call.path.as_str()), ("PUT", "/api/f/a%2Fb/c?x=1&x=2&y=%20"));
    assert_eq!((call.body.as_slice(), call.header("user-agent")), (&b"the body"[..], "curl/8.5.0"));
    assert_eq!(call.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert!(uuid::Uuid::try_parse(call.header("x-azure-functions-invocationid")).is_ok());
    assert!(call.header("x-azure-functions-hostversion").starts_with("4."));
    assert_eq!((call.header("x-forwarded-host"), call.header("x-forwarded-proto")), ("example.test:81", "http"));
    let port = &stub.starts()[0].variables["FUNCTIONS_CUSTOMHANDLER_PORT"];
    assert_eq!(call.header("host"), format!("127.0.0.1:{port}"));
    assert!(call.headers.get("x-private").is_none());
}

#[tokio::test]
async fn any_status_and_header_of_a_proxied_response_is_passed_on() {
    let stub = Stub::answering(|call| {
        let status = call.path.rsplit('/').next().unwrap_or_default();
        let response = Response::builder().status(status).header("location", "/elsewhere").header("set-cookie", "a=1");
        response.header("set-cookie", "b=2").body(Body::from(status.to_owned())).expect("this is valid")
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f/{status}"))]);
    let host = ground.start().await;
    for status in [200, 201, 302, 307, 400, 404, 418, 500, 503] {
        let got = get(&host, &format!("/api/f/{status}")).await;
        assert_eq!((got.status, got.body.as_str()), (status, status.to_string().as_str()));
        assert_eq!(got.headers["location"], "/elsewhere");
        assert_eq!(got.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    }
}

#[tokio::test]
async fn bodies_stream_through_both_ways() {
    let stub = Stub::answering(|_| {
        let pieces = futures_util::stream::iter(["one", "two"].map(Ok::<_, std::io::Error>));
        Response::new(Body::from_stream(pieces.chain(futures_util::stream::pending())))
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    // Chunked, without a length.
    let (pieces, received) = mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    let body = Body::from_stream(futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|piece| (piece, received))
    }));
    for piece in ["upload ", "in pieces"] {
        pieces.send(Ok(Bytes::from(piece))).expect("the body is read");
    }
    drop(pieces);
    let mut request = Request::post(format!("http://{}/api/f", host.local_addr())).body(body).expect("this is valid");
    request.headers_mut().insert("x-functions-key", http::HeaderValue::from_static(KEY));
    let client = permafresh::host::client::HandlerClient::default();
    let response = client.send(host.local_addr().port(), request).await.expect("the host answers");
    assert_eq!(stub.calls()[0].body, b"upload in pieces");
    // The response never ends, but what there is of it arrives.
    let mut arrived = Vec::new();
    let mut stream = response.into_body().into_data_stream();
    while arrived.len() < 6 {
        let piece = tokio::time::timeout(DEADLINE, stream.next()).await.expect("the response streams");
        arrived.extend(piece.expect("it goes on").expect("it is not broken"));
    }
    assert_eq!(arrived, b"onetwo");
}

#[tokio::test]
async fn routes_and_methods_decide_and_what_fits_none_is_404() {
    let stub = Stub::answering(|call| reply_with(200, None, &call.path)).await;
    let functions = [
        ("Beta", http_function("things/{id}")),
        ("Alpha", http_function("things/{*path}")),
        (
            "Plain",
            json!({"bindings": [
                {"name": "req", "type": "httpTrigger", "authLevel": "anonymous", "methods": ["get"]},
                {"name": "res", "type": "http", "direction": "out"}
            ]}),
        ),
    ];
    let ground = Ground::new(&stub, &json!({"extensions": {"http": {"routePrefix": "v1"}}}), &functions);
    let host = ground.start().await;
    for (method, path, status) in [
        ("GET", "/v1/things", 200),
        ("GET", "/v1/things/1/2", 200),
        ("DELETE", "/v1/things/1", 200),
        ("GET", "/v1/plain", 200),
        ("GET", "/V1/PLAIN", 200),
        ("POST", "/v1/plain", 404),
        ("HEAD", "/v1/plain", 404),
        ("GET", "/api/plain", 404),
        ("GET", "/plain", 404),
        ("GET", "/v1", 404),
        ("GET", "/admin/host/status", 404),
        ("GET", "/", 200),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("the table is valid");
        assert_eq!(ask(&host, request).await.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn callers_without_a_valid_key_are_turned_away_before_the_handler() {
    let stub = Stub::answering(|_| reply_with(200, None, "")).await;
    let with_level = |level: &str| {
        json!({"bindings": [
            {"name": "req", "type": "httpTrigger", "authLevel": level},
            {"name": "res", "type": "http", "direction": "out"}
        ]})
    };
    let unsaid = json!({"bindings": [
        {"name": "req", "type": "httpTrigger"}, {"name": "res", "type": "http", "direction": "out"}
    ]});
    let functions = [
        ("Open", with_level("anonymous")),
        ("Keyed", with_level("function")),
        ("Admin", with_level("admin")),
        ("Unsaid", unsaid),
    ];
    // Its default route would be one of the host's own.
    let ground = Ground::new(&stub, &json!({}), &functions);
    let host = ground.start().await;
    assert_eq!(host.functions_in_error().len(), 1);
    assert_eq!(get(&host, "/api/open").await.status, 200);
    for function in ["keyed", "unsaid"] {
        let before = stub.calls().len();
        assert_eq!(get(&host, &format!("/api/{function}")).await.status, 401);
        assert_eq!(get(&host, &format!("/api/{function}?code=wrong")).await.status, 401);
        assert_eq!(stub.calls().len(), before);
        assert_eq!(get(&host, &format!("/api/{function}?code={KEY}")).await.status, 200);
        let with_header = Request::get(format!("/api/{function}")).header("x-functions-key", KEY);
        assert_eq!(ask(&host, with_header.body(Body::empty()).expect("this is valid")).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    get(&host, "/api/f").await;
    let megabyte = vec![b'x'; 1024 * 1024];

    let mut connection = TcpStream::connect(host.local_addr()).await.expect("the host listens");
    let head = "POST /api/f HTTP/1.1\r\nhost: x\r\ncontent-length: 104857601\r\n\r\n";
    connection.write_all(head.as_bytes()).await.expect("the host reads");
    assert_eq!(status_line(&mut connection).await, "HTTP/1.1 413");

    let pieces = futures_util::stream::iter((0..101).map(move |_| Ok::<_, std::io::Error>(megabyte.clone())));
    let request = Request::post("/api/f").body(Body::from_stream(pieces)).expect("this is valid");
    assert_eq!(ask(&host, request).await.status, 413);
    assert_eq!(get(&host, "/api/f").await.status, 200);
}

async fn status_line(connection: &mut TcpStream) -> String {
    let mut start = [0; 12];
    tokio::time::timeout(DEADLINE, connection.read_exact(&mut start)).await.expect("in time").expect("an answer");
    String::from_utf8_lossy(&start).into_owned()
}

#[tokio::test]
async fn e8_a_failed_proxied_invocation_is_500_and_empty() {
    let stub = Stub::awaiting(|_| Box::pin(std::future::pending())).await;
    let changes = json!({"functionTimeout": "00:00:01"});
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]);
    let host = ground.start().await;
    let got = get(&host, "/api/f").await;
    assert_eq!((got.status, got.body.as_str()), (500, ""));
    // Two seconds later the handler is killed and started again, and that is no crash.
    stub.wait_for_starts(2).await;
}
