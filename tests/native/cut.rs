//! Whatever an admin, a phone or the clock sets going is cut off at each of its operations: after two
//! runs the records, their copies, the phones' files and the PBXes agree.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dialtone::key::{self, Kind};
use dialtone::ports::World;
use dialtone::reconcile::breaker::GRACE_S;
use dialtone::record::account::{Account, PIN};
use dialtone::record::device::Device;
use dialtone::record::pbx::Pbx;
use dialtone::record::{Record, Stored};
use dialtone::render::{self, From, Ingredients};
use dialtone::request::Request;
use dialtone::step3_boot_request::Part;
use dialtone::step7_register::{self as register, FormerLogin, PjsipObjects};
use dialtone::store::{self, secret_place};
use dialtone::text::Id;
use dialtone::time::Timestamp;
use dialtone::{afterwards, entry, session, tick};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{ORIGIN, PLACE, Told, call_by, follow, get, header, put};
use crate::asterisk::{Asterisk, Kept};
use crate::dice::{Dice, seed};
use crate::knife::{Cut, Knife};
use crate::reconcile::{ARI_PASSWORD, account, connect, pbx};
use crate::world::{ADMIN_TOKEN, Fake, Snapshot, block_on};

/// A desk phone, two that are for hot-desking, and one that is not there yet.
const DESK: &str = "805ec0000001";
const FREE: &str = "805ec0000002";
const BARE: &str = "805ec0000003";
const NEW: &str = "805ec0000004";

/// How long a killed run keeps others away, in seconds; a mark of a save is old by then, too.
const LEASE_S: u64 = 160;

/// How long a session lasts, in seconds.
const SESSION_S: u64 = 12 * 3_600;

