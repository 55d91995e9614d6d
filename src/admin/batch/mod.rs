//! Many devices or accounts in one call: `POST /devices/batch` and `POST /accounts/batch`.
//!
//! Each line is saved as a PUT of its record would be, by the same code ([`save::save`]), and has a
//! result of its own. The good lines are saved whatever the others are. A call takes as many lines
//! as fit the operations that the platform allows it, and says where to go on. Every line is a save
//! of its own under its own mark, so a call that is cut off leaves each line old or new, and the
//! scheduled handler finishes what follows.

pub mod csv;
pub mod export;
pub mod ndjson;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::managed::Managed;
use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem, Shown};
use super::save::{self, Change, Context, Saved};
use super::{FINISHED_WITHIN_S, VISIBLE_WITHIN_S, body, json, note, parameters, problem_of};
use crate::cached::{Batching, Run};
use crate::key::Kind;
use crate::mac::Mac;
use crate::request::Request;
use crate::text::Id;
use crate::time::Timestamp;
use crate::vendor::Objection;

/// The operations of KV and R2 that a call may cost: Cloudflare allows 1,000 (Workers KV limits, which
/// newer pages exceed), and some of them are for who calls, and for saves that others come between.
pub const OPERATIONS: u32 = 900;

/// The most lines that a call takes, however little they cost: each makes a phone's files, and a
/// call has 30 s of CPU (Workers limits).
pub const MOST_LINES: usize = 400;

/// How many lines are saved at a time. A Worker has six connections, and some of them are others'.
const AT_ONCE: usize = 4;

/// The longest line, or record of CSV, in bytes: a device with six full expansion modules is 40 KB
/// of JSON, and more with its quotes doubled.
pub const LONGEST_LINE: usize = 131_072;

/// What a new device costs at most beside its lines, if nobody comes between.
const DEVICE_COSTS: u32 = 15;

/// What each account on a device costs at most.
const LINE_COSTS: u32 = 8;

/// What a new account costs at most.
const ACCOUNT_COSTS: u32 = 14;

/// Ids that are routes, so that no account can have them.
pub(super) const ROUTES: [&str; 2] = ["batch", "export"];

/// A line as a format has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Which line of the body it is, or begins in; the first is 1.
    pub number: u64,
    /// The members of its record, the name included; or what is wrong with the line.
    pub members: Result<Map<String, Value>, Problem>,
}

/// That a line is too long.
fn too_long() -> Problem {
    let detail = format!("a line may have {LONGEST_LINE} bytes");
    Problem::new(ProblemKind::TooLarge, detail)
}

/// The forms of a batch and an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

impl Format {
    const ALL: [Self; 2] = [Self::Ndjson, Self::Csv];

    fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// The one that a `Content-Type` says.
    fn of(request: &Request) -> Option<Self> {
        let essence = body::essence(request);
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/x-ndjson") || is("application/ndjson") {
            return Some(Self::Ndjson);
        }
        is("text/csv").then_some(Self::Csv)
    }
}

/// Whether a request says that its body is one of a batch.
pub(super) fn is_batch(request: &Request) -> bool {
    Format::of(request).is_some()
}

/// The member that names a record.
fn name_of(kind: Kind) -> &'static str {
    if kind == Kind::Device { "mac" } else { "id" }
}

/// A line that can be saved, or why it cannot.
struct Line {
    number: u64,
    /// The MAC or id; as the caller has it if it is none.
    id: Option<String>,
    /// The record, without its name.
    members: Result<Map<String, Value>, Problem>,
}

impl Line {
    fn of(kind: Kind, parsed: Parsed) -> Self {
        let number = parsed.number;
        let mut members = match parsed.members {
            Ok(members) => members,
            Err(problem) => {
                return Self {
                    number,
                    id: None,
                    members: Err(problem),
                };
            }
        };
        let name = name_of(kind);
        let wrong = |detail: String| {
            let error = FieldError::new(format!("/{name}"), detail);
            Err(Problem::invalid(vec![error]))
        };
        let given = members.remove(name);
        let Some(Value::String(given)) = given else {
            let detail = given.map_or("is missing", |_| "must be a text");
            return Self {
                number,
                id: None,
                members: wrong(detail.to_owned()),
            };
        };
        let id = match kind {
            Kind::Device => given.parse::<Mac>().map(|mac| mac.to_string()),
            _ => Ok(given.clone()),
        };
        let id = id.map_err(|error| error.to_string());
        let id = id.and_then(|id| match kind {
            Kind::Device => Ok(id),
            _ => Id::try_from(id).map(|id| id.to_string()),
        });
        match id {
            Ok(id) => Self {
                number,
                id: Some(id),
                members: Ok(members),
            },
            Err(detail) => Self {
                number,
                id: Some(given.chars().take(64).collect()),
                members: wrong(detail),
            },
        }
    }

