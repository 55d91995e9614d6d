//! `cargo xtask demo`: Dialtone on local workerd with a small customer in it, one phone played from
//! its box to its last file, and then a running service to try things on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dialtone_kit::http::Response;
use dialtone_kit::workerd::{Options, Workerd};
use dialtone_kit::{dev_vars, project};
use serde_json::Value;

use crate::admin::Admin;
use crate::phone::{Exchange, Found, Phone};
use crate::screen::{INDENT, Screen, Style};
use crate::{build, signal, tools};

/// The customer, below the checkout. `5-devices/{mac}.json` is what is put to
/// `/api/v1/devices/{mac}`; the numbers are the order in which records can refer to each other.
const CUSTOMER: &str = "fixtures/demo";

/// Wrangler's own port, so that what is said elsewhere about a local Dialtone holds here too.
const PORT: u16 = 8787;

/// The phone that is played.
const MAC: &str = "805ec0000001";

/// How often the Worker's log is looked at while nothing else happens.
const POLL: Duration = Duration::from_millis(200);

/// Runs the demo. With `--once` it ends after it has tried its own suggestions.
pub fn run(arguments: &[String]) -> Result<()> {
    let once = match arguments {
        [] => false,
        [only] if only == "--once" => true,
        _ => bail!("`demo` takes nothing but `--once`; `cargo xtask help` says what that does"),
    };
    let screen = Screen::stdout();
    screen.heading("Dialtone, on this machine");
    let (mut workerd, created) = start(screen)?;
    // Until here a signal ends this process, and its guard the Worker with it.
    signal::watch();
    let result = show(screen, &workerd, created, once)
        .and_then(|()| {
            if once {
                signal::go_on()
            } else {
                stay_up(screen, &workerd)
            }
        })
        .with_context(|| format!("the Worker's last words:\n{}\n", tail(&workerd)));
    workerd.stop()?;
    if result.is_ok() && !once {
        screen.gap();
        screen.sentences("Stopped, and nothing is left of it.");
    }
    result
}

/// Gets everything ready and starts Dialtone, saying what takes long. True if there were no secrets
/// before.
fn start(screen: Screen) -> Result<(Workerd, bool)> {
    // Each of these says by itself what it does, if there is something to do.
    tools::run()?;
    let secrets = dev_vars::ensure(&project::root())?;
    build::run(&[])?;
    screen.piece(format_args!(
        "{INDENT}workerd starts, with a KV and an R2 of its own ..."
    ));
    let start = Instant::now();
    let options = Options::new()
        .built()
        .port(PORT)
        .secret(dev_vars::ADMIN_TOKEN, &secrets.admin_token)
        .secret(dev_vars::SEAL_KEY, &secrets.seal_key);
    let workerd = Workerd::start(&options).inspect_err(|_| screen.gap())?;
    screen.line(format_args!(" {:.1} s", start.elapsed().as_secs_f64()));
    Ok((workerd, secrets.created))
}

/// Everything there is to see, from the first heading to the last.
fn show(screen: Screen, workerd: &Workerd, created: bool, once: bool) -> Result<()> {
    let made = if created { "made just now" } else { "found" };
    let port = if workerd.port() == PORT {
        String::new()
    } else {
        format!(" (port {PORT} is in use)")
    };
    screen.line(format_args!(
        "{INDENT}it listens on {}{port}",
        screen.paint(Style::Bold, workerd.url())
    ));
    screen.sentences(&format!(
        "The secrets are those of {}, {made}. What is stored is in a temporary directory and goes \
         when the demo ends.",
        dev_vars::FILE
    ));
    load(screen, workerd)?;
    play(screen, workerd)?;
    let tries = suggestions(workerd);
    farewell(screen, workerd, &tries);
    if once {
        try_them(screen, &tries)?;
    }
    Ok(())
}

