//! A profile: settings that devices share; and the settings themselves, which a tenant, a profile
//! and a device can each carry.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::key::Kind;
use crate::text::{DisplayName, Host, Id, Language, ZoneName};

/// Settings of a phone. What is absent comes from the level below: device, profile, tenant,
/// defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The time zone of the clock. Default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<ZoneName>,
    /// The language of the menus. Default `en`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Where the phone asks for the time. Default `pool.ntp.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ntp_server: Option<Host>,
    /// Whether the clock shows 24 hours. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_24h: Option<bool>,
    /// Audio codecs, the preferred one first. Default `g722, pcma, pcmu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Codecs>,
    /// Minutes after which the phone asks for its files by itself, 5 to 43,200. Default 1,440.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_minutes: Option<ResyncMinutes>,
    /// What the transfer key does during a call. Default `attended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// Whether a second call rings through. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_waiting: Option<bool>,
}

/// Audio codecs by RTP name (RFC 3551 and successors).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// G.722, wide band.
    G722,
    /// G.711 A-law.
    Pcma,
    /// G.711 µ-law.
    Pcmu,
    /// G.729.
    G729,
    /// Opus.
    Opus,
}

impl Codec {
    /// Every codec there is, for files that must switch the others off.
    pub const ALL: [Self; 5] = [Self::G722, Self::Pcma, Self::Pcmu, Self::G729, Self::Opus];
}

/// Codecs in order, each once, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Codec>", into = "Vec<Codec>")]
pub struct Codecs(Vec<Codec>);

impl Codecs {
    /// The codecs, the preferred one first.
    #[must_use]
    pub fn as_slice(&self) -> &[Codec] {
        &self.0
    }
}

impl TryFrom<Vec<Codec>> for Codecs {
    type Error = &'static str;

    fn try_from(codecs: Vec<Codec>) -> Result<Self, Self::Error> {
        if codecs.is_empty() {
            return Err("must name at least one codec");
        }
        let twice = codecs
            .iter()
            .enumerate()
            .any(|(n, codec)| codecs.iter().take(n).any(|former| former == codec));
        if twice {
            return Err("must not name a codec twice");
        }
        Ok(Self(codecs))
    }
}

impl From<Codecs> for Vec<Codec> {
    fn from(codecs: Codecs) -> Self {
        codecs.0
    }
}

/// Minutes between two polls: 5 to 43,200 (30 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ResyncMinutes(u32);

impl ResyncMinutes {
    /// The number of minutes.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ResyncMinutes {
    type Error = &'static str;

    fn try_from(minutes: u32) -> Result<Self, Self::Error> {
        // 43,200 is the most that a Yealink takes (auto provisioning guide, repeat.minutes).
        if (5..=43_200).contains(&minutes) {
            Ok(Self(minutes))
        } else {
            Err("must be between 5 and 43200 minutes")
        }
    }
}

impl From<ResyncMinutes> for u32 {
    fn from(minutes: ResyncMinutes) -> Self {
        minutes.0
    }
}

/// What pressing a transfer key, or a line key during a call, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// Speak first, then hand over.
    Attended,
    /// Hand over at once.
    Blind,
    /// Start a new call.
    NewCall,
}

impl Settings {
    /// These settings, and where they have none those of the level below.
    #[must_use]
    pub fn or(self, below: &Self) -> Self {
        let below = below.clone();
        Self {
            timezone: self.timezone.or(below.timezone),
            language: self.language.or(below.language),
            ntp_server: self.ntp_server.or(below.ntp_server),
            clock_24h: self.clock_24h.or(below.clock_24h),
            codecs: self.codecs.or(below.codecs),
            resync_minutes: self.resync_minutes.or(below.resync_minutes),
            transfer: self.transfer.or(below.transfer),
            call_waiting: self.call_waiting.or(below.call_waiting),
        }
    }
}

/// Settings with a name, shared by the devices that refer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The tenant that owns it.
    pub tenant: Id,
    /// How people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DisplayName>,
    /// The settings.
    #[serde(default)]
    pub settings: Settings,
}

impl Record for Profile {
    type State = ();
    const KIND: Kind = Kind::Profile;

    fn tenant(&self) -> Option<&Id> {
        Some(&self.tenant)
    }
}
