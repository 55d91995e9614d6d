//! Changes of a profile that go to some phones first: phones that fetch and register, runs a minute apart,
//! and a bad change that takes the registration of whoever has it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use dialtone::mac::Mac;
use dialtone::record::tenant::RolloutTerms;
use dialtone::rollout;
use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{call, cost, fetch, follow, json_of, patch, put, text};
use crate::asterisk::Mood;
use crate::reconcile::Scene;
use crate::world::{Failing, Late};

const OLD: &str = "old.example";
const NEW: &str = "new.example";
pub const NAMES: [&str; 4] = ["boot.cfg", "first.cfg", "ACC.cfg", "BTN.cfg"];

pub struct Phone {
    pub mac: String,
    pub base: String,
    pub username: String,
}

pub struct Office {
    pub scene: Scene,
    pub phones: Vec<Phone>,
}

fn profile(ntp: &str) -> Value {
    json!({ "tenant": "acme", "settings": { "ntp_server": ntp } })
}

/// So many phones of one profile, which fetched their files and are registered.
pub fn office(count: u32, terms: &Value) -> Office {
    let scene = Scene::new();
    put(
        &scene.fake,
        "tenants/acme",
        &json!({ "name": "ACME", "rollout": terms }),
    );
    put(&scene.fake, "profiles/office", &profile(OLD));
    let mut office = Office {
        scene,
        phones: Vec::new(),
    };
    for n in 0..count {
        office.add(n, "office");
    }
    for _ in 0..3 {
        office.scene.minute();
    }
    office.all_fetch(|_| false);
    office.scene.minute();
    office.scene.minute();
    office
}

impl Office {
    pub fn add(&mut self, n: u32, profile: &str) {
        let fake = &self.scene.fake;
        let username = format!("2{n:03}");
        let account = crate::reconcile::account(&username);
        put(fake, &format!("accounts/acme-{username}"), &account);
        let mac = format!("805ec00001{n:02x}");
        let device = json!({
            "tenant": "acme", "vendor": "yealink", "model": "T46U", "profile": profile,
            "lines": [{ "line": 1, "account": format!("acme-{username}") }],
        });
        let made = put(fake, &format!("devices/{mac}"), &device);
        let base = made["provisioning_url"].as_str().unwrap().to_owned();
        self.phones.push(Phone {
            mac,
            base,
            username,
        });
    }

    /// What a phone gets now, all its files one after another.
    pub fn files(&self, phone: &Phone) -> String {
        let files = NAMES.map(|name| {
            let url = format!("{}{name}", phone.base);
            text(&fetch(&self.scene.fake, &follow(&url)))
        });
        files.concat()
    }

    /// A phone fetches: with what is bad for it, it cannot register.
    pub fn fetches(&self, phone: &Phone, bad: impl Fn(&str) -> bool) -> String {
        let files = self.files(phone);
        if bad(&files) {
            self.scene.asterisk.unregisters(&phone.username);
        } else {
            self.scene.asterisk.registers(&phone.username);
        }
        files
    }

    pub fn all_fetch(&self, bad: impl Fn(&str) -> bool) -> Vec<String> {
        let phones = self.phones.iter();
        phones.map(|phone| self.fetches(phone, &bad)).collect()
    }

    pub fn minutes(&self, minutes: u32) {
        for _ in 0..minutes {
            self.scene.minute();
        }
    }

    fn save(&self, ntp: &str) {
        patch(
            &self.scene.fake,
            "profiles/office",
            &json!({ "settings": { "ntp_server": ntp } }),
        );
    }

    fn shown(&self) -> Value {
        self.shown_of("office")
    }

    fn shown_of(&self, profile: &str) -> Value {
        let path = format!("profiles/{profile}/rollout");
        json_of(&call(&self.scene.fake, Method::GET, &path, &Value::Null))
    }

    fn stage(&self) -> String {
        self.shown()["stage"].as_str().unwrap().to_owned()
    }

    fn until(&self, stage: &str, within: u32) {
        for _ in 0..within {
            if self.stage() == stage {
                return;
            }
            self.scene.minute();
        }
        panic!("{} and not {stage}", self.shown());
    }

