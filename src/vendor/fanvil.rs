//! Fanvil and Linkvil: a common file of the model, then `{mac}.cfg`, which holds everything.
//!
//! XML from `sysConf` down for firmware 2 and later, from `VOIP_CONFIG_FILE` down before, and for the
//! models that never got another. Both have the same parameters, whose names in the older are the
//! same words with underscores between them: so each is named once here, in the older form.
//!
//! Sources: Fanvil's "Auto Provision Standard" (order of the files, versions), the configurations that
//! phones of firmware 1 and 2 export, as public provisioning projects write them again.

mod models;

use std::borrow::Cow;

use askama::Template;

use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Slot,
    Vendor, write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Srtp, Transport};
use crate::record::settings::{Codec, Dtmf, Setting, Transfer};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::PhoneLine;

/// The vendor.
pub struct Fanvil;

const XML: &str = "text/xml; charset=utf-8";

/// A file of either syntax.
#[derive(Template)]
#[template(path = "fanvil/config.xml")]
struct Config {
    former: bool,
    /// What it is, for people: of our own words, a model and a MAC.
    about: String,
    version: String,
    sections: Vec<(Tag, Vec<Step>)>,
}

type Tag = Cow<'static, str>;

/// A line of a section.
enum Step {
    Open(Tag, Option<u16>),
    Set(Tag, String),
    Close(Tag),
}

