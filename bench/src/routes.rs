//! Route tables of any size for the gateway, and the requests that hit them. The same number always gives the same list;
//! all paths have one length, so that tables of different sizes differ in nothing but their size.

use std::fmt::Write;

use crate::http::{self, Request};

/// Collections under one service.
const COLLECTIONS: usize = 50;
/// The body of every answer to a generated path.
const ANSWER_BYTES: usize = 1024;

/// What a gateway's configuration routes to the back end.
#[derive(Clone, Copy, PartialEq)]
pub enum Routes {
    /// One route for everything.
    CatchAll,
    /// The paths of the saturated scenarios, and others up to this number.
    Mixed(usize),
    /// Only generated paths.
    Generated(usize),
}

impl Routes {
    pub fn yaml(self) -> String {
        let fixed = ["GET /1k", "GET /64k", "POST /echo", "GET /ws"];
        let mut text = String::new();
        let generated = match self {
            Routes::CatchAll => {
                text.push_str("      - ANY /{path+}: backend\n");
                0
            }
            Routes::Mixed(count) => {
                fixed.iter().for_each(|route| text.push_str(&format!("      - {route}: backend\n")));
                count.saturating_sub(fixed.len())
            }
            Routes::Generated(count) => count,
        };
        for number in 0..generated {
            let (service, collection, end) = parts(number);
            let _ = writeln!(text, "      - GET /svc{service:04}/items{collection:02}/{end}: backend");
        }
        text
    }

    /// A path that is routed, to see whether the gateway is up.
    pub fn probe(self) -> String {
        match self {
            Routes::CatchAll | Routes::Mixed(_) => "/1k".into(),
            Routes::Generated(_) => path(0),
        }
    }
}

/// Every other route ends in a parameter.
fn parts(number: usize) -> (usize, usize, &'static str) {
    (number / COLLECTIONS, number % COLLECTIONS, if number.is_multiple_of(2) { "{id}" } else { "list" })
}

pub fn path(number: usize) -> String {
    let (service, collection, end) = parts(number);
    let end = end.replace("{id}", "4711");
    format!("/svc{service:04}/items{collection:02}/{end}")
}

/// One request for each generated route.
pub fn requests(count: usize) -> Vec<Request> {
    (0..count).map(|number| http::get(&path(number), ANSWER_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generated_path_is_of_one_length_and_unlike_the_others() {
        let mut paths: Vec<String> = (0..100_000).map(path).collect();
        assert!(paths.iter().all(|p| p.len() == paths[0].len()));
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 100_000);
    }

    #[test]
    fn a_table_has_as_many_routes_as_asked() {
        for (routes, count) in [(Routes::CatchAll, 1), (Routes::Mixed(200), 200), (Routes::Generated(10), 10)] {
            assert_eq!(routes.yaml().lines().count(), count);
        }
    }
}
