//! The desks of one host by the names of their functions. While one configuration replaces another a function has two: the newer has the
//! code in force. Decides nothing for them.

use super::desk::Desk;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct Desks(RefCell<HashMap<Arc<str>, Vec<Rc<Desk>>>>);

impl Desks {
    pub fn enter(&self, desk: &Rc<Desk>) {
        self.0.borrow_mut().entry(desk.shared.name.clone()).or_default().push(desk.clone());
    }

    pub fn leave(&self, desk: &Rc<Desk>) {
        let mut desks = self.0.borrow_mut();
        if let Some(of_name) = desks.get_mut(&desk.shared.name) {
            of_name.retain(|other| !Rc::ptr_eq(other, desk));
            if of_name.is_empty() {
                desks.remove(&desk.shared.name);
            }
        }
    }

    /// The newest that somebody has a handle of. One of a configuration that was refused retires at once, and gives on what it was given.
    pub fn in_force(&self, name: &str) -> Option<Rc<Desk>> {
        let desks = self.0.borrow();
        desks.get(name)?.iter().rev().find(|desk| !desk.is_retired.get()).cloned()
    }

    /// Events for which nobody waits and their bytes: of all desks of that name, since they go from one to the next.
    pub fn open_events(&self, name: &str) -> (usize, usize) {
        let desks = self.0.borrow();
        let of_name = desks.get(name).into_iter().flatten();
        of_name.fold((0, 0), |(count, bytes), desk| (count + desk.open_events.get(), bytes + desk.open_event_bytes.get()))
    }
}
