//! The form of every list: `?top=` and `continuation` in, `nextLink` out (design §8).

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::api::{DEFAULT_TOP, MAX_TOP, Problem};
use super::problem;
use crate::store::PageRequest;

/// The query that every list takes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ListQuery {
    /// At most so many items; text, since a flattened query gives no numbers.
    top: Option<String>,
    /// Where the page before ended.
    continuation: Option<String>,
}

impl ListQuery {
    /// Whether it asks for no page in particular.
    pub fn is_default(&self) -> bool {
        self.top.is_none() && self.continuation.is_none()
    }

    /// The page that is asked for.
    pub fn page_request(&self) -> Result<PageRequest, Problem> {
        let top = match &self.top {
            None => DEFAULT_TOP,
            Some(text) => match text.parse() {
                Ok(top) if (1..=MAX_TOP).contains(&top) => top,
                _ => return Err(problem::invalid_field("top", format!("expected a number from 1 to {MAX_TOP}"))),
            },
        };
        Ok(PageRequest { continuation: self.continuation.clone(), top })
    }
}

/// The link to the next page: relative, with the same filter.
pub fn next_link(path: &str, filter: &[(&str, &str)], query: &ListQuery, continuation: &str) -> String {
    let top = query.top.as_deref().map(|top| ("top", top));
    let pairs = filter.iter().copied().chain(top).chain([("continuation", continuation)]);
    let query: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
    format!("{path}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_has_edges() {
        let page = |top: &str| ListQuery { top: Some(top.into()), continuation: None }.page_request();
        for good in ["1", "1000"] {
            assert!(page(good).is_ok());
        }
        for bad in ["0", "1001", "-1", "x", ""] {
            assert!(page(bad).is_err(), "{bad}");
        }
        assert_eq!(ListQuery::default().page_request().unwrap().top, 100);
    }

    #[test]
    fn a_link_keeps_the_filter_and_escapes_what_it_carries() {
        let query = ListQuery { top: Some("5".into()), continuation: None };
        let link = next_link("/api/x", &[("state", "failed")], &query, "a&b=c");
        assert_eq!(link, "/api/x?state=failed&top=5&continuation=a%26b%3Dc");
    }
}
