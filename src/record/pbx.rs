//! A PBX: an Asterisk with its HTTP API, and how phones reach it by SIP.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::Record;
use super::settings::{Codec, Codecs, ExpiresSeconds};
use crate::gather::in_order;
use crate::key::Kind;
use crate::secret::Secret;
use crate::text::{HeaderName, Host, Id, PbxWord, Username, WebUrl};

/// Whether Dialtone changes the PBX.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reads who is registered, changes nothing.
    #[default]
    Observe,
    /// Creates, mends and deletes the PJSIP objects of our accounts.
    Push,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Observe, Self::Push];

    /// Its name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Push => "push",
        }
    }
}

/// What carries SIP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// The value of a SIP URI's `transport` parameter (RFC 3261, 19.1.1).
    #[must_use]
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// The port if none is given (RFC 3261, 19.1.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

/// Whether speech is encrypted with keys from SDP (RFC 4568).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Srtp {
    /// Never.
    #[default]
    Off,
    /// If the other side does too.
    Optional,
    /// Always.
    Required,
}

/// How phones reach the PBX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sip {
    /// The registrar.
    pub host: Host,
    /// Its port; absent: the transport's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// What carries SIP. Default `udp`.
    #[serde(default)]
    pub transport: Transport,
    /// Whether speech is encrypted. Default `off`.
    #[serde(default)]
    pub srtp: Srtp,
    /// A second registrar for when the first is down, on the same port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_host: Option<Host>,
    /// Where phones send everything to instead (RFC 3261, 8.1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_proxy: Option<Host>,
    /// Its port; absent: the transport's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_proxy_port: Option<NonZeroU16>,
    /// Seconds after which a registration ends. Default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<ExpiresSeconds>,
}

impl Sip {
    /// The registrar's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
            .map_or(self.transport.default_port(), NonZeroU16::get)
    }

    /// The outbound proxy with its port.
    #[must_use]
    pub fn outbound_proxy(&self) -> Option<(&Host, u16)> {
        let port = self
            .outbound_proxy_port
            .map_or(self.transport.default_port(), NonZeroU16::get);
        self.outbound_proxy.as_ref().map(|host| (host, port))
    }

    /// Seconds after which a registration ends.
    #[must_use]
    pub fn expires_s(&self) -> u16 {
        self.expires_s
            .map_or(ExpiresSeconds::DEFAULT, ExpiresSeconds::get)
    }
}

/// Asterisk's manager interface over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ami {
    /// The address above `/rawman`.
    pub url: WebUrl,
    /// The manager user.
    pub username: Username,
    /// Its password. Written, never read back.
    #[serde(default, skip_serializing)]
    pub password: Option<Secret>,
}

/// An Asterisk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pbx {
    /// The tenant that owns it.
    pub tenant: Id,
    /// The address of ARI, such as `https://pbx.example.com/ari`.
    pub ari_url: WebUrl,
    /// The ARI user (`ari.conf`).
    pub ari_username: Username,
    /// Its password. Written, never read back.
    #[serde(default, skip_serializing)]
    pub ari_password: Option<Secret>,
    /// Whether Dialtone changes the PBX. Default `observe`.
    #[serde(default)]
    pub mode: Mode,
    /// How phones reach it.
    pub sip: Sip,
    /// The dialplan context of its endpoints. Default `default`.
    #[serde(default = "PbxWord::default_context")]
    pub context: PbxWord,
    /// The realm of its digest challenges. Default `asterisk`, as of Asterisk itself.
    #[serde(default = "PbxWord::asterisk")]
    pub realm: PbxWord,
    /// The codecs that its endpoints take, the preferred one first. Default `g722, pcma, pcmu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Codecs>,
    /// The manager interface, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami: Option<Ami>,
    /// Headers for every call to ARI, such as Cloudflare Access's service token. Written, never
    /// read back; a patch that names any replaces them all.
    #[serde(default, skip_serializing)]
    pub headers: Option<Headers>,
}

impl Pbx {
    /// The codecs that its endpoints take, the preferred one first; never none.
    #[must_use]
    pub fn codecs(&self) -> &[Codec] {
        self.codecs
            .as_ref()
            .map_or(&Codec::DEFAULT, Codecs::as_slice)
    }
}

/// Up to eight headers, each a valid HTTP name with a visible value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "BTreeMap<HeaderName, Secret>")]
pub struct Headers(BTreeMap<HeaderName, Secret>);

/// The most headers that a PBX has.
const MOST_HEADERS: usize = 8;

schema!(Headers, "Headers by name, each a valid HTTP name with a visible value.", {
    "type": "object",
    "propertyNames": { "pattern": HeaderName::PATTERN, "maxLength": HeaderName::LONGEST },
    "additionalProperties": { "type": "string", "pattern": "^[ -~]+$", "maxLength": 128 },
    "maxProperties": MOST_HEADERS,
});

impl Headers {
    /// The headers as one text, to be sealed: a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let headers = self.0.iter();
        let plain: BTreeMap<&str, &str> =
            in_order(headers.map(|(name, value)| (name.as_str(), value.reveal())));
        // Strings to strings: there is nothing that could fail.
        serde_json::to_string(&plain).unwrap_or_default()
    }
}

impl TryFrom<BTreeMap<HeaderName, Secret>> for Headers {
    type Error = &'static str;

    fn try_from(headers: BTreeMap<HeaderName, Secret>) -> Result<Self, Self::Error> {
        if headers.len() > MOST_HEADERS {
            return Err("must be at most 8 headers");
        }
        for value in headers.values() {
            http::HeaderValue::from_str(value.reveal())
                .map_err(|_| "has a value that no HTTP header can hold")?;
        }
        Ok(Self(headers))
    }
}

impl Record for Pbx {
    type State = ();
    const KIND: Kind = Kind::Pbx;

    fn tenant(&self) -> Option<&Id> {
        Some(&self.tenant)
    }

    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        let mut secrets = vec![("ari_password", self.ari_password.take())];
        if let Some(ami) = &mut self.ami {
            secrets.push(("ami_password", ami.password.take()));
        }
        let headers = self.headers.take();
        secrets.push(("headers", headers.map(|h| Secret::opaque(h.to_json()))));
        secrets
    }
}
