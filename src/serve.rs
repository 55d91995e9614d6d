//! A phone's request from end to end, and the only place where steps, stores and answers meet.
//!
//! `/rps...` is steps 1 and 2, `/p/{token}/{file}` steps 3 to 6. A caller that is refused gets one
//! and the same answer after the same reads; a fault of ours is 503, so that a phone keeps what it has.

use http::header::{
    ALLOW, CONTENT_TYPE, ETAG, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER,
};
use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::access::Application;
use crate::afterwards::note_fetch;
use crate::fault::Fault;
use crate::finish::{self, RulePack};
use crate::gather::in_order;
use crate::json;
use crate::key::{self, Kind};
use crate::keys::{Capability, KeyId, Keys, Signed};
use crate::mac::Mac;
use crate::ports::{Level, Limit, Mappings, World};
use crate::record::Stored;
use crate::record::device::{Claim, Device, Policy, Sources, Whereabouts};
use crate::record::tenant::{Drift, Proof, Tenant};
use crate::render::{self, From, Ingredients};
use crate::request::{Afterwards, Answer, Fetch, Request, refuse, respond, unavailable};
use crate::rollout::templates::{self, Scope, Templates};
use crate::step1_ask::{self, Ask, Form};
use crate::step2_redirect::{self, Case, NamedRule, Placeholders, SETTINGS_NAME, Verdict, Why};
use crate::step3_boot_request::{self, Admission, Part};
use crate::step5_config_request::{has_it, stale};
use crate::store::{self, Loaded};
use crate::time::Timestamp;
use crate::vendor::{self, Asked, Asker, CertificateMac, Document, Redirect, VendorId};
use crate::{ident, login, session, upload};

/// Where this Dialtone stands: what its variables say.
pub struct Place<'a> {
    /// `PUBLIC_URL`, if it is set: what URLs that are handed out begin with.
    pub public_url: Option<&'a str>,
    /// `ACCESS_TEAM` and `ACCESS_AUD`, if they are set.
    pub access: Option<&'a Application>,
}

/// Answers a request to `/rps` or `/p/`.
pub async fn phone<W: World>(world: &W, place: &Place<'_>, request: &Request) -> Answer {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let uploads = request.method == Method::PUT && request.path.starts_with("/p/");
    if !reads && !uploads && !is_login(&request.method, &request.path) {
        return other_method().into();
    }
    let origin = request.origin(place.public_url);
    let answered = match request.path.strip_prefix("/p/") {
        Some(rest) => provision(world, &origin, request, rest)
            .await
            .map(|(answer, _)| answer),
        None => rps(world, &origin, request).await,
    };
    answered.unwrap_or_else(|fault| {
        world.log(
            Level::Error,
            "phone.fault",
            &[("fault", fault.label()), ("path", &masked(&request.path))],
        );
        let [spread] = world.random().unwrap_or([0]);
        unavailable(spread).into()
    })
}

/// Whether it is a user's login or logout: `POST /p/{token}/hotdesk`.
#[must_use]
pub fn is_login(method: &Method, path: &str) -> bool {
    let name = path.strip_prefix("/p/");
    let name = name.and_then(|rest| rest.split_once('/'));
    *method == Method::POST && name.is_some_and(|(_, name)| name == login::NAME)
}

