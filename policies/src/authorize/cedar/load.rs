//! From texts to what is asked: parses policies one by one, holds them against the schema, takes the entities in. Everything that is wrong
//! is said, each at its place in its file. Nothing here knows a request.

use super::shape::Types;
use super::statements::{self, Excess};
use super::store::{self, ENTITIES_MAX, Store};
use cedar_policy::{
    ActionConstraint, Effect, Entities, Entity, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
    schema_str_to_json_with_resolved_types,
};
use maitred_model::{Cedar, Diagnostic, Diagnostics, LineColumn, Span, TextFile};
use miette::Diagnostic as _;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Policies of one set, and bytes of all of its files.
const POLICIES_MAX: usize = 10_000;
const POLICIES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Policies that may speak of one action: all of them are asked for each request.
const POLICIES_OF_ACTION_MAX: usize = 1_000;
/// How deep an expression may be: it is evaluated by functions that call themselves, on a worker that has 2 MiB of stack.
const DEPTH_MAX: usize = 64;
/// Levels of JSON that one level of an expression may have.
const JSON_LEVELS: usize = 2;
/// Problems that are told of one file; the others are most likely more of the same.
const COMPLAINTS_MAX: usize = 50;
/// Parser and validator call themselves; a thread of its own has room for the largest policy that is shown to them.
const STACK_BYTES: usize = 256 << 20;
/// What looks at a value as a whole. `like` is reckoned by its pattern.
const LOOKS: [&str; 9] = ["==", "!=", "in", "contains", "containsAll", "containsAny", "isInRange", "hasTag", "getTag"];

/// The texts of one `cedar`, ready to be asked.
pub struct Set {
    pub schema: Schema,
    pub types: Types,
    pub store: Store,
    /// Those of the schema, each with its groups.
    pub actions: HashMap<EntityUid, Entity>,
    pub ancestors: HashMap<EntityUid, Vec<EntityUid>>,
    policies: Vec<Known>,
    /// For whoever wants to point at something.
    schema_file: TextFile,
}

struct Known {
    policy: Policy,
    weight: u64,
    /// Entities that its conditions name.
    literals: Vec<EntityUid>,
}

/// The policies that may speak of one action.
#[derive(Default)]
pub struct Chosen {
    pub policies: PolicySet,
    /// The names of those that forbid.
    pub forbids: Vec<Box<str>>,
    pub names: HashMap<Box<str>, Arc<str>>,
    pub weight: u64,
    pub literals: Vec<EntityUid>,
}

impl Set {
    /// `None`: `diagnostics` has why.
    pub fn load(cedar: &Cedar, diagnostics: &mut Diagnostics) -> Option<Set> {
        let (set, found) = std::thread::scope(|scope| {
            let read = || {
                let mut loader = Loader { diagnostics: Diagnostics::new() };
                (loader.load(cedar), loader.diagnostics)
            };
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, read).ok()?;
            thread.join().ok()
        })
        .unwrap_or_else(|| {
            let mut diagnostics = Diagnostics::new();
            let at = Span::new(cedar.schema.file, 0, 0);
            diagnostics.push(Diagnostic::error("bad-policy", at, "the policies cannot be read").hint("write them another way"));
            (None, diagnostics)
        });
        let failed = found.has_errors();
        // Sets may have files in common, and so their mistakes.
        for one in &found {
            if diagnostics.iter().all(|known| known != one) {
                diagnostics.push(one.clone());
            }
        }
        set.filter(|_| !failed)
    }

    /// `Err`: there are too many.
    pub fn choose(&self, action: &EntityUid) -> Result<Chosen, String> {
        let groups = self.ancestors.get(action).map_or(&[][..], Vec::as_slice);
        let speaks = |known: &&Known| match known.policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(other) => other == *action,
            ActionConstraint::In(list) => list.iter().any(|other| other == action || groups.contains(other)),
        };
        let mut chosen = Chosen::default();
        for Known { policy, weight, literals } in self.policies.iter().filter(speaks) {
            // None is there twice: their names are not.
            if chosen.policies.add(policy.clone()).is_err() {
                continue;
            }
            let name: &str = policy.id().as_ref();
            chosen.names.insert(name.into(), name.into());
            chosen.weight += weight;
            chosen.literals.extend(literals.iter().cloned());
            if policy.effect() == Effect::Forbid {
                chosen.forbids.push(name.into());
            }
        }
        match chosen.names.len() > POLICIES_OF_ACTION_MAX {
            true => Err(format!("more than {POLICIES_OF_ACTION_MAX} policies may speak of it")),
            false => Ok(chosen),
        }
    }

    /// Where the schema speaks of something: the last of these words, each looked for behind the one before.
    pub fn place<'w>(&self, words: impl IntoIterator<Item = &'w str>) -> Span {
        let (text, file) = (&*self.schema_file.text, self.schema_file.file);
        let (mut from, mut found) = (0, Span::new(file, 0, 0));
        for word in words {
            let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            let is_whole = |at: usize| {
                let before = at.checked_sub(1).and_then(|before| text.as_bytes().get(before));
                !is_part(before) && !is_part(text.as_bytes().get(at + word.len()))
            };
            let next = |from: usize| text[from..].match_indices(word).map(|(at, _)| from + at).find(|at| is_whole(*at));
            if let Some(at) = next(from).or_else(|| next(0)) {
                from = at + word.len();
                found = Span::new(file, at as u32, from as u32);
            }
        }
        found
    }
}