    /// Who has something of the new settings.
    fn who_has(files: &[String], ntp: &str) -> BTreeSet<usize> {
        let has = files.iter().enumerate();
        has.filter(|(_, files)| files.contains(ntp))
            .map(|(n, _)| n)
            .collect()
    }

    /// Whether all files are made of the profile as it is, whoever asked for them.
    fn is_all_made(&self) -> bool {
        let rev = self.scene.fake.objects("profile/office")[0]["rev"].clone();
        let devices = self.scene.fake.objects("device/");
        let made_of = |device: &Value| {
            device["state"]["files"]["sources"]["records"]["profile/office"].clone()
        };
        devices.iter().all(|device| made_of(device) == rev)
    }

    pub fn marks(&self) -> Vec<String> {
        self.scene.fake.r2.keys("regenerate/rollout/")
    }

    /// The actions in the audit, chained or not.
    pub fn audited(&self, action: &str) -> Vec<Value> {
        let path = format!("audit?tenant=acme&action={action}");
        let mut all = self.scene.fake.audited(action);
        let chained = json_of(&call(&self.scene.fake, Method::GET, &path, &Value::Null));
        all.extend(chained["items"].as_array().unwrap().iter().cloned());
        let mut seen = BTreeSet::new();
        all.retain(|event| {
            seen.insert(format!(
                "{} {} {}",
                event["at"], event["resource"], event["detail"]
            ))
        });
        all
    }
}

fn bad(files: &str) -> bool {
    files.contains(NEW)
}

#[test]
fn without_the_field_a_change_goes_to_all_as_ever() {
    let office = office(6, &Value::Null);
    office.save(NEW);
    assert_eq!(office.marks(), [""; 0]);
    assert_eq!(office.stage(), "everyone");
    office.minutes(2);
    let files = office.all_fetch(|_| false);
    assert!(files.iter().all(|files| files.contains(NEW)));
    let stored = office.scene.fake.objects("profile/office");
    assert_eq!(stored[0]["state"], Value::Null);
    // Nor does a run cost more where the field is set and nothing is under way.
    let quiet = |office: &Office| {
        office.minutes(20);
        office.scene.fake.r2.take_count();
        office.scene.fake.kv.take_count();
        office.minutes(1);
        (
            office.scene.fake.r2.take_count(),
            office.scene.fake.kv.take_count(),
        )
    };
    let without = quiet(&office);
    let office = crate::rollout::office(6, &json!({}));
    assert_eq!(quiet(&office), without);
}

#[test]
fn a_share_gets_a_good_change_first_and_then_everybody() {
    for (phones, percent, canaries) in [(1, 1, 1), (10, 25, 3), (20, 5, 1), (21, 5, 2)] {
        let office = office(phones, &json!({ "canary_percent": percent }));
        let before = office.all_fetch(bad);
        office.save(NEW);
        assert_eq!(office.stage(), "choosing");
        assert_eq!(office.all_fetch(|_| false), before);
        office.until("canary", 10);
        assert_eq!(office.shown()["canaries"], canaries);
        assert_eq!(office.shown()["devices"], phones);
        office.minutes(3);
        let files = office.all_fetch(|_| false);
        let who = Office::who_has(&files, NEW);
        assert_eq!(who.len(), usize::try_from(canaries).unwrap());
        for (n, (files, before)) in files.iter().zip(&before).enumerate() {
            assert_eq!(files == before, !who.contains(&n));
        }
        office.minutes(58);
        // The same ones, and nobody else.
        assert_eq!(office.all_fetch(|_| false), files);
        assert_eq!(office.shown()["fetched"], canaries);
        assert_eq!(office.stage(), "canary");
        assert_eq!(office.scene.last().rollouts, 1);
        office.until("everyone", 5);
        office.minutes(2);
        let files = office.all_fetch(|_| false);
        assert_eq!(Office::who_has(&files, NEW).len(), files.len());
        assert_eq!(office.marks(), [""; 0]);
        assert_eq!(office.scene.last().rollouts, 0);
        assert_eq!(office.audited("rollout.finished").len(), 1);
        assert_eq!(office.audited("rollout.stopped").len(), 0);
    }
}

