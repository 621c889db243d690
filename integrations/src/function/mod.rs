//! Answers a route by a Lambda function: the request becomes an event, the result becomes the response. Where the function runs, in
//! processes here or in AWS, makes no difference to either.

pub mod aws;
pub mod run;

use crate::Reach;
use maitred_core::{Exchange, Fault, Kind, Permit, Response};
use maitred_model::{EventForm, InvocationType, ResponseMode};
use std::rc::Rc;
use std::sync::Arc;

/// What answers a route.
pub struct Function {
    /// Index in `Reach::functions`.
    pub function: u32,
    pub form: Form,
    /// The route, as events name it: its API, its methods and its path's template.
    pub api: Arc<str>,
    pub methods: Vec<String>,
    pub path: String,
}

/// How requests become events, and results responses.
#[derive(Debug, Clone)]
pub struct Form {
    pub event: EventForm,
    pub response: ResponseMode,
    pub invocation: InvocationType,
    pub binary_media_types: Vec<String>,
    pub multi_value_headers: bool,
}

impl Function {
    pub async fn invoke(&self, exchange: &mut Exchange, _permit: Permit, reach: &Rc<Reach>) -> Result<Response, Fault> {
        let _ = (exchange, reach, self.function);
        Err(Fault::new(Kind::NotImplemented, "functions are not there yet"))
    }
}