    /// The operations that the line may cost if nobody comes between.
    fn cost(&self, kind: Kind) -> u32 {
        let Ok(members) = &self.members else { return 0 };
        if kind != Kind::Device {
            return ACCOUNT_COSTS;
        }
        let lines = members.get("lines").and_then(Value::as_array);
        let lines = lines.map_or(0, |lines| u32::try_from(lines.len()).unwrap_or(u32::MAX));
        DEVICE_COSTS.saturating_add(LINE_COSTS.saturating_mul(lines))
    }
}

/// What became of a good line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "LineOutcome"))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is new.
    Created,
    /// It was there and is another now.
    Changed,
    /// It was there and is as it was.
    Unchanged,
}

/// What became of a line.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "LineResult"))]
pub(crate) struct Done<'a> {
    /// Which line of the body it begins in, from 1.
    line: u64,
    /// The device.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// What a PUT of it would have answered.
    status: u16,
    /// What became of a good line.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// Its revision now.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// What of it the phone does not follow.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [Objection],
    /// What is wrong with the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Shown<'a>>,
}

/// The answer of a batch.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "BatchReport"))]
pub(crate) struct Report<'a> {
    /// Whether nothing was changed.
    dry_run: bool,
    /// How many are new.
    created: usize,
    /// How many were changed.
    changed: usize,
    /// How many were as they are.
    unchanged: usize,
    /// How many lines are wrong.
    refused: usize,
    /// The first line that was not looked at: it and those that follow are for the next call.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_line: Option<u64>,
    /// When everything that was saved shows everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_by: Option<Timestamp>,
    /// What became of each line.
    lines: Vec<Done<'a>>,
}

/// A line's end, good or bad.
struct Ended {
    number: u64,
    id: Option<String>,
    end: Result<Good, Problem>,
}

/// A line that was saved.
struct Good {
    outcome: Outcome,
    revision: u64,
    warnings: Vec<Objection>,
    followed_up: bool,
}

/// Saves the lines of a batch.
///
/// # Errors
/// A [`Failure`] if the body is none, before anything is read or written; what is wrong with a line is
/// said in its result.
pub async fn run<R: Managed, W: Batching>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    let run = wanted(request)?;
    let parsed: Box<dyn Iterator<Item = Parsed> + '_> = match Format::of(request) {
        Some(Format::Ndjson) => Box::new(ndjson::read(without_mark(&request.body))),
        Some(Format::Csv) => Box::new(csv::read(R::KIND, without_mark(&request.body))?),
        None => {
            let detail = "use Content-Type: application/x-ndjson or text/csv";
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail).into());
        }
    };
    world.begin_batch(R::KIND, run);
    let mut first_in: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines = parsed
        .map(|parsed| Line::of(R::KIND, parsed))
        .map(|line| only_once(line, &mut first_in))
        .peekable();
    let mut done: Vec<Ended> = Vec::new();
    let mut next_line = None;
    while next_line.is_none() && lines.peek().is_some() {
        let mut reserved = world.spent();
        let mut round = Vec::new();
        while round.len() < AT_ONCE
            && let Some(line) = lines.next_if(|line| {
                let cost = line.cost(R::KIND);
                let count = done.len() + round.len();
                let fits = reserved.saturating_add(cost) <= OPERATIONS && count < MOST_LINES;
                reserved = reserved.saturating_add(cost);
                // One that costs more than a call has is the first of its own.
                fits || count == 0
            })
        {
            round.push(save_line::<R, W>(world, context, request, run, line));
        }
        let ended = join_all(round).await;
        // Somebody or the platform wants a pause.
        let busy = ended.iter().any(|result| {
            let problem = result.end.as_ref().err();
            problem.is_some_and(|problem| problem.status() == StatusCode::TOO_MANY_REQUESTS)
        });
        if ended.is_empty() || busy {
            next_line = lines.peek().map(|line| line.number);
        }
        done.extend(ended);
    }
    let count = |wanted: Outcome| {
        let good = done.iter().filter_map(|result| result.end.as_ref().ok());
        good.filter(|good| good.outcome == wanted).count()
    };
    let saved = || done.iter().filter_map(|result| result.end.as_ref().ok());
    let wrote = run == Run::Real && saved().any(|good| good.outcome != Outcome::Unchanged);
    let wait = if saved().all(|good| good.followed_up) {
        VISIBLE_WITHIN_S
    } else {
        FINISHED_WITHIN_S
    };
    let report = Report {
        dry_run: run == Run::Dry,
        created: count(Outcome::Created),
        changed: count(Outcome::Changed),
        unchanged: count(Outcome::Unchanged),
        refused: done.iter().filter(|result| result.end.is_err()).count(),
        next_line,
        visible_by: wrote.then(|| world.now().plus(wait)),
        lines: done.iter().map(|result| shown(R::KIND, result)).collect(),
    };
    json(StatusCode::OK, &report)
}