#[test]
fn files_that_do_not_change_keep_their_version_and_the_warm_path_its_cost() {
    let office = office(10, &json!({}));
    let version = |phone: &Phone| {
        let path = format!("devices/{}/status", phone.mac);
        let status = json_of(&call(&office.scene.fake, Method::GET, &path, &Value::Null));
        status["version"].as_u64().unwrap()
    };
    let before: Vec<u64> = office.phones.iter().map(version).collect();
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(3);
    let files = office.all_fetch(|_| false);
    let who = Office::who_has(&files, NEW);
    assert_eq!(who.len(), 1);
    for (n, phone) in office.phones.iter().enumerate() {
        assert_eq!(version(phone) > before[n], who.contains(&n), "{n}");
        let warm = follow(&format!("{}ACC.cfg", phone.base));
        let (answer, kv, r2) = cost(&office.scene.fake, &warm);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!((kv.gets, kv.all(), r2.gets, r2.all()), (1, 1, 1, 1));
    }
}

#[test]
fn a_bad_change_stops_and_the_canaries_get_back_what_they_had() {
    let office = office(40, &json!({ "canary_percent": 10 }));
    let hook = json!({ "url": "https://alarms.example.com/x", "events": ["rollout"] });
    patch(
        &office.scene.fake,
        "tenants/acme",
        &json!({ "webhook": hook }),
    );
    office.minutes(2);
    let before = office.all_fetch(bad);
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(2);
    let files = office.all_fetch(bad);
    let who = Office::who_has(&files, NEW);
    assert_eq!(who.len(), 4);
    office.minutes(4);
    assert_eq!(office.stage(), "canary", "not before five minutes");
    office.until("stopped", 5);
    let shown = office.shown();
    assert_eq!((&shown["lost"], &shown["fetched"]), (&json!(4), &json!(4)));
    assert_eq!(shown["why"], "lost");
    office.minutes(2);
    assert_eq!(office.all_fetch(bad), before);
    office.minutes(3);
    // All are back, and it stays so.
    assert_eq!(office.all_fetch(bad), before);
    let stopped = office.audited("rollout.stopped");
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(stopped[0]["alarm"], true);
    assert_eq!(stopped[0]["resource"], "profiles/office");
    assert_eq!(stopped[0]["detail"]["lost"], "4");
    assert_eq!(office.marks(), [""; 0]);
    // Nobody answers at that address: it was tried, since the webhook wants to know this.
    assert_eq!(office.audited("webhook.failed").len(), 1);
    office.minutes(70);
    assert_eq!(office.stage(), "stopped");
    assert_eq!(office.all_fetch(bad), before);
    // What an admin sees is what is saved, and that it is held back.
    let path = "profiles/office";
    let shown = json_of(&call(&office.scene.fake, Method::GET, path, &Value::Null));
    assert_eq!(shown["settings"]["ntp_server"], NEW);
    assert_eq!(shown["rollout"]["stage"], "stopped");
    // It may be sent back as it is: nothing changes by that.
    put(&office.scene.fake, path, &shown);
    assert_eq!(office.stage(), "stopped");
    office.scene.keeps_secrets();
}

#[test]
fn what_is_given_back_has_todays_passwords() {
    let office = office(10, &json!({}));
    let secret = json!({ "settings": { "ntp_server": OLD, "admin_password": "admin-one" } });
    patch(&office.scene.fake, "profiles/office", &secret);
    office.minutes(3);
    let before = office.all_fetch(bad);
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(2);
    let who = Office::who_has(&office.all_fetch(bad), NEW);
    let canary = &office.phones[*who.iter().next().unwrap()];
    let account = format!("accounts/acme-{}", canary.username);
    let changed = json!({ "password": "Another-Secret-2" });
    patch(&office.scene.fake, &account, &changed);
    let secret = json!({ "settings": { "admin_password": "admin-two" } });
    patch(&office.scene.fake, "profiles/office", &secret);
    // A password of the profile is held back from nobody, and no roll-out of its own: all files are made
    // again, and not when a phone asks only.
    office.minutes(3);
    assert!(office.is_all_made());
    for (files, before) in office.all_fetch(bad).iter().zip(&before) {
        assert!(before.contains("admin-one") && files.contains("admin-two"));
    }
    office.until("stopped", 30);
    office.minutes(2);
    let back = office.files(canary);
    let expected = before[*who.iter().next().unwrap()]
        .replace("admin-one", "admin-two")
        .replace(crate::reconcile::PASSWORD, "Another-Secret-2");
    assert_eq!(back, expected);
}

