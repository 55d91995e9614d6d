//! What the Worker takes while it runs: the memory of its isolate, by the runtime's inspector; and the
//! memory and CPU time of the runtime's processes, in which the simulators of KV and R2 run too.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dialtone_kit::workerd::Workerd;
use dialtone_kit::{npm, project};

/// Ticks of the kernel's clock in a second, as `/proc` shows them on Linux.
const TICKS: f64 = 100.0;

/// How long the inspector may take for its first word.
const FIRST_WORD: Duration = Duration::from_secs(30);

/// The memory of an isolate, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// V8's heap, as large as it was made.
    pub heap: u64,
    /// Objects of the runtime beside it.
    pub objects: u64,
    /// Buffers, of which the memory of wasm is the most.
    pub buffers: u64,
}

impl Memory {
    /// All of it.
    pub fn all(self) -> u64 {
        self.heap + self.objects + self.buffers
    }

    fn most(self, other: Self) -> Self {
        if other.all() > self.all() {
            other
        } else {
            self
        }
    }

    fn read(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            heap: next()?,
            objects: next()?,
            buffers: next()?,
        })
    }
}

/// A watch on one runtime. Dropping it ends it.
pub struct Gauge {
    inspector: Child,
    pids: Vec<u32>,
    peak: Arc<Mutex<Option<Memory>>>,
}

impl Gauge {
    /// Begins to watch.
    pub fn on(workerd: &Workerd) -> Result<Self> {
        let port = workerd.inspector_port().context("no inspector")?;
        let mut inspector = npm::node()
            .arg(project::root().join("tests/simulation/heap.mjs"))
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start node")?;
        let lines = BufReader::new(inspector.stdout.take().context("no pipe")?);
        let peak = Arc::<Mutex<Option<Memory>>>::default();
        let seen = Arc::clone(&peak);
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(memory) = Memory::read(&line) {
                    let mut peak = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *peak = Some(peak.unwrap_or_default().most(memory));
                }
            }
        });
        let gauge = Self {
            inspector,
            pids: workerd.runtime_pids(),
            peak,
        };
        let start = Instant::now();
        while gauge.peak().is_none() {
            ensure!(start.elapsed() < FIRST_WORD, "the inspector says nothing");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(gauge)
    }

    fn peak(&self) -> Option<Memory> {
        *self.peak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that the isolate took since this was last asked, as far as it was looked at; it is
    /// looked at four times a second.
    pub fn take_peak(&self) -> Memory {
        let mut peak = self.peak.lock().unwrap_or_else(PoisonError::into_inner);
        peak.take().unwrap_or_default()
    }

    /// The CPU time of the processes so far, in seconds; 0 where there is no `/proc`.
    pub fn cpu_s(&self) -> f64 {
        let ticks = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            let mut fields = rest.split(' ').skip(11);
            let mut next = || fields.next()?.parse::<u32>().ok();
            Some(next()? + next()?)
        };
        f64::from(self.pids.iter().filter_map(ticks).sum::<u32>()) / TICKS
    }

    /// The memory of the processes now, in MB; 0 where there is no `/proc`.
    pub fn resident_mb(&self) -> u64 {
        let kib = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        self.pids.iter().filter_map(kib).sum::<u64>() * 1_024 / 1_000_000
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        // It may have ended with the runtime.
        let _ = self.inspector.kill();
        let _ = self.inspector.wait();
    }
}