/// Creates the customer through the admin API.
fn load(screen: Screen, workerd: &Workerd) -> Result<()> {
    screen.heading("A customer");
    screen.sentences(&format!(
        "An admin writes down who there is: the files of {CUSTOMER}, one by one, through the admin \
         API."
    ));
    screen.gap();
    let directory = project::root().join(CUSTOMER);
    let admin = Admin::new(&workerd.url(), workerd.admin_token());
    let mut count = 0;
    for collection in entries(&directory)?.iter().filter(|path| path.is_dir()) {
        let (_, kind) = name(collection)
            .split_once('-')
            .with_context(|| format!("{} has no number in front", collection.display()))?;
        for file in entries(collection)? {
            let path = format!("{kind}/{}", name(&file).trim_end_matches(".json"));
            let text = fs::read_to_string(&file)?;
            let record: Value = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON", file.display()))?;
            admin
                .create(&path, &record)
                .with_context(|| format!("{} was refused", file.display()))?;
            screen.line(format_args!(
                "{INDENT}{} {:36} {}",
                screen.paint(Style::Sent, "PUT"),
                format!("/api/v1/{path}"),
                screen.paint(Style::Dim, gist(kind, &record))
            ));
            count += 1;
        }
    }
    screen.gap();
    screen.sentences(&format!(
        "{count} records, each answered with 201 Created. Every phone's files are made by now: a \
         save that went through has made them."
    ));
    Ok(())
}

