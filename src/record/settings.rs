//! The settings of a phone, which a tenant, a profile, a model, a site and a device can each carry
//! ([`crate::levels`]).
//!
//! Each is named once in the list at the end of [`Settings`]'s `settings!`, from which come the
//! field, the rule that a level above wins, and the [`Setting`] by which a vendor says what its
//! phones lack.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, secret_or_empty};
use crate::text::{Dial, DialPattern, Host, Language, RawKey, RawValue, WebUrl, ZoneName};
use crate::vendor::VendorId;

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $variant:ident($type:ty),)*) => {
        /// Settings of a phone. What is absent comes from the level below: device, site, model, profile,
        /// tenant, defaults.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[$doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
            /// The password of the phone's own administrator. Written, never read back; an empty one
            /// takes away the one that is stored.
            #[serde(default, skip_serializing, deserialize_with = "secret_or_empty")]
            #[cfg_attr(
                not(target_arch = "wasm32"),
                schemars(with = "Option<crate::secret::SecretOrEmpty>")
            )]
            pub admin_password: Option<Secret>,
            /// The password of the phone's user, likewise.
            #[serde(default, skip_serializing, deserialize_with = "secret_or_empty")]
            #[cfg_attr(
                not(target_arch = "wasm32"),
                schemars(with = "Option<crate::secret::SecretOrEmpty>")
            )]
            pub user_password: Option<Secret>,
            /// Parameters in a vendor's own words, by vendor and name, for what stands nowhere else
            /// here. The phones of other vendors do not get them.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            #[cfg_attr(
                not(target_arch = "wasm32"),
                schemars(extend("propertyNames" = { "$ref": "#/components/schemas/VendorId" }))
            )]
            pub raw: BTreeMap<VendorId, RawKeys>,
        }

        /// A setting by its name, for what a vendor's phones lack and what a level locks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Setting {
            $($(#[$doc])* $variant,)*
            /// The password of the phone's own administrator.
            AdminPassword,
            /// The password of the phone's user.
            UserPassword,
            /// All parameters in vendors' own words.
            Raw,
        }

        impl Setting {
            /// Every setting that has one meaning for all vendors: all but [`Setting::Raw`].
            pub const ALL: &[Self] = &[$(Self::$variant,)* Self::AdminPassword, Self::UserPassword];

            /// Its name in a record.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($field),)*
                    Self::AdminPassword => ADMIN_PASSWORD,
                    Self::UserPassword => USER_PASSWORD,
                    Self::Raw => "raw",
                }
            }

            /// The setting of a name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                let all = Self::ALL.iter().copied().chain([Self::Raw]);
                all.into_iter().find(|setting| setting.name() == name)
            }
        }

        impl Settings {
            /// These settings, and where they have none those of the level below. Secrets are sealed
            /// beside the record and not in here.
            #[must_use]
            pub fn or(self, below: &Self) -> Self {
                let below = below.clone();
                let mut raw = below.raw;
                for (vendor, keys) in self.raw {
                    raw.entry(vendor).or_default().0.extend(keys.0);
                }
                Self {
                    $($field: self.$field.or(below.$field),)*
                    admin_password: None,
                    user_password: None,
                    raw,
                }
            }

            /// The settings that have a value here, but for the passwords.
            #[must_use]
            pub fn given(&self) -> Vec<Setting> {
                let mut given = Vec::new();
                $(if self.$field.is_some() {
                    given.push(Setting::$variant);
                })*
                given
            }

            /// Takes a setting out. The passwords are sealed beside the record and not in here.
            pub fn take_out(&mut self, setting: Setting) {
                match setting {
                    $(Setting::$variant => self.$field = None,)*
                    Setting::AdminPassword => self.admin_password = None,
                    Setting::UserPassword => self.user_password = None,
                    Setting::Raw => self.raw.clear(),
                }
            }
        }
    };
}

