//! `cargo xtask smoke`: whether a deployment does what it must, asked from outside. It brings a
//! customer of its own with a random name, and takes it away again whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use dialtone_kit::http::{self, Response};
use dialtone_kit::workerd::{Options, Workerd};
use dialtone_kit::{dev_vars, project};
use serde_json::{Value, json};

use crate::admin::{Admin, TOKEN_VARIABLE, text};
use crate::phone::Phone;
use crate::screen::{INDENT, Screen, Style};
use crate::{build, signal, tools};

/// How many ask for one window at once.
const CALLERS: usize = 50;

/// How many change one record at once.
const ADMINS: usize = 20;

/// How many calls without a token are sent at most; the limit is 30 a minute.
const STRANGE_CALLS: usize = 300;

/// How many questions that are refused are sent at most; the limit is 300 a minute.
const STRANGE_QUESTIONS: usize = 900;

/// How many of those at the same time.
const AT_ONCE: usize = 10;

/// How long something may take that happens after an answer.
const SOON: Duration = Duration::from_secs(15);

/// Within this time the scheduled handler must have run, which Cloudflare calls once a minute.
const CRON_WITHIN: Duration = Duration::from_mins(2);

/// Runs the checks against the URL of the command line.
pub fn run(arguments: &[String]) -> Result<()> {
    let screen = Screen::stdout();
    let Given { url, token } = Given::parse(arguments)?;
    let Some(url) = url else {
        return run_local(screen);
    };
    let here = is_here(&url)?;
    let token = match token.or_else(|| env::var(TOKEN_VARIABLE).ok()) {
        Some(token) => token,
        // What `cargo xtask demo` and `wrangler dev` run with.
        None if here => dev_vars::ensure(&project::root())?.admin_token,
        None => bail!("give the deployment's ADMIN_TOKEN: --token T, or {TOKEN_VARIABLE}=T"),
    };
    check(screen, &url, &token, here)
}

/// Runs the checks against a Dialtone that is started for it.
fn run_local(screen: Screen) -> Result<()> {
    tools::run()?;
    build::run(&[])?;
    let mut workerd = Workerd::start(&Options::new().built())?;
    let result = check(screen, &workerd.url(), workerd.admin_token(), true);
    workerd.stop()?;
    result
}

/// The command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    /// The origin; none for one that is started here.
    url: Option<String>,
    token: Option<String>,
}

impl Given {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut given = Self::default();
        let mut local = false;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--token" => {
                    let token = arguments.next().context("`--token` wants the token")?;
                    given.token = Some(token.clone());
                }
                "--local" => local = true,
                url if !url.starts_with('-') && given.url.is_none() => {
                    given.url = Some(origin(url)?);
                }
                _ => bail!("`smoke` takes no `{argument}`; `cargo xtask help` shows what it takes"),
            }
        }
        if local == given.url.is_some() {
            bail!("say what to check: the URL of a deployment, or `--local` for one started here");
        }
        Ok(given)
    }
}

/// The scheme and host of a URL that names a deployment.
fn origin(url: &str) -> Result<String> {
    let origin = url.trim_end_matches('/');
    let host = ["https://", "http://"]
        .into_iter()
        .find_map(|scheme| origin.strip_prefix(scheme))
        .with_context(|| format!("`{url}` is no URL: it begins with neither https: nor http:"))?;
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        bail!("`{url}` should be a scheme and a host only, such as https://dialtone.example.com");
    }
    Ok(origin.to_owned())
}

/// Whether the URL is one of this machine, where the simulator believes what it is told. Over plain
/// http to anywhere else the token would be for everybody to read.
fn is_here(origin: &str) -> Result<bool> {
    let (scheme, host) = origin.split_once("://").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let here = name == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if scheme == "http" && !here {
        bail!("{origin} would send the admin token in the clear; use https");
    }
    Ok(here)
}

