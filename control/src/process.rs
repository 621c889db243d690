//! What the operating system knows about this process, from /proc. Elsewhere than Linux it knows nothing, and says nothing.

use std::fs;
use std::time::Duration;

/// Each is absent where it cannot be known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    pub resident_bytes: Option<u64>,
    /// User and system time together.
    pub cpu: Option<Duration>,
    pub open_fds: Option<u64>,
    /// Since the epoch.
    pub started: Option<Duration>,
}

impl Process {
    /// Reads a few small files; milliseconds where there are 100,000 descriptors to count.
    pub fn read() -> Process {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(parse_stat);
        let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| parse_boot(&text));
        let second = setting(libc::_SC_CLK_TCK);
        let time = |ticks: u64| second.map(|second| Duration::from_secs_f64(ticks as f64 / second as f64));
        Process {
            resident_bytes: pages.zip(setting(libc::_SC_PAGESIZE)).map(|(pages, size)| pages * size),
            cpu: stat.as_ref().and_then(|stat| time(stat.cpu_ticks)),
            // The reading itself holds one open.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|open| (open.count() as u64).saturating_sub(1)),
            started: stat.as_ref().and_then(|stat| time(stat.start_ticks)).zip(boot).map(|(after, boot)| boot + after),
        }
    }
}

struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
}

/// proc(5). The second field is the program's name in parentheses, and may itself hold blanks and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)? })
}

fn parse_boot(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(Duration::from_secs(line.trim().parse().ok()?))
}

fn setting(name: libc::c_int) -> Option<u64> {
    // SAFETY: takes a number and returns one; it touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 23 0 0 20 0 1 0 4242 1 2").unwrap();
        assert_eq!((stat.cpu_ticks, stat.start_ticks), (123, 4242));
        assert!(parse_stat("").is_none() && parse_stat("7 (a) S 1").is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 100_000, "{process:?}");
        assert!(process.open_fds.unwrap() >= 3, "{process:?}");
        assert!(process.started.unwrap() > Duration::from_secs(1_600_000_000), "{process:?}");
        assert!(process.cpu.is_some());
    }
}