/// A record in a few words.
fn gist(kind: &str, record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    match kind {
        "devices" => {
            let kind = [text("/vendor"), text("/model"), text("/user_type")];
            let mut words: Vec<&str> = kind.into_iter().flatten().collect();
            words.retain(|word| *word != "standard");
            let place = text("/site").map(|site| format!(", {site}"));
            words.join(" ") + &place.unwrap_or_default()
        }
        "pbxes" => text("/sip/host").unwrap_or_default().to_owned(),
        "rules" => text("/url").unwrap_or_default().to_owned(),
        _ => [text("/display_name"), text("/name")]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// The phone that is played, as its record says, out of its box.
fn unpack() -> Result<Phone> {
    let file = project::root()
        .join(CUSTOMER)
        .join(format!("5-devices/{MAC}.json"));
    let record: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    Ok(Phone::new(MAC, text("serial"), text("model")))
}

/// Plays one phone through steps 1 to 6, and what comes before and after.
fn play(screen: Screen, workerd: &Workerd) -> Result<()> {
    let mut phone = unpack()?;
    let rps = format!("{}/rps", workerd.url());
    screen.heading("A phone comes out of its box");
    screen.sentences(&format!(
        "It is a Yealink {}. Its label says MAC {}, serial {}. All else that it knows is {rps}, \
         which its network told it; from there it follows nothing but the URLs that it is given.",
        phone.model(),
        phone.spelled_mac(),
        phone.serial(),
    ));
    strangers(screen, &rps)?;

    screen.heading("1  Power on: the phone asks where its files are");
    screen.sentences("It shows the RPS its MAC, and the serial number of its label.");
    let serial = phone.serial().to_owned();
    let asked = phone.look_up(&rps, &serial)?;
    let print = Printer {
        screen,
        short: None,
    };
    print.request(&asked);
    screen.heading("2  The RPS checks who it is, and says where");
    screen.sentences(
        "The serial is the one in the record. No rule sends this phone elsewhere, so its files \
         are here, under a URL with a token that nobody can guess and that opens this phone's \
         files alone. (Below, the token is printed with its middle left out.)",
    );
    screen.gap();
    print.answer(&asked);
    let found = Found::read(&asked)?;
    let print = Printer::after(screen, &found.url);

    screen.heading("3  The phone asks there for its BootFile");
    screen.sentences("By the name that Yealink phones ask for; `boot.cfg` would do as well.");
    let boot = phone.ask(&format!("{}{}", found.url, found.boot))?;
    print.request(&boot);
    screen.heading("4  It gets it: what it is, and what to fetch next");
    screen.sentences(
        "Model and user type, then its first settings, its accounts (ACC) and its keys (BTN), each \
         by its URL.",
    );
    screen.gap();
    print.answer(&boot);

    screen.heading("5, 6  It asks for each of them, and applies what it gets");
    let includes = boot.file()?.includes;
    let mut files = vec![boot];
    for url in includes {
        let file = phone.ask(&url)?;
        let known = FILES.iter().find(|(name, ..)| url.ends_with(name));
        if let Some((_, says, _)) = known {
            screen.gap();
            screen.sentences(says);
        }
        print.request(&file);
        print.answer_in(&file, known.map_or(MOST_LINES, |(.., most)| *most));
        phone.apply(file.file()?);
        files.push(file);
    }
    screen.gap();
    print.summary(&phone);

    screen.heading("Twelve hours later");
    screen.sentences(
        "The phone comes back, as its settings say, and shows the ETag of each file that it has. \
         Nothing was changed, so nothing is sent, and on this side nothing is written.",
    );
    screen.gap();
    for file in &files {
        let again = phone.ask(&file.url)?;
        print.in_a_line(&again);
        expect(&again, 304)?;
    }
    admins_view(screen, workerd)
}

/// What the phone gets in steps 5 and 6, in words, and how many lines of it tell enough.
const FILES: [(&str, &str, usize); 3] = [
    (
        "first.cfg",
        "Where to ask from now on: here, no more at the RPS. How often. The language, the clock.",
        10,
    ),
    (
        "ACC.cfg",
        "Its account at the PBX. The password was made when the account was created; nobody \
         needed to see it, and in KV and R2 it stands sealed.",
        MOST_LINES,
    ),
    (
        "BTN.cfg",
        "Its keys, and the first one of an expansion module. Keys that nobody set are blanked, so \
         that nothing of a former owner stays.",
        MOST_LINES,
    ),
];

/// Plays two who are not the phone.
fn strangers(screen: Screen, rps: &str) -> Result<()> {
    screen.heading("0  But first, somebody else");
    screen.sentences(
        "A MAC is no secret, so somebody tries this one with a serial number that is a guess. \
         The refusal tells nothing: for a MAC that nobody has, it is the same to the byte.",
    );
    let print = Printer {
        screen,
        short: None,
    };
    let mut guesser = unpack()?;
    let refused = guesser.look_up(rps, "3146019091637099")?;
    print.request(&refused);
    print.answer(&refused);
    expect(&refused, 404)?;
    let mut unknown = Phone::new("805ec0ffffff", guesser.serial(), guesser.model());
    let serial = unknown.serial().to_owned();
    let also = unknown.look_up(rps, &serial)?;
    print.request(&also);
    print.answer(&also);
    if (refused.answer.status, &refused.answer.body) != (also.answer.status, &also.answer.body) {
        bail!("the two refusals differ");
    }
    Ok(())
}

/// The status of the phone, as the admin API shows it.
fn admins_view(screen: Screen, workerd: &Workerd) -> Result<()> {
    screen.heading("What the admin sees");
    let path = format!("devices/{MAC}/status");
    let answer = Admin::new(&workerd.url(), workerd.admin_token()).call("GET", &path, None)?;
    if answer.status != 200 {
        bail!("{path} was answered with {}", answer.status);
    }
    screen.gap();
    screen.line(format_args!(
        "{INDENT}{}",
        screen.paint(Style::Sent, format_args!("GET /api/v1/{path}"))
    ));
    Printer {
        screen,
        short: None,
    }
    .body(&answer, MOST_LINES);
    screen.gap();
    screen.sentences(&format!(
        "Step 7, the phone registers with Asterisk, needs an Asterisk: {CUSTOMER}/README.md says \
         how to point the demo at one."
    ));
    Ok(())
}

fn expect(exchange: &Exchange, status: u16) -> Result<()> {
    if exchange.answer.status != status {
        bail!(
            "{} should have been answered with {status}, and was with {}",
            exchange.url,
            exchange.answer.status
        );
    }
    Ok(())
}

/// Prints what goes over the wire.
struct Printer {
    screen: Screen,
    /// A token that was printed once, and how it looks from then on.
    short: Option<(String, String)>,
}

impl Printer {
    /// One that leaves out the middle of the token in a provisioning URL.
    fn after(screen: Screen, url: &str) -> Self {
        let token = url.trim_end_matches('/').rsplit('/').next();
        let short = token.and_then(|token| {
            let (head, tail) = (token.get(..6)?, token.get(token.len().checked_sub(4)?..)?);
            Some((token.to_owned(), format!("{head}…{tail}")))
        });
        Self { screen, short }
    }

    fn shorten(&self, text: &str) -> String {
        match &self.short {
            Some((token, short)) => text.replace(token, short),
            None => text.to_owned(),
        }
    }

    fn request(&self, exchange: &Exchange) {
        let screen = self.screen;
        screen.gap();
        screen.line(format_args!(
            "{INDENT}{}",
            screen.paint(
                Style::Sent,
                format_args!("GET {}", self.shorten(&exchange.url))
            )
        ));
        for (name, value) in &exchange.headers {
            self.header(name, value);
        }
    }

    fn answer(&self, exchange: &Exchange) {
        self.answer_in(exchange, MOST_LINES);
    }

    /// An answer whose body takes so many lines at most.
    fn answer_in(&self, exchange: &Exchange, most: usize) {
        self.screen.line(format_args!(
            "{INDENT}{}",
            verdict(self.screen, &exchange.answer, exchange.took)
        ));
        // Of a file, whether it is the one that the phone has; of all else, that no cache may keep it.
        let telling = if exchange.answer.header("etag").is_some() {
            ["Content-Type", "Content-Length", "ETag"]
        } else {
            ["Content-Type", "Content-Length", "Cache-Control"]
        };
        for name in telling {
            if let Some(value) = exchange.answer.header(name) {
                self.header(name, value);
            }
        }
        self.body(&exchange.answer, most);
    }

    fn header(&self, name: &str, value: &str) {
        let text = format!("{name}: {value}");
        self.screen.line(format_args!(
            "{INDENT}  {}",
            self.screen.paint(Style::Dim, text)
        ));
    }

    fn body(&self, answer: &Response, most: usize) {
        let bar = self.screen.paint(Style::Dim, "│");
        for line in body_lines(answer, most) {
            self.screen
                .line(format_args!("{INDENT}  {bar} {}", self.shorten(&line)));
        }
    }

    /// A request and its answer in a line.
    fn in_a_line(&self, exchange: &Exchange) {
        let screen = self.screen;
        let name = exchange.url.rsplit('/').next().unwrap_or_default();
        let mut headers = exchange.headers.iter();
        let etag = headers.find(|(name, _)| *name == "If-None-Match");
        let etag = etag.map_or("", |(_, value)| value.as_str());
        screen.line(format_args!(
            "{INDENT}{} {} {}",
            screen.paint(Style::Sent, format_args!("GET {name:17}")),
            screen.paint(Style::Dim, format_args!("If-None-Match: {etag}")),
            verdict(screen, &exchange.answer, exchange.took)
        ));
    }

    /// What the phone has become.
    fn summary(&self, phone: &Phone) {
        let server = phone.server().unwrap_or("the RPS again");
        self.screen.sentences(&format!(
            "The phone has {} parameters now. Line 1 is {}, extension {} at {}:{}; key 2 watches \
             {}. Next time it asks at {}",
            phone.settings(),
            phone.setting("account.1.display_name"),
            phone.setting("account.1.user_name"),
            phone.setting("account.1.sip_server.1.address"),
            phone.setting("account.1.sip_server.1.port"),
            phone.setting("linekey.2.label"),
            self.shorten(server),
        ));
    }
}

/// `200 OK in 8 ms`.
fn verdict(screen: Screen, answer: &Response, took: Duration) -> String {
    let style = if answer.status < 400 {
        Style::Good
    } else {
        Style::Bad
    };
    format!(
        "{} {}",
        screen.paint(
            style,
            format_args!("{} {}", answer.status, phrase(answer.status))
        ),
        screen.paint(
            Style::Dim,
            format_args!("in {} ms", took.as_millis().max(1))
        )
    )
}

/// The words of a status that phones meet (RFC 9110, 15).
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        304 => "Not Modified",
        404 => "Not Found",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// How many lines are printed of a body.
const MOST_LINES: usize = 23;

/// From how many lines in a row on that set nothing they are not worth printing.
const BLANK_RUN: usize = 4;

/// A body for people: JSON spread out, runs of settings without a value counted, the rest cut.
fn body_lines(answer: &Response, most: usize) -> Vec<String> {
    let text = answer.text();
    let json = answer.header("content-type").unwrap_or_default();
    if json.contains("json") {
        return spread(&text);
    }
    shorten(&text, most)
}

/// How long an object or array may be that stays in one line.
const SHORT: usize = 66;

/// JSON in lines, its members in the order in which they came.
fn spread(json: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    // For each open object or array, whether it is spread out.
    let mut open: Vec<bool> = Vec::new();
    let mut in_string = false;
    let mut escaped = false;
    let feed = |lines: &mut Vec<String>, depth: usize| lines.push("  ".repeat(depth));
    for (at, c) in json.char_indices() {
        let line = |lines: &mut Vec<String>, text: &str| {
            if let Some(line) = lines.last_mut() {
                line.push_str(text);
            }
        };
        let piece = c.to_string();
        if in_string {
            line(&mut lines, &piece);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                let wide = open.is_empty() || length(&json[at..]) > SHORT;
                open.push(wide);
                line(&mut lines, &piece);
                if wide {
                    feed(&mut lines, open.iter().filter(|wide| **wide).count());
                }
            }
            '}' | ']' => {
                if open.pop() == Some(true) {
                    feed(&mut lines, open.iter().filter(|wide| **wide).count());
                }
                line(&mut lines, &piece);
            }
            ',' => {
                line(&mut lines, &piece);
                if open.last() == Some(&true) {
                    feed(&mut lines, open.iter().filter(|wide| **wide).count());
                } else {
                    line(&mut lines, " ");
                }
            }
            ':' => line(&mut lines, ": "),
            c if c.is_whitespace() => {}
            c => {
                in_string = c == '"';
                line(&mut lines, &piece);
            }
        }
    }
    lines
}

/// How long the object or array is that the text begins with. Brackets in strings are miscounted,
/// which makes a line longer or shorter and nothing worse.
fn length(json: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in json.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    json.len()
}

fn shorten(text: &str, most: usize) -> Vec<String> {
    let is_blank = |line: &&str| {
        line.split_once(" =")
            .is_some_and(|(_, value)| matches!(value.trim(), "" | "0"))
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let left = lines.len() - at;
        if shown.len() + 1 >= most && left > 1 {
            shown.push(format!("… and {left} more lines"));
            break;
        }
        let run = lines[at..].iter().take_while(|line| is_blank(line)).count();
        if run >= BLANK_RUN {
            shown.push(format!("… {run} lines that blank what is not in use"));
            at += run;
        } else {
            shown.push((*line).to_owned());
            at += 1;
        }
    }
    shown
}

/// Something to try in a shell: what for, the commands, and a piece of what they then print.
struct Suggestion {
    about: &'static str,
    commands: String,
    shows: &'static str,
}

/// What to try next. Each goes on from those before it.
fn suggestions(workerd: &Workerd) -> Vec<Suggestion> {
    let mut all = vec![Suggestion {
        about: "In another terminal: where Dialtone is, and who you are",
        commands: format!(
            "export URL={} ADMIN_TOKEN={}\n{API}",
            workerd.url(),
            workerd.admin_token()
        ),
        shows: "",
    }];
    let fixed = SUGGESTIONS
        .iter()
        .map(|(about, commands, shows)| Suggestion {
            about,
            commands: (*commands).to_owned(),
            shows,
        });
    all.extend(fixed);
    all
}

/// The README's helper for calls to the admin API.
const API: &str = r#"api() { curl -sS -X "$1" "$URL/api/v1$2" -H "Authorization: Bearer $ADMIN_TOKEN" \
          -H 'Content-Type: application/json' ${3:+-d "$3"}; echo; }"#;