/// Runs the checks, and fails if one did.
fn check(screen: Screen, url: &str, token: &str, here: bool) -> Result<()> {
    signal::watch();
    let start = Instant::now();
    let admin = Admin::new(url, token);
    let cron_before = welcome(url, &admin)?;
    let id = format!("smoke-{}", &random_hex()?[..8]);
    screen.heading(&format!("{url}, as the customer {id}"));
    let mut smoke = Smoke {
        screen,
        url: url.to_owned(),
        admin,
        here,
        id,
        created: Vec::new(),
        checks: 0,
        failed: 0,
    };
    smoke.all(cron_before.as_deref());
    screen.gap();
    let time = format!("{:.1} s", start.elapsed().as_secs_f64());
    if smoke.failed > 0 {
        bail!(
            "{} of {} checks failed, in {time}",
            smoke.failed,
            smoke.checks
        );
    }
    screen.line(format_args!(
        "{INDENT}{} in {time}",
        screen.paint(
            Style::Good,
            format_args!("all {} checks passed", smoke.checks)
        )
    ));
    Ok(())
}

/// Sees that there is a Dialtone that takes the token; gives when its scheduled handler last ran.
fn welcome(url: &str, admin: &Admin) -> Result<Option<String>> {
    let answer = admin.call("GET", "status", None).with_context(|| {
        format!("nobody answers at {url}; is the URL right, and the deployment up?")
    })?;
    match answer.status {
        200 => Ok(last_run(&answer.json()?)),
        401 | 429 => bail!(
            "{url} does not take this admin token; it is the ADMIN_TOKEN that was set with \
             `npx wrangler secret put ADMIN_TOKEN`"
        ),
        503 => bail!(
            "{url} answers 503: a secret is missing or too short, or a binding is not there. \
             `npx wrangler tail` shows the line that says which"
        ),
        status => bail!(
            "{url} is no Dialtone: GET /api/v1/status was answered with {status} {}",
            answer.text().chars().take(200).collect::<String>()
        ),
    }
}

/// When the scheduled handler last ran, from `GET /status`.
fn last_run(status: &Value) -> Option<String> {
    status.pointer("/reconcile/at")?.as_str().map(str::to_owned)
}

/// How a check ended well.
enum Outcome {
    /// With these figures.
    Ok(String),
    /// Neither well nor badly: what there is to say.
    Note(String),
}

/// A run against one Dialtone.
struct Smoke {
    screen: Screen,
    url: String,
    admin: Admin,
    /// Whether it runs on this machine.
    here: bool,
    /// The tenant.
    id: String,
    /// The paths of all records that were created, in order.
    created: Vec<String>,
    checks: u32,
    failed: u32,
}

/// A device of the customer.
#[derive(Clone, Debug)]
struct Made {
    mac: String,
    serial: String,
    /// `{url}/p/{token}/`.
    base: String,
}

impl Smoke {
    fn all(&mut self, cron_before: Option<&str>) {
        let opened = self.check("a customer is created", Self::open);
        // Whatever of it came to be is taken away again.
        if opened {
            self.check(
                "whoever is not the phone gets one and the same answer",
                |s| s.refusals(),
            );
            self.check("a phone goes from the look-up to its keys", |s| s.phone());
            self.check("its vendor's own redirect leads there as well", |s| {
                s.redirect()
            });
            self.check("a change is in the phone's fetch a second later", |s| {
                s.change()
            });
            self.check("a rotated token is found by the phone itself", |s| {
                s.rotate()
            });
            self.check("a revoked token opens nothing", |s| s.revoke());
            self.check("of all who race for a window one gets in", |s| s.race());
            self.check("of all who change a record at once one does", |s| {
                s.compare_and_set()
            });
        }
        let before = cron_before.map(str::to_owned);
        self.check("the scheduled handler runs", |s| s.cron(before.as_deref()));
        self.clean();
        self.check("calls without the token are limited", |s| s.limit_calls());
        self.check("refused questions are limited", |s| s.limit_questions());
    }

    /// Runs a check and prints how it went, unless somebody wants an end; true if it went well.
    fn check(&mut self, name: &str, check: impl FnOnce(&mut Self) -> Result<Outcome>) -> bool {
        if signal::ended() && self.failed > 0 {
            return false;
        }
        self.checks += 1;
        let result = signal::go_on().and_then(|()| check(self));
        let (screen, good) = (self.screen, result.is_ok());
        let (verdict, says) = match result {
            Ok(Outcome::Ok(figures)) => (screen.paint(Style::Good, "ok    "), figures),
            Ok(Outcome::Note(note)) => (screen.paint(Style::Bold, "note  "), note),
            Err(error) => {
                self.failed += 1;
                (screen.paint(Style::Bad, "FAILED"), format!("{error:#}"))
            }
        };
        screen.line(format_args!(
            "{INDENT}{verdict} {name:55} {}",
            screen.paint(Style::Dim, says)
        ));
        good
    }

