//! Reads a Rust file as tokens, so that comments and strings are never taken for code. Judges nothing.

use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

/// One word, sign or literal of a file, without its groups' nesting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As it is written; a group's begin and end are tokens of their own.
    pub text: String,
    /// The line it stands on, from 1.
    pub line: usize,
}

/// The tokens of `source` without what is under `#[cfg(test)]`.
pub fn tokens_outside_tests(path: &str, source: &str) -> Vec<Token> {
    let stream = TokenStream::from_str(source).unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens
}

/// Whether `pattern`, tokens with spaces between, stands at the beginning of `tokens`.
pub fn begins_with(tokens: &[Token], pattern: &str) -> bool {
    let mut rest = tokens.iter();
    pattern.split(' ').all(|wanted| rest.next().is_some_and(|token| token.text == wanted))
}

/// The lines on which `pattern` begins.
pub fn lines_with(tokens: &[Token], pattern: &str) -> Vec<usize> {
    (0..tokens.len()).filter(|&at| begins_with(&tokens[at..], pattern)).map(|at| tokens[at].line).collect()
}

/// The modules at the top of the crate that a file names, each with its line: `crate::x`, `crate::{x, y}` and as many
/// `super::` as lead to the top from `path`, a path below `src/`.
pub fn crate_modules(path: &str, tokens: &[Token]) -> Vec<(String, usize)> {
    let to_the_top = "super : : ".repeat(depth(path));
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let rest = &tokens[at..];
        let skip = if begins_with(rest, "crate : :") {
            3
        } else if !to_the_top.is_empty()
            && begins_with(rest, to_the_top.trim_end())
            && !(at >= 3 && begins_with(&tokens[at - 3..], "super : :"))
        {
            3 * depth(path)
        } else {
            continue;
        };
        first_names(&rest[skip..], &mut found);
    }
    found
}

/// The names a path goes on with: one word, or the first word of each entry of a group.
fn first_names(tokens: &[Token], found: &mut Vec<(String, usize)>) {
    let Some(first) = tokens.first() else { return };
    if first.text != "{" {
        found.push((first.text.clone(), first.line));
        return;
    }
    let mut nesting = 0;
    let mut expects_name = false;
    for token in tokens {
        match token.text.as_str() {
            "{" => {
                nesting += 1;
                expects_name = nesting == 1;
            }
            "}" => {
                nesting -= 1;
                if nesting == 0 {
                    return;
                }
            }
            "," => expects_name = nesting == 1,
            _ if expects_name => {
                found.push((token.text.clone(), token.line));
                expects_name = false;
            }
            _ => {}
        }
    }
}

/// How many modules deep the items of a file below `src/` are.
fn depth(path: &str) -> usize {
    let parts = path.trim_end_matches(".rs").split('/').filter(|part| !matches!(*part, "src" | "mod"));
    parts.filter(|part| !matches!(*part, "lib" | "main")).count()
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let is_test_only = matches!(&tree, TokenTree::Punct(sign) if sign.as_char() == '#')
            && matches!(trees.peek(), Some(TokenTree::Group(group)) if group.to_string().replace(' ', "") == "[cfg(test)]");
        if is_test_only {
            // The item ends with its body, or with a semicolon if it has none.
            for tree in trees.by_ref().skip(1) {
                let ends = match &tree {
                    TokenTree::Group(group) => group.delimiter() == proc_macro2::Delimiter::Brace,
                    TokenTree::Punct(sign) => sign.as_char() == ';',
                    _ => false,
                };
                if ends {
                    break;
                }
            }
            continue;
        }
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                into.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), into);
                into.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            other => into.push(Token { text: other.to_string(), line }),
        }
    }
}
