//! One REGISTER with digest authentication, as a phone sends it, and what the registrar says to it.
//! `SIPp` sends it: all that matters on the wire is written down here.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::apt::{self, Package};

/// What Debian calls it.
pub const SIPP: Package = Package {
    name: "sip-tester",
    provides: "sipp",
};

/// `SIPp` gives up first; this is for a `SIPp` that hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// `SIPp` keeps the digest user and the password in buffers of this size, and cuts what is longer.
const CREDENTIAL_BYTES: usize = 256;

/// Who registers where. Contact and port stay the same, so that [`unregister`] removes what
/// [`register`] made.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The registrar's UDP port on 127.0.0.1.
    pub server_port: u16,
    /// The user of the address of record. Percent-encoded on the wire where SIP asks for it.
    pub user: String,
    /// The user of the digest, often the same. At most 256 bytes, without `"`, CR, LF and NUL.
    pub auth_user: String,
    /// The password. At most 256 bytes, without CR, LF and NUL; everything else goes through.
    pub password: String,
    /// For how many seconds.
    pub expires: u32,
    /// The phone's own UDP port on 127.0.0.1.
    pub local_port: u16,
    /// The header of that name; no CR, LF and NUL.
    pub user_agent: String,
}

impl Registration {
    /// A registration for ten minutes, from a free port, of a user whose digest user is the same.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn new(server_port: u16, user: &str, password: &str) -> Result<Self> {
        let local = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self {
            server_port,
            user: user.to_owned(),
            auth_user: user.to_owned(),
            password: password.to_owned(),
            expires: 600,
            local_port: local.port(),
            user_agent: "dialtone-test".to_owned(),
        })
    }
}

/// What the registrar decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// 200: the contact is stored, or removed.
    Registered,
    /// Any other final answer, with its status: 401 for a wrong user or password, 404 for an
    /// endpoint without this aor, 500 for an endpoint whose auth does not exist.
    Refused(u16),
}

/// Registers the phone.
///
/// # Errors
/// If there is no answer in time, or 200 without a challenge, or `SIPp` cannot carry a value.
pub fn register(registration: &Registration) -> Result<RegisterOutcome> {
    run(registration, registration.expires)
}

/// Removes the contact that [`register`] stored: the same with `Expires: 0`.
///
/// # Errors
/// As for [`register`].
pub fn unregister(registration: &Registration) -> Result<RegisterOutcome> {
    run(registration, 0)
}

fn run(registration: &Registration, expires: u32) -> Result<RegisterOutcome> {
    let scenario = scenario(&request(registration, "REGISTER", expires)?, "");
    let (succeeded, messages, said) = play(registration, &scenario)?;
    let answers = statuses(&messages);
    match answers.as_slice() {
        [401, .., 200] if succeeded => Ok(RegisterOutcome::Registered),
        [401] | [] => bail!("no answer: {said}"),
        [200, ..] => bail!("registered without a challenge"),
        [.., status] if *status >= 300 => Ok(RegisterOutcome::Refused(*status)),
        _ => bail!("answers {answers:?}: {said}"),
    }
}

/// Subscribes to the messages that wait (RFC 3842), and gives what the first NOTIFY says of them.
///
/// # Errors
/// If the subscription is refused, or no NOTIFY comes in time.
pub fn subscribe(registration: &Registration) -> Result<String> {
    let event = "Event: message-summary\nAccept: application/simple-message-summary";
    let request = request(registration, "SUBSCRIBE", registration.expires)?;
    let request = request.replace("Content-Length", &format!("{event}\nContent-Length"));
    let then = r#"  <recv request="NOTIFY"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
"#;
    let (succeeded, messages, said) = play(registration, &scenario(&request, then))?;
    ensure!(succeeded, "answers {:?}: {said}", statuses(&messages));
    let (_, notify) = messages.rsplit_once("NOTIFY sip:").context("no NOTIFY")?;
    summary(notify).context("a NOTIFY of nothing")
}

/// What a registered phone that subscribed to nothing is told of messages that wait, after [`register`], until
/// it is told that some do. Asterisk sends each NOTIFY again and again until somebody answers it.
///
/// # Errors
/// If it is not told so in time.
pub fn notification(registration: &Registration) -> Result<String> {
    let phone = UdpSocket::bind((Ipv4Addr::LOCALHOST, registration.local_port))?;
    phone.set_read_timeout(Some(LIMIT))?;
    let mut buffer = vec![0; 65_536];
    loop {
        let received = phone.recv_from(&mut buffer);
        let (length, from) = received.context("no NOTIFY of a message")?;
        let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let (head, _) = message.split_once("\r\n\r\n").unwrap_or_default();
        let copied = ["via", "from", "to", "call-id", "cseq"];
        let copied = head.lines().filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            copied.contains(&name.to_ascii_lowercase().as_str())
        });
        let copied: Vec<&str> = copied.collect();
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n",
            copied.join("\r\n")
        );
        phone.send_to(answer.as_bytes(), from)?;
        let said = summary(&message).filter(|said| said.starts_with("Messages-Waiting: yes"));
        if let Some(said) = said {
            return Ok(said);
        }
    }
}

