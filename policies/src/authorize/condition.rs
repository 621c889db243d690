//! One condition: an expression in CEL (the Common Expression Language), read at load and asked for each request. The crate that
//! evaluates it has no budget of its own, so what could take long is refused at load, and what remains is reckoned up before it runs.
//! It knows of a request what `given` hands over, and nothing else.

use super::given::{Fields, Given, TooMuch, VARIABLES, fields_of};
use super::kind::{self, Kind};
use super::missing;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::extractors::This;
use cel::{Context, Env, ExecutionError, Program, Value};
use maitred_model::suggest;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// Bytes of an expression: a longer one is a program, and belongs elsewhere.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;
/// How deep an expression may be: it is evaluated by functions that call themselves, on a worker that has 2 MiB of stack.
const DEPTH_MAX: usize = 24;
/// `all`, `exists`, `exists_one`, `map` and `filter` in one expression. None may stand inside another.
const LOOPS_MAX: usize = 4;
/// Each copies what it joins.
const JOINS_MAX: usize = 16;
/// Patterns in one expression, bytes of each as it is written, and as it is compiled.
const PATTERNS_MAX: usize = 8;
const PATTERN_BYTES_MAX: usize = 256;
const PATTERN_SIZE_MAX: usize = 16 * 1024;
/// Bytes of a text that is held against a pattern: the worst pattern takes some hundred steps for each.
const MATCHED_BYTES_MAX: usize = 4 * 1024;
/// What a pattern costs, in comparisons of text.
const PATTERN_WEIGHT: u64 = 32;
/// Bytes that the loops of one condition may have to look at, at worst: about 50 ms.
const WORK_MAX: u64 = 64 << 20;
/// Bytes of an expression that the log shows.
const SHOWN_BYTES_MAX: usize = 120;
/// The parser calls itself; a thread of its own has room for the deepest expression that fits into `SOURCE_BYTES_MAX`.
const PARSER_STACK_BYTES: usize = 64 << 20;

/// What may be called, with the names that the parser gives operators. None of them makes something large of something small.
const OPERATORS: [&str; 18] = [
    "_?_:_", "_&&_", "_||_", "!_", "_-_", "_+_", "_*_", "_/_", "_%_", "_==_", "_!=_", "_>=_", "_<=_", "_>_", "_<_", "-_", "_[_]",
    "@in",
];
const FUNCTIONS: [&str; 9] = ["size", "contains", "startsWith", "endsWith", "matches", "string", "int", "uint", "double"];
/// The parser makes others of them; what is left of one was written with too few or too many arguments.
const MACROS: [&str; 7] = ["has", "all", "exists", "exists_one", "existsOne", "map", "filter"];
/// Of the parser's own making.
pub const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// Why an expression is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub hint: String,
    /// The bytes of the expression that it is about, where that is known.
    pub at: Option<Range<usize>>,
}

impl Problem {
    fn of_all(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: hint.into(), at: None }
    }

    /// With the line and column in the expression, for where it cannot be pointed at.
    pub fn placed(&self, source: &str) -> String {
        let place = self.at.as_ref().map(|at| {
            let before = source.get(..at.start).unwrap_or(source);
            let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
            match 1 + before.matches('\n').count() {
                1 => format!(" at its column {column}"),
                line => format!(" at its line {line}, column {column}"),
            }
        });
        format!("{}{}", self.message, place.unwrap_or_default())
    }
}

pub struct Condition {
    source: Box<str>,
    program: Program,
    uses: BTreeMap<&'static str, Fields>,
    patterns: Arc<HashMap<String, Regex>>,
    cost: Cost,
}

/// What is known at load of how much there will be to do.
#[derive(Debug, Default)]
struct Cost {
    /// Parts of the expression.
    nodes: u64,
    joins: u64,
    /// Calls for each element, of all loops.
    calls: u64,
}

impl Condition {
    pub fn compile(source: &str) -> Result<Condition, Problem> {
        Condition::compiled(source, |reader, whole| reader.judges(whole))
    }

    /// Not a condition but a key, which tells requests apart.
    pub fn compile_key(source: &str) -> Result<Condition, Problem> {
        Condition::compiled(source, |reader, whole| reader.tells_apart(whole))
    }

