//! A phone's request from end to end, and the only place where steps, stores and answers meet.
//!
//! `/rps...` is steps 1 and 2, `/p/{token}/{file}` steps 3 to 6. A caller that is refused gets one
//! and the same answer after the same reads; a fault of ours is 503, so that a phone keeps what it has.

use http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::finish::{self, RulePack};
use crate::json;
use crate::key::{self, Kind};
use crate::keys::{Capability, KeyId, Signed};
use crate::mac::Mac;
use crate::ports::{Level, Limit, Mappings, World};
use crate::record::Stored;
use crate::record::device::{Claim, Device, DeviceState, Policy, Sighting};
use crate::record::tenant::{Proof, Tenant};
use crate::render::{self, From, Ingredients};
use crate::request::{Afterwards, Answer, Request, refuse, respond, unavailable};
use crate::step1_ask::{self, Ask, Form};
use crate::step2_redirect::{self, NamedRule, Placeholders, SETTINGS_NAME, Verdict, Why};
use crate::step3_boot_request::{self, Admission, Part};
use crate::step5_config_request::{has_it, stale};
use crate::store::{self, Loaded};
use crate::time::Timestamp;
use crate::vendor::{self, Asked, Asker, CertificateMac, Redirect, VendorId};
use crate::{ident, upload};

/// What is handed out: whole URLs.
pub struct Place<'a> {
    /// `PUBLIC_URL`, if it is set.
    pub public_url: Option<&'a str>,
}

