//! Values with the place they stand at, seen through ARM's references to parameters and variables.
//!
//! `[parameters('x')]`, `[variables('x').y[0]]` and the like are followed to what they name. Nothing is computed: whatever
//! else is an expression is known only when Azure deploys it, so nothing is said about it.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Map, Value};

/// How many references in a row are followed.
const DEEPEST: usize = 32;
/// How many references of one template are followed in all: each may lead to several.
const MOST_FOLLOWED: u32 = 1_000_000;

/// A value, and where it was found.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// The file.
    pub file: Rc<str>,
    /// The JSON path in it.
    pub path: String,
    content: Content<'a>,
    scope: Option<Rc<Scope<'a>>>,
}

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Absent,
    Value(&'a Value),
    /// Known only when it is deployed.
    Computed,
}

/// What a text turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// It is not there.
    Absent,
    /// It is known only when it is deployed.
    Computed,
    /// It is something else than a text.
    Wrong,
    /// It.
    Is(&'a str),
}

/// What a list turned out to be.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// It is not there.
    Absent,
    /// It is known only when it is deployed.
    Computed,
    /// It is something else than a list.
    Wrong,
    /// It.
    Of(Vec<Node<'a>>),
}

/// What names mean in a template. Names do not heed case.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    parameters: HashMap<String, Bound<'a>>,
    variables: HashMap<String, Bound<'a>>,
    followed: Cell<u32>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Bound<'a> {
    /// What the template itself says, with expressions of its own scope: a variable, a default.
    Here(Node<'a>),
    /// What was given from outside, as it is.
    Given(Node<'a>),
}

impl<'a> Scope<'a> {
    /// Names a parameter.
    pub fn parameter(&mut self, name: &str, bound: Bound<'a>) {
        self.parameters.insert(name.to_ascii_lowercase(), bound);
    }

    /// Names a variable.
    pub fn variable(&mut self, name: &str, node: Node<'a>) {
        self.variables.insert(name.to_ascii_lowercase(), Bound::Here(node));
    }

    fn follow(self: &Rc<Self>, reference: &Reference<'_>) -> Option<Node<'a>> {
        let names = if reference.variable { &self.variables } else { &self.parameters };
        self.followed.set(self.followed.get().saturating_add(1));
        if self.followed.get() > MOST_FOLLOWED {
            return None;
        }
        Some(match names.get(&reference.name.to_ascii_lowercase())? {
            Bound::Here(node) => node.clone().within(Rc::clone(self)),
            Bound::Given(node) => node.clone(),
        })
    }
}

impl<'a> Node<'a> {
    /// The whole of a file, in which nothing is an expression.
    pub fn root(file: &str, value: &'a Value) -> Self {
        Self { file: file.into(), path: "$".to_owned(), content: Content::Value(value), scope: None }
    }

    /// The same, with expressions that mean what `scope` says.
    pub fn within(self, scope: Rc<Scope<'a>>) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// The same place, with what is there only at deployment.
    pub fn computed(self) -> Self {
        Self { content: Content::Computed, ..self }
    }

    /// Whether it is not there; `null` is not.
    pub fn is_absent(&self) -> bool {
        matches!(self.content, Content::Absent)
    }

    /// Whether it is known only when it is deployed.
    pub fn is_computed(&self) -> bool {
        matches!(self.content, Content::Computed)
    }

    /// As an object.
    pub fn object(&self) -> Option<&'a Map<String, Value>> {
        match self.content {
            Content::Value(value) => value.as_object(),
            Content::Absent | Content::Computed => None,
        }
    }

    /// As a text.
    pub fn text(&self) -> Text<'a> {
        match self.content {
            Content::Absent => Text::Absent,
            Content::Computed => Text::Computed,
            Content::Value(Value::String(text)) => Text::Is(text),
            Content::Value(_) => Text::Wrong,
        }
    }

    /// As a list.
    pub fn list(&self) -> List<'a> {
        match self.content {
            Content::Absent => List::Absent,
            Content::Computed => List::Computed,
            Content::Value(Value::Array(items)) => List::Of(self.items(items)),
            Content::Value(_) => List::Wrong,
        }
    }

    /// The values of a list or of an object: ARM takes both for resources.
    pub fn each(&self) -> Vec<Node<'a>> {
        match self.content {
            Content::Value(Value::Array(items)) => self.items(items),
            Content::Value(Value::Object(members)) => {
                members.iter().map(|(name, value)| self.child(step(name), value).followed(0)).collect()
            }
            Content::Value(_) | Content::Absent | Content::Computed => Vec::new(),
        }
    }

    /// A member of an object, in any case; a property that a `copy` makes is computed.
    pub fn member(&self, name: &str) -> Node<'a> {
        self.raw_member(name).followed(0)
    }

    /// A member as it is written, which may be an expression.
    pub fn raw_member(&self, name: &str) -> Node<'a> {
        let path = format!("{}{}", self.path, step(name));
        let absent = |content| Node { file: Rc::clone(&self.file), path, content, scope: self.scope.clone() };
        let object = match self.content {
            Content::Computed => return absent(Content::Computed),
            Content::Value(Value::Object(object)) => object,
            Content::Value(_) | Content::Absent => return absent(Content::Absent),
        };
        if let Some((key, value)) = entry(object, name) {
            return self.child(step(key), value);
        }
        let copies = entry(object, "copy").and_then(|(_, copies)| copies.as_array());
        let is_made = copies.is_some_and(|copies| copies.iter().any(|copy| copy["name"].as_str() == Some(name)));
        absent(if is_made { Content::Computed } else { Content::Absent })
    }

    fn items(&self, items: &'a [Value]) -> Vec<Node<'a>> {
        items.iter().enumerate().map(|(at, item)| self.child(format!("[{at}]"), item).followed(0)).collect()
    }

    fn child(&self, step: String, value: &'a Value) -> Node<'a> {
        let content = if value.is_null() { Content::Absent } else { Content::Value(value) };
        Node { file: Rc::clone(&self.file), path: self.path.clone() + &step, content, scope: self.scope.clone() }
    }

    /// What it refers to, if it is a reference.
    fn followed(self, depth: usize) -> Node<'a> {
        let (Some(scope), Text::Is(text)) = (self.scope.clone(), self.text()) else { return self };
        let Some(expression) = expression(text) else { return self };
        let named = reference(expression).filter(|_| depth < DEEPEST).and_then(|reference| {
            let target = scope.follow(&reference)?.followed(depth + 1);
            Some(reference.steps.into_iter().fold(target, |node, step| match step {
                Step::Member(name) => node.raw_member(name).followed(depth + 1),
                Step::Item(at) => node.item(at).followed(depth + 1),
            }))
        });
        match named {
            Some(node) if !node.is_absent() => node,
            // Also where the name leads nowhere: Azure says so better than we could.
            _ => self.computed(),
        }
    }

    fn item(&self, at: usize) -> Node<'a> {
        match self.content {
            Content::Value(Value::Array(items)) if at < items.len() => self.child(format!("[{at}]"), &items[at]),
            Content::Value(_) | Content::Absent | Content::Computed => self.clone().computed(),
        }
    }
}

