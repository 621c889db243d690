//! What a process gives to the one that takes its place: its listening sockets, each with its address, and secrets, as one message over
//! a unix socket. When that happens, and what becomes of either process, is the binary's affair.
//!
//! ```text
//! version (1 byte) · length of the text (4) · text · descriptors, in batches of one byte each
//! text: number of listeners (2), each: address, number of sockets (2)
//!       1 and an address if there is an admin listener, else 0
//!       number of secrets (2), each: name, length (4), bytes
//! address, name: length (2), UTF-8
//! ```
//!
//! Numbers are big-endian. The descriptors come in the order of the text, the admin listener's last.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

/// Of the message. A process that reads another one is of another time, and refuses; the old one then goes on.
const VERSION: u8 = 1;
/// Bytes of the text: a thousand listeners with long paths, and room for secrets.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Sockets in all: 64 listeners on 256 cores.
const SOCKETS_MAX: usize = 16 * 1024;
/// Descriptors at a time; the kernel takes 253 (SCM_MAX_FD).
const BATCH: usize = 128;

#[derive(Default)]
pub struct Handover {
    /// The address as the configuration has it, and its sockets: one for each worker, or fewer that are shared.
    pub listeners: Vec<(String, Vec<OwnedFd>)>,
    pub admin: Option<(String, OwnedFd)>,
    /// What the next process must know to go on with what clients hold, such as the key of TLS tickets. Opaque here.
    pub secrets: Vec<(String, Vec<u8>)>,
}

impl Handover {
    pub fn send(&self, to: &UnixStream) -> io::Result<()> {
        let text = self.text()?;
        let mut head = vec![VERSION];
        head.extend_from_slice(&(text.len() as u32).to_be_bytes());
        (&*to).write_all(&[head, text].concat())?;
        let sockets = self.listeners.iter().flat_map(|(_, sockets)| sockets);
        let admin = self.admin.iter().map(|(_, socket)| socket);
        let descriptors: Vec<RawFd> = sockets.chain(admin).map(AsRawFd::as_raw_fd).collect();
        descriptors.chunks(BATCH).try_for_each(|batch| send_descriptors(to, batch))
    }

    pub fn receive(from: &UnixStream) -> io::Result<Handover> {
        let mut head = [0; 5];
        (&*from).read_exact(&mut head)?;
        let [version, length @ ..] = head;
        if version != VERSION {
            return Err(invalid(format!("the handover has version {version}, and this program reads {VERSION}")));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > TEXT_BYTES_MAX {
            return Err(invalid(format!("the handover has {length} bytes, more than {TEXT_BYTES_MAX}")));
        }
        let mut text = vec![0; length];
        (&*from).read_exact(&mut text)?;
        let Announced { listeners, admin, secrets } = Announced::read(&text).ok_or_else(|| invalid("the handover is cut off"))?;
        let count = listeners.iter().map(|(_, count)| count).sum::<usize>() + usize::from(admin.is_some());
        if count > SOCKETS_MAX {
            return Err(invalid(format!("the handover has {count} sockets, more than {SOCKETS_MAX}")));
        }
        let mut descriptors = Vec::with_capacity(count);
        while descriptors.len() < count {
            receive_descriptors(from, (count - descriptors.len()).min(BATCH), &mut descriptors)?;
        }
        let mut descriptors = descriptors.into_iter();
        let listeners =
            listeners.into_iter().map(|(address, count)| (address, descriptors.by_ref().take(count).collect())).collect();
        let admin = admin.zip(descriptors.next());
        Ok(Handover { listeners, admin, secrets })
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        put_short(&mut text, self.listeners.len())?;
        for (address, sockets) in &self.listeners {
            put_bytes(&mut text, address.as_bytes())?;
            put_short(&mut text, sockets.len())?;
        }
        text.push(u8::from(self.admin.is_some()));
        if let Some((address, _)) = &self.admin {
            put_bytes(&mut text, address.as_bytes())?;
        }
        put_short(&mut text, self.secrets.len())?;
        for (name, secret) in &self.secrets {
            put_bytes(&mut text, name.as_bytes())?;
            text.extend_from_slice(&u32::try_from(secret.len()).map_err(|_| too_much())?.to_be_bytes());
            text.extend_from_slice(secret);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_much());
        }
        Ok(text)
    }
}

