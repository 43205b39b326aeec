//! Numbers of things in words, wherever people read them. Knows the regular English plurals, and no others.

/// `count` of something: `1 refresh`, `3 refreshes`, `0 days`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

/// The form of `noun` that stands behind `count`.
pub fn plural(count: u64, noun: &str) -> String {
    let hisses = ["s", "x", "sh", "ch"].iter().any(|end| noun.ends_with(end));
    match noun.strip_suffix('y') {
        _ if count == 1 => noun.to_owned(),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if hisses => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// What they `was` or `were`.
pub fn were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// How often: `once`, `3 times`.
pub fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_told_apart_from_none_and_from_many() {
        for (count, noun, expected) in [
            (0, "day", "0 days"),
            (1, "deployment", "1 deployment"),
            (2, "deployment", "2 deployments"),
            (1, "refresh", "1 refresh"),
            (7, "refresh", "7 refreshes"),
            (1, "try", "1 try"),
            (2, "try", "2 tries"),
            (3, "canary", "3 canaries"),
        ] {
            assert_eq!(counted(count, noun), expected);
        }
        assert_eq!([0, 1, 2].map(times), ["0 times", "once", "2 times"]);
        assert_eq!([0, 1, 2].map(were), ["were", "was", "were"]);
    }
}
