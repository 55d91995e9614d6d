//! From whatever is at a PBX, whatever is remembered of it and whatever tombstones there are, runs reach what
//! the records say and then do nothing; what is somebody else's stays as it is, and nothing goes without a
//! tombstone. By the scheduled handler itself, at an Asterisk that dies, loses and is changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use dialtone::ports::{Objects, Only, World};
use dialtone::reconcile::known::Wanted;
use dialtone::reconcile::{Doubt, Memory, Pushed, Registration, Trouble, Unsettled, Why};
use dialtone::record::Stored;
use dialtone::record::account::Account;
use dialtone::record::pbx::Pbx;
use dialtone::step7_register::{HASH, MARK, shape};
use dialtone::store;
use dialtone::text::Id;
use dialtone::transitions::History;
use http::Method;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::ask::{call, delete, put};
use crate::asterisk::{CLASSES, Fields, Mood};
use crate::cut::objects_of;
use crate::reconcile::{Scene, account, username};
use crate::world::{Fake, block_on};

/// How many names the records know; what is remembered knows two more.
const NAMES: usize = 8;

/// Until what failed before is tried again, and each object was looked at once.
const REACHED_WITHIN: usize = 50;

/// Which accounts there are, or were, of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Never,
    /// One had it and was deleted.
    Gone,
    /// One has it.
    Held,
    /// One has it that another one had before.
    HeldAgain,
}

impl Record {
    fn is_held(self) -> bool {
        matches!(self, Self::Held | Self::HeldAgain)
    }
}

/// An account of a name: the one that has it if any does, or the one that had it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Holder,
    Former,
}

impl Owner {
    fn id(self, n: usize) -> String {
        match self {
            Self::Holder => format!("holder-{n}"),
            Self::Former => format!("former-{n}"),
        }
    }
}

/// What is at the PBX under a name.
#[derive(Debug, Clone)]
enum There {
    Nothing,
    /// Objects with an account's mark, all or some; as they should be, or not.
    Marked(Owner, [bool; 3], bool),
    /// Somebody else's, all or some, from the configuration or by ARI.
    Foreign([bool; 3], bool),
}

/// A tombstone: how old it is in seconds, if that is known, and of which account.
type Tombstone = (Option<u64>, Owner);

#[derive(Debug, Clone)]
struct Name {
    record: Record,
    there: There,
    tombstone: Option<Tombstone>,
}

/// What is remembered of a name, wrong in any way.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn for itself")]
struct Recalled {
    n: usize,
    of: usize,
    owner: Owner,
    rev: u64,
    same_shape: bool,
    wanted: bool,
    trouble: Option<(usize, u32, u64)>,
    seen: Option<bool>,
    vanished: bool,
    unsettled: bool,
}

/// What happens behind a run.
#[derive(Debug, Clone)]
enum Event {
    Nothing,
    /// It dies and forgets what the last run wrote.
    Crash,
    /// An object of an account is lost.
    Lost(usize, usize),
    /// Somebody changes an object of an account.
    Changed(usize, usize),
    /// It does not answer until the next event.
    Down,
}

#[derive(Debug, Clone)]
struct Case {
    names: Vec<Name>,
    recalled: Vec<Recalled>,
    same_process: bool,
    doubt: Option<(bool, u64)>,
    events: Vec<Event>,
}

fn owners() -> impl Strategy<Value = Owner> {
    prop_oneof![2 => Just(Owner::Holder), 1 => Just(Owner::Former)]
}

fn names() -> impl Strategy<Value = Name> {
    let record = prop_oneof![
        1 => Just(Record::Never),
        2 => Just(Record::Gone),
        3 => Just(Record::Held),
        1 => Just(Record::HeldAgain),
    ];
    let some = || prop_oneof![2 => Just([true; 3]), 1 => any::<[bool; 3]>()];
    let there = prop_oneof![
        2 => Just(There::Nothing),
        4 => (owners(), some(), any::<bool>()).prop_map(|(owner, some, good)| There::Marked(owner, some, good)),
        2 => (some(), any::<bool>()).prop_map(|(some, fixed)| There::Foreign(some, fixed)),
    ];
    let age = prop_oneof![Just(None), Just(Some(0)), (0_u64..2_000).prop_map(Some)];
    let tombstone = prop::option::of((age, owners()));
    (record, there, tombstone).prop_map(|(record, there, tombstone)| Name {
        record,
        there,
        tombstone,
    })
}

