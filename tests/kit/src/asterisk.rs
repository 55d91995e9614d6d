//! A real Asterisk for the outermost test ring: unpacked from Debian once, started by each test
//! with a configuration of its own, and gone when the test ends.
//! Everything listens on 127.0.0.1 only, on ports chosen at the start.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::apt::{self, Package, Process};

/// The series that the configuration beside this file was written for.
const SERIES: &str = "22";

/// The Debian suite that carries that series.
const SUITE: &str = "forky";

/// A slow mirror needs minutes; a dead one must not hold a test run for ever.
const UNPACK_LIMIT: Duration = Duration::from_mins(10);

/// A boot takes less than a second, and half a minute with ten thousand endpoints in astdb.
const BOOT_LIMIT: Duration = Duration::from_mins(1);

/// How long Asterisk may take to answer a command or to stop.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How many sets of free ports are tried, each of which may be taken by somebody else at once.
const PORT_ATTEMPTS: usize = 4;

/// What Asterisk logs for a port of any kind that is in use.
const PORT_TAKEN: &str = "Address already in use";

const MMDEBSTRAP: Package = Package {
    name: "mmdebstrap",
    provides: "mmdebstrap",
};

/// Only Debian itself has it from the start.
const KEYRING: Package = Package {
    name: "debian-archive-keyring",
    provides: "/usr/share/keyrings/debian-archive-keyring.gpg",
};

const OPENSSL: Package = Package {
    name: "openssl",
    provides: "openssl",
};

/// The configuration, with `@NAME@` where a value is filled in.
const TEMPLATES: [(&str, &str); 11] = [
    ("ari.conf", include_str!("../asterisk/ari.conf")),
    ("asterisk.conf", include_str!("../asterisk/asterisk.conf")),
    (
        "extensions.conf",
        include_str!("../asterisk/extensions.conf"),
    ),
    ("http.conf", include_str!("../asterisk/http.conf")),
    ("logger.conf", include_str!("../asterisk/logger.conf")),
    ("manager.conf", include_str!("../asterisk/manager.conf")),
    ("modules.conf", include_str!("../asterisk/modules.conf")),
    ("pjsip.conf", include_str!("../asterisk/pjsip.conf")),
    ("rtp.conf", include_str!("../asterisk/rtp.conf")),
    ("sorcery.conf", include_str!("../asterisk/sorcery.conf")),
    ("voicemail.conf", include_str!("../asterisk/voicemail.conf")),
];
const TLS_TEMPLATE: &str = include_str!("../asterisk/pjsip_tls.conf");
const ENDPOINT_TEMPLATE: &str = include_str!("../asterisk/pjsip_endpoint.conf");

/// Asterisk logs an error for each of these that is absent, and does well with an empty one.
const EMPTY_FILES: [&str; 10] = [
    "acl.conf",
    "ccss.conf",
    "cdr.conf",
    "cel.conf",
    "features.conf",
    "pjproject.conf",
    "pjsip_notify.conf",
    "stasis.conf",
    "udptl.conf",
    "websocket_client.conf",
];

const ARI_USER: &str = "dialtone";
const ARI_READER: &str = "reader";
const AMI_USER: &str = "dialtone";

/// Whether the ring must run: on CI a missing Asterisk is a failure, elsewhere a reason to skip.
#[must_use]
pub fn required() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// What a test may wish of its Asterisk.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Endpoints in `pjsip.conf`: those of somebody else, which must stay as they are.
    pub endpoints: Vec<StaticEndpoint>,
    /// Also listen for SIP over TLS, with a certificate for `localhost` and 127.0.0.1.
    pub tls: bool,
}

/// An endpoint with its auth and aor, all three named like the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticEndpoint {
    /// Letters, digits and `+-._` only.
    pub user: String,
    /// The password in clear: printable ASCII without spaces and `;`.
    pub password: String,
}