fn put_short(out: &mut Vec<u8>, number: usize) -> io::Result<()> {
    out.extend_from_slice(&u16::try_from(number).map_err(|_| too_much())?.to_be_bytes());
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    put_short(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn too_much() -> io::Error {
    invalid("there is more to hand over than fits the message")
}

fn invalid(words: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, words.into())
}

/// The text, before the descriptors are here.
struct Announced {
    listeners: Vec<(String, usize)>,
    admin: Option<String>,
    secrets: Vec<(String, Vec<u8>)>,
}

impl Announced {
    /// `None`: it is cut off, or goes on behind its end.
    fn read(text: &[u8]) -> Option<Announced> {
        let mut rest = text;
        let mut listeners = Vec::new();
        for _ in 0..short(&mut rest)? {
            listeners.push((word(&mut rest)?, short(&mut rest)?));
        }
        let admin = match take(&mut rest, 1)? {
            [0] => None,
            [1] => Some(word(&mut rest)?),
            _ => return None,
        };
        let mut secrets = Vec::new();
        for _ in 0..short(&mut rest)? {
            let name = word(&mut rest)?;
            let length = u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
            secrets.push((name, take(&mut rest, length as usize)?.to_vec()));
        }
        rest.is_empty().then_some(Announced { listeners, admin, secrets })
    }
}

fn take<'t>(rest: &mut &'t [u8], count: usize) -> Option<&'t [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn short(rest: &mut &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(take(rest, 2)?.try_into().ok()?)))
}

fn word(rest: &mut &[u8]) -> Option<String> {
    let length = short(rest)?;
    String::from_utf8(take(rest, length)?.to_vec()).ok()
}

/// Room for a batch of descriptors, aligned as a control message must be: `u64` is as strict as its head on every system.
type Control = [u64; (BATCH * size_of::<RawFd>()).div_ceil(8) + 8];

/// One byte, and with it the descriptors.
fn send_descriptors(to: &UnixStream, batch: &[RawFd]) -> io::Result<()> {
    let mut byte = [0_u8];
    let mut piece = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control: Control = [0; _];
    let bytes = size_of_val(batch);
    // SAFETY: a struct of numbers and pointers, for which zeros are a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: `control` is aligned, and has room for the head and `BATCH` descriptors, of which `batch` has no more; the message
    // points to it, so that the first head lies in it, and the copy stays in it.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(bytes as libc::c_uint) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(bytes as libc::c_uint) as _;
        ptr::copy_nonoverlapping(batch.as_ptr().cast::<u8>(), libc::CMSG_DATA(head), bytes);
    }
    loop {
        // SAFETY: the message, and what it points to, live until the call returns.
        if unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, NO_SIGNAL) } == 1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Adds exactly `count` descriptors, which no child inherits.
fn receive_descriptors(from: &UnixStream, count: usize, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut byte = [0_u8];
    let mut piece = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control: Control = [0; _];
    // SAFETY: a struct of numbers and pointers, for which zeros are a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let got = loop {
        // SAFETY: the message, and what it points to, live until the call returns, and are ours to write to.
        let got = unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, CLOSE_ON_EXEC) };
        if got >= 0 || io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            break got;
        }
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    let before = descriptors.len();
    // SAFETY: the kernel filled the control buffer and said how far; the heads are walked by its own macros. Each descriptor in it is
    // new and ours.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(head).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(ptr::read_unaligned(first.add(index))));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    if got == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 || descriptors.len() - before != count {
        return Err(invalid("not all sockets of the handover arrived; the limit of open files may be too low"));
    }
    #[cfg(not(target_os = "linux"))]
    descriptors[before..].iter().try_for_each(close_on_exec)?;
    Ok(())
}

#[cfg(target_os = "linux")]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;
/// The process ignores SIGPIPE anyway.
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: libc::c_int = 0;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: libc::c_int = 0;

