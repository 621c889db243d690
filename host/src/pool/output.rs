//! What one process writes: read from its pipes, cut into lines, and told with the invocation that was under way.

use crate::hint::Places;
use crate::log::{LINE_BYTES_MAX, Lines, Log, LogSource};
use maitred_core::function::LOG_TAIL_BYTES_MAX;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Read at once while nothing happens: then others have their turn.
const TURN_BYTES: usize = 16 * 1024;
/// All that a pipe has room for (pipe(7)): what was written before an answer is told with it.
const PIPE_BYTES: usize = 64 * 1024;
/// The same in lines, each of which costs as much as a hundred bytes: who writes nothing but line ends would hold the thread for long.
const TURN_LINES: usize = 256;
/// A full pipe, of lines that say something.
const PIPE_LINES: usize = 1024;

#[derive(Debug)]
pub(crate) struct Output {
    log: Arc<Log>,
    places: Arc<Places>,
    instance: u32,
    /// The invocation under way, up to the next question for work; empty: none.
    request: RefCell<Box<str>>,
    /// What it wrote during the invocation, where the end of that is wanted.
    tail: RefCell<Option<Vec<u8>>>,
    pipes: [Pipe; 2],
    was_hinted: Cell<bool>,
}

#[derive(Debug)]
struct Pipe {
    source: LogSource,
    /// `None` before there is a process, and when it has closed it.
    file: RefCell<Option<std::rc::Rc<AsyncFd<File>>>>,
    lines: RefCell<Lines>,
    /// Read, and more lines than could be told at once.
    rest: RefCell<Vec<u8>>,
    /// There is some of that, which the system does not say.
    again: Notify,
}

impl Output {
    pub fn new(log: Arc<Log>, places: Arc<Places>, instance: u32) -> Output {
        let pipe = |source| Pipe {
            source,
            file: RefCell::default(),
            lines: RefCell::default(),
            rest: RefCell::default(),
            again: Notify::new(),
        };
        Output {
            log,
            places,
            instance,
            request: RefCell::default(),
            tail: RefCell::default(),
            pipes: [pipe(LogSource::Stdout), pipe(LogSource::Stderr)],
            was_hinted: Cell::new(false),
        }
    }

