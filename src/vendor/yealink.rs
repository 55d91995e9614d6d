//! Yealink: `{mac}.boot` with includes from firmware 81 on, a common file and `{mac}.cfg` before.
//!
//! Sources: Yealink's Auto Provisioning Guide for V81 and later (boot files, includes, overwrite
//! mode), and the administrator guides of the T2, T4 and T5 series for the parameters. The models'
//! codes and key counts are those that the vendor's own common file names and data sheets show.

use askama::Template;

use super::{Document, Model, Objection, Redirect, Vendor, write};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Srtp, Transport};
use crate::record::profile::{Codec, Transfer};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::zone::Change;

/// The vendor.
pub struct Yealink;

const TEXT: &str = "text/plain; charset=utf-8";

const fn model(
    name: &'static str,
    lines: u8,
    keys: u16,
    (modules, module_keys): (u8, u16),
    code: u16,
) -> Model {
    Model {
        name,
        lines,
        keys,
        modules,
        module_keys,
        code: Some(code),
    }
}

/// No expansion module fits.
const NONE: (u8, u16) = (0, 0);
/// Up to six EXP40 or EXP20 with 20 keys on each of two pages.
const EXP40: (u8, u16) = (6, 40);
/// Up to three EXP50 or EXP43 with 20 keys on each of three pages.
const EXP50: (u8, u16) = (3, 60);

/// Lines and keys as the vendor's data sheets have them; codes as in `y0000000000NN.cfg`.
static MODELS: [Model; 50] = [
    model("CP920", 1, 0, NONE, 78),
    model("CP925", 1, 0, NONE, 148),
    model("CP960", 1, 0, NONE, 73),
    model("CP965", 1, 0, NONE, 143),
    model("T19P_E2", 1, 0, NONE, 53),
    model("T20P", 2, 2, NONE, 7),
    model("T21P_E2", 2, 2, NONE, 52),
    model("T22P", 3, 3, NONE, 5),
    model("T23G", 3, 3, NONE, 44),
    model("T23P", 3, 3, NONE, 44),
    model("T26P", 3, 3, EXP40, 4),
    model("T27G", 6, 21, EXP40, 69),
    model("T27P", 6, 21, EXP40, 45),
    model("T28P", 6, 6, EXP40, 0),
    model("T29G", 16, 27, EXP40, 46),
    model("T30P", 1, 0, NONE, 127),
    model("T31G", 2, 2, NONE, 123),
    model("T31P", 2, 2, NONE, 123),
    model("T31W", 2, 2, NONE, 172),
    model("T32G", 3, 3, NONE, 32),
    model("T33G", 4, 12, NONE, 124),
    model("T33P", 4, 12, NONE, 124),
    model("T38G", 6, 6, EXP40, 38),
    model("T40G", 3, 3, NONE, 76),
    model("T40P", 3, 3, NONE, 54),
    model("T41P", 6, 15, NONE, 36),
    model("T41S", 6, 15, NONE, 68),
    model("T42G", 12, 15, NONE, 29),
    model("T42S", 12, 15, NONE, 67),
    model("T42U", 12, 15, NONE, 116),
    model("T43U", 12, 21, EXP50, 107),
    model("T44W", 12, 24, EXP50, 174),
    model("T46G", 16, 27, EXP40, 28),
    model("T46S", 16, 27, EXP40, 66),
    model("T46U", 16, 27, EXP50, 108),
    model("T48G", 16, 29, EXP40, 35),
    model("T48S", 16, 29, EXP40, 65),
    model("T48U", 16, 29, EXP50, 109),
    model("T52S", 12, 21, EXP50, 74),
    model("T53", 12, 21, EXP50, 95),
    model("T53W", 12, 21, EXP50, 95),
    model("T54S", 16, 27, EXP50, 70),
    model("T54W", 16, 27, EXP50, 96),
    model("T57W", 16, 29, EXP50, 97),
    model("T58A", 16, 27, EXP50, 58),
    model("T58W", 16, 27, EXP50, 150),
    model("T73U", 12, 48, EXP50, 186),
    model("T74U", 16, 60, EXP50, 187),
    model("T77U", 16, 95, EXP50, 188),
    model("T85W", 16, 72, EXP50, 196),
];

/// The boot file: it may only include (Auto Provisioning Guide, "Boot File").
#[derive(Template)]
#[template(path = "yealink/boot.cfg")]
struct Boot<'a> {
    mac: Mac,
    model: &'a str,
    user_type: &'a str,
    includes: Vec<String>,
}

/// The first settings, which a boot file cannot hold itself.
#[derive(Template)]
#[template(path = "yealink/first.cfg")]
struct First<'a> {
    mac: Mac,
    model: &'a str,
    user_type: &'a str,
    server: Server<'a>,
    language: &'static str,
    clock: Clock<'a>,
    call_waiting: u8,
}

