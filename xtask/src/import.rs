//! `cargo xtask import`: sends a file of any length through `POST /devices/batch` or
//! `/accounts/batch`, as much at a time as a call takes, and goes on where one that was cut off ended.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, IsTerminal as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context as _, Result, bail, ensure};
use dialtone_kit::http;
use dialtone_kit::{dev_vars, project};
use serde_json::{Value, json};

use crate::admin::TOKEN_VARIABLE;
use crate::screen::Screen;
use crate::signal;

/// How many bytes a call sends at most; the Worker takes 1 MiB.
const CALL_BYTES: usize = 524_288;

/// The longest line, or record of CSV, that the Worker takes.
const LONGEST_LINE: usize = 131_072;

/// How many calls are under way at a time, if the command line does not say: one waits mostly for the road and
/// for the Worker's stores.
const CALLS: usize = 4;

/// The most calls under way at a time.
const MOST_CALLS: usize = 16;

/// How many lines the first call sends; from then on half as many again as the last one took.
const FIRST_LINES: usize = 80;

/// The most lines that a call takes.
const MOST_LINES: usize = 400;

/// How often a call, or a line, is sent again that the service had no time for.
const TRIES: u32 = 8;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_mins(5);

/// How many of the lines that were refused are printed; the file has all.
const PRINTED: usize = 20;

/// What the command line says.
#[derive(Debug)]
pub struct Given {
    /// The file.
    pub file: PathBuf,
    /// Its form, by its name.
    pub form: Form,
    /// Where Dialtone is.
    pub url: String,
    /// What opens its admin API.
    pub token: String,
    /// `devices` or `accounts`.
    pub collection: &'static str,
    /// The only tenant of an export.
    pub tenant: Option<String>,
    dry_run: bool,
    resume: bool,
    /// How many calls are under way at a time.
    calls: usize,
}

/// A form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// CSV with a header line.
    Csv,
    /// A JSON object in each line.
    Ndjson,
}

impl Form {
    fn of(file: &Path) -> Result<Self> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            _ => bail!("{} must end in .csv or .ndjson", file.display()),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

impl Given {
    /// Reads the command line of an import or export.
    ///
    /// # Errors
    /// What is missing, or too much.
    pub fn parse(task: &str, arguments: &[String]) -> Result<Self> {
        let imports = task == "import";
        let (mut file, mut url, mut tenant) = (None, None, None);
        let (mut accounts, mut dry_run, mut resume) = (false, false, false);
        let mut calls = CALLS;
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--url" => url = words.next().cloned(),
                "--accounts" => accounts = true,
                "--tenant" if !imports => tenant = words.next().cloned(),
                "--calls" if imports => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    let number = number.filter(|number| (1..=MOST_CALLS).contains(number));
                    calls = number.with_context(|| format!("--calls wants 1 to {MOST_CALLS}"))?;
                }
                "--dry-run" if imports => dry_run = true,
                "--resume" if imports => resume = true,
                word if !word.starts_with('-') && file.is_none() => {
                    file = Some(PathBuf::from(word));
                }
                word => bail!("`{task}` takes no `{word}`; `cargo xtask help` shows what it takes"),
            }
        }
        let file = file.with_context(|| format!("`{task}` wants a file"))?;
        let url = url.with_context(|| format!("`{task}` wants --url URL"))?;
        let here = ["http://127.0.0.1", "http://localhost"];
        let token = match env::var(TOKEN_VARIABLE) {
            Ok(token) => token,
            // What `cargo xtask demo` and `wrangler dev` run with.
            Err(_) if here.iter().any(|here| url.starts_with(here)) => {
                dev_vars::ensure(&project::root())?.admin_token
            }
            Err(_) => bail!("put a token into {TOKEN_VARIABLE}"),
        };
        Ok(Self {
            form: Form::of(&file)?,
            file,
            url: url.trim_end_matches('/').to_owned(),
            token,
            collection: if accounts { "accounts" } else { "devices" },
            tenant,
            dry_run,
            resume,
            calls,
        })
    }

    /// A file beside the one of the command line.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(ending);
        name.into()
    }
}

