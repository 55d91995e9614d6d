//! CSV (RFC 4180) with a header line: each further record becomes the JSON that a PUT takes, and
//! the other way round.
//!
//! A cell is the text of its member, or JSON where the member is no text: `true`, `24`, a list. An
//! empty cell is an absent member. `line1` is the account of the phone's first line, `line1_label`
//! its label, and so on; whoever needs another order says `lines` in JSON. Each setting has a column
//! `settings.{name}`.

use std::collections::BTreeMap;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde_json::{Map, Value, json};

use super::{LONGEST_LINE, Parsed, too_long};
use crate::admin::problem::{FieldError, Kind as ProblemKind, Problem};
use crate::fault::Fault;
use crate::key::Kind;
use crate::record::settings::Setting;

/// How a member stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is.
    Text,
    /// As JSON.
    Json,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    /// A member of the record.
    Member(&'static str, Form),
    /// A member of its `settings`.
    Setting(&'static str, Form),
    /// The account of a line.
    Account(u8),
    /// The label of a line.
    Label(u8),
}

const SETTINGS: &str = "settings";
const LINES: &str = "lines";

const DEVICE: &[(&str, Form)] = &[
    ("mac", Form::Text),
    ("tenant", Form::Text),
    ("vendor", Form::Text),
    ("model", Form::Text),
    ("serial", Form::Text),
    ("site", Form::Text),
    ("region", Form::Text),
    ("profile", Form::Text),
    ("user_type", Form::Text),
    ("enabled", Form::Json),
    ("decoy", Form::Json),
    ("arm", Form::Text),
    ("url", Form::Text),
    (LINES, Form::Json),
    ("buttons", Form::Json),
];

const ACCOUNT: &[(&str, Form)] = &[
    ("id", Form::Text),
    ("tenant", Form::Text),
    ("pbx", Form::Text),
    ("username", Form::Text),
    ("auth_username", Form::Text),
    ("password", Form::Text),
    ("display_name", Form::Text),
    ("voicemail", Form::Text),
    ("mailbox", Form::Text),
    ("pin", Form::Text),
    ("buttons", Form::Json),
];

/// Columns that are never written: they are secrets, or mean something on create only.
const WRITE_ONLY: [&str; 5] = [
    "arm",
    "password",
    "pin",
    "settings.admin_password",
    "settings.user_password",
];

/// How many lines of a phone have columns of their own where devices are written; one with another
/// line has all of them in `lines`.
const LINE_COLUMNS: u8 = 4;

/// The most columns that a header can have: one for each line and its label, and the others.
const MOST_COLUMNS: usize = 640;

fn members(kind: Kind) -> &'static [(&'static str, Form)] {
    if kind == Kind::Device {
        DEVICE
    } else {
        ACCOUNT
    }
}

fn form(setting: Setting) -> Form {
    match setting {
        Setting::Timezone
        | Setting::Language
        | Setting::NtpServer
        | Setting::Dtmf
        | Setting::Transfer
        | Setting::Wallpaper
        | Setting::FirmwareUrl
        | Setting::SyslogServer
        | Setting::AdminPassword
        | Setting::UserPassword => Form::Text,
        Setting::Clock24h
        | Setting::Codecs
        | Setting::ResyncMinutes
        | Setting::ResyncSpreadMinutes
        | Setting::CallWaiting
        | Setting::Vlan
        | Setting::Lldp
        | Setting::Ringtone
        | Setting::DialPlan
        | Setting::Forward
        | Setting::Dnd
        | Setting::AutoAnswer
        | Setting::WebUi
        | Setting::Raw => Form::Json,
    }
}

impl Column {
    /// The column of a name; `None` if records of this kind have none.
    fn named(kind: Kind, name: &str) -> Option<Self> {
        let member = members(kind).iter().find(|(member, _)| *member == name);
        if let Some((name, form)) = member {
            return Some(Self::Member(name, *form));
        }
        if kind != Kind::Device {
            return None;
        }
        if let Some(name) = name.strip_prefix("settings.") {
            let setting = Setting::named(name)?;
            return Some(Self::Setting(setting.name(), form(setting)));
        }
        let line = name.strip_prefix("line")?;
        let (line, of): (&str, fn(u8) -> Self) = match line.strip_suffix("_label") {
            Some(line) => (line, Self::Label),
            None => (line, Self::Account),
        };
        let number: u8 = line.parse().ok()?;
        // One spelling for each: `line01` is none.
        (number > 0 && number.to_string() == line).then(|| of(number))
    }

