//! The files that pages are shown with: one style, one script, one icon. The same for everybody, and nothing of anybody's.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::html::entry;

const FILES: [(&str, &str, &str); 3] = [
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("script.js", "text/javascript; charset=utf-8", include_str!("script.js")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// `GET /api/dashboard/assets/{name}`.
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.into_iter().find(|(known, ..)| *known == name) else {
        return entry::missing("There is no such file.").into_response();
    };
    let hash: String = Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{hash}\"");
    let caching = [
        (header::ETAG, HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""))),
        // Kept, but asked for again: a new version of the service has new files.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Whatever stands between may have made it a weak one.
    if known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, kind)], text).into_response()
}