fn recalled() -> impl Strategy<Value = Recalled> {
    let name = 0..NAMES + 2;
    let trouble = prop::option::weighted(0.3, (0_usize..6, 1_u32..12, 0_u64..1_800));
    let seen = prop::option::of(any::<bool>());
    let looks = (trouble, seen, any::<bool>(), any::<bool>());
    (
        name.clone(),
        name,
        any::<bool>(),
        owners(),
        0_u64..6,
        any::<bool>(),
        any::<bool>(),
        looks,
    )
        .prop_map(
            |(
                n,
                other,
                mixed,
                owner,
                rev,
                same_shape,
                wanted,
                (trouble, seen, vanished, unsettled),
            )| Recalled {
                n,
                of: if mixed { other } else { n },
                owner,
                rev,
                same_shape,
                wanted,
                trouble,
                seen,
                vanished,
                unsettled,
            },
        )
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Nothing),
        2 => Just(Event::Crash),
        1 => (0..NAMES, 0_usize..3).prop_map(|(n, class)| Event::Lost(n, class)),
        1 => (0..NAMES, 0_usize..3).prop_map(|(n, class)| Event::Changed(n, class)),
        1 => Just(Event::Down),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(names(), NAMES),
        prop::collection::vec(recalled(), 0..12),
        any::<bool>(),
        prop::option::of((any::<bool>(), 0_u64..400)),
        prop::collection::vec(events(), 0..6),
    )
        .prop_map(|(names, recalled, same_process, doubt, events)| Case {
            names,
            recalled,
            same_process,
            doubt,
            events,
        })
}

fn called(n: usize) -> String {
    format!("u{n}")
}

fn put_raw(scene: &Scene, key: &str, body: &[u8], metadata: &[(&str, String)]) {
    let metadata = metadata
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let r2 = &scene.fake.r2;
    block_on(r2.put(key, body.to_vec(), metadata, Only::Always)).unwrap();
}

fn forget(scene: &Scene, prefix: &str) {
    for key in scene.fake.r2.keys(prefix) {
        block_on(scene.fake.r2.delete(&key)).unwrap();
    }
}

fn stored(fake: &Fake, id: &str) -> Option<Stored<Account>> {
    let loaded = block_on(store::load::<Account, Fake>(fake, id)).unwrap();
    loaded.map(|loaded| loaded.stored)
}

/// The records, and nothing at the PBX nor remembered of it; what was pushed by names meanwhile.
fn records(case: &Case) -> (Scene, BTreeMap<(usize, usize), Fields>) {
    let scene = Scene::new();
    for (n, name) in case.names.iter().enumerate() {
        if matches!(name.record, Record::Gone | Record::HeldAgain) {
            let path = format!("accounts/{}", Owner::Former.id(n));
            put(&scene.fake, &path, &account(&called(n)));
            scene.fake.clock.pass_s(2);
            delete(&scene.fake, &path);
            scene.fake.clock.pass_s(2);
        }
        if name.record.is_held() {
            let path = format!("accounts/{}", Owner::Holder.id(n));
            put(&scene.fake, &path, &account(&called(n)));
        }
    }
    scene.main();
    let mut pushed = BTreeMap::new();
    for n in 0..NAMES {
        for (c, class) in CLASSES.iter().enumerate() {
            if let Some(fields) = scene.asterisk.object(class, &called(n)) {
                pushed.insert((n, c), fields);
            }
        }
    }
    for prefix in ["gone/", "changed/", "pbx-state/", "reconcile"] {
        forget(&scene, prefix);
    }
    scene.asterisk.loses_all();
    (scene, pushed)
}

/// An object with an account's mark, whatever else it holds.
fn marked(class: &str, name: &str, owner: &str) -> Fields {
    let mut fields = match class {
        "auth" => vec![
            ("username", "old"),
            ("realm", "acme.example"),
            ("md5_cred", "0123"),
        ],
        "aor" => vec![("max_contacts", "7")],
        _ => vec![
            ("allow", "(ulaw)"),
            ("auth", name),
            ("aors", name),
            (HASH, "old"),
        ],
    };
    fields.push((MARK, owner));
    fields
        .into_iter()
        .map(|(attribute, value)| (attribute.to_owned(), value.to_owned()))
        .collect()
}

