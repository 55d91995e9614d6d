//! The outermost ring's own tools against each other: a real Asterisk, `SIPp` as the phone that only
//! registers, and Linphone as the phone that fetches its configuration.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dialtone_kit::asterisk::{self, Asterisk, InstalledAsterisk, Options, StaticEndpoint};
use dialtone_kit::linphone::{self, Linphone};
use dialtone_kit::sipp::{self, RegisterOutcome, Registration};

/// MD5 of `anna-digest:asterisk:a[pid]\ "b`, the user, realm and password of the phone below.
const HA1: &str = "793a90312ca529ab2b83121c0b192be2";
const PASSWORD: &str = r#"a[pid]\ "b"#;

/// MD5 of `soft:asterisk:secret`.
const SOFT_HA1: &str = "bd1b328db88b3d515487aceddf7c11ed";

/// Skips loudly where there is no Asterisk, except on CI.
fn installed() -> Option<InstalledAsterisk> {
    match Asterisk::ensure_installed() {
        Ok(installed) => Some(installed),
        Err(error) if asterisk::required() => panic!("{error:#}"),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED, no Asterisk: {error:#}");
            None
        }
    }
}

/// Creates or changes an object by the ARI, whose field values are always strings.
fn put(asterisk: &Asterisk, kind: &str, id: &str, fields: &[(&str, &str)]) -> Result<()> {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!(r#"{{"attribute":"{name}","value":"{value}"}}"#))
        .collect();
    let (status, answer) = asterisk.ari(
        "PUT",
        &format!("/asterisk/config/dynamic/res_pjsip/{kind}/{id}"),
        Some(&format!(r#"{{"fields":[{}]}}"#, fields.join(","))),
    )?;
    ensure!(status == 200, "PUT {kind}/{id}: {status} {answer}");
    Ok(())
}

fn put_phone(asterisk: &Asterisk, id: &str, digest_user: &str, ha1: &str) -> Result<()> {
    put(
        asterisk,
        "auth",
        id,
        &[
            ("auth_type", "md5"),
            ("username", digest_user),
            ("realm", "asterisk"),
            ("md5_cred", ha1),
        ],
    )?;
    put(
        asterisk,
        "aor",
        id,
        &[("max_contacts", "1"), ("remove_existing", "yes")],
    )?;
    put(
        asterisk,
        "endpoint",
        id,
        &[
            ("auth", id),
            ("aors", id),
            ("context", "default"),
            ("disallow", "all"),
            // Without it astdb keeps an object that nobody can read or delete any more.
            ("allow", "ulaw,alaw"),
            ("callerid", r#"\"Anna\" <1>"#),
            ("@owner", "test"),
        ],
    )
}

/// The state in the list of endpoints; none if it is not in it.
fn state(asterisk: &Asterisk, id: &str) -> Result<Option<String>> {
    let (status, list) = asterisk.ari("GET", "/endpoints", None)?;
    ensure!(status == 200, "GET /endpoints: {status} {list}");
    let entry = format!(r#""resource":"{id}","state":""#);
    Ok(list
        .split_once(&entry)
        .and_then(|(_, rest)| rest.split('"').next())
        .map(str::to_owned))
}

#[test]
fn a_phone_made_by_the_ari_registers_and_unregisters() -> Result<()> {
    let Some(installed) = installed() else {
        return Ok(());
    };
    let foreign = StaticEndpoint {
        user: "foreign".to_owned(),
        password: "secret".to_owned(),
    };
    let asterisk = installed.start(&Options {
        endpoints: vec![foreign.clone()],
        tls: false,
    })?;
    put_phone(&asterisk, "anna", "anna-digest", HA1)?;
    assert_eq!(state(&asterisk, "anna")?.as_deref(), Some("offline"));

    // The digest user need not be the user: the endpoint is found by the latter.
    let mut phone = Registration::new(asterisk.sip_port(), "anna", PASSWORD)?;
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Refused(401));
    phone.auth_user = "anna-digest".to_owned();
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Registered);
    assert_eq!(state(&asterisk, "anna")?.as_deref(), Some("online"));
    assert!(
        asterisk
            .cli("pjsip show contacts")?
            .contains("anna/sip:anna@127.0.0.1")
    );

    assert_eq!(sipp::unregister(&phone)?, RegisterOutcome::Registered);
    assert_eq!(state(&asterisk, "anna")?.as_deref(), Some("offline"));

    // Asterisk takes a name that leads nowhere, and tells the phone so.
    put(&asterisk, "endpoint", "anna", &[("auth", "absent")])?;
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Refused(500));
    put(
        &asterisk,
        "endpoint",
        "anna",
        &[("auth", "anna"), ("aors", "absent")],
    )?;
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Refused(404));
    phone.password = "wrong".to_owned();
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Refused(401));
    assert!(asterisk.log().contains("ChallengeResponseFailed"));

    // What is in the configuration file can be seen but not changed.
    let foreigner = "/asterisk/config/dynamic/res_pjsip/endpoint/foreign";
    assert_eq!(asterisk.ari("GET", foreigner, None)?.0, 200);
    assert_eq!(asterisk.ari("DELETE", foreigner, None)?.0, 403);
    let phone = Registration::new(asterisk.sip_port(), &foreign.user, &foreign.password)?;
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Registered);
    Ok(())
}