impl Vendor for Fanvil {
    fn models(&self) -> &'static [Model] {
        models::MODELS
    }

    fn templates(&self) -> u32 {
        1
    }

    fn facts(&self) -> Facts {
        Facts {
            serial_tells_from_mac: false,
            certificate: CertificateMac::Unknown,
            resync: "check-sync",
            reboot: "check-sync;reboot=true",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        // No source tells a parameter for the first three; the last one is in the BLF keys.
        let all = &[
            Setting::Wallpaper,
            Setting::DialPlan,
            Setting::WebUi,
            Setting::Transfer,
        ];
        match all {
            [some @ .., _] if model.keys > 0 => some,
            all => all,
        }
    }

    fn functions(&self, _: &Model) -> &'static [Function] {
        // Sources disagree on the types of keys for DTMF and URLs, and know none for a conference, a
        // pickup code or a login.
        &[
            Function::Line,
            Function::Blf,
            Function::SpeedDial,
            Function::Transfer,
            Function::Voicemail,
            Function::Park,
            Function::Intercom,
            Function::Dnd,
            Function::Forward,
            Function::Redial,
            Function::None,
        ]
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        format!("{mac}.cfg")
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        if name == format!("{}.cfg", asker.mac) {
            let part = if is_former(asker.model, asker.firmware) && !is_former(asker.model, None) {
                Part::Former
            } else {
                Part::Merged
            };
            Some(Asked::Part(part))
        } else if is_common(&name) {
            Some(Asked::Part(Part::Common))
        } else {
            // Which firmware there is: `fanvil_x4u_v2_hwv2_0.txt`.
            let text = name.strip_suffix(".txt");
            text.is_some_and(|name| name.starts_with("fanvil_"))
                .then_some(Asked::Optional)
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self, model: &Model) -> &'static [Part] {
        let all = &[
            Part::Boot,
            Part::Acc,
            Part::Btn,
            Part::Merged,
            Part::Common,
            Part::Former,
        ];
        match all {
            // All of them are in the former syntax.
            [some @ .., _] if is_former(model, None) => some,
            all => all,
        }
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let former = part == Part::Former || is_former(phone.model, None);
        if part == Part::Common {
            return common(former);
        }
        let whole = matches!(part, Part::Merged | Part::Former);
        let mut tree = Tree::new(former);
        let mut about = format!("{} {}", phone.model.name, phone.mac);
        if whole || part == Part::Boot {
            about.push_str(", user type ");
            about.push_str(phone.device.user_type.name());
            boot(&mut tree, phone);
        }
        if whole || part == Part::Acc {
            acc(&mut tree, phone);
        }
        if whole || part == Part::Btn {
            btn(&mut tree, phone);
        }
        if whole || part == Part::Boot {
            raw(&mut tree, phone);
        }
        tree.write(about, phone.version)
    }

    fn renumber(&self, text: &str, from: u64, to: u64) -> Option<String> {
        let mut names = ["version", "Version"].into_iter();
        names.find_map(|name| {
            let element = |version: u64| format!("<{name}>{}</{name}>", written(version));
            // The first: it stands above all that comes from a record.
            let there = text.contains(&element(from));
            there.then(|| text.replacen(&element(from), &element(to), 1))
        })
    }

    fn carries(&self, _: Slot, text: &str) -> Result<(), &'static str> {
        if text.trim() == text {
            Ok(())
        } else {
            Err("must not begin or end with a space, which may be lost")
        }
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let tag = phone.settings.language.as_str();
        if language(tag, is_former(phone.model, None)).is_some() {
            return Vec::new();
        }
        let detail = format!("Fanvil phones have no language {tag}: English is shown");
        vec![Objection::new("/settings/language", detail)]
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let mut parts = key.split('/');
        if key.contains('/') && parts.all(|part| indexed(part).is_some()) {
            Ok(())
        } else {
            Err("is no parameter of Fanvil phones: write section/name, or sip/line[1]/name")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        let mut open: Vec<String> = Vec::new();
        for line in text.lines() {
            let Some(inner) = line
                .strip_prefix('<')
                .and_then(|rest| rest.strip_suffix('>'))
            else {
                continue;
            };
            if inner.starts_with('/') {
                open.pop();
            } else if let Some((name, _)) = inner.split_once('>') {
                // The root is no part of the name.
                let path = open.iter().skip(1).map(String::as_str);
                let path: Vec<&str> = path.chain(std::iter::once(name)).collect();
                if path.join("/").eq_ignore_ascii_case(key) {
                    return true;
                }
            } else if !inner.starts_with(['?', '!']) {
                open.push(inner.replace(" index=\"", "[").replace('"', "]"));
            }
        }
        false
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let former = is_former(to.model, to.firmware);
        let text =
            if name == format!("{}.cfg", to.mac) || name == crate::step2_redirect::SETTINGS_NAME {
                let mut tree = Tree::new(former);
                server(&mut tree, to.url, 60);
                tree.write(
                    format!("Where {} {} gets its files", to.model.name, to.mac),
                    0,
                )?
            } else if is_common(&name) {
                common(former)?
            } else {
                return Ok(None);
            };
        Ok(Some(Document::text(XML, text)))
    }

    fn common(&self, name: &str, _: &str) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        if !is_common(&name) {
            return Ok(None);
        }
        let former = models::MODELS
            .iter()
            .find(|model| name.strip_suffix(".cfg") == Some(&model.code.to_ascii_lowercase()))
            .is_some_and(|model| is_former(model, None));
        Ok(Some(Document::text(XML, common(former)?)))
    }
}

/// Whether a phone knows the former syntax alone: by its model, or because its firmware is of major
/// version 1. The first firmware of some current models calls itself 0.0.
fn is_former(model: &Model, firmware: Option<&str>) -> bool {
    model.generation == Generation::Former
        || firmware.is_some_and(|firmware| firmware.split('.').next() == Some("1"))
}

/// `f0X4hw1.100.cfg`, `F0V00X600000.cfg`, whatever the code: phones that we do not know yet ask as
/// well. Never a name that is twelve hexadecimal digits, which is some phone's MAC.
fn is_common(name: &str) -> bool {
    name.strip_suffix(".cfg").is_some_and(|code| {
        let mac = code.len() == 12 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
        code.starts_with("f0") && (11..=12).contains(&code.len()) && !mac
    })
}

/// It has nothing in it. Phones count its version for itself.
fn common(former: bool) -> Result<String, Fault> {
    let about = "Nothing for all phones of a model: each has a file of its own";
    Tree::new(former).write(about.to_owned(), 0)
}

/// `name` or `name[1]`, as a parameter in the vendor's own words is written.
fn indexed(part: &str) -> Option<(&str, Option<u16>)> {
    let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
        Some((name, index)) => (name, Some(index.parse().ok()?)),
        None => (part, None),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (starts && name.bytes().all(word)).then_some((name, index))
}

