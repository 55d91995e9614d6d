//! A PBX's ARI, as the core calls it: with the record's password and headers, within a time and a size.
//! What its answers mean stands in [`crate::step7_register`].

use std::cell::Cell;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::fault::Fault;
use crate::json;
use crate::key::Kind;
use crate::ports::{NoAnswer, Outbound, World};
use crate::reconcile::Observed;
use crate::record::Stored;
use crate::record::pbx::Pbx;
use crate::step7_register::{self as register, Answer, Class, Line, Presence};
use crate::store;
use crate::text::{Id, Username, WebUrl};

/// How long a PBX has for an answer, in ms. 10,000 endpoints take it 0.15 s.
pub(super) const TIMEOUT_MS: u32 = 10_000;

/// The longest list of endpoints, in bytes: 100,000 of them.
pub(super) const LIST_BYTES: usize = 8 * 1_048_576;

/// The longest answer about one object, in bytes: an endpoint is 7 KB.
pub(super) const OBJECT_BYTES: usize = 262_144;

/// What may stand in the name of an object in a URL's path. `+` may not: Asterisk takes it for a space.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// What a PBX said that nothing can be concluded from, or the fault that kept us from asking: the
/// end of its actions in this run.
pub(crate) struct Stop(pub(crate) String);

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self(fault.label().to_owned())
    }
}

impl From<NoAnswer> for Stop {
    fn from(none: NoAnswer) -> Self {
        Self(match none {
            NoAnswer::TimedOut => TIMED_OUT.to_owned(),
            NoAnswer::Unreachable => UNREACHABLE.to_owned(),
        })
    }
}

/// Whether an outcome is a failure of the PBX or of the way to it, and not one of ours or a doubt.
pub(super) fn is_of_pbx(outcome: &str) -> bool {
    const OF_LIST: [&str; 2] = ["not json", "not a list of endpoints"];
    outcome.starts_with("http ")
        || outcome == TIMED_OUT
        || outcome == UNREACHABLE
        || OF_LIST.contains(&outcome)
}

/// The outcomes of a call that brought no answer.
const TIMED_OUT: &str = "timed out";
const UNREACHABLE: &str = "unreachable";

/// An answer of ARI that was read whole.
pub(super) struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Reply {
    pub(super) fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            content_type: &self.content_type,
            body: &self.body,
        }
    }

    pub(super) fn unclear(&self) -> Stop {
        Stop(format!("http {}", self.status))
    }
}

/// Opens a secret of a PBX's record, if it has it.
pub(super) fn open<W: World>(
    world: &W,
    id: &Id,
    stored: &Stored<Pbx>,
    name: &str,
) -> Result<Option<Vec<u8>>, Fault> {
    let place = store::secret_place(Kind::Pbx, id.as_str(), name);
    let sealed = stored.sealed.get(name);
    sealed
        .map(|sealed| world.keys().open(&place, sealed))
        .transpose()
}

/// The headers that the record has for every call.
pub(super) fn headers<W: World>(
    world: &W,
    id: &Id,
    stored: &Stored<Pbx>,
) -> Result<HeaderMap, Fault> {
    const HEADERS: Fault = Fault::Broken("pbx headers");
    let mut headers = HeaderMap::new();
    if let Some(more) = open(world, id, stored, "headers")? {
        let more: BTreeMap<String, String> = json::read(&more).map_err(|_| HEADERS)?;
        for (name, value) in more {
            let name = HeaderName::try_from(name).map_err(|_| HEADERS)?;
            let mut value = HeaderValue::try_from(value).map_err(|_| HEADERS)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// A URL of a record without its query and the `/` at its end.
pub(super) fn base(url: &WebUrl) -> String {
    let url = url.as_str();
    url.split_once('?')
        .map_or(url, |(base, _)| base)
        .trim_end_matches('/')
        .to_owned()
}

/// A PBX's ARI.
pub(crate) struct Ari<'a, W: World> {
    world: &'a W,
    /// What is left of the calls of this run or request.
    calls: &'a Cell<u32>,
    base: String,
    headers: HeaderMap,
}

impl<'a, W: World> Ari<'a, W> {
    pub fn new(
        world: &'a W,
        calls: &'a Cell<u32>,
        id: &Id,
        stored: &Stored<Pbx>,
    ) -> Result<Self, Fault> {
        const NO_PASSWORD: Fault = Fault::Broken("no ari_password");
        let mut headers = headers(world, id, stored)?;
        let pbx = &stored.record;
        let mut login = format!("{}:", pbx.ari_username).into_bytes();
        login.extend(open(world, id, stored, "ari_password")?.ok_or(NO_PASSWORD)?);
        let mut basic = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(login)))
            .map_err(|_| NO_PASSWORD)?;
        basic.set_sensitive(true);
        headers.insert(AUTHORIZATION, basic);
        Ok(Self {
            world,
            calls,
            base: base(&pbx.ari_url),
            headers,
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        most: usize,
    ) -> Result<Reply, Stop> {
        let json = body.is_some();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(body.unwrap_or_default())
            .map_err(|_| Stop("ari_url".to_owned()))?;
        *request.headers_mut() = self.headers.clone();
        if json {
            // Under any other type Asterisk does not read the body.
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.calls.set(self.calls.get().saturating_sub(1));
        let response = self
            .world
            .net()
            .send(request, TIMEOUT_MS, most)
            .await
            .map_err(Stop::from)?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        Ok(Reply {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: response.into_body(),
        })
    }

    /// What the PBX says of its endpoints.
    pub async fn endpoints(&self) -> Observed {
        match self.call(Method::GET, "/endpoints", None, LIST_BYTES).await {
            Ok(reply) => Observed::read(reply.answer()),
            Err(Stop(why)) => Observed::Unknown(why),
        }
    }

    /// What the PBX says of one endpoint at this moment.
    pub async fn line(&self, name: &Username) -> Result<Line, Stop> {
        let name = utf8_percent_encode(name.as_str(), PATH);
        let path = format!("/endpoints/PJSIP/{name}");
        let reply = self.call(Method::GET, &path, None, OBJECT_BYTES).await?;
        register::line(reply.answer()).ok_or_else(|| reply.unclear())
    }

    /// When the PBX's process started, in its own words; `None` if it does not say.
    pub(super) async fn started(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Info {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            startup_time: String,
        }
        let path = "/asterisk/info?only=status";
        let reply = self
            .call(Method::GET, path, None, OBJECT_BYTES)
            .await
            .ok()?;
        let answer = reply.answer();
        let info = (answer.status == 200 && answer.is_json()).then_some(answer.body)?;
        let info: Info = json::read(info).ok()?;
        Some(info.status.startup_time)
    }

    /// Calls for one object.
    pub(super) async fn object(
        &self,
        method: Method,
        class: Class,
        name: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, Stop> {
        let name = utf8_percent_encode(name, PATH);
        let path = format!("/asterisk/config/dynamic/res_pjsip/{}/{name}", class.word());
        self.call(method, &path, body, OBJECT_BYTES).await
    }

    /// Whether an object is there, and whose it is.
    pub(super) async fn presence(
        &self,
        class: Class,
        name: &str,
        account: &Id,
    ) -> Result<Presence, Stop> {
        let reply = self.object(Method::GET, class, name, None).await?;
        match register::presence(reply.answer(), name, account) {
            Presence::Unclear => Err(reply.unclear()),
            clear => Ok(clear),
        }
    }
}