    /// `is_meant`: of the whole expression.
    fn compiled(source: &str, is_meant: fn(&Reader<'_>, &IdedExpr) -> Result<(), Problem>) -> Result<Condition, Problem> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("the condition is longer than {SOURCE_BYTES_MAX} bytes");
            return Err(Problem::of_all(message, "split it: of a list of conditions each must hold"));
        }
        let room = || Problem::of_all("there is no memory to read the condition with", "");
        let read = || {
            let program = ENV.compile(source).map_err(|errors| syntax(source, &errors))?;
            let mut reader = Reader::new(&program);
            reader.read(program.expression(), 0)?;
            is_meant(&reader, program.expression())?;
            let Reader { uses, patterns, cost, .. } = reader;
            Ok(Condition { source: source.into(), uses, patterns: Arc::new(patterns), cost, program })
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, read);
            let unreadable = |_| Err(Problem::of_all("the condition cannot be read", "write it another way"));
            thread.map_err(|_| room())?.join().unwrap_or_else(unreadable)
        })
    }

    /// As it was written, cut where it is long.
    pub fn shown(&self) -> &str {
        let mut end = self.source.len().min(SHOWN_BYTES_MAX);
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        &self.source[..end]
    }

    /// Path parameters that it does not do without.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        match self.uses.get("path") {
            Some(Fields::Named(names)) => Some(names.iter().filter(|(_, needed)| **needed).map(|(name, _)| name.as_str())),
            Some(Fields::All) | None => None,
        }
        .into_iter()
        .flatten()
    }

    /// `Err`: why not, for the log. Nothing of what the request or the credential holds is in it.
    pub fn holds(&self, given: &Given<'_>) -> Result<(), Cow<'static, str>> {
        match self.is_true(given) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the condition `{}` does not hold", self.shown()).into()),
            Err(why) => Err(format!("the condition `{}` {why}", self.shown()).into()),
        }
    }

    /// Whether it asks who makes a request.
    pub fn names_identity(&self) -> bool {
        ["principal", "claims", "consumer"].iter().any(|name| self.uses.contains_key(name))
    }

    /// Whether it reads where credentials come: what it yields may be one.
    pub fn reads_credentials(&self) -> bool {
        self.uses.get("request").is_some_and(|fields| fields.has("headers") || fields.has("query"))
    }

    /// What it yields where that is one value, for limits: its kind and its text, of which two values that differ never have the same. `None`:
    /// it yields null.
    pub fn text(&self, given: &Given<'_>) -> Result<Option<(u8, String)>, String> {
        Ok(Some(match self.evaluate(given)? {
            Value::String(text) => (b's', text.to_string()),
            Value::Bool(value) => (b'b', value.to_string()),
            Value::Int(number) => (b'n', number.to_string()),
            Value::UInt(number) => (b'n', number.to_string()),
            Value::Float(number) => (b'f', number.to_string()),
            Value::Null => return Ok(None),
            // The crate's values, of which it may add some.
            _ => return Err("is no single value".to_owned()),
        }))
    }

    fn is_true(&self, given: &Given<'_>) -> Result<bool, String> {
        match self.evaluate(given)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err("is neither true nor false".to_owned()),
        }
    }

    fn evaluate(&self, given: &Given<'_>) -> Result<Value, String> {
        let mut context = Context::with_env(ENV.clone());
        let mut budget = super::given::Budget::default();
        for (name, fields) in &self.uses {
            let value = given.variable(name, fields, &mut budget).map_err(|TooMuch| "is given more than it may look at")?;
            context.add_variable_from_value(*name, value);
        }
        if self.work(budget.elements(), budget.bytes()) > WORK_MAX {
            return Err("is given more than it may look at".to_owned());
        }
        if !self.patterns.is_empty() {
            let patterns = self.patterns.clone();
            let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| -> Result<bool, ExecutionError> {
                match patterns.get(pattern.as_str()) {
                    Some(pattern) if text.len() <= MATCHED_BYTES_MAX => Ok(pattern.is_match(&text)),
                    Some(_) | None => Err(ExecutionError::function_error("matches", "the text is too long")),
                }
            };
            context.add_function("matches", matches).map_err(|_| "cannot be evaluated")?;
        }
        self.program.execute(&context).map_err(|error| self.why(&error, &context))
    }

    /// Messages of the crate may hold values, and so credentials: those go nowhere.
    fn why(&self, error: &ExecutionError, context: &Context<'_, '_>) -> String {
        match error {
            ExecutionError::NoSuchKey(key) => match missing::named(self.program.expression(), key, context) {
                Some(name) => format!("needs `{name}`, which is not there"),
                None => "needs something that is not there".to_owned(),
            },
            ExecutionError::NoSuchOverload(overload) => format!("cannot be evaluated: {overload}"),
            // The crate's errors, of which it may add some.
            _ => "cannot be evaluated".to_owned(),
        }
    }

    /// Bytes that loops look at, at worst: every call of every element at everything that is there.
    fn work(&self, elements: u64, bytes: u64) -> u64 {
        let copies = 1 + self.cost.joins;
        let (elements, bytes) = ((elements + self.cost.nodes) * copies, (bytes + self.source.len() as u64) * copies);
        self.cost.calls.saturating_mul(elements).saturating_mul(bytes)
    }
}