/// The answer to a method that nothing here takes: the same for every path and file.
fn other_method() -> Response<Vec<u8>> {
    let mut response = respond(
        StatusCode::METHOD_NOT_ALLOWED,
        "text/plain; charset=utf-8",
        b"GET or HEAD\n".to_vec(),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// A path without the capability in it, for logs.
#[must_use]
pub fn masked(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').collect();
    let secret = match segments.as_slice() {
        // The serial proves as much as a key does.
        ["", "rps", "sn", _, ..] => Some(3),
        ["", "p", _, ..] | ["", "rps", _, _] => Some(2),
        _ => None,
    };
    if let Some(segment) = secret.and_then(|at| segments.get_mut(at)) {
        *segment = "***";
    }
    segments.join("/")
}

/// What the RPS reads for every question, whoever asks.
pub(crate) struct Known {
    pub device: Option<Loaded<Device>>,
    /// True if R2 failed: then nothing can be claimed.
    pub late: bool,
    pub policy: Policy,
    pub rules: Vec<NamedRule>,
}

/// A question to the RPS as far as it can be read without a store.
pub(crate) struct Question {
    pub ask: Ask,
    /// The first-access key of the path if it is one that we signed.
    pub key: Option<Signed>,
    /// It is for a file that is called the same for every phone.
    nameless: bool,
    /// It is for a file that phones can do without.
    pub optional: bool,
}

impl Question {
    /// Reads a question; `None` for a path that no phone asks for.
    ///
    /// # Errors
    /// The [`Fault`] of a template.
    pub fn read(keys: &Keys, request: &Request) -> Result<Option<Self>, Fault> {
        let accept = request.header("accept");
        let agent = request.header("user-agent");
        let Some(mut ask) = step1_ask::read(&request.path, &request.query, agent, accept) else {
            return Ok(None);
        };
        let key = ask.key.as_deref();
        let key = key.and_then(|key| keys.verify(Capability::FirstAccess, key));
        let (named, optional) = match &ask.form {
            Form::File(name) => {
                let named = ident::file(name).mac;
                (named, vendor::is_optional(name, named)?)
            }
            _ => (None, false),
        };
        let nameless = matches!(&ask.form, Form::File(_)) && named.is_none();
        if nameless && ask.mac.is_none() {
            // A common file under a first-access key is that key's phone's.
            ask.mac = key.map(|key| key.mac);
        }
        Ok(Some(Self {
            ask,
            key,
            nameless,
            optional,
        }))
    }

    /// The file that is the same for everybody, if it is for one.
    ///
    /// # Errors
    /// The [`Fault`] of a template.
    pub fn common(&self, origin: &str, request: &Request) -> Result<Option<Document>, Fault> {
        match &self.ask.form {
            Form::File(name) if self.nameless => vendor::common(name, &here(origin, &request.path)),
            _ => Ok(None),
        }
    }
}

/// What becomes of a question, before anything is written.
pub(crate) struct Considered {
    pub known: Known,
    pub outcome: Outcome,
}

/// How a question ends.
pub(crate) enum Outcome {
    Refused(Why),
    /// It gets this answer; with a claim, only once that is written.
    LetIn(Response<Vec<u8>>, Proof, Option<Claim>),
}

/// Reads what is known of a MAC and decides. Writes nothing, so that an admin can have it explained.
pub(crate) async fn consider<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    question: &Question,
    mac: Mac,
) -> Result<Considered, Fault> {
    let known = know(world, mac).await?;
    let outcome = match &known.device {
        None => Outcome::Refused(Why::Unknown),
        Some(device) => weigh(world, origin, request, question, mac, device, &known)?,
    };
    Ok(Considered { known, outcome })
}

fn weigh<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    question: &Question,
    mac: Mac,
    device: &Loaded<Device>,
    known: &Known,
) -> Result<Outcome, Fault> {
    let Known { policy, rules, .. } = known;
    let now = world.now();
    let case = Case {
        ask: &question.ask,
        key: question.key,
        device: &device.stored,
        policy,
        source: &request.source,
        now,
    };
    let (proof, claim) = match case.decide() {
        Verdict::Refused(why) => return Ok(Outcome::Refused(why)),
        Verdict::Proved(proof) => (proof, None),
        Verdict::Claims(claim) => (Proof::Window, Some(claim)),
    };
    if claim.is_some() {
        // A window is for the phone that asks for its own file: a look (HEAD), or a file that is the
        // same for everybody, must not use it up.
        if question.nameless || request.method == Method::HEAD {
            return Ok(Outcome::Refused(Why::NoProof));
        }
        let source = request.source.neighbourhood();
        if world.memory(|memory| memory.guesses.are_many(&source, mac, now)) {
            return Ok(Outcome::Refused(Why::Guessing));
        }
    }
    if !request.is_private() && !policy.allow_plain_http {
        return Ok(Outcome::Refused(Why::PlainHttp));
    }
    // Before the claim: a caller that gets nothing must not use up the window.
    let ask = &question.ask;
    let made = redirect(world, origin, request, mac, ask, &device.stored, rules)?;
    Ok(match made {
        Some(response) => Outcome::LetIn(response, proof, claim),
        None => Outcome::Refused(Why::File),
    })
}

