//! Many Asterisks behind one port of this machine, each under a path of its own: those of the native
//! tests, as far away as a data centre nearby.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dialtone::ports::NoAnswer;
use http::{Request, Response};

use crate::asterisk::{Asterisk, Mood};

/// The ARI user of every Asterisk, and its password.
pub const USER: &str = "dialtone";
/// The password.
pub const PASSWORD: &str = "ari-password-in-clear";

/// How long one that hangs keeps a connection open.
const HANGS: Duration = Duration::from_secs(30);

/// The answer about an endpoint has 6.6 KB, since a real Asterisk says every option of it; that about an
/// `auth` or `aor` has 0.6 KB. The fake says what was put alone, so the rest is made up.
static OPTIONS: LazyLock<[String; 2]> = LazyLock::new(|| {
    [8, 130].map(|count| {
        let option = |n| format!(r#",{{"attribute":"option_{n:03}","value":"default"}}"#);
        (0..count).map(option).collect()
    })
});

/// All Asterisks.
pub struct Exchange {
    port: u16,
    inside: Arc<Inside>,
}

struct Inside {
    all: Mutex<Vec<Arc<Mutex<Asterisk>>>>,
    latency: Duration,
    calls: AtomicU64,
}

impl Exchange {
    /// Opens a port, with nobody behind it yet. Its threads end with the process.
    pub fn open(latency: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let inside = Arc::new(Inside {
            all: Mutex::default(),
            latency,
            calls: AtomicU64::new(0),
        });
        let shared = Arc::clone(&inside);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A caller that goes away ends its own connection.
                thread::spawn(move || drop(shared.serve(&stream)));
            }
        });
        Ok(Self { port, inside })
    }

    /// The address of the ARI of a number.
    pub fn url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}/{number}/ari", self.port)
    }

    /// Puts Asterisks there, numbered from 0.
    pub fn fill(&self, all: Vec<Asterisk>) {
        let all = all.into_iter().map(|one| Arc::new(Mutex::new(one)));
        *self.inside.lock() = all.collect();
    }

    /// Does something with one.
    pub fn with<T>(&self, number: usize, deed: impl FnOnce(&Asterisk) -> T) -> T {
        let one = Arc::clone(&self.inside.lock()[number]);
        let one = one.lock().unwrap_or_else(PoisonError::into_inner);
        deed(&one)
    }

    /// Makes one down, hang, and so on.
    pub fn is(&self, number: usize, mood: Mood) {
        self.with(number, |one| one.is(mood));
    }

    /// The calls since this was last asked.
    pub fn take_calls(&self) -> u64 {
        self.inside.calls.swap(0, Ordering::Relaxed)
    }
}

impl Inside {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Mutex<Asterisk>>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, with as many calls as the caller likes.
    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some((number, request)) = read(&mut reader)? {
            self.calls.fetch_add(1, Ordering::Relaxed);
            thread::sleep(self.latency);
            let one = self.lock().get(number).cloned();
            let one = one.with_context(|| format!("there is no Asterisk {number}"))?;
            let answer = one
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .answer(&request);
            match answer {
                Ok(answer) => write(stream, request.uri().path(), &answer)?,
                Err(NoAnswer::Unreachable) => return Ok(()),
                Err(NoAnswer::TimedOut) => {
                    thread::sleep(HANGS);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The next call: to which Asterisk, and the request as that one sees it.
fn read(reader: &mut BufReader<&TcpStream>) -> Result<Option<(usize, Request<Vec<u8>>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().context("no request line")?.to_owned();
    let (number, path) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .context("no number in the path")?;
    let mut request = Request::builder()
        .method(method.as_str())
        .uri(format!("/{path}"));
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        request = request.header(name, value.trim());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((number.parse()?, request.body(body)?)))
}

fn write(mut stream: &TcpStream, path: &str, answer: &Response<Vec<u8>>) -> Result<()> {
    let mut body = answer.body().clone();
    let status = answer.status().as_u16();
    if status == 200 && path.contains("/res_pjsip/") && body.pop() == Some(b']') {
        let [few, many] = &*OPTIONS;
        let more = if path.contains("/endpoint/") {
            many
        } else {
            few
        };
        body.extend_from_slice(more.as_bytes());
        body.push(b']');
    }
    let kind = answer.headers().get("content-type");
    let kind = kind
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("application/json");
    let mut message = format!(
        "HTTP/1.1 {status} X\r\nContent-type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    message.extend(body);
    Ok(stream.write_all(&message)?)
}
