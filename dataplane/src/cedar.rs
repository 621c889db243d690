//! What routes ask of policies in Cedar. A build without Cedar says so, wherever a document wants some.

use crate::compile::State;
use maitred_model::{Api, Cedar, Diagnostic, Diagnostics, Document, Route, Setting, Spanned};
use maitred_policies::authorize::cedar::Rule;
use std::sync::Arc;

#[cfg(feature = "cedar")]
use maitred_model::Authenticate;

/// All sets of policies of a document.
pub(crate) struct Library {
    #[cfg(feature = "cedar")]
    sets: maitred_policies::authorize::cedar::Library,
}

/// A route, and what it is called.
#[cfg_attr(not(feature = "cedar"), expect(dead_code, reason = "without Cedar nobody is asked"))]
pub(crate) struct Asking<'a> {
    pub api_name: &'a Arc<str>,
    pub api: &'a Api,
    pub name: &'a Arc<str>,
    pub route: &'a Route,
    pub params: &'a [&'a str],
}

/// Every `cedar` of a document.
fn all(document: &Document) -> impl Iterator<Item = &Spanned<Cedar>> {
    let policies = document
        .apis
        .values()
        .flat_map(|api| std::iter::once(&api.value.policies).chain(api.routes.iter().map(|route| &route.value.policies)));
    policies.filter_map(|policies| match &policies.authorize {
        Some(Setting::Some(authorize)) => authorize.cedar.as_ref(),
        Some(Setting::None) | None => None,
    })
}

#[cfg(feature = "cedar")]
impl Library {
    pub fn load(document: &Document, state: &State, diagnostics: &mut Diagnostics) -> Library {
        let mut sets = maitred_policies::authorize::cedar::Library::new(state.decisions.clone());
        for cedar in all(document) {
            sets.load(cedar, diagnostics);
        }
        Library { sets }
    }

    /// `None`: there is an error in `diagnostics`.
    pub fn rule(&mut self, cedar: &Spanned<Cedar>, asking: &Asking<'_>, diagnostics: &mut Diagnostics) -> Option<Arc<Rule>> {
        let Asking { api_name, api, name, route, params } = asking;
        let authorizers: Vec<&str> = match crate::identity::decides(api, route) {
            Some(Authenticate::Any { authorizers, .. }) => authorizers.iter().map(|name| name.value.as_str()).collect(),
            Some(Authenticate::Open) | None => Vec::new(),
        };
        let naming = maitred_policies::authorize::cedar::Naming {
            api: api_name,
            route: name,
            own: route.name.as_ref().map(|name| name.value.as_str()),
            methods: &route.matcher.methods,
            params,
            authorizers: &authorizers,
            span: route.matcher.span,
        };
        let rule = self.sets.rule(cedar, &naming, diagnostics);
        // A demand that was lost must not become a wider door.
        if rule.is_none() && !diagnostics.has_errors() {
            diagnostics.push(Diagnostic::error("bad-cedar", cedar.span, "these policies cannot be asked on a route"));
        }
        rule.map(Arc::new)
    }
}

#[cfg(not(feature = "cedar"))]
impl Library {
    pub fn load(document: &Document, _: &State, diagnostics: &mut Diagnostics) -> Library {
        for cedar in all(document) {
            let hint = "build it with `cargo build --release -p maitred --features cedar`, or remove `cedar`";
            diagnostics.push(Diagnostic::error("not-built", cedar.span, "this program was built without Cedar").hint(hint));
        }
        Library {}
    }

    /// Never one: `load` has complained about each.
    pub fn rule(&mut self, _: &Spanned<Cedar>, _: &Asking<'_>, _: &mut Diagnostics) -> Option<Arc<Rule>> {
        None
    }
}
