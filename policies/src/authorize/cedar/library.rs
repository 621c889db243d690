//! The sets of policies of one document: each is loaded once, whoever names it. Makes of it what a route asks, and says what of that the
//! schema does not have.

use super::decisions::Decisions;
use super::load::{Chosen, Set};
use super::shape::{CONTEXT, Field, Kind as TypeKind, PRINCIPAL, Shape, Unknown, check};
use super::store::Reached;
use super::{Actions, Kind, Part, Prepared, Resource, Rule, uid};
use cedar_policy::{EntityTypeName, EntityUid};
use maitred_model::{self as model, Cedar, DecisionLog, Diagnostic, Diagnostics, Span, Spanned, suggest};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Methods that a route of any method is asked about. Another one is a deny.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Which files: of the policies, the schema, the entities.
type Files = (Vec<PathBuf>, PathBuf, Option<PathBuf>);

pub struct Library {
    sets: HashMap<Files, Option<Shelf>>,
    decisions: Arc<Decisions>,
}

/// A set, and what was prepared of it.
struct Shelf {
    set: Arc<Set>,
    prepared: HashMap<EntityUid, Arc<Prepared>>,
    principals: HashMap<String, Kind>,
    /// Who vouches for principals of a type, on any route.
    vouchers: HashMap<String, BTreeSet<String>>,
}

/// What a route is called.
pub struct Naming<'a> {
    pub api: &'a Arc<str>,
    /// As in logs.
    pub route: &'a Arc<str>,
    /// Its own name, if it has one.
    pub own: Option<&'a str>,
    /// None: any.
    pub methods: &'a [String],
    pub params: &'a [&'a str],
    /// Those that may say who it is.
    pub authorizers: &'a [&'a str],
    pub span: Span,
}

impl Library {
    pub fn new(decisions: Arc<Decisions>) -> Library {
        Library { sets: HashMap::new(), decisions }
    }

    /// Whether or not a route asks it, all that is wrong with it is said.
    pub fn load(&mut self, cedar: &Cedar, diagnostics: &mut Diagnostics) {
        let load = || {
            let set = Arc::new(Set::load(cedar, diagnostics)?);
            Some(Shelf { set, prepared: HashMap::new(), principals: HashMap::new(), vouchers: HashMap::new() })
        };
        self.sets.entry(files(cedar)).or_insert_with(load);
        if cedar.log != DecisionLog::None {
            self.decisions.start();
        }
    }

    /// `None`: `diagnostics` has why, if not `load` had it.
    pub fn rule(&mut self, cedar: &Spanned<Cedar>, naming: &Naming<'_>, diagnostics: &mut Diagnostics) -> Option<Rule> {
        let shelf = self.sets.get_mut(&files(cedar))?.as_mut()?;
        let mut desk = Desk { shelf, cedar: &cedar.value, span: cedar.span, naming, diagnostics };
        let principal = desk.principal()?;
        let resource = desk.resource()?;
        let actions = desk.actions(&principal.name, &resource.kind)?;
        let set = desk.shelf.set.clone();
        let (api, route) = (naming.api.clone(), naming.route.clone());
        Some(Rule { set, principal, actions, resource, log: cedar.log, decisions: self.decisions.clone(), api, route })
    }
}

fn files(cedar: &Cedar) -> Files {
    let policies = cedar.policies.iter().map(|file| file.path.clone()).collect();
    (policies, cedar.schema.path.clone(), cedar.entities.as_ref().map(|file| file.path.clone()))
}

/// The namespace of a type, with its `::`.
fn space(kind: &str) -> &str {
    kind.rfind("::").map_or("", |at| &kind[..at + 2])
}

/// There is an error among the diagnostics.
#[derive(Clone)]
struct Told;

/// Where one route's rule is made.
struct Desk<'a> {
    shelf: &'a mut Shelf,
    cedar: &'a Cedar,
    span: Span,
    naming: &'a Naming<'a>,
    diagnostics: &'a mut Diagnostics,
}

