//! **Step 4, the BootFile.** A phone, put together from its records, as the templates see it: model,
//! user type, first settings, and where ACC and BTN are.
//!
//! In: records. Out: a [`Phone`], of which each part is one template's text. [`Part::Boot`] and
//! [`Part::First`] are this step's; ACC and BTN are step 6's.
//!
//! [`Part::Boot`]: crate::step3_boot_request::Part::Boot
//! [`Part::First`]: crate::step3_boot_request::Part::First

use crate::mac::Mac;
use crate::record::device::Device;
use crate::record::settings::{
    Codec, Defaults, DialPlan, Dtmf, Forward, Ringtone, Setting, Settings, Transfer, Vlan,
};
use crate::secret::Secret;
use crate::step6_config_files::PhoneLine;
use crate::text::{Host, Language, RawKey, RawValue, WebUrl};
use crate::vendor::{LeftOut, Model, VendorId};
use crate::zone::Rule as ZoneRule;

/// A phone as its files describe it.
#[derive(Debug, Clone)]
pub struct Phone<'a> {
    /// Its MAC.
    pub mac: Mac,
    /// Its record.
    pub device: &'a Device,
    /// Its model.
    pub model: &'static Model,
    /// Its settings, with every level below it counted in.
    pub settings: Effective,
    /// Those of them that somebody set.
    pub given: Vec<Setting>,
    /// Those that its files leave out, since they cannot carry them.
    pub left_out: Vec<LeftOut>,
    /// Its lines, in order of their numbers.
    pub lines: Vec<PhoneLine<'a>>,
    /// Where its files are: `{origin}/p/{token}/`.
    pub base: &'a str,
    /// [`FileSet::version`] of its files, for phones that compare it with the one that they have.
    ///
    /// [`FileSet::version`]: crate::record::device::FileSet::version
    pub version: u64,
}

/// Settings: a value for each that a phone must be told, and the others where somebody set them. What
/// nobody set is left to the phone.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The rule of the time zone.
    pub zone: ZoneRule,
    /// The language of the menus.
    pub language: Language,
    /// Where the phone asks for the time.
    pub ntp_server: Host,
    /// Whether the clock shows 24 hours.
    pub clock_24h: bool,
    /// Audio codecs, the preferred one first.
    pub codecs: Vec<Codec>,
    /// How digits go out during a call.
    pub dtmf: Dtmf,
    /// Minutes between two polls of this phone, its share of the spread counted in.
    pub resync_minutes: u32,
    /// The most that the spread adds; 0: none.
    pub resync_spread_minutes: u32,
    /// What a transfer key does.
    pub transfer: Transfer,
    /// Whether a second call rings through.
    pub call_waiting: bool,
    /// The password of the phone's administrator.
    pub admin_password: Option<Secret>,
    /// The password of its user.
    pub user_password: Option<Secret>,
    /// Its VLANs.
    pub vlan: Option<Vlan>,
    /// Whether it learns its VLAN by LLDP-MED.
    pub lldp: Option<bool>,
    /// A built-in ring tone, 1 to 5.
    pub ringtone: Option<u8>,
    /// A picture behind the display.
    pub wallpaper: Option<WebUrl>,
    /// Numbers that are dialled at once.
    pub dial_plan: Option<DialPlan>,
    /// Where it forwards calls to.
    pub forward: Option<Forward>,
    /// Whether it refuses calls.
    pub dnd: Option<bool>,
    /// Whether it answers by itself.
    pub auto_answer: Option<bool>,
    /// The firmware that it is to run.
    pub firmware_url: Option<WebUrl>,
    /// Where its log goes.
    pub syslog_server: Option<Host>,
    /// Whether its web page is there.
    pub web_ui: Option<bool>,
    /// Parameters in its vendor's own words.
    pub raw: Vec<(RawKey, RawValue)>,
}

impl Effective {
    /// Fills in the defaults, the lowest level. The passwords come from where they are sealed.
    #[must_use]
    pub fn new(settings: Settings, vendor: VendorId) -> Self {
        let default = Defaults::default();
        let timezone = settings.timezone.unwrap_or(default.timezone);
        let codecs = settings.codecs.unwrap_or(default.codecs);
        let resync_minutes = settings.resync_minutes.unwrap_or(default.resync_minutes);
        let resync_spread_minutes = settings
            .resync_spread_minutes
            .unwrap_or(default.resync_spread_minutes);
        Self {
            // A zone that the database has lost since is UTC.
            zone: crate::zone::rule(timezone.as_str()).unwrap_or(ZoneRule {
                offset_minutes: 0,
                summer: None,
            }),
            language: settings.language.unwrap_or(default.language),
            ntp_server: settings.ntp_server.unwrap_or(default.ntp_server),
            clock_24h: settings.clock_24h.unwrap_or(default.clock_24h),
            codecs: codecs.as_slice().to_vec(),
            dtmf: settings.dtmf.unwrap_or(default.dtmf),
            resync_minutes: resync_minutes.get(),
            resync_spread_minutes: resync_spread_minutes.get(),
            transfer: settings.transfer.unwrap_or(default.transfer),
            call_waiting: settings.call_waiting.unwrap_or(default.call_waiting),
            admin_password: None,
            user_password: None,
            vlan: settings.vlan,
            lldp: settings.lldp,
            ringtone: settings.ringtone.map(Ringtone::get),
            wallpaper: settings.wallpaper,
            dial_plan: settings.dial_plan,
            forward: settings.forward,
            dnd: settings.dnd,
            auto_answer: settings.auto_answer,
            firmware_url: settings.firmware_url,
            syslog_server: settings.syslog_server,
            web_ui: settings.web_ui,
            raw: settings.raw.get(&vendor).map_or_else(Vec::new, |keys| {
                keys.iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            }),
        }
    }
}