/// The sections of a file, each once, with what stands in them.
struct Tree {
    former: bool,
    sections: Vec<(Tag, Vec<Step>)>,
    /// Which section is being filled.
    at: usize,
    open: Vec<Tag>,
}

impl Tree {
    fn new(former: bool) -> Self {
        Self {
            former,
            sections: Vec::new(),
            at: 0,
            open: Vec::new(),
        }
    }

    fn pick(&self, current: &'static str, former: &'static str) -> &'static str {
        if self.former { former } else { current }
    }

    /// Goes on with a section, or begins it.
    fn section(&mut self, tag: Tag) {
        let found = self.sections.iter().position(|(other, _)| *other == tag);
        self.at = found.unwrap_or(self.sections.len());
        if found.is_none() {
            self.sections.push((tag, Vec::new()));
        }
    }

    /// The same by its name in either syntax.
    fn either_section(&mut self, current: &'static str, former: &'static str) {
        let tag = self.pick(current, former);
        self.section(tag.into());
    }

    fn push(&mut self, step: Step) {
        if let Some((_, steps)) = self.sections.get_mut(self.at) {
            steps.push(step);
        }
    }

    fn open_tag(&mut self, tag: Tag, index: Option<u16>) {
        if !tag.is_empty() {
            self.push(Step::Open(tag.clone(), index));
        }
        self.open.push(tag);
    }

    /// Opens an element; an empty name stands for a syntax that has none there.
    fn open(&mut self, current: &'static str, former: &'static str) {
        let tag = self.pick(current, former);
        self.open_tag(tag.into(), None);
    }

    /// Opens one of several: by an index now, by an identifier before.
    fn one(&mut self, current: &'static str, former: &'static str, id: &str, n: u16) {
        if self.former {
            self.open_tag(former.into(), None);
            self.push(Step::Set("ID".into(), format!("{id}{n}")));
        } else {
            self.open_tag(current.into(), Some(n));
        }
    }

    fn close(&mut self) {
        if let Some(tag) = self.open.pop()
            && !tag.is_empty()
        {
            self.push(Step::Close(tag));
        }
    }

    /// Sets a parameter by its former name, from which the current one follows.
    fn set(&mut self, name: &'static str, value: &str) {
        let name = if self.former || !name.contains('_') {
            name.into()
        } else {
            name.replace('_', "").into()
        };
        self.push(Step::Set(name, value.to_owned()));
    }

    fn number(&mut self, name: &'static str, value: impl Into<u64>) {
        self.set(name, &value.into().to_string());
    }

    /// Sets a parameter that was called something else, or that one syntax does not have.
    fn either(&mut self, current: &'static str, former: &'static str, value: &str) {
        let name = self.pick(current, former);
        if !name.is_empty() {
            self.push(Step::Set(name.into(), value.to_owned()));
        }
    }

    /// The file.
    fn write(self, about: String, version: u64) -> Result<String, Fault> {
        write(&Config {
            former: self.former,
            about,
            version: written(version),
            sections: self.sections,
        })
    }
}

/// A version as it stands in a file. A phone takes a file only if its version is higher than that of the one
/// before. Nobody says whether that compares texts, numbers or what follows the dot: this form rises in each of
/// them, and lies above every one that a phone was seen to come with (2.0000000000, 2.0002).
fn written(version: u64) -> String {
    format!("2.{:010}", 1_000_000_000 + version.saturating_mul(10_000))
}

/// Where to provision from, and how often. Everything by which the phone would look elsewhere is
/// off.
fn server(tree: &mut Tree, url: &str, minutes: u32) {
    tree.either_section("ap", "AUTOUPDATE_CONFIG_MODULE");
    tree.set("Download_CommonConf", "0");
    tree.set("Download_DeviceConf", "1");
    tree.set("Save_Provision_Info", "1");
    let server = url.trim_end_matches('/');
    tree.either("FlashServerIP", "Download_Server_IP", server);
    tree.either("FlashFileName", "Config_File_Name", "$mac.cfg");
    let protocol = if url.starts_with("https:") { "5" } else { "4" };
    tree.either("FlashProtocol", "Download_Protocol", protocol);
    // 0 never, 1 when it starts, 2 in intervals.
    tree.either("FlashMode", "Download_Mode", "2");
    let hours = minutes.div_ceil(60).to_string();
    tree.either("FlashInterval", "Download_Interval", &hours);
    tree.open("pnp", "");
    tree.set("PNP_Enable", "0");
    tree.close();
    tree.open("opt", "");
    tree.set("DHCP_Option", "0");
    tree.close();
    tree.either("", "FDPS_Enable", "0");
}

const fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// The first settings.
fn boot(tree: &mut Tree, phone: &Phone<'_>) {
    let settings = &phone.settings;
    server(tree, phone.base, settings.resync_minutes);
    if let Some(url) = &settings.firmware_url {
        // A directory, in which the phone looks for a text that names the newest firmware.
        tree.either_section("fwCheck", "AUTOUPDATE_CONFIG_MODULE");
        tree.set("Enable_Auto_Upgrade", "1");
        tree.set("Upgrade_Server_1", url.as_str());
        tree.either("AutoUpgradeInterval", "Auto_Upgrade_intval", "24");
    }
    tree.either_section("phone", "GLOBAL_CONFIG_MODULE");
    clock(tree, phone);
    tree.open("display", "");
    let tongue = language(settings.language.as_str(), tree.former);
    let english = tree.pick("en", "0");
    tree.either("DefaultLanguage", "Language", tongue.unwrap_or(english));
    tree.close();
    tree.either_section("phone", "PHONE_CONFIG_MODULE");
    tree.open("timeDisplay", "");
    tree.set("Time_Display_Style", flag(!settings.clock_24h));
    tree.close();
    if let Some(password) = &settings.admin_password {
        tree.set("Menu_Password", password.reveal());
    }
    if let Some(tone) = settings.ringtone {
        tree.either_section("phone", "DSP_CONFIG_MODULE");
        tree.open("volume", "");
        tree.either("RingType", "", &format!("Type {tone}"));
        tree.either("", "Ring_Type", &tone.to_string());
        tree.close();
    }
    tree.either_section("call", "TELE_CONFIG_MODULE");
    tree.open("", "Port_Config");
    tree.one("port", "Port_Config_Entry", "P", 1);
    tree.set("CallWaiting", flag(settings.call_waiting));
    tree.close();
    tree.close();
    let users = [
        ("admin", "10", &settings.admin_password),
        ("guest", "5", &settings.user_password),
    ];
    if users.iter().any(|(_, _, password)| password.is_some()) {
        tree.either_section("web", "MMI_CONFIG_MODULE");
        tree.open("", "MMI_Account");
        for (n, (name, level, password)) in (1..).zip(users) {
            let Some(password) = password else { continue };
            tree.one("account", "MMI_Account_Entry", "Account", n);
            tree.set("Name", name);
            tree.set("Password", password.reveal());
            tree.set("Level", level);
            tree.close();
        }
        tree.close();
    }
    if settings.vlan.is_some() || settings.lldp.is_some() {
        tree.either_section("qos", "QOS_CONFIG_MODULE");
    }
    if let Some(vlan) = &settings.vlan {
        tree.set("Enable_VLAN", "1");
        tree.number("VLAN_ID", vlan.id.get());
        tree.number("Signalling_Priority", vlan.priority());
        tree.number("Voice_Priority", vlan.priority());
        // 1: the computer's frames have no tag, 2: they have this one.
        tree.set("Enable_PVID", if vlan.pc_id.is_some() { "2" } else { "1" });
        if let Some(id) = vlan.pc_id {
            tree.number("PVID_Value", id.get());
        }
    }
    if let Some(on) = settings.lldp {
        tree.set("LLDP_Transmit", flag(on));
        tree.set("LLDP_Learn_Policy", flag(on));
    }
    if let Some(host) = &settings.syslog_server {
        tree.either_section("log", "AAA_CONFIG_MODULE");
        tree.either("OutputDevice", "", "syslog");
        tree.either("", "Enable_Syslog", "1");
        tree.either("SyslogServer", "Syslog_address", host.as_str());
        tree.either("SyslogServerPort", "Syslog_port", "514");
    }
}