/// Where to provision from, and how often. The part that a redirect sets as well.
#[derive(Template)]
#[template(path = "yealink/_server.cfg")]
struct Server<'a> {
    url: &'a str,
    minutes: u32,
}

/// The clock.
#[derive(Template)]
#[template(path = "yealink/_clock.cfg")]
struct Clock<'a> {
    offset: String,
    summer: Option<Summer>,
    ntp_server: &'a str,
    time_format: u8,
}

/// Summer time by weekday: month/week/weekday/hour (administrator guide, "DST time type 1").
struct Summer {
    start: String,
    end: String,
    minutes: u16,
}

/// The redirect document as settings.
#[derive(Template)]
#[template(path = "yealink/redirect.cfg")]
struct RedirectSettings<'a> {
    mac: Mac,
    model: &'a str,
    server: Server<'a>,
}

/// The accounts.
#[derive(Template)]
#[template(path = "yealink/acc.cfg")]
struct Acc<'a> {
    accounts: Vec<Account<'a>>,
    empty: Vec<u8>,
}

struct Account<'a> {
    n: u8,
    label: &'a str,
    display_name: &'a str,
    user_name: &'a str,
    auth_name: &'a str,
    password: &'a str,
    host: &'a str,
    port: u16,
    transport: u8,
    backup: Option<&'a str>,
    srtp: u8,
    voicemail: &'a str,
    codecs: Vec<(&'static str, u8, usize)>,
}

/// The keys.
#[derive(Template)]
#[template(path = "yealink/btn.cfg")]
struct Btn<'a> {
    transfer: u8,
    keys: Vec<Key<'a>>,
    modules: Vec<(u8, Vec<Key<'a>>)>,
}

/// One key; type 0 and empty values for a blank one, so that a removed key goes from the phone.
struct Key<'a> {
    n: u16,
    code: u8,
    line: u8,
    value: &'a str,
    label: &'a str,
}

/// All in one, for firmware before 81, which knows no includes.
#[derive(Template)]
#[template(path = "yealink/merged.cfg")]
struct Merged<'a> {
    first: First<'a>,
    acc: Acc<'a>,
    btn: Btn<'a>,
}

impl Vendor for Yealink {
    fn models(&self) -> &'static [Model] {
        &MODELS
    }

    fn boot_name(&self, mac: Mac) -> String {
        format!("{mac}.boot")
    }

    fn part(&self, name: &str, mac: Mac, model: &Model) -> Option<Part> {
        let name = name.to_ascii_lowercase();
        if name == format!("{mac}.boot") || name == "y000000000000.boot" {
            Some(Part::Boot)
        } else if name == format!("{mac}.cfg") {
            Some(Part::Merged)
        } else if model.code.is_some_and(|code| name == common_name(code)) {
            Some(Part::Common)
        } else {
            None
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        TEXT
    }

    fn parts(&self) -> &'static [Part] {
        &[
            Part::Boot,
            Part::First,
            Part::Acc,
            Part::Btn,
            Part::Merged,
            Part::Common,
        ]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        match part {
            Part::Boot => {
                let names = [
                    Part::First.neutral_name(),
                    Part::Acc.neutral_name(),
                    Part::Btn.neutral_name(),
                ];
                file(&Boot {
                    mac: phone.mac,
                    model: phone.model.name,
                    user_type: phone.device.user_type.name(),
                    includes: names.map(|name| format!("{}{name}", phone.base)).into(),
                })
            }
            Part::First => file(&first(phone)),
            Part::Acc => file(&acc(phone)),
            Part::Btn => file(&btn(phone)),
            Part::Merged => file(&Merged {
                first: first(phone),
                acc: acc(phone),
                btn: btn(phone),
            }),
            Part::Common => Ok(common_text()),
        }
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        let tag = phone.settings.language.as_str();
        if language(tag).is_none() {
            let detail = format!("Yealink phones have no language {tag}");
            found.push(Objection::new("/settings/language", detail));
        }
        for line in &phone.lines {
            let mut check = |field: &'static str, value: &str| {
                if let Some(why) = unprintable(value) {
                    let pointer = format!("/lines/{}/account", line.index);
                    let detail = format!("its {field} {why} in a Yealink file");
                    found.push(Objection {
                        account_field: Some(field),
                        ..Objection::new(pointer, detail)
                    });
                }
            };
            check("password", line.password.reveal());
            check("display_name", line.account.display_name());
            if let Some(why) = unprintable(line.label) {
                let pointer = format!("/lines/{}/label", line.index);
                found.push(Objection::new(pointer, format!("{why} in a Yealink file")));
            }
        }
        for (n, button) in phone.device.buttons.iter().enumerate() {
            let label = button.label.as_ref().map_or("", |label| label.as_str());
            if let Some(why) = unprintable(label) {
                let pointer = format!("/buttons/{n}/label");
                found.push(Objection::new(pointer, format!("{why} in a Yealink file")));
            }
        }
        found
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let text = if name == format!("{}.boot", to.mac) || name == "y000000000000.boot" {
            // It is not proven that a phone asks again by itself after a redirect, so the boot
            // file takes it straight on: to our own files, or to the other server's.
            let includes = if to.stays() {
                [Part::First, Part::Acc, Part::Btn]
                    .map(|part| format!("{}{}", to.ours, part.neutral_name()))
                    .into()
            } else {
                vec![
                    format!("{}{}", to.ours, crate::step2_redirect::SETTINGS_NAME),
                    format!("{}{}.cfg", to.url, to.mac),
                ]
            };
            file(&Boot {
                mac: to.mac,
                model: to.model,
                user_type: "",
                includes,
            })?
        } else if name == format!("{}.cfg", to.mac) || name == crate::step2_redirect::SETTINGS_NAME
        {
            file(&RedirectSettings {
                mac: to.mac,
                model: to.model,
                // Firmware before 81 cannot be taken on by includes: it asks again in minutes.
                server: Server {
                    url: to.url,
                    minutes: 2,
                },
            })?
        } else if is_common_cfg(&name) {
            common_text()
        } else {
            return Ok(None);
        };
        Ok(Some(Document {
            content_type: TEXT,
            text,
        }))
    }

    fn common(&self, name: &str) -> Option<Document> {
        let name = name.to_ascii_lowercase();
        let text = if name == "y000000000000.boot" {
            // `$MAC` is the phone's own wildcard (Auto Provisioning Guide, "Wildcards"). Where a
            // firmware does not expand it, it asks for a file that is not there and goes on.
            format!("{VERSION}\ninclude:config \"$MAC.cfg\"\n")
        } else if is_common_cfg(&name) {
            common_text()
        } else {
            return None;
        };
        Some(Document {
            content_type: TEXT,
            text,
        })
    }
}

