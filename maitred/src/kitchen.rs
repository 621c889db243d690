//! The back ends of the demo: a menu and a book of orders, over as much HTTP/1.1 as that takes. Not for anything else: no chunks, no
//! limits, a thread for each connection.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::wire::lock;

/// Bytes of a body that are read. The gateway in front lets no more through.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub struct Kitchen {
    name: &'static str,
    dishes: &'static [&'static str],
    orders: Mutex<Vec<Value>>,
}

struct Asked {
    method: String,
    path: String,
    guest: Option<String>,
    body: Vec<u8>,
}

/// Opens a kitchen at its usual address, or at any other where that is taken.
pub fn open(name: &'static str, dishes: &'static [&'static str], usual: Option<SocketAddr>) -> io::Result<SocketAddr> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = match usual {
        Some(usual) => TcpListener::bind(usual).or_else(|_| TcpListener::bind(anywhere))?,
        None => TcpListener::bind(anywhere)?,
    };
    let address = listener.local_addr()?;
    let kitchen = Arc::new(Kitchen { name, dishes, orders: Mutex::default() });
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let kitchen = kitchen.clone();
            // A guest that nobody can serve is turned away.
            let _ = std::thread::Builder::new().spawn(move || kitchen.serve(&stream));
        }
    })?;
    Ok(address)
}

impl Kitchen {
    /// One connection, until the other side closes it.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader)? {
            let (status, value) = self.answer(&asked);
            let body = format!("{value}\n");
            let head = format!(
                "HTTP/1.1 {status}\r\nserver: kitchen\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let body = if asked.method == "HEAD" { "" } else { &body };
            (&*stream).write_all(format!("{head}{body}").as_bytes())?;
        }
        Ok(())
    }

    fn answer(&self, asked: &Asked) -> (&'static str, Value) {
        let path = asked.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let orders = || lock(&self.orders);
        match (asked.method.as_str(), &parts[..]) {
            ("GET" | "HEAD", ["menu"]) => ("200 OK", json!({ "kitchen": self.name, "dishes": self.dishes })),
            ("GET" | "HEAD", ["menu", id]) => found(id.parse().ok().and_then(|id: usize| {
                let dish = self.dishes.get(id.checked_sub(1)?)?;
                Some(json!({ "kitchen": self.name, "id": id, "dish": dish }))
            })),
            ("GET" | "HEAD", ["orders"]) => ("200 OK", json!({ "kitchen": self.name, "orders": *orders() })),
            ("GET" | "HEAD", ["orders", id]) => {
                found(id.parse().ok().and_then(|id: usize| orders().get(id.checked_sub(1)?).cloned()))
            }
            ("POST", ["orders"]) => self.order(asked),
            _ => found(None),
        }
    }

    fn order(&self, asked: &Asked) -> (&'static str, Value) {
        let Ok(dish) = serde_json::from_slice::<Value>(&asked.body) else {
            return ("400 Bad Request", json!({ "error": "an order is JSON" }));
        };
        let mut orders = lock(&self.orders);
        let order = json!({ "kitchen": self.name, "order": orders.len() + 1, "of": dish, "guest": asked.guest });
        orders.push(order.clone());
        ("201 Created", order)
    }
}

fn found(value: Option<Value>) -> (&'static str, Value) {
    match value {
        Some(value) => ("200 OK", value),
        None => ("404 Not Found", json!({ "error": "the kitchen does not have that" })),
    }
}

/// One request, or nothing when there are no more.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut guest) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "x-guest" => guest = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    Ok(Some(Asked { method, path, guest, body }))
}