/// The clock: quarters of an hour, and summer time by weekday.
fn clock(tree: &mut Tree, phone: &Phone<'_>) {
    let zone = &phone.settings.zone;
    tree.open("date", "");
    tree.set("Enable_SNTP", "1");
    tree.set("SNTP_Server", phone.settings.ntp_server.as_str());
    let offset = zone.offset_minutes;
    tree.set("Time_Zone", &(offset / 15).to_string());
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    let mut name = "UTC".to_owned();
    if offset != 0 {
        name.push(if offset < 0 { '-' } else { '+' });
        name.push_str(&hours.to_string());
    }
    if minutes != 0 {
        name.push(':');
        name.push_str(&minutes.to_string());
    }
    tree.set("Time_Zone_Name", &name);
    // 0 none, 1 as the firmware knows the place, 2 as it stands here; firmware 2 has called it both.
    let kind = if zone.summer.is_some() { "2" } else { "0" };
    tree.set("Enable_DST", kind);
    tree.either("DSTType", "", kind);
    if let Some((saving, start, end)) = zone.summer {
        // 2: by weekday.
        tree.set("DST_Fixed_Type", "2");
        tree.number("DST_Min_Offset", saving);
        let names = [
            [
                "DST_Start_Mon",
                "DST_Start_Week",
                "DST_Start_Wday",
                "DST_Start_Hour",
            ],
            [
                "DST_End_Mon",
                "DST_End_Week",
                "DST_End_Wday",
                "DST_End_Hour",
            ],
        ];
        for ([month, week, weekday, hour], change) in names.into_iter().zip([start, end]) {
            tree.number(month, change.month);
            // 5 is the last.
            tree.number(week, change.week);
            // 0 is Sunday: the factory's rule is Europe's.
            tree.number(weekday, change.weekday % 7);
            tree.number(hour, change.minute / 60);
        }
    }
    tree.close();
}

/// The accounts.
fn acc(tree: &mut Tree, phone: &Phone<'_>) {
    tree.either_section("sip", "SIP_CONFIG_MODULE");
    tree.open("", "SIP_Line_List");
    for n in 1..=phone.model.lines {
        tree.one("line", "SIP_Line_List_Entry", "SIP", n.into());
        if let Some(line) = phone.lines.iter().find(|line| line.number == n) {
            account(tree, phone, line);
        } else {
            for name in [
                "Phone_Number",
                "Display_Name",
                "Register_Addr",
                "Register_User",
                "Register_Pswd",
                "Proxy_Addr",
                "Proxy_User",
                "Proxy_Pswd",
                "Backup_Addr",
                "MWI_Num",
            ] {
                tree.set(name, "");
            }
            tree.set("Enable_Reg", "0");
        }
        tree.close();
    }
    tree.close();
}