/// A record of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// The line that it begins in.
    line: u64,
    /// The byte that it begins at.
    at: u64,
    bytes: Vec<u8>,
    tries: u32,
}

/// The records of a file, one after another.
struct Source<R> {
    reader: R,
    form: Form,
    line: u64,
    at: u64,
}

impl<R: BufRead> Source<R> {
    /// The next record that is not empty. Of one that is too long there is only as much as shows that.
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let (line, at) = (self.line, self.at);
            let mut bytes = Vec::new();
            let mut quoted = false;
            loop {
                let mut more = Vec::new();
                let read = self.reader.read_until(b'\n', &mut more)?;
                if read == 0 {
                    break;
                }
                self.at += u64::try_from(read)?;
                self.line += u64::from(more.ends_with(b"\n"));
                quoted = more
                    .iter()
                    .fold(quoted, |quoted, byte| quoted != (*byte == b'"'));
                if bytes.len() <= LONGEST_LINE {
                    bytes.append(&mut more);
                }
                // In CSV a line break between quotes ends no record.
                if self.form == Form::Ndjson || !quoted {
                    break;
                }
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            if !bytes.trim_ascii().is_empty() {
                let tries = 0;
                return Ok(Some(Piece {
                    line,
                    at,
                    bytes,
                    tries,
                }));
            }
        }
    }
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    created: u64,
    changed: u64,
    unchanged: u64,
    refused: u64,
}

impl Tally {
    fn all(self) -> u64 {
        self.created + self.changed + self.unchanged + self.refused
    }

    fn count(&mut self, end: &End) {
        let counter = match end {
            End::Created => &mut self.created,
            End::Changed => &mut self.changed,
            End::Unchanged => &mut self.unchanged,
            End::Refused(_) => &mut self.refused,
        };
        *counter += 1;
    }
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Created,
    Changed,
    Unchanged,
    /// With its result, in which `line` is the file's.
    Refused(Value),
}

/// The records of one call.
type Call = Vec<Piece>;

/// What a call came to.
type Answered = (Call, Result<Value>);

/// Imports a file.
pub fn run(arguments: &[String]) -> Result<()> {
    let given = Given::parse("import", arguments)?;
    signal::watch();
    let begun = Instant::now();
    let mut import = Import::begin(given)?;
    let result = import.all();
    import.note_progress()?;
    result?;
    import.end(begun)
}

/// An import under way.
struct Import {
    given: Given,
    screen: Screen,
    source: Source<BufReader<File>>,
    header: Vec<u8>,
    /// What was read and is in no call, by where it begins.
    waiting: BTreeMap<u64, Piece>,
    /// Where each record begins that is in a call.
    sent: BTreeMap<u64, u64>,
    /// What became of records behind one that is not done yet: an import that goes on sends them again.
    ahead: BTreeMap<u64, End>,
    /// The line that had each name first.
    names: HashMap<String, u64>,
    /// Names that stand twice, and in which lines.
    twice: Vec<String>,
    length: u64,
    /// What became of all records before [`Import::settled`].
    tally: Tally,
    rejected: Vec<String>,
    rejects: File,
    shown: Instant,
}

