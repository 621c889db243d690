//! Asks the workers whether they still read their mail: one that does runs its tasks, too. Holds no gateway, so that whoever keeps asking
//! keeps nothing alive.

use crate::worker::Mail;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often a letter is sent again to a mailbox that was full.
const TRY_AGAIN: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct Pulse(Vec<mpsc::Sender<Mail>>);

impl Pulse {
    pub(crate) fn new(mailboxes: Vec<mpsc::Sender<Mail>>) -> Pulse {
        Pulse(mailboxes)
    }

    /// The workers that have not answered when `patience` is over. Whatever was in the mailbox of one that has is seen to.
    pub fn silent(&self, patience: Duration) -> Vec<usize> {
        let until = Instant::now() + patience;
        let (answer, answers) = sync_channel(self.0.len().max(1));
        let mut silent: Vec<usize> = (0..self.0.len()).collect();
        let mut unasked = silent.clone();
        while !silent.is_empty() {
            unasked.retain(|&worker| self.0[worker].try_send(Mail::Echo(worker, answer.clone())).is_err());
            let left = until.saturating_duration_since(Instant::now());
            let wait = if unasked.is_empty() { left } else { left.min(TRY_AGAIN) };
            match answers.recv_timeout(wait) {
                Ok(worker) => silent.retain(|&other| other != worker),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_no_mail_is_named() {
        let (awake, mut its_box) = mpsc::channel(1);
        let (asleep, _unread) = mpsc::channel(1);
        let (gone, _) = mpsc::channel(1);
        // Full at first: the letter is sent again.
        awake.try_send(Mail::Refresh).unwrap();
        let reading = std::thread::spawn(move || {
            while let Some(mail) = its_box.blocking_recv() {
                if let Mail::Echo(worker, to) = mail {
                    to.send(worker).unwrap();
                    return;
                }
            }
        });
        let pulse = Pulse::new(vec![asleep, awake, gone]);
        assert_eq!(pulse.silent(Duration::from_millis(200)), [0, 2]);
        reading.join().unwrap();
        assert!(Pulse::new(Vec::new()).silent(Duration::ZERO).is_empty());
    }
}
