//! Route templates of HTTP functions: literals, `{x}`, `{x?}`, `{*path}`, and of constraints the one that names words,
//! `{x:regex(^(a|b)$)}`. It knows no methods, keys or functions.

use percent_encoding::percent_decode_str;

/// A parsed `route`, prefix included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTemplate {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter {
        name: String,
        presence: Presence,
    },
    /// One of some words, in any case, as ASP.NET Core's regex constraint ignores it.
    OneOf {
        name: String,
        words: Vec<String>,
    },
    CatchAll {
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

/// What the placeholders stood for, in the order of the template.
pub type RouteValues = Vec<(String, String)>;

/// A template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// It would hide the host's own addresses.
    #[error("route {route:?} is reserved for the host")]
    Reserved {
        /// The route.
        route: String,
    },
    /// A part of it is not understood.
    #[error("route {route:?} has a part the embedded host does not know: {part:?}")]
    Part {
        /// The route.
        route: String,
        /// The part.
        part: String,
    },
}

impl RouteTemplate {
    /// Reads a route below a prefix.
    ///
    /// # Errors
    /// If it starts with `admin` or `runtime` (contracts/custom-handler.md §4), or has other constraints, defaults or parts
    /// that are neither a literal nor a placeholder.
    pub fn parse(prefix: &str, route: &str) -> Result<Self, RouteError> {
        let first = route.trim_matches('/').split('/').next().unwrap_or_default();
        if ["admin", "runtime"].iter().any(|own| first.eq_ignore_ascii_case(own)) {
            return Err(RouteError::Reserved { route: route.to_owned() });
        }
        let parts: Vec<&str> = [prefix, route].into_iter().flat_map(|text| text.split('/')).collect();
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let mut segments = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            let segment = Segment::parse(part).filter(|segment| last || segment.may_be_followed());
            segments
                .push(segment.ok_or_else(|| RouteError::Part { route: route.to_owned(), part: (*part).to_owned() })?);
        }
        Ok(Self { segments })
    }

    /// What the placeholders stand for if the path matches; literals match in any case, `{*path}` matches nothing too.
    pub fn matches(&self, path: &str) -> Option<RouteValues> {
        let mut rest = path.trim_start_matches('/');
        let mut values = Vec::new();
        for segment in &self.segments {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                Segment::Literal(literal) if literal.eq_ignore_ascii_case(&decoded(part)) => {}
                Segment::Literal(_) => return None,
                Segment::Parameter { presence: Presence::Optional, .. } if part.is_empty() => {}
                Segment::Parameter { .. } if part.is_empty() => return None,
                Segment::Parameter { name, .. } => values.push((name.clone(), decoded(part))),
                Segment::OneOf { name, words } => {
                    let part = decoded(part);
                    if !words.iter().any(|word| word.eq_ignore_ascii_case(&part)) {
                        return None;
                    }
                    values.push((name.clone(), part));
                }
                Segment::CatchAll { name } => {
                    if !rest.is_empty() {
                        values.push((name.clone(), decoded(rest)));
                    }
                    return Some(values);
                }
            }
            rest = after;
        }
        rest.is_empty().then_some(values)
    }
}

impl Segment {
    fn parse(part: &str) -> Option<Self> {
        let Some(inner) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            return (!part.contains(['{', '}'])).then(|| Self::Literal(part.to_owned()));
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(plain);
        if let Some((name, constraint)) = inner.split_once(':') {
            let words = constraint.strip_prefix("regex(^(")?.strip_suffix(")$)")?.split('|');
            let words: Vec<String> = words.map(str::to_owned).collect();
            let is_known = is_plain(name) && words.iter().all(|word| is_plain(word));
            return is_known.then(|| Self::OneOf { name: name.to_owned(), words });
        }
        let (kind, name) = match (inner.strip_prefix('*'), inner.strip_suffix('?')) {
            (Some(name), _) => (None, name.trim_start_matches('*')),
            (None, Some(name)) => (Some(Presence::Optional), name),
            (None, None) => (Some(Presence::Required), inner),
        };
        if !is_plain(name) {
            return None;
        }
        let name = name.to_owned();
        Some(match kind {
            Some(presence) => Self::Parameter { name, presence },
            None => Self::CatchAll { name },
        })
    }

    fn may_be_followed(&self) -> bool {
        !matches!(self, Self::CatchAll { .. } | Self::Parameter { presence: Presence::Optional, .. })
    }
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_templates() {
        for (route, path, values) in [
            ("orders", "/api/orders", Some(vec![])),
            ("orders", "/API/Orders", Some(vec![])),
            ("orders", "/api/orders/", Some(vec![])),
            ("orders", "/api/orders/7", None),
            ("orders", "/orders", None),
            ("orders/{id}", "/api/orders/7", Some(vec![("id", "7")])),
            ("orders/{id}", "/api/orders/a%20b", Some(vec![("id", "a b")])),
            ("orders/{id}", "/api/orders", None),
            ("orders/{id}", "/api/orders/", None),
            ("orders/{id}", "/api/orders/7/8", None),
            ("orders/{id?}", "/api/orders", Some(vec![])),
            ("orders/{id?}", "/api/orders/7", Some(vec![("id", "7")])),
            ("{a}/x/{b}", "/api/1/x/2", Some(vec![("a", "1"), ("b", "2")])),
            ("orders/{*path}", "/api/orders", Some(vec![])),
            ("orders/{*path}", "/api/orders/7/lines", Some(vec![("path", "7/lines")])),
            ("orders/{*path}", "/api/ordersx", None),
            ("/orders/", "/api/orders", Some(vec![])),
            ("{verb:regex(^(stop|start)$)}", "/api/stop", Some(vec![("verb", "stop")])),
            ("{verb:regex(^(stop|start)$)}", "/api/Start", Some(vec![("verb", "Start")])),
            ("{verb:regex(^(stop|start)$)}", "/api/starting", None),
            ("{verb:regex(^(stop|start)$)}", "/api/stop/now", None),
            ("{verb:regex(^(stop|start)$)}", "/api", None),
        ] {
            let template = RouteTemplate::parse("api", route).expect("the table has valid routes");
            let expected = values.map(|pairs| {
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<RouteValues>()
            });
            assert_eq!(template.matches(path), expected, "{route} {path}");
        }
    }

    #[test]
    fn an_empty_prefix_leaves_the_route_alone() {
        let template = RouteTemplate::parse("", "orders").expect("this is valid");
        assert_eq!(template.matches("/orders"), Some(vec![]));
    }

    #[test]
    fn routes_of_the_hosts_own_and_unknown_parts_are_refused() {
        for route in ["admin", "admin/x", "Runtime/y", "/admin"] {
            let refused = RouteTemplate::parse("api", route);
            assert_eq!(refused, Err(RouteError::Reserved { route: route.to_owned() }));
        }
        for (route, part) in [
            ("{id:int}", "{id:int}"),
            ("{id:regex(^[ab]$)}", "{id:regex(^[ab]$)}"),
            ("{id:regex(^(a|.*)$)}", "{id:regex(^(a|.*)$)}"),
            ("{id:regex(^(a|)$)}", "{id:regex(^(a|)$)}"),
            ("a{b}c", "a{b}c"),
            ("{}", "{}"),
            ("{*rest}/more", "{*rest}"),
            ("{id?}/more", "{id?}"),
        ] {
            let refused = RouteTemplate::parse("api", route);
            assert_eq!(refused, Err(RouteError::Part { route: route.to_owned(), part: part.to_owned() }));
        }
        assert!(RouteTemplate::parse("api", "administration").is_ok());
    }
}