    fn create(&mut self, path: &str, record: &Value) -> Result<Value> {
        // Noted before: an answer that is lost on its way does not mean that nothing was created.
        self.created.push(path.to_owned());
        self.admin.create(path, record)
    }

    fn open(&mut self) -> Result<Outcome> {
        let start = Instant::now();
        let id = self.id.clone();
        self.create(&format!("tenants/{id}"), &json!({"name": "Smoke test"}))?;
        // In `observe` mode and with an address where nobody is: nothing can be changed there.
        let ari_url = if self.here {
            "http://127.0.0.1:9/ari"
        } else {
            "https://dialtone-smoke.example.com/ari"
        };
        let pbx = json!({
            "tenant": id, "ari_url": ari_url, "ari_username": "smoke", "ari_password": random_hex()?,
            "sip": {"host": "sip.example.com"},
        });
        self.create(&format!("pbxes/{id}-pbx"), &pbx)?;
        let account = json!({
            "tenant": id, "pbx": format!("{id}-pbx"), "username": "1001",
            "display_name": "Smoke", "voicemail": "*97",
        });
        self.create(&format!("accounts/{id}-1001"), &account)?;
        Ok(Outcome::Ok(in_ms("3 records", start.elapsed())))
    }

    /// Adds a device with the account, and `more` members.
    fn device(&mut self, more: &Value) -> Result<Made> {
        let hex = random_hex()?;
        // A MAC that an administrator gave out (IEEE 802, the U/L bit) is no device's own.
        let mac = format!("02{}", &hex[..10]);
        let serial = format!("SMOKE{}", &hex[10..22]);
        let mut record = json!({
            "tenant": self.id, "vendor": "yealink", "model": "T46U", "serial": serial,
            "lines": [{"line": 1, "account": format!("{}-1001", self.id)}],
            "buttons": [{"key": 2, "type": "blf", "value": "1002", "label": "Reception"}],
        });
        if let (Some(record), Some(more)) = (record.as_object_mut(), more.as_object()) {
            record.extend(more.clone());
        }
        let answer = self.create(&format!("devices/{mac}"), &record)?;
        let base = text(&answer, "/provisioning_url")?.to_owned();
        Ok(Made { mac, serial, base })
    }

    fn rps(&self) -> String {
        format!("{}/rps", self.url)
    }

    /// An address that nobody came from yet, where such a thing can be told.
    fn source(&self) -> Result<Option<IpAddr>> {
        if !self.here {
            return Ok(None);
        }
        let [.., b, c, d] = random()?;
        Ok(Some(Ipv4Addr::new(10, b, c, d).into()))
    }

    fn unpack(&self, made: &Made) -> Result<Phone> {
        Ok(Phone::new(&made.mac, &made.serial, "T46U").at(self.source()?))
    }

