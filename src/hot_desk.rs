//! **Hot-desking.** What a user's login makes of a phone, how many wrong PINs are too many, and what a
//! phone says when its user logs in: pure decisions.
//!
//! In: records, counts, a form. Out: the phone's record for as long as the user is there, whether a PIN
//! is looked at at all. [`crate::login`] and [`crate::session`] do it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::record::account::Account;
use crate::record::device::{Button, Device, Function, Line};
use crate::secret::Secret;
use crate::step6_config_files::wrong_value;
use crate::text::Id;
use crate::time::Timestamp;
use crate::vendor::Objection;

/// The most keys that a user may have: more than a phone and a full expansion module.
pub const MOST_BUTTONS: usize = 200;

/// What is wrong with a user's keys, whatever phone they are for. The pointers are into the account.
#[must_use]
pub fn check(buttons: &[Button]) -> Vec<Objection> {
    let mut found = Vec::new();
    if buttons.len() > MOST_BUTTONS {
        found.push(Objection::new("/buttons", "may be 200 at most"));
        return found;
    }
    let mut places = BTreeMap::new();
    for (n, button) in buttons.iter().enumerate() {
        let at = |name: &str| format!("/buttons/{n}/{name}");
        if button.key == 0 {
            found.push(Objection::new(at("key"), "must be at least 1"));
        }
        if button.module == Some(0) {
            found.push(Objection::new(at("module"), "must be at least 1"));
        }
        if let Some(other) = places.insert((button.module, button.key), n) {
            let twice = Objection::new(at("key"), "is given twice").needing(at("module"));
            let other = ["module", "key"].map(|name| format!("/buttons/{other}/{name}"));
            found.push(other.into_iter().fold(twice, Objection::needing));
        }
        if button.line.is_some_and(|line| line != 1) {
            let detail = "must be 1: a user has one line";
            found.push(Objection::new(at("line"), detail));
        }
        if let Some(wrong) = wrong_value(button) {
            found.push(Objection::new(at("value"), wrong).needing(at("type")));
        }
    }
    found
}

/// A phone's record while a user is logged in: the user's account on the phone's first line and on no
/// other, and the user's keys.
///
/// A user without keys has those of the host that need no other line. The host's keys for logging in and
/// out stay where they are in any case, or nobody could log out.
#[must_use]
pub fn seated(host: &Device, id: &Id, user: &Account) -> Device {
    let first = host.lines.iter().map(|line| line.line).min().unwrap_or(1);
    let of_host = host.buttons.iter();
    let buttons = if user.buttons.is_empty() {
        of_host
            .filter(|button| button.line.is_none_or(|line| line == first))
            .cloned()
            .collect()
    } else {
        let mut buttons: Vec<Button> = of_host
            .filter(|button| button.function == Function::HotDesk)
            .cloned()
            .collect();
        for button in &user.buttons {
            let at = (button.module, button.key);
            if buttons.iter().any(|other| (other.module, other.key) == at) {
                continue;
            }
            let mut button = button.clone();
            if first != 1 || button.line.is_some() || button.function == Function::Line {
                button.line = Some(first);
            }
            buttons.push(button);
        }
        buttons
    };
    Device {
        lines: vec![Line {
            line: first,
            account: id.clone(),
            label: None,
        }],
        buttons,
        ..host.clone()
    }
}

/// Takes out of a phone's record, and of the user's as far as the phone shows it, what the phone cannot be
/// or carry. False if none of the objections is about that: then there is nothing left to take out.
pub fn leave_out(device: &mut Device, user: &mut Account, objections: &[Objection]) -> bool {
    let mut keys = BTreeSet::new();
    let (mut name, mut line) = (false, false);
    for objection in objections {
        let mut path = objection.pointer.split('/').skip(1);
        match (path.next(), path.next()) {
            (Some("buttons"), Some(n)) => keys.extend(n.parse::<usize>()),
            (Some("lines"), Some(_)) => {
                let is_name = objection.account_field == Some("display_name");
                name |= is_name && user.display_name.is_some();
                line |= !(is_name && user.display_name.is_some());
            }
            _ => {}
        }
    }
    let before = (device.buttons.len(), device.lines.len());
    let mut n = 0;
    device.buttons.retain(|_| {
        n += 1;
        !keys.contains(&(n - 1))
    });
    if name {
        // The phone shows the username then.
        user.display_name = None;
    }
    if line {
        device.lines.clear();
    }
    name || before != (device.buttons.len(), device.lines.len())
}

