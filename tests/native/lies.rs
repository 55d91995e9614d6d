//! A KV whose lists are late by minutes, short, torn, empty, repeated or fail, and whose values are no
//! better, while an admin creates, renames and deletes accounts: nothing goes from the PBX that no admin took
//! away, and once KV is good again all is soon as the records say.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dialtone::fault::Fault;
use dialtone::ports::{MappingEntry, Mappings, Objects, Page, World};
use dialtone::{entry, tick};
use http::Method;
use serde_json::{Value, json};

use crate::around::as_the_fake;
use crate::ask::{PLACE, call, call_by, json_of};
use crate::dice::{Dice, seed};
use crate::reconcile::{Scene, account};
use crate::world::{ADMIN_TOKEN, Bucket, Fake, Net, block_on};

/// How many runs there are.
const RUNS: usize = 1_000;

/// About how many accounts there are.
const ACCOUNTS: usize = 16;

/// After so many runs KV is good until everything is settled.
const SETTLE_EVERY: usize = 125;

/// How many good runs may pass until then: the grace of deletes, and what saves left to be finished.
const SETTLE_WITHIN: usize = 20;

/// How KV lies for a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Truth,
    /// All of it is as it was so many minutes ago.
    Late(u64),
    /// Each name and value is missing once in so many times.
    Missing(usize),
    /// The list ends after a page and does not say so.
    Torn,
    /// Every page is empty, and says that more follow.
    Hollow,
    /// The first page comes again and again.
    Repeated,
    /// There is nothing.
    Empty,
    /// Each call but the first so many fails.
    Fails(u32),
}

impl Lie {
    fn roll(dice: &mut Dice) -> Self {
        match dice.roll(9) {
            0 => Self::Late(2 + u64::try_from(dice.roll(30)).unwrap()),
            1 => Self::Missing(1 + dice.roll(4)),
            2 => Self::Torn,
            3 => Self::Hollow,
            4 => Self::Repeated,
            5 => Self::Empty,
            6 => Self::Fails(u32::try_from(dice.roll(6)).unwrap()),
            _ => Self::Truth,
        }
    }
}

/// KV, as the liar tells it. What is put gets there, unless calls fail.
struct Liar {
    fake: Rc<Fake>,
    lie: Cell<Lie>,
    calls: Cell<u32>,
    dice: RefCell<Dice>,
}

impl Liar {
    fn tells(&self, lie: Lie) {
        self.lie.set(lie);
        self.calls.set(0);
    }

    fn call(&self) -> Result<(), Fault> {
        self.calls.set(self.calls.get() + 1);
        match self.lie.get() {
            Lie::Fails(after) if self.calls.get() > after => Err(Fault::Broken("kv")),
            _ => Ok(()),
        }
    }

    fn misses(&self) -> bool {
        match self.lie.get() {
            Lie::Missing(one_in) => self.dice.borrow_mut().one_in(one_in),
            Lie::Empty | Lie::Hollow => true,
            _ => false,
        }
    }
}

impl Mappings for Liar {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Fault> {
        self.call()?;
        if let Lie::Late(minutes) = self.lie.get() {
            let as_of = |key: &String| self.fake.kv.value_before(key, minutes * 60);
            return Ok(keys.iter().map(as_of).collect());
        }
        let values = self.fake.kv.get_many(keys).await?;
        let kept = values
            .into_iter()
            .map(|value| value.filter(|_| !self.misses()));
        Ok(kept.collect())
    }

    async fn put(
        &self,
        key: &str,
        value: &str,
        metadata: Option<&str>,
        keep_s: Option<u64>,
    ) -> Result<(), Fault> {
        self.call()?;
        self.fake.kv.put(key, value, metadata, keep_s).await
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Page<MappingEntry>, Fault> {
        self.call()?;
        let lie = self.lie.get();
        if let Lie::Late(minutes) = lie {
            return Ok(self.fake.kv.list_before(prefix, cursor, minutes * 60));
        }
        let again = (lie == Lie::Repeated).then_some(None);
        let mut page = self.fake.kv.list(prefix, again.unwrap_or(cursor)).await?;
        page.entries.retain(|_| !self.misses());
        if matches!(lie, Lie::Torn | Lie::Empty) {
            page.cursor = None;
        }
        Ok(page)
    }
}

/// The world with that KV.
struct Lied {
    fake: Rc<Fake>,
    kv: Liar,
}

impl World for Lied {
    type Mappings = Liar;
    type Objects = Bucket;
    type Outbound = Net;

