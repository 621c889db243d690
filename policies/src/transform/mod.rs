//! Edits headers on the way in and on the way out: remove, then set, then add. Values may hold `{name}` of a path parameter and
//! the variables of docs/configuration.md. It never touches what frames or addresses a message.

use maitred_core::render::Text;
use maitred_core::{Exchange, Fault, Flow, Hook, Policy, Ports, Response};
use maitred_model::{HeaderEdits, HeaderName};
use maitred_wire::Headers;

pub const NAME: &str = "transform";

pub struct Transform {
    request: Edits,
    response: Edits,
}

#[derive(Default)]
struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, Text)]>,
    add: Box<[(HeaderName, Text)]>,
}

impl Transform {
    /// `params`: the names of the route's path parameters. `Err` is a name that is not among them.
    pub fn compile(request: &HeaderEdits, response: &HeaderEdits, params: &[&str]) -> Result<Transform, String> {
        Ok(Transform { request: Edits::compile(request, params)?, response: Edits::compile(response, params)? })
    }
}

impl Edits {
    fn compile(edits: &HeaderEdits, params: &[&str]) -> Result<Edits, String> {
        let texts = |list: &[(HeaderName, maitred_model::Spanned<maitred_model::Template>)]| {
            list.iter()
                .map(|(name, template)| Ok((name.clone(), Text::compile(template, params)?)))
                .collect::<Result<_, String>>()
        };
        Ok(Edits { remove: edits.remove.clone().into(), set: texts(&edits.set)?, add: texts(&edits.add)? })
    }

    /// The values, in the order of `set` and `add`. Rendered before anything is removed, so that a header may move to another name.
    fn render(&self, exchange: &Exchange) -> impl Iterator<Item = Result<Option<Vec<u8>>, Fault>> {
        self.set.iter().chain(&self.add).map(|(_, text)| text.header(exchange))
    }

    /// A value that is `None` is not written; what it would have replaced goes all the same.
    fn write(&self, values: &[Option<Vec<u8>>], headers: &mut Headers) {
        for name in self.remove.iter().chain(self.set.iter().map(|(name, _)| name)) {
            headers.remove(name.as_str().as_bytes());
        }
        for ((name, _), value) in self.set.iter().chain(&self.add).zip(values) {
            if let Some(value) = value {
                headers.add(name.as_str().as_bytes(), value);
            }
        }
    }
}

impl Policy for Transform {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let rendered: Result<Vec<_>, Fault> = self.request.render(exchange).collect();
        Hook::Ready(rendered.map(|values| {
            self.request.write(&values, &mut exchange.request.headers);
            Flow::Go(())
        }))
    }

    fn leave(&self, exchange: &Exchange, response: &mut Response, _: &dyn Ports) {
        // A response on its way can't be refused any more. A value that can't be a header is left out; what is to be removed, or
        // was set by the back end under that name, must go whatever the client put into its request.
        let values: Vec<_> = self.response.render(exchange).map(|value| value.ok().flatten()).collect();
        self.response.write(&values, &mut response.head.headers);
    }
}