    pub fn open(&self, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> io::Result<()> {
        for (pipe, end) in self.pipes.iter().zip([stdout, stderr]) {
            let file = end.map(|end| register(File::from(end))).transpose()?;
            *pipe.file.borrow_mut() = file.map(std::rc::Rc::new);
        }
        Ok(())
    }

    pub fn close(&self) {
        for pipe in &self.pipes {
            self.drain(pipe, PIPE_BYTES, PIPE_LINES, Upto::Now);
            pipe.file.take();
            pipe.rest.take();
            pipe.lines.borrow_mut().finish(|line| self.line(pipe.source, line));
        }
    }

    /// Reads on until both are closed.
    pub async fn follow(&self) {
        tokio::join!(self.follow_one(&self.pipes[0]), self.follow_one(&self.pipes[1]));
    }

    async fn follow_one(&self, pipe: &Pipe) {
        let Some(file) = pipe.file.borrow().clone() else { return };
        loop {
            let ready = tokio::select! {
                ready = file.readable() => Some(ready),
                () = pipe.again.notified() => None,
            };
            if ready.is_some_and(|ready| ready.is_err()) {
                break;
            }
            match self.drain(pipe, TURN_BYTES, TURN_LINES, Upto::Call) {
                Drained::Empty => {}
                Drained::More => tokio::task::yield_now().await,
                Drained::Closed => break,
            }
        }
        pipe.file.take();
    }

    /// Takes what was written, so that it is told with the invocation that it belongs to.
    pub fn catch_up(&self, upto: Upto) {
        for pipe in &self.pipes {
            self.drain(pipe, PIPE_BYTES, PIPE_LINES, upto);
        }
    }

    fn drain(&self, pipe: &Pipe, most: usize, mut lines: usize, upto: Upto) -> Drained {
        let Some(file) = pipe.file.borrow().clone() else { return Drained::Closed };
        let rest = pipe.rest.take();
        if !rest.is_empty() && !self.tell(pipe, &rest, &mut lines) {
            return Drained::More;
        }
        let mut read = |file: &File| self.read(file, pipe, most, &mut lines);
        let drained = match upto {
            Upto::Call => file.try_io(Interest::READABLE, read),
            Upto::Now => read(file.get_ref()),
        };
        drained.unwrap_or(Drained::Empty)
    }

    /// Fails where there is no more for now, which is how a file that was asked too early is taken to be.
    fn read(&self, mut file: &File, pipe: &Pipe, most: usize, lines: &mut usize) -> io::Result<Drained> {
        let mut bytes = [0; 8 * 1024];
        for _ in 0..most / bytes.len() {
            match file.read(&mut bytes) {
                Ok(0) => return Ok(Drained::Closed),
                Ok(count) => {
                    if !self.tell(pipe, &bytes[..count], lines) {
                        return Ok(Drained::More);
                    }
                    if count < bytes.len() {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(Drained::Closed),
            }
        }
        Ok(Drained::More)
    }

    /// Whether those were all told; if not, the rest is kept.
    fn tell(&self, pipe: &Pipe, bytes: &[u8], most: &mut usize) -> bool {
        let rest = pipe.lines.borrow_mut().take(bytes, most, |line| self.line(pipe.source, line));
        if !rest.is_empty() {
            *pipe.rest.borrow_mut() = rest.to_vec();
            pipe.again.notify_one();
        }
        rest.is_empty()
    }

    /// It asks for work: what it writes from here on belongs to no invocation.
    pub fn rest(&self) {
        self.catch_up(Upto::Call);
        self.request.take();
    }

    pub fn begin(&self, request: &str, wants_tail: bool) {
        *self.request.borrow_mut() = request.into();
        *self.tail.borrow_mut() = wants_tail.then(Vec::new);
    }

    pub fn take_tail(&self) -> Option<Vec<u8>> {
        self.tail.take()
    }

    /// The host's own word.
    pub fn say(&self, text: &str) {
        self.line(LogSource::Platform, text);
    }

    /// The same of what went wrong.
    pub fn complain(&self, text: &str) {
        self.line(LogSource::Failure, text);
    }

    /// An error that the process told, and that runtimes write as well.
    pub fn warn(&self, text: &str) {
        let request = self.request.borrow();
        self.log.warn(self.instance, Some(&**request).filter(|id| !id.is_empty()), text);
    }

    fn line(&self, source: LogSource, text: &str) {
        let request = self.request.borrow();
        self.log.push(source, self.instance, Some(&**request).filter(|id| !id.is_empty()), text);
        if let Some(tail) = &mut *self.tail.borrow_mut() {
            tail.extend_from_slice(text.as_bytes());
            tail.push(b'\n');
            let surplus = tail.len().saturating_sub(LOG_TAIL_BYTES_MAX);
            tail.drain(..surplus);
        }
        if matches!(source, LogSource::Stdout | LogSource::Stderr) && !self.was_hinted.get() {
            self.hint(text, &request);
        }
    }

    /// Once for each process.
    fn hint(&self, text: &str, request: &str) {
        if let Some(hint) = self.places.hint(text) {
            self.was_hinted.set(true);
            self.log.push(LogSource::Failure, self.instance, Some(request).filter(|id| !id.is_empty()), &hint);
        }
    }

    /// An error that the process told instead of writing it.
    pub fn hint_of(&self, payload: &[u8]) {
        if !self.was_hinted.get() {
            let start = &payload[..payload.len().min(LINE_BYTES_MAX)];
            self.hint(&String::from_utf8_lossy(start), &self.request.borrow());
        }
    }
}

fn register(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a file has the one descriptor from its start until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(file, Interest::READABLE)? })
}

enum Drained {
    Empty,
    More,
    Closed,
}

/// What is to have been taken of a pipe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Upto {
    /// All that the process wrote before it began the call that was just read. The system tells what can be read in the order in which it
    /// came, and `Wire` reads no call that it has not told: so a pipe of which it has told nothing is empty up to there, and is not asked.
    Call,
    /// Whatever there is.
    Now,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn lines_are_told_some_at_once_and_none_is_forgotten() {
        const ALL: usize = 3 * PIPE_LINES;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log = Arc::new(Log::new("f".into()));
            let output = Output::new(log.clone(), Arc::default(), 1);
            let (reader, mut writer) = UnixStream::pair().unwrap();
            reader.set_nonblocking(true).unwrap();
            output.open(Some(reader.into()), None).unwrap();
            let told = || log.after(0).last().map_or(0, |line| line.number as usize);
            let mut follow = std::pin::pin!(output.follow_one(&output.pipes[0]));
            let _ = tokio::time::timeout(Duration::ZERO, &mut follow).await;
            writer.write_all(&[b'\n'; ALL]).unwrap();
            output.catch_up(Upto::Now);
            assert_eq!(told(), PIPE_LINES);
            let all = async {
                while told() < ALL {
                    tokio::task::yield_now().await;
                }
            };
            // All of it was read, so that nothing more is to be read that could wake who follows.
            tokio::select! {
                () = &mut follow => panic!("it is open"),
                done = tokio::time::timeout(Duration::from_secs(20), all) => done.unwrap(),
            }
        });
    }
}