fn fill_the_pbx(case: &Case, scene: &Scene, pushed: &BTreeMap<(usize, usize), Fields>) {
    for (n, name) in case.names.iter().enumerate() {
        let called = called(n);
        match &name.there {
            There::Nothing | There::Foreign([false, false, false], _) => {}
            There::Foreign(some, fixed) => {
                scene.asterisk.has_foreign(&called, *fixed);
                for (class, there) in CLASSES.iter().zip(some) {
                    if !there {
                        scene.asterisk.loses(class, &called);
                    }
                }
            }
            There::Marked(owner, some, good) => {
                for (c, class) in CLASSES.iter().enumerate() {
                    let fields = pushed
                        .get(&(n, c))
                        .filter(|_| *good && *owner == Owner::Holder);
                    let fields = fields.cloned();
                    let fields = fields.unwrap_or_else(|| marked(class, &called, &owner.id(n)));
                    if some[c] {
                        scene.asterisk.has(class, &called, fields);
                    }
                }
            }
        }
    }
}

fn remember(case: &Case, scene: &Scene) {
    let now = scene.fake.now();
    let pbx = block_on(store::load::<Pbx, Fake>(&scene.fake, "main"))
        .unwrap()
        .unwrap();
    let shape = shape(&pbx.stored.record);
    let mut memory = Memory::default();
    let mut unsettled = BTreeSet::new();
    for entry in &case.recalled {
        let name = username(&called(entry.n));
        let id = Id::try_from(entry.owner.id(entry.of)).unwrap();
        // Of an account that is there no revision is remembered that never was.
        let most = stored(&scene.fake, id.as_str()).map_or(entry.rev, |stored| stored.rev);
        let rev = entry.rev.min(most);
        if entry.wanted {
            let wanted = Wanted {
                username: name.clone(),
                rev,
                rotating: false,
            };
            memory.wanted.insert(id.clone(), wanted);
        } else {
            let pushed = Pushed {
                account: id.clone(),
                rev,
                shape: if entry.same_shape {
                    shape.clone()
                } else {
                    "other".to_owned()
                },
                verified_at: now,
                since: None,
            };
            memory.pushed.insert(name.clone(), pushed);
        }
        if let Some((why, times, wait)) = entry.trouble {
            let why = [
                Why::Collision,
                Why::Refused,
                Why::NotKept,
                Why::Unclear,
                Why::Password,
                Why::Name,
            ][why];
            let trouble = Trouble {
                why,
                account: (!entry.vanished).then(|| id.clone()),
                rev,
                times,
                retry_at: now.plus(wait),
            };
            memory.troubles.insert(name.clone(), trouble);
        }
        if let Some(online) = entry.seen {
            let registration = Registration {
                account: id,
                online,
                since: now,
                ever_online: online,
                missing: false,
                history: History::default(),
            };
            memory.registrations.insert(name.clone(), registration);
        }
        if entry.vanished {
            memory.vanished.insert(name.clone());
        }
        if entry.unsettled {
            unsettled.insert(name);
        }
    }
    memory.unsettled = (!unsettled.is_empty()).then(|| Unsettled {
        started: if case.same_process { "first" } else { "before" }.to_owned(),
        names: unsettled,
        since: now,
    });
    memory.doubt = case.doubt.map(|(empty, ago)| Doubt {
        what: if empty { "empty" } else { "jump" }.to_owned(),
        since: dialtone::time::Timestamp(now.0 - ago),
    });
    put_raw(
        scene,
        "pbx-state/main",
        &serde_json::to_vec(&memory).unwrap(),
        &[],
    );
    for (n, name) in case.names.iter().enumerate() {
        if let Some((age, owner)) = name.tombstone {
            let at = age.map(|age| ("at", (now.0 - age).to_string()));
            let key = format!("gone/main/{}", called(n));
            let at: Vec<_> = at.into_iter().collect();
            put_raw(scene, &key, owner.id(n).as_bytes(), &at);
        }
    }
}

/// All objects under a name.
fn under(scene: &Scene, n: usize) -> Vec<Option<Fields>> {
    CLASSES
        .iter()
        .map(|class| scene.asterisk.object(class, &called(n)))
        .collect()
}

/// What must become of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The objects of its account.
    Held,
    /// Nothing.
    Gone,
    /// What there was.
    AsItWas,
}

fn end(n: usize, name: &Name, fake: &Fake) -> End {
    let owner = match &name.there {
        There::Foreign([false, false, false], _) | There::Nothing => None,
        There::Foreign(..) => return End::AsItWas,
        There::Marked(owner, some, _) => some.contains(&true).then_some(*owner),
    };
    if name.record.is_held() {
        // Of a former account that nobody ever heard of it is somebody else's.
        let is_ours = owner.is_none_or(|owner| stored(fake, &owner.id(n)).is_some());
        return if is_ours { End::Held } else { End::AsItWas };
    }
    match (name.tombstone, owner) {
        (Some((_, of)), Some(owner)) if of == owner || stored(fake, &owner.id(n)).is_some() => {
            End::Gone
        }
        _ => End::AsItWas,
    }
}