fn syntax(source: &str, errors: &cel::ParseErrors) -> Problem {
    let first = errors.errors.first();
    let words = first.map_or("it cannot be read", |error| error.msg.as_str());
    let at = first.and_then(|error| offset(source, error.pos)).map(|at| at..at);
    let hint = match ["{consumer}", "{principal.", "{claims."].iter().any(|template| source.contains(template)) {
        true => "names stand without braces in a condition: `consumer.name`, `principal.subject`, `claims.tenant`",
        false => "conditions are written in CEL: `claims.tenant == path.tenant && \"staff\" in principal.groups`",
    };
    let hint = hint.to_owned();
    Problem { message: format!("the condition cannot be read: {words}"), hint, at }
}

/// Both from 1, the column in characters, as the parser counts.
fn offset(source: &str, (line, column): (isize, isize)) -> Option<usize> {
    let (line, column) = (usize::try_from(line).ok()?.checked_sub(1)?, usize::try_from(column).ok()?.checked_sub(1)?);
    let before: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &source[before..];
    Some(before + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}

/// Where in a condition something stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    /// What a loop goes through.
    Range,
    /// What it does with each.
    Body,
}

/// Reads an expression for what it needs and what it costs, and refuses what is not bounded.
struct Reader<'p> {
    program: &'p Program,
    uses: BTreeMap<&'static str, Fields>,
    patterns: HashMap<String, Regex>,
    cost: Cost,
    loops: usize,
    within: Within,
    /// The name that a loop gives each element.
    element: Option<&'p str>,
}

