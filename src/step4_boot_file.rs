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
use crate::record::profile::{Codec, Settings, Transfer};
use crate::step6_config_files::PhoneLine;
use crate::text::{Host, Language};
use crate::vendor::Model;
use crate::zone::Rule as ZoneRule;

/// A phone as its files describe it.
#[derive(Debug)]
pub struct Phone<'a> {
    /// Its MAC.
    pub mac: Mac,
    /// Its record.
    pub device: &'a Device,
    /// Its model.
    pub model: &'static Model,
    /// Its settings, with every level below it counted in.
    pub settings: Effective,
    /// Its lines, in order of their numbers.
    pub lines: Vec<PhoneLine<'a>>,
    /// Where its files are: `{origin}/p/{token}/`.
    pub base: &'a str,
}

/// Settings with a value for each.
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
    /// Minutes between two polls.
    pub resync_minutes: u32,
    /// What a transfer key does.
    pub transfer: Transfer,
    /// Whether a second call rings through.
    pub call_waiting: bool,
}

impl Effective {
    /// Fills in the defaults, the lowest level.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let zone = settings
            .timezone
            .as_ref()
            .and_then(|zone| crate::zone::rule(zone.as_str()));
        Self {
            zone: zone.unwrap_or(ZoneRule {
                offset_minutes: 0,
                summer: None,
            }),
            language: settings.language.unwrap_or_else(Language::english),
            ntp_server: settings.ntp_server.unwrap_or_else(Host::ntp_pool),
            clock_24h: settings.clock_24h.unwrap_or(true),
            codecs: settings.codecs.map_or_else(
                || vec![Codec::G722, Codec::Pcma, Codec::Pcmu],
                |codecs| codecs.as_slice().to_vec(),
            ),
            resync_minutes: settings
                .resync_minutes
                .map_or(1_440, |minutes| minutes.get()),
            transfer: settings.transfer.unwrap_or(Transfer::Attended),
            call_waiting: settings.call_waiting.unwrap_or(true),
        }
    }
}