async fn rps<W: World>(world: &W, origin: &str, request: &Request) -> Result<Answer, Fault> {
    let Some(question) = Question::read(world.keys(), request)? else {
        return Ok(refuse().into());
    };
    if question.optional {
        // Phones ask for several of these at each start: told by the name alone, and not counted
        // against an office of hundreds of them.
        return Ok(refuse().into());
    }
    // Constant and without a name of anybody: there is nothing to refuse.
    let mut common = question
        .common(origin, request)?
        .map(|document| respond(StatusCode::OK, document.content_type, document.bytes).into());
    let Some(mac) = question.ask.mac else {
        return match common {
            Some(common) => Ok(common),
            None => Ok(miss(world, request, None, Why::Unknown, None).await),
        };
    };
    // After a lost race the winner's claim is what the second look finds.
    for attempt in 0..8 {
        let Considered { known, outcome } =
            consider(world, origin, request, &question, mac).await?;
        let (response, claim) = match (outcome, common.take()) {
            (Outcome::LetIn(response, _, claim), _) => (response, claim),
            (Outcome::Refused(_), Some(common)) => return Ok(common),
            // What KV has may be older than what the caller shows: it is no ground for a refusal.
            (Outcome::Refused(_), None) if known.late => return Err(Fault::Broken("r2")),
            (Outcome::Refused(why), None) => {
                let device = known.device.map(|device| device.stored);
                return Ok(miss(world, request, Some(mac), why, device.as_ref()).await);
            }
        };
        let Some(Loaded { stored, etag }) = known.device else {
            return Err(Fault::Broken("let in without a device"));
        };
        let unseen = stored.state.seen.redirected.is_none();
        let claimed_by = claim.as_ref().map(|claim| claim.source.clone());
        if let Some(claim) = claim {
            if known.late {
                return Err(Fault::Broken("r2"));
            }
            if !take_window(world, mac, stored, &etag, claim).await? {
                store::pause(world, attempt).await;
                continue;
            }
        }
        return Ok(Answer {
            response,
            afterwards: (unseen || claimed_by.is_some())
                .then_some(Afterwards::Redirected { mac, claimed_by }),
        });
    }
    Err(Fault::Contended)
}

/// The URL that a path lies in, with the `/` at its end.
fn here(origin: &str, path: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    // Nothing but what a key or a serial is made of comes back in a document.
    let directory = if directory.chars().all(plain) {
        directory
    } else {
        "/rps"
    };
    format!("{origin}{directory}/")
}

