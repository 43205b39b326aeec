//! The delegations in a batch of files: templates with the parameters that belong to them.
//!
//! A parameter file belongs to the template of its own name (`a.json`, `a.parameters.json`), else to the only template, else
//! to the only one that declares its parameters. One without a template is read by the names that the documented templates
//! use. Judges nothing but whether the files fit together (`L00`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::document::{Document, Kind};
use super::finding::{Finding, Severity};
use super::node::{Bound, List, Node, Scope, Text};

const DEFINITIONS: &str = "Microsoft.ManagedServices/registrationDefinitions";
const NESTED: &str = "Microsoft.Resources/deployments";
/// How deep templates within templates are looked at.
const DEEPEST: usize = 8;

/// One delegation, wherever its parts are written.
#[derive(Clone, Debug)]
pub struct Delegation<'a> {
    /// The deployment it is part of: a number among those of the batch.
    pub deployment: usize,
    /// Where findings about the whole go.
    pub whole: Node<'a>,
    /// The offer's name.
    pub offer: Node<'a>,
    /// The publisher's tenant.
    pub tenant: Node<'a>,
    /// What principals may do at any time.
    pub active: Node<'a>,
    /// What they may ask for.
    pub eligible: Node<'a>,
}

/// What a batch of files holds.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// The delegations, in the order of the files.
    pub delegations: Vec<Delegation<'a>>,
    /// Where files do not fit together.
    pub findings: Vec<Finding>,
}

impl<'a> Batch<'a> {
    /// Pairs the files and finds what they delegate.
    pub fn of(documents: &'a [Document]) -> Self {
        let mut batch = Self::default();
        let of = |kind| documents.iter().filter(move |document| document.kind == kind);
        let mut paired: BTreeMap<&str, Vec<&'a Document>> = BTreeMap::new();
        let mut alone = Vec::new();
        for parameters in of(Kind::Parameters) {
            match template_of(parameters, documents) {
                Some(template) => paired.entry(&template.file).or_default().push(parameters),
                None => alone.push(parameters),
            }
        }
        let mut deployment = 0;
        for template in of(Kind::Template) {
            let parameters = paired.remove(template.file.as_str()).unwrap_or_default();
            let files = if parameters.is_empty() { vec![None] } else { parameters.into_iter().map(Some).collect() };
            for parameters in files {
                batch.deployment(template, parameters, deployment);
                deployment += 1;
            }
        }
        for document in alone.into_iter().chain(of(Kind::Values)) {
            batch.values(document, deployment);
            deployment += 1;
        }
        batch
    }

    fn deployment(&mut self, template: &'a Document, parameters: Option<&'a Document>, deployment: usize) {
        let root = Node::root(&template.file, &template.value);
        let given = parameters.map(|file| Node::root(&file.file, &file.value).raw_member("parameters"));
        let scope = self.scope(&root, given.as_ref(), true);
        let before = self.delegations.len();
        self.resources(&root.clone().within(scope), deployment, 0);
        if self.delegations.len() == before {
            self.findings.push(Finding {
                severity: Severity::Error,
                rule: "L00",
                file: template.file.clone(),
                path: "$.resources".to_owned(),
                message: format!("the template has no resource of type {DEFINITIONS}"),
                fix: "give the template that delegates; `permafresh lighthouse template` writes one".to_owned(),
            });
        }
    }