impl StaticEndpoint {
    fn section(&self) -> Result<String> {
        ensure!(
            !self.user.is_empty()
                && self
                    .user
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte)),
            "unfit user of a static endpoint: {:?}",
            self.user
        );
        ensure!(
            self.password
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b';'),
            "unfit password of the static endpoint {}",
            self.user
        );
        Ok(fill(
            ENDPOINT_TEMPLATE,
            &[("USER", &self.user), ("PASSWORD", &self.password)],
        ))
    }
}

/// The unpacked Asterisk, which any number of tests can start.
#[derive(Clone, Debug)]
pub struct InstalledAsterisk {
    root: PathBuf,
    libraries: PathBuf,
    loader: PathBuf,
}

impl InstalledAsterisk {
    /// Finds the program in an unpacked tree, and sees whether it is the wanted one and runs.
    fn open(root: &Path) -> Result<Self> {
        let (libraries, loader) = find_loader(&root.join("usr/lib"))
            .with_context(|| format!("no dynamic loader in {}", root.display()))?;
        let installed = Self {
            root: root.to_path_buf(),
            libraries,
            loader,
        };
        let output = apt::succeed(installed.command().arg("-V"), ANSWER_LIMIT)?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            version.starts_with(&format!("Asterisk {SERIES}.")),
            "Debian {SUITE} has another Asterisk than {SERIES}: {version}"
        );
        Ok(installed)
    }

    /// The tree is of a newer Debian than this machine may be, so its program runs with the
    /// dynamic loader and the libraries of that same tree; that also serves its modules.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.loader);
        command
            .arg("--library-path")
            .arg(&self.libraries)
            .arg(self.root.join("usr/sbin/asterisk"));
        command
    }

    /// Starts an Asterisk in a run directory of its own, and waits until it is fully booted.
    ///
    /// # Errors
    /// If an option is unfit, or if it does not boot in time; the error holds the end of its log.
    pub fn start(&self, options: &Options) -> Result<Asterisk> {
        let mut taken = None;
        for _ in 0..PORT_ATTEMPTS {
            let mut asterisk = Asterisk::prepare(self, options)?;
            match asterisk.boot()? {
                Boot::Ready => return Ok(asterisk),
                Boot::PortTaken(line) => taken = Some(line),
            }
        }
        bail!(
            "no port stayed free: {}",
            taken.unwrap_or_else(|| "none tried".to_owned())
        )
    }
}

/// `usr/lib/<triplet>/` and the loader in it, whatever the processor.
fn find_loader(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    for libraries in fs::read_dir(directory)? {
        let libraries = libraries?.path();
        if !libraries.is_dir() {
            continue;
        }
        for file in fs::read_dir(&libraries)? {
            let file = file?;
            let name = file.file_name();
            if name.to_string_lossy().starts_with("ld-linux") {
                return Ok((libraries, file.path()));
            }
        }
    }
    bail!("no ld-linux in {}", directory.display())
}

enum Boot {
    Ready,
    PortTaken(String),
}

#[derive(Debug)]
struct Ports {
    /// UDP and TCP.
    sip: u16,
    tls: Option<u16>,
    http: u16,
    ami: u16,
}

impl Ports {
    fn choose(tls: bool) -> Result<Self> {
        // All are held until all are chosen, or the same one might come twice.
        let (sip, _udp, _tcp) = free_sip_port()?;
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (http, ami, secure) = (listen()?, listen()?, listen()?);
        Ok(Self {
            sip,
            tls: tls
                .then(|| secure.local_addr())
                .transpose()?
                .map(|address| address.port()),
            http: http.local_addr()?.port(),
            ami: ami.local_addr()?.port(),
        })
    }
}

/// A port that is free for UDP and for TCP.
fn free_sip_port() -> Result<(u16, UdpSocket, TcpListener)> {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = udp.local_addr()?.port();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(tcp) => return Ok((port, udp, tcp)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("no port is free for both UDP and TCP")
}

/// Each start makes its own; the alphabet needs no escape in a URL or a configuration file.
fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("@{name}@"), value)
        })
}