/// Writes a claim of a window, once; false if somebody else's write came first.
async fn take_window<W: World>(
    world: &W,
    mac: Mac,
    mut stored: Stored<Device>,
    etag: &str,
    claim: Claim,
) -> Result<bool, Fault> {
    let id = mac.to_string();
    if let Some(window) = &mut stored.state.window {
        window.claim = Some(claim);
    }
    stored.rev += 1;
    match store::replace(world, &id, &stored, Some(etag)).await {
        Ok(taken) => Ok(taken),
        Err(Fault::Throttled) => {
            // R2 takes one write a second of one object.
            world.sleep_ms(1_100).await;
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// Reads what decides about a MAC: one object of R2 and one bulk read of KV, also for a MAC that
/// nobody has, so that the two cannot be told apart.
async fn know<W: World>(world: &W, mac: Mac) -> Result<Known, Fault> {
    let id = mac.to_string();
    let (device, late) = match store::load::<Device, W>(world, &id).await {
        Ok(device) => (device, false),
        Err(fault) if fault.is_of_a_record() => return Err(fault),
        Err(_) => {
            let etag = String::new();
            let copy = late_copy(world, mac).await?;
            (copy.map(|stored| Loaded { stored, etag }), true)
        }
    };
    let tenant = device.as_ref().map(|device| &device.stored.record.tenant);
    // "-" is no id that a tenant can have.
    let keys = [
        key::record(Kind::Tenant, tenant.map_or("-", |tenant| tenant.as_str())),
        tenant.map_or_else(|| "rules/-".to_owned(), |tenant| key::rules(Some(tenant))),
        key::rules(None),
    ];
    let mut texts = world.kv().get_many(&keys).await?.into_iter();
    let mut policy = device
        .as_ref()
        .map(|d| d.stored.state.policy.clone())
        .unwrap_or_default();
    if let Some(text) = texts.next().flatten() {
        let tenant: Stored<Tenant> = Stored::read(text.as_bytes())?;
        if tenant.record_rev() >= policy.rev {
            policy = Policy::of(&tenant);
        }
    }
    let mut rules = Vec::new();
    for text in texts.flatten() {
        rules.extend(RulePack::read(Some(text.as_bytes()))?.named());
    }
    Ok(Known {
        device,
        late,
        policy,
        rules,
    })
}

/// What KV has of a device, for when R2 fails.
async fn late_copy<W: World>(world: &W, mac: Mac) -> Result<Option<Stored<Device>>, Fault> {
    let key = key::record(Kind::Device, &mac.to_string());
    let copy = world.kv().get_many(&[key]).await?.pop().flatten();
    copy.map(|text| Stored::read(text.as_bytes())).transpose()
}

/// The uniform refusal, counted against its source and the range of its MAC. Beyond a limit the
/// caller is told to wait, whatever it asks for and whoever it is; a phone that proves itself never
/// comes here.
async fn miss<W: World>(
    world: &W,
    request: &Request,
    mac: Option<Mac>,
    why: Why,
    device: Option<&Stored<Device>>,
) -> Answer {
    let source = request.source.neighbourhood();
    let range = mac.map_or_else(|| "-".to_owned(), Mac::range);
    // Both are counted for whoever asks, so that nobody can tell one refusal from another.
    let few = world.within(Limit::RpsMisses, &source).await;
    let few_of_range = world.within(Limit::RangeMisses, &range).await;
    if let Some(mac) = mac.filter(|_| why == Why::Unknown) {
        let now = world.now();
        world.memory(|memory| memory.guesses.note(&source, mac, now));
    }
    let refused = mac.zip(device.filter(|device| device.alive()));
    let place = Whereabouts::of(&request.source).filter(|_| why == Why::Moved);
    let afterwards = match refused {
        Some((mac, _)) if let Some(place) = place => Some(Afterwards::Moved { mac, place }),
        Some((mac, device)) => Some(Afterwards::Refused {
            mac,
            tenant: device.record.tenant.clone(),
            why,
            source: source.clone(),
        }),
        None => (!few_of_range).then_some(Afterwards::Scanned { range }),
    };
    let response = if few && few_of_range {
        world.log(
            Level::Info,
            "rps.refused",
            &[("why", why.label()), ("source", &source)],
        );
        refuse()
    } else {
        let mut response = respond(
            StatusCode::TOO_MANY_REQUESTS,
            "text/plain; charset=utf-8",
            b"too many requests\n".to_vec(),
        );
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("60"));
        response
    };
    Answer {
        response,
        afterwards,
    }
}

/// The answer of the JSON look-up.
#[derive(Serialize)]
struct Found<'a> {
    mac: Mac,
    vendor: VendorId,
    model: &'a str,
    url: &'a str,
    boot: &'a str,
}

/// The answer to a caller that is let in, in the form that it asked for; `None` if it asked for a
/// file that its vendor's phones do not ask for.
fn redirect<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    mac: Mac,
    ask: &Ask,
    stored: &Stored<Device>,
    rules: &[NamedRule],
) -> Result<Option<Response<Vec<u8>>>, Fault> {
    let device = &stored.record;
    let generation = stored.state.access.token;
    let token = world
        .keys()
        .sign(Capability::Token, Signed { mac, generation })?;
    let ours = render::base(world.keys(), mac, generation, origin)?;
    let with = Placeholders {
        ours: &ours,
        token: &token,
        device,
        mac,
    };
    let url = step2_redirect::choose(device, rules, &request.source).fill(with);
    let vendor = device.vendor.rules();
    let model = vendor::model(device.vendor, &device.model)
        .ok_or(Fault::Broken("model not in catalogue"))?;
    let boot = vendor.boot_name(mac, model);
    Ok(Some(match &ask.form {
        Form::Json => {
            let found = Found {
                mac,
                vendor: device.vendor,
                model: &device.model,
                url: &url,
                boot: &boot,
            };
            let body = serde_json::to_vec(&found).map_err(|_| Fault::Broken("answer to json"))?;
            respond(StatusCode::OK, "application/json", body)
        }
        Form::Text => respond(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            format!("{url}\n").into_bytes(),
        ),
        Form::Found => {
            let location = format!("{url}{boot}");
            let value = HeaderValue::from_str(&location).map_err(|_| Fault::Broken("location"))?;
            let mut response = respond(StatusCode::FOUND, "text/plain; charset=utf-8", Vec::new());
            response.headers_mut().insert(LOCATION, value);
            // The URL holds the token, and a browser would tell it to wherever it goes next.
            let none = HeaderValue::from_static("no-referrer");
            response.headers_mut().insert(REFERRER_POLICY, none);
            response
        }
        Form::File(name) => {
            let to = Redirect {
                mac,
                model,
                url: &url,
                ours: &ours,
                firmware: ident::agent(request.header("user-agent")).firmware,
            };
            match vendor.redirect(name, to)? {
                Some(document) => respond(StatusCode::OK, document.content_type, document.bytes),
                None => return Ok(None),
            }
        }
    }))
}

