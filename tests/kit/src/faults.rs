//! A road between Dialtone and a PBX on which things go wrong: it passes each HTTP call on to a port of
//! this machine and, where its rule says so, delays, cuts, swallows or falsifies the answer. The rule is
//! asked before each call, so a test can also do something to the PBX at exactly that moment.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// A longer head or body than Asterisk or Dialtone ever sends, in bytes.
const MOST: usize = 16 * 1_048_576;

/// How long either side may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It goes through.
    None,
    /// It goes through, and its answer comes later.
    Late(Duration),
    /// The connection ends before the call reaches the PBX.
    Reset,
    /// The PBX does it, and the connection ends without an answer.
    Unheard,
    /// The PBX does it, and this much of a hundred of the answer's body comes; the length says more.
    Cut(usize),
    /// The call does not reach the PBX, which seems to say this: status, `Content-Type`, body.
    Says(u16, &'static str, String),
}

/// One call, before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// From 0, since the road was opened.
    pub number: u64,
    /// Such as `PUT`.
    pub method: String,
    /// With the query.
    pub path: String,
}

type Rule = Box<dyn FnMut(&Call) -> Fault + Send>;

struct Shared {
    to: u16,
    closed: AtomicBool,
    rule: Mutex<(u64, Rule)>,
}

/// The road. Dropping it closes it.
pub struct Road {
    port: u16,
    shared: Arc<Shared>,
}

impl Road {
    /// Opens a road to a port of this machine; everything goes through at first.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn open(to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            to,
            closed: AtomicBool::new(false),
            rule: Mutex::new((0, Box::new(|_| Fault::None))),
        });
        let threads = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if threads.closed.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&threads);
                // A side that goes away ends its own connection and nothing else.
                thread::spawn(move || drop(carry(stream, &shared)));
            }
        });
        Ok(Self { port, shared })
    }

    /// The port that it begins at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on this rule says what becomes of each call; it is asked for one after the other.
    pub fn set(&self, rule: impl FnMut(&Call) -> Fault + Send + 'static) {
        let mut kept = self
            .shared
            .rule
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.1 = Box::new(rule);
    }

    /// From now on everything goes through.
    pub fn clear(&self) {
        self.set(|_| Fault::None);
    }

    /// How many calls came so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        let kept = self.shared.rule.lock();
        kept.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener, so that it sees it.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// One connection, which is for one call: `Connection: close` both ways.
fn carry(mut from: TcpStream, shared: &Shared) -> Result<()> {
    from.set_read_timeout(Some(SILENCE))?;
    let Some((head, body)) = message(&mut from)? else {
        return Ok(());
    };
    let mut words = head.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let fault = {
        let mut kept = shared.rule.lock().unwrap_or_else(PoisonError::into_inner);
        let call = Call {
            number: kept.0,
            method,
            path,
        };
        kept.0 += 1;
        (kept.1)(&call)
    };
    match &fault {
        Fault::Reset => return Ok(()),
        Fault::Says(status, kind, text) => {
            let answer = format!(
                "HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{text}",
                text.len()
            );
            return Ok(from.write_all(answer.as_bytes())?);
        }
        Fault::None | Fault::Late(_) | Fault::Unheard | Fault::Cut(_) => {}
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.to));
    let mut to = TcpStream::connect_timeout(&address, SILENCE)?;
    to.set_read_timeout(Some(SILENCE))?;
    send(&mut to, &head, &body)?;
    let Some((head, mut body)) = message(&mut to)? else {
        return Ok(());
    };
    match fault {
        Fault::Unheard => return Ok(()),
        Fault::Late(time) => thread::sleep(time),
        Fault::Cut(percent) => body.truncate(body.len() * percent / 100),
        _ => {}
    }
    send(&mut from, &head, &body)
}

/// In one piece: of two small ones the second would wait for the other side's delayed acknowledgement.
fn send(to: &mut TcpStream, head: &str, body: &[u8]) -> Result<()> {
    let mut bytes = closing(head).into_bytes();
    bytes.extend_from_slice(body);
    Ok(to.write_all(&bytes)?)
}

/// A head that asks the other side to close the connection afterwards.
fn closing(head: &str) -> String {
    let mut text = String::new();
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("keep-alive") {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text + "Connection: close\r\n\r\n"
}

/// Reads one message: its head without the empty line, and its body by `Content-Length`. None if the other
/// side ends it before.
fn message(stream: &mut TcpStream) -> Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8_192];
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
            let length = head
                .split("\r\n")
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse::<usize>().ok())
                .unwrap_or_default();
            let mut body = bytes.split_off(end + 4);
            while body.len() < length.min(MOST) {
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Ok(None);
                }
                body.extend_from_slice(buffer.get(..read).unwrap_or_default());
            }
            return Ok(Some((head, body)));
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 || bytes.len() > MOST {
            return Ok(None);
        }
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
}