/// The body of a NOTIFY about messages that wait, its lines joined by blanks.
fn summary(notify: &str) -> Option<String> {
    let (_, said) = notify.split_once("Messages-Waiting:")?;
    let lines = format!("Messages-Waiting:{said}");
    let lines = lines
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty());
    Some(lines.collect::<Vec<_>>().join(" "))
}

/// Has `SIPp` play a scenario: whether it went as written, every message of it, and what it said at the end.
fn play(registration: &Registration, scenario: &str) -> Result<(bool, String, String)> {
    ensure!(
        !registration.auth_user.contains('"'),
        "SIPp does not quote a digest user: {:?}",
        registration.auth_user
    );
    for credential in [&registration.auth_user, &registration.password] {
        ensure!(
            credential.len() <= CREDENTIAL_BYTES,
            "SIPp cuts a credential of more than {CREDENTIAL_BYTES} bytes"
        );
    }
    let auth_user = keyword_escape(&registration.auth_user)?;
    let password = keyword_escape(&registration.password)?;

    apt::ensure_packages(&[SIPP])?;
    let directory = tempfile::Builder::new().prefix("sipp-").tempdir()?;
    fs::write(directory.path().join("register.xml"), scenario)?;
    let mut command = Command::new("sipp");
    command
        .current_dir(directory.path())
        .arg(format!("127.0.0.1:{}", registration.server_port))
        .args(["-sf", "register.xml", "-m", "1", "-nostdin"])
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-ci", "127.0.0.1"])
        .args(["-p", &registration.local_port.to_string()])
        // Not in the scenario: there a space or a quote would end them.
        .args(["-au", &auth_user, "-ap", &password])
        .args(["-recv_timeout", "4000", "-timeout", "10s", "-timeout_error"])
        // An answer that was not expected ends the run, but gets no BYE: there is no call.
        .args(["-default_behaviors", "all,-bye"])
        .args(["-trace_msg", "-message_file", "messages"]);
    let output = apt::run_within(&mut command, LIMIT)?;
    let messages = fs::read(directory.path().join("messages")).unwrap_or_default();
    let messages = String::from_utf8_lossy(&messages).into_owned();
    Ok((output.status.success(), messages, apt::tail(&output.stderr)))
}

/// The status of each final answer, in order, from `SIPp`'s log of messages.
fn statuses(messages: &str) -> Vec<u16> {
    messages
        .lines()
        .filter_map(|line| {
            line.strip_prefix("SIP/2.0 ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .filter(|status| *status >= 200)
        .collect()
}

/// A request, with `[[authorization]]` where a digest may stand and `[[sequence]]` for its number.
fn request(registration: &Registration, method: &str, expires: u32) -> Result<String> {
    let user = uri_escape(&registration.user);
    let user_agent = keyword_escape(&registration.user_agent)?;
    // A REGISTER is for the domain, everything else for somebody there.
    let target = if method == "REGISTER" {
        String::new()
    } else {
        format!("{user}@")
    };
    Ok(format!(
        "{method} sip:{target}[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:{user}@[remote_ip]:[remote_port]>;tag=[pid]-[call_number]
To: <sip:{user}@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: [[sequence]] {method}
Contact: <sip:{user}@[local_ip]:[local_port]>
Expires: {expires}
[[authorization]]User-Agent: {user_agent}
Content-Length: 0
"
    ))
}

/// A request, again with its digest, and then what comes after it.
fn scenario(request: &str, then: &str) -> String {
    let message = |sequence: &str, authorization: &str| {
        let request = request
            .replace("[[sequence]]", sequence)
            .replace("[[authorization]]", authorization);
        format!("  <send retrans=\"500\"><![CDATA[\n{request}\n]]></send>\n")
    };
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="register">
{}  <recv response="401" auth="true"/>
{}  <recv response="200"/>
{then}</scenario>
"#,
        message("1", ""),
        message("2", "[authentication]\n")
    )
}

/// What `SIPp` would take for a keyword or an escape, as the escape `\xNN` it knows.
fn keyword_escape(text: &str) -> Result<String> {
    text.chars().try_fold(String::new(), |mut escaped, letter| {
        match letter {
            '\r' | '\n' | '\0' => bail!("SIPp cannot carry {text:?}"),
            '[' | ']' | '\\' => write!(escaped, "\\x{:02x}", u32::from(letter))?,
            _ => escaped.push(letter),
        }
        Ok(escaped)
    })
}

/// RFC 3261, section 25.1: `user` is unreserved and user-unreserved characters, or escaped ones.
fn uri_escape(user: &str) -> String {
    user.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_escaped_as_sip_asks() {
        assert_eq!(uri_escape("anna.b+1"), "anna.b+1");
        assert_eq!(uri_escape("a@b ü"), "a%40b%20%C3%BC");
    }

    #[test]
    fn brackets_and_backslashes_are_hidden_from_sipp() {
        assert_eq!(keyword_escape(r"a[pid]\b").unwrap(), r"a\x5bpid\x5d\x5cb");
        assert!(keyword_escape("a\nb").is_err());
    }

    #[test]
    fn only_final_answers_count() {
        let messages = "SIP/2.0 100 Trying\nREGISTER sip:x SIP/2.0\nSIP/2.0 401 Unauthorized\n";
        assert_eq!(statuses(messages), [401]);
    }
}