/// What becomes of a request under `/p/`, for the log's and an admin's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The token is none that we signed.
    Forged,
    /// The device is gone or switched off.
    Unknown,
    /// The token was revoked, or its grace has ended.
    Revoked,
    /// The phone came from a place that is new for it.
    Moved,
    /// The tenant allows no plain http.
    PlainHttp,
    /// It is none of the phone's generated files.
    Beside,
    /// It got this generated file.
    Served(Part),
}

impl Fate {
    /// The fate in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forged => "the token is none that we signed",
            Self::Unknown => "the device is gone or switched off",
            Self::Revoked => "the token was revoked, or its grace has ended",
            Self::Moved => "the phone comes from a place that is new for it",
            Self::PlainHttp => "the tenant allows no plain http",
            Self::Beside => "it is none of the phone's generated files",
            Self::Served(_) => "the token is good",
        }
    }
}

/// Answers a request under `/p/`: `rest` is what follows there.
pub(crate) async fn provision<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    rest: &str,
) -> Result<(Answer, Fate), Fault> {
    let forged = || Ok((refuse().into(), Fate::Forged));
    let Some((token, name)) = rest.split_once('/') else {
        return forged();
    };
    // A forged token ends here: nothing is read for it.
    let Some((signed, key)) = world.keys().verify_by(Capability::Token, token) else {
        return forged();
    };
    let mac = signed.mac;
    let (stored, from) = match store::load::<Device, W>(world, &mac.to_string()).await {
        Ok(loaded) => (loaded.map(|loaded| loaded.stored), From::R2),
        Err(fault) if fault.is_of_a_record() => return Err(fault),
        Err(fault) => {
            world.log(Level::Warn, "r2.failed", &[("fault", fault.label())]);
            (late_copy(world, mac).await?, From::Kv)
        }
    };
    let refused = |fate, device: &Stored<Device>, why| match from {
        From::R2 => Ok((turned_away(request, mac, device, why), fate)),
        // What KV has may be older than what the caller shows: it is no ground for a refusal.
        From::Kv => Err(Fault::Broken("r2")),
    };
    let Some(mut stored) = stored.filter(Stored::alive) else {
        return match from {
            From::R2 => Ok((refuse().into(), Fate::Unknown)),
            From::Kv => Err(Fault::Broken("r2")),
        };
    };
    if !stored.record.enabled {
        return refused(Fate::Unknown, &stored, Why::Disabled);
    }
    if from == From::Kv && signed.generation > stored.state.access.token {
        // KV may not know yet of a token that we signed a moment ago. The files lead back to it.
        stored.state.access.token = signed.generation;
    }
    if !admitted(&stored, signed.generation, from, world.now()) {
        return refused(Fate::Revoked, &stored, Why::Revoked);
    }
    if let Some(place) = Whereabouts::of(&request.source)
        && stored.state.policy.drift == Drift::Quarantine
        && stored.state.knows_not(&request.source)
    {
        // It keeps what it has, and asks again.
        let [spread] = world.random()?;
        let answer = Answer {
            response: unavailable(spread),
            afterwards: Some(Afterwards::Moved { mac, place }),
        };
        return Ok((answer, Fate::Moved));
    }
    if is_login(&request.method, &request.path) {
        let answer = desk(world, origin, request, mac, &stored, from).await?;
        return Ok((answer, Fate::Beside));
    }
    let device = &stored.record;
    let model = vendor::model(device.vendor, &device.model)
        .ok_or(Fault::Broken("model not in catalogue"))?;
    let agent = ident::agent(request.header("user-agent"));
    let phone = Asker {
        mac,
        model,
        firmware: agent.firmware,
    };
    let asked = step3_boot_request::asked(name, device.vendor, phone);
    let part = match asked {
        Some(Asked::Part(part)) if request.method != Method::PUT => part,
        None if name == SETTINGS_NAME && request.method != Method::PUT => {
            let answer = settings(world, origin, request, mac, &stored).await?;
            return Ok((answer, Fate::Beside));
        }
        asked => {
            let answer = beside(world, request, mac, &stored, name, asked).await?;
            return Ok((answer, Fate::Beside));
        }
    };
    let Fresh { stored, allowed } = fresh(world, origin, mac, stored, from).await?;
    if !request.is_private() && !allowed {
        let answer = turned_away(request, mac, &stored, Why::PlainHttp);
        return Ok((answer, Fate::PlainHttp));
    }
    // The device may have been read again, and revoked or deleted in between: then these files are
    // not this token's.
    let live = stored.alive() && stored.record.enabled;
    if !live || !admitted(&stored, signed.generation, from, world.now()) {
        return refused(Fate::Revoked, &stored, Why::Revoked);
    }
    let token = (signed.generation, key);
    let answer = file(world, request, mac, token, part, &stored, from)?;
    Ok((answer, Fate::Served(part)))
}