/// A running Asterisk. Dropping it kills the process and removes all it wrote.
#[derive(Debug)]
pub struct Asterisk {
    // First, so that the process is dead before its directory goes.
    process: Option<Process>,
    run: TempDir,
    installed: InstalledAsterisk,
    ports: Ports,
    ari_password: String,
    ari_reader_password: String,
    ami_password: String,
}

impl Asterisk {
    /// Unpacks Asterisk into Cargo's target directory, unless that was done before.
    ///
    /// Takes about half a minute and 240 MB, and no rights: none of Debian's own scripts run.
    ///
    /// # Errors
    /// Says why there is no Asterisk on this machine.
    pub fn ensure_installed() -> Result<InstalledAsterisk> {
        Self::ensure_installed_in(&apt::target_directory().join("asterisk-22"))
    }

    /// Like [`Asterisk::ensure_installed`], with another directory.
    ///
    /// # Errors
    /// Says why there is no Asterisk on this machine.
    pub fn ensure_installed_in(root: &Path) -> Result<InstalledAsterisk> {
        let open = || {
            InstalledAsterisk::open(root)
                .with_context(|| format!("to unpack it anew, remove {}", root.display()))
        };
        if root.exists() {
            return open();
        }
        apt::ensure_packages(&[MMDEBSTRAP, KEYRING])?;
        let _lock = apt::lock(&root.with_extension("lock"))?;
        if root.exists() {
            return open();
        }

        // A tree under the final name is complete: it gets that name last.
        let partial = root.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        apt::timed(&format!("Asterisk {SERIES} from Debian {SUITE}"), || {
            apt::succeed(&mut unpack(&partial), UNPACK_LIMIT)
        })?;
        InstalledAsterisk::open(&partial)?;
        fs::rename(&partial, root)?;
        open()
    }

