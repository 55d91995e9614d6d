//! Cloudflare: from its events and bindings to the core's values, and back. Nothing is decided here.

mod kv;
mod outbound;
mod r2;
mod signature;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use worker::wasm_bindgen::JsValue;
use worker::{
    Context, Date, Delay, Env, Headers, Response, ScheduleContext, ScheduledEvent, console_error,
    console_log, console_warn, event,
};

use crate::access::{self, Application, RsaKey};
use crate::afterwards;
use crate::cached::Cached;
use crate::entry;
use crate::fault::Fault;
use crate::keys::{Keys, SecretsError};
use crate::ports::{InstanceMemory, Level, Limit, World};
use crate::request::{HEADERS, MAX_BODY_BYTES, Request, request_id, respond, unavailable};
use crate::serve::{self, Place};
use crate::step2_redirect::Source;
use crate::tick;
use crate::time::Timestamp;

/// The bindings and keys of one event.
struct Cloudflare {
    kv: kv::Devices,
    r2: r2::Files,
    net: outbound::Fetch,
    keys: Keys,
    env: Env,
    public_url: Option<String>,
    access: Option<Application>,
    /// [`Request::id`] of the request that is answered; nothing in a scheduled run.
    request: String,
}

/// What keeps an event from being served at all.
enum Unready {
    Secret(SecretsError),
    Binding(&'static str),
    PublicUrl,
    Access(access::Unusable),
}

impl Cloudflare {
    fn new(env: Env, request: String) -> Result<Self, Unready> {
        let secret = |name: &str| env.secret(name).ok().map(|secret| secret.to_string());
        let keys = Keys::new(
            secret("ADMIN_TOKEN").as_deref(),
            secret("SEAL_KEY").as_deref(),
            secret("SEAL_KEY_OLD").as_deref(),
        )
        .map_err(Unready::Secret)?;
        let variable = |name: &str| env.var(name).ok().map(|value| value.to_string());
        let public_url = variable("PUBLIC_URL");
        let public_url = public_url.filter(|url| !url.is_empty());
        if public_url
            .as_deref()
            .is_some_and(|url| !entry::is_origin(url))
        {
            return Err(Unready::PublicUrl);
        }
        let (team, audience) = (variable("ACCESS_TEAM"), variable("ACCESS_AUD"));
        let access =
            Application::of(team.as_deref(), audience.as_deref()).map_err(Unready::Access)?;
        Ok(Self {
            kv: kv::Devices(env.kv("DEVICES").map_err(|_| Unready::Binding("DEVICES"))?),
            r2: r2::Files(env.bucket("FILES").map_err(|_| Unready::Binding("FILES"))?),
            net: outbound::Fetch,
            keys,
            env,
            public_url,
            access,
            request,
        })
    }
}

impl World for Cloudflare {
    type Mappings = kv::Devices;
    type Objects = r2::Files;
    type Outbound = outbound::Fetch;

    fn kv(&self) -> &kv::Devices {
        &self.kv
    }

    fn r2(&self) -> &r2::Files {
        &self.r2
    }

    fn net(&self) -> &outbound::Fetch {
        &self.net
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn now(&self) -> Timestamp {
        Timestamp(Date::now().as_millis() / 1_000)
    }

    async fn sleep_ms(&self, ms: u32) {
        Delay::from(Duration::from_millis(ms.into())).await;
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).map_err(|_| Fault::Broken("random"))?;
        Ok(bytes)
    }

    fn memory<T>(&self, with: impl FnOnce(&mut InstanceMemory) -> T) -> T {
        thread_local! {
            static MEMORY: RefCell<InstanceMemory> = const { RefCell::new(InstanceMemory::new()) };
        }
        // Nothing waits inside of `with`, so that it is never borrowed twice.
        MEMORY.with_borrow_mut(with)
    }