#[test]
fn a_pbx_that_fails_or_loses_everybody_proves_nothing() {
    for mood in Mood::BAD {
        let office = office(10, &json!({ "minutes": 15 }));
        office.save(NEW);
        office.until("canary", 10);
        office.minutes(2);
        office.all_fetch(|_| false);
        office.minutes(1);
        office.scene.asterisk.is(mood);
        office.minutes(40);
        // Neither good nor bad.
        assert_eq!(office.stage(), "canary", "{mood:?}");
        office.scene.asterisk.is(Mood::Up);
        office.until("everyone", 20);
    }
    // A site without power: all of them are gone, and the PBX says so.
    let office = office(20, &json!({ "minutes": 15, "canary_percent": 20 }));
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(2);
    office.all_fetch(|_| false);
    office.minutes(1);
    for phone in &office.phones {
        office.scene.asterisk.unregisters(&phone.username);
    }
    office.minutes(60);
    assert_eq!(office.stage(), "canary");
    for phone in &office.phones {
        office.scene.asterisk.registers(&phone.username);
    }
    office.until("everyone", 20);
}

#[test]
fn a_single_phone_that_goes_stops_nothing_before_the_time_is_over() {
    for comes_back in [true, false] {
        let office = office(20, &json!({ "minutes": 30, "canary_percent": 20 }));
        office.save(NEW);
        office.until("canary", 10);
        office.minutes(2);
        let who = Office::who_has(&office.all_fetch(|_| false), NEW);
        assert_eq!(who.len(), 4);
        let gone = &office.phones[*who.iter().next().unwrap()].username;
        office.minutes(2);
        office.scene.asterisk.unregisters(gone);
        office.minutes(20);
        assert_eq!(office.stage(), "canary");
        assert_eq!(office.shown()["lost"], 1);
        if comes_back {
            office.scene.asterisk.registers(gone);
            office.until("everyone", 20);
        } else {
            office.until("stopped", 20);
        }
    }
}

#[test]
fn whoever_goes_at_the_last_moment_is_waited_for() {
    let office = office(20, &json!({ "minutes": 15, "canary_percent": 20 }));
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(2);
    let who = Office::who_has(&office.all_fetch(|_| false), NEW);
    office.minutes(14);
    for n in who.iter().take(2) {
        office
            .scene
            .asterisk
            .unregisters(&office.phones[*n].username);
    }
    // The other two are fine, and have been for long enough.
    office.minutes(4);
    assert_eq!(office.stage(), "canary");
    office.until("stopped", 8);
}

#[test]
fn canaries_that_do_not_fetch_are_waited_for_a_week() {
    let office = office(10, &json!({}));
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(70);
    assert_eq!(office.stage(), "canary");
    assert_eq!(office.shown()["fetched"], 0);
    office.scene.fake.clock.pass_s(6 * 86_400);
    office.minutes(3);
    assert_eq!(office.stage(), "canary");
    office.scene.fake.clock.pass_s(86_400);
    office.until("stopped", 3);
    assert_eq!(office.shown()["why"], "not_proved");
}

#[test]
fn a_second_save_begins_anew_and_the_first_settings_stay_everybodys() {
    let office = office(20, &json!({ "canary_percent": 20 }));
    let before = office.all_fetch(bad);
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(2);
    office.all_fetch(|_| false);
    office.save("newer.example");
    assert_eq!(office.stage(), "choosing");
    office.minutes(2);
    // Also those that had the first ones go back meanwhile, and are told.
    assert!(office.is_all_made());
    assert_eq!(office.all_fetch(|_| false), before);
    office.until("canary", 10);
    office.minutes(2);
    let files = office.all_fetch(|_| false);
    assert_eq!(Office::who_has(&files, NEW).len(), 0);
    assert_eq!(Office::who_has(&files, "newer.example").len(), 4);
    assert_eq!(Office::who_has(&files, OLD).len(), 16);
    // Back to what the others have: it is over.
    office.save(OLD);
    assert_eq!(office.stage(), "everyone");
    office.minutes(2);
    assert_eq!(office.all_fetch(|_| false), before);
    office.minutes(2);
    assert_eq!(office.marks(), [""; 0]);
    // A change of something else is none.
    patch(
        &office.scene.fake,
        "profiles/office",
        &json!({ "name": "Office" }),
    );
    assert_eq!(office.stage(), "everyone");
}