/// How many wrong PINs in a row a user may be given before nobody may give another one for a while.
pub const FREE_TRIES: u32 = 5;

/// How long the first lock lasts, in seconds. Each further wrong PIN locks for twice as long.
pub const FIRST_LOCK_S: u64 = 300;

/// The longest lock, in seconds.
pub const LONGEST_LOCK_S: u64 = 86_400;

/// PINs that were given for a user since the last right one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// [`crate::record::account::AccountState::pin_rev`] of the PIN that they were held against.
    pub pin_rev: u64,
    /// How many were looked at.
    pub looked_at: u32,
    /// How many came while none was looked at.
    pub unseen: u64,
    /// Until when none is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
}

/// What becomes of one PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is looked at.
    Open,
    /// It is looked at, and if it is wrong it was the last for a while.
    Last,
    /// It is not looked at, be it right or wrong.
    Locked,
}

impl Tries {
    /// Counts a PIN before it is looked at, so that as many as come at once are counted one by one.
    /// `pin_rev` is of the PIN that there is now.
    pub fn take(&mut self, pin_rev: u64, now: Timestamp) -> Turn {
        if self.pin_rev != pin_rev {
            *self = Self {
                pin_rev,
                ..Self::default()
            };
        }
        if self.locked_until.is_some_and(|until| now < until) {
            self.unseen = self.unseen.saturating_add(1);
            return Turn::Locked;
        }
        self.looked_at = self.looked_at.saturating_add(1);
        let Some(beyond) = self.looked_at.checked_sub(FREE_TRIES) else {
            return Turn::Open;
        };
        let seconds = FIRST_LOCK_S.saturating_mul(1 << beyond.min(32));
        self.locked_until = Some(now.plus(seconds.min(LONGEST_LOCK_S)));
        Turn::Last
    }

    /// Forgets what was counted: the right PIN was given.
    pub fn clear(&mut self) {
        *self = Self {
            pin_rev: self.pin_rev,
            ..Self::default()
        };
    }
}

/// How many wrong PINs may be given at one phone within [`TRIES_OF_DEVICE_S`], for whomever: whoever has
/// a stolen phone locks no more than a user or two with it.
pub const TRIES_OF_DEVICE: u32 = 10;

/// The time within which they count, in seconds.
pub const TRIES_OF_DEVICE_S: u64 = 3_600;

/// PINs that were given at one phone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriesOfDevice {
    /// When the first of them was.
    pub since: Timestamp,
    /// How many there were.
    pub count: u32,
}

impl TriesOfDevice {
    /// Counts a PIN before it is looked at; `Err`: the phone waits until then, and nothing is counted.
    ///
    /// # Errors
    /// The time at which the next one is looked at.
    pub fn take(&mut self, now: Timestamp) -> Result<Turn, Timestamp> {
        if now.since(self.since) >= TRIES_OF_DEVICE_S {
            *self = Self {
                since: now,
                count: 0,
            };
        }
        if self.count >= TRIES_OF_DEVICE {
            return Err(self.since.plus(TRIES_OF_DEVICE_S));
        }
        self.count += 1;
        Ok(if self.count == TRIES_OF_DEVICE {
            Turn::Last
        } else {
            Turn::Open
        })
    }