    async fn verify_rs256(
        &self,
        key: &RsaKey,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault> {
        let verified = signature::verify(key, signed, signature).await;
        verified.map_err(|_| Fault::Broken("webcrypto"))
    }

    async fn within(&self, limit: Limit, who: &str) -> bool {
        let binding = match limit {
            Limit::RpsMisses => "RPS_MISSES",
            Limit::RangeMisses => "RANGE_MISSES",
            Limit::TenantMisses => "TENANT_MISSES",
            Limit::RefusalsOfDevice => "REFUSALS_OF_DEVICE",
            Limit::Refusals => "REFUSALS",
            Limit::AdminFailures => "ADMIN_FAILURES",
            Limit::AdminTaken => "ADMIN_TAKEN",
            Limit::Plans => "PLANS",
        };
        let Ok(limiter) = self.env.rate_limiter(binding) else {
            return true;
        };
        // A limiter that fails limits nobody: phones matter more than scanners.
        limiter
            .limit(who.to_owned())
            .await
            .map_or(true, |outcome| outcome.success)
    }

    fn log(&self, level: Level, event: &'static str, fields: &[(&'static str, &str)]) {
        if self.request.is_empty() {
            log(level, event, fields);
        } else {
            let own = [("request", self.request.as_str())];
            log(level, event, &[fields, &own].concat());
        }
    }
}

fn log(level: Level, event: &'static str, fields: &[(&'static str, &str)]) {
    let mut line = serde_json::Map::new();
    line.insert("event".to_owned(), event.into());
    line.extend(
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into())),
    );
    let line = serde_json::Value::Object(line);
    match level {
        Level::Info => console_log!("{line}"),
        Level::Warn => console_warn!("{line}"),
        Level::Error => console_error!("{line}"),
    }
}

/// Answers a request.
#[event(fetch)]
async fn fetch(request: worker::Request, env: Env, context: Context) -> worker::Result<Response> {
    #[cfg(feature = "panic-probe")]
    probe(&request);
    let id = match id(&request) {
        Ok(id) => id,
        Err(fault) => {
            log(Level::Error, "request.fault", &[("fault", fault.label())]);
            return outgoing(unavailable(0));
        }
    };
    let world = match Cloudflare::new(env, id.clone()) {
        Ok(world) => Rc::new(world),
        Err(unready) => {
            say(&unready);
            return outgoing(unavailable(0));
        }
    };
    let request = match incoming(request, id).await {
        Ok(request) => request,
        Err(refusal) => return outgoing(refusal),
    };
    let place = Place {
        public_url: world.public_url.as_deref(),
        access: world.access.as_ref(),
    };
    let answer = entry::answer(&*world, &place, &request).await;
    if let Some(what) = answer.afterwards {
        let world = Rc::clone(&world);
        context.wait_until(async move { afterwards::write(&Cached::new(&*world), what).await });
    }
    outgoing(answer.response)
}

/// Reconciles, every minute.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match Cloudflare::new(env, String::new()) {
        Ok(world) => {
            Box::pin(tick::run(&Cached::new(&world), world.public_url.as_deref())).await;
        }
        Err(unready) => say(&unready),
    }
}

fn say(unready: &Unready) {
    match unready {
        Unready::Secret(error) => log(
            Level::Error,
            "secret.missing",
            &[("variable", error.variable())],
        ),
        Unready::Access(unusable) => log(
            Level::Error,
            "access.invalid",
            &[("variable", unusable.variable())],
        ),
        Unready::PublicUrl => log(Level::Error, "public_url.invalid", &[]),
        Unready::Binding(name) => log(Level::Error, "binding.missing", &[("binding", name)]),
    }
}

/// Panics on request, so that a test can see what the shim makes of it.
#[cfg(feature = "panic-probe")]
#[expect(clippy::panic, reason = "that is what it is for")]
fn probe(request: &worker::Request) {
    if request.path() == "/panic" {
        panic!("asked for");
    }
}

/// What a request is called.
fn id(request: &worker::Request) -> Result<String, Fault> {
    let ray = request.headers().get("cf-ray").ok().flatten();
    let mut random = [0; 8];
    if ray.is_none() {
        getrandom::fill(&mut random).map_err(|_| Fault::Broken("random"))?;
    }
    Ok(request_id(ray.as_deref(), random))
}