fn account(tree: &mut Tree, phone: &Phone<'_>, line: &PhoneLine<'_>) {
    let (sip, settings) = (&line.pbx.sip, &phone.settings);
    let (user, password) = (
        line.account.auth_username().as_str(),
        line.password.reveal(),
    );
    let transport = match sip.transport {
        Transport::Udp => "0",
        Transport::Tcp => "1",
        Transport::Tls => "3",
    };
    tree.set("Phone_Number", line.account.username.as_str());
    tree.set("Display_Name", line.account.display_name());
    tree.set("Register_Addr", sip.host.as_str());
    tree.number("Register_Port", sip.port());
    tree.set("Register_User", user);
    tree.set("Register_Pswd", password);
    tree.number("Register_TTL", sip.expires_s());
    tree.set("Enable_Reg", "1");
    tree.set("Transport", transport);
    match sip.outbound_proxy() {
        Some((host, port)) => {
            tree.set("Proxy_Addr", host.as_str());
            tree.number("Proxy_Port", port);
            tree.set("Proxy_User", user);
            tree.set("Proxy_Pswd", password);
        }
        None => {
            for name in ["Proxy_Addr", "Proxy_User", "Proxy_Pswd"] {
                tree.set(name, "");
            }
        }
    }
    match &sip.backup_host {
        Some(host) => {
            tree.set("Backup_Addr", host.as_str());
            tree.number("Backup_Port", sip.port());
            tree.either("BackupTransport", "Backup_Transpo", transport);
            tree.number("Backup_TTL", sip.expires_s());
            // 0: the second is tried when the first is silent.
            tree.set("Backup_Mode", "0");
            tree.either("EnableFailback", "Enable_Failbac", "1");
        }
        None => tree.set("Backup_Addr", ""),
    }
    tree.set(
        "Media_Crypto",
        match sip.srtp {
            Srtp::Off => "0",
            Srtp::Optional => "1",
            Srtp::Required => "2",
        },
    );
    tree.set(
        "DTMF_Mode",
        match settings.dtmf {
            Dtmf::Inband => "0",
            Dtmf::Rfc2833 => "1",
            Dtmf::Info => "2",
        },
    );
    let codecs: Vec<&str> = settings
        .codecs
        .iter()
        .filter_map(|codec| codec_name(*codec, tree.former))
        .collect();
    tree.set("VoiceCodecMap", &codecs.join(","));
    // The message waiting is subscribed to.
    tree.set("Subscribe", "1");
    let voicemail = line.account.voicemail.as_ref();
    tree.set("MWI_Num", voicemail.map_or("", |number| number.as_str()));
    if let Some(forward) = &settings.forward {
        let targets = [
            (
                "Always_FWD",
                "AlwaysFWDNum",
                "Always_FWD_Num",
                &forward.always,
            ),
            ("Busy_FWD", "BusyFWDNum", "Busy_FWD_Num", &forward.busy),
            (
                "No_Answer_FWD",
                "NoAnswerFWDNum",
                "NoAnswer_FWD_N",
                &forward.no_answer,
            ),
        ];
        for (on, current, former, target) in targets {
            tree.set(on, flag(target.is_some()));
            let target = target.as_ref().map_or("", |target| target.as_str());
            tree.either(current, former, target);
        }
        tree.number("FWD_Timer", forward.ring_s());
    }
    if let Some(on) = settings.dnd {
        tree.set("Enable_DND", flag(on));
    }
    if let Some(on) = settings.auto_answer {
        tree.set("Auto_Answer", flag(on));
    }
}

/// A codec by the name that the phone has for it; older ones have no Opus.
fn codec_name(codec: Codec, former: bool) -> Option<&'static str> {
    Some(match (codec, former) {
        (Codec::G722, _) => "G722",
        (Codec::Pcma, false) => "PCMA",
        (Codec::Pcma, true) => "G711A",
        (Codec::Pcmu, false) => "PCMU",
        (Codec::Pcmu, true) => "G711U",
        (Codec::G729, _) => "G729",
        (Codec::Opus, false) => "opus",
        (Codec::Opus, true) => return None,
    })
}

/// The keys: by page now, in one list before.
fn btn(tree: &mut Tree, phone: &Phone<'_>) {
    if phone.model.keys == 0 {
        return;
    }
    tree.either_section("dsskey", "PHONE_CONFIG_MODULE");
    if tree.former {
        tree.open("", "Function_Key");
        for n in 1..=phone.model.keys {
            tree.one("", "Function_Key_Entry", "Fkey", n);
            key(tree, phone, n);
            tree.close();
        }
        tree.close();
        return;
    }
    let banks = models::banks(phone.model);
    for (tag, name) in [
        ("internal", "FuncKey_Page_Num"),
        ("dssSide", "SideKey_Page_Num"),
    ] {
        if let Some(bank) = banks.iter().find(|bank| bank.tag == tag) {
            tree.number(name, bank.first + bank.pages - 1);
        }
    }
    let mut n = 0;
    for bank in banks {
        for page in bank.first..bank.first + bank.pages {
            let paged = bank.tag != "dssSoft";
            if paged {
                tree.open_tag(bank.tag.into(), Some(page));
            }
            for place in 1..=bank.keys {
                n += 1;
                let tag = if paged { "Fkey" } else { bank.tag };
                tree.open_tag(tag.into(), Some(place));
                key(tree, phone, n);
                tree.close();
            }
            if paged {
                tree.close();
            }
        }
    }
}