fn play(case: &Case) -> Result<(), TestCaseError> {
    let (scene, pushed) = records(case);
    fill_the_pbx(case, &scene, &pushed);
    remember(case, &scene);
    let ends: Vec<End> = case
        .names
        .iter()
        .enumerate()
        .map(|(n, name)| end(n, name, &scene.fake))
        .collect();
    let before: Vec<_> = (0..NAMES).map(|n| under(&scene, n)).collect();
    let mut disk = scene.asterisk.keep();
    for run in 0..REACHED_WITHIN {
        scene.minute();
        // Whatever happens, at no time.
        for (n, end) in ends
            .iter()
            .enumerate()
            .filter(|(_, end)| **end == End::AsItWas)
        {
            prop_assert!(
                under(&scene, n) == before[n],
                "{end:?} {} in run {run}",
                called(n)
            );
        }
        scene.asterisk.is(Mood::Up);
        let now = scene.asterisk.keep();
        match case.events.get(run) {
            Some(Event::Crash) => scene.asterisk.crashes_to(&disk),
            Some(Event::Lost(n, class)) if ends[*n] == End::Held => {
                scene.asterisk.loses(CLASSES[*class], &called(*n));
            }
            Some(Event::Changed(n, class)) if ends[*n] == End::Held => {
                let (class, name) = (CLASSES[*class], called(*n));
                let field = if class == "auth" { "md5_cred" } else { HASH };
                if class != "aor" && scene.asterisk.object(class, &name).is_some() {
                    scene.asterisk.set(class, &name, field, "by hand");
                }
            }
            Some(Event::Down) => scene.asterisk.is(Mood::Down),
            _ => {}
        }
        disk = now;
    }
    for (n, end) in ends.iter().enumerate() {
        let there = under(&scene, n);
        match end {
            End::AsItWas => {}
            End::Gone => {
                prop_assert!(
                    there.iter().all(Option::is_none),
                    "{} is still there",
                    called(n)
                );
                let left = scene.fake.r2.keys(&format!("gone/main/{}", called(n)));
                prop_assert_eq!(left, Vec::<String>::new());
            }
            End::Held => {
                let id = Id::try_from(Owner::Holder.id(n)).unwrap();
                let account = stored(&scene.fake, id.as_str()).unwrap();
                let objects = objects_of(&scene.fake, "main", &id, &account);
                let shows = |class: usize, field: &str| {
                    let fields = there[class].as_ref()?;
                    fields.get(field).cloned()
                };
                prop_assert_eq!(shows(2, HASH), Some(objects.hash.clone()), "{}", called(n));
                let cred = objects.auth.get("md5_cred").map(ToOwned::to_owned);
                prop_assert_eq!(shows(0, "md5_cred"), cred);
                prop_assert_eq!(shows(1, MARK), Some(id.to_string()));
            }
        }
    }
    // And then there is rest.
    let _ = scene.asterisk.take_calls();
    let memory = scene.memory();
    let fine = memory.troubles.is_empty();
    for _ in 0..2 {
        scene.minute();
    }
    let changes = scene.asterisk.take_changes();
    prop_assert!(changes.is_empty(), "{changes:?}");
    let after = scene.memory();
    prop_assert!(
        !fine || after.same_but_for_looks(&memory),
        "{memory:?} {after:?}"
    );
    let plan = call(&scene.fake, Method::GET, "pbxes/main/plan", &Value::Null);
    let plan: Value = serde_json::from_slice(plan.body()).unwrap();
    let due: Vec<&Value> = plan["actions"].as_array().unwrap().iter().collect();
    let at_rest = due.iter().all(|action| {
        let name = action["username"].as_str().unwrap_or_default();
        action["action"] == "check"
            || ends
                .iter()
                .enumerate()
                .any(|(n, end)| called(n) == name && *end == End::AsItWas)
    });
    prop_assert!(at_rest, "{due:?}");
    Ok(())
}

#[test]
fn from_any_state_runs_reach_what_the_records_say_and_then_do_nothing() {
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    };
    let run = TestRunner::new(config).run(&cases(), |case| play(&case));
    run.unwrap_or_else(|error| panic!("{error}"));
}