/// What to try, what for, and a piece of what must then be seen.
const SUGGESTIONS: [(&str, &str, &str); 10] = [
    (
        "Be the phone: ask the RPS, keep the answer in P, fetch a file",
        r#"curl -s "$URL/rps?mac=805ec0000001&serial=3146019091637071"
P=$(curl -s -H 'Accept: text/plain' "$URL/rps?mac=805ec0000001&serial=3146019091637071")
curl -s "${P}ACC.cfg""#,
        "account.1.password = ",
    ),
    (
        "How far the phone is",
        "api GET /devices/805ec0000001/status",
        r#""status":"configured""#,
    ),
    (
        "What it gets, passwords masked",
        "api GET /devices/805ec0000001/files/ACC.cfg",
        "account.1.password = ********",
    ),
    (
        "Give the account another name: it is in the phone's next fetch",
        r#"api PATCH /accounts/acme-1001 '{"display_name":"Zoë Ritter"}'
curl -s "${P}ACC.cfg" | grep display_name"#,
        "account.1.display_name = Zoë Ritter",
    ),
    (
        "Rotate the token: under the old URL are files with the new one in them",
        r#"api POST /devices/805ec0000001/rotate
curl -s "${P}boot.cfg""#,
        "include:config ",
    ),
    (
        "Revoke it: every URL of the phone ends at once",
        r#"api POST /devices/805ec0000001/revoke
curl -si "${P}ACC.cfg""#,
        "404 Not Found",
    ),
    (
        "Let in whoever comes first, and nobody after (a local run believes where you say you are)",
        r#"api POST /devices/805ec0000001/arm '{"arm":"10m"}'
curl -s -H 'CF-Connecting-IP: 192.0.2.1' "$URL/rps?mac=805ec0000001"
curl -s -H 'CF-Connecting-IP: 192.0.2.2' "$URL/rps?mac=805ec0000001""#,
        "not found",
    ),
    (
        "The others: an old phone's own file, and one that a rule sends to another server",
        r#"curl -s "$URL/rps/sn/1928010022334455/001565000002.cfg"
curl -s "$URL/rps?mac=805ec0000004&serial=7107020045678904""#,
        "https://phones.hamburg.example.com/yealink/805ec0000004/",
    ),
    (
        "A Linphone has no serial: it comes with the key of its own that an admin hands out",
        "api GET '/devices/0a5ec0000005?secrets=1'",
        "first_access",
    ),
    (
        "The scheduled handler, which Cloudflare calls once a minute and here nobody does",
        r#"curl -s "$URL/cdn-cgi/handler/scheduled?cron=*+*+*+*+*"
api GET /status"#,
        r#""reconcile":{"#,
    ),
];

