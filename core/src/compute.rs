//! Heavy work away from the workers: hashes of passwords and whatever else would hold up a worker's other requests. A few threads of low
//! priority and a queue with an end: what does not fit is refused, not waited for. Knows nothing of what it computes.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;

/// Jobs that may wait for each thread. A password takes some 50 ms, so the last of them waits 3 s: longer than clients care to.
const WAITING_PER_THREAD: usize = 64;

/// Workers come first whenever there is something for them to do.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// What the pool has done, for `/metrics`.
#[derive(Debug, Default)]
pub struct ComputeFigures {
    /// Jobs that wait now.
    pub waiting: AtomicU64,
    /// Jobs that were begun.
    pub begun: AtomicU64,
    /// Jobs that found the queue full.
    pub refused: AtomicU64,
    /// Jobs nobody waited for any more when it was their turn.
    pub skipped: AtomicU64,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The job came to no result: it panicked, or the process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// The process's pool. Its threads start with the first jobs: who computes nothing pays for nothing.
pub struct Compute {
    inner: Arc<Inner>,
}

struct Inner {
    desk: Mutex<Desk>,
    work: Condvar,
    threads_max: usize,
    waiting_max: usize,
    figures: Arc<ComputeFigures>,
}

#[derive(Default)]
struct Desk {
    jobs: VecDeque<Box<dyn Job>>,
    threads: usize,
    /// Of them those with nothing to do.
    idle: usize,
    is_closed: bool,
}

trait Job: Send {
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

impl Compute {
    /// As many threads as half the cores.
    pub fn new(figures: Arc<ComputeFigures>) -> Compute {
        let cores = available_parallelism().map_or(1, usize::from);
        Compute::with_threads((cores / 2).max(1), figures)
    }

    /// `threads`: at least one.
    pub fn with_threads(threads: usize, figures: Arc<ComputeFigures>) -> Compute {
        let threads_max = threads.max(1);
        let waiting_max = WAITING_PER_THREAD * threads_max;
        Compute { inner: Arc::new(Inner { desk: Mutex::default(), work: Condvar::new(), threads_max, waiting_max, figures }) }
    }

    /// Has `job` done. It is not begun when what is given back is dropped before its turn.
    pub fn run<T, F>(&self, job: F) -> Result<Computing<T>, Busy>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let slot = Arc::new(Slot(Mutex::new(Stage::Awaited(None))));
        let task = Task { job: Some(job), slot: slot.clone() };
        self.inner.take(Box::new(task))?;
        Ok(Computing { slot })
    }

    pub fn figures(&self) -> &Arc<ComputeFigures> {
        &self.inner.figures
    }
}

impl Drop for Compute {
    /// Threads end with the job they are at; what waits is lost, and whoever waits for it is told.
    fn drop(&mut self) {
        let mut desk = self.inner.desk();
        desk.is_closed = true;
        let lost = std::mem::take(&mut desk.jobs);
        drop(desk);
        self.inner.work.notify_all();
        drop(lost);
    }
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, job: Box<dyn Job>) -> Result<(), Busy> {
        let mut desk = self.desk();
        if desk.jobs.len() >= self.waiting_max {
            // Those whose clients went away keep no place from others.
            let before = desk.jobs.len();
            desk.jobs.retain(|job| job.is_wanted());
            self.figures.skipped.fetch_add((before - desk.jobs.len()) as u64, Ordering::Relaxed);
        }
        let is_full = desk.jobs.len() >= self.waiting_max;
        if is_full || !self.is_staffed(&mut desk) {
            self.figures.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Busy);
        }
        desk.jobs.push_back(job);
        self.figures.waiting.store(desk.jobs.len() as u64, Ordering::Relaxed);
        drop(desk);
        self.work.notify_one();
        Ok(())
    }

    /// Whether somebody will come to a further job; one more thread starts where all have their hands full.
    fn is_staffed(self: &Arc<Self>, desk: &mut Desk) -> bool {
        if desk.idle > desk.jobs.len() || desk.threads == self.threads_max {
            return true;
        }
        let inner = self.clone();
        let name = format!("compute-{}", desk.threads);
        if std::thread::Builder::new().name(name).spawn(move || inner.work()).is_ok() {
            desk.threads += 1;
        }
        desk.threads > 0
    }

    fn work(&self) {
        step_back();
        let mut desk = self.desk();
        loop {
            if desk.is_closed {
                return;
            }
            let Some(job) = desk.jobs.pop_front() else {
                desk.idle += 1;
                desk = self.work.wait(desk).unwrap_or_else(PoisonError::into_inner);
                desk.idle -= 1;
                continue;
            };
            self.figures.waiting.store(desk.jobs.len() as u64, Ordering::Relaxed);
            drop(desk);
            if job.is_wanted() {
                self.figures.begun.fetch_add(1, Ordering::Relaxed);
                job.run();
            } else {
                self.figures.skipped.fetch_add(1, Ordering::Relaxed);
            }
            desk = self.desk();
        }
    }
}

/// Lowers the priority of the calling thread, where the system has one for each thread.
fn step_back() {
    #[cfg(target_os = "linux")]
    // SAFETY: three numbers; nothing is read or written. To Linux, process 0 is the calling thread (setpriority(2), NOTES).
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}

/// Between who waits and who works.
struct Slot<T>(Mutex<Stage<T>>);

enum Stage<T> {
    /// Somebody waits, and may have said how to be woken.
    Awaited(Option<Waker>),
    Done(Result<T, Lost>),
    /// Nobody waits.
    Dropped,
}