/// The first line of every file, without which the phone ignores it.
const VERSION: &str = "#!version:1.0.0.1";

/// A file: the version, then the template's lines. Blank lines go, and so does the space that an
/// empty value leaves at the end of its line; no value has any there itself ([`unprintable`]).
fn file(template: &impl Template) -> Result<String, Fault> {
    let text = write(template)?;
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty());
    Ok(std::iter::once(VERSION)
        .chain(lines)
        .flat_map(|line| [line, "\n"])
        .collect())
}

fn common_text() -> String {
    format!(
        "{VERSION}\n# Nothing for all phones of a model: everything is in the phone's own file.\n"
    )
}

fn common_name(code: u16) -> String {
    format!("y{code:012}.cfg")
}

/// `y000000000028.cfg`, whatever the code: phones that we do not know yet ask as well.
fn is_common_cfg(name: &str) -> bool {
    name.strip_prefix('y')
        .and_then(|rest| rest.strip_suffix(".cfg"))
        .is_some_and(|code| code.len() == 12 && code.bytes().all(|b| b.is_ascii_digit()))
}

/// Why a value would not come back out of a Yealink file as it went in.
fn unprintable(value: &str) -> Option<&'static str> {
    if value == "%NULL%" {
        // "%NULL%" as a whole value empties the parameter.
        Some("must not be %NULL%, which means empty")
    } else if value.trim() != value {
        Some("must not begin or end with a space, which is lost")
    } else {
        None
    }
}

fn first<'a>(phone: &'a Phone<'a>) -> First<'a> {
    let settings = &phone.settings;
    let offset = settings.zone.offset_minutes;
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    let sign = match offset {
        ..0 => "-",
        0 => "",
        1.. => "+",
    };
    First {
        mac: phone.mac,
        model: phone.model.name,
        user_type: phone.device.user_type.name(),
        server: Server {
            url: phone.base,
            minutes: settings.resync_minutes,
        },
        language: language(settings.language.as_str()).unwrap_or("English"),
        clock: Clock {
            offset: if minutes == 0 {
                format!("{sign}{hours}")
            } else {
                format!("{sign}{hours}:{minutes:02}")
            },
            summer: settings.zone.summer.map(|(saving, start, end)| Summer {
                start: by_week(start),
                end: by_week(end),
                minutes: saving,
            }),
            ntp_server: settings.ntp_server.as_str(),
            time_format: u8::from(settings.clock_24h),
        },
        call_waiting: u8::from(settings.call_waiting),
    }
}

/// Month/week/weekday/hour: week 5 is the last, weekday 1 is Monday (administrator guide).
fn by_week(change: Change) -> String {
    format!(
        "{}/{}/{}/{}",
        change.month,
        change.week,
        change.weekday,
        change.minute / 60
    )
}