struct Loader {
    diagnostics: Diagnostics,
}

/// By the policy's name.
type Cuts<'t> = HashMap<Box<str>, Cut<'t>>;

/// A policy that was cut out, and where.
struct Cut<'t> {
    file: &'t TextFile,
    start: usize,
    first: usize,
}

impl Loader {
    fn load(&mut self, cedar: &Cedar) -> Option<Set> {
        let schema = self.schema(&cedar.schema);
        let policies = self.policies(&cedar.policies);
        let (schema, types) = schema?;
        let (policies, cuts) = policies?;
        self.validate(&schema, &policies, &cuts);
        let store = match &cedar.entities {
            None => Store::default(),
            Some(file) => self.entities(file, &schema)?,
        };
        // What the parser made of it cannot fail here any more.
        let entities = schema.action_entities().ok()?;
        let groups = |uid: &EntityUid| entities.ancestors(uid).map(|all| all.cloned().collect()).unwrap_or_default();
        let ancestors = entities.iter().map(|entity| (entity.uid(), groups(&entity.uid()))).collect();
        let actions = entities.iter().map(|entity| (entity.uid(), entity.clone())).collect();
        let schema_file = cedar.schema.clone();
        Some(Set { schema, types, store, actions, ancestors, policies, schema_file })
    }

    fn schema(&mut self, file: &TextFile) -> Option<(Schema, Types)> {
        if let Err(Excess { at, what }) = statements::schema(&file.text) {
            self.say("bad-schema", Span::new(file.file, at as u32, at as u32 + 1), what, None);
            return None;
        }
        let json = match schema_str_to_json_with_resolved_types(&file.text) {
            Ok((json, _)) => json,
            Err(error) => return self.tell("bad-schema", &error, file, 0),
        };
        let types = match Types::read(&json) {
            Ok(types) => types,
            Err(words) => {
                self.say("bad-schema", Span::new(file.file, 0, 0), format!("the schema cannot be used: {words}"), None);
                return None;
            }
        };
        match Schema::from_cedarschema_str(&file.text) {
            Ok((schema, _)) => Some((schema, types)),
            Err(error) => self.tell("bad-schema", &error, file, 0),
        }
    }