settings! {
    /// The time zone of the clock. Default `UTC`.
    timezone: Timezone(ZoneName),
    /// The language of the menus. Default `en`.
    language: Language(Language),
    /// Where the phone asks for the time. Default `pool.ntp.org`.
    ntp_server: NtpServer(Host),
    /// Whether the clock shows 24 hours. Default true.
    clock_24h: Clock24h(bool),
    /// Audio codecs, the preferred one first. Default `g722, pcma, pcmu`.
    codecs: Codecs(Codecs),
    /// How the phone sends the digits that are dialled in a call. Default `rfc2833`.
    dtmf: Dtmf(Dtmf),
    /// Minutes after which the phone asks for its files by itself, 5 to 43,200. Default 1,440.
    resync_minutes: ResyncMinutes(ResyncMinutes),
    /// Minutes by which phones spread their asking, so that a fleet does not come all at once; 0 to
    /// 1,440.
    resync_spread_minutes: ResyncSpreadMinutes(ResyncSpreadMinutes),
    /// What the transfer key does during a call. Default `attended`.
    transfer: Transfer(Transfer),
    /// Whether a second call rings through. Default true.
    call_waiting: CallWaiting(bool),
    /// The VLAN of the phone, and of the computer behind it.
    vlan: Vlan(Vlan),
    /// Whether the phone learns its VLAN by LLDP-MED (ANSI/TIA-1057).
    lldp: Lldp(bool),
    /// Which of its built-in ring tones the phone plays, 1 to 5.
    ringtone: Ringtone(Ringtone),
    /// A picture behind the display, which the phone fetches; its size is the model's own.
    wallpaper: Wallpaper(WebUrl),
    /// Numbers that are dialled as soon as they are complete.
    dial_plan: DialPlan(DialPlan),
    /// Where the phone itself forwards calls to. What is absent in it is off.
    forward: Forward(Forward),
    /// Whether the phone refuses calls.
    dnd: Dnd(bool),
    /// Whether the phone answers calls by itself.
    auto_answer: AutoAnswer(bool),
    /// The firmware that the phone is to run: a file, or a directory where its vendor's phones know
    /// the names of their files themselves.
    firmware_url: FirmwareUrl(WebUrl),
    /// Where the phone sends its log (RFC 5424, UDP port 514).
    syslog_server: SyslogServer(Host),
    /// Whether the phone's own web page is there.
    web_ui: WebUi(bool),
}

schema!(Setting, "A setting by its name in a record.", {
    "type": "string",
    "enum": Setting::ALL.iter().chain(&[Setting::Raw]).map(|setting| setting.name()).collect::<Vec<_>>(),
});

impl Serialize for Setting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom("is not the name of a setting"))
    }
}

/// The settings that no level above may change, by their names.
pub type Locked = BTreeSet<Setting>;

/// The lowest level: what a phone is told where nobody says anything. What stands not here is left to the
/// phone then.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// [`Settings::timezone`].
    pub timezone: ZoneName,
    /// [`Settings::language`].
    pub language: Language,
    /// [`Settings::ntp_server`].
    pub ntp_server: Host,
    /// [`Settings::clock_24h`].
    pub clock_24h: bool,
    /// [`Settings::codecs`].
    pub codecs: Codecs,
    /// [`Settings::dtmf`].
    pub dtmf: Dtmf,
    /// [`Settings::resync_minutes`].
    pub resync_minutes: ResyncMinutes,
    /// [`Settings::resync_spread_minutes`].
    pub resync_spread_minutes: ResyncSpreadMinutes,
    /// [`Settings::transfer`].
    pub transfer: Transfer,
    /// [`Settings::call_waiting`].
    pub call_waiting: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            timezone: ZoneName::utc(),
            language: Language::english(),
            ntp_server: Host::ntp_pool(),
            clock_24h: true,
            codecs: Codecs(Codec::DEFAULT.to_vec()),
            dtmf: Dtmf::default(),
            resync_minutes: ResyncMinutes(1_440),
            resync_spread_minutes: ResyncSpreadMinutes(0),
            transfer: Transfer::Attended,
            call_waiting: true,
        }
    }
}

