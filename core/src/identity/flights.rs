//! Finds something out once for all who ask for it at the same moment on a worker. Remembers nothing: what was found is for those who
//! waited, and `Verdicts` keeps it for those who come later.

use super::Remembered;
use crate::fault::Fault;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// What came of it. A fault is shared too: else those who wait would ask one after the other, each as long as the first.
pub type Finding = Result<Remembered, Fault>;

/// By authorizer and credential. There are no more of them than requests under way, each of which holds its credential anyway.
#[derive(Debug, Default)]
pub struct Flights(RefCell<HashMap<Key, Rc<Flight>>>);

type Key = (u64, Box<[u8]>);

#[derive(Debug, Default)]
struct Flight {
    state: RefCell<State>,
}

#[derive(Debug)]
enum State {
    Under(Vec<Waker>),
    Over(Finding),
    /// Whoever was to find it out went away.
    Abandoned,
}

impl Default for State {
    fn default() -> State {
        State::Under(Vec::new())
    }
}

impl Flights {
    /// The first who asks finds out, by `find`; the others wait for that. Where the first is dropped before it knows, one of them goes on in
    /// its place. `find` must end by itself.
    pub async fn share<F: Future<Output = Finding>>(
        &self,
        authorizer: u64,
        credential: &[u8],
        find: impl FnOnce() -> F,
    ) -> Finding {
        loop {
            let under_way = self.0.borrow().get(&(authorizer, Box::from(credential))).cloned();
            let Some(flight) = under_way else { break };
            if let Some(finding) = flight.wait().await {
                return finding;
            }
        }
        let key: Key = (authorizer, credential.into());
        let flight = Rc::<Flight>::default();
        self.0.borrow_mut().insert(key.clone(), flight.clone());
        let leading = Leading { flights: self, key: &key, flight: &flight };
        let finding = find().await;
        leading.flight.land(State::Over(finding.clone()));
        finding
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Flight {
    /// `None`: it was abandoned.
    async fn wait(&self) -> Option<Finding> {
        poll_fn(|cx| match &mut *self.state.borrow_mut() {
            State::Under(waiting) => {
                // A task that is polled twice meanwhile is there once.
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            State::Over(finding) => Poll::Ready(Some(finding.clone())),
            State::Abandoned => Poll::Ready(None),
        })
        .await
    }

    fn land(&self, state: State) {
        let before = std::mem::replace(&mut *self.state.borrow_mut(), state);
        if let State::Under(waiting) = before {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// Whoever finds out. Takes the flight off the list in any case, also when it is dropped in the middle.
struct Leading<'a> {
    flights: &'a Flights,
    key: &'a Key,
    flight: &'a Flight,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.flights.0.borrow_mut().remove(self.key);
        let under = matches!(*self.flight.state.borrow(), State::Under(_));
        if under {
            self.flight.land(State::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;
    use std::cell::Cell;
    use std::pin::{Pin, pin};
    use std::task::Context;

    /// Ready when it is let go.
    async fn held(asked: &Cell<u32>, gate: &Cell<bool>) -> Finding {
        asked.set(asked.get() + 1);
        poll_fn(|_| if gate.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        Ok(Remembered::Refused)
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn many_ask_and_one_finds_out() {
        let (flights, asked, gate) = (Flights::default(), Cell::new(0), Cell::new(false));
        let mut first = pin!(flights.share(1, b"token", || held(&asked, &gate)));
        let mut second = pin!(flights.share(1, b"token", || held(&asked, &gate)));
        let mut other = pin!(flights.share(2, b"token", || held(&asked, &gate)));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none() && poll(other.as_mut()).is_none());
        assert_eq!((asked.get(), flights.len()), (2, 2));
        gate.set(true);
        assert!(poll(second.as_mut()).is_none(), "it waits for the first");
        assert!(poll(first.as_mut()).is_some() && poll(second.as_mut()).is_some() && poll(other.as_mut()).is_some());
        assert_eq!((asked.get(), flights.is_empty()), (2, true));
    }

    #[test]
    fn who_goes_away_leaves_it_to_the_next() {
        let (flights, asked, gate) = (Flights::default(), Cell::new(0), Cell::new(false));
        let mut first = Box::pin(flights.share(1, b"token", || held(&asked, &gate)));
        let mut second = pin!(flights.share(1, b"token", || held(&asked, &gate)));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(first);
        assert!(flights.is_empty());
        gate.set(true);
        assert!(matches!(poll(second.as_mut()), Some(Ok(Remembered::Refused))));
        assert_eq!((asked.get(), flights.is_empty()), (2, true));
    }

    #[test]
    fn a_fault_is_everybody_s() {
        let flights = Flights::default();
        let gate = Cell::new(false);
        let fails = || async {
            poll_fn(|_| if gate.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            Err(Fault::new(Kind::AuthorizerUnavailable, "down"))
        };
        let mut first = pin!(flights.share(1, b"token", fails));
        let mut second = pin!(flights.share(1, b"token", || async { panic!("it was found out already") }));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        gate.set(true);
        assert!(matches!(poll(first.as_mut()), Some(Err(_))) && matches!(poll(second.as_mut()), Some(Err(_))));
    }
}