    fn policies<'t>(&mut self, files: &'t [TextFile]) -> Option<(Vec<Known>, Cuts<'t>)> {
        let (mut policies, mut cuts, mut failed) = (Vec::new(), HashMap::new(), false);
        let bytes: usize = files.iter().map(|file| file.text.len()).sum();
        for file in files {
            let cut = match statements::policies(&file.text) {
                Ok(cut) if policies.len() + cut.len() <= POLICIES_MAX && bytes <= POLICIES_BYTES_MAX => cut,
                Ok(_) => {
                    let message = format!("there are more than {POLICIES_MAX} policies, or {POLICIES_BYTES_MAX} bytes of them");
                    self.say(
                        "bad-policy",
                        Span::new(file.file, 0, 0),
                        message,
                        Some("have routes name those they need".to_owned()),
                    );
                    return None;
                }
                Err(Excess { at, what }) => {
                    self.say("bad-policy", Span::new(file.file, at as u32, at as u32 + 1), what, None);
                    failed = true;
                    continue;
                }
            };
            for statement in cut {
                let cut = Cut { file, start: statement.start, first: statement.first };
                match self.policy(&cut, &file.text[statement.start..statement.end], &cuts) {
                    Some(known) => {
                        cuts.insert(AsRef::<str>::as_ref(known.policy.id()).into(), cut);
                        policies.push(known);
                    }
                    None => failed = true,
                }
            }
        }
        (!failed).then_some((policies, cuts))
    }

    fn policy(&mut self, cut: &Cut<'_>, text: &str, others: &Cuts<'_>) -> Option<Known> {
        let parsed = Policy::parse(None, text).map_err(|errors| self.tell::<()>("bad-policy", &errors, cut.file, cut.start));
        let policy = parsed.ok()?;
        let whole = cut.span(cut.first - cut.start, text.len() - (cut.first - cut.start));
        let name = match policy.annotation("id") {
            Some(id) if !id.is_empty() => id.to_owned(),
            Some(_) | None => cut.name(others),
        };
        if let Some(other) = others.get(name.as_str()) {
            let diagnostic = Diagnostic::error("duplicate-name", whole, format!("two policies have the id `{name}`"));
            self.diagnostics
                .push(diagnostic.hint("give each its own").also(other.span(other.first - other.start, 1), "the other"));
            return None;
        }
        let mut reading = Reading::default();
        // What is not read here would be bounded by nothing.
        let Ok(json) = policy.to_json() else {
            self.say("bad-policy", whole, "the policy cannot be weighed".to_owned(), Some("write it another way".to_owned()));
            return None;
        };
        reading.read(&json["conditions"], 0);
        if reading.deepest > DEPTH_MAX * JSON_LEVELS {
            let message = format!("the policy is more than {DEPTH_MAX} levels deep");
            let hint = "split it, or write `[a, b].contains(x)` in place of many `==`";
            self.say("bad-policy", whole, message, Some(hint.to_owned()));
            return None;
        }
        Some(Known { policy: policy.new_id(PolicyId::new(name)), weight: 1 + reading.weight, literals: reading.literals })
    }

    /// Strictly: what is accepted cannot meet a value of another type.
    fn validate(&mut self, schema: &Schema, policies: &[Known], cuts: &Cuts<'_>) {
        let Ok(set) = PolicySet::from_policies(policies.iter().map(|known| known.policy.clone())) else { return };
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        let cut = |id: &PolicyId| cuts.get(AsRef::<str>::as_ref(id));
        let found = |cut: &Cut<'_>, error: &dyn miette::Diagnostic| {
            (cut.of(error), plain(&error.to_string()), error.help().map(|help| plain(&help.to_string())))
        };
        let errors = result.validation_errors().filter_map(|error| Some(found(cut(error.policy_id())?, error)));
        for (span, message, hint) in once(errors) {
            self.say("bad-policy", span, message, hint);
        }
        // Of a policy with errors it is known that something is odd.
        let wrong: HashSet<&PolicyId> = result.validation_errors().map(|error| error.policy_id()).collect();
        let warnings = result.validation_warnings().filter(|warning| !wrong.contains(warning.policy_id()));
        for (span, message, hint) in once(warnings.filter_map(|warning| Some(found(cut(warning.policy_id())?, warning)))) {
            self.diagnostics.push(Diagnostic { hint, ..Diagnostic::warning("odd-policy", span, message) });
        }
    }

    fn entities(&mut self, file: &TextFile, schema: &Schema) -> Option<Store> {
        let json: Value = match serde_json::from_str(&file.text) {
            Ok(json) => json,
            Err(error) => {
                let at = offset(&file.text, LineColumn { line: error.line() as u32, column: error.column() as u32 });
                self.say("bad-entities", Span::new(file.file, at, at + 1), format!("this is no JSON: {error}"), None);
                return None;
            }
        };
        let start = Span::new(file.file, 0, 1);
        if json.as_array().is_some_and(|list| list.len() > ENTITIES_MAX) {
            self.say("bad-entities", start, format!("there are more than {ENTITIES_MAX} entities"), None);
            return None;
        }
        if store::weigh(&json).is_err() {
            let hint = "put fewer of them into groups that are themselves in groups".to_owned();
            self.say("bad-entities", start, "the entities have too many groups above them, all together".to_owned(), Some(hint));
            return None;
        }
        match Entities::from_json_value(json, Some(schema)) {
            Ok(entities) => Some(Store::new(entities)),
            Err(error) => {
                let words = with_causes(&error);
                self.say("bad-entities", start, words, error.help().map(|help| help.to_string()));
                None
            }
        }
    }

    /// Every problem that Cedar has found, at its place. `start`: where what it was shown begins.
    fn tell<T>(&mut self, code: &'static str, error: &dyn miette::Diagnostic, file: &TextFile, start: usize) -> Option<T> {
        let cut = Cut { file, start, first: start };
        let others = error.related().into_iter().flatten();
        for one in std::iter::once(error).chain(others).take(COMPLAINTS_MAX) {
            let (help, message) = (one.help().map(|help| plain(&help.to_string())), plain(&one.to_string()));
            self.say(code, cut.of(one), message, help);
        }
        None
    }

    fn say(&mut self, code: &'static str, span: Span, message: String, hint: Option<String>) {
        self.diagnostics.push(Diagnostic { hint, ..Diagnostic::error(code, span, message) });
    }
}