/// Says where everything is and what to do with it.
fn farewell(screen: Screen, workerd: &Workerd, tries: &[Suggestion]) {
    screen.heading("Try next");
    for Suggestion {
        about, commands, ..
    } in tries
    {
        screen.gap();
        screen.line(screen.paint(Style::Dim, format_args!("# {about}")));
        screen.line(commands);
    }
    screen.heading("Dialtone is up");
    for (what, is) in [
        ("URL", workerd.url()),
        ("admin token", workerd.admin_token().to_owned()),
        ("customer", CUSTOMER.to_owned()),
    ] {
        screen.line(format_args!(
            "{INDENT}{what:12} {}",
            screen.paint(Style::Bold, is)
        ));
    }
}

/// Runs the suggestions in one shell, and sees to it that they do what is said of them.
fn try_them(screen: Screen, tries: &[Suggestion]) -> Result<()> {
    const MARK: &str = "-- next --";
    screen.heading("Trying them out");
    let commands: Vec<&str> = tries.iter().map(|one| one.commands.as_str()).collect();
    let output = Command::new("sh")
        .args(["-c", &commands.join(&format!("\necho '{MARK}'\n"))])
        .output()
        .context("cannot start sh")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let mut printed = text.split(MARK);
    for suggestion in tries {
        let printed = printed.next().unwrap_or_default();
        if !printed.contains(suggestion.shows) || !complaint.is_empty() {
            bail!(
                "\"{}\" should show {:?}. It says:\n{printed}{complaint}",
                suggestion.about,
                suggestion.shows
            );
        }
        screen.line(format_args!(
            "{INDENT}{} {}",
            screen.paint(Style::Good, "ok"),
            suggestion.about
        ));
    }
    Ok(())
}