impl<'p> Reader<'p> {
    fn new(program: &'p Program) -> Reader<'p> {
        let (uses, patterns, cost) = (BTreeMap::new(), HashMap::new(), Cost::default());
        Reader { program, uses, patterns, cost, loops: 0, within: Within::Nothing, element: None }
    }

    fn read(&mut self, node: &'p IdedExpr, depth: usize) -> Result<(), Problem> {
        self.cost.nodes += 1;
        if depth > DEPTH_MAX {
            let hint = "split it: of a list of conditions each must hold";
            return Err(self.refusal(node, &format!("is more than {DEPTH_MAX} levels deep"), hint));
        }
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(node, name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(variable) if self.element != Some(variable.as_str()) => {
                    let variable = self.variable(&select.operand, variable)?;
                    self.field(node, variable, &select.field, !select.test)
                }
                _ => self.read(&select.operand, depth + 1),
            },
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.read(element, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.read(&entry.key, depth + 1)?;
                    self.read(&entry.value, depth + 1)
                }
                EntryExpr::StructField(field) => self.read(&field.value, depth + 1),
            }),
            Expr::Comprehension(each) => self.each(node, each, depth),
            Expr::Call(call) => {
                self.compares(call)?;
                self.call(node, &call.func_name, &call.args)?;
                call.target.iter().try_for_each(|target| self.read(target, depth + 1))?;
                call.args.iter().try_for_each(|argument| self.read(argument, depth + 1))?;
                judged(call).iter().try_for_each(|operand| self.judges(operand))
            }
            Expr::Struct(_) | Expr::Unspecified => Err(self.refusal(node, "makes something that there is not", "")),
        }
    }

    /// That it may be true or false. What never is would be a deny for everybody, or an operand that counts for nothing.
    fn judges(&self, node: &IdedExpr) -> Result<(), Problem> {
        match kind::of(node).other() {
            None => Ok(()),
            Some((what, hint)) => Err(self.refusal(node, &format!("has {what} where it needs true or false"), hint)),
        }
    }

    /// That it may be one value.
    fn tells_apart(&self, node: &IdedExpr) -> Result<(), Problem> {
        let (what, hint) = match kind::of(node) {
            Kind::Unknown | Kind::Boolean | Kind::Text | Kind::Number | Kind::Sum => return Ok(()),
            Kind::List => ("a list", "write what of it tells requests apart, as in `principal.groups[0]`"),
            Kind::Map => ("a map", "name what of it is meant: `claims.tenant`"),
            Kind::Bytes => ("bytes", "write a text"),
            Kind::Null => ("null", "write a text or a number"),
        };
        Err(self.refusal(node, &format!("has {what} where it needs a text, a number or a truth"), hint))
    }

    /// A text is none of the variables, which have fields: what compares the two is never true.
    fn compares(&self, call: &CallExpr) -> Result<(), Problem> {
        let [first, second] = &call.args[..] else { return Ok(()) };
        let is_text = |node: &IdedExpr| kind::of(node) == Kind::Text;
        let is_list = |node: &IdedExpr| kind::of(node) == Kind::List;
        let whole = match call.func_name.as_str() {
            "_==_" | "_!=_" if is_text(second) => first,
            "_==_" | "_!=_" if is_text(first) => second,
            "@in" if is_list(second) => first,
            // The parser's names for everything else that may be called.
            _ => return Ok(()),
        };
        let Expr::Ident(name) = &whole.expr else { return Ok(()) };
        let Some(variable) = VARIABLES.into_iter().find(|known| known == name) else { return Ok(()) };
        let hint = match variable {
            "consumer" => "write `consumer.name`",
            "principal" => "write `principal.subject`",
            "path" => "write `request.path`; `path.NAME` is a parameter of the route",
            _ => "name what of it is meant, as in `claims.tenant`",
        };
        Err(self.refusal(whole, &format!("compares `{variable}`, which has several fields, with a text"), hint))
    }

    fn name(&mut self, node: &IdedExpr, name: &str) -> Result<(), Problem> {
        if self.element == Some(name) || name.starts_with('@') {
            return Ok(());
        }
        let variable = self.variable(node, name)?;
        self.uses.insert(variable, Fields::All);
        Ok(())
    }

    fn variable(&self, node: &IdedExpr, name: &str) -> Result<&'static str, Problem> {
        VARIABLES.into_iter().find(|known| *known == name).ok_or_else(|| {
            let hint = suggest(name, VARIABLES, "the variables are");
            self.refusal(node, &format!("uses a variable that there is not: `{name}`"), &hint)
        })
    }

    fn field(&mut self, node: &IdedExpr, variable: &'static str, field: &str, needed: bool) -> Result<(), Problem> {
        if let Some(known) = fields_of(variable)
            && !known.contains(&field)
        {
            let hint = suggest(field, known.iter().copied(), &format!("`{variable}` has"));
            return Err(self.refusal(node, &format!("uses `{variable}.{field}`, which there is not"), &hint));
        }
        match self.uses.entry(variable).or_insert_with(|| Fields::Named(BTreeMap::new())) {
            Fields::All => {}
            // What is asked for by `has` somewhere may be absent.
            Fields::Named(names) => {
                let known = names.entry(field.to_owned()).or_insert(needed);
                *known &= needed;
            }
        }
        Ok(())
    }

    fn each(&mut self, node: &IdedExpr, each: &'p ComprehensionExpr, depth: usize) -> Result<(), Problem> {
        if self.within != Within::Nothing {
            let hint = "go through one list only; of a list of conditions each must hold";
            return Err(self.refusal(node, "has a loop inside a loop", hint));
        }
        self.loops += 1;
        if self.loops > LOOPS_MAX {
            let hint = "split it: of a list of conditions each must hold";
            return Err(self.refusal(node, &format!("has more than {LOOPS_MAX} loops"), hint));
        }
        if VARIABLES.contains(&each.iter_var.as_str()) {
            let hint = "give the element another name";
            return Err(self.refusal(node, &format!("calls an element `{}`, which is a variable", each.iter_var), hint));
        }
        self.within = Within::Range;
        self.read(&each.iter_range, depth + 1)?;
        self.within = Within::Body;
        self.element = Some(&each.iter_var);
        for part in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
            self.read(part, depth + 1)?;
        }
        self.element = None;
        self.within = Within::Nothing;
        Ok(())
    }

    fn call(&mut self, node: &IdedExpr, name: &str, arguments: &[IdedExpr]) -> Result<(), Problem> {
        let mut weight = 1;
        match name {
            "_+_" => self.join(node, arguments)?,
            "matches" => {
                weight = PATTERN_WEIGHT;
                self.pattern(node, arguments)?;
            }
            NOT_STRICTLY_FALSE => {}
            name if OPERATORS.contains(&name) || FUNCTIONS.contains(&name) => {}
            name if MACROS.contains(&name) => {
                let hint = "write `has(claims.x)`, or `claims.roles.exists(role, role == \"a\")`";
                return Err(self.refusal(node, &format!("calls `{name}` in a way that it cannot be called"), hint));
            }
            name => {
                let hint = suggest(name, FUNCTIONS.into_iter().chain(MACROS), "the functions are");
                return Err(self.refusal(node, &format!("calls `{name}`, which there is not"), &hint));
            }
        }
        if self.within == Within::Body {
            self.cost.calls += weight;
        }
        Ok(())
    }

    fn join(&mut self, node: &IdedExpr, arguments: &[IdedExpr]) -> Result<(), Problem> {
        // The parser's own: a loop gathers what it finds.
        if matches!(arguments.first().map(|first| &first.expr), Some(Expr::Ident(name)) if name.starts_with('@')) {
            return Ok(());
        }
        if self.within == Within::Body {
            return Err(self.refusal(node, "has a `+` inside a loop", "compare without joining"));
        }
        self.cost.joins += 1;
        if self.cost.joins > JOINS_MAX as u64 {
            return Err(self.refusal(node, &format!("has more than {JOINS_MAX} times `+`"), "compare without joining"));
        }
        Ok(())
    }

    fn pattern(&mut self, node: &IdedExpr, arguments: &[IdedExpr]) -> Result<(), Problem> {
        let Some(Expr::Literal(LiteralValue::String(text))) = arguments.last().map(|last| &last.expr) else {
            let hint = "write it out: `request.path.matches(\"^/[a-z]+$\")`";
            return Err(self.refusal(node, "has a pattern that is not written out", hint));
        };
        let text = text.inner();
        if text.len() > PATTERN_BYTES_MAX || self.patterns.len() >= PATTERNS_MAX {
            let hint = format!("write at most {PATTERNS_MAX} patterns, of at most {PATTERN_BYTES_MAX} bytes each");
            return Err(self.refusal(node, "has too long or too many patterns", &hint));
        }
        let compiled = RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build();
        let compiled = compiled.map_err(|error| {
            let words = match &error {
                regex::Error::CompiledTooBig(_) => "it takes too much memory".to_owned(),
                // The last line says what; those before repeat the pattern.
                error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
            };
            let hint = "write a shorter pattern, without large counts and without look-around";
            self.refusal(node, &format!("has a pattern that cannot be used ({words})"), hint)
        })?;
        self.patterns.insert(text.to_string(), compiled);
        Ok(())
    }

    fn refusal(&self, node: &IdedExpr, what: &str, hint: &str) -> Problem {
        Problem { message: format!("the condition {what}"), hint: hint.to_owned(), at: self.extent(node) }
    }

    /// From the first byte of what a node consists of on; the parser notes of an operator and of a field only where their sign stands.
    fn extent(&self, node: &IdedExpr) -> Option<Range<usize>> {
        let (own, end) = self.program.source_info().offset_for(node.id)?;
        let first = match &node.expr {
            Expr::Select(select) => Some(&*select.operand),
            Expr::Call(call) => call.target.as_deref().or(call.args.first()),
            Expr::Comprehension(each) => Some(&each.iter_range),
            Expr::Ident(_) | Expr::List(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => None,
        };
        let start = first.and_then(|first| self.extent(first)).map_or(own as usize, |first| first.start.min(own as usize));
        // The last byte is part of a token.
        let end = (end as usize + 1).max(start);
        let end = if let Expr::Select(select) = &node.expr { end + select.field.len() } else { end };
        let source = &self.program.source_info().source;
        source.get(start..end).map(|_| start..end).or(Some(start..start))
    }
}

/// The operands that must be true or false.
fn judged(call: &CallExpr) -> &[IdedExpr] {
    match call.func_name.as_str() {
        "_&&_" | "_||_" | "!_" => &call.args,
        "_?_:_" => call.args.get(..1).unwrap_or_default(),
        // The parser's names for everything else that may be called.
        _ => &[],
    }
}