    /// A refused caller learns nothing from how it is refused.
    fn refusals(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({}))?;
        let nobody = format!("02{}", &random_hex()?[..10]);
        let (url, mac, serial) = (&self.url, &made.mac, &made.serial);
        let cases = [
            (
                "an unknown MAC",
                format!("{url}/rps?mac={nobody}&serial={serial}"),
            ),
            (
                "a wrong serial",
                format!("{url}/rps?mac={mac}&serial={serial}0"),
            ),
            ("no proof", format!("{url}/rps?mac={mac}")),
            (
                "no proof, by a file's name",
                format!("{url}/rps/{mac}.boot"),
            ),
            (
                "a wrong key",
                format!("{url}/rps/AAAAAAAAAAAAAAAAAAAAAAAA/{mac}.boot"),
            ),
            (
                "a forged token",
                format!("{url}/p/AAAAAAAAAAAAAAAAAAAAAAAA/boot.cfg"),
            ),
            ("a file that nobody has", format!("{}what.cfg", made.base)),
        ];
        let mut first: Option<(u16, BTreeMap<String, String>, Vec<u8>)> = None;
        for (name, case) in &cases {
            let answer = self.get(case)?;
            let seen = (answer.status, telling(&answer), answer.body);
            if seen.0 != 404 {
                bail!("{name} is answered with {}", seen.0);
            }
            match &first {
                Some(first) if *first != seen => {
                    bail!(
                        "{name} is answered with {seen:?}, {} with {first:?}",
                        cases[0].0
                    )
                }
                Some(_) => {}
                None => first = Some(seen),
            }
        }
        Ok(Outcome::Ok(format!("{} ways to be refused", cases.len())))
    }

    fn get(&self, url: &str) -> Result<Response> {
        let mut request = http::get(url);
        if let Some(source) = self.source()? {
            request = request.source(source);
        }
        request.send()
    }

    /// Steps 1 to 6, HEAD, and the second visit.
    fn phone(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({}))?;
        let mut phone = self.unpack(&made)?;
        let start = Instant::now();
        let files = phone.switch_on(&self.rps())?;
        let took = start.elapsed();
        for (name, expected) in [
            ("account.1.user_name", "1001"),
            ("account.1.display_name", "Smoke"),
            ("account.1.sip_server.1.address", "sip.example.com"),
            ("linekey.2.value", "1002"),
        ] {
            if phone.setting(name) != expected {
                bail!("{name} is {:?} and not {expected:?}", phone.setting(name));
            }
        }
        if phone.setting("account.1.password").len() < 16 {
            bail!("the account's password is too short to be one that was made");
        }
        if phone.server() != Some(made.base.as_str()) {
            bail!(
                "the phone would next ask at {:?} and not at {}",
                phone.server(),
                made.base
            );
        }
        for file in &files {
            let head = http::head(&file.url).send()?;
            let length = |answer: &Response| answer.header("content-length").map(str::to_owned);
            let same = head.header("etag") == file.answer.header("etag");
            // Cloudflare's edge may send a GET without a length; what it says must be right.
            let exact = [length(&head), length(&file.answer)]
                .into_iter()
                .flatten()
                .all(|length| length == file.answer.body.len().to_string());
            if head.status != 200 || !head.body.is_empty() || !same || !exact {
                bail!("HEAD of {} does not go with its GET", file.url);
            }
            let again = self.get(&file.url)?;
            if again.body != file.answer.body {
                bail!("{} is another one the second time", file.url);
            }
            let unchanged = phone.ask(&file.url)?.answer;
            if unchanged.status != 304 || !unchanged.body.is_empty() {
                bail!("{} is sent again with {}", file.url, unchanged.status);
            }
        }
        self.wait_for(&made, "configured")?;
        let what = format!("{} files, {} parameters", files.len(), phone.settings());
        Ok(Outcome::Ok(in_ms(&what, took)))
    }

    /// Waits until the admin sees how far the phone is, which is noted after its answer.
    fn wait_for(&self, made: &Made, stage: &str) -> Result<()> {
        let path = format!("devices/{}/status", made.mac);
        eventually(&format!("the device is {stage}"), || {
            Ok(self.admin.done("GET", &path, None)?["status"] == stage)
        })
    }

    /// The redirect document takes the phone to its files.
    fn redirect(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({}))?;
        let mut phone = self.unpack(&made)?;
        let boot = format!("{}/sn/{}/{}.boot", self.rps(), made.serial, made.mac);
        let files = phone.fetch_all(&boot)?;
        if phone.setting("account.1.user_name") != "1001" || phone.server() != Some(&made.base) {
            bail!("{boot} leads to {:?}", phone.server());
        }
        Ok(Outcome::Ok(format!("{} documents", files.len())))
    }

    /// A saved account is in the next file.
    fn change(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({}))?;
        let acc = format!("{}ACC.cfg", made.base);
        self.get(&acc)?;
        let name = format!("Zoë {}", &random_hex()?[..6]);
        let path = format!("accounts/{}-1001", self.id);
        let start = Instant::now();
        self.admin
            .done("PATCH", &path, Some(&json!({"display_name": name})))?;
        let took = start.elapsed();
        thread::sleep(Duration::from_secs(1));
        let file = self.get(&acc)?.text();
        if !file.contains(&format!("account.1.display_name = {name}\n")) {
            bail!("a second after the save ACC.cfg does not have the new name:\n{file}");
        }
        Ok(Outcome::Ok(in_ms("saved", took)))
    }

    /// The old token serves until the new one is used, and leads to it.
    fn rotate(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({}))?;
        let mut phone = self.unpack(&made)?;
        let boot = format!("{}boot.cfg", made.base);
        phone.fetch_all(&boot)?;
        let path = format!("devices/{}/rotate", made.mac);
        self.admin.done("POST", &path, None)?;
        // By the old URL, as the phone does that knows no other.
        phone.fetch_all(&boot)?;
        let next = phone.server().context("the files name no server")?;
        if next == made.base {
            bail!("the files under the old URL still name it");
        }
        eventually("the old token ends once the new one is used", || {
            Ok(self.get(&boot)?.status == 404)
        })?;
        let next = format!("{next}boot.cfg");
        phone.fetch_all(&next)?;
        Ok(Outcome::Ok("the old one ended by itself".to_owned()))
    }

    fn revoke(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({}))?;
        let mut phone = self.unpack(&made)?;
        let files = phone.switch_on(&self.rps())?;
        let path = format!("devices/{}/revoke", made.mac);
        self.admin.done("POST", &path, None)?;
        for file in &files {
            let answer = self.get(&file.url)?;
            if answer.status != 404 {
                bail!("{} is still answered with {}", file.url, answer.status);
            }
        }
        // It comes back through the RPS, and gets other URLs.
        let fresh = phone.switch_on(&self.rps())?;
        if fresh[0].url == files[0].url {
            bail!("the phone got the revoked URL again");
        }
        Ok(Outcome::Ok(format!("{} files closed at once", files.len())))
    }

    /// Many ask for one armed device at the same moment.
    fn race(&mut self) -> Result<Outcome> {
        let made = self.device(&json!({"arm": "1h"}))?;
        let url = format!("{}?mac={}", self.rps(), made.mac);
        let start = Instant::now();
        let answers = at_once(CALLERS, || self.get(&url))?;
        let took = start.elapsed();
        let mut urls = BTreeSet::new();
        let mut statuses = BTreeMap::new();
        for answer in &answers {
            *statuses.entry(answer.status).or_insert(0_usize) += 1;
            if answer.status == 200 {
                urls.insert(text(&answer.json()?, "/url")?.to_owned());
            }
        }
        let won = statuses.get(&200).copied().unwrap_or_default();
        let lost = statuses.get(&404).copied().unwrap_or_default();
        let summary = count(&statuses);
        if self.here {
            if won != 1 || lost != CALLERS - 1 {
                bail!("of {CALLERS} callers from as many addresses: {summary}");
            }
        } else {
            // All come from one address, which is let in again for ten minutes: so what must hold is
            // that nobody was given another token. 429 and 503 are R2's, which was asked too often.
            let waits = |status: &u16| matches!(status, 200 | 404 | 429 | 503);
            if urls.len() != 1 || !statuses.keys().all(waits) {
                bail!("{} URLs were given out: {summary}", urls.len());
            }
        }
        let path = format!("devices/{}/status", made.mac);
        let status = self.admin.done("GET", &path, None)?;
        text(&status, "/window/claim/source").context("the window is not claimed")?;
        let what = format!("{CALLERS} callers: {summary}, {} URL", urls.len());
        Ok(Outcome::Ok(in_ms(&what, took)))
    }

    /// Many save one record with the same `If-Match`.
    fn compare_and_set(&mut self) -> Result<Outcome> {
        let path = format!("accounts/{}-1001", self.id);
        let current = self.admin.call("GET", &path, None)?;
        let tag = current
            .header("etag")
            .context("the account has no ETag")?
            .to_owned();
        let next = AtomicUsize::new(0);
        let start = Instant::now();
        let answers = at_once(ADMINS, || {
            let name = format!("Admin {}", next.fetch_add(1, Ordering::Relaxed));
            let body = json!({"display_name": name});
            let headers = [("If-Match", tag.as_str())];
            self.admin
                .call_with("PATCH", &path, Some(&body), &headers)
                .map(|answer| (name, answer))
        })?;
        let took = start.elapsed();
        let mut statuses = BTreeMap::new();
        for (_, answer) in &answers {
            *statuses.entry(answer.status).or_insert(0_usize) += 1;
        }
        let summary = count(&statuses);
        let mut winners = answers.iter().filter(|(_, answer)| answer.status == 200);
        let (Some((winner, _)), None) = (winners.next(), winners.next()) else {
            bail!("not exactly one save went through: {summary}");
        };
        // R2 itself takes one write a second of an object: whoever came too soon is told so.
        let refused = |status: &u16| matches!(status, 200 | 412) || !self.here && *status == 429;
        if !statuses.keys().all(refused) {
            bail!("losers must be told 412: {summary}");
        }
        let now = self.admin.done("GET", &path, None)?;
        if now["display_name"] != winner.as_str() {
            bail!(
                "{winner} was told 200, and the record says {}",
                now["display_name"]
            );
        }
        Ok(Outcome::Ok(in_ms(
            &format!("{ADMINS} admins: {summary}"),
            took,
        )))
    }

    /// Here it is called, elsewhere it is waited for.
    fn cron(&mut self, before: Option<&str>) -> Result<Outcome> {
        let start = Instant::now();
        if self.here {
            let url = format!("{}/cdn-cgi/handler/scheduled?cron=*+*+*+*+*", self.url);
            let answer = http::get(&url).send()?;
            if answer.status != 200 {
                bail!(
                    "the run was answered with {}: {}",
                    answer.status,
                    answer.text()
                );
            }
        } else {
            self.screen.line(format_args!(
                "{INDENT}{}",
                self.screen
                    .paint(Style::Dim, "...    waits up to 2 minutes for the next run")
            ));
        }
        loop {
            let status = self.admin.done("GET", "status", None)?;
            let run = last_run(&status);
            if run.is_some() && run.as_deref() != before {
                let outcome = text(&status, "/reconcile/accounts")?;
                if outcome != "ok" {
                    bail!("the run could not list the accounts: {outcome}");
                }
                return Ok(Outcome::Ok(in_ms("seen in the status", start.elapsed())));
            }
            if start.elapsed() > CRON_WITHIN {
                bail!(
                    "GET /api/v1/status says that the last run was {}; is the cron trigger of \
                     wrangler.toml deployed?",
                    run.as_deref().unwrap_or("never")
                );
            }
            signal::go_on()?;
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// Takes away what was created, the last first.
    fn clean(&mut self) {
        self.checks += 1;
        let mut left = Vec::new();
        let count = self.created.len();
        for path in self.created.drain(..).rev() {
            match delete(&self.admin, &path) {
                Ok(()) => {}
                Err(error) => left.push(format!("{path} ({error:#})")),
            }
        }
        let (verdict, says) = if left.is_empty() {
            (
                self.screen.paint(Style::Good, "ok    "),
                format!("{count} records"),
            )
        } else {
            self.failed += 1;
            (
                self.screen.paint(Style::Bad, "FAILED"),
                format!("delete these yourself, in this order: {}", left.join(", ")),
            )
        };
        let name = "the customer is taken away again";
        self.screen.line(format_args!(
            "{INDENT}{verdict} {name:55} {}",
            self.screen.paint(Style::Dim, says)
        ));
    }

    /// Calls with a wrong token from one address.
    fn limit_calls(&mut self) -> Result<Outcome> {
        let stranger = self.source()?;
        let url = format!("{}/api/v1/tenants", self.url);
        let sent = until_limited(STRANGE_CALLS, 401, || {
            let mut request = http::get(&url).bearer("not-the-token-that-it-would-take");
            if let Some(source) = stranger {
                request = request.source(source);
            }
            request.send()
        })?;
        match sent {
            Some(sent) => Ok(Outcome::Ok(format!("429 after {sent} calls"))),
            None => Err(anyhow!(
                "{STRANGE_CALLS} calls, and none was answered with 429"
            )),
        }
    }

    /// Questions about MACs that nobody has, from one address.
    fn limit_questions(&mut self) -> Result<Outcome> {
        let stranger = self.source()?;
        let sent = until_limited(STRANGE_QUESTIONS, 404, || {
            let url = format!("{}/rps?mac=02{}", self.url, &random_hex()?[..10]);
            let mut request = http::get(&url);
            if let Some(source) = stranger {
                request = request.source(source);
            }
            request.send()
        })?;
        Ok(match sent {
            Some(sent) => Outcome::Ok(format!("429 after {sent} questions")),
            // Cloudflare counts per location and not exactly; a scanner is slowed down all the same.
            None => Outcome::Note(format!("{STRANGE_QUESTIONS} questions were not limited")),
        })
    }
}

/// Deletes a record that may not be there, and that somebody may still be busy with.
fn delete(admin: &Admin, path: &str) -> Result<()> {
    let mut last = String::new();
    for _ in 0..4 {
        match admin.call("DELETE", path, None) {
            Ok(answer) if matches!(answer.status, 204 | 404) => return Ok(()),
            Ok(answer) => last = format!("{} {}", answer.status, answer.text()),
            Err(error) => last = format!("{error:#}"),
        }
        thread::sleep(Duration::from_secs(1));
    }
    bail!("{last}")
}

/// The headers that Dialtone itself sends: those of the network between differ each time.
fn telling(answer: &Response) -> BTreeMap<String, String> {
    const OF_THE_NETWORK: [&str; 9] = [
        "alt-svc",
        "cf-cache-status",
        "cf-ray",
        "connection",
        "date",
        "nel",
        "report-to",
        "server",
        "server-timing",
    ];
    answer
        .headers
        .iter()
        .filter(|(name, _)| !OF_THE_NETWORK.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        })
        .collect()
}