impl Cut<'_> {
    /// Of bytes counted from where it was cut.
    fn span(&self, at: usize, length: usize) -> Span {
        let start = (self.start + at).min(self.file.text.len());
        let end = (start + length).min(self.file.text.len());
        Span::new(self.file.file, start as u32, end as u32)
    }

    /// Where a problem has its place; its beginning where it has none.
    fn of(&self, error: &dyn miette::Diagnostic) -> Span {
        let label = error.labels().and_then(|mut labels| labels.next());
        match label {
            Some(label) => self.span(label.offset(), label.len()),
            None => self.span(self.first - self.start, 0),
        }
    }

    /// `policies/kitchen.cedar:12`
    fn name(&self, others: &Cuts<'_>) -> String {
        let line = 1 + self.file.text[..self.first].matches('\n').count();
        let name = format!("{}:{line}", self.file.path.display());
        match others.contains_key(name.as_str()) {
            // Several in one line.
            true => format!("{name}:{}", self.first),
            false => name,
        }
    }
}

type Problem = (Span, String, Option<String>);

/// One for each place, in order: a policy is held against every action that it may be about, and may be wrong for each.
fn once(problems: impl Iterator<Item = Problem>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = problems.collect();
    problems.sort();
    problems.dedup_by_key(|problem| problem.0);
    problems.truncate(COMPLAINTS_MAX);
    problems
}

/// Without what its place says already.
fn plain(message: &str) -> String {
    match message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message.to_owned(),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

fn offset(text: &str, place: LineColumn) -> u32 {
    let line = text.split_inclusive('\n').take(place.line.saturating_sub(1) as usize).map(str::len).sum::<usize>();
    (line + place.column.saturating_sub(1) as usize).min(text.len()) as u32
}

/// What conditions cost, and whom they name.
#[derive(Default)]
struct Reading {
    weight: u64,
    deepest: usize,
    literals: Vec<EntityUid>,
}

impl Reading {
    fn read(&mut self, json: &Value, depth: usize) {
        self.deepest = self.deepest.max(depth);
        match json {
            Value::Object(entries) => {
                if let Some(uid) = entries.get("__entity").and_then(|_| EntityUid::from_json(json.clone()).ok()) {
                    self.literals.push(uid);
                }
                for (key, value) in entries {
                    self.weight += u64::from(LOOKS.contains(&key.as_str()));
                    if key == "like" {
                        // A pattern is gone through for each byte, at worst.
                        self.weight += 1 + value["pattern"].to_string().len() as u64;
                    }
                    self.read(value, depth + 1);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.read(item, depth + 1)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