#[test]
fn turning_it_off_gives_what_is_under_way_to_everybody_and_what_is_stopped_to_nobody() {
    let off = json!({ "rollout": null });
    let office = office(10, &json!({}));
    office.save(NEW);
    office.until("canary", 10);
    patch(&office.scene.fake, "tenants/acme", &off);
    office.until("everyone", 2);
    office.minutes(2);
    let files = office.all_fetch(|_| false);
    assert_eq!(Office::who_has(&files, NEW).len(), 10);
    let office = crate::rollout::office(10, &json!({}));
    office.save(NEW);
    office.until("canary", 10);
    office.minutes(2);
    office.all_fetch(bad);
    office.until("stopped", 20);
    patch(&office.scene.fake, "tenants/acme", &off);
    patch(
        &office.scene.fake,
        "profiles/office",
        &json!({ "name": "Office" }),
    );
    office.minutes(10);
    assert_eq!(office.stage(), "stopped");
    assert_eq!(Office::who_has(&office.all_fetch(bad), NEW).len(), 0);
}

#[test]
fn an_admin_has_the_last_word() {
    let office = office(10, &json!({}));
    let before = office.all_fetch(bad);
    let say = |body: &Value| {
        let path = "profiles/office/rollout";
        call(&office.scene.fake, Method::POST, path, body)
            .status()
            .as_u16()
    };
    let (everyone, stop) = (json!({ "to": "everyone" }), json!({ "to": "stop" }));
    assert_eq!(say(&everyone), 409);
    assert_eq!(say(&json!({})), 422);
    office.save(NEW);
    assert_eq!(say(&json!({ "to": "nobody" })), 422);
    office.until("canary", 10);
    office.minutes(2);
    assert_eq!(Office::who_has(&office.all_fetch(|_| false), NEW).len(), 1);
    assert_eq!((say(&stop), say(&stop)), (200, 409));
    assert_eq!(office.shown()["why"], "admin");
    office.minutes(2);
    assert_eq!(office.all_fetch(|_| false), before);
    let told = office.audited("rollout.stopped");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["alarm"], Value::Null);
    assert_eq!((say(&everyone), say(&everyone)), (200, 409));
    office.minutes(2);
    assert_eq!(Office::who_has(&office.all_fetch(|_| false), NEW).len(), 10);
    assert_eq!(office.stage(), "everyone");
    // Before anybody was chosen too.
    office.save("newer.example");
    assert_eq!(say(&everyone), 200);
    office.minutes(2);
    let files = office.all_fetch(|_| false);
    assert_eq!(Office::who_has(&files, "newer.example").len(), 10);
}

#[test]
fn two_profiles_are_rolled_out_side_by_side() {
    let mut office = office(10, &json!({}));
    put(&office.scene.fake, "profiles/lobby", &profile(OLD));
    for n in 10..20 {
        office.add(n, "lobby");
    }
    office.minutes(3);
    office.all_fetch(|_| false);
    office.minutes(2);
    office.save(NEW);
    let lobby = json!({ "settings": { "ntp_server": "lobby.example" } });
    patch(&office.scene.fake, "profiles/lobby", &lobby);
    office.until("canary", 10);
    office.minutes(4);
    assert_eq!(office.scene.last().rollouts, 2);
    // The one is bad, the other is not.
    let files = office.all_fetch(bad);
    let lobby = Office::who_has(&files, "lobby.example");
    assert_eq!((Office::who_has(&files, NEW).len(), lobby.len()), (1, 1));
    assert!(lobby.iter().all(|n| *n >= 10));
    office.until("stopped", 20);
    office.minutes(60);
    assert_eq!(office.shown_of("lobby")["stage"], "everyone");
    let files = office.all_fetch(bad);
    assert_eq!(Office::who_has(&files, NEW).len(), 0);
    assert_eq!(Office::who_has(&files, "lobby.example").len(), 10);
}