/// Sends so many requests at the same moment.
fn at_once<T: Send>(count: usize, send: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    send()
                })
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
            .collect()
    })
}

/// Sends requests until one is answered with 429, and says how many that took; `None` if all were
/// answered with `status`.
fn until_limited(
    most: usize,
    status: u16,
    send: impl Fn() -> Result<Response> + Sync,
) -> Result<Option<usize>> {
    let count = AtomicUsize::new(0);
    let limited = Mutex::new(None);
    let sender = || -> Result<()> {
        while limited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
        {
            signal::go_on()?;
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            if number > most {
                break;
            }
            match send()?.status {
                429 => {
                    let mut limited = limited.lock().unwrap_or_else(PoisonError::into_inner);
                    limited.get_or_insert(number);
                }
                seen if seen == status => {}
                other => bail!("call {number} was answered with {other}"),
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let senders: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(sender)).collect();
        senders
            .into_iter()
            .try_for_each(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
    })?;
    Ok(limited.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Asks until it is so.
fn eventually(what: &str, mut ask: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !ask()? {
        if start.elapsed() > SOON {
            bail!("waited {} s, and it was never so: {what}", SOON.as_secs());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// `1 with 200, 49 with 404`.
fn count(statuses: &BTreeMap<u16, usize>) -> String {
    let parts: Vec<String> = statuses
        .iter()
        .map(|(status, count)| format!("{count} with {status}"))
        .collect();
    parts.join(", ")
}

fn in_ms(what: &str, took: Duration) -> String {
    format!("{what}, {} ms", took.as_millis())
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
    Ok(bytes)
}

/// 32 random hexadecimal digits.
fn random_hex() -> Result<String> {
    Ok(format!("{:032x}", u128::from_be_bytes(random()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Given> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Given::parse(&arguments)
    }

    #[test]
    fn a_deployment_is_named_by_its_origin() {
        let given = parse(&["https://d.example.com/", "--token", "t"]).unwrap();
        assert_eq!(given.url.as_deref(), Some("https://d.example.com"));
        assert_eq!(given.token.as_deref(), Some("t"));
        assert_eq!(parse(&["--local"]).unwrap(), Given::default());
        for wrong in [
            &[][..],
            &["d.example.com"],
            &["https://"],
            &["https://d.example.com/rps"],
            &["https://t@d.example.com"],
            &["https://d.example.com", "--local"],
            &["https://d.example.com", "--token"],
            &["--tokens", "t"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_goes_in_the_clear_to_this_machine_only() {
        for here in [
            "http://localhost:8787",
            "http://127.0.0.1:8787",
            "http://[::1]:8787",
            "http://127.0.0.1",
        ] {
            assert!(is_here(here).unwrap(), "{here}");
        }
        assert!(!is_here("https://d.example.com").unwrap());
        assert!(is_here("http://d.example.com").is_err());
        assert!(is_here("http://10.0.0.1:8787").is_err());
    }
}
