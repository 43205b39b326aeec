//! The documents: every link within the repository leads somewhere, to its very heading, and every document is reached from
//! the README. Checks no prose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{expect_none, root, text_files};

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let pages = BTreeMap::from([
        ("a.md".to_owned(), "[b](docs/b.md#its-head--tail) [c](missing.md) ![p](docs/p.png) <https://x>".to_owned()),
        (
            "docs/b.md".to_owned(),
            "# Its *head* – `tail`\n[a](../a.md#none)\n```\n[not](a-link)\n```\n`[nor](this)`".to_owned(),
        ),
    ]);
    assert_eq!(
        link_problems(&pages, |path| path == "docs/p.png"),
        ["a.md: missing.md is not there", "docs/b.md: ../a.md#none: there is no such heading"]
    );

    let pages = documents();
    assert!(pages.values().map(|text| links(text).len()).sum::<usize>() > 20, "links are found");
    expect_none(link_problems(&pages, |path| root().join(path).exists()));
}

#[test]
fn every_document_is_reached_from_the_readme() {
    let pages = BTreeMap::from([
        ("README.md".to_owned(), "[b](docs/b.md)".to_owned()),
        ("docs/b.md".to_owned(), "[c](c.md)".to_owned()),
        ("docs/c.md".to_owned(), String::new()),
        ("docs/d.md".to_owned(), "[c](c.md)".to_owned()),
    ]);
    assert_eq!(reached(&pages), BTreeSet::from(["README.md", "docs/b.md", "docs/c.md"].map(str::to_owned)));

    let pages = documents();
    let reached = reached(&pages);
    let lost = pages.keys().filter(|path| !reached.contains(*path));
    expect_none(lost.map(|path| format!("{path} is linked from nowhere that the README leads to")));
    let readme = links(&pages["README.md"]).into_iter().filter_map(|link| Some(resolved("README.md", &link)?.0));
    let named: BTreeSet<_> = readme.collect();
    let unnamed = pages.keys().filter(|path| path.starts_with("docs/") && !named.contains(*path));
    expect_none(unnamed.map(|path| format!("README.md does not name {path}")));
}

/// The documents of the repository, by their paths.
fn documents() -> BTreeMap<String, String> {
    text_files().into_iter().filter(|(path, _)| path.ends_with(".md")).collect()
}

fn link_problems(pages: &BTreeMap<String, String>, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (page, text) in pages {
        for link in links(text) {
            let Some((path, heading)) = resolved(page, &link) else { continue };
            match pages.get(&path) {
                Some(target) if heading.as_ref().is_some_and(|heading| !headings(target).contains(heading)) => {
                    problems.push(format!("{page}: {link}: there is no such heading"));
                }
                None if !is_there(&path) => problems.push(format!("{page}: {link} is not there")),
                _ => {}
            }
        }
    }
    problems
}

fn reached(pages: &BTreeMap<String, String>) -> BTreeSet<String> {
    let (mut reached, mut next) = (BTreeSet::new(), vec!["README.md".to_owned()]);
    while let Some(page) = next.pop() {
        let Some(text) = pages.get(&page) else { continue };
        if reached.insert(page.clone()) {
            next.extend(links(text).iter().filter_map(|link| Some(resolved(&page, link)?.0)));
        }
    }
    reached
}

/// What a link of a page means: the path from the root, and the heading. None for what lies elsewhere.
fn resolved(page: &str, link: &str) -> Option<(String, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading.to_owned())));
    if path.is_empty() {
        return Some((page.to_owned(), heading));
    }
    let mut whole = PathBuf::new();
    for part in Path::new(page).parent().unwrap_or(Path::new("")).join(path).components() {
        match part {
            Component::ParentDir => _ = whole.pop(),
            part => whole.push(part),
        }
    }
    Some((whole.to_str()?.to_owned(), heading))
}

/// The targets of the links of a page; what stands in code is none.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        let outside: String = line.split('`').step_by(2).collect();
        let mut rest = outside.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else { break };
            links.push(target.split_whitespace().next().unwrap_or_default().to_owned());
            rest = tail;
        }
    }
    links
}

/// The headings of a page as links name them.
fn headings(text: &str) -> BTreeSet<String> {
    let heads = prose(text).filter_map(|line| Some(line.trim_start_matches('#')).filter(|_| line.starts_with('#')));
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heads
        .map(|head| head.trim().to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-"))
        .collect()
}

/// The lines outside of fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}
