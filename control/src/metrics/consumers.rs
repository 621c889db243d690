//! Registered callers and the store they are kept in. Names none of them: there may be a hundred thousand.

use super::Page;
use crate::consumers::ConsumerCounts;

pub(super) fn write(page: &mut Page, counts: ConsumerCounts) {
    let ConsumerCounts { file, store, store_errors } = counts;
    page.family("maitred_consumers", "gauge", "Registered callers, by where they stand.");
    for (source, count) in [("file", file), ("store", store)] {
        page.line(format_args!("maitred_consumers{{source=\"{source}\"}} {count}"));
    }
    let help = "How often the store could not be read or written.";
    page.single("maitred_store_errors_total", "counter", help, store_errors);
}
