//! What a panic handler can't see: an input that never ends, or that takes the process down. The input that runs is always in a file,
//! and a second thread ends the process when one runs too long.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Inputs take microseconds; on a machine that is busy with other things, milliseconds.
const INPUT_SECONDS_MAX: u64 = 30;

pub struct Watch {
    name: &'static str,
    folder: PathBuf,
    running: PathBuf,
    file: File,
    count: Arc<AtomicU64>,
}

impl Watch {
    pub fn start(name: &'static str, folder: &Path) -> Watch {
        std::fs::create_dir_all(folder).expect("fuzz/crashes can be made");
        let running = folder.join(format!("{name}.running"));
        let file = File::create(&running).expect("fuzz/crashes is writable");
        let count = Arc::new(AtomicU64::new(0));
        let (weak, path) = (Arc::downgrade(&count), running.clone());
        std::thread::spawn(move || {
            let mut seen = (0, Instant::now());
            // It ends with the target: nobody holds the count then.
            while let Some(count) = weak.upgrade() {
                let now = count.load(Ordering::Relaxed);
                if now != seen.0 {
                    seen = (now, Instant::now());
                } else if seen.1.elapsed().as_secs() > INPUT_SECONDS_MAX {
                    eprintln!("{name}: an input ran for more than {INPUT_SECONDS_MAX} s; it is {}", path.display());
                    std::process::abort();
                }
                drop(count);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Watch { name, folder: folder.to_owned(), running, file, count }
    }

    /// `input` is about to run.
    pub fn running(&self, input: &[u8]) {
        self.file.set_len(input.len() as u64).and_then(|()| self.file.write_all_at(input, 0)).expect("fuzz/crashes is writable");
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps a failing input under a name that is its content's, and says where.
    pub fn keep(&self, input: &[u8]) -> PathBuf {
        let hash =
            input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let path = self.folder.join(format!("{}-{hash:016x}", self.name));
        std::fs::write(&path, input).expect("fuzz/crashes is writable");
        path
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.running);
    }
}