/// The refusal of a caller with a token that we signed, and what is written of it afterwards: a phone
/// that was locked out is to be told from one that never asks.
fn turned_away(request: &Request, mac: Mac, device: &Stored<Device>, why: Why) -> Answer {
    Answer {
        response: refuse(),
        afterwards: device.alive().then(|| Afterwards::Refused {
            mac,
            tenant: device.record.tenant.clone(),
            why,
            source: request.source.neighbourhood(),
        }),
    }
}

/// A user's login or logout, if the phone is for that.
async fn desk<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    mac: Mac,
    stored: &Stored<Device>,
    from: From,
) -> Result<Answer, Fault> {
    if from == From::Kv {
        // R2 decides who is logged in.
        return Err(Fault::Broken("r2"));
    }
    if !request.is_private() && !stored.state.policy.allow_plain_http {
        return Ok(refuse().into());
    }
    login::answer(world, origin, request, mac, stored).await
}

/// One generated file as an answer.
fn file<W: World>(
    world: &W,
    request: &Request,
    mac: Mac,
    token: (u32, KeyId),
    part: Part,
    stored: &Stored<Device>,
    from: From,
) -> Result<Answer, Fault> {
    let (file, version) = (stored.state.file(part)?, stored.state.files()?.version);
    let content_type = stored.record.vendor.rules().content_type(part);
    let etag = HeaderValue::from_str(&file.etag).map_err(|_| Fault::Broken("etag"))?;
    let mut response = if has_it(&request.headers, &file.etag) {
        let mut response = respond(StatusCode::NOT_MODIFIED, content_type, Vec::new());
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else if request.method == Method::HEAD {
        let mut response = respond(StatusCode::OK, content_type, Vec::new());
        response
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, HeaderValue::from(file.length));
        response
    } else {
        respond(
            StatusCode::OK,
            content_type,
            render::open(world.keys(), mac, part, file)?,
        )
    };
    response.headers_mut().insert(ETAG, etag);
    let place = match stored.state.policy.drift {
        Drift::Allow => None,
        Drift::Note | Drift::Quarantine => Whereabouts::of(&request.source),
    };
    let fetch = Fetch {
        mac,
        token: token.0,
        key: token.1,
        part,
        version,
        source: request.source.neighbourhood(),
        place,
    };
    // To look at a file's head is not to fetch it.
    let fetched = from == From::R2 && request.method == Method::GET;
    let news = fetched && note_fetch(&mut stored.state.clone(), &fetch, world.now());
    Ok(Answer {
        response,
        afterwards: news.then_some(Afterwards::Fetched(fetch)),
    })
}

