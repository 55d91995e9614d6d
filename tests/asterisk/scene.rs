//! A Dialtone, an Asterisk that also has an endpoint of somebody else's, and a customer with a
//! Linphone and a Yealink there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::apt;
use dialtone_kit::asterisk::{self, Asterisk, InstalledAsterisk, StaticEndpoint};
use dialtone_kit::linphone::{self, Linphone};
use dialtone_kit::sipp::{self, Registration};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::phone::Yealink;

/// Far more than a run needs, also at a PBX that does not answer.
pub const RUN: Duration = Duration::from_secs(30);

/// How long a softphone may take to start, fetch and register.
pub const START: Duration = Duration::from_secs(20);

/// The Linphone, the Yealink, and an account without a phone; the names of their objects.
pub const ACCOUNTS: [&str; 3] = ["2001", "2002", "2003"];

/// The MAC of the Linphone.
pub const SOFT: &str = "02005e000001";
/// The MAC of the Yealink.
pub const DESK: &str = "805ec0000002";

/// What holds for all of it: digest, a Yealink file, a JSON body, a SIP header.
pub const PASSWORD: &str = r#"p[a]ss\ "w<o>rd&'%;"#;

/// The name of the endpoint in `pjsip.conf`.
pub const FOREIGN: &str = "foreign";

/// Everything, running.
pub struct Scene {
    pub worker: Workerd,
    pub admin: Admin,
    pub asterisk: Asterisk,
    /// What the creation of the Linphone's device answered.
    pub soft: Value,
}

/// The Asterisk, unless this machine cannot have one.
pub fn installed() -> Option<InstalledAsterisk> {
    let installed = Asterisk::ensure_installed().and_then(|installed| {
        apt::ensure_packages(&[linphone::LINPHONE, sipp::SIPP])?;
        Ok(installed)
    });
    match installed {
        Ok(installed) => Some(installed),
        Err(error) if asterisk::required() => panic!("{error:#}"),
        Err(error) => {
            // Past the test harness, which would keep it.
            let _ = writeln!(std::io::stderr(), "SKIPPED, no Asterisk: {error:#}");
            None
        }
    }
}

impl Scene {
    /// Sets everything up through the admin API. None where there can be no Asterisk.
    pub fn new() -> Option<Self> {
        Self::beside(&[FOREIGN])
    }

    /// The same where Asterisk has these endpoints of somebody else's.
    pub fn beside(endpoints: &[&str]) -> Option<Self> {
        let endpoint = |user: &&str| StaticEndpoint {
            user: (*user).to_owned(),
            password: "secret".to_owned(),
        };
        let options = asterisk::Options {
            endpoints: endpoints.iter().map(endpoint).collect(),
            tls: false,
        };
        let asterisk = installed()?.start(&options).unwrap();
        let worker = Workerd::start(&Options::new()).unwrap();
        let admin = Admin::of(&worker);
        admin.put("tenants/acme", &json!({}));
        admin.put("pbxes/main", &pbx(&asterisk));
        for number in ACCOUNTS {
            admin.put(&format!("accounts/acme-{number}"), &account(number));
        }
        let soft = admin.put(
            &format!("devices/{SOFT}"),
            &device("linphone", "Linphone", "2001"),
        );
        admin.put(
            &format!("devices/{DESK}"),
            &device("yealink", "T46U", "2002"),
        );
        Some(Self {
            worker,
            admin,
            asterisk,
            soft,
        })
    }

    /// The same with the accounts at Asterisk already.
    pub fn pushed() -> Option<Self> {
        let scene = Self::new()?;
        let run = scene.run();
        assert_eq!(run["actions"]["create"], 3, "{run}");
        Some(scene)
    }

    /// Lets the scheduled handler run, and gives what it says of the PBX.
    #[track_caller]
    pub fn run(&self) -> Value {
        run(&self.worker)
    }

    /// Deletes an account, and has nobody wait for the grace.
    pub fn delete(&self, account: &str) {
        self.admin.delete(&format!("accounts/{account}"));
        confirm(&self.admin);
    }

    /// How far a device is.
    pub fn stage(&self, mac: &str) -> String {
        let status = self.admin.get(&format!("devices/{mac}/status"));
        status["status"].as_str().unwrap().to_owned()
    }

    /// The endpoints at Asterisk with their states.
    pub fn endpoints(&self) -> BTreeMap<String, String> {
        endpoints_of(&self.asterisk)
    }

    /// The fields of an object at Asterisk, or none if it is not there.
    pub fn object(&self, class: &str, name: &str) -> Option<BTreeMap<String, String>> {
        object_of(&self.asterisk, class, name)
    }

    /// Everything at Asterisk that anybody could change, but for who is registered.
    pub fn objects(&self) -> BTreeMap<String, Option<BTreeMap<String, String>>> {
        let mut all = BTreeMap::new();
        for name in self.endpoints().keys() {
            for class in ["auth", "aor", "endpoint"] {
                all.insert(format!("{class}/{name}"), self.object(class, name));
            }
        }
        all
    }

    /// Creates or changes an object of somebody else's.
    pub fn put_foreign(&self, class: &str, name: &str, fields: &[(&str, &str)]) {
        put_foreign(&self.asterisk, class, name, fields);
    }