    /// What names mean in a template, and what about them does not fit.
    fn scope(&mut self, template: &Node<'a>, given: Option<&Node<'a>>, outermost: bool) -> Rc<Scope<'a>> {
        let mut scope = Scope::default();
        let variables = template.raw_member("variables");
        for name in variables.object().into_iter().flat_map(|variables| variables.keys()) {
            scope.variable(name, variables.raw_member(name));
        }
        let declared = template.raw_member("parameters");
        for name in declared.object().into_iter().flat_map(|declared| declared.keys()) {
            let declaration = declared.raw_member(name);
            let default = declaration.raw_member("defaultValue");
            let value = given.map(|given| given.raw_member(name)).filter(|value| !value.is_absent());
            scope.parameter(
                name,
                match value {
                    // A reference to a secret, or something else that only Azure reads.
                    Some(value) if value.raw_member("value").is_absent() => Bound::Given(value.computed()),
                    Some(value) => Bound::Given(value.member("value")),
                    None if default.is_absent() => {
                        if outermost && given.is_some() {
                            self.odd(
                                &declaration,
                                format!("the parameter {name} has no value and no default"),
                                "give it one in the parameter file, or Azure asks for it at each deployment",
                                Severity::Note,
                            );
                        }
                        Bound::Given(declaration.computed())
                    }
                    None => Bound::Here(default),
                },
            );
        }
        let given = given.filter(|_| outermost);
        for name in given.and_then(Node::object).into_iter().flat_map(|given| given.keys()) {
            if declared.raw_member(name).is_absent() {
                let place = given.map_or_else(|| declared.clone(), |given| given.raw_member(name));
                self.odd(
                    &place,
                    format!("the template {} has no parameter {name}", template.file),
                    "correct its name, or remove it: Azure refuses the deployment otherwise",
                    Severity::Error,
                );
            }
        }
        Rc::new(scope)
    }

    fn resources(&mut self, template: &Node<'a>, deployment: usize, depth: usize) {
        for resource in template.member("resources").each() {
            let Text::Is(kind) = resource.member("type").text() else { continue };
            if kind.eq_ignore_ascii_case(DEFINITIONS) {
                let properties = resource.member("properties");
                self.delegations.push(Delegation {
                    deployment,
                    offer: properties.member("registrationDefinitionName"),
                    tenant: properties.member("managedByTenantId"),
                    active: properties.member("authorizations"),
                    eligible: properties.member("eligibleAuthorizations"),
                    whole: properties,
                });
            } else if kind.eq_ignore_ascii_case(NESTED) && depth < DEEPEST {
                let properties = resource.member("properties");
                let inner = properties.member("template");
                let own = properties.member("expressionEvaluationOptions").member("scope");
                let inner = match own.text() {
                    Text::Is(own) if own.eq_ignore_ascii_case("inner") => {
                        let scope = self.scope(&inner, Some(&properties.member("parameters")), false);
                        inner.within(scope)
                    }
                    _ => inner,
                };
                self.resources(&inner, deployment, depth + 1);
            }
        }
    }

    /// Values without a template, by the names that the documented templates give them.
    fn values(&mut self, document: &'a Document, deployment: usize) {
        let root = Node::root(&document.file, &document.value);
        let value = |names: &[&str]| {
            let of = |name: &&str| match document.kind {
                Kind::Parameters => root.raw_member("parameters").raw_member(name).raw_member("value"),
                Kind::Template | Kind::Values => root.raw_member(name),
            };
            names.iter().map(of).find(|node| !node.is_absent()).unwrap_or_else(|| of(&names[0]))
        };
        let active = value(&["authorizations"]);
        if document.kind == Kind::Parameters && active.is_absent() {
            self.odd(
                &root.raw_member("parameters"),
                "it belongs to a template that was not given, and names no authorizations itself".to_owned(),
                "give the template with it",
                Severity::Error,
            );
            return;
        }
        self.delegations.push(Delegation {
            deployment,
            offer: value(&["mspOfferName", "offerName", "registrationDefinitionName"]),
            tenant: value(&["managedByTenantId"]),
            active,
            eligible: value(&["eligibleAuthorizations"]),
            whole: root.clone(),
        });
    }

    fn odd(&mut self, node: &Node<'_>, message: String, fix: &str, severity: Severity) {
        self.findings.push(Finding {
            severity,
            rule: "L00",
            file: node.file.to_string(),
            path: node.path.clone(),
            message,
            fix: fix.to_owned(),
        });
    }
}

/// The entries of a list; none where it is no list, or not known.
pub fn entries<'a>(node: &Node<'a>) -> Vec<Node<'a>> {
    match node.list() {
        List::Of(entries) => entries,
        List::Absent | List::Computed | List::Wrong => Vec::new(),
    }
}

fn template_of<'a>(parameters: &Document, documents: &'a [Document]) -> Option<&'a Document> {
    let templates: Vec<&Document> = documents.iter().filter(|document| document.kind == Kind::Template).collect();
    let stem = stem(&parameters.file);
    if let Some(same) = templates.iter().find(|template| self::stem(&template.file) == stem) {
        return Some(same);
    }
    if let [only] = templates[..] {
        return Some(only);
    }
    let names = |document: &'a Document| document.value["parameters"].as_object();
    let wanted = parameters.value["parameters"].as_object()?;
    let mut fitting = templates.into_iter().filter(|template| {
        names(template).is_some_and(|declared| {
            wanted.keys().all(|name| declared.keys().any(|declared| declared.eq_ignore_ascii_case(name)))
        })
    });
    fitting.next().filter(|_| fitting.next().is_none())
}