/// A run, of which after so many writes none gets through.
pub fn cut(office: &Office, spared: u32) -> bool {
    let writes = Rc::new(Cell::new(0));
    office.scene.fake.clock.pass_s(60);
    office.scene.fake.r2.cut_after(spared, Rc::clone(&writes));
    office.scene.run();
    office.scene.fake.r2.heal();
    writes.get() > spared
}

#[test]
fn cut_off_at_any_write_it_comes_to_the_same_end() {
    for good in [true, false] {
        let end = if good { "everyone" } else { "stopped" };
        let first = office(10, &json!({ "minutes": 15, "canary_percent": 20 }));
        let before = first.all_fetch(bad);
        first.save(NEW);
        first.until("canary", 10);
        let start = first.scene.fake.snapshot();
        // From the save on, and from the fetch on.
        for spared in 0..14 {
            first.scene.fake.restore(&start);
            first.minutes(3);
            let files = first.all_fetch(|files| !good && bad(files));
            assert_eq!(Office::who_has(&files, NEW).len(), 2);
            let mut runs = 0;
            while first.stage() == "canary" {
                cut(&first, spared);
                // A lease that could not be given back ends.
                first.scene.fake.clock.pass_s(120);
                first.scene.minute();
                runs += 1;
                assert!(runs < 40, "{spared}: {}", first.shown());
            }
            assert_eq!(first.stage(), end, "{spared}");
            first.minutes(4);
            let files = first.all_fetch(|files| !good && bad(files));
            if good {
                assert_eq!(Office::who_has(&files, NEW).len(), 10);
            } else {
                assert_eq!(files, before);
                assert!(!first.audited("rollout.stopped").is_empty(), "{spared}");
            }
            assert_eq!(first.marks(), [""; 0], "{spared}");
            assert_eq!(first.scene.fake.r2.keys("unfinished/"), [""; 0]);
        }
    }
    // While it is chosen.
    let first = office(10, &json!({ "canary_percent": 20 }));
    let before = first.all_fetch(bad);
    first.save(NEW);
    let start = first.scene.fake.snapshot();
    for spared in 0..14 {
        first.scene.fake.restore(&start);
        for _ in 0..6 {
            cut(&first, spared);
            let files = first.all_fetch(|_| false);
            assert!(Office::who_has(&files, NEW).len() <= 2, "{spared}");
            first.scene.fake.clock.pass_s(120);
        }
        first.until("canary", 10);
        first.minutes(4);
        let files = first.all_fetch(|_| false);
        assert_eq!(Office::who_has(&files, NEW).len(), 2, "{spared}");
        let same = files.iter().zip(&before).filter(|(a, b)| a == b).count();
        assert_eq!(same, 8);
    }
}

#[test]
fn a_save_that_is_cut_off_is_rolled_out_all_the_same() {
    for spared in 0..8 {
        let office = office(10, &json!({}));
        let writes = Rc::new(Cell::new(0));
        office.scene.fake.r2.cut_after(spared, Rc::clone(&writes));
        let body = json!({ "settings": { "ntp_server": NEW } });
        call(&office.scene.fake, Method::PATCH, "profiles/office", &body);
        office.scene.fake.r2.heal();
        let saved = office.scene.fake.objects("profile/office")[0]["record"]["settings"]["ntp_server"]
            == NEW;
        if saved {
            office.until("canary", 12);
            office.minutes(3);
        } else {
            office.minutes(10);
            assert_eq!(office.stage(), "everyone", "{spared}");
        }
        let files = office.all_fetch(|_| false);
        let expected = usize::from(saved);
        assert_eq!(Office::who_has(&files, NEW).len(), expected, "{spared}");
    }
}