    fn prepare(installed: &InstalledAsterisk, options: &Options) -> Result<Self> {
        let asterisk = Self {
            process: None,
            // The control socket's path is limited to 107 bytes, so this stays short.
            run: tempfile::Builder::new().prefix("asterisk-").tempdir()?,
            installed: installed.clone(),
            ports: Ports::choose(options.tls)?,
            ari_password: random_password()?,
            ari_reader_password: random_password()?,
            ami_password: random_password()?,
        };
        for directory in ["cache", "etc", "lib", "log", "run", "spool", "tls"] {
            fs::create_dir(asterisk.path(directory))?;
        }
        asterisk.configure(options)?;
        if options.tls {
            asterisk.make_certificate()?;
        }
        Ok(asterisk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.run.path().join(name)
    }

    fn configure(&self, options: &Options) -> Result<()> {
        let values = [
            ("RUN", self.run.path().display().to_string()),
            ("ROOT", self.installed.root.display().to_string()),
            ("LIBRARIES", self.installed.libraries.display().to_string()),
            ("SIP_PORT", self.ports.sip.to_string()),
            ("TLS_PORT", self.ports.tls.unwrap_or_default().to_string()),
            ("HTTP_PORT", self.ports.http.to_string()),
            ("AMI_PORT", self.ports.ami.to_string()),
            ("ARI_USER", ARI_USER.to_owned()),
            ("ARI_PASSWORD", self.ari_password.clone()),
            ("ARI_READER", ARI_READER.to_owned()),
            ("ARI_READER_PASSWORD", self.ari_reader_password.clone()),
            ("AMI_USER", AMI_USER.to_owned()),
            ("AMI_PASSWORD", self.ami_password.clone()),
        ];
        let values = values
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let etc = self.path("etc");
        for (name, template) in TEMPLATES {
            let mut text = fill(template, &values);
            if name == "pjsip.conf" {
                if options.tls {
                    text.push_str(&fill(TLS_TEMPLATE, &values));
                }
                for endpoint in &options.endpoints {
                    text.push_str(&endpoint.section()?);
                }
            }
            fs::write(etc.join(name), text)?;
        }
        for name in EMPTY_FILES {
            fs::write(etc.join(name), "")?;
        }
        Ok(())
    }

    /// A certificate authority and a server certificate that nobody will trust after this test.
    fn make_certificate(&self) -> Result<()> {
        apt::ensure_packages(&[OPENSSL])?;
        let openssl = |subject: &str, name: &str, extra: &[&str]| {
            let mut command = Command::new("openssl");
            command
                .current_dir(self.path("tls"))
                .args(["req", "-x509", "-nodes", "-days", "30", "-newkey", "ec"])
                .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
                .args(["-subj", subject, "-keyout", &format!("{name}.key")])
                .args(["-out", &format!("{name}.crt")])
                .args(extra);
            apt::succeed(&mut command, ANSWER_LIMIT)
        };
        openssl("/CN=dialtone test authority", "ca", &[])?;
        openssl(
            "/CN=localhost",
            "server",
            &[
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ],
        )?;
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = self.installed.command();
        command
            .arg("-C")
            .arg(self.path("etc/asterisk.conf"))
            .current_dir(self.run.path())
            .env("HOME", self.run.path());
        command
    }

    /// Starts the process in the run directory, and waits for the ARI.
    fn boot(&mut self) -> Result<Boot> {
        let console = File::create(self.path("log/console"))?;
        // The log of an earlier boot may tell of a port that is free again.
        fs::write(self.path("log/full"), "")?;
        let process = Process::spawn(
            self.command()
                .arg("-f")
                .stdin(Stdio::null())
                .stdout(console.try_clone()?)
                .stderr(console),
        )?;
        self.process = Some(process);

        let start = Instant::now();
        loop {
            // Until the last module is loaded the connection is refused, then 404, then 503.
            let ready = self
                .ari("GET", "/asterisk/info", None)
                .is_ok_and(|(status, _)| status == 200);
            // Read after the answer: Asterisk also boots without a port it could not have.
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(PORT_TAKEN)) {
                return Ok(Boot::PortTaken(line.to_owned()));
            }
            if ready {
                return Ok(Boot::Ready);
            }
            let verdict = if !self.is_running() {
                "Asterisk ended while it booted"
            } else if start.elapsed() > BOOT_LIMIT {
                "Asterisk did not boot in time"
            } else {
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            bail!("{verdict}: {}", apt::tail(log.as_bytes()));
        }
    }

    /// The root of the ARI, `http://127.0.0.1:PORT/ari`.
    #[must_use]
    pub fn ari_url(&self) -> String {
        format!("http://127.0.0.1:{}/ari", self.ports.http)
    }

    /// The ARI user that may read and write.
    #[must_use]
    pub fn ari_user(&self) -> &'static str {
        ARI_USER
    }

    /// The password of [`Asterisk::ari_user`].
    #[must_use]
    pub fn ari_password(&self) -> &str {
        &self.ari_password
    }