/// The name without `.json` and `.parameters`, in lower case.
fn stem(file: &str) -> String {
    let name = file.to_ascii_lowercase();
    let name = name.strip_suffix(".json").or_else(|| name.strip_suffix(".jsonc")).unwrap_or(&name);
    name.strip_suffix(".parameters").or_else(|| name.strip_suffix(".parameter")).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn documents(files: &[(&str, Value)]) -> Vec<Document> {
        files.iter().map(|(file, value)| Document::read(file, value.to_string().as_bytes()).unwrap()).collect()
    }

    fn template(parameters: &[&str]) -> Value {
        let declared: serde_json::Map<_, _> =
            parameters.iter().map(|name| ((*name).to_owned(), serde_json::json!({"type": "string"}))).collect();
        serde_json::json!({"parameters": declared, "resources": [{"type": "microsoft.managedservices/registrationdefinitions",
            "properties": {"registrationDefinitionName": format!("[parameters('{}')]", parameters[0])}}]})
    }

    fn given(values: &[(&str, &str)]) -> Value {
        let values: serde_json::Map<_, _> =
            values.iter().map(|(name, value)| ((*name).to_owned(), serde_json::json!({"value": value}))).collect();
        serde_json::json!({"parameters": values})
    }

    fn offers(files: &[(&str, Value)]) -> Vec<Option<String>> {
        let documents = documents(files);
        let batch = Batch::of(&documents);
        let offer = |delegation: &Delegation<'_>| match delegation.offer.text() {
            Text::Is(text) => Some(text.to_owned()),
            Text::Absent | Text::Computed | Text::Wrong => None,
        };
        batch.delegations.iter().map(offer).collect()
    }

    #[test]
    fn parameters_find_the_template_they_belong_to() {
        let (a, b) = (template(&["offer"]), template(&["name", "group"]));
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(offers(&[("x/a.json", a.clone())]), [None]);
        // The only template takes all of them.
        let two = [("t.json", a.clone()), ("p.json", given(&[("offer", "p")])), ("q.json", given(&[("offer", "q")]))];
        assert_eq!(offers(&two), [named("p"), named("q")]);
        // By name, wherever they stand in the list.
        let by_name = [
            ("b.Parameters.json", given(&[("name", "b")])),
            ("a.json", a.clone()),
            ("b.json", b.clone()),
            ("a.parameters.json", given(&[("offer", "a")])),
        ];
        assert_eq!(offers(&by_name), [named("a"), named("b")]);
        // By what is declared.
        let by_fit =
            [("a.json", a.clone()), ("b.json", b.clone()), ("c.json", given(&[("GROUP", "g"), ("name", "n")]))];
        assert_eq!(offers(&by_fit), [None, named("n")]);
    }

    #[test]
    fn files_that_do_not_fit_together_are_named() {
        for (files, path, said) in [
            (
                vec![("t.json", template(&["offer"])), ("p.json", given(&[("ofer", "x"), ("offer", "y")]))],
                "$.parameters.ofer",
                "no parameter ofer",
            ),
            (
                vec![("t.json", template(&["offer", "more"])), ("p.json", given(&[("offer", "y")]))],
                "$.parameters.more",
                "no value",
            ),
            (vec![("p.json", given(&[("offer", "y")]))], "$.parameters", "not given"),
            (vec![("t.json", serde_json::json!({"resources": []}))], "$.resources", "no resource of type"),
        ] {
            let documents = documents(&files);
            let batch = Batch::of(&documents);
            let [finding] = &batch.findings[..] else { panic!("{:?}", batch.findings) };
            assert_eq!((finding.rule, finding.path.as_str()), ("L00", path));
            assert!(finding.message.contains(said), "{}", finding.message);
        }
    }

    #[test]
    fn templates_within_templates_are_looked_into_in_their_own_scope() {
        let nested = |scope: &str| {
            serde_json::json!({"variables": {"n": "outer"}, "resources": {"symbol": {"type": "Microsoft.Resources/deployments",
                "properties": {"expressionEvaluationOptions": {"scope": scope}, "parameters": {"p": {"value": "[variables('n')]"}},
                    "template": {"parameters": {"p": {"type": "string"}}, "variables": {"n": "inner"}, "resources": [
                        {"type": DEFINITIONS, "properties": {"registrationDefinitionName": "[variables('n')]"}},
                        {"type": DEFINITIONS, "properties": {"registrationDefinitionName": "[parameters('p')]"}}]}}}}})
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(offers(&[("t.json", nested("inner"))]), [named("inner"), named("outer")]);
        assert_eq!(offers(&[("t.json", nested("outer"))]), [named("outer"), None]);
    }
}
