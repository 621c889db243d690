//! What one request asks together, until all of it is answered, or its time is over. Sends nothing.

use super::command::{Answer, Command};
use super::link::Link;
use maitred_core::limits::{Ask, AskQuota, Unanswered};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Answered,
    /// Nobody waits for answers any more.
    Over,
}

pub(super) struct Batch {
    slots: RefCell<Vec<Slot>>,
    left: Cell<usize>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

struct Slot {
    command: Command,
    answer: Option<Answer>,
    /// Whom it was sent to last.
    link: Option<Rc<Link>>,
}

impl Batch {
    pub fn new(commands: impl Iterator<Item = Command>) -> Rc<Batch> {
        let slots: Vec<Slot> = commands.map(|command| Slot { command, answer: None, link: None }).collect();
        let left = Cell::new(slots.len());
        Rc::new(Batch { slots: RefCell::new(slots), left, state: Cell::new(State::Open), waker: RefCell::default() })
    }

    pub fn commands(&self) -> Vec<Command> {
        self.slots.borrow().iter().map(|slot| slot.command).collect()
    }

    /// Somebody waits for more.
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    pub fn sent(&self, index: usize, link: &Rc<Link>) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(index) {
            slot.link = Some(link.clone());
        }
    }

    /// False: it comes too late, and what was granted is nobody's.
    pub fn answered(&self, index: usize, answer: Answer) -> bool {
        if !self.is_open() {
            return false;
        }
        if let Some(slot) = self.slots.borrow_mut().get_mut(index)
            && slot.answer.replace(answer).is_none()
        {
            self.left.set(self.left.get() - 1);
        }
        if self.left.get() == 0 {
            self.end(State::Answered);
        }
        true
    }

    /// There will be no answer, or not in time.
    pub fn fail(&self) {
        if self.is_open() {
            self.end(State::Over);
        }
    }

    /// The time is over. Whoever has not answered is told so.
    pub fn expire(&self) {
        if !self.is_open() {
            return;
        }
        self.end(State::Over);
        let mut links: Vec<Rc<Link>> = Vec::new();
        // However much was asked of a link, it is late once: one slow request says no more of a server than another.
        for link in self.slots.borrow().iter().filter(|slot| slot.answer.is_none()).filter_map(|slot| slot.link.as_ref()) {
            if !links.iter().any(|other| Rc::ptr_eq(link, other)) {
                links.push(link.clone());
            }
        }
        // A link that gives up fails what else it has.
        links.iter().for_each(|link| link.late());
    }

    fn end(&self, state: State) {
        self.state.set(state);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Vec<Answer>, Unanswered>> {
        match self.state.get() {
            State::Open => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Answered => Poll::Ready(Ok(self.slots.borrow().iter().filter_map(|slot| slot.answer).collect())),
            State::Over => Poll::Ready(Err(Unanswered)),
        }
    }

    /// What undoes all that was answered, for nothing.
    pub fn undone(&self) -> Vec<Command> {
        self.slots.borrow().iter().filter_map(|slot| undone(&slot.command, slot.answer?)).collect()
    }
}

/// What is to be said if nobody uses an answer.
pub(super) fn undone(command: &Command, answer: Answer) -> Option<Command> {
    match (command, answer) {
        (Command::Take(ask), Answer::Verdict(verdict)) if verdict.allowed => Some(Command::GiveBack(*ask)),
        // Whoever asked owes the debt still, and says so with the next question: it is not to be paid twice.
        (Command::Lease { ask, debt }, Answer::Leased { granted, .. }) if granted > 0 || *debt > 0 => {
            Some(Command::GiveBack(Ask { units: granted.saturating_add(*debt), ..*ask }))
        }
        // What was owed is told again by whoever asked.
        (Command::Spend(ask), Answer::Spent(spent)) => {
            let units = if spent.is_ok() { ask.units } else { 0 };
            (units > 0 || ask.owed > 0).then_some(Command::Unspend(AskQuota { units, ..*ask }))
        }
        (Command::Take(_) | Command::Lease { .. } | Command::Spend(_), _) => None,
        (Command::GiveBack(_) | Command::Owe(_) | Command::Unspend(_), _) => None,
    }
}