impl Import {
    fn begin(given: Given) -> Result<Self> {
        let name = given.file.display();
        let file = File::open(&given.file).with_context(|| format!("cannot read {name}"))?;
        let length = file.metadata()?.len();
        let progress = given.beside(".progress");
        let known: Option<Value> = match fs::read(&progress) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).context("the file of the progress")?),
            Err(_) => None,
        };
        if known.is_some() && !given.resume && !given.dry_run {
            bail!(
                "an import of {name} was cut off: --resume goes on with it; to begin again remove {}",
                progress.display()
            );
        }
        let known = known.filter(|_| given.resume);
        ensure!(
            known.is_some() || !given.resume,
            "no import of {name} was cut off"
        );
        let rejects = OpenOptions::new()
            .create(true)
            .append(known.is_some())
            .truncate(known.is_none())
            .write(true)
            .open(given.beside(".refused.ndjson"))?;
        let mut import = Self {
            screen: Screen::stdout(),
            source: Source {
                reader: BufReader::new(file),
                form: given.form,
                line: 1,
                at: 0,
            },
            given,
            header: Vec::new(),
            waiting: BTreeMap::new(),
            sent: BTreeMap::new(),
            ahead: BTreeMap::new(),
            names: HashMap::new(),
            twice: Vec::new(),
            length,
            tally: Tally::default(),
            rejected: Vec::new(),
            rejects,
            shown: Instant::now(),
        };
        if import.given.form == Form::Csv {
            let header = import.source.next()?.context("there is no header line")?;
            import.header = header.bytes;
        }
        if let Some(known) = known {
            import.go_on_at(&known)?;
        }
        Ok(import)
    }

    /// Goes to where an import that was cut off ended.
    fn go_on_at(&mut self, known: &Value) -> Result<()> {
        let number = |name: &str| {
            let number = known.get(name).and_then(Value::as_u64);
            number.with_context(|| format!("the progress has no {name}"))
        };
        let same = known.get("url").and_then(Value::as_str) == Some(self.given.url.as_str())
            && known.get("collection").and_then(Value::as_str) == Some(self.given.collection)
            && number("length")? == self.length;
        ensure!(same, "that import was of another file, or to another place");
        (self.source.at, self.source.line) = (number("at")?, number("line")?);
        let at = SeekFrom::Start(self.source.at);
        self.source.reader.seek(at)?;
        self.tally = Tally {
            created: number("created")?,
            changed: number("changed")?,
            unchanged: number("unchanged")?,
            refused: number("refused")?,
        };
        Ok(())
    }

    /// Sends everything.
    fn all(&mut self) -> Result<()> {
        let (give, calls) = mpsc::channel::<Call>();
        let (answer, answers) = mpsc::channel::<Answered>();
        let post = Post::of(&self.given, self.header.clone());
        let calls = Mutex::new(calls);
        thread::scope(|scope| {
            for _ in 0..self.given.calls {
                let answer = answer.clone();
                let (calls, post) = (&calls, &post);
                scope.spawn(move || {
                    loop {
                        let call = calls.lock().map(|calls| calls.recv());
                        let Ok(Ok(call)) = call else { return };
                        let result = post.send(&call);
                        if answer.send((call, result)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(answer);
            let done = self.calls(&give, &answers);
            // The threads end when there is nobody who could give them another call.
            drop(give);
            done
        })
    }

    /// Keeps calls under way until everything is done. After a failure or a signal none is begun, and what is
    /// under way is waited for.
    fn calls(&mut self, give: &Sender<Call>, answers: &Receiver<Answered>) -> Result<()> {
        let mut size = FIRST_LINES;
        let mut under_way = 0;
        let mut failed = None;
        loop {
            while failed.is_none() && under_way < self.given.calls {
                if let Err(error) = signal::go_on() {
                    failed = Some(error);
                    break;
                }
                let call = self.next_call(size)?;
                if call.is_empty() {
                    break;
                }
                give.send(call).context("no thread takes a call")?;
                under_way += 1;
            }
            if under_way == 0 {
                return failed.map_or(Ok(()), Err);
            }
            let (call, answer) = answers.recv().context("no thread gives an answer")?;
            under_way -= 1;
            let done = answer.and_then(|answer| self.take(call, &answer));
            match done {
                Ok(done) => size = (done * 3 / 2).clamp(20, MOST_LINES),
                Err(error) => failed = failed.or(Some(error)),
            }
            self.settle()?;
            self.note_progress()?;
            self.show(false);
        }
    }

    /// The records of the next call, the first of the file that are in none.
    fn next_call(&mut self, size: usize) -> Result<Call> {
        let mut call = Call::new();
        let mut bytes = 0;
        while call.len() < size && bytes < CALL_BYTES {
            let piece = match self.waiting.pop_first() {
                Some((_, piece)) => piece,
                None => match self.source.next()? {
                    Some(piece) => piece,
                    None => break,
                },
            };
            if piece.bytes.len() > LONGEST_LINE {
                let why = "the line is too long, or a quote in it is not closed";
                let result = json!({ "line": piece.line, "detail": why });
                self.ahead.insert(piece.at, End::Refused(result));
                continue;
            }
            bytes += piece.bytes.len();
            self.sent.insert(piece.at, piece.line);
            call.push(piece);
        }
        Ok(call)
    }

    /// Takes the results of a call: how many of its records are done.
    fn take(&mut self, call: Call, answer: &Value) -> Result<usize> {
        let results = answer.get("lines").and_then(Value::as_array);
        let results = results.context("the answer has no lines")?;
        let results: HashMap<u64, &Value> = results
            .iter()
            .filter_map(|result| Some((result.get("line")?.as_u64()?, result)))
            .collect();
        let mut busy = false;
        let mut done = 0;
        let lines = lines_of(&call, &self.header);
        for (piece, line) in call.into_iter().zip(lines) {
            self.sent.remove(&piece.at);
            // A line without a result was not looked at.
            let Some(result) = results.get(&line) else {
                self.waiting.insert(piece.at, piece);
                continue;
            };
            let status = result.get("status").and_then(Value::as_u64).unwrap_or(0);
            if matches!(status, 429 | 503) && piece.tries < TRIES {
                busy = true;
                let tries = piece.tries + 1;
                self.waiting.insert(piece.at, Piece { tries, ..piece });
                continue;
            }
            done += 1;
            let end = match result.get("outcome").and_then(Value::as_str) {
                Some("created") => End::Created,
                Some("changed") => End::Changed,
                Some("unchanged") => End::Unchanged,
                _ => {
                    let mut result = (*result).clone();
                    if let Some(number) = result.get_mut("line") {
                        *number = piece.line.into();
                    }
                    End::Refused(result)
                }
            };
            self.ahead.insert(piece.at, end);
            let name = result.get("mac").or(result.get("id"));
            if let Some(name) = name.and_then(Value::as_str) {
                let first = *self.names.entry(name.to_owned()).or_insert(piece.line);
                if first != piece.line {
                    self.twice
                        .push(format!("{name} stands in lines {first} and {}", piece.line));
                }
            }
        }
        if busy {
            thread::sleep(Duration::from_secs(2));
        }
        ensure!(
            done > 0 || busy,
            "the service took none of the lines: {answer}"
        );
        Ok(done)
    }

    /// Where the first record begins that is not done, and in which line.
    fn settled(&self) -> (u64, u64) {
        let waiting = self.waiting.first_key_value();
        let waiting = waiting.map(|(at, piece)| (*at, piece.line));
        let sent = self.sent.first_key_value();
        let sent = sent.map(|(at, line)| (*at, *line));
        let next = Some((self.source.at, self.source.line));
        [waiting, sent, next]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_default()
    }

    /// Counts what is done with nothing before it that is not.
    fn settle(&mut self) -> Result<()> {
        let (at, _) = self.settled();
        while let Some(first) = self.ahead.first_entry() {
            if *first.key() >= at {
                break;
            }
            let end = first.remove();
            self.tally.count(&end);
            if let End::Refused(result) = end {
                writeln!(self.rejects, "{result}")?;
                if self.rejected.len() < PRINTED {
                    self.rejected.push(said(&result));
                }
            }
        }
        Ok(())
    }

    /// Writes down how far it is, so that the next import can go on.
    fn note_progress(&self) -> Result<()> {
        if self.given.dry_run {
            return Ok(());
        }
        let (at, line) = self.settled();
        let progress = json!({
            "url": self.given.url, "collection": self.given.collection, "length": self.length,
            "line": line, "at": at, "created": self.tally.created, "changed": self.tally.changed,
            "unchanged": self.tally.unchanged, "refused": self.tally.refused,
        });
        let (file, new) = (
            self.given.beside(".progress"),
            self.given.beside(".progress~"),
        );
        fs::write(&new, progress.to_string())?;
        fs::rename(new, file)?;
        Ok(())
    }

    /// A bar on a terminal, a line now and then elsewhere.
    fn show(&mut self, last: bool) {
        let terminal = io::stdout().is_terminal();
        let pause = Duration::from_secs(if terminal { 0 } else { 10 });
        if !last && self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let (at, _) = self.settled();
        let percent = (at * 100).checked_div(self.length).unwrap_or(100);
        let full = usize::try_from(percent / 4).unwrap_or(25).min(25);
        let Tally {
            created,
            changed,
            unchanged,
            refused,
        } = self.ahead.values().fold(self.tally, |mut tally, end| {
            tally.count(end);
            tally
        });
        let text = format!(
            "[{}{}] {percent:3} %  {created} created, {changed} changed, {unchanged} unchanged, {refused} refused",
            "#".repeat(full),
            ".".repeat(25 - full),
        );
        if terminal {
            self.screen.piece(format_args!("\r{text}"));
        } else {
            self.screen.line(text);
        }
    }

    /// Says what was done, and fails if a line was refused.
    fn end(mut self, begun: Instant) -> Result<()> {
        self.settle()?;
        self.show(true);
        self.screen.gap();
        let seconds = begun.elapsed().as_secs_f64();
        let dry = if self.given.dry_run { "tried" } else { "done" };
        let lines = self.tally.all();
        self.screen
            .line(format_args!("{lines} lines {dry} in {seconds:.0} s"));
        if !self.given.dry_run {
            fs::remove_file(self.given.beside(".progress"))?;
        }
        for twice in self.twice.iter().take(PRINTED) {
            self.screen
                .line(format_args!("{twice}: nothing says which of them holds"));
        }
        if let more @ 1.. = self.twice.len().saturating_sub(PRINTED) {
            self.screen.line(format_args!("{more} more stand twice"));
        }
        let rejects = self.given.beside(".refused.ndjson");
        if self.tally.refused == 0 {
            fs::remove_file(rejects)?;
            return Ok(());
        }
        for line in &self.rejected {
            self.screen.line(line);
        }
        bail!(
            "{} lines were refused; {} has all of them",
            self.tally.refused,
            rejects.display()
        )
    }
}

/// What makes the calls.
struct Post {
    url: String,
    token: String,
    content_type: &'static str,
    header: Vec<u8>,
}

impl Post {
    fn of(given: &Given, header: Vec<u8>) -> Self {
        let dry = if given.dry_run { "?dry_run=1" } else { "" };
        let Given {
            url, collection, ..
        } = given;
        Self {
            url: format!("{url}/api/v1/{collection}/batch{dry}"),
            token: given.token.clone(),
            content_type: given.form.content_type(),
            header,
        }
    }

    /// One call, sent again while the service has no time for it.
    fn send(&self, call: &[Piece]) -> Result<Value> {
        let mut body = ended(self.header.clone());
        for piece in call {
            body.extend_from_slice(&piece.bytes);
            body = ended(body);
        }
        let url = &self.url;
        let mut wait = Duration::from_secs(1);
        for attempt in 1..=TRIES {
            let answer = http::post(url)
                .bearer(&self.token)
                .header("Content-Type", self.content_type)
                .limit(LIMIT)
                .body(body.as_slice())
                .send();
            let why = match answer {
                Ok(answer) if answer.status == 200 => return answer.json(),
                Ok(answer) if matches!(answer.status, 429 | 500..) => {
                    let after = answer.header("retry-after").and_then(|s| s.parse().ok());
                    wait = after.map_or(wait, Duration::from_secs);
                    format!("{}: {}", answer.status, answer.text())
                }
                Ok(answer) => bail!("POST {url}: {}: {}", answer.status, answer.text()),
                Err(error) => format!("{error:#}"),
            };
            ensure!(attempt < TRIES, "gave up after {TRIES} tries: {why}");
            signal::go_on()?;
            thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_mins(1));
        }
        bail!("gave up")
    }
}

/// Lines that end with a line break.
fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    bytes
}

/// In which line of a call's body each of its records begins.
fn lines_of(call: &[Piece], header: &[u8]) -> Vec<u64> {
    let lines =
        |bytes: &[u8]| newlines(bytes) + u64::from(!bytes.is_empty() && !bytes.ends_with(b"\n"));
    let mut line = 1 + lines(header);
    call.iter()
        .map(|piece| {
            let this = line;
            line += lines(&piece.bytes);
            this
        })
        .collect()
}

/// A line that was refused, in words.
fn said(result: &Value) -> String {
    let text = |pointer: &str| result.pointer(pointer).and_then(Value::as_str);
    let line = result.get("line").and_then(Value::as_u64).unwrap_or(0);
    let name = text("/mac").or(text("/id")).unwrap_or("-");
    let errors = result.pointer("/problem/errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten().map(|error| {
        let of = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", of("pointer"), of("detail"))
    });
    let errors = errors.collect::<Vec<_>>().join("; ");
    let detail = text("/problem/detail").or(text("/detail"));
    let why = if errors.is_empty() {
        detail.unwrap_or_default().to_owned()
    } else {
        errors
    };
    format!("line {line}: {name}: {why}")
}

/// How many line breaks there are.
pub fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(form: Form, text: &str) -> Vec<(u64, u64, String)> {
        let mut source = Source {
            reader: text.as_bytes(),
            form,
            line: 1,
            at: 0,
        };
        std::iter::from_fn(|| source.next().unwrap())
            .map(|piece| {
                (
                    piece.line,
                    piece.at,
                    String::from_utf8(piece.bytes).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn records_are_cut_where_they_end_and_know_their_line() {
        let text = "a,b\r\n\r\n\"x\n\"\"y\",2\nz,3";
        let found = pieces(Form::Csv, text);
        let wanted = [
            (1, 0, "a,b\r\n"),
            (3, 7, "\"x\n\"\"y\",2\n"),
            (5, 17, "z,3"),
        ];
        assert_eq!(
            found,
            wanted.map(|(line, at, text)| (line, at, text.to_owned()))
        );
        assert_eq!(pieces(Form::Ndjson, "{\"\n\n{}").len(), 2);
    }

    #[test]
    fn what_is_too_long_is_cut_and_ends_where_it_ends() {
        let text = format!("\"{}\n\"\nz\n", "x\n".repeat(LONGEST_LINE));
        let found = pieces(Form::Csv, &text);
        assert_eq!(found.len(), 2);
        assert!(found[0].2.len() > LONGEST_LINE && found[0].2.len() < LONGEST_LINE + 10);
        assert_eq!(found[1].2, "z\n");
    }

    #[test]
    fn a_record_in_a_call_is_known_by_the_line_that_it_begins_in() {
        let piece = |text: &str| Piece {
            line: 0,
            at: 0,
            bytes: text.as_bytes().to_vec(),
            tries: 0,
        };
        let call = [piece("\"x\ny\",1\n"), piece("a,b"), piece("c,d\r\n")];
        assert_eq!(lines_of(&call, b"mac,site\n"), [2, 4, 5]);
        assert_eq!(lines_of(&call, b""), [1, 3, 4]);
    }

    #[test]
    fn a_refusal_is_said_in_one_line() {
        let result = json!({ "line": 3, "mac": "m", "status": 422, "problem": { "detail": "d",
            "errors": [{ "pointer": "/site", "detail": "is wrong" }] } });
        assert_eq!(said(&result), "line 3: m: /site is wrong");
        assert_eq!(
            said(&json!({ "line": 1, "problem": { "detail": "d" } })),
            "line 1: -: d"
        );
    }
}