/// What a phone puts beside its generated files and asks for again.
async fn beside<W: World>(
    world: &W,
    request: &Request,
    mac: Mac,
    stored: &Stored<Device>,
    name: &str,
    asked: Option<Asked>,
) -> Result<Answer, Fault> {
    let puts = request.method == Method::PUT;
    let allowed = request.is_private() || stored.state.policy.allow_plain_http;
    Ok(match asked {
        Some(Asked::Kept) if allowed && puts => {
            upload::keep(world, mac, name, &request.body).await?
        }
        Some(Asked::Kept) if allowed => {
            let found = upload::back(world, mac, name).await?;
            found.map_or_else(refuse, |body| {
                respond(StatusCode::OK, "application/octet-stream", body)
            })
        }
        Some(Asked::Dropped) if allowed && puts => upload::taken(),
        Some(Asked::Part(_)) if allowed => other_method(),
        _ => refuse(),
    }
    .into())
}

/// Whether a token is still good. With KV's copy only the token that is good now: how a rotation
/// ended stands in R2 alone.
fn admitted(stored: &Stored<Device>, generation: u32, from: From, now: Timestamp) -> bool {
    match step3_boot_request::admit(&stored.state.access, generation, now) {
        Admission::Current => true,
        Admission::Former => from == From::R2,
        Admission::No => false,
    }
}

/// A device whose files are up to date, and whether they may go over plain http.
struct Fresh {
    stored: Stored<Device>,
    allowed: bool,
}

/// Makes sure that the files are as new as the records: with R2, one bulk read of KV tells whether
/// any of them changed; without it, everything is made from KV's copies and not stored.
async fn fresh<W: World>(
    world: &W,
    origin: &str,
    mac: Mac,
    mut stored: Stored<Device>,
    from: From,
) -> Result<Fresh, Fault> {
    if from == From::Kv {
        let made = Ingredients::gather(world, mac, stored, From::Kv).await?;
        let scope = Scope::of(mac, &made.device.record, made.templates());
        if scope.measure() == 0 {
            // What it may have is in R2 alone: it keeps what it has.
            return Err(Fault::Broken("templates in kv"));
        }
        let allowed = made.policy().allow_plain_http;
        let files = made.files(world, origin)?;
        stored = made.device;
        stored.state.files = Some(files);
        return Ok(Fresh { stored, allowed });
    }
    // Nobody gets a user's files of whom R2 does not say at this moment that the user is here.
    let ended = stored.state.session.is_some() && !session::stands(world, mac, &stored).await?;
    let Revisions { known, templates } = match &stored.state.files {
        None => Revisions::default(),
        Some(files) => revisions(world, in_order(files.sources.records.keys().cloned())).await,
    };
    let scope = Scope::of(mac, &stored.record, templates.as_ref());
    let expected = Sources {
        templates: scope.measure(),
        ..render::expected_sources(world.keys(), &stored, origin)
    };
    let files = stored.state.files.as_ref();
    let former = stored.state.former_files.as_deref();
    if ended || stale(files, &expected, &known) || scope.settles(files, former) {
        match finish::refresh(world, mac, Some(origin)).await {
            Ok(Some(refreshed)) => stored = refreshed,
            Ok(None) => return Err(Fault::Broken("device vanished")),
            // Another user's file is not, nor the host's to who has just logged in.
            Err(fault) if stored.state.files.is_some() && !of_another(&stored, ended) => {
                // Yesterday's file is better than none: the phone stays as it is.
                world.log(Level::Error, "refresh.failed", &[("fault", fault.label())]);
            }
            Err(fault) => return Err(fault),
        }
    }
    let allowed = stored.state.policy.allow_plain_http;
    Ok(Fresh { stored, allowed })
}