impl From<Defaults> for Settings {
    fn from(defaults: Defaults) -> Self {
        Self {
            timezone: Some(defaults.timezone),
            language: Some(defaults.language),
            ntp_server: Some(defaults.ntp_server),
            clock_24h: Some(defaults.clock_24h),
            codecs: Some(defaults.codecs),
            dtmf: Some(defaults.dtmf),
            resync_minutes: Some(defaults.resync_minutes),
            resync_spread_minutes: Some(defaults.resync_spread_minutes),
            transfer: Some(defaults.transfer),
            call_waiting: Some(defaults.call_waiting),
            ..Self::default()
        }
    }
}

/// The name under which [`Settings::admin_password`] is sealed.
pub const ADMIN_PASSWORD: &str = "admin_password";
/// The name under which [`Settings::user_password`] is sealed.
pub const USER_PASSWORD: &str = "user_password";

impl Settings {
    /// Takes the passwords out, by the names under which they are sealed.
    pub fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        vec![
            (ADMIN_PASSWORD, self.admin_password.take()),
            (USER_PASSWORD, self.user_password.take()),
        ]
    }
}

/// Up to 200 parameters in a vendor's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<RawKey, RawValue>",
    into = "BTreeMap<RawKey, RawValue>"
)]
pub struct RawKeys(BTreeMap<RawKey, RawValue>);

/// The most parameters that stand under one vendor.
const MOST_RAW: usize = 200;

schema!(RawKeys, "Parameters in a vendor's own words, by name.", {
    "type": "object",
    "propertyNames": { "pattern": RawKey::PATTERN, "maxLength": RawKey::LONGEST },
    "additionalProperties": {
        "type": "string",
        "pattern": RawValue::PATTERN,
        "maxLength": RawValue::LONGEST,
    },
    "maxProperties": MOST_RAW,
});

impl RawKeys {
    /// The parameters, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&RawKey, &RawValue)> {
        self.0.iter()
    }
}

impl TryFrom<BTreeMap<RawKey, RawValue>> for RawKeys {
    type Error = &'static str;

    fn try_from(keys: BTreeMap<RawKey, RawValue>) -> Result<Self, Self::Error> {
        if keys.len() <= MOST_RAW {
            Ok(Self(keys))
        } else {
            Err("must be at most 200 parameters")
        }
    }
}

impl From<RawKeys> for BTreeMap<RawKey, RawValue> {
    fn from(keys: RawKeys) -> Self {
        keys.0
    }
}

/// Audio codecs by RTP name (RFC 3551 and successors).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
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

    /// What phones and PBXes take if nobody says otherwise, the preferred one first: wide band, then
    /// G.711 for everybody.
    pub const DEFAULT: [Self; 3] = [Self::G722, Self::Pcma, Self::Pcmu];
}

/// Codecs in order, each once, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Codec>", into = "Vec<Codec>")]
pub struct Codecs(Vec<Codec>);

schema!(Codecs, "Codecs in order, each once, at least one.", {
    "type": "array",
    "items": { "type": "string", "enum": Codec::ALL },
    "minItems": 1,
    "uniqueItems": true,
});

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

/// How digits go out during a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dtmf {
    /// As events beside the audio (RFC 4733, once RFC 2833).
    #[default]
    Rfc2833,
    /// As SIP INFO (RFC 6086).
    Info,
    /// As tones in the audio.
    Inband,
}