    fn kv(&self) -> &Liar {
        &self.kv
    }

    as_the_fake! { r2 net keys now sleep_ms random memory verify_rs256 within log }
}

/// An admin who knows what was done.
struct Admin {
    scene: Scene,
    world: Lied,
    /// The name of each account.
    accounts: BTreeMap<usize, String>,
    next: usize,
    /// Names that were seen at the PBX and that nobody took away since.
    there: BTreeSet<String>,
}

impl Admin {
    fn new(seed: u64) -> Self {
        let scene = Scene::new();
        scene.fake.kv.page.set(7);
        let kv = Liar {
            fake: Rc::clone(&scene.fake),
            lie: Cell::new(Lie::Truth),
            calls: Cell::new(0),
            dice: RefCell::new(Dice::new(seed ^ 1)),
        };
        let world = Lied {
            fake: Rc::clone(&scene.fake),
            kv,
        };
        scene.asterisk.has_foreign("reception", true);
        scene.asterisk.has_foreign("theirs", false);
        let mut admin = Self {
            scene,
            world,
            accounts: BTreeMap::new(),
            next: 0,
            there: BTreeSet::new(),
        };
        for _ in 0..ACCOUNTS {
            admin.create();
        }
        admin
    }

    /// A call, which KV cannot hinder.
    fn call(&self, method: Method, path: &str, body: &Value) {
        let request = call_by(ADMIN_TOKEN, method, path, body);
        let answer = block_on(entry::answer(&self.world, &PLACE, &request)).response;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(
            answer.status().is_success(),
            "{path}: {} {text}",
            answer.status()
        );
    }

    fn create(&mut self) {
        let n = self.next;
        self.next += 1;
        // Now and then under a name that somebody had before.
        let free = format!("5{:03}", n % 200);
        let taken = self.accounts.values().any(|name| *name == free);
        let name = if taken { format!("6{n:04}") } else { free };
        self.call(Method::PUT, &format!("accounts/acme-{n}"), &account(&name));
        self.accounts.insert(n, name);
    }

    fn any(&self, dice: &mut Dice) -> usize {
        let all: Vec<usize> = self.accounts.keys().copied().collect();
        *dice.of(&all)
    }

    fn delete(&mut self, n: usize) {
        self.call(Method::DELETE, &format!("accounts/acme-{n}"), &Value::Null);
        let name = self.accounts.remove(&n).unwrap();
        self.there.remove(&name);
    }

    fn patch(&self, n: usize, change: &Value) {
        self.call(Method::PATCH, &format!("accounts/acme-{n}"), change);
    }

    fn rename(&mut self, n: usize, name: String) {
        self.patch(n, &json!({ "username": name }));
        let former = self.accounts.insert(n, name).unwrap();
        self.there.remove(&former);
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.roll(6) {
            0 => self.create(),
            1 if self.accounts.len() > ACCOUNTS / 2 => {
                let n = self.any(dice);
                self.delete(n);
            }
            2 => {
                let (n, number) = (self.any(dice), dice.roll(10_000));
                self.rename(n, format!("7{n:03}x{number}"));
            }
            3 => {
                // Two change hands: one gives its name up, the other takes it at once.
                let (a, b) = (self.any(dice), self.any(dice));
                if a != b {
                    let (name, number) = (self.accounts[&a].clone(), dice.roll(10_000));
                    self.rename(a, format!("8{a:03}x{number}"));
                    self.scene.fake.clock.pass_s(2);
                    self.rename(b, name);
                }
            }
            _ => {
                let (n, number) = (self.any(dice), dice.roll(1_000));
                self.patch(n, &json!({ "display_name": format!("Name {number}") }));
            }
        }
    }