    /// A Linphone out of its box that was given its configuration URI.
    pub fn linphone(&self) -> Linphone {
        let url = self.soft["first_access"]["url"].as_str().unwrap();
        let options = linphone::Options::default();
        Linphone::start(&format!("{url}{SOFT}.xml"), &options).unwrap()
    }

    /// A Yealink that was told of the RPS and its own serial, switched on once.
    pub fn yealink(&self) -> Yealink {
        let source = IpAddr::from(Ipv4Addr::new(10, 0, 0, 2));
        let server = format!("{}/rps/sn/{}/", self.worker.url(), serial(DESK));
        let mut phone = Yealink::new(DESK, &server, source);
        phone.switch_on().unwrap();
        phone
    }
}

/// Lets the deletes at the PBX pass that wait there.
pub fn confirm(admin: &Admin) {
    // So many plans of a PBX a minute and no more.
    let plan = loop {
        let answer = admin.call("GET", "pbxes/main/plan", None);
        if answer.status != 429 {
            break answer.json::<Value>().unwrap();
        }
        thread::sleep(Duration::from_secs(3));
    };
    let deletes = &plan["tombstones"]["confirm"];
    admin.post("pbxes/main/confirm", &json!({"deletes": deletes}));
}

/// The endpoints at an Asterisk with their states.
pub fn endpoints_of(asterisk: &Asterisk) -> BTreeMap<String, String> {
    let (status, text) = asterisk.ari("GET", "/endpoints", None).unwrap();
    assert_eq!(status, 200, "{text}");
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    let field = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    list.iter()
        .map(|entry| (field(entry, "resource"), field(entry, "state")))
        .collect()
}

/// The fields of an object at an Asterisk, or none if it is not there.
pub fn object_of(asterisk: &Asterisk, class: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let path = format!("/asterisk/config/dynamic/res_pjsip/{class}/{name}");
    let (status, text) = asterisk.ari("GET", &path, None).unwrap();
    if status == 404 {
        return None;
    }
    assert_eq!(status, 200, "{class}/{name}: {text}");
    let fields: Vec<BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    let pair =
        |field: &BTreeMap<String, String>| (field["attribute"].clone(), field["value"].clone());
    Some(fields.iter().map(pair).collect())
}

/// Creates or changes an object of somebody else's at an Asterisk.
pub fn put_foreign(asterisk: &Asterisk, class: &str, name: &str, fields: &[(&str, &str)]) {
    let fields: Vec<Value> = fields
        .iter()
        .map(|(name, value)| json!({"attribute": name, "value": value}))
        .collect();
    let path = format!("/asterisk/config/dynamic/res_pjsip/{class}/{name}");
    let body = json!({"fields": fields}).to_string();
    let (status, text) = asterisk.ari("PUT", &path, Some(&body)).unwrap();
    assert_eq!(status, 200, "{class}/{name}: {text}");
}

/// Lets a Worker's scheduled handler run, which must take bounded time whatever it meets.
#[track_caller]
pub fn run(worker: &Workerd) -> Value {
    let busy = || worker.log().matches(r#"{"event":"tick.busy"}"#).count();
    let (start, before) = (Instant::now(), busy());
    worker.trigger_cron().unwrap();
    let took = start.elapsed();
    // Else what follows would be what an earlier run said.
    assert_eq!(busy(), before, "another run was under way");
    assert!(took < RUN, "the run took {took:?}");
    let run = Admin::of(worker).get("status")["reconcile"].clone();
    assert_eq!(run["accounts"], "ok", "{run}");
    run["pbxes"]["main"].clone()
}

/// What SIP needs to register as a Yealink's first account, all of it out of its files.
pub fn registration(phone: &Yealink) -> Registration {
    let setting = |name: &str| phone.setting(&format!("account.1.{name}"));
    assert_eq!(setting("enable"), "1", "{phone:?}");
    assert_eq!(setting("sip_server.1.address"), "127.0.0.1", "{phone:?}");
    assert_eq!(setting("sip_server.1.transport_type"), "0", "{phone:?}");
    let port = setting("sip_server.1.port").parse().unwrap();
    let (user, password) = (setting("user_name"), setting("password"));
    let mut registration = Registration::new(port, user, password).unwrap();
    setting("auth_name").clone_into(&mut registration.auth_user);
    registration
}

/// The PBX's record.
pub fn pbx(asterisk: &Asterisk) -> Value {
    json!({
        "tenant": "acme",
        "mode": "push",
        "ari_url": asterisk.ari_url(),
        "ari_username": asterisk.ari_user(),
        "ari_password": asterisk.ari_password(),
        "sip": {"host": "127.0.0.1", "port": asterisk.sip_port()},
    })
}

/// An account's record. The Yealink's has a digest user of its own.
pub fn account(number: &str) -> Value {
    let mut account = json!({
        "tenant": "acme",
        "pbx": "main",
        "username": number,
        "password": format!("{PASSWORD}{number}"),
        "display_name": format!("Zoë \"{number}\""),
    });
    if number == "2002" {
        account["auth_username"] = json!("desk-login");
    }
    account
}

fn device(vendor: &str, model: &str, number: &str) -> Value {
    let mac = if number == "2001" { SOFT } else { DESK };
    json!({
        "tenant": "acme",
        "vendor": vendor,
        "model": model,
        "serial": serial(mac),
        "lines": [{"line": 1, "account": format!("acme-{number}")}],
    })
}

fn serial(mac: &str) -> String {
    format!("SN-{mac}")
}