/// A request as the core sees it, or what is wrong with it.
async fn incoming(
    mut request: worker::Request,
    id: String,
) -> Result<Request, http::Response<Vec<u8>>> {
    let plain = |status, text: &str| {
        respond(
            status,
            "text/plain; charset=utf-8",
            text.as_bytes().to_vec(),
        )
    };
    // A URL that workerd has parsed has this shape (WHATWG URL, "URL serializing"); a second parser
    // for it would be 40 KB of wasm.
    let url = request.inner().url();
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(request.inner().method().as_bytes())
        .map_err(|_| plain(http::StatusCode::BAD_REQUEST, "bad method\n"))?;
    let mut headers = HeaderMap::new();
    for name in HEADERS {
        let value = request.headers().get(name).ok().flatten();
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let header = |name: &str| request.headers().get(name).ok().flatten();
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    let address = header("cf-connecting-ip").unwrap_or_default();
    let source = source(&request, address);
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(entry::too_long(path, &id));
    }
    // Whoever has no business here need not be listened to.
    let admin = path.starts_with("/api/") && !matches!(method, Method::GET | Method::HEAD);
    let upload = path.starts_with("/p/") && method == Method::PUT;
    let login = serve::is_login(&method, path);
    let body = if admin || upload || login {
        match read(&mut request).await {
            Body::Whole(body) => body,
            Body::TooLong => return Err(entry::too_long(path, &id)),
            Body::BrokenOff => {
                return Err(plain(http::StatusCode::BAD_REQUEST, "the body broke off\n"));
            }
        }
    } else {
        Vec::new()
    };
    Ok(Request {
        id,
        method,
        https: scheme == "https",
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
        source,
    })
}

/// Where a request came from. Read member by member: the crate's own getters panic where one is
/// missing, as most are on a machine of one's own.
fn source(request: &worker::Request, address: String) -> Source {
    let member = |of: &JsValue, name: &str| {
        worker::js_sys::Reflect::get(of, &name.into()).unwrap_or(JsValue::UNDEFINED)
    };
    let cf = member(request.inner(), "cf");
    let auth = member(&cf, "tlsClientAuth");
    let says = |name: &str| member(&auth, name).as_string().unwrap_or_default();
    // All of them are texts (Cloudflare, "Client certificate variables"). Whatever is not exactly
    // this is no certificate.
    let verified = says("certPresented") == "1"
        && says("certVerified") == "SUCCESS"
        && matches!(says("certRevoked").as_str(), "" | "0");
    let subject = [
        "certSubjectDNRFC2253",
        "certSubjectDN",
        "certSubjectDNLegacy",
    ]
    .map(says)
    .into_iter()
    .find(|subject| !subject.is_empty());
    let asn = member(&cf, "asn").as_f64().unwrap_or_default();
    Source {
        address,
        country: member(&cf, "country").as_string(),
        continent: member(&cf, "continent").as_string(),
        // No autonomous system has the number 0 (RFC 7607).
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float to an integer saturates"
        )]
        asn: Some(asn as u32).filter(|asn| *asn > 0),
        certificate: subject.filter(|_| verified),
    }
}

/// A request's body.
enum Body {
    Whole(Vec<u8>),
    TooLong,
    BrokenOff,
}

/// Reads a body piece by piece: one without a length may be endless.
async fn read(request: &mut worker::Request) -> Body {
    // There is no stream if there is no body.
    let Ok(mut pieces) = request.stream() else {
        return Body::Whole(Vec::new());
    };
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else {
            return Body::BrokenOff;
        };
        if body.len() + piece.len() > MAX_BODY_BYTES {
            return Body::TooLong;
        }
        body.extend(piece);
    }
    Body::Whole(body)
}

fn outgoing(response: http::Response<Vec<u8>>) -> worker::Result<Response> {
    let (parts, body) = response.into_parts();
    let headers = Headers::new();
    for (name, value) in &parts.headers {
        headers.set(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    let answer = if body.is_empty() {
        Response::empty()?
    } else {
        Response::from_bytes(body)?
    };
    Ok(answer
        .with_status(parts.status.as_u16())
        .with_headers(headers))
}