/// Answers a request to `/rps` or `/p/`.
pub async fn phone<W: World>(world: &W, place: &Place<'_>, request: &Request) -> Answer {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let uploads = request.method == Method::PUT && request.path.starts_with("/p/");
    if !reads && !uploads {
        return other_method().into();
    }
    let origin = request.origin(place.public_url);
    let answered = match request.path.strip_prefix("/p/") {
        Some(rest) => provision(world, &origin, request, rest).await,
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
struct Known {
    device: Option<Loaded<Device>>,
    /// True if R2 failed: then nothing can be claimed.
    late: bool,
    policy: Policy,
    rules: Vec<NamedRule>,
}

async fn rps<W: World>(world: &W, origin: &str, request: &Request) -> Result<Answer, Fault> {
    let accept = request.header("accept");
    let agent = request.header("user-agent");
    let Some(mut ask) = step1_ask::read(&request.path, &request.query, agent, accept) else {
        return Ok(refuse().into());
    };
    let key = ask
        .key
        .as_deref()
        .and_then(|key| world.keys().verify(Capability::FirstAccess, key));
    // A common file under a first-access key is that key's phone's.
    let named = match &ask.form {
        Form::File(name) => ident::file(name).mac,
        _ => None,
    };
    if let Form::File(name) = &ask.form
        && vendor::is_optional(name, named)?
    {
        // Phones ask for several of these at each start: told by the name alone, and not counted
        // against an office of hundreds of them.
        return Ok(refuse().into());
    }
    let nameless_file = matches!(&ask.form, Form::File(_)) && named.is_none();
    if nameless_file && ask.mac.is_none() {
        ask.mac = key.map(|key| key.mac);
    }
    let common = match &ask.form {
        Form::File(name) if nameless_file => vendor::common(name, &here(origin, &request.path))?,
        _ => None,
    };
    let refused = |why: Why, late: bool| async move {
        match common {
            // Constant and without a name of anybody: there is nothing to refuse.
            Some(document) => {
                Ok(respond(StatusCode::OK, document.content_type, document.bytes).into())
            }
            // What KV has may be older than what the caller shows: it is no ground for a refusal.
            None if late => Err(Fault::Broken("r2")),
            None => Ok(miss(world, request, why).await.into()),
        }
    };
    let Some(mac) = ask.mac else {
        return refused(Why::Unknown, false).await;
    };

    // After a lost race the winner's claim is what the second look finds.
    for attempt in 0..8 {
        let known = know(world, mac).await?;
        let Some(Loaded { stored, etag }) = known.device else {
            return refused(Why::Unknown, known.late).await;
        };
        let verdict = match step2_redirect::decide(
            &ask,
            key,
            &stored,
            &known.policy,
            &request.source,
            world.now(),
        ) {
            Verdict::Refused(why) => return refused(why, known.late).await,
            // A window is for the phone that asks for its own file: a look (HEAD), or a file that
            // is the same for everybody, must not use it up.
            Verdict::Claims(_) if nameless_file || request.method == Method::HEAD => {
                return refused(Why::NoProof, known.late).await;
            }
            _ if !request.is_private() && !known.policy.allow_plain_http => {
                return refused(Why::PlainHttp, known.late).await;
            }
            verdict => verdict,
        };
        // Before the claim: a caller that gets nothing must not use up the window.
        let Some(response) = redirect(world, origin, request, mac, &ask, &stored, &known.rules)?
        else {
            return refused(Why::File, known.late).await;
        };
        let unseen = stored.state.seen.redirected.is_none();
        if let Verdict::Claims(claim) = verdict {
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
            afterwards: unseen.then_some(Afterwards::Redirected(mac)),
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
    let (id, source) = (mac.to_string(), claim.source.clone());
    if let Some(window) = &mut stored.state.window {
        window.claim = Some(claim);
    }
    stored.rev += 1;
    match store::replace(world, &id, &stored, Some(etag)).await {
        Ok(true) => {
            let fields = [("mac", id.as_str()), ("source", source.as_str())];
            world.log(Level::Info, "window.claimed", &fields);
            Ok(true)
        }
        Ok(false) => Ok(false),
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
        if tenant.rev >= policy.rev {
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

/// The uniform refusal, counted against its source. Beyond the limit the source is told to wait,
/// whatever it asks for and whoever it is; a phone that proves itself never comes here.
async fn miss<W: World>(world: &W, request: &Request, why: Why) -> Response<Vec<u8>> {
    let source = request.source.neighbourhood();
    if world.within(Limit::RpsMisses, &source).await {
        world.log(
            Level::Info,
            "rps.refused",
            &[("why", why.label()), ("source", &source)],
        );
        return refuse();
    }
    let mut response = respond(
        StatusCode::TOO_MANY_REQUESTS,
        "text/plain; charset=utf-8",
        b"too many requests\n".to_vec(),
    );
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response
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

async fn provision<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    rest: &str,
) -> Result<Answer, Fault> {
    let Some((token, name)) = rest.split_once('/') else {
        return Ok(refuse().into());
    };
    // A forged token ends here: nothing is read for it.
    let Some((signed, key)) = world.keys().verify_by(Capability::Token, token) else {
        return Ok(refuse().into());
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
    let refused = || match from {
        From::R2 => Ok(refuse().into()),
        // What KV has may be older than what the caller shows: it is no ground for a refusal.
        From::Kv => Err(Fault::Broken("r2")),
    };
    let Some(mut stored) = stored.filter(|stored| stored.alive() && stored.record.enabled) else {
        return refused();
    };
    if from == From::Kv && signed.generation > stored.state.access.token {
        // KV may not know yet of a token that we signed a moment ago. The files lead back to it.
        stored.state.access.token = signed.generation;
    }
    if !admitted(&stored, signed.generation, from, world.now()) {
        return refused();
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
            return settings(world, origin, request, mac, &stored).await;
        }
        asked => return beside(world, request, mac, &stored, name, asked).await,
    };
    let Fresh { stored, allowed } = fresh(world, origin, mac, stored, from).await?;
    if !request.is_private() && !allowed {
        return Ok(refuse().into());
    }
    // The device may have been read again, and revoked or deleted in between: then these files are
    // not this token's.
    let live = stored.alive() && stored.record.enabled;
    if !live || !admitted(&stored, signed.generation, from, world.now()) {
        return refused();
    }
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
    let shown = Shown {
        generation: signed.generation,
        key,
    };
    let mut seen = stored.state.clone();
    // To look at a file's head is not to fetch it.
    let fetched = from == From::R2 && request.method == Method::GET;
    let news = fetched && note_fetch(&mut seen, shown, part, version, world.now());
    Ok(Answer {
        response,
        afterwards: news.then_some(Afterwards::Fetched {
            mac,
            shown,
            part,
            version,
        }),
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
        let allowed = made.policy().allow_plain_http;
        let files = made.files(world, origin)?;
        stored = made.device;
        stored.state.files = Some(files);
        return Ok(Fresh { stored, allowed });
    }
    let known = match &stored.state.files {
        None => Vec::new(),
        Some(files) => revisions(world, files.sources.records.keys().cloned().collect()).await,
    };
    let expected = render::expected_sources(world.keys(), &stored, origin);
    if stale(stored.state.files.as_ref(), &expected, &known) {
        match finish::refresh(world, mac, Some(origin)).await {
            Ok(Some(refreshed)) => stored = refreshed,
            Ok(None) => return Err(Fault::Broken("device vanished")),
            Err(fault) if stored.state.files.is_some() => {
                // Yesterday's file is better than none: the phone stays as it is.
                world.log(Level::Error, "refresh.failed", &[("fault", fault.label())]);
            }
            Err(fault) => return Err(fault),
        }
    }
    let allowed = stored.state.policy.allow_plain_http;
    Ok(Fresh { stored, allowed })
}

/// The revisions that KV knows of these records. A KV that fails knows nothing: what R2 has is
/// then served as it is.
async fn revisions<W: World>(world: &W, keys: Vec<String>) -> Vec<(String, u64)> {
    #[derive(Deserialize)]
    struct Head {
        rev: u64,
    }
    let Ok(texts) = world.kv().get_many(&keys).await else {
        return Vec::new();
    };
    keys.into_iter()
        .zip(texts)
        .filter_map(|(key, text)| {
            let head: Head = json::read(text?.as_bytes()).ok()?;
            Some((key, head.rev))
        })
        .collect()
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

/// The token that a phone showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// [`Signed::generation`].
    pub generation: u32,
    /// The key that signed it.
    pub key: KeyId,
}

/// Notes a fetch in a device's state; false if there is nothing new in it, so that a repeat writes
/// nothing.
pub fn note_fetch(
    state: &mut DeviceState,
    shown: Shown,
    part: Part,
    version: u64,
    now: Timestamp,
) -> bool {
    let mut news = false;
    // Only where a phone begins is the URL that it keeps. The files from there on are under the URL
    // that it was just given: to note those too would be two writes at each start of a phone that
    // is told its URL by DHCP.
    if matches!(part, Part::Boot | Part::Merged | Part::Former)
        && state.access.key != Some(shown.key)
    {
        state.access.key = Some(shown.key);
        news = true;
    }
    if shown.generation == state.access.token
        && (!state.access.used || state.access.former.is_some())
    {
        // The phone has its new URL: the old one has served its time.
        state.access.used = true;
        state.access.former = None;
        // And the window: whoever came now would be somebody else.
        state.window.take_if(|window| window.claim.is_none());
        news = true;
    }
    let sighting = Sighting { at: now, version };
    let newer = |seen: &Option<Sighting>| seen.is_none_or(|seen| seen.version < version);
    if matches!(part, Part::Boot | Part::First | Part::Merged | Part::Former)
        && newer(&state.seen.booted)
    {
        state.seen.booted = Some(sighting);
        news = true;
    }
    if matches!(part, Part::Acc | Part::Merged | Part::Former) && newer(&state.seen.configured) {
        state.seen.configured = Some(sighting);
        news = true;
    }
    news
}

/// Writes down what a phone did, once it has its answer. A failure costs a line in a status, so it
/// is logged and not repeated for ever.
pub async fn afterwards<W: World>(world: &W, what: Afterwards) {
    let now = world.now();
    let mac = match &what {
        Afterwards::Redirected(mac) | Afterwards::Fetched { mac, .. } => *mac,
    };
    let noted = store::update::<Device, W>(world, &mac.to_string(), |stored| match &what {
        Afterwards::Redirected(_) if stored.state.seen.redirected.is_some() => false,
        Afterwards::Redirected(_) => {
            stored.state.seen.redirected = Some(now);
            true
        }
        Afterwards::Fetched {
            shown,
            part,
            version,
            ..
        } => note_fetch(&mut stored.state, *shown, *part, *version, now),
    })
    .await;
    if let Err(fault) = noted {
        world.log(
            Level::Warn,
            "afterwards.failed",
            &[("fault", fault.label())],
        );
    }
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
