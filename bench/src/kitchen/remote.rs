//! The kitchen as whoever measures sees it: a process that takes commands, one line each, and answers each with a line.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use super::{ADDRESS, Mode, Plan};
use crate::process::{Ending, Running};

pub struct Kitchen {
    pub ports: Vec<u16>,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
    _running: Running,
}

/// What the first endpoint saw.
pub struct Story {
    pub busy_max: usize,
    pub waiting_max: usize,
    /// Numbers of requests in the order of their arrival, and when each came, in microseconds of the kitchen's clock.
    pub order: Vec<(u32, u64)>,
}

impl Kitchen {
    pub fn start(plan: Plan) -> io::Result<Kitchen> {
        let mut command = Command::new(std::env::current_exe()?);
        let numbers = [plan.endpoints, plan.slots, plan.service.as_micros() as usize];
        command.arg("kitchen").args(numbers.map(|number| number.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command, Ending::Kill, None)?;
        let (commands, replies) = (running.child().stdin.take(), running.child().stdout.take());
        let (Some(commands), Some(replies)) = (commands, replies) else { return Err(wrong("no pipes")) };
        let mut kitchen = Kitchen { ports: Vec::new(), commands, replies: BufReader::new(replies), _running: running };
        kitchen.ports = numbers_of(&kitchen.line()?)?;
        Ok(kitchen)
    }

    pub fn address(&self, endpoint: usize) -> SocketAddrV4 {
        SocketAddrV4::new(ADDRESS, self.ports[endpoint])
    }

    pub fn set(&mut self, endpoint: usize, mode: Mode) -> io::Result<()> {
        self.done(&format!("mode {endpoint} {}", mode.word()))
    }

    pub fn reset(&mut self) -> io::Result<()> {
        self.done("reset")
    }

    /// Requests that each endpoint got since the last reset.
    pub fn counts(&mut self) -> io::Result<Vec<u64>> {
        numbers_of(&self.ask("counts")?)
    }

    pub fn story(&mut self) -> io::Result<Story> {
        let numbers: Vec<u64> = numbers_of(&self.ask("story")?)?;
        let [busy_max, waiting_max, ref order @ ..] = numbers[..] else { return Err(wrong("no story")) };
        Ok(Story {
            busy_max: busy_max as usize,
            waiting_max: waiting_max as usize,
            order: order.chunks_exact(2).map(|pair| (pair[0] as u32, pair[1])).collect(),
        })
    }

    fn done(&mut self, command: &str) -> io::Result<()> {
        let reply = self.ask(command)?;
        if reply == "ok" { Ok(()) } else { Err(wrong(&reply)) }
    }

    fn ask(&mut self, command: &str) -> io::Result<String> {
        writeln!(self.commands, "{command}")?;
        self.line()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.replies.read_line(&mut line)? {
            0 => Err(wrong("it ended")),
            _ => Ok(line.trim().to_string()),
        }
    }
}

fn numbers_of<T: std::str::FromStr>(line: &str) -> io::Result<Vec<T>> {
    line.split_whitespace().map(|word| word.parse().map_err(|_| wrong(line))).collect()
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("the kitchen: {what}"))
}
