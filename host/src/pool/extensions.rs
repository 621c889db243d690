//! The extensions of one process: which there are, what they wait for, and whether all are ready for the next event. Knows no HTTP
//! (`api/extensions.rs` does) and starts none: those of layers are started with the process (`code/environment.rs`).

use crate::api::extensions::{Denied, EXTENSIONS_MAX, Wants};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct Extensions {
    /// Those that were started with the process and have not registered.
    missing: RefCell<Vec<String>>,
    known: RefCell<Vec<Extension>>,
    /// What is done once they know that the process ends, or had the time for it.
    after: Cell<Option<After>>,
    changed: Notify,
}

/// How a process ends whose extensions were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Terminate,
    Kill,
}

#[derive(Debug)]
struct Extension {
    id: Uuid,
    name: Box<str>,
    /// A process of its own, which goes on while the function's is stopped.
    is_external: bool,
    wants: Wants,
    stand: Stand,
    /// Came when it did not wait.
    due: Option<Rc<str>>,
}

#[derive(Debug)]
enum Stand {
    /// Has not asked for an event yet: it is not ready.
    New,
    Waiting(oneshot::Sender<Rc<str>>),
    /// Has an event, or lost the connection that it asked on.
    Working,
    /// Is told that the process ends.
    Told,
    Over,
}

impl Extensions {
    pub fn new(external: &[String]) -> Extensions {
        Extensions {
            missing: RefCell::new(external.to_vec()),
            known: RefCell::default(),
            after: Cell::default(),
            changed: Notify::new(),
        }
    }

    pub fn register(&self, name: &str, wants: Wants) -> Result<Uuid, Denied> {
        let mut known = self.known.borrow_mut();
        if known.iter().any(|extension| &*extension.name == name) {
            return Err(Denied::Registered);
        }
        let mut missing = self.missing.borrow_mut();
        let external = missing.iter().position(|other| other == name);
        // Those that are to come have their places.
        if external.is_none() && known.len() + missing.len() >= EXTENSIONS_MAX {
            return Err(Denied::TooMany);
        }
        external.map(|index| missing.swap_remove(index));
        let id = Uuid::now_v7();
        let is_external = external.is_some();
        known.push(Extension { id, name: name.into(), is_external, wants, stand: Stand::New, due: None });
        Ok(id)
    }

    pub fn name(&self, id: Uuid) -> Result<Box<str>, Denied> {
        let known = self.known.borrow();
        let found = known.iter().find(|extension| extension.id == id);
        found.map(|extension| extension.name.clone()).ok_or(Denied::IdentifierUnknown)
    }

    /// It asks for an event, and has finished with the last.
    pub fn ask(&self, id: Uuid) -> Result<oneshot::Receiver<Rc<str>>, Denied> {
        let mut known = self.known.borrow_mut();
        let extension = known.iter_mut().find(|extension| extension.id == id).ok_or(Denied::IdentifierUnknown)?;
        let (give, given) = oneshot::channel();
        let due = extension.due.take();
        extension.stand = match (&extension.stand, &due) {
            (Stand::Told, Some(_)) => Stand::Told,
            (Stand::Told, None) | (Stand::Over, _) => Stand::Over,
            (Stand::New | Stand::Waiting(_) | Stand::Working, Some(_)) => Stand::Working,
            (Stand::New | Stand::Waiting(_) | Stand::Working, None) => {
                extension.stand = Stand::Waiting(give);
                drop(known);
                self.changed.notify_waiters();
                return Ok(given);
            }
        };
        if let Some(event) = due {
            let _ = give.send(event);
        }
        drop(known);
        self.changed.notify_waiters();
        Ok(given)
    }

    /// The connection that it asked on is gone, perhaps with an event.
    pub fn unask(&self, id: Uuid, mut given: oneshot::Receiver<Rc<str>>) {
        given.close();
        match given.try_recv() {
            Ok(event) => self.not_taken(id, event),
            Err(_) => self.with(id, |extension| {
                if matches!(&extension.stand, Stand::Waiting(give) if give.is_closed()) {
                    extension.stand = Stand::Working;
                }
            }),
        }
    }

    pub fn not_taken(&self, id: Uuid, event: Rc<str>) {
        self.with(id, |extension| {
            if !matches!(extension.stand, Stand::Told) {
                extension.stand = Stand::Working;
            }
            // The end may have come meanwhile, and is more urgent.
            extension.due.get_or_insert(event);
        });
    }

    /// Whoever was told the end and then left is done with it.
    pub fn left(&self, id: Uuid) {
        self.with(id, |extension| {
            if matches!(extension.stand, Stand::Told) {
                extension.stand = Stand::Over;
            }
        });
    }

    fn with(&self, id: Uuid, change: impl FnOnce(&mut Extension)) {
        if let Some(extension) = self.known.borrow_mut().iter_mut().find(|extension| extension.id == id) {
            change(extension);
        }
        self.changed.notify_waiters();
    }

    /// Whether the process may be given its next event: all that are wanted are there, and have finished with the last.
    pub fn are_ready(&self) -> bool {
        self.missing.borrow().is_empty() && self.known.borrow().iter().all(Extension::is_ready)
    }