    /// Every column that is written of records of a kind, with its name, in order.
    fn written(kind: Kind) -> Vec<(String, Self)> {
        let mut names = Vec::new();
        for (name, _) in members(kind) {
            if *name == LINES {
                names.extend(
                    (1..=LINE_COLUMNS).flat_map(|n| [format!("line{n}"), format!("line{n}_label")]),
                );
            }
            names.push((*name).to_owned());
        }
        if kind == Kind::Device {
            let settings = Setting::ALL.iter().chain(&[Setting::Raw]);
            names.extend(settings.map(|setting| format!("settings.{}", setting.name())));
        }
        names.retain(|name| !WRITE_ONLY.contains(&name.as_str()));
        let column = |name: String| Some((name.clone(), Self::named(kind, &name)?));
        names.into_iter().filter_map(column).collect()
    }
}

/// Reads the records of a body one after another.
///
/// # Errors
/// A [`Problem`] if the header line is missing, or names something that is no column, or one twice.
pub fn read(kind: Kind, body: &[u8]) -> Result<impl Iterator<Item = Parsed> + '_, Problem> {
    let mut records = Records::new(body);
    let Some(header) = records.next() else {
        let detail = "the header line with the names of the columns is missing";
        return Err(Problem::new(ProblemKind::BadCsv, detail));
    };
    let mut columns: Vec<Column> = Vec::new();
    let mut errors = Vec::new();
    for name in header.cells? {
        // A name may be anything: only as much of it as helps comes back.
        let shown: String = name.chars().take(64).collect();
        match Column::named(kind, &name) {
            Some(column) if columns.contains(&column) => {
                errors.push(FieldError::new(format!("/{shown}"), "is a column twice"));
            }
            Some(column) => columns.push(column),
            None => {
                let detail = format!("is no column of {}", kind.collection());
                errors.push(FieldError::new(format!("/{shown}"), detail));
            }
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(records.map(move |record| Parsed {
        number: record.number,
        members: record.cells.and_then(|cells| row(&columns, cells)),
    }))
}

/// The JSON that a record stands for.
fn row(columns: &[Column], cells: Vec<String>) -> Result<Map<String, Value>, Problem> {
    if cells.len() != columns.len() {
        let (there, wanted) = (cells.len(), columns.len());
        let detail = format!("the line has {there} cells, and the header {wanted}");
        return Err(Problem::new(ProblemKind::BadCsv, detail));
    }
    let mut members = Map::new();
    let mut settings = Map::new();
    let mut lines: BTreeMap<u8, Map<String, Value>> = BTreeMap::new();
    let mut errors = Vec::new();
    for (column, cell) in columns.iter().zip(cells) {
        if cell.is_empty() {
            continue;
        }
        match column {
            Column::Member(name, form) => match value(*form, cell) {
                Ok(value) => drop(members.insert((*name).to_owned(), value)),
                Err(wrong) => errors.push(FieldError::new(format!("/{name}"), wrong)),
            },
            Column::Setting(name, form) => match value(*form, cell) {
                Ok(value) => drop(settings.insert((*name).to_owned(), value)),
                Err(wrong) => errors.push(FieldError::new(format!("/settings/{name}"), wrong)),
            },
            Column::Account(number) | Column::Label(number) => {
                let member = if matches!(column, Column::Account(_)) {
                    "account"
                } else {
                    "label"
                };
                let line = lines
                    .entry(*number)
                    .or_insert_with(|| Map::from_iter([("line".to_owned(), (*number).into())]));
                line.insert(member.to_owned(), cell.into());
            }
        }
    }
    for (number, line) in &lines {
        if !line.contains_key("account") {
            let detail = format!("is empty, and line{number}_label is not");
            errors.push(FieldError::new(format!("/line{number}"), detail));
        }
    }
    if !lines.is_empty() && members.contains_key(LINES) {
        let detail = "stands beside columns of single lines; fill the one or the others";
        errors.push(FieldError::new("/lines", detail));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    if !lines.is_empty() {
        let lines = lines.into_values().map(Value::Object);
        members.insert(LINES.to_owned(), lines.collect());
    }
    if !settings.is_empty() {
        members.insert(SETTINGS.to_owned(), settings.into());
    }
    Ok(members)
}

fn value(form: Form, cell: String) -> Result<Value, &'static str> {
    match form {
        Form::Text => Ok(cell.into()),
        // As spreadsheets write them.
        Form::Json if cell.eq_ignore_ascii_case("true") => Ok(true.into()),
        Form::Json if cell.eq_ignore_ascii_case("false") => Ok(false.into()),
        Form::Json => serde_json::from_str(&cell).map_err(|_| "is not JSON"),
    }
}

/// A record as it stands in the file.
struct Record {
    /// The line that it begins in, from 1.
    number: u64,
    cells: Result<Vec<String>, Problem>,
}

/// The records of a file.
struct Records<'a> {
    reader: Reader,
    rest: &'a [u8],
    /// The line that the rest begins in.
    line: u64,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl<'a> Records<'a> {
    fn new(body: &'a [u8]) -> Self {
        // Spreadsheets of some countries put semicolons where others put commas.
        let header = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let semicolons = header.contains(&b';') && !header.contains(&b',');
        let delimiter = if semicolons { b';' } else { b',' };
        Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            rest: body,
            line: 1,
            text: vec![0; LONGEST_LINE],
            ends: vec![0; MOST_COLUMNS],
        }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let whole = self.rest;
        let (mut written, mut ended) = (0, 0);
        let (mut long, mut wide) = (false, false);
        loop {
            let text = self.text.get_mut(written..)?;
            let ends = self.ends.get_mut(ended..)?;
            let (result, read, more, fields) = self.reader.read_record(self.rest, text, ends);
            self.rest = self.rest.get(read..)?;
            written += more;
            ended += fields;
            match result {
                // Of what is too much the end is looked for, and nothing kept.
                ReadRecordResult::OutputFull => (long, written) = (true, 0),
                ReadRecordResult::OutputEndsFull => (wide, ended) = (true, 0),
                // It has everything; the next call, with nothing more, says what it was.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return None,
            }
        }
        let raw = whole.get(..whole.len() - self.rest.len())?;
        // What ended the record before, and empty lines.
        let begins = raw.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let number = self.line + newlines(raw.get(..begins?)?);
        self.line += newlines(raw);
        let bad = |detail: &str| Problem::new(ProblemKind::BadCsv, detail);
        let open = raw.iter().fold(false, |open, byte| open != (*byte == b'"'));
        let cells = if open {
            Err(bad("a quote in the line is not closed"))
        } else if long || raw.len() > LONGEST_LINE {
            Err(too_long())
        } else if wide {
            Err(bad("the line has more cells than there are columns"))
        } else {
            cells(&self.text, self.ends.get(..ended)?).ok_or_else(|| bad("the line is not UTF-8"))
        };
        Some(Record { number, cells })
    }
}