#[test]
fn what_the_field_says_has_bounds() {
    let office = office(1, &json!({}));
    for (terms, field) in [
        (json!({ "canary_percent": 0 }), "canary_percent"),
        (json!({ "canary_percent": 51 }), "canary_percent"),
        (json!({ "minutes": 14 }), "minutes"),
        (json!({ "minutes": 1441 }), "minutes"),
        (json!({ "max_lost_percent": 51 }), "max_lost_percent"),
        (json!({ "share": 5 }), "share"),
    ] {
        let body = json!({ "rollout": terms });
        let answer = call(&office.scene.fake, Method::PATCH, "tenants/acme", &body);
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{terms}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        let pointer = format!("/rollout/{field}");
        assert_eq!(
            problem["errors"][0]["pointer"],
            pointer.as_str(),
            "{problem}"
        );
    }
    let terms = json!({ "canary_percent": 5, "minutes": 60, "max_lost_percent": 10 });
    let shown = patch(
        &office.scene.fake,
        "tenants/acme",
        &json!({ "rollout": {} }),
    );
    assert_eq!(shown["rollout"], terms);
}

proptest! {
    /// As many as the share says, rounded up, are below the threshold, whatever the order in which the devices
    /// were seen; and with another edition it is others.
    #[test]
    fn the_threshold_picks_exactly_the_share(
        macs in proptest::collection::btree_set(any::<u32>(), 1..400),
        percent in 1..=50_u64,
        edition in any::<u64>(),
    ) {
        let terms: RolloutTerms =
            serde_json::from_value(json!({ "canary_percent": percent })).unwrap();
        let macs: Vec<Mac> = macs
            .iter()
            .map(|n| format!("805e{n:08x}").parse().unwrap())
            .collect();
        let first = |macs: &mut dyn Iterator<Item = &Mac>| {
            let mut first = Vec::new();
            for mac in macs {
                rollout::keep_first(&mut first, rollout::place("office", edition, *mac), *mac);
            }
            first
        };
        let kept = first(&mut macs.iter());
        prop_assert_eq!(&kept, &first(&mut macs.iter().rev()));
        let count = u32::try_from(macs.len()).unwrap();
        let (below, chosen) = rollout::choose(&kept, count, &terms).unwrap();
        let is_one = |mac: &&Mac| rollout::place("office", edition, **mac) < below;
        let expected = (u64::from(count) * percent).div_ceil(100);
        prop_assert_eq!(macs.iter().filter(is_one).count() as u64, expected);
        let all: BTreeSet<Mac> = chosen.into_iter().collect();
        prop_assert_eq!(macs.iter().filter(is_one).copied().collect::<BTreeSet<_>>(), all);
    }
}

/// What can go wrong around an office, whatever is rolled out there.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// The PBX answers, or does not.
    Pbx(bool),
    /// R2 fails for devices, or does not.
    R2(bool),
    /// How late KV is.
    Kv(Late),
    /// A run is cut off after so many writes.
    Cut(u32),
}

pub fn troubles() -> impl Strategy<Value = Trouble> {
    let late = prop_oneof![Just(Late::No), Just(Late::Cached), Just(Late::Behind)];
    prop_oneof![
        any::<bool>().prop_map(Trouble::Pbx),
        any::<bool>().prop_map(Trouble::R2),
        late.prop_map(Trouble::Kv),
        (0..10_u32).prop_map(Trouble::Cut),
    ]
}

impl Office {
    pub fn meets(&self, trouble: &Trouble) {
        let fake = &self.scene.fake;
        match *trouble {
            Trouble::Pbx(up) => self
                .scene
                .asterisk
                .is(if up { Mood::Up } else { Mood::Down }),
            Trouble::R2(fails) => {
                let devices = Failing::Prefix("device/".to_owned());
                *fake.r2.failing.borrow_mut() = if fails { devices } else { Failing::None };
            }
            Trouble::Kv(late) => fake.kv.late.set(late),
            Trouble::Cut(spared) => {
                cut(self, spared);
            }
        }
    }