    /// The ARI user that may only read.
    #[must_use]
    pub fn ari_reader(&self) -> &'static str {
        ARI_READER
    }

    /// The password of [`Asterisk::ari_reader`].
    #[must_use]
    pub fn ari_reader_password(&self) -> &str {
        &self.ari_reader_password
    }

    /// What is above `/rawman`, the AMI over HTTP in its plain form: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn ami_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// The AMI user, whose class is `system`.
    #[must_use]
    pub fn ami_user(&self) -> &'static str {
        AMI_USER
    }

    /// The secret of [`Asterisk::ami_user`].
    #[must_use]
    pub fn ami_password(&self) -> &str {
        &self.ami_password
    }

    /// The port of the ARI and of the AMI over HTTP on 127.0.0.1.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// The port for SIP over UDP and over TCP on 127.0.0.1.
    #[must_use]
    pub fn sip_port(&self) -> u16 {
        self.ports.sip
    }

    /// The port for SIP over TLS, if [`Options::tls`] asked for it.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.ports.tls
    }

    /// The certificate authority that a client over TLS has to trust.
    #[must_use]
    pub fn authority(&self) -> Option<PathBuf> {
        self.ports.tls.map(|_| self.path("tls/ca.crt"))
    }

    /// The process id, if the process was started and not stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether the process runs; a frozen one does, a crashed one does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_running)
    }

    /// What Asterisk wrote since its last boot: notices, warnings, errors and security events.
    #[must_use]
    pub fn log(&self) -> String {
        ["log/console", "log/full"]
            .iter()
            .filter_map(|name| fs::read(self.path(name)).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// One request to the ARI as its user: `path` comes after [`Asterisk::ari_url`] and is already
    /// percent-encoded, `body` is JSON. Gives the status and the body of the answer.
    ///
    /// # Errors
    /// If no complete answer comes within ten seconds.
    pub fn ari(&self, method: &str, path: &str, body: Option<&str>) -> Result<(u16, String)> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut request = format!(
            "{method} /ari{path}{separator}api_key={ARI_USER}:{} HTTP/1.1\r\n\
             Host: 127.0.0.1\r\nConnection: close\r\n",
            self.ari_password
        );
        if let Some(body) = body {
            let _ = write!(
                request,
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.http));
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the ARI closed the connection without an answer")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("no HTTP status in {head:?}"))?;
        Ok((status, body.to_owned()))
    }

    /// What Asterisk's command line answers, as `asterisk -rx` shows it.
    ///
    /// # Errors
    /// If Asterisk does not run, or does not answer within ten seconds.
    pub fn cli(&self, command: &str) -> Result<String> {
        let output = apt::succeed(self.command().args(["-rx", command]), ANSWER_LIMIT)
            .with_context(|| format!("asterisk -rx {command:?}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Puts a message into a mailbox of the context `default`, as somebody would who spoke there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn leave_message(&self, mailbox: &str) -> Result<()> {
        let inbox = self
            .path("spool/voicemail/default")
            .join(mailbox)
            .join("INBOX");
        fs::create_dir_all(&inbox)?;
        fs::write(inbox.join("msg0000.wav"), "")?;
        let about = format!("[message]\norigmailbox={mailbox}\ncontext=default\n");
        fs::write(inbox.join("msg0000.txt"), about)?;
        Ok(())
    }

    /// Stops Asterisk in good order. All that the ARI wrote stays for [`Asterisk::restart`].
    ///
    /// # Errors
    /// If Asterisk had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        if !self.is_running() {
            return self.kill();
        }
        // A frozen one would not hear it.
        self.thaw()?;
        // The connection may break before the answer comes.
        let _ = self.cli("core stop now");
        let stopped = self
            .process
            .as_ref()
            .is_none_or(|process| process.wait_within(ANSWER_LIMIT));
        self.kill()?;
        ensure!(stopped, "Asterisk did not stop and was killed");
        Ok(())
    }

    /// Kills Asterisk, as a crash would. Writes of the last second may be lost.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.finish()?;
        }
        Ok(())
    }

    /// Stops Asterisk if it runs, and starts it with the same ports, passwords and astdb.
    ///
    /// # Errors
    /// If it does not boot in time; the error holds the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        match self.boot()? {
            Boot::Ready => Ok(()),
            Boot::PortTaken(line) => bail!("a port was taken while Asterisk was down: {line}"),
        }
    }

    /// Stops the process where it is: connections are accepted and never answered.
    ///
    /// # Errors
    /// If the process does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// If the process does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.process
            .as_ref()
            .context("Asterisk was stopped")?
            .signal(name)
    }
}

/// Extracts the packages without running a script of theirs, so a plain user can do it too.
fn unpack(root: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command
        .arg("--variant=extract")
        // The suite's list may be older than its own date of expiry; its signature is checked.
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        // apt checks signatures as a user of its own, who is told "no gpgv" where that user may not
        // write to /dev/null: in some containers, and on one CI machine.
        .arg("--aptopt=APT::Sandbox::User \"root\"")
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg("--include=asterisk,asterisk-modules");
    if !apt::is_root() {
        command.arg("--mode=chrootless");
    }
    command.arg(SUITE).arg(root);
    command
}
