//! Phones are told to fetch again, by the AMI of a real Asterisk.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::sipp::{self, RegisterOutcome};
use serde_json::{Value, json};

use crate::clear;
use crate::flow::set_up;
use crate::scene::{DESK, FOREIGN, SOFT, START, Scene, registration};

/// How long a NOTIFY may take on this machine.
const SOON: Duration = Duration::from_secs(5);

/// A scene whose PBX has AMI, and that can send to a contact by its URI.
fn scene() -> Option<Scene> {
    let scene = Scene::beside(&[FOREIGN, "default_outbound_endpoint"])?;
    let asterisk = &scene.asterisk;
    let ami = json!({ "ami": {
        "url": asterisk.ami_url(),
        "username": asterisk.ami_user(),
        "password": asterisk.ami_password(),
    } });
    scene.admin.patch("pbxes/main", &ami);
    let run = scene.run();
    assert_eq!(run["actions"]["create"], 3, "{run}");
    Some(scene)
}

fn relabel(scene: &Scene, mac: &str, label: &str) {
    let line = if mac == SOFT { "2001" } else { "2002" };
    let lines = json!([{ "line": 1, "account": format!("acme-{line}"), "label": label }]);
    scene
        .admin
        .patch(&format!("devices/{mac}"), &json!({ "lines": lines }));
}

fn state(scene: &Scene, mac: &str) -> String {
    let status = scene.admin.get(&format!("devices/{mac}/status"));
    let state = status["resync"]["state"].as_str();
    state.unwrap_or_default().to_owned()
}

fn resync(scene: &Scene, mac: &str) -> Value {
    let answer = scene
        .admin
        .post(&format!("devices/{mac}/resync"), &json!({}));
    answer["lines"][0]["result"].clone()
}

/// The next request of this method that comes, if one does; others are passed over.
fn hears(socket: &UdpSocket, method: &str) -> Option<String> {
    let start = Instant::now();
    let mut buffer = [0; 4_096];
    while start.elapsed() < SOON {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let heard = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if heard.starts_with(method) {
                    return Some(heard);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    None
}

#[test]
fn a_linphone_is_told_when_its_files_changed() {
    let Some(scene) = scene() else { return };
    let linphone = set_up(&scene);
    assert!(!linphone.log().contains("check-sync"));
    let account = json!({ "display_name": "Somebody else" });
    scene.admin.patch("accounts/acme-2001", &account);
    assert_eq!(state(&scene, SOFT), "waiting");
    scene.run();
    let start = Instant::now();
    while !linphone.log().contains("Event: check-sync") {
        assert!(start.elapsed() < START, "{}", linphone.log());
        thread::sleep(Duration::from_millis(100));
    }
    assert!(linphone.log().contains("NOTIFY sip:"));
    assert_eq!(state(&scene, SOFT), "sent to the PBX");
    let secrets = [("the AMI password", scene.asterisk.ami_password().to_owned())];
    clear::not_in_files(scene.worker.persist_dir(), &secrets, "acme-2001");
    clear::not_in("the Worker's log", &scene.worker.log(), &secrets);
    clear::not_in("Asterisk's log", &scene.asterisk.log(), &secrets);
}

#[test]
fn a_desk_phone_is_told_once_not_in_a_call_and_alone_of_those_with_its_account() {
    let Some(scene) = scene() else { return };
    let mut phone = scene.yealink();
    let mut desk = registration(&phone);
    assert_eq!(resync(&scene, DESK), "not registered");
    desk.user_agent = format!("Yealink SIP-T46U 108.86.0.20 {DESK}");
    assert_eq!(sipp::register(&desk).unwrap(), RegisterOutcome::Registered);
    // From here on the test is the phone.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, desk.local_port)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let told = || {
        let heard = hears(&socket, "NOTIFY ").unwrap();
        assert!(heard.starts_with("NOTIFY sip:2002@"), "{heard}");
        assert!(
            heard.contains("\r\nEvent: check-sync;reboot=false\r\n"),
            "{heard}"
        );
        // An answer, or it is sent again.
        let same = |name: &str| heard.lines().find(|line| line.starts_with(name)).unwrap();
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}\r\n{}\r\n{}\r\n{}\r\n{}\r\nContent-Length: 0\r\n\r\n",
            same("Via:"),
            same("From:"),
            same("To:"),
            same("Call-ID:"),
            same("CSeq:"),
        );
        let to = (Ipv4Addr::LOCALHOST, scene.asterisk.sip_port());
        socket.send_to(answer.as_bytes(), to).unwrap();
    };

    // It rings: there is a channel.
    let call = "/channels?endpoint=PJSIP/2002&app=test&channelId=ringing";
    let (status, text) = scene.asterisk.ari("POST", call, None).unwrap();
    assert_eq!(status, 200, "{text}");
    assert!(hears(&socket, "INVITE ").is_some());
    relabel(&scene, DESK, "Front");
    assert_eq!(resync(&scene, DESK), "in a call");
    scene.run();
    assert_eq!(state(&scene, DESK), "waiting (in a call)");
    scene
        .asterisk
        .ari("DELETE", "/channels/ringing", None)
        .unwrap();

    scene.run();
    told();
    assert_eq!(state(&scene, DESK), "sent to the PBX");
    scene.run();
    assert_eq!(hears(&socket, "NOTIFY "), None, "once");
    phone.switch_on().unwrap();
    assert_eq!(state(&scene, DESK), "fetched");
    assert_eq!(resync(&scene, DESK), "sent to the PBX");
    told();

    // Another phone gets the same account: now it is told by its own contact. Who that is the PBX says
    // within five minutes, or when somebody registers: the first run after that does.
    let other = json!({
        "tenant": "acme", "vendor": "snom", "model": "D785",
        "lines": [{ "line": 1, "account": "acme-2002" }],
    });
    scene.admin.put("devices/000413000001", &other);
    let own = || scene.admin.get(&format!("devices/{DESK}/status"))["lines"][0]["state"].clone();
    assert_eq!(own(), "online", "it says who it is");
    assert_eq!(resync(&scene, DESK), "sent to the PBX");
    told();
    let nobody = "not known to be registered: the account is shared";
    assert_eq!(resync(&scene, "000413000001"), nobody);

    // What may be a failure is said.
    scene
        .admin
        .patch("pbxes/main", &json!({ "ami": { "password": "wrong" } }));
    let wrong = "the PBX did not take it: the AMI user or password is wrong";
    assert_eq!(resync(&scene, DESK), wrong);
}
