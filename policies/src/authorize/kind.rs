//! What an expression of a condition comes to, as far as that can be told without a request. Refuses nothing: who reads the expression does.

use super::condition::NOT_STRICTLY_FALSE;
use super::given::{VARIABLES, kind_of};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// That depends on the request.
    Unknown,
    Boolean,
    Text,
    Number,
    List,
    Map,
    Bytes,
    Null,
    /// A number, a text or a list.
    Sum,
}

impl Kind {
    /// What it is, where it is never true or false, and what could have been meant.
    pub fn other(self) -> Option<(&'static str, &'static str)> {
        match self {
            Kind::Unknown | Kind::Boolean => None,
            Kind::Text => Some(("a text", "compare it, as in `consumer.name == \"alice\"`, or ask `has(consumer.name)`")),
            Kind::Number => Some(("a number", "compare it, as in `size(principal.groups) > 0`")),
            Kind::List => Some(("a list", "ask what is in it, as in `\"staff\" in principal.groups`")),
            Kind::Map => Some(("a map", "name what of it is meant, and compare that: `claims.tenant == \"acme\"`")),
            Kind::Bytes => Some(("bytes", "compare them")),
            Kind::Null => Some(("null", "ask `has(claims.x)`")),
            Kind::Sum => Some(("a sum", "compare it, as in `claims.a + claims.b == \"ab\"`")),
        }
    }
}

pub fn of(node: &IdedExpr) -> Kind {
    match &node.expr {
        Expr::Literal(value) => match value {
            LiteralValue::Boolean(_) => Kind::Boolean,
            LiteralValue::Bytes(_) => Kind::Bytes,
            LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Number,
            LiteralValue::Null => Kind::Null,
            LiteralValue::String(_) => Kind::Text,
        },
        Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Kind::Map,
        // What a loop calls its elements, and what it gathers.
        Expr::Ident(_) => Kind::Unknown,
        Expr::Select(select) if select.test => Kind::Boolean,
        Expr::Select(select) => inside(&select.operand, Some(&select.field)),
        Expr::List(_) => Kind::List,
        Expr::Map(_) => Kind::Map,
        Expr::Comprehension(each) => match &each.result.expr {
            // What it gathered is of the kind that it began with.
            Expr::Ident(name) if *name == each.accu_var => of(&each.accu_init),
            _ => of(&each.result),
        },
        Expr::Call(call) => called(call),
        Expr::Struct(_) | Expr::Unspecified => Kind::Unknown,
    }
}

/// An element or a field. `field`: its name, where that is written out.
fn inside(whole: &IdedExpr, field: Option<&str>) -> Kind {
    match &whole.expr {
        Expr::Ident(variable) => field.map_or(Kind::Unknown, |field| kind_of(variable, field)),
        Expr::Select(outer) => match &outer.operand.expr {
            // Headers, parameters of the query, scopes, groups: all of them are texts.
            Expr::Ident(variable) if matches!(kind_of(variable, &outer.field), Kind::Map | Kind::List) => Kind::Text,
            _ => Kind::Unknown,
        },
        _ => Kind::Unknown,
    }
}

fn called(call: &CallExpr) -> Kind {
    match (call.func_name.as_str(), &call.args[..]) {
        ("_?_:_", [_, yes, no]) => match (of(yes), of(no)) {
            (kind, other) if kind == other => kind,
            (kind, other) if kind.other().is_some() && other.other().is_some() => kind,
            _ => Kind::Unknown,
        },
        ("_+_", [one, other]) => match (of(one), of(other)) {
            (kind @ (Kind::Text | Kind::Number | Kind::List), _) | (_, kind @ (Kind::Text | Kind::Number | Kind::List)) => kind,
            _ => Kind::Sum,
        },
        ("_[_]", [whole, index]) => match &index.expr {
            Expr::Literal(LiteralValue::String(field)) => inside(whole, Some(field.inner())),
            _ => inside(whole, None),
        },
        ("_&&_" | "_||_" | "!_" | "_==_" | "_!=_" | "_>=_" | "_<=_" | "_>_" | "_<_" | "@in", _) => Kind::Boolean,
        ("contains" | "startsWith" | "endsWith" | "matches" | NOT_STRICTLY_FALSE, _) => Kind::Boolean,
        ("_-_" | "_*_" | "_/_" | "_%_" | "-_" | "size" | "int" | "uint" | "double", _) => Kind::Number,
        ("string", _) => Kind::Text,
        // Names of functions that there are not.
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_told_without_a_request_is_told() {
        for (source, kind) in [
            ("true", Kind::Boolean),
            ("'a'", Kind::Text),
            ("b'a'", Kind::Bytes),
            ("1.5", Kind::Number),
            ("null", Kind::Null),
            ("[true]", Kind::List),
            ("{'a': true}", Kind::Map),
            ("claims", Kind::Map),
            ("claims.a", Kind::Unknown),
            ("claims.a.b", Kind::Unknown),
            ("claims['a']", Kind::Unknown),
            ("consumer.name", Kind::Text),
            ("consumer['name']", Kind::Text),
            ("consumer.groups", Kind::List),
            ("consumer.groups[0]", Kind::Text),
            ("principal.anonymous", Kind::Boolean),
            ("principal.scopes", Kind::List),
            ("principal[claims.a]", Kind::Unknown),
            ("path.id", Kind::Text),
            ("request.headers", Kind::Map),
            ("request.headers['x']", Kind::Text),
            ("request.query.v", Kind::Text),
            ("request.time", Kind::Number),
            ("has(claims.a)", Kind::Boolean),
            ("size(claims.a)", Kind::Number),
            ("string(claims.a)", Kind::Text),
            ("-claims.a", Kind::Number),
            ("!claims.a", Kind::Boolean),
            ("claims.a + claims.b", Kind::Sum),
            ("claims.a + 'b'", Kind::Text),
            ("claims.a in claims.b", Kind::Boolean),
            ("claims.a.all(x, x)", Kind::Boolean),
            ("claims.a.exists_one(x, x == 1)", Kind::Boolean),
            ("claims.a.filter(x, x == 1)", Kind::List),
            ("claims.a.map(x, x == 1)", Kind::List),
            ("claims.a ? 'a' : 1", Kind::Text),
            ("claims.a ? 'a' : true", Kind::Unknown),
            ("claims.a ? claims.b : true", Kind::Unknown),
        ] {
            let program = cel::Program::compile(source).expect(source);
            assert_eq!(of(program.expression()), kind, "{source}");
        }
    }
}