/// Without a byte order mark.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether the call is a dry run.
fn wanted(request: &Request) -> Result<Run, Problem> {
    let mut run = Run::Real;
    for (name, value) in parameters(request) {
        run = match (name.as_str(), value.as_str()) {
            ("dry_run", "1") => Run::Dry,
            ("dry_run", "0") => Run::Real,
            _ => {
                let detail = "the only parameter is dry_run=0|1";
                return Err(Problem::new(ProblemKind::BadParameter, detail));
            }
        };
    }
    Ok(run)
}

/// Refuses a record that a line before has as well: one of the two is a mistake.
fn only_once(line: Line, first_in: &mut BTreeMap<String, u64>) -> Line {
    let Line {
        number,
        id: Some(id),
        members: Ok(members),
    } = line
    else {
        return line;
    };
    let first = *first_in.entry(id.clone()).or_insert(number);
    let members = if first == number {
        Ok(members)
    } else {
        let member = if id.parse::<Mac>().is_ok() {
            "mac"
        } else {
            "id"
        };
        let error = FieldError::new(format!("/{member}"), format!("line {first} has it too"));
        Err(Problem::invalid(vec![error]))
    };
    Line {
        number,
        id: Some(id),
        members,
    }
}

async fn save_line<R: Managed, W: Batching>(
    world: &W,
    context: &Context,
    request: &Request,
    run: Run,
    line: Line,
) -> Ended {
    let Line {
        number,
        id,
        members,
    } = line;
    let end = match (&id, members) {
        (Some(id), Ok(members)) => {
            save_one::<R, W>(world, context, request, run, id, members).await
        }
        (None, Ok(_)) => Err(Problem::new(
            ProblemKind::Invalid,
            "the line names no record",
        )),
        (_, Err(problem)) => Err(problem),
    };
    Ended { number, id, end }
}

async fn save_one<R: Managed, W: Batching>(
    world: &W,
    context: &Context,
    request: &Request,
    run: Run,
    id: &str,
    members: Map<String, Value>,
) -> Result<Good, Problem> {
    let saved = save::save::<R, W>(world, context, request, id, Change::Put(members)).await;
    let Saved {
        stored,
        created,
        changed,
        followed_up,
    } = saved.map_err(|failure| match failure {
        Failure::Problem(problem) => problem,
        Failure::Fault(fault) => problem_of(world, request, fault),
    })?;
    let (outcome, action) = match (created, changed) {
        (true, _) => (Outcome::Created, "record.created"),
        (false, true) => (Outcome::Changed, "record.changed"),
        (false, false) => (Outcome::Unchanged, ""),
    };
    let mut warnings = Vec::new();
    if outcome != Outcome::Unchanged {
        if run == Run::Real {
            note(world, context, action, id, &stored).await;
        }
        // It is saved: that nobody can say what of it a phone leaves out makes it no failure.
        warnings = R::warnings(world, id, &stored).await.unwrap_or_default();
    }
    Ok(Good {
        outcome,
        revision: stored.edition,
        warnings,
        followed_up,
    })
}

fn shown(kind: Kind, ended: &Ended) -> Done<'_> {
    let id = ended.id.as_deref();
    let (mac, id) = match kind {
        Kind::Device => (id, None),
        _ => (None, id),
    };
    let good = ended.end.as_ref().ok();
    let problem = ended.end.as_ref().err();
    let status = match (good, problem) {
        (_, Some(problem)) => problem.status(),
        (Some(good), _) if good.outcome == Outcome::Created => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Done {
        line: ended.number,
        mac,
        id,
        status: status.as_u16(),
        outcome: good.map(|good| good.outcome),
        revision: good.map(|good| good.revision),
        warnings: good.map_or(&[], |good| &good.warnings),
        problem: problem.map(Problem::shown),
    }
}