macro_rules! bounded {
    ($(#[doc = $doc:literal])* $name:ident($int:ty), $range:expr, $says:literal) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name($int);

        impl $name {
            /// The number.
            #[must_use]
            pub fn get(self) -> $int {
                self.0
            }
        }

        schema!($name, concat!($($doc, "\n"),*), {
            "type": "integer",
            "minimum": $range.start(),
            "maximum": $range.end(),
        });

        impl TryFrom<u32> for $name {
            type Error = &'static str;

            fn try_from(number: u32) -> Result<Self, Self::Error> {
                match <$int>::try_from(number) {
                    Ok(small) if $range.contains(&number) => Ok(Self(small)),
                    _ => Err($says),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> Self {
                number.0.into()
            }
        }
    };
}

bounded! {
    /// Minutes between two polls: 5 to 43,200 (30 days), the most that a Yealink takes (auto
    /// provisioning guide, `repeat.minutes`).
    ResyncMinutes(u32), (5..=43_200), "must be between 5 and 43200 minutes"
}

bounded! {
    /// Minutes over which polls are spread: up to a day.
    ResyncSpreadMinutes(u32), (0..=1_440), "must be at most 1440 minutes"
}

bounded! {
    /// A built-in ring tone: every vendor has five.
    Ringtone(u8), (1..=5), "must be between 1 and 5"
}

bounded! {
    /// A VLAN (IEEE 802.1Q): 0 and 4,095 are none.
    VlanId(u16), (1..=4_094), "must be between 1 and 4094"
}

bounded! {
    /// A priority of frames (IEEE 802.1p).
    Priority(u8), (0..=7), "must be between 0 and 7"
}

bounded! {
    /// Seconds that a call rings before it is forwarded.
    RingSeconds(u8), (5..=120), "must be between 5 and 120 seconds"
}

/// The VLANs of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// The phone's own.
    pub id: VlanId,
    /// The priority of its frames. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// That of the computer behind it. Default: untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pc_id: Option<VlanId>,
}

impl Vlan {
    /// The priority of the phone's frames.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority.map_or(0, Priority::get)
    }
}

/// Where a phone forwards calls to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Every call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<Dial>,
    /// Calls while it is in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Dial>,
    /// Calls that nobody takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<Dial>,
    /// After how many seconds, 5 to 120. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer_s: Option<RingSeconds>,
}

impl Forward {
    /// Seconds that a call rings before `no_answer` takes it.
    #[must_use]
    pub fn ring_s(&self) -> u8 {
        self.no_answer_s.map_or(20, RingSeconds::get)
    }
}

/// Up to 20 patterns of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<DialPattern>", into = "Vec<DialPattern>")]
pub struct DialPlan(Vec<DialPattern>);

/// How many patterns a dial plan has.
const PATTERNS: std::ops::RangeInclusive<usize> = 1..=20;

schema!(DialPlan, "Patterns of numbers.", {
    "type": "array",
    "items": {
        "type": "string",
        "pattern": DialPattern::PATTERN,
        "maxLength": DialPattern::LONGEST,
    },
    "minItems": PATTERNS.start(),
    "maxItems": PATTERNS.end(),
});

impl DialPlan {
    /// The patterns.
    #[must_use]
    pub fn as_slice(&self) -> &[DialPattern] {
        &self.0
    }
}

impl TryFrom<Vec<DialPattern>> for DialPlan {
    type Error = &'static str;

    fn try_from(patterns: Vec<DialPattern>) -> Result<Self, Self::Error> {
        if PATTERNS.contains(&patterns.len()) {
            Ok(Self(patterns))
        } else {
            Err("must have 1 to 20 patterns")
        }
    }
}

impl From<DialPlan> for Vec<DialPattern> {
    fn from(plan: DialPlan) -> Self {
        plan.0
    }
}

/// What pressing a transfer key, or a line key during a call, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// Speak first, then hand over.
    Attended,
    /// Hand over at once.
    Blind,
    /// Start a new call.
    NewCall,
}