/// A member by its name in any case, exact spelling first.
fn entry<'a>(object: &'a Map<String, Value>, name: &str) -> Option<(&'a String, &'a Value)> {
    object.get_key_value(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
}

fn step(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { format!(".{name}") } else { format!("[{}]", Value::from(name)) }
}

/// What is between the brackets, if a text is an expression: `[[` begins a plain text.
pub fn expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.starts_with('[')).then(|| inner.trim())
}

struct Reference<'t> {
    variable: bool,
    name: &'t str,
    steps: Vec<Step<'t>>,
}

enum Step<'t> {
    Member(&'t str),
    Item(usize),
}

/// `parameters('x')` or `variables('x')`, with members and places behind it; nothing else.
fn reference(expression: &str) -> Option<Reference<'_>> {
    let (function, rest) = expression.split_once('(')?;
    let variable = match function.trim() {
        name if name.eq_ignore_ascii_case("variables") => true,
        name if name.eq_ignore_ascii_case("parameters") => false,
        _ => return None,
    };
    let (name, rest) = quoted(rest.trim_start())?;
    let mut rest = rest.trim_start().strip_prefix(')')?.trim_start();
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix('.') {
            let end = behind.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(behind.len());
            let (member, behind) = behind.split_at(end);
            steps.push((!member.is_empty()).then_some(Step::Member(member))?);
            rest = behind.trim_start();
        } else {
            let inside = rest.strip_prefix('[')?.trim_start();
            let behind = if let Some((member, behind)) = quoted(inside) {
                steps.push(Step::Member(member));
                behind
            } else {
                let end = inside.find(|c: char| !c.is_ascii_digit())?;
                steps.push(Step::Item(inside[..end].parse().ok()?));
                &inside[end..]
            };
            rest = behind.trim_start().strip_prefix(']')?.trim_start();
        }
    }
    Some(Reference { variable, name, steps })
}