    /// Takes one back: it was right. The others stay, or whoever has a PIN could go on guessing others'.
    pub fn give_back(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

/// The longest form that is read, in bytes: a user and a PIN of 128 characters, each percent-encoded.
pub const FORM_BYTES: usize = 1_024;

/// The longest name of a user that is looked up, in bytes: no id and no username is longer.
const USER_BYTES: usize = 64;

/// What a phone sends when its user logs in or out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `action=login`.
    Login {
        /// The username or id of the account, as it was typed.
        user: String,
        /// The PIN.
        pin: Secret,
    },
    /// `action=logout`, whatever user and PIN it names.
    Logout,
}

/// Reads an `application/x-www-form-urlencoded` body.
///
/// # Errors
/// What is wrong with it, by the name of the field. Nothing of what was typed stands in it.
pub fn read(body: &[u8]) -> Result<Form, &'static str> {
    if body.len() > FORM_BYTES {
        return Err("the form is too long");
    }
    let (mut action, mut user, mut pin) = (None, None, None);
    for (name, value) in form_urlencoded::parse(body) {
        let (slot, twice) = match name.as_ref() {
            "action" => (&mut action, "action: is given twice"),
            "user" => (&mut user, "user: is given twice"),
            "pin" => (&mut pin, "pin: is given twice"),
            _ => return Err("there is no such field: only action, user and pin"),
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(twice);
        }
    }
    match action.as_deref() {
        Some("logout") => Ok(Form::Logout),
        Some("login") => {
            let user = user.filter(|user| (1..=USER_BYTES).contains(&user.len()));
            let user = user.ok_or("user: must have 1 to 64 characters")?;
            let pin = pin.and_then(|pin| Secret::try_from(pin).ok());
            let pin = pin.ok_or("pin: must have 1 to 128 characters of printable ASCII")?;
            Ok(Form::Login { user, pin })
        }
        _ => Err("action: must be login or logout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn five_wrong_pins_lock_and_each_further_one_for_twice_as_long_up_to_a_day() {
        let mut tries = Tries::default();
        for _ in 1..FREE_TRIES {
            assert_eq!(tries.take(7, NOW), Turn::Open);
        }
        let (mut now, mut locks) = (NOW, Vec::new());
        for _ in 0..12 {
            assert_eq!(tries.take(7, now), Turn::Last);
            let until = tries.locked_until.unwrap();
            assert_eq!(tries.take(7, Timestamp(until.0 - 1)), Turn::Locked);
            locks.push(until.since(now));
            now = until;
        }
        let doubled: Vec<u64> = (0..9).map(|n| 300 << n).collect();
        assert_eq!(locks[..9], doubled);
        assert_eq!(locks[9..], [LONGEST_LOCK_S; 3]);
        // Another PIN than those were held against begins anew, and so does the right one.
        assert_eq!(tries.clone().take(8, now), Turn::Open);
        tries.clear();
        assert_eq!((tries.take(7, now), tries.looked_at), (Turn::Open, 1));
        tries.looked_at = u32::MAX;
        assert_eq!(tries.take(7, now), Turn::Last);
        assert_eq!(tries.locked_until, Some(now.plus(LONGEST_LOCK_S)));
    }

    #[test]
    fn a_phone_waits_after_ten_wrong_pins_within_an_hour() {
        let mut tries = TriesOfDevice::default();
        for n in 1..=TRIES_OF_DEVICE {
            let turn = if n == TRIES_OF_DEVICE {
                Turn::Last
            } else {
                Turn::Open
            };
            assert_eq!(tries.take(NOW), Ok(turn));
        }
        let until = NOW.plus(TRIES_OF_DEVICE_S);
        assert_eq!(tries.take(Timestamp(until.0 - 1)), Err(until));
        assert_eq!(tries.count, TRIES_OF_DEVICE);
        tries.give_back();
        assert_eq!(tries.take(NOW), Ok(Turn::Last));
        assert_eq!(tries.take(until), Ok(Turn::Open));
        assert_eq!(tries.since, until);
    }

    #[test]
    fn a_form_says_login_or_logout_and_nothing_else() {
        let login = |user: &str, pin: &str| {
            let pin = Secret::try_from(pin.to_owned()).unwrap();
            let user = user.to_owned();
            Ok(Form::Login { user, pin })
        };
        assert_eq!(
            read(b"action=login&user=1002&pin=24%2668"),
            login("1002", "24&68")
        );
        assert_eq!(
            read(b"pin=1+2&user=a%2bb&action=login"),
            login("a+b", "1 2")
        );
        assert_eq!(read(b"action=logout&user=&pin="), Ok(Form::Logout));
        let long = format!("action=login&user={}&pin=1", "x".repeat(65));
        for (wrong, field) in [
            ("", "action"),
            ("action=Login&user=a&pin=1", "action"),
            ("action=login&action=logout", "action"),
            ("action=login&pin=1", "user"),
            ("action=login&user=&pin=1", "user"),
            (&long, "user"),
            ("action=login&user=a", "pin"),
            ("action=login&user=a&pin=", "pin"),
            ("action=login&user=a&pin=%C3%A4", "pin"),
            ("action=login&user=a&pin=1&pin=1", "pin"),
            ("action=logout&secret-7=1", "no such field"),
            (&"x".repeat(1_025), "too long"),
        ] {
            let said = read(wrong.as_bytes()).unwrap_err();
            assert!(
                said.contains(field) && !said.contains('7'),
                "{wrong}: {said}"
            );
        }
    }

    fn device(json: &serde_json::Value) -> Device {
        let mut device = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U" });
        let members = json.as_object().unwrap().clone();
        device.as_object_mut().unwrap().extend(members);
        serde_json::from_value(device).unwrap()
    }

    fn account(buttons: &serde_json::Value) -> Account {
        let json =
            json!({ "tenant": "acme", "pbx": "main", "username": "1002", "buttons": buttons });
        serde_json::from_value(json).unwrap()
    }

    fn shown(device: &Device) -> serde_json::Value {
        json!({ "lines": device.lines, "buttons": device.buttons })
    }

    #[test]
    fn the_user_has_the_first_line_alone_and_the_own_keys_or_the_hosts() {
        let id = Id::try_from("acme-1002").unwrap();
        let host = device(&json!({
            "lines": [{ "line": 3, "account": "shared" }, { "line": 2, "account": "host", "label": "Lobby" }],
            "buttons": [
                { "key": 1, "type": "line", "line": 2 },
                { "key": 2, "type": "line", "line": 3 },
                { "key": 3, "type": "transfer" },
                { "key": 4, "type": "hot_desk" },
            ],
        }));
        let lines = json!([{ "line": 2, "account": "acme-1002" }]);
        assert_eq!(
            shown(&seated(&host, &id, &account(&json!([])))),
            json!({ "lines": lines, "buttons": [
                { "key": 1, "type": "line", "line": 2 },
                { "key": 3, "type": "transfer" },
                { "key": 4, "type": "hot_desk" },
            ] })
        );
        let own = account(&json!([
            { "key": 1, "type": "line" },
            { "key": 4, "type": "dnd" },
            { "key": 5, "type": "blf", "value": "1001" },
        ]));
        assert_eq!(
            shown(&seated(&host, &id, &own)),
            json!({ "lines": lines, "buttons": [
                { "key": 4, "type": "hot_desk" },
                { "key": 1, "type": "line", "line": 2 },
                { "key": 5, "type": "blf", "value": "1001", "line": 2 },
            ] })
        );
        // A phone without an account of its own.
        let bare = seated(&device(&json!({})), &id, &own);
        assert_eq!(bare.lines[0].line, 1);
        assert_eq!(bare.buttons.len(), 3);
    }

    #[test]
    fn what_is_objected_to_is_left_out_until_nothing_is() {
        let id = Id::try_from("acme-1002").unwrap();
        let mut user = account(&json!([
            { "key": 1, "type": "line" }, { "key": 2, "type": "dnd" }, { "key": 3, "type": "redial" },
        ]));
        user.display_name = Some("Zoë".try_into().unwrap());
        let mut device = seated(&device(&json!({})), &id, &user);
        let about = |pointer: &str, field| Objection {
            account_field: field,
            ..Objection::new(pointer, "no")
        };
        let objections = [
            about("/buttons/1/type", None),
            about("/buttons/1/label", None),
            about("/lines/0/account", Some("display_name")),
        ];
        assert!(leave_out(&mut device, &mut user, &objections));
        assert_eq!(device.buttons.len(), 2);
        assert_eq!(device.buttons[1].function, Function::Redial);
        assert_eq!((user.display_name.is_none(), device.lines.len()), (true, 1));
        // Not even the username, or the password: then there is no line.
        assert!(leave_out(&mut device, &mut user, &objections[2..]));
        assert!(device.lines.is_empty());
        let rest = [about("/settings/admin_password", None)];
        assert!(!leave_out(&mut device, &mut user, &rest));
        assert!(!leave_out(&mut device, &mut user, &objections[2..]));
    }

    #[test]
    fn a_users_keys_are_checked_without_a_phone() {
        let wrong = account(&json!([
            { "key": 1, "type": "blf" },
            { "key": 1, "type": "dnd" },
            { "key": 0, "type": "dnd" },
            { "module": 0, "key": 2, "type": "dnd" },
            { "key": 3, "type": "line", "line": 2 },
        ]));
        let found = check(&wrong.buttons);
        let pointers: Vec<&str> = found.iter().map(|o| o.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/buttons/0/value",
                "/buttons/1/key",
                "/buttons/2/key",
                "/buttons/3/module",
                "/buttons/4/line"
            ]
        );
        let many: Vec<Button> = vec![wrong.buttons[1].clone(); MOST_BUTTONS + 1];
        assert_eq!(check(&many).len(), 1);
        assert!(check(&wrong.buttons[1..2]).is_empty());
    }
}
