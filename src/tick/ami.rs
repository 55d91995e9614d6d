//! A session with a PBX's AMI over HTTP: one login for a run or a request, within the times and sizes
//! of [`super::ari`]. What is sent and what the answers mean stands in [`crate::ami`].
//!
//! A session by cookie and not HTTP Digest (`/arawman`): digest takes a challenge before each call,
//! or a count of the calls under one, and signs the path, which a proxy before Asterisk may change.

use std::cell::Cell;

use http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::ari::{self, Stop};
use crate::ami::{self, Action, Failure};
use crate::fault::Fault;
use crate::ports::{Outbound, World};
use crate::record::Stored;
use crate::record::pbx::Pbx;
use crate::secret::Secret;
use crate::text::{Id, Username};
use crate::time::Timestamp;

/// After how many idle seconds a session is not used again. Asterisk ends it after 60 of them
/// (`httptimeout` of `manager.conf`).
const IDLE_S: u64 = 30;

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self(failure.text())
    }
}

/// A PBX's AMI.
pub(crate) struct Ami<'a, W: World> {
    world: &'a W,
    calls: &'a Cell<u32>,
    url: String,
    headers: HeaderMap,
    username: Username,
    password: Secret,
    /// The session's cookie, and when it was last good.
    session: Option<(HeaderValue, Timestamp)>,
}

impl<'a, W: World> Ami<'a, W> {
    /// `None` if the PBX has no AMI.
    pub fn new(
        world: &'a W,
        calls: &'a Cell<u32>,
        id: &Id,
        stored: &Stored<Pbx>,
    ) -> Result<Option<Self>, Fault> {
        const NO_PASSWORD: Fault = Fault::Broken("no ami_password");
        let Some(record) = &stored.record.ami else {
            return Ok(None);
        };
        let password = ari::open(world, id, stored, "ami_password")?.ok_or(NO_PASSWORD)?;
        let password = String::from_utf8(password).map_err(|_| NO_PASSWORD)?;
        // They are secrets of whatever stands before ARI: nobody else gets them.
        let headers = if origin(record.url.as_str()) == origin(stored.record.ari_url.as_str()) {
            ari::headers(world, id, stored)?
        } else {
            HeaderMap::new()
        };
        Ok(Some(Self {
            world,
            calls,
            url: format!("{}/rawman", ari::base(&record.url)),
            headers,
            username: record.username.clone(),
            password: Secret::opaque(password),
            session: None,
        }))
    }

    async fn call(
        &self,
        action: &Action,
        cookie: Option<HeaderValue>,
        most: usize,
    ) -> Result<http::Response<Vec<u8>>, Stop> {
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .body(action.body().as_bytes().to_vec())
            .map_err(|_| Stop("ami url".to_owned()))?;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        if let Some(cookie) = cookie {
            headers.insert(COOKIE, cookie);
        }
        self.calls.set(self.calls.get().saturating_sub(1));
        let answer = self.world.net().send(request, ari::TIMEOUT_MS, most);
        Ok(answer.await?)
    }

    /// The cookie of a session that is good.
    async fn session(&mut self) -> Result<HeaderValue, Stop> {
        let now = self.world.now();
        if let Some((cookie, used)) = &mut self.session
            && now.since(*used) < IDLE_S
        {
            *used = now;
            return Ok(cookie.clone());
        }
        let login = Action::login(&self.username, &self.password).ok_or(Failure::Login)?;
        let answer = self.call(&login, None, ari::OBJECT_BYTES).await?;
        ami::done(answer.status().as_u16(), answer.body())?;
        let set = answer.headers().get_all(SET_COOKIE).iter();
        let mut cookies = set.filter_map(|value| ami::session(value.to_str().ok()?));
        let cookie = cookies.next().ok_or(Failure::NotAmi)?;
        let mut cookie = HeaderValue::try_from(cookie).map_err(|_| Failure::NotAmi)?;
        cookie.set_sensitive(true);
        self.session = Some((cookie.clone(), now));
        Ok(cookie)
    }

    /// Does an action: the status and the whole body of the answer.
    pub async fn act(&mut self, action: &Action, most: usize) -> Result<(u16, Vec<u8>), Stop> {
        let cookie = self.session().await?;
        let answer = self.call(action, Some(cookie), most).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<(String, String, Option<u16>)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or(match scheme.as_str() {
        "https" => Some(443),
        _ => Some(80),
    });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}