/// Seconds after which a registration ends, 60 to 7,200 and whole minutes, since Grandstream and
/// Htek phones count those (Asterisk takes no more than `maximum_expiration`, 7,200 by default).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ExpiresSeconds(NonZeroU16);

impl ExpiresSeconds {
    /// A phone that lost its power is seen to be gone after this long.
    pub const DEFAULT: u16 = 600;

    /// The number of seconds.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

schema!(ExpiresSeconds, "Seconds after which a registration ends, in whole minutes.", {
    "type": "integer",
    "minimum": 60,
    "maximum": LONGEST_REGISTRATION_S,
    "multipleOf": 60,
});

/// The longest registration that Asterisk takes by default, in seconds.
const LONGEST_REGISTRATION_S: u16 = 7_200;

impl TryFrom<u16> for ExpiresSeconds {
    type Error = &'static str;

    fn try_from(seconds: u16) -> Result<Self, Self::Error> {
        match NonZeroU16::new(seconds) {
            Some(seconds)
                if seconds.get() <= LONGEST_REGISTRATION_S && seconds.get().is_multiple_of(60) =>
            {
                Ok(Self(seconds))
            }
            _ => Err("must be 60 to 7200 seconds, in whole minutes"),
        }
    }
}

impl From<ExpiresSeconds> for u16 {
    fn from(seconds: ExpiresSeconds) -> Self {
        seconds.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_level_above_wins_setting_by_setting() {
        let above = settings(serde_json::json!({
            "language": "de", "raw": { "yealink": { "a.b": "1", "c.d": "2" } },
        }));
        let below = settings(serde_json::json!({
            "language": "fr", "dnd": true,
            "raw": { "yealink": { "a.b": "3", "e.f": "4" }, "linphone": { "x": "y" } },
        }));
        let both = above.or(&below);
        assert_eq!(both.given(), [Setting::Language, Setting::Dnd]);
        assert_eq!(
            serde_json::to_value(&both).unwrap(),
            serde_json::json!({
                "language": "de", "dnd": true,
                "raw": { "yealink": { "a.b": "1", "c.d": "2", "e.f": "4" }, "linphone": { "x": "y" } },
            })
        );
    }

    #[test]
    fn a_setting_is_taken_out_by_its_name_and_no_other_with_it() {
        let all = settings(serde_json::json!({
            "language": "de", "dnd": true, "raw": { "yealink": { "a.b": "1" } },
        }));
        for (setting, left) in [
            (
                Setting::Dnd,
                serde_json::json!({ "language": "de", "raw": { "yealink": { "a.b": "1" } } }),
            ),
            (
                Setting::Raw,
                serde_json::json!({ "language": "de", "dnd": true }),
            ),
        ] {
            let mut rest = all.clone();
            rest.take_out(setting);
            assert_eq!(serde_json::to_value(&rest).unwrap(), left);
            let name = serde_json::to_value(setting).unwrap();
            assert_eq!(serde_json::from_value::<Setting>(name).unwrap(), setting);
        }
        assert!(serde_json::from_value::<Setting>("forward.busy".into()).is_err());
    }

    #[test]
    fn a_number_out_of_its_bounds_is_refused() {
        for wrong in [
            serde_json::json!({ "resync_minutes": 4 }),
            serde_json::json!({ "ringtone": 6 }),
            serde_json::json!({ "ringtone": 257 }),
            serde_json::json!({ "vlan": { "id": 4095 } }),
            serde_json::json!({ "vlan": { "id": 1, "priority": 8 } }),
            serde_json::json!({ "dial_plan": [] }),
            serde_json::json!({ "forward": { "no_answer_s": 4 } }),
        ] {
            assert!(
                serde_json::from_value::<Settings>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
        for (seconds, fine) in [
            (60, true),
            (7_200, true),
            (90, false),
            (0, false),
            (7_260, false),
        ] {
            assert_eq!(ExpiresSeconds::try_from(seconds).is_ok(), fine, "{seconds}");
        }
    }
}