/// The text between single quotes at the start, and what follows. Quotes within it are left to Azure.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('\'')?.split_once('\'')?;
    (!rest.starts_with('\'')).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scope_of(variables: &Value) -> Rc<Scope<'_>> {
        let node = Node::root("v.json", variables);
        let mut scope = Scope::default();
        for name in variables.as_object().unwrap().keys() {
            scope.variable(name, node.raw_member(name));
        }
        Rc::new(scope)
    }

    fn text_of(value: &Value, variables: &Value) -> (String, Option<String>) {
        let node = Node::root("t.json", value).within(scope_of(variables)).member("x");
        let text = match node.text() {
            Text::Is(text) => Some(text.to_owned()),
            Text::Absent | Text::Computed | Text::Wrong => None,
        };
        (format!("{}{}", node.file, node.path.trim_start_matches('$')), text)
    }

    #[test]
    fn references_are_followed_to_where_the_value_stands() {
        let variables = json!({"a": "plain", "b": {"c": ["zero", {"D e": "deep"}]}, "again": "[variables('a')]"});
        for (text, place, value) in [
            ("plain", "t.json.x", Some("plain")),
            ("[variables('a')]", "v.json.a", Some("plain")),
            ("[ Variables( 'A' ) ]", "v.json.a", Some("plain")),
            ("[variables('b').c[0]]", "v.json.b.c[0]", Some("zero")),
            ("[variables('b')['c'][ 1 ]['d e']]", "v.json.b.c[1][\"D e\"]", Some("deep")),
            ("[variables('again')]", "v.json.a", Some("plain")),
            ("[[literal]", "t.json.x", Some("[[literal]")),
            ("[unclosed", "t.json.x", Some("[unclosed")),
            ("[variables('nowhere')]", "t.json.x", None),
            ("[variables('b').c[7]]", "t.json.x", None),
            ("[variables('b').c[copyIndex()]]", "t.json.x", None),
            ("[variables('it''s')]", "t.json.x", None),
            ("[concat(variables('a'), 'b')]", "t.json.x", None),
            ("[variables('a')", "t.json.x", Some("[variables('a')")),
            ("[]", "t.json.x", None),
        ] {
            let (found, is) = text_of(&json!({"x": text}), &variables);
            assert_eq!(is.as_deref(), value, "{text}");
            if value.is_some() {
                assert_eq!(found, place, "{text}");
            }
        }
    }

    #[test]
    fn what_refers_to_itself_ends() {
        let many = ".a".repeat(40);
        for variables in [
            json!({"a": "[variables('a')]"}),
            json!({"a": "[variables('b')]", "b": "[variables('a')]"}),
            json!({"a": {"a": "[variables('a').a]"}}),
            json!({"a": {"a": format!("[variables('a'){many}]")}}),
            json!({"a": {"a": format!("[variables('b'){many}]")}, "b": {"a": format!("[variables('c'){many}]")}, "c": {"a": "[variables('a')]"}}),
        ] {
            assert_eq!(text_of(&json!({"x": "[variables('a').a]"}), &variables).1, None, "{variables}");
        }
    }

    #[test]
    fn a_property_that_a_copy_makes_is_computed_and_null_is_absent() {
        let value = json!({"copy": [{"name": "made", "count": 2}], "nothing": null, "List": [1]});
        let node = Node::root("t.json", &value);
        assert!(node.member("made").is_computed());
        assert!(node.member("nothing").is_absent() && node.member("other").is_absent());
        assert!(
            matches!(node.member("list").list(), List::Of(items) if items.len() == 1 && items[0].path == "$.List[0]")
        );
        assert!(matches!(node.member("list").text(), Text::Wrong));
    }

    proptest! {
        #[test]
        fn no_expression_makes_the_reader_panic(text in "(\\[|\\]|\\(|\\)|'|\\.|variables|parameters|[a-z0-9 ü]){0,30}") {
            let _ = text_of(&json!({"x": text}), &json!({"a": [text.clone()]}));
        }
    }
}