/// Prints what the Worker logs, until somebody ends it.
fn stay_up(screen: Screen, workerd: &Workerd) -> Result<()> {
    screen.gap();
    screen.sentences("Ctrl-C ends it. What is asked of it shows here:");
    screen.gap();
    let mut printed = workerd.log().len();
    while !signal::ended() {
        if !workerd.is_running() {
            bail!("the Worker ended by itself");
        }
        thread::sleep(POLL);
        let log = workerd.log();
        // Whole lines: the rest of one is there next time.
        let end = log.rfind('\n').map_or(0, |at| at + 1).max(printed);
        let news = log.get(printed..end).unwrap_or_default();
        for line in news.lines().filter(|line| !line.trim().is_empty()) {
            screen.line(format_args!("{INDENT}{}", screen.paint(Style::Dim, line)));
        }
        printed = end;
    }
    Ok(())
}

fn tail(workerd: &Workerd) -> String {
    let log = workerd.log();
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// What lies in a directory, by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.path());
    let mut paths = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(read)
        .collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_and_what_is_blank_is_counted() {
        let text = "a = 1\nb =\nc = 0\nd =\ne =\nf = 2\ng =\nh = 3\n";
        let expected = [
            "a = 1",
            "… 4 lines that blank what is not in use",
            "f = 2",
            "g =",
            "h = 3",
        ];
        assert_eq!(shorten(text, 9), expected);
        assert_eq!(shorten("1\n2\n3\n", 3), ["1", "2", "3"]);
        assert_eq!(shorten("1\n2\n3\n4\n", 3), ["1", "2", "… and 2 more lines"]);
    }

    #[test]
    fn json_is_spread_in_its_own_order() {
        let long = "x".repeat(SHORT);
        let json = format!(r#"{{"b":{{"at":"a, \"b\": c","n":1}},"a":["{long}",[]]}}"#);
        let expected = [
            "{".to_owned(),
            r#"  "b": {"at": "a, \"b\": c", "n": 1},"#.to_owned(),
            r#"  "a": ["#.to_owned(),
            format!(r#"    "{long}","#),
            "    []".to_owned(),
            "  ]".to_owned(),
            "}".to_owned(),
        ];
        assert_eq!(spread(&json), expected);
    }

    #[test]
    fn a_token_loses_its_middle() {
        let print = Printer::after(Screen::stdout(), "http://x/p/abcdefghijklmnop/");
        assert_eq!(print.shorten("/p/abcdefghijklmnop/a"), "/p/abcdef…mnop/a");
    }

    #[test]
    fn a_record_is_told_in_a_few_words() {
        let device = serde_json::json!({
            "vendor": "yealink", "model": "T54W", "user_type": "hot-desking", "site": "berlin",
        });
        assert_eq!(gist("devices", &device), "yealink T54W hot-desking, berlin");
        let account = serde_json::json!({"display_name": "Zoë"});
        assert_eq!(gist("accounts", &account), "Zoë");
    }
}
