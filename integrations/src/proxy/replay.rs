//! A request's body on its way, kept as far as it fits, so that it can be sent again. One that grew longer passes on and is forgotten.

use maitred_core::{Body, Fault, Progress, Stream};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

pub struct Replay {
    source: Rc<dyn Stream>,
    /// From the body's first byte on.
    kept: RefCell<Vec<u8>>,
    most: usize,
    /// It was longer: whoever reads now reads the source.
    passed: Cell<bool>,
    whole: Cell<bool>,
}

impl Replay {
    pub fn new(source: Rc<dyn Stream>, most: usize) -> Rc<Replay> {
        Rc::new(Replay { source, kept: RefCell::default(), most, passed: Cell::new(false), whole: Cell::new(false) })
    }

    /// Nothing that was read of it is lost.
    pub fn is_kept(&self) -> bool {
        !self.passed.get()
    }

    /// All of it is here.
    pub fn is_whole(&self) -> bool {
        self.whole.get() && !self.passed.get()
    }

    /// The body from its beginning. Until it is whole, the last one made is the only one that may be read.
    pub fn again(self: &Rc<Self>) -> Body {
        Body::Stream(Rc::new(Reading { replay: self.clone(), at: Cell::new(0) }))
    }

    /// Takes the next piece of the source in, or steps aside.
    fn poll_more(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        let ready = self.source.poll_ready(cx);
        match ready {
            Poll::Ready(Ok(Progress::End)) => self.whole.set(true),
            Poll::Ready(Ok(Progress::Data)) => {
                let data = self.source.data();
                let mut kept = self.kept.borrow_mut();
                if kept.len() + data.len() > self.most {
                    self.passed.set(true);
                    *kept = Vec::new();
                } else {
                    let count = data.len();
                    kept.extend_from_slice(&data);
                    drop(data);
                    self.source.consume(count);
                }
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        ready
    }
}

/// One who reads a body that is kept.
struct Reading {
    replay: Rc<Replay>,
    at: Cell<usize>,
}

impl Stream for Reading {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        let replay = &self.replay;
        if replay.passed.get() {
            return replay.source.poll_ready(cx);
        }
        if self.at.get() < replay.kept.borrow().len() {
            return Poll::Ready(Ok(Progress::Data));
        }
        if replay.whole.get() {
            return Poll::Ready(Ok(Progress::End));
        }
        replay.poll_more(cx)
    }

    fn data(&self) -> Ref<'_, [u8]> {
        if self.replay.passed.get() {
            return self.replay.source.data();
        }
        Ref::map(self.replay.kept.borrow(), |kept| &kept[self.at.get()..])
    }

    fn consume(&self, count: usize) {
        if self.replay.passed.get() {
            return self.replay.source.consume(count);
        }
        self.at.set(self.at.get() + count);
    }

    fn limit(&self, bytes: u64) {
        self.replay.source.limit(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.replay.source.trailers(out);
    }

    fn finish(self: Rc<Self>) {
        self.replay.source.clone().finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::Whole;

    /// Reads on for so many bytes, or to the end.
    fn read(body: &Body, most: usize) -> Vec<u8> {
        let Body::Stream(stream) = body else { panic!("a stream") };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = Vec::new();
        while read.len() < most && matches!(stream.poll_ready(&mut cx), Poll::Ready(Ok(Progress::Data))) {
            let count = stream.data().len().min(most - read.len()).min(7);
            read.extend_from_slice(&stream.data()[..count]);
            stream.consume(count);
        }
        read
    }

    fn replay(most: usize) -> (Vec<u8>, Rc<Replay>) {
        let bytes: Vec<u8> = (0..100).collect();
        (bytes.clone(), Replay::new(Rc::new(Whole::new(bytes.into())), most))
    }

    #[test]
    fn a_body_that_fits_is_read_as_often_as_is_wished() {
        let (bytes, replay) = replay(100);
        let first = replay.again();
        assert_eq!(read(&first, 10), bytes[..10]);
        let (second, third) = (replay.again(), replay.again());
        assert_eq!(read(&second, usize::MAX), bytes);
        assert!(replay.is_whole());
        assert_eq!((read(&third, usize::MAX), read(&first, usize::MAX)), (bytes.clone(), bytes[10..].to_vec()));
    }

    #[test]
    fn a_longer_one_passes_and_is_forgotten() {
        let (bytes, replay) = replay(99);
        assert_eq!(read(&replay.again(), usize::MAX), bytes);
        assert!(!replay.is_kept() && !replay.is_whole() && replay.kept.borrow().capacity() == 0);
    }
}