    /// Everything works again, for so many minutes.
    pub fn calms_down(&self, minutes: u32) {
        let fake = &self.scene.fake;
        *fake.r2.failing.borrow_mut() = Failing::None;
        fake.kv.late.set(Late::No);
        self.scene.asterisk.is(Mood::Up);
        fake.clock.pass_s(200);
        self.minutes(minutes);
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Minute,
    Fetch(usize),
    Save(u8),
    Relabel(usize),
    Password(usize),
    Trouble(Trouble),
    Admin(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => Just(Deed::Minute),
        8 => (0..12_usize).prop_map(Deed::Fetch),
        1 => (0..3_u8).prop_map(Deed::Save),
        1 => (0..12_usize).prop_map(Deed::Relabel),
        1 => (0..12_usize).prop_map(Deed::Password),
        4 => troubles().prop_map(Deed::Trouble),
        1 => any::<bool>().prop_map(Deed::Admin),
    ];
    proptest::collection::vec(deed, 40..120)
}

/// What the profile in R2 says that a phone may have, and what everybody had.
fn allowed(office: &Office, phone: &Phone) -> (String, BTreeSet<String>) {
    let stored = office.scene.fake.objects("profile/office");
    let stored = stored[0].clone();
    let new = stored["record"]["settings"]["ntp_server"].clone();
    let state = &stored["state"];
    let mac: Mac = phone.mac.parse().unwrap();
    let settings = if state.is_null() {
        new
    } else {
        let below = state["stage"]["canary"]["below"].as_u64().unwrap_or(0);
        let edition = state["edition"].as_u64().unwrap();
        if rollout::place("office", edition, mac) < below {
            new
        } else {
            state["former"]["ntp_server"].clone()
        }
    };
    let now = settings.as_str().unwrap().to_owned();
    (now.clone(), [now].into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever happens, a phone has what it was allowed to have at some time since the start, and a phone that
    /// is no canary never what only canaries had; when all is quiet, what it is allowed to have now.
    #[test]
    fn nobody_gets_early_what_is_for_the_canaries(deeds in deeds()) {
        let office = office(12, &json!({ "minutes": 15, "canary_percent": 20 }));
        let hosts = [OLD, NEW, "newer.example"];
        let mut was_allowed: Vec<BTreeSet<String>> = vec![[OLD.to_owned()].into(); 12];
        for deed in deeds {
            let fake = &office.scene.fake;
            match deed {
                Deed::Minute => { office.scene.minute(); }
                Deed::Fetch(n) => {
                    let phone = &office.phones[n];
                    for name in NAMES {
                        let url = follow(&format!("{}{name}", phone.base));
                        let answer = fetch(fake, &url);
                        let body = String::from_utf8_lossy(answer.body()).into_owned();
                        for host in hosts {
                            prop_assert!(!body.contains(host) || was_allowed[n].contains(host), "{n} {host}");
                        }
                        if body.contains("newer.example") {
                            office.scene.asterisk.unregisters(&phone.username);
                        }
                    }
                }
                Deed::Save(which) => {
                    let body = json!({ "settings": { "ntp_server": hosts[usize::from(which)] } });
                    call(fake, Method::PATCH, "profiles/office", &body);
                }
                Deed::Relabel(n) => {
                    let buttons = json!([{ "key": 1, "type": "speed_dial", "value": "4711" }]);
                    let path = format!("devices/{}", office.phones[n].mac);
                    call(fake, Method::PATCH, &path, &json!({ "buttons": buttons }));
                }
                Deed::Password(n) => {
                    let path = format!("accounts/acme-{}", office.phones[n].username);
                    call(fake, Method::POST, &format!("{path}/rotate"), &json!({}));
                }
                Deed::Trouble(trouble) => office.meets(&trouble),
                Deed::Admin(stop) => {
                    let body = json!({ "to": if stop { "stop" } else { "everyone" } });
                    call(fake, Method::POST, "profiles/office/rollout", &body);
                }
            }
            for (phone, was) in office.phones.iter().zip(&mut was_allowed) {
                was.extend(allowed(&office, phone).1);
            }
        }
        office.calms_down(2);
        let now: Vec<String> = office.phones.iter().map(|phone| allowed(&office, phone).0).collect();
        for (phone, now) in office.phones.iter().zip(&now) {
            prop_assert!(office.files(phone).contains(now.as_str()));
        }
        // A roll-out that is open has its mark, and no other has one for long.
        let open = matches!(office.stage().as_str(), "choosing" | "canary");
        prop_assert_eq!(office.marks().len(), usize::from(open));
    }
}