fn cells(text: &[u8], ends: &[usize]) -> Option<Vec<String>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let cell = |(start, end): (usize, &usize)| {
        let bytes = text.get(start..*end)?;
        std::str::from_utf8(bytes).ok().map(ToOwned::to_owned)
    };
    starts.zip(ends).map(cell).collect()
}

/// The header line of what [`line()`] writes.
#[must_use]
pub fn header(kind: Kind) -> String {
    let names = Column::written(kind).into_iter().map(|(name, _)| name);
    ended(&names.collect::<Vec<_>>())
}

/// A record as a line, from the JSON that the API shows of it. Cells are as they are, also those that
/// a spreadsheet would take for a formula: what was written must read back unchanged.
///
/// # Errors
/// [`Fault::Broken`] if it has a member that no column holds: nothing is left out unsaid.
pub fn line(kind: Kind, mut members: Map<String, Value>) -> Result<String, Fault> {
    let mut lines = Map::new();
    if let Some(Value::Array(list)) = members.get(LINES) {
        let number = |line: &Value| line.get("line").and_then(Value::as_u64).unwrap_or(0);
        let ascend = list.is_sorted_by(|a, b| number(a) < number(b));
        let most = u64::from(LINE_COLUMNS);
        if ascend && list.iter().all(|line| (1..=most).contains(&number(line))) {
            for line in list {
                lines.insert(number(line).to_string(), line.clone());
            }
            members.remove(LINES);
        }
    }
    let mut settings = match members.remove(SETTINGS) {
        Some(Value::Object(settings)) => settings,
        _ => Map::new(),
    };
    let mut of_line = |number: u8, member: &str| {
        let line = lines.get_mut(&number.to_string())?;
        Some(line.get_mut(member)?.take())
    };
    let mut cells = Vec::new();
    for (_, column) in Column::written(kind) {
        let value = match column {
            Column::Member(name, _) => members.remove(name),
            Column::Setting(name, _) => settings.remove(name),
            Column::Account(number) => of_line(number, "account"),
            Column::Label(number) => of_line(number, "label"),
        };
        cells.push(match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            // Absent means the same.
            Some(value) if value == json!([]) => String::new(),
            Some(value) => value.to_string(),
        });
    }
    if members.is_empty() && settings.is_empty() {
        Ok(ended(&cells))
    } else {
        Err(Fault::Broken("member without a column"))
    }
}

fn ended(cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| {
        if cell.contains(['"', ',', ';', '\r', '\n']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.clone()
        }
    });
    let mut line = cells.collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}