#[cfg(not(target_os = "linux"))]
fn close_on_exec(descriptor: &OwnedFd) -> io::Result<()> {
    // SAFETY: three numbers, and the descriptor is open.
    match unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener};

    fn listener() -> (SocketAddr, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener.into())
    }

    fn address(descriptor: OwnedFd) -> SocketAddr {
        TcpListener::from(descriptor).local_addr().unwrap()
    }

    /// Sends from another thread: more than fits the socket's buffer must not hang.
    fn pass(handover: Handover) -> io::Result<Handover> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sending = std::thread::spawn(move || handover.send(&ours));
        let received = Handover::receive(&theirs);
        drop(theirs);
        sending.join().unwrap()?;
        received
    }

    #[test]
    fn what_is_sent_arrives_in_its_order() {
        let sockets: Vec<(SocketAddr, OwnedFd)> = (0..4).map(|_| listener()).collect();
        let mut addresses: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
        let mut sockets = sockets.into_iter().map(|(_, socket)| socket);
        let handover = Handover {
            listeners: vec![
                ("127.0.0.1:0".to_owned(), sockets.by_ref().take(2).collect()),
                ("unix:/run/none".to_owned(), Vec::new()),
                ("[::1]:80".to_owned(), sockets.by_ref().take(1).collect()),
            ],
            admin: Some(("127.0.0.1:9080".to_owned(), sockets.next().unwrap())),
            secrets: vec![("tickets".to_owned(), vec![0, 255, 7]), ("empty".to_owned(), Vec::new())],
        };
        let received = pass(handover).unwrap();
        let names: Vec<(&str, usize)> = received.listeners.iter().map(|(name, sockets)| (name.as_str(), sockets.len())).collect();
        assert_eq!(names, [("127.0.0.1:0", 2), ("unix:/run/none", 0), ("[::1]:80", 1)]);
        assert_eq!(received.secrets, [("tickets".to_owned(), vec![0, 255, 7]), ("empty".to_owned(), Vec::new())]);
        let (name, admin) = received.admin.unwrap();
        assert_eq!((name.as_str(), address(admin)), ("127.0.0.1:9080", addresses.pop().unwrap()));
        let arrived: Vec<SocketAddr> = received.listeners.into_iter().flat_map(|(_, sockets)| sockets).map(address).collect();
        assert_eq!(arrived, addresses);
    }

    #[test]
    fn more_sockets_than_the_kernel_takes_at_once_arrive() {
        let (_, socket) = listener();
        let copies = (0..3 * BATCH + 1).map(|_| socket.try_clone().unwrap()).collect();
        let handover = Handover { listeners: vec![("x".to_owned(), copies)], ..Handover::default() };
        let received = pass(handover).unwrap();
        assert_eq!(received.listeners[0].1.len(), 3 * BATCH + 1);
        assert!(received.admin.is_none() && received.secrets.is_empty());
    }

    #[test]
    fn no_child_inherits_what_arrives() {
        let handover = Handover { admin: Some(("x".to_owned(), listener().1)), ..Handover::default() };
        let (_, socket) = pass(handover).unwrap().admin.unwrap();
        // SAFETY: two numbers and an open descriptor.
        let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }

    #[test]
    fn a_secret_as_large_as_the_message_is_refused_before_it_is_sent() {
        let handover = Handover { secrets: vec![("x".to_owned(), vec![0; TEXT_BYTES_MAX])], ..Handover::default() };
        assert_eq!(pass(handover).err().unwrap().kind(), ErrorKind::InvalidData);
    }

    fn refusal(bytes: &[u8]) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).unwrap();
        drop(ours);
        Handover::receive(&theirs).err().unwrap().to_string()
    }

    #[test]
    fn what_is_no_handover_is_refused() {
        for (bytes, words) in [
            (&b""[..], "fill whole buffer"),
            (&[2, 0, 0, 0, 0], "version 2"),
            (&[1, 0xff, 0xff, 0xff, 0xff], "4294967295 bytes"),
            (&[1, 0, 0, 0, 2, 0], "fill whole buffer"),
            // One listener is announced and does not follow.
            (&[1, 0, 0, 0, 2, 0, 1], "cut off"),
            // An admin listener that neither is nor is not.
            (&[1, 0, 0, 0, 5, 0, 0, 2, 0, 0], "cut off"),
            // Something behind the end.
            (&[1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 9], "cut off"),
            // An address that is no text.
            (&[1, 0, 0, 0, 10, 0, 1, 0, 1, 0xff, 0, 0, 0, 0, 0], "cut off"),
            // A secret longer than the rest.
            (&[1, 0, 0, 0, 12, 0, 0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 9], "cut off"),
        ] {
            let said = refusal(bytes);
            assert!(said.contains(words), "{bytes:?}: {said}");
        }
    }

    #[test]
    fn announced_sockets_that_never_come_are_an_error() {
        // One listener "x" with one socket, no admin listener, no secrets; then a byte without a descriptor, or nothing.
        let text = [0, 1, 0, 1, b'x', 0, 1, 0, 0, 0];
        let message = [&[1, 0, 0, 0, text.len() as u8][..], &text].concat();
        assert!(refusal(&message).contains("end of file"), "{}", refusal(&message));
        assert!(refusal(&[&message[..], b"?"].concat()).contains("not all sockets"));
        let flood: Vec<u8> = [&[0, 2][..], &[0, 1, b'x', 0xff, 0xff].repeat(2), &[0, 0, 0]].concat();
        assert!(refusal(&[&[1, 0, 0, 0, flood.len() as u8][..], &flood].concat()).contains("131070 sockets"));
    }
}