/// Something that somebody does.
#[derive(Debug, Clone)]
enum Step {
    /// An admin's call.
    Call(Method, String, Value),
    /// The same with a body of lines.
    Batch(&'static str, Vec<Value>),
    /// A form from a phone's key.
    Form(&'static str, String),
    /// A phone fetches a file of its own.
    Fetch(&'static str, &'static str),
    /// A phone asks where its files are.
    Ask(&'static str),
    /// An admin takes a phone back to the first version that it keeps.
    Back(&'static str),
    /// Time passes.
    Pass(u64),
    /// The scheduled handler's run.
    Run,
}

fn change(path: &str, body: Value) -> Step {
    Step::Call(Method::PATCH, path.to_owned(), body)
}

fn save(path: &str, body: Value) -> Step {
    Step::Call(Method::PUT, path.to_owned(), body)
}

fn post(path: &str, body: Value) -> Step {
    Step::Call(Method::POST, path.to_owned(), body)
}

fn remove(path: &str) -> Step {
    Step::Call(Method::DELETE, path.to_owned(), Value::Null)
}

fn login(mac: &'static str, user: &str) -> Step {
    Step::Form(mac, format!("action=login&user={user}&pin=pin-{user}"))
}

fn logout(mac: &'static str) -> Step {
    Step::Form(mac, "action=logout".to_owned())
}

fn device(more: &Value) -> Value {
    let mut device =
        json!({ "tenant": "acme", "vendor": "yealink", "model": "T54W", "profile": "office" });
    let more = more.as_object().unwrap().clone();
    device.as_object_mut().unwrap().extend(more);
    device
}

fn lines(accounts: &[&str]) -> Value {
    let lines = accounts.iter().zip(1..);
    lines
        .map(|(account, n)| json!({ "line": n, "account": format!("acme-{account}") }))
        .collect()
}

/// A customer with phones that work, users of whom one is logged in, and two PBXes.
struct Office {
    fake: Rc<Fake>,
    main: Rc<Asterisk>,
    spare: Rc<Asterisk>,
}

/// All of it at one moment.
struct Moment {
    stores: Snapshot,
    main: Kept,
    spare: Kept,
}

impl Office {
    fn new() -> Self {
        let fake = Fake::new();
        let main = Asterisk::new("dialtone", ARI_PASSWORD);
        let spare = Asterisk::new("dialtone", ARI_PASSWORD);
        connect(&fake, &[("pbx.example", &main), ("spare.example", &spare)]);
        put(
            &fake,
            "tenants/acme",
            &json!({ "proofs": ["serial", "window"] }),
        );
        put(&fake, "profiles/office", &json!({ "tenant": "acme" }));
        put(&fake, "pbxes/main", &pbx("pbx.example", "push"));
        put(&fake, "pbxes/spare", &pbx("spare.example", "push"));
        for name in ["1001", "1002", "1003", "1004", "1005"] {
            let mut account = account(name);
            account["pin"] = json!(format!("pin-{name}"));
            put(&fake, &format!("accounts/acme-{name}"), &account);
        }
        let free = json!({ "user_type": "hot-desking" });
        let hosted = json!({ "user_type": "hot-desking", "lines": lines(&["1002"]) });
        for (mac, more) in [
            (DESK, json!({ "lines": lines(&["1001"]), "serial": "S1" })),
            (FREE, hosted),
            (BARE, free),
        ] {
            put(&fake, &format!("devices/{mac}"), &device(&more));
        }
        let office = Self { fake, main, spare };
        office.fake.clock.pass_s(90);
        office.done(&login(FREE, "1003"));
        for mac in [DESK, FREE, BARE] {
            office.fake.clock.pass_s(2);
            office.done(&Step::Fetch(mac, "boot.cfg"));
            office.done(&Step::Fetch(mac, "ACC.cfg"));
        }
        // Two passwords work of one account that is on no phone's call.
        office.fake.clock.pass_s(2);
        office.done(&change(
            "accounts/acme-1002",
            json!({ "password": "Second-Secret-2" }),
        ));
        for _ in 0..4 {
            office.fake.clock.pass_s(60);
            office.done(&Step::Run);
        }
        office.fake.r2.throttles.set(true);
        office.agrees("at the start", false);
        office
    }

    fn keep(&self) -> Moment {
        Moment {
            stores: self.fake.snapshot(),
            main: self.main.keep(),
            spare: self.spare.keep(),
        }
    }

    fn put_back(&self, moment: &Moment) {
        self.fake.restore(&moment.stores);
        self.main.put_back(&moment.main);
        self.spare.put_back(&moment.spare);
        self.main.take_calls();
        self.spare.take_calls();
        self.fake.log.borrow_mut().clear();
    }

    fn stored<R: Record>(&self, id: &str) -> Option<Stored<R>> {
        let loaded = block_on(store::load::<R, Fake>(&self.fake, id)).unwrap();
        loaded.map(|loaded| loaded.stored)
    }

    /// Where a phone's files are; of one that is not there, nowhere.
    fn base(&self, mac: &str) -> String {
        let token = self
            .stored::<Device>(mac)
            .map_or(0, |device| device.state.access.token);
        render::base(self.fake.keys(), mac.parse().unwrap(), token, ORIGIN).unwrap()
    }

    fn request(&self, step: &Step) -> Option<Request> {
        Some(match step {
            Step::Call(method, path, body) => call_by(ADMIN_TOKEN, method.clone(), path, body),
            Step::Batch(path, records) => {
                let mut request = call_by(ADMIN_TOKEN, Method::POST, path, &Value::Null)
                    .with("content-type", "application/x-ndjson");
                let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
                request.body = lines.join("\n").into_bytes();
                request
            }
            Step::Form(mac, form) => {
                let mut request = follow(&format!("{}hotdesk", self.base(mac)))
                    .by(Method::POST)
                    .with("content-type", "application/x-www-form-urlencoded");
                request.body = form.clone().into_bytes();
                request
            }
            Step::Fetch(mac, file) => follow(&format!("{}{file}", self.base(mac))),
            Step::Ask(mac) => get(&format!("/rps?mac={mac}")),
            Step::Back(mac) => {
                let device = self.stored::<Device>(mac).unwrap();
                let body = json!({ "version": device.state.versions[0].version });
                let path = format!("devices/{mac}/rollback");
                call_by(ADMIN_TOKEN, Method::POST, &path, &body)
            }
            Step::Pass(_) | Step::Run => return None,
        })
    }

    /// Does a step on a world, with what is written afterwards.
    async fn take<W: World>(&self, world: &W, step: &Step) -> StatusCode {
        match (self.request(step), step) {
            (Some(request), _) => {
                let answer = Box::pin(entry::answer(world, &PLACE, &request)).await;
                if let Some(afterwards) = answer.afterwards {
                    Box::pin(afterwards::write(world, afterwards)).await;
                }
                return answer.response.status();
            }
            (None, Step::Pass(seconds)) => self.fake.clock.pass_s(*seconds),
            (None, _) => Box::pin(tick::run(world, None)).await,
        }
        StatusCode::OK
    }

    /// Does a step, which must succeed.
    #[track_caller]
    fn done(&self, step: &Step) {
        let status = block_on(self.take(&*self.fake, step));
        assert!(status.is_success(), "{step:?}: {status}");
    }

    /// Does a step that is cut after so many operations; true if it came to that.
    fn cut(&self, step: &Step, cut: Cut, after: usize, between: impl FnOnce() + 'static) -> bool {
        let knife = Knife::new(&self.fake, cut, after).between(between);
        knife.run(async {
            Box::pin(self.take(&knife, step)).await;
        })
    }

    fn two_runs(&self) {
        self.fake.clock.pass_s(LEASE_S);
        self.done(&Step::Run);
        self.fake.clock.pass_s(60);
        self.done(&Step::Run);
    }

    /// Nothing that belongs together differs. `settled`: the time is over that names keep which were given up.
    #[track_caller]
    fn agrees(&self, what: &str, settled: bool) {
        let r2 = &self.fake.r2;
        for prefix in [key::ALL_UNFINISHED, key::ALL_CHANGED] {
            assert_eq!(r2.keys(prefix), Vec::<String>::new(), "{what}");
        }
        self.copies_agree(what);
        let accounts = self.accounts();
        let devices: BTreeMap<String, Stored<Device>> = r2
            .keys("device/")
            .iter()
            .map(|key| {
                (
                    key::last(key).to_owned(),
                    self.stored(key::last(key)).unwrap(),
                )
            })
            .collect();
        self.lists_agree(what, &accounts, &devices);
        for (mac, device) in &devices {
            self.files_agree(what, mac, device);
            self.versions_agree(what, mac, device);
        }
        for (id, asterisk) in [("main", &self.main), ("spare", &self.spare)] {
            self.pbx_agrees(what, id, asterisk, &accounts, settled);
        }
    }

    fn accounts(&self) -> BTreeMap<Id, Stored<Account>> {
        let keys = self.fake.r2.keys("account/");
        let ids = keys.iter().map(|key| key::last(key));
        ids.map(|id| (Id::try_from(id).unwrap(), self.stored(id).unwrap()))
            .collect()
    }

    /// KV has what R2 has of each record, but for what phones did and their files.
    #[track_caller]
    fn copies_agree(&self, what: &str) {
        for stored in self.fake.r2.keys("") {
            let kind = key::parse_record(&stored).map(|(kind, _)| kind);
            let is_pack = stored.starts_with("rules/");
            if kind.is_none_or(|kind| kind == Kind::Token) && !is_pack {
                continue;
            }
            let part = |mut value: Value| {
                if kind == Some(Kind::Device) {
                    let access = value["state"]["access"]["token"].clone();
                    value["state"] = json!({ "token": access });
                    value["rev"] = Value::Null;
                }
                value
            };
            let truth: Value = self.fake.objects(&stored).remove(0);
            let copy = self
                .fake
                .kv
                .value_before(&stored, 0)
                .map(|text| serde_json::from_str(&text).unwrap());
            assert_eq!(copy.map(part), Some(part(truth)), "{what}: {stored}");
        }
    }

    /// Names, lists and seats are as the records say.
    #[track_caller]
    fn lists_agree(
        &self,
        what: &str,
        accounts: &BTreeMap<Id, Stored<Account>>,
        devices: &BTreeMap<String, Stored<Device>>,
    ) {
        let r2 = &self.fake.r2;
        let alive = accounts.iter().filter(|(_, stored)| stored.alive());
        for (id, stored) in alive {
            let record = &stored.record;
            let name = key::name(&record.pbx, &record.username);
            let held = block_on(dialtone::ports::Objects::get(r2, &name))
                .unwrap()
                .unwrap();
            assert_eq!(String::from_utf8(held.body).unwrap(), id.as_str(), "{what}");
            assert!(stored.state.former_names.is_empty(), "{what}: {id}");
            let owned = key::owned(&record.tenant, Kind::Account, id.as_str());
            assert_eq!(r2.keys(&owned).len(), 1, "{what}: {owned}");
            let on = devices.iter().filter(|(_, device)| device.has_account(id));
            let on: BTreeSet<String> = on.map(|(mac, _)| mac.clone()).collect();
            let listed = stored
                .state
                .devices
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(on, listed, "{what}: the devices of {id}");
        }
        for key in r2.keys("session/") {
            let seat = &self.fake.objects(&key)[0]["seat"];
            if let Some(mac) = seat["mac"].as_str() {
                let named = devices[mac].state.session.as_ref();
                let named = named.map(|session| (session.id.as_str(), session.account.as_str()));
                let expected = (seat["id"].as_str().unwrap(), key::last(&key));
                assert_eq!(named, Some(expected), "{what}: the seat of {key}");
                let until: Timestamp = serde_json::from_value(seat["until"].clone()).unwrap();
                let end = key::session_end(until, &Id::try_from(key::last(&key)).unwrap());
                assert_eq!(r2.keys(&end).len(), 1, "{what}: {end}");
            }
        }
        for (mac, device) in devices {
            // Who is gone need not be taken off.
            let alive = |id: &&Id| accounts.get(*id).is_some_and(|stored| stored.alive());
            let left = device.state.former_accounts.iter().find(alive);
            assert_eq!(left, None, "{what}: {mac}");
            let stands = block_on(session::stands(&*self.fake, mac.parse().unwrap(), device));
            assert_eq!(
                device.state.session.is_some(),
                stands.unwrap(),
                "{what}: {mac}"
            );
        }
    }

    /// A phone gets the bytes that are made of the records now.
    #[track_caller]
    fn files_agree(&self, what: &str, mac: &str, device: &Stored<Device>) {
        if !device.alive() {
            assert_eq!(device.state.files, None, "{what}: {mac}");
            return;
        }
        let keys = self.fake.keys();
        let number = mac.parse().unwrap();
        let fresh = async {
            let made = Ingredients::gather(&*self.fake, number, device.clone(), From::R2).await?;
            made.files(&*self.fake, ORIGIN)
        };
        let fresh = block_on(fresh).unwrap();
        assert!(!fresh.parts.is_empty());
        let stored = device.state.files().unwrap();
        let as_stored = fresh.parts.iter().all(|(part, file)| {
            stored
                .parts
                .get(part)
                .is_some_and(|kept| kept.etag == file.etag)
        });
        for (part, file) in &fresh.parts {
            // Those that are as they are stored come the same way.
            if as_stored && *part != Part::Acc {
                continue;
            }
            let name = part.neutral_name();
            let answer = fetch_quietly(&self.fake, &follow(&format!("{}{name}", self.base(mac))));
            assert_eq!(answer.status(), StatusCode::OK, "{what}: {mac} {name}");
            assert_eq!(header(&answer, "etag"), file.etag, "{what}: {mac} {name}");
            let bytes = render::open(keys, number, *part, file).unwrap();
            assert_eq!(answer.body(), &bytes, "{what}: {mac} {name}");
        }
    }

    /// What a phone's versions are in need of is there; of one that is gone there is nothing.
    #[track_caller]
    fn versions_agree(&self, what: &str, mac: &str, device: &Stored<Device>) {
        let there = self.fake.r2.keys(&format!("version/{mac}/"));
        if !device.alive() {
            assert_eq!(there, Vec::<String>::new(), "{what}: {mac}");
            return;
        }
        let state = &device.state;
        for version in &state.versions {
            let named = |key: &String| key::last(key) == version.content;
            assert!(there.iter().any(named), "{what}: {mac}: {version:?}");
        }
        let (files, last) = (state.files().unwrap(), state.versions.last());
        let listed = last.is_some_and(|last| last.version == files.version);
        let unkept = self.fake.logged().contains("version.unkept");
        let of_user = files.sources.session.is_some();
        assert!(listed || unkept || of_user, "{what}: {mac}");
    }

    /// A PBX has the objects of its accounts, and of nobody else but who just gave up a name.
    #[track_caller]
    fn pbx_agrees(
        &self,
        what: &str,
        id: &str,
        asterisk: &Asterisk,
        accounts: &BTreeMap<Id, Stored<Account>>,
        settled: bool,
    ) {
        let mut names = BTreeSet::new();
        for (account, stored) in accounts {
            if !stored.alive() || stored.record.pbx.as_str() != id {
                continue;
            }
            let name = stored.record.username.as_str();
            names.insert(name.to_owned());
            let objects = objects_of(&self.fake, id, account, stored);
            let hash = asterisk.field("endpoint", name, register::HASH);
            assert_eq!(hash.as_ref(), Some(&objects.hash), "{what}: {name} at {id}");
            let cred = asterisk.field("auth", name, "md5_cred");
            assert_eq!(
                cred.as_deref(),
                objects.auth.get("md5_cred"),
                "{what}: {name}"
            );
            let slots = objects
                .former
                .keys()
                .map(|slot| slot.object(&stored.record.username));
            let there = asterisk.former(name).into_iter().map(|(slot, _)| slot);
            assert!(slots.eq(there), "{what}: former passwords of {name}");
        }
        let prefix = format!("{}{id}/", key::ALL_GONE);
        let gone = self.fake.r2.keys(&prefix);
        let gone: BTreeSet<String> = gone.iter().map(|key| key::last(key).to_owned()).collect();
        assert_eq!(names.intersection(&gone).next(), None, "{what}");
        let there: BTreeSet<String> = asterisk.names().into_iter().collect();
        if settled {
            assert_eq!((&there, gone.len()), (&names, 0), "{what}: {id}");
        }
        names.extend(gone);
        assert!(
            there.is_subset(&names),
            "{what}: {there:?} at {id}, not {names:?}"
        );
    }
}

/// The objects that an account must have at its PBX, as its record in R2 says.
pub fn objects_of(fake: &Fake, pbx: &str, id: &Id, stored: &Stored<Account>) -> PjsipObjects {
    let open = |secret: &str| {
        let place = secret_place(Kind::Account, id.as_str(), secret);
        fake.keys()
            .open_secret(&place, &stored.sealed[secret])
            .unwrap()
    };
    let former = stored.state.former_passwords.iter();
    let former: Vec<FormerLogin<'_>> = former
        .map(|former| FormerLogin {
            slot: former.slot,
            login: &former.login,
            password: open(former.slot.sealed()),
        })
        .collect();
    let devices = stored.state.devices.len() + usize::from(stored.sealed.contains_key(PIN));
    let record = &block_on(store::load::<Pbx, Fake>(fake, pbx))
        .unwrap()
        .unwrap()
        .stored
        .record;
    let account = &stored.record;
    let (password, keys) = (open("password"), fake.keys());
    register::objects(record, id, account, &password, &former, devices, keys).unwrap()
}

/// What a phone gets, without what it leaves behind.
fn fetch_quietly(fake: &Fake, request: &Request) -> http::Response<Vec<u8>> {
    block_on(entry::answer(fake, &PLACE, request)).response
}

/// A step that is cut off, after others that are not.
#[derive(Clone)]
struct Scene {
    what: &'static str,
    before: Vec<Step>,
    cut: Step,
}

fn scene(what: &'static str, before: &[Step], cut: Step) -> Scene {
    let before = before.to_vec();
    Scene { what, before, cut }
}

fn of_devices() -> Vec<Scene> {
    let desk = format!("devices/{DESK}");
    let new = device(&json!({ "lines": lines(&["1004"]), "serial": "S4" }));
    let two = lines(&["1001", "1004"]);
    let german = json!({ "settings": { "language": "de" } });
    let mut batch = vec![
        new.clone(),
        device(&json!({ "lines": two, "serial": "S1" })),
    ];
    batch[0]["mac"] = json!(NEW);
    batch[1]["mac"] = json!(DESK);
    let other_line = change(&desk, json!({ "lines": lines(&["1004"]) }));
    vec![
        scene("a device is changed", &[], change(&desk, german)),
        scene(
            "a device gets a line",
            &[],
            change(&desk, json!({ "lines": two })),
        ),
        scene(
            "a device changes its line",
            &[],
            change(&desk, json!({ "lines": lines(&["1004"]) })),
        ),
        scene(
            "a device is made",
            &[],
            save(&format!("devices/{NEW}"), new),
        ),
        scene("a device is deleted", &[], remove(&desk)),
        scene(
            "a phone goes back to a version",
            &[other_line.clone(), Step::Pass(2)],
            Step::Back(DESK),
        ),
        scene(
            "a phone is unpinned",
            &[
                other_line.clone(),
                Step::Pass(2),
                Step::Back(DESK),
                Step::Pass(2),
            ],
            post(&format!("{desk}/unpin"), json!({})),
        ),
        scene(
            "a phone that is held to a version is deleted",
            &[other_line, Step::Pass(2), Step::Back(DESK), Step::Pass(2)],
            remove(&desk),
        ),
        scene(
            "a device with a user is deleted",
            &[],
            remove(&format!("devices/{FREE}")),
        ),
        scene(
            "a token is rotated",
            &[],
            post(&format!("{desk}/rotate"), json!({})),
        ),
        scene(
            "a token is revoked",
            &[],
            post(&format!("{desk}/revoke"), json!({})),
        ),
        scene(
            "a device is armed",
            &[],
            post(&format!("{desk}/arm"), json!({ "arm": "1h" })),
        ),
        scene(
            "devices in a batch",
            &[],
            Step::Batch("devices/batch", batch),
        ),
    ]
}

fn of_accounts() -> Vec<Scene> {
    let path = "accounts/acme-1001";
    let mut batch = vec![account("1006"), account("1005")];
    batch[0]["id"] = json!("acme-1006");
    batch[1]["id"] = json!("acme-1005");
    batch[1]["display_name"] = json!("Bert");
    vec![
        scene(
            "an account is changed",
            &[],
            change(path, json!({ "display_name": "Bert" })),
        ),
        scene(
            "a password is changed",
            &[],
            change(path, json!({ "password": "Another-Secret" })),
        ),
        scene(
            "a password is rotated",
            &[],
            post(&format!("{path}/rotate"), json!({})),
        ),
        scene(
            "a password ends at once",
            &[],
            post(&format!("{path}/rotate"), json!({ "now": true })),
        ),
        scene(
            "an account is renamed",
            &[],
            change(path, json!({ "username": "2001" })),
        ),
        scene(
            "an account is moved",
            &[],
            change(path, json!({ "pbx": "spare" })),
        ),
        scene(
            "an account is made",
            &[],
            save("accounts/acme-1006", account("1006")),
        ),
        scene("an account is deleted", &[], remove("accounts/acme-1005")),
        scene("a user is deleted", &[], remove("accounts/acme-1003")),
        scene(
            "an account comes back",
            &[remove("accounts/acme-1005"), Step::Pass(2)],
            save("accounts/acme-1005", account("1005")),
        ),
        scene(
            "a name changes hands",
            &[change(path, json!({ "username": "2001" })), Step::Pass(2)],
            change("accounts/acme-1005", json!({ "username": "1001" })),
        ),
        scene(
            "accounts in a batch",
            &[],
            Step::Batch("accounts/batch", batch),
        ),
    ]
}

fn of_shared_records() -> Vec<Scene> {
    let settings = || json!({ "settings": { "language": "de" } });
    let rule = json!({ "priority": 1, "match": { "tenant": "acme" }, "url": "self" });
    vec![
        scene(
            "a tenant is changed",
            &[],
            change("tenants/acme", settings()),
        ),
        scene(
            "a profile is changed",
            &[],
            change("profiles/office", settings()),
        ),
        scene(
            "a PBX is changed",
            &[],
            change("pbxes/main", json!({ "context": "other" })),
        ),
        scene("a rule is made", &[], save("rules/first", rule)),
    ]
}

fn of_users() -> Vec<Scene> {
    let session = |mac: &str| format!("devices/{mac}/session");
    let user = |name: &str| json!({ "account": format!("acme-{name}") });
    vec![
        scene("a user logs in elsewhere", &[], login(BARE, "1003")),
        scene("a user logs in over another", &[], login(FREE, "1004")),
        scene("a user logs in again", &[], login(FREE, "1003")),
        scene(
            "a wrong PIN",
            &[],
            Step::Form(BARE, "action=login&user=1004&pin=0000".to_owned()),
        ),
        scene("a user logs out", &[], logout(FREE)),
        scene(
            "an admin logs a user in",
            &[],
            save(&session(BARE), user("1004")),
        ),
        scene("an admin logs a user out", &[], remove(&session(FREE))),
        scene(
            "a session's time is over",
            &[Step::Pass(SESSION_S)],
            Step::Run,
        ),
    ]
}

fn of_runs_and_phones() -> Vec<Scene> {
    let busy = [
        change(
            "accounts/acme-1001",
            json!({ "password": "Another-Secret" }),
        ),
        Step::Pass(2),
        change("accounts/acme-1004", json!({ "username": "2004" })),
        remove("accounts/acme-1005"),
        save("accounts/acme-1006", account("1006")),
        Step::Pass(60),
    ];
    let deletes = [remove("accounts/acme-1005"), Step::Pass(GRACE_S)];
    let files = [
        change(
            "profiles/office",
            json!({ "settings": { "language": "de" } }),
        ),
        Step::Pass(90),
    ];
    let armed = [
        post(&format!("devices/{BARE}/arm"), json!({})),
        Step::Pass(2),
    ];
    let renewed = [
        change("accounts/acme-1001", json!({ "display_name": "Bert" })),
        post(&format!("devices/{DESK}/rotate"), json!({})),
        Step::Pass(2),
    ];
    let over = [
        change(
            "accounts/acme-1001",
            json!({ "password": "Another-Secret" }),
        ),
        Step::Pass(60),
        Step::Run,
        Step::Pass(8 * 86_400),
    ];
    vec![
        scene("a run with much to do", &busy, Step::Run),
        scene("a run that deletes", &deletes, Step::Run),
        scene("a run that makes files again", &files, Step::Run),
        scene("a run that ends a password", &over, Step::Run),
        scene("a run with nothing to do", &[Step::Pass(60)], Step::Run),
        scene("a window is claimed", &armed, Step::Ask(BARE)),
        scene(
            "a phone comes for its new files",
            &renewed,
            Step::Fetch(DESK, "boot.cfg"),
        ),
    ]
}

/// Of answers that are lost, of calls that fail and of runs that come between one of so many is tried, as the
/// seed draws it; each kill is.
const SAMPLED: usize = 6;

/// Of the kills one of so many is followed until names that were given up are gone, too.
const FOLLOWED: usize = 8;

/// How many sequences are played.
const SEQUENCES: usize = 40;

/// Tests on a thread of its own: a run in the middle of a save in the middle of a test is deep.
fn deep(test: impl FnOnce(u64) + Send + 'static) {
    let seed = seed(0x0063_7574);
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    if let Err(panic) = thread.spawn(move || test(seed)).unwrap().join() {
        eprintln!("DIALTONE_SEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

/// Cuts each scene at each of its operations in each way: so many times at least.
fn cut_everywhere(scenes: fn() -> Vec<Scene>, least: usize) {
    deep(move |seed| {
        let cuts = cut_each(&scenes(), &mut Dice::new(seed));
        assert!(cuts >= least, "{cuts}");
    });
}

fn cut_each(scenes: &[Scene], dice: &mut Dice) -> usize {
    let office = Rc::new(Office::new());
    let start = office.keep();
    let mut cuts = 0;
    for scene in scenes {
        office.put_back(&start);
        for step in &scene.before {
            office.done(step);
        }
        let begin = office.keep();
        for cut in Cut::ALL {
            for after in 0.. {
                office.put_back(&begin);
                let what = format!("{}, {cut:?} after {after}", scene.what);
                let other = Rc::clone(&office);
                // A run that comes between takes the save for one that was cut off.
                let between = move || {
                    other.fake.clock.pass_s(31);
                    other.done(&Step::Run);
                };
                if !office.cut(&scene.cut, cut, after, between) {
                    break;
                }
                if cut != Cut::Killed && !dice.one_in(SAMPLED) {
                    continue;
                }
                cuts += 1;
                office.two_runs();
                office.agrees(&what, false);
                if cut == Cut::Killed && dice.one_in(FOLLOWED) {
                    for _ in 0..=GRACE_S / 60 + 1 {
                        office.fake.clock.pass_s(60);
                        office.done(&Step::Run);
                    }
                    office.agrees(&what, true);
                }
            }
        }
    }
    cuts
}

#[test]
fn saves_of_devices_that_are_cut_off_anywhere_leave_all_in_line() {
    cut_everywhere(of_devices, 150);
}

#[test]
fn saves_of_accounts_that_are_cut_off_anywhere_leave_all_in_line() {
    cut_everywhere(of_accounts, 180);
}

#[test]
fn saves_of_shared_records_that_are_cut_off_anywhere_leave_all_in_line() {
    cut_everywhere(of_shared_records, 20);
}

#[test]
fn logins_that_are_cut_off_anywhere_leave_all_in_line() {
    cut_everywhere(of_users, 120);
}

#[test]
fn runs_and_fetches_that_are_cut_off_anywhere_leave_all_in_line() {
    cut_everywhere(of_runs_and_phones, 120);
}

#[test]
fn one_cut_after_another_leaves_all_in_line() {
    deep(|seed| {
        let mut dice = Dice::new(seed);
        let scenes = [
            of_devices(),
            of_accounts(),
            of_users(),
            of_runs_and_phones(),
        ]
        .concat();
        let office = Office::new();
        let start = office.keep();
        for _ in 0..SEQUENCES {
            office.put_back(&start);
            let mut what = String::new();
            for _ in 0..2 {
                let scene = dice.of(&scenes);
                for step in &scene.before {
                    // After the one before it need not succeed.
                    block_on(office.take(&*office.fake, step));
                }
                let cut = *dice.of(&[Cut::Killed, Cut::Lost, Cut::Failed]);
                let after = dice.roll(20);
                office.cut(&scene.cut, cut, after, || {});
                what = format!("{what}{}, {cut:?} after {after}; ", scene.what);
                office
                    .fake
                    .clock
                    .pass_s(2 + u64::try_from(dice.roll(60)).unwrap());
            }
            office.two_runs();
            office.agrees(&what, false);
        }
    });
}
