//! The JSON Schema of the configuration (draft 2020-12), for editors and for the reference. Written by the same declarations that
//! decode: nothing is said here but the frame.

use crate::decode::{Defs, Shape};
use crate::language::RawDocument;
use serde_json::{Map, Value};

pub fn schema() -> Value {
    let mut defs = Defs::new();
    RawDocument::schema(&mut defs);
    let document = defs.shift_remove("Document").unwrap_or(Value::Null);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "Maitred configuration".into());
    if let Value::Object(document) = document {
        schema.extend(document);
    }
    schema.insert("$defs".to_owned(), Value::Object(defs));
    Value::Object(schema)
}