/// Whether a phone's files are those of somebody else than who is there now.
fn of_another(stored: &Stored<Device>, ended: bool) -> bool {
    let files = stored.state.files.as_ref();
    let made_for = files.and_then(|files| files.sources.session.as_ref());
    let now = stored.state.session.as_ref().filter(|_| !ended);
    made_for != now.map(|session| &session.id)
}

/// What KV knows of the records that files are made of.
#[derive(Default)]
struct Revisions {
    /// The revision of each, by key.
    known: Vec<(String, u64)>,
    /// Which templates the tenant's phones may have.
    templates: Option<Templates>,
}

/// The revisions that KV knows of these records. A KV that fails knows nothing: what R2 has is
/// then served as it is.
async fn revisions<W: World>(world: &W, keys: Vec<String>) -> Revisions {
    #[derive(Deserialize)]
    struct Head {
        rev: u64,
    }
    #[derive(Deserialize)]
    struct TenantHead {
        rev: u64,
        #[serde(default)]
        state: Option<Templates>,
    }
    let mut found = Revisions::default();
    let Ok(texts) = world.kv().get_many(&keys).await else {
        return found;
    };
    for (key, text) in keys.into_iter().zip(texts) {
        let Some(text) = text else { continue };
        if let Some((Kind::Tenant, _)) = key::parse_record(&key) {
            if let Ok(TenantHead { rev, state }) = json::read(text.as_bytes()) {
                let rev = templates::record_rev(rev, state.as_ref());
                found.known.push((key, rev));
                found.templates = state;
            }
        } else if let Ok(head) = json::read::<Head>(text.as_bytes()) {
            found.known.push((key, head.rev));
        }
    }
    found
}

/// `redirect.cfg`: the redirect as settings, for a device that a rule sends to another server.
async fn settings<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    mac: Mac,
    stored: &Stored<Device>,
) -> Result<Answer, Fault> {
    let known = know(world, mac).await?;
    if !request.is_private() && !known.policy.allow_plain_http {
        return Ok(refuse().into());
    }
    let form = Form::File(SETTINGS_NAME.to_owned());
    let ask = Ask {
        mac: Some(mac),
        serial: None,
        disputed: false,
        key: None,
        form,
    };
    let response = redirect(world, origin, request, mac, &ask, stored, &known.rules)?;
    Ok(response.unwrap_or_else(refuse).into())
}

/// The proofs by which a device can get in today, for its status.
#[must_use]
pub fn ways_in(stored: &Stored<Device>, now: Timestamp) -> Vec<Proof> {
    let state = &stored.state;
    let open = state
        .window
        .as_ref()
        .is_some_and(|w| w.claim.is_none() && now < w.until);
    state
        .policy
        .proofs
        .iter()
        .copied()
        .filter(|proof| match proof {
            Proof::Serial => stored.record.serial.is_some(),
            Proof::Certificate => {
                stored.record.vendor.rules().facts().certificate != CertificateMac::Unknown
            }
            Proof::Network => !state.policy.networks.is_empty(),
            Proof::Key => true,
            Proof::Window => open,
        })
        .collect()
}