    pub async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            if self.are_ready() {
                return;
            }
            changed.await;
        }
    }

    /// Who keeps the process from its next event.
    pub fn waited_for(&self) -> Option<String> {
        let known = self.known.borrow();
        let late = known.iter().filter(|extension| !extension.is_ready()).map(|extension| &*extension.name);
        let all: Vec<String> = self.missing.borrow().iter().cloned().chain(late.map(str::to_owned)).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Tells those who want to know of an invocation.
    pub fn invoke(&self, event: impl FnOnce() -> String) {
        let mut known = self.known.borrow_mut();
        let mut listeners = known.iter_mut().filter(|extension| extension.wants.invoke).peekable();
        if listeners.peek().is_none() {
            return;
        }
        let event: Rc<str> = event().into();
        listeners.for_each(|extension| extension.give(&event, Stand::Working));
    }

    /// Tells them that the process ends. `false`: nobody wants to know.
    pub fn shut_down(&self, after: After, event: impl FnOnce() -> String) -> bool {
        let mut known = self.known.borrow_mut();
        // Who is stopped with the function hears nothing.
        let hears = |extension: &Extension| extension.wants.shutdown && (extension.is_external || after == After::Terminate);
        let mut listeners = known.iter_mut().filter(|extension| hears(extension)).peekable();
        if listeners.peek().is_none() {
            return false;
        }
        let event: Rc<str> = event().into();
        listeners.for_each(|extension| extension.give(&event, Stand::Told));
        self.after.set(Some(after));
        true
    }

    /// They were told, and are not all done with it.
    pub fn are_ending(&self) -> bool {
        self.known.borrow().iter().any(|extension| matches!(extension.stand, Stand::Told))
    }

    /// What is done when they are, or too late. Once.
    pub fn take_after(&self) -> Option<After> {
        self.after.take()
    }
}

impl Extension {
    fn is_ready(&self) -> bool {
        match self.stand {
            Stand::New => false,
            Stand::Waiting(_) => true,
            Stand::Working => !self.wants.invoke,
            Stand::Told | Stand::Over => true,
        }
    }

    fn give(&mut self, event: &Rc<str>, then: Stand) {
        self.due = match std::mem::replace(&mut self.stand, then) {
            Stand::Waiting(give) => give.send(event.clone()).err(),
            Stand::New | Stand::Working | Stand::Told | Stand::Over => Some(event.clone()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVOKE: Wants = Wants { invoke: true, shutdown: false };
    const BOTH: Wants = Wants { invoke: true, shutdown: true };

    #[test]
    fn the_next_event_waits_for_all_that_are_wanted() {
        let extensions = Extensions::new(&["outer".to_owned()]);
        assert_eq!((extensions.are_ready(), extensions.waited_for().as_deref()), (false, Some("outer")));
        let outer = extensions.register("outer", INVOKE).unwrap();
        let inner = extensions.register("inner", Wants::default()).unwrap();
        assert_eq!(extensions.waited_for().as_deref(), Some("outer, inner"));
        let (mut first, second) = (extensions.ask(outer).unwrap(), extensions.ask(inner).unwrap());
        assert!(extensions.are_ready());
        extensions.invoke(|| "one".into());
        assert_eq!(first.try_recv().as_deref(), Ok("one"));
        assert_eq!(extensions.waited_for().as_deref(), Some("outer"), "who hears nothing of it is not waited for");
        extensions.unask(inner, second);
        // One that asks late, or whose connection broke, has its event all the same.
        let mut first = extensions.ask(outer).unwrap();
        assert!(extensions.are_ready() && first.try_recv().is_err());
        extensions.unask(outer, first);
        assert!(!extensions.are_ready());
        extensions.invoke(|| "two".into());
        let mut given = extensions.ask(outer).unwrap();
        let two = given.try_recv().unwrap();
        extensions.not_taken(outer, two);
        assert_eq!(extensions.ask(outer).unwrap().try_recv().as_deref(), Ok("two"));
    }

    #[test]
    fn names_are_taken_once_and_there_is_an_end_of_them() {
        let extensions = Extensions::new(&["outer".to_owned()]);
        for number in 1..EXTENSIONS_MAX {
            extensions.register(&number.to_string(), Wants::default()).unwrap();
        }
        assert_eq!(extensions.register("1", Wants::default()), Err(Denied::Registered));
        assert_eq!(extensions.register("more", Wants::default()), Err(Denied::TooMany), "one place is another's");
        extensions.register("outer", Wants::default()).unwrap();
        assert_eq!(extensions.register("more", Wants::default()), Err(Denied::TooMany));
        let stranger = Uuid::now_v7();
        assert_eq!(extensions.ask(stranger).map(drop), Err(Denied::IdentifierUnknown));
        assert_eq!(extensions.name(stranger), Err(Denied::IdentifierUnknown));
    }

    #[test]
    fn those_who_want_to_know_of_the_end_are_waited_for() {
        let extensions = Extensions::new(&["outer".to_owned()]);
        assert!(!extensions.shut_down(After::Terminate, || panic!("nobody hears it")));
        let inner = extensions.register("inner", BOTH).unwrap();
        let mut inners = extensions.ask(inner).unwrap();
        assert!(!extensions.shut_down(After::Kill, || panic!("it is stopped with its process")));
        let outer = extensions.register("outer", BOTH).unwrap();
        assert!(extensions.shut_down(After::Terminate, || "end".into()) && extensions.are_ending());
        assert_eq!(inners.try_recv().as_deref(), Ok("end"));
        // It asks once more when it is done.
        assert!(extensions.ask(inner).unwrap().try_recv().is_err());
        assert!(extensions.are_ending(), "the other has not even asked");
        assert_eq!(extensions.ask(outer).unwrap().try_recv().as_deref(), Ok("end"));
        assert!(extensions.are_ending());
        extensions.left(outer);
        assert!(!extensions.are_ending());
        assert_eq!((extensions.take_after(), extensions.take_after()), (Some(After::Terminate), None));
    }
}