/// What a key does; type 0 and empty values for a blank one, so that a removed key goes from the phone.
fn key(tree: &mut Tree, phone: &Phone<'_>, n: u16) {
    let line = phone
        .lines
        .iter()
        .find(|line| u16::from(line.number) == n && phone.shows_lines_by_itself());
    let (kind, value, label) = match (phone.button(None, n), line) {
        (Some(button), _) => {
            let (kind, value) = action(phone, button);
            (kind, value, phone.button_label(button))
        }
        (None, Some(line)) => ("2", format!("SIP{n}"), line.label),
        (None, None) => ("0", String::new(), ""),
    };
    tree.set("Type", kind);
    tree.set("Value", &value);
    tree.set("Title", label);
}

/// The type and the value of a key: 1 is a memory key, `number@line/what`, 2 a line, 3 an event.
fn action(phone: &Phone<'_>, button: &Button) -> (&'static str, String) {
    let line = button.line.unwrap_or(1);
    let own = button.value.as_ref().map(|value| value.as_str());
    let account = || {
        let line = phone.lines.iter().find(|other| other.number == line)?;
        line.account
            .voicemail
            .as_ref()
            .map(|number| number.as_str())
    };
    let (what, number) = match button.function {
        Function::Line => return ("2", format!("SIP{line}")),
        Function::Blf => {
            // What it does during a call: attended or blind transfer, or a new call.
            let what = match phone.settings.transfer {
                Transfer::Attended => "ba",
                Transfer::Blind => "bb",
                Transfer::NewCall => "bc",
            };
            (what, own)
        }
        Function::SpeedDial => ("f", own),
        Function::Park => ("c", own),
        Function::Intercom => ("i", own),
        Function::Forward => ("a", own),
        Function::Voicemail => match own.or_else(account) {
            Some(number) => ("m", Some(number)),
            None => return ("3", "F_MWI".to_owned()),
        },
        Function::Transfer => return ("3", "F_B_TRANSFER".to_owned()),
        Function::Dnd => return ("3", "F_DND".to_owned()),
        Function::Redial => return ("3", "F_REDIAL".to_owned()),
        _ => return ("0", String::new()),
    };
    ("1", format!("{}@{line}/{what}", number.unwrap_or_default()))
}

/// What is written in Fanvil's own words. It is in the syntax of the phone's model: a firmware that
/// knows another would not know the names.
fn raw(tree: &mut Tree, phone: &Phone<'_>) {
    if tree.former != is_former(phone.model, None) {
        return;
    }
    for (key, value) in &phone.settings.raw {
        let mut parts = key.as_str().split('/').filter_map(indexed);
        let Some((section, _)) = parts.next() else {
            continue;
        };
        tree.section(section.to_owned().into());
        let mut next = parts.next();
        while let Some((name, index)) = next {
            next = parts.next();
            if next.is_some() {
                tree.open_tag(name.to_owned().into(), index);
            } else {
                let name = name.to_owned().into();
                tree.push(Step::Set(name, value.as_str().to_owned()));
            }
        }
        while !tree.open.is_empty() {
            tree.close();
        }
    }
}

/// The name of a language in `DefaultLanguage`, or the number that it had before.
fn language(tag: &str, former: bool) -> Option<&'static str> {
    let (now, before) = match tag.split('-').next()? {
        "en" => ("en", "0"),
        "nl" => ("nl", "3"),
        "fr" => ("fr", "4"),
        "it" => ("it", "7"),
        "es" => ("es", "10"),
        "de" => ("de", "16"),
        "pl" => ("pl", ""),
        "pt" => ("pt", ""),
        "ru" => ("ru", ""),
        "tr" => ("tr", ""),
        "cs" => ("cz", ""),
        "sk" => ("slo", ""),
        "hr" => ("hr", ""),
        "he" => ("he", ""),
        "zh" => ("cn", ""),
        _ => return None,
    };
    let name = if former { before } else { now };
    (!name.is_empty()).then_some(name)
}