impl<T> Slot<T> {
    fn stage(&self) -> MutexGuard<'_, Stage<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, result: Result<T, Lost>) {
        let mut stage = self.stage();
        if let Stage::Awaited(waker) = &mut *stage {
            let waker = waker.take();
            *stage = Stage::Done(result);
            drop(stage);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

struct Task<T, F> {
    job: Option<F>,
    slot: Arc<Slot<T>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Task<T, F> {
    fn is_wanted(&self) -> bool {
        matches!(&*self.slot.stage(), Stage::Awaited(_))
    }

    fn run(mut self: Box<Self>) {
        let Some(job) = self.job.take() else { return };
        // What the job touched is dropped with it: nobody sees it half done.
        let result = catch_unwind(AssertUnwindSafe(job)).map_err(|_| Lost);
        self.slot.finish(result);
    }
}

impl<T, F> Drop for Task<T, F> {
    /// Of no effect where there is a result.
    fn drop(&mut self) {
        self.slot.finish(Err(Lost));
    }
}

/// The result to come.
#[must_use = "a job that nobody waits for is not begun"]
pub struct Computing<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Future for Computing<T> {
    type Output = Result<T, Lost>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.slot.stage();
        match std::mem::replace(&mut *stage, Stage::Dropped) {
            Stage::Done(result) => Poll::Ready(result),
            Stage::Awaited(_) => {
                *stage = Stage::Awaited(Some(cx.waker().clone()));
                Poll::Pending
            }
            // Asked once more after its end.
            Stage::Dropped => Poll::Ready(Err(Lost)),
        }
    }
}

impl<T> Drop for Computing<T> {
    fn drop(&mut self) {
        *self.slot.stage() = Stage::Dropped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::task::Wake;
    use std::thread::Thread;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait<T>(mut computing: Computing<T>) -> Result<T, Lost> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match Pin::new(&mut computing).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    fn pool() -> Compute {
        Compute::with_threads(1, Arc::default())
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// A job that says that it has begun, and ends when it is told.
    fn held(compute: &Compute) -> (Computing<()>, SyncSender<()>) {
        let (begun, has_begun): (SyncSender<()>, Receiver<()>) = sync_channel(0);
        let (end, is_over) = sync_channel::<()>(0);
        let computing = compute
            .run(move || {
                let _ = begun.send(());
                let _ = is_over.recv();
            })
            .expect("room");
        has_begun.recv().expect("it begins");
        (computing, end)
    }

    #[test]
    fn a_job_comes_to_its_result_on_another_thread() {
        let compute = pool();
        let here = std::thread::current().id();
        for number in 0..100 {
            let (result, there) =
                wait(compute.run(move || (number + 1, std::thread::current().id())).expect("room")).expect("a result");
            assert!(result == number + 1 && there != here);
        }
        assert_eq!((count(&compute.figures().begun), count(&compute.figures().waiting)), (100, 0));
    }

    #[test]
    fn no_thread_starts_before_the_first_job() {
        let compute = pool();
        assert_eq!(compute.inner.desk().threads, 0);
        wait(compute.run(|| ()).expect("room")).expect("a result");
        assert_eq!(compute.inner.desk().threads, 1);
    }

    #[test]
    fn a_panic_ends_its_job_and_nothing_else() {
        let compute = pool();
        assert_eq!(wait(compute.run(|| panic!("on purpose")).expect("room")), Err::<(), Lost>(Lost));
        assert_eq!(wait(compute.run(|| 7).expect("room")), Ok(7));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_who_went_away_keeps_no_place() {
        let compute = pool();
        let (first, end) = held(&compute);
        let mut waiting: Vec<_> = (0..WAITING_PER_THREAD).map(|number| compute.run(move || number).expect("room")).collect();
        assert!(matches!(compute.run(|| 0), Err(Busy)));
        assert_eq!((count(&compute.figures().refused), count(&compute.figures().waiting)), (1, WAITING_PER_THREAD as u64));
        drop(waiting.remove(3));
        let late = compute.run(|| 1000).expect("the place of the one that went away");
        end.send(()).expect("it listens");
        wait(first).expect("a result");
        let results: Vec<usize> = waiting.into_iter().map(|one| wait(one).expect("a result")).collect();
        assert_eq!(results, (0..WAITING_PER_THREAD).filter(|number| *number != 3).collect::<Vec<_>>());
        assert_eq!(wait(late), Ok(1000));
    }

    #[test]
    fn a_job_that_nobody_waits_for_is_not_begun() {
        let compute = pool();
        let (first, end) = held(&compute);
        let (ran, runs) = sync_channel::<()>(1);
        drop(compute.run(move || ran.send(()).is_ok()).expect("room"));
        end.send(()).expect("it listens");
        wait(first).expect("a result");
        wait(compute.run(|| ()).expect("room")).expect("a result");
        assert!(runs.recv().is_err(), "it was dropped and not run");
        assert_eq!((count(&compute.figures().begun), count(&compute.figures().skipped)), (2, 1));
    }

    #[test]
    fn whoever_waits_when_the_pool_goes_is_told() {
        let compute = pool();
        let (first, end) = held(&compute);
        let second = compute.run(|| 2).expect("room");
        drop(compute);
        assert_eq!(wait(second), Err(Lost));
        end.send(()).expect("what was begun ends");
        assert_eq!(wait(first), Ok(()));
    }
}