fn acc<'a>(phone: &'a Phone<'a>) -> Acc<'a> {
    let accounts: Vec<Account<'a>> = phone
        .lines
        .iter()
        .map(|line| {
            let sip = &line.pbx.sip;
            Account {
                n: line.number,
                label: line.label,
                display_name: line.account.display_name(),
                user_name: line.account.username.as_str(),
                auth_name: line.account.auth_username().as_str(),
                password: line.password.reveal(),
                host: sip.host.as_str(),
                port: sip.port(),
                transport: match sip.transport {
                    Transport::Udp => 0,
                    Transport::Tcp => 1,
                    Transport::Tls => 2,
                },
                backup: sip.backup_host.as_ref().map(crate::text::Host::as_str),
                srtp: match sip.srtp {
                    Srtp::Off => 0,
                    Srtp::Optional => 1,
                    Srtp::Required => 2,
                },
                voicemail: line.account.voicemail.as_ref().map_or("", |v| v.as_str()),
                codecs: codecs(&phone.settings.codecs),
            }
        })
        .collect();
    let unused = |n: &u8| !phone.lines.iter().any(|line| line.number == *n);
    Acc {
        accounts,
        empty: (1..=phone.model.lines).filter(unused).collect(),
    }
}

/// Every codec, with its rank from 1 where it is on and 0 where it is off.
fn codecs(wanted: &[Codec]) -> Vec<(&'static str, u8, usize)> {
    Codec::ALL
        .into_iter()
        .map(|codec| {
            let name = match codec {
                Codec::G722 => "g722",
                Codec::Pcma => "pcma",
                Codec::Pcmu => "pcmu",
                Codec::G729 => "g729",
                Codec::Opus => "opus",
            };
            let rank = wanted.iter().position(|c| *c == codec).map_or(0, |n| n + 1);
            (name, u8::from(rank > 0), rank)
        })
        .collect()
}

fn btn<'a>(phone: &'a Phone<'a>) -> Btn<'a> {
    let blank = |n| Key {
        n,
        code: 0,
        line: 0,
        value: "",
        label: "",
    };
    let keys = (1..=phone.model.keys)
        .map(|n| match phone.button(None, n) {
            Some(button) => key(phone, n, button),
            // A phone that nobody gave keys to shows its lines.
            None if phone.shows_lines_by_itself() => phone
                .lines
                .iter()
                .find(|line| u16::from(line.number) == n)
                .map_or_else(
                    || blank(n),
                    |line| Key {
                        n,
                        code: code(Function::Line),
                        line: line.number,
                        value: "",
                        label: line.label,
                    },
                ),
            None => blank(n),
        })
        .collect();
    let modules = (1..=phone.modules_in_use())
        .map(|module| {
            let keys = (1..=phone.model.module_keys)
                .map(|n| match phone.button(Some(module), n) {
                    Some(button) => key(phone, n, button),
                    None => blank(n),
                })
                .collect();
            (module, keys)
        })
        .collect();
    Btn {
        transfer: match phone.settings.transfer {
            Transfer::NewCall => 0,
            Transfer::Attended => 1,
            Transfer::Blind => 2,
        },
        keys,
        modules,
    }
}

fn key<'a>(phone: &'a Phone<'a>, n: u16, button: &'a Button) -> Key<'a> {
    let line = button.line.unwrap_or(1);
    let own = button.value.as_ref().map(|value| value.as_str());
    let value = match button.function {
        // The phone dials the line's own voicemail number if the key has none.
        Function::Voicemail => own.or_else(|| {
            let line = phone.lines.iter().find(|l| l.number == line)?;
            line.account.voicemail.as_ref().map(|v| v.as_str())
        }),
        _ => own,
    };
    Key {
        n,
        code: code(button.function),
        line,
        value: value.unwrap_or_default(),
        label: phone.button_label(button),
    }
}

/// The number of a key's type (administrator guide, "Line Key Types").
fn code(function: Function) -> u8 {
    match function {
        Function::None => 0,
        Function::Conference => 1,
        Function::Forward => 2,
        Function::Transfer => 3,
        Function::Dnd => 5,
        Function::Redial => 6,
        Function::Pickup => 9,
        Function::Park => 10,
        Function::Dtmf => 11,
        Function::Voicemail => 12,
        Function::SpeedDial => 13,
        Function::Intercom => 14,
        Function::Line => 15,
        Function::Blf => 16,
    }
}

/// The name of a language in `lang.gui` (administrator guide, "Language").
fn language(tag: &str) -> Option<&'static str> {
    Some(match tag.split('-').next()? {
        "en" => "English",
        "de" => "German",
        "fr" => "French",
        "es" => "Spanish",
        "it" => "Italian",
        "pl" => "Polish",
        "pt" => "Portuguese",
        "ru" => "Russian",
        "tr" => "Turkish",
        "zh" => "Chinese_S",
        _ => return None,
    })
}