    fn run(&mut self, what: &str) {
        self.scene.fake.clock.pass_s(60);
        block_on(tick::run(&self.world, None));
        let there: BTreeSet<String> = self.scene.asterisk.names().into_iter().collect();
        let lost: Vec<&String> = self.there.difference(&there).collect();
        assert!(lost.is_empty(), "{what}: nobody took {lost:?} away");
        for name in ["reception", "theirs"] {
            assert!(there.contains(name), "{what}: {name}");
        }
        let alive: BTreeSet<&String> = self.accounts.values().collect();
        self.there = there
            .into_iter()
            .filter(|name| alive.contains(name))
            .collect();
    }

    /// What an admin does about too many deletes at once.
    fn confirm(&self) {
        let plan = call(
            &self.scene.fake,
            Method::GET,
            "pbxes/main/plan",
            &Value::Null,
        );
        let digest = &json_of(&plan)["breaker"]["deletes"]["confirm"];
        if digest.is_string() {
            let path = "pbxes/main/confirm";
            let answer = call(
                &self.scene.fake,
                Method::POST,
                path,
                &json!({ "deletes": digest }),
            );
            assert!(answer.status().is_success(), "{answer:?}");
        }
    }

    /// On a good KV all is as the records say, and then nothing is written any more.
    fn settle(&mut self, what: &str) {
        self.world.kv.tells(Lie::Truth);
        let mut expected: BTreeSet<String> = self.accounts.values().cloned().collect();
        expected.extend(["reception", "theirs"].map(ToOwned::to_owned));
        for _ in 0..SETTLE_WITHIN {
            self.confirm();
            self.run(what);
        }
        let there: BTreeSet<String> = self.scene.asterisk.names().into_iter().collect();
        assert_eq!(there, expected, "{what}");
        for name in self.accounts.values() {
            let caller = self
                .scene
                .asterisk
                .field("endpoint", name, "callerid")
                .unwrap();
            assert!(caller.ends_with(&format!("<{name}>")), "{what}: {caller}");
        }
        for prefix in ["gone/", "changed/", "unfinished/"] {
            let left = self.scene.fake.r2.keys(prefix);
            assert_eq!(left, Vec::<String>::new(), "{what}");
        }
        self.scene.asterisk.take_calls();
        let memory = self.scene.memory();
        let kept = |admin: &Self| {
            let mut kept = admin.scene.fake.holdings();
            // What a run writes of itself, whatever it did.
            kept.retain(|key, _| {
                !["r2 reconcile", "r2 lease", "r2 pbx-state/main"].contains(&key.as_str())
            });
            kept
        };
        let before = kept(self);
        self.run(what);
        assert_eq!(
            self.scene.asterisk.take_changes(),
            Vec::<String>::new(),
            "{what}"
        );
        assert!(self.scene.memory().same_but_for_looks(&memory), "{what}");
        assert!(kept(self) == before, "{what}: something was written");
    }
}

#[test]
fn a_kv_that_lies_takes_nothing_away_in_a_thousand_runs() {
    let seed = seed(0x6b76);
    let mut dice = Dice::new(seed);
    let mut admin = Admin::new(seed);
    let mut lies = BTreeMap::<String, usize>::new();
    for run in 0..RUNS {
        let lie = Lie::roll(&mut dice);
        let word = format!("{lie:?}");
        *lies
            .entry(word.split('(').next().unwrap().to_owned())
            .or_default() += 1;
        let what = format!("DIALTONE_SEED={seed}, run {run}, {lie:?}");
        admin.world.kv.tells(lie);
        for _ in 0..dice.roll(3) {
            admin.step(&mut dice);
            admin.scene.fake.clock.pass_s(2);
        }
        if dice.one_in(20) {
            // What is remembered of the PBX is lost as well.
            block_on(admin.scene.fake.r2.delete("pbx-state/main")).unwrap();
        }
        if dice.one_in(4) {
            admin.confirm();
        }
        admin.world.kv.tells(lie);
        admin.run(&what);
        if run % SETTLE_EVERY == SETTLE_EVERY - 1 {
            admin.settle(&what);
        }
    }
    assert_eq!(lies.len(), 8, "{lies:?}");
}
