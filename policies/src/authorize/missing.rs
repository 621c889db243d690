//! What a condition needed and was not there, as the condition calls it. Names only what is written in it: a key that came from a request
//! may be a secret.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, ExecutionError, Value};

/// Characters of a name that the log shows.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// `key`: what the evaluation missed. `consumer.name`, or `name` alone where it is of something that has no name itself, or `None` where the
/// condition does not write it out.
pub fn named(condition: &IdedExpr, key: &str, context: &Context<'_, '_>) -> Option<String> {
    let (mut path, mut is_written) = (None, false);
    each(condition, &mut |node| {
        if path.is_some() || last(node).is_none_or(|last| last != key) {
            return;
        }
        is_written = true;
        // Of two that end in the same name, the one that is not there. A way of plain names costs nothing to go again.
        let found = way(node);
        let misses = |error: &ExecutionError| matches!(error, ExecutionError::NoSuchKey(missed) if missed.as_str() == key);
        if found.is_some() && Value::resolve(node, context).is_err_and(|error| misses(&error)) {
            path = found;
        }
    });
    let whole = path.or_else(|| is_written.then(|| key.to_owned()))?;
    Some(whole.chars().take(SHOWN_CHARACTERS_MAX).collect())
}

/// The name or the written key that a node ends in.
fn last(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Select(select) if !select.test => Some(&select.field),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.get(1).map(|index| &index.expr)) {
            ("_[_]", Some(Expr::Literal(LiteralValue::String(key)))) => Some(key.inner()),
            _ => None,
        },
        _ => None,
    }
}

/// `claims.realm['a.b']`
fn way(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", way(&select.operand)?, select.field)),
        Expr::Call(call) => Some(format!("{}['{}']", way(call.args.first()?)?, last(node)?)),
        _ => None,
    }
}

/// Every part of an expression. How deep it is was bounded when it was read.
fn each<'e>(node: &'e IdedExpr, see: &mut impl FnMut(&'e IdedExpr)) {
    see(node);
    match &node.expr {
        Expr::Select(select) => each(&select.operand, see),
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).for_each(|part| each(part, see)),
        Expr::List(list) => list.elements.iter().for_each(|part| each(part, see)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                each(&entry.key, see);
                each(&entry.value, see);
            }
            EntryExpr::StructField(field) => each(&field.value, see),
        }),
        Expr::Comprehension(loops) => {
            [&loops.iter_range, &loops.accu_init, &loops.loop_cond, &loops.loop_step, &loops.result]
                .into_iter()
                .for_each(|part| each(part, see));
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}