impl Desk<'_> {
    fn error<T>(&mut self, span: Span, message: String, hint: impl Into<String>) -> Option<T> {
        let diagnostic = Diagnostic::error("bad-cedar", span, message).hint(hint);
        self.diagnostics.push(diagnostic.also(self.naming.span, "on this route"));
        None
    }

    fn kind(&mut self, name: &str, span: Span) -> Option<EntityTypeName> {
        if self.shelf.set.types.kinds.contains_key(name) {
            return name.parse().ok();
        }
        let set = self.shelf.set.clone();
        let mut known: Vec<&str> = set.types.kinds.keys().map(String::as_str).collect();
        known.sort_unstable();
        let hint = suggest(name, known.iter().copied(), "its entity types are");
        self.error(span, format!("the schema has no entity type `{name}`"), hint)
    }

    fn principal(&mut self) -> Option<Kind> {
        let model::Spanned { value, span } = &self.cedar.principal;
        let span = if span.is_none() { self.span } else { *span };
        let name = self.kind(value, span)?;
        self.one_name(value, span);
        if let Some(known) = self.shelf.principals.get(value) {
            return Some(known.clone());
        }
        let set = self.shelf.set.clone();
        let kind = &set.types.kinds[value];
        let mut is_fine = true;
        for Unknown { at, message, hint } in self.unknown(kind) {
            let words: Vec<&str> =
                [value.rsplit("::").next().unwrap_or(value)].into_iter().chain(at.split('.').skip(1)).collect();
            self.diagnostics.push(Diagnostic::error("bad-schema", set.place(words), message).hint(hint));
            is_fine = false;
        }
        if kind.has_tags {
            let message = format!("`{value}` has tags, and nobody gives the principal any");
            self.error::<()>(span, message, "give it attributes in place of `tags`");
            is_fine = false;
        }
        let group = self.group(&set, value);
        let known = Kind { name, fields: kind.fields.clone().into(), group: group.clone().unwrap_or_default() };
        self.shelf.principals.insert(value.clone(), known.clone());
        (is_fine && group.is_ok()).then_some(known)
    }

    /// What a principal's groups are, if it has any. A `Group` that it could be in and that nobody gives would make of each `forbid` on groups
    /// one that never matches.
    fn group(&mut self, set: &Set, value: &str) -> Result<Option<EntityTypeName>, Told> {
        let direct = &set.types.kinds[value].parents;
        let groups = set.types.groups(value);
        let message = match groups[..] {
            [] => return Ok(None),
            [only] if direct.iter().any(|parent| parent == only) => return only.parse().map(Some).map_err(|_| Told),
            [only] => format!("`{value}` can be in `{only}` by way of another type alone, and is given no groups that way"),
            [..] => {
                let list: Vec<String> = groups.iter().map(|group| format!("`{group}`")).collect();
                format!("`{value}` can be in {}, and nobody knows which its groups are", list.join(" and "))
            }
        };
        let name = value.rsplit("::").next().unwrap_or(value);
        let hint = format!("write `entity {name} in [{}]`, and give other types than that another name than `Group`", groups[0]);
        self.diagnostics.push(Diagnostic::error("bad-schema", set.place([name]), message).hint(hint));
        Err(Told)
    }

    /// Subjects of two authorizers may be equal, and policies want to know whose it is.
    fn one_name(&mut self, value: &str, span: Span) {
        let fields = &self.shelf.set.types.kinds[value].fields;
        if fields.iter().any(|field| &*field.name == "authorizer") {
            return;
        }
        let vouchers = self.shelf.vouchers.entry(value.to_owned()).or_default();
        let before = vouchers.len();
        vouchers.extend(self.naming.authorizers.iter().map(|&name| name.to_owned()));
        // Once for each type.
        if before > 1 || vouchers.len() < 2 {
            return;
        }
        let list: Vec<String> = vouchers.iter().map(|name| format!("`{name}`")).collect();
        let who = list.join(" and ");
        let message = format!("{who} may vouch for `{value}::\"…\"`, and policies cannot tell whose it is");
        let hint = "declare `authorizer: String` on the type, and ask `principal.authorizer`";
        let warning = Diagnostic::warning("one-name-for-two", span, message);
        self.diagnostics.push(warning.hint(hint).also(self.naming.span, "on this route"));
    }

    /// What of a principal neither the gateway knows nor a file could.
    fn unknown(&self, kind: &TypeKind) -> Vec<Unknown> {
        let mut unknown = Vec::new();
        for field in &kind.fields {
            let at = format!("principal.{}", field.name);
            match PRINCIPAL.iter().find(|(name, _)| *name == &*field.name) {
                Some((_, known)) => check(&at, &field.shape, known, &mut unknown),
                // The file may have it.
                None if self.cedar.entities.is_some() => {}
                None => {
                    let message = format!("the schema wants `{at}`, which the gateway does not know");
                    let known = suggest(&field.name, PRINCIPAL.iter().map(|(name, _)| *name), "it knows");
                    unknown.push(Unknown { at, message, hint: format!("{known}; others come from a file of `entities`") });
                }
            }
        }
        unknown
    }

    fn resource(&mut self) -> Option<Resource> {
        let Some(resource) = &self.cedar.resource else {
            let kind = self.kind(&format!("{}Route", space(&self.cedar.principal.value)), self.span)?;
            return Some(Resource { kind, parts: Box::new([Part::Text((&**self.naming.route).into())]) });
        };
        let kind = self.kind(&resource.kind, resource.span)?;
        let parts = &resource.id.parts;
        let mut made = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            made.push(match part {
                model::Part::Literal(text) => Part::Text(text.as_str().into()),
                model::Part::Param(name) => {
                    // That the path has it, `check` saw to.
                    let index = self.naming.params.iter().position(|known| known == name)?;
                    let until = match (parts.get(at + 1), parts.get(at + 2)) {
                        (Some(model::Part::Literal(text)), Some(_)) => Some(text.as_str().into()),
                        _ => None,
                    };
                    Part::Param(index, until)
                }
                model::Part::Variable(_) => return None,
            });
        }
        Some(Resource { kind, parts: made.into() })
    }

    fn actions(&mut self, principal: &EntityTypeName, resource: &EntityTypeName) -> Option<Actions> {
        let usual = format!("{}Action", space(&self.cedar.principal.value));
        let (kind, id, span) = match (&self.cedar.action, self.naming.own) {
            (Some(action), _) => (action.kind.clone().unwrap_or(usual), action.id.as_str(), action.span),
            (None, Some(own)) => (usual, own, self.span),
            (None, None) => return self.each(&usual, principal, resource),
        };
        let action = self.find(&kind, id, span)?;
        self.applies(&action, principal, resource, span)?;
        self.prepare(&kind, action).map(Actions::One)
    }

    /// By method, where neither action nor route has a name.
    fn each(&mut self, kind: &str, principal: &EntityTypeName, resource: &EntityTypeName) -> Option<Actions> {
        let is_any = self.naming.methods.is_empty();
        let methods: Vec<String> = match is_any {
            true => METHODS.iter().map(|&method| method.to_owned()).collect(),
            false => self.naming.methods.to_vec(),
        };
        let mut list = Vec::new();
        for method in &methods {
            // What a route of any method does not find in the schema is a deny.
            if is_any && !self.shelf.set.types.contexts.contains_key(&(kind.to_owned(), method.clone())) {
                continue;
            }
            let action = self.find(kind, method, self.span)?;
            self.applies(&action, principal, resource, self.span)?;
            list.push((method.as_str().into(), self.prepare(kind, action)?));
        }
        if list.is_empty() {
            let hint = "name one: `action: GetOrder`, or give the route a name";
            return self.error(self.span, format!("the schema has no `{kind}` for any method"), hint);
        }
        Some(Actions::Each(list.into()))
    }

    fn find(&mut self, kind: &str, id: &str, span: Span) -> Option<EntityUid> {
        let action = uid(&kind.parse().ok()?, id);
        if self.shelf.set.actions.contains_key(&action) {
            return Some(action);
        }
        let known: Vec<String> = self.shelf.set.types.contexts.keys().map(|(_, id)| id.clone()).collect();
        let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
        known.sort_unstable();
        let hint = suggest(id, known.iter().copied(), "its actions are");
        self.error(span, format!("the schema has no action `{kind}::\"{id}\"`"), hint)
    }

    fn applies(&mut self, action: &EntityUid, principal: &EntityTypeName, resource: &EntityTypeName, span: Span) -> Option<()> {
        let set = self.shelf.set.clone();
        let principals: Vec<&EntityTypeName> = set.schema.principals_for_action(action).into_iter().flatten().collect();
        let resources: Vec<&EntityTypeName> = set.schema.resources_for_action(action).into_iter().flatten().collect();
        for (kinds, kind, what) in [(principals, principal, "principal"), (resources, resource, "resource")] {
            if !kinds.contains(&kind) {
                let list: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
                let hint = match list.is_empty() {
                    true => "say in the schema what it applies to: `appliesTo { principal: User, resource: Order }`".to_owned(),
                    false => format!("it applies to {}", list.join(", ")),
                };
                return self.error(span, format!("by the schema `{action}` has no {what} of the type `{kind}`"), hint);
            }
        }
        Some(())
    }

    fn prepare(&mut self, kind: &str, action: EntityUid) -> Option<Arc<Prepared>> {
        let set = self.shelf.set.clone();
        let id = action.id().unescaped().to_owned();
        let context = set.types.contexts.get(&(kind.to_owned(), id.clone())).cloned().unwrap_or_default();
        self.lacking(&set, &id, &context)?;
        if let Some(prepared) = self.shelf.prepared.get(&action) {
            return Some(prepared.clone());
        }
        let mut unknown = Vec::new();
        check("context", &Shape::Record(context.clone()), &CONTEXT, &mut unknown);
        for Unknown { at, message, hint } in &unknown {
            let words = [id.as_str()].into_iter().chain(at.split('.').skip(1));
            self.diagnostics.push(Diagnostic::error("bad-schema", set.place(words), message.clone()).hint(hint.clone()));
        }
        if !unknown.is_empty() {
            return None;
        }
        let chosen = match set.choose(&action) {
            Ok(chosen) => chosen,
            Err(why) => {
                return self.error(self.span, format!("`{action}` is not to be decided: {why}"), "split it into several actions");
            }
        };
        let always = self.always(&set, &action, &chosen)?;
        let prepared = Arc::new(Prepared { shown: action.to_string().into(), uid: action.clone(), chosen, context, always });
        self.shelf.prepared.insert(action, prepared.clone());
        Some(prepared)
    }

    /// Parameters that the schema demands, and the route's path lacks.
    fn lacking(&mut self, set: &Set, id: &str, context: &[Field]) -> Option<()> {
        let path = context.iter().find(|field| &*field.name == "path");
        let Some(Field { shape: Shape::Record(fields), .. }) = path else { return Some(()) };
        let mut lacks = false;
        for field in fields.iter().filter(|field| field.required && !self.naming.params.contains(&&*field.name)) {
            let message = format!("the schema wants `context.path.{}`, and the path has no such parameter", field.name);
            let hint = format!("declare it as `{}?`, or name another action where the path lacks it", field.name);
            let diagnostic = Diagnostic::error("unknown-parameter", set.place([id, "path", &*field.name]), message);
            self.diagnostics.push(diagnostic.hint(hint).also(self.naming.span, "on this route"));
            lacks = true;
        }
        (!lacks).then_some(())
    }

    /// The action, and what its policies name.
    fn always(&mut self, set: &Set, action: &EntityUid, chosen: &Chosen) -> Option<Reached> {
        let mut reached = Reached::default();
        if let Some(action) = set.actions.get(action) {
            reached.push(action.clone());
        }
        for literal in &chosen.literals {
            if set.store.reach(literal.clone(), &mut reached).is_err() {
                let message = format!("the policies of `{action}` name too many entities");
                return self.error(self.span, message, "put them into groups, and name those");
            }
        }
        Some(reached)
    }
}