#[test]
fn objects_and_registrations_outlive_a_restart() -> Result<()> {
    let Some(installed) = installed() else {
        return Ok(());
    };
    let mut asterisk = installed.start(&Options {
        endpoints: Vec::new(),
        tls: true,
    })?;
    put_phone(&asterisk, "anna", "anna-digest", HA1)?;
    let mut phone = Registration::new(asterisk.sip_port(), "anna", PASSWORD)?;
    phone.auth_user = "anna-digest".to_owned();
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Registered);

    let before = asterisk.pid();
    asterisk.restart()?;
    assert_ne!(asterisk.pid(), before);
    assert_eq!(state(&asterisk, "anna")?.as_deref(), Some("online"));

    asterisk.kill()?;
    assert!(!asterisk.is_running());
    assert!(asterisk.ari("GET", "/asterisk/ping", None).is_err());
    asterisk.restart()?;
    assert_eq!(state(&asterisk, "anna")?.as_deref(), Some("online"));

    // A frozen Asterisk accepts what it never answers.
    asterisk.freeze()?;
    assert!(asterisk.is_running());
    assert!(sipp::register(&phone).is_err());
    asterisk.thaw()?;
    assert_eq!(sipp::register(&phone)?, RegisterOutcome::Registered);
    assert!(asterisk.tls_port().is_some());
    assert!(asterisk.cli("pjsip show transports")?.contains("tls"));
    asterisk.stop()?;
    assert!(!asterisk.is_running());
    Ok(())
}

#[test]
fn linphone_registers_with_nothing_but_a_configuration_uri() -> Result<()> {
    let Some(installed) = installed() else {
        return Ok(());
    };
    let asterisk = installed.start(&Options::default())?;
    put_phone(&asterisk, "soft", "soft", SOFT_HA1)?;
    let server = serve(provisioning_document(asterisk.sip_port()))?;

    let mut phone = Linphone::start(
        &server,
        &linphone::Options {
            user_agent: Some("Dialtone Test Phone".to_owned()),
            authority: None,
        },
    )?;
    let status = phone.wait_registered(Duration::from_secs(20))?;
    assert!(status.contains("identity=sip:soft@127.0.0.1"), "{status}");
    assert_eq!(state(&asterisk, "soft")?.as_deref(), Some("online"));
    assert!(phone.rc().contains(SOFT_HA1));

    phone.restart()?;
    phone.wait_registered(Duration::from_secs(20))?;
    phone.quit()?;
    assert_eq!(state(&asterisk, "soft")?.as_deref(), Some("offline"));
    Ok(())
}

/// Answers every request with the document, and gives the URI; bounded, so that no thread stays.
fn serve(document: String) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let uri = format!(
        "http://127.0.0.1:{}/phone.xml",
        listener.local_addr()?.port()
    );
    thread::spawn(move || {
        for stream in listener.incoming().take(10).flatten() {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                line.clear();
            }
            let _ = write!(
                reader.get_mut(),
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{document}",
                document.len()
            );
        }
    });
    Ok(uri)
}

fn provisioning_document(sip_port: u16) -> String {
    let section = |name: &str, entries: &[(&str, &str)]| {
        let entries: Vec<String> = entries
            .iter()
            .map(|(name, value)| {
                format!(r#"<entry name="{name}" overwrite="true">{value}</entry>"#)
            })
            .collect();
        format!(r#"<section name="{name}">{}</section>"#, entries.concat())
    };
    [
        r#"<?xml version="1.0" encoding="UTF-8"?><config xmlns="http://www.linphone.org/xsds/lpconfig.xsd">"#,
        &section("sip", &[("default_proxy", "0")]),
        &section(
            "proxy_0",
            &[
                ("reg_proxy", &format!("&lt;sip:127.0.0.1:{sip_port};transport=udp&gt;")),
                ("reg_identity", "&lt;sip:soft@127.0.0.1&gt;"),
                ("reg_expires", "120"),
                ("reg_sendregister", "1"),
                ("realm", "asterisk"),
            ],
        ),
        &section(
            "auth_info_0",
            &[
                ("username", "soft"),
                ("ha1", SOFT_HA1),
                ("realm", "asterisk"),
                ("domain", "127.0.0.1"),
                ("algorithm", "MD5"),
            ],
        ),
        "</config>",
    ]
    .concat()
}

#[test]
fn a_dead_registrar_is_an_error_and_not_a_refusal() -> Result<()> {
    // Port 9 is reserved for a service that answers nothing.
    let start = Instant::now();
    assert!(sipp::register(&Registration::new(9, "anna", "secret")?).is_err());
    assert!(start.elapsed() < Duration::from_secs(15));
    Ok(())
}
