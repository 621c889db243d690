//! Whose a connection on loopback is: the kernel says which socket is at the other end, and /proc who has it open. A port of the Runtime API
//! is open to everybody on the machine, and whoever may ask there is given events.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{FromRawFd, OwnedFd};

/// `<linux/sock_diag.h>`, `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Of `struct inet_diag_req_v2` and `struct inet_diag_msg`, `<linux/inet_diag.h>`, after the header of netlink.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const ANSWER_BYTES: usize = HEADER_BYTES + 72;
const UID_AT: usize = HEADER_BYTES + 64;
const INODE_AT: usize = HEADER_BYTES + 68;
/// A process that has more children than this asks through none of the later ones.
const CHILDREN_MAX: usize = 1024;

/// The socket at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub inode: u64,
    /// Who opened it.
    pub user: u32,
}

/// `None`: it is closed, or not on this machine.
pub(super) fn of(peer: SocketAddr, local: SocketAddr) -> Option<Peer> {
    let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, local) else { return None };
    // A kernel without `tcp_diag` has the slow list still.
    asked(peer, local).ok().flatten().or_else(|| listed(BufReader::new(File::open("/proc/self/net/tcp").ok()?), peer, local))
}

fn asked(peer: SocketAddrV4, local: SocketAddrV4) -> io::Result<Option<Peer>> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: three numbers; the descriptor that is returned is new, and ours.
    let socket = unsafe {
        let descriptor = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    let mut socket = File::from(socket);
    socket.write_all(&question(peer, local))?;
    let mut answer = [0; 512];
    // The kernel has answered when the question is sent.
    let count = socket.read(&mut answer)?;
    Ok(parse(&answer[..count]))
}

fn question(peer: SocketAddrV4, local: SocketAddrV4) -> Vec<u8> {
    let mut question = Vec::with_capacity(REQUEST_BYTES);
    question.extend((REQUEST_BYTES as u32).to_ne_bytes());
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Sequence number and port, which matter to who asks twice.
    question.extend([0; 8]);
    question.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    // In any state.
    question.extend([0xFF; 4]);
    question.extend(peer.port().to_be_bytes());
    question.extend(local.port().to_be_bytes());
    for address in [peer.ip(), local.ip()] {
        question.extend(address.octets());
        question.extend([0; 12]);
    }
    // Any interface; and no cookie, since there is one such socket at most.
    question.extend([0; 4]);
    question.extend([0xFF; 8]);
    question
}

fn parse(answer: &[u8]) -> Option<Peer> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != BY_FAMILY || answer.len() < ANSWER_BYTES {
        return None;
    }
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let inode = u64::from(number(INODE_AT)?);
    // A socket that was closed and lingers is nobody's.
    (inode != 0).then_some(Peer { inode, user: number(UID_AT)? })
}

/// proc(5), /proc/net/tcp: addresses as a number of this machine's order, ports as they are read.
fn listed(list: impl BufRead, peer: SocketAddrV4, local: SocketAddrV4) -> Option<Peer> {
    let written = |address: SocketAddrV4| format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let (peer, local) = (written(peer), written(local));
    for line in list.lines() {
        let line = line.ok()?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next() == Some(&peer) && fields.next() == Some(&local) {
            let user = fields.nth(4)?.parse().ok()?;
            let inode = fields.nth(1)?.parse().ok()?;
            return (inode != 0).then_some(Peer { inode, user });
        }
    }
    None
}

pub(super) fn has_open(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
}

/// Children and theirs, without those that were left by their parents. Empty where the kernel does not say.
pub(super) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied().filter(|_| found.len() < CHILDREN_MAX) {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    found.remove(0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_its_list_say_the_same() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(local).unwrap();
        let peer = stream.local_addr().unwrap();
        let found = of(peer, local).unwrap();
        let (SocketAddr::V4(peer4), SocketAddr::V4(local4)) = (peer, local) else { panic!() };
        let list = BufReader::new(File::open("/proc/self/net/tcp").unwrap());
        assert_eq!(listed(list, peer4, local4), Some(found));
        assert!(has_open(std::process::id(), found.inode));
        assert!(!has_open(std::process::id(), u64::MAX));
        // Seen from the other end it is the other socket.
        let (accepted, _) = listener.accept().unwrap();
        assert_ne!(of(local, peer).unwrap().inode, found.inode);
        drop((accepted, stream));
        // What another test starts at this moment holds a copy until it is another program.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while of(peer, local).is_some() {
            assert!(std::time::Instant::now() < patience, "a closed one is nobody's");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_list_is_read_as_it_is_written() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                    0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1\n\
                    1: 0100007F:A3B2 0100007F:1F90 01 00000000:00000000 00:00000000 00000000 65534        0 4711 1\n\
                    2: 0100007F:A3B3 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 1\n";
        let at = |port| SocketAddrV4::new([127, 0, 0, 1].into(), port);
        if cfg!(target_endian = "little") {
            let found = listed(list.as_bytes(), at(0xA3B2), at(0x1F90));
            assert_eq!(found, Some(Peer { inode: 4711, user: 65534 }));
        }
        assert_eq!(listed(list.as_bytes(), at(0xA3B3), at(0x1F90)), None);
        assert_eq!(listed(list.as_bytes(), at(1), at(2)), None);
        assert_eq!(listed("garbage\n\n 0: 1\n".as_bytes(), at(1), at(2)), None);
    }

    #[test]
    fn an_answer_cut_anywhere_is_none() {
        let mut answer = vec![0; ANSWER_BYTES];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[INODE_AT..INODE_AT + 4].copy_from_slice(&5_u32.to_ne_bytes());
        assert_eq!(parse(&answer), Some(Peer { inode: 5, user: 0 }));
        for length in 0..ANSWER_BYTES {
            assert_eq!(parse(&answer[..length]), None, "{length}");
        }
    }
}
