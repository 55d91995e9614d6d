//! A world whose ways to the stores and to the PBXes can be cut at any operation: the Worker is killed
//! there, the operation fails, it takes place and its answer is lost, or somebody else comes between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use dialtone::fault::Fault;
use dialtone::ports::{
    MappingEntry, Mappings, NoAnswer, Object, ObjectEntry, Objects, Only, Outbound, Page, World,
};
use http::{Method, Request, Response};

use crate::around::as_the_fake;
use crate::world::Fake;

/// What becomes of the operation at which a way is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It takes place, and the Worker is killed before it hears of it.
    Killed,
    /// It takes place, and its answer is lost.
    Lost,
    /// It fails.
    Failed,
    /// Somebody else comes before it, and all goes on.
    Between,
}

impl Cut {
    pub const ALL: [Self; 4] = [Self::Killed, Self::Lost, Self::Failed, Self::Between];

    /// Whether reads count: what the stores hold after a kill differs by writes alone.
    fn counts_reads(self) -> bool {
        self == Self::Failed
    }
}

type Deed = Box<dyn FnOnce()>;

struct Edge {
    cut: Cell<Option<Cut>>,
    /// How many more operations go through before it.
    left: Cell<usize>,
    between: RefCell<Option<Deed>>,
    /// Whether it came to it.
    came: Cell<bool>,
    dead: Cell<bool>,
}

impl Edge {
    async fn through<T, E>(
        &self,
        reads: bool,
        fault: E,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.dead.get() {
            pending::<()>().await;
        }
        let Some(cut) = self.cut.get() else {
            return call.await;
        };
        if reads && !cut.counts_reads() {
            return call.await;
        }
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            return call.await;
        }
        self.cut.set(None);
        self.came.set(true);
        match cut {
            Cut::Killed => {
                let _ = call.await;
                self.dead.set(true);
                pending().await
            }
            Cut::Lost => {
                call.await?;
                Err(fault)
            }
            Cut::Failed => Err(fault),
            Cut::Between => {
                let deed = self.between.borrow_mut().take();
                if let Some(deed) = deed {
                    deed();
                }
                call.await
            }
        }
    }
}

/// The world, with ways that are cut once.
pub struct Knife {
    fake: Rc<Fake>,
    edge: Rc<Edge>,
    kv: KvWay,
    r2: R2Way,
    net: NetWay,
}

impl Knife {
    /// After so many operations the next one is cut.
    pub fn new(fake: &Rc<Fake>, cut: Cut, after: usize) -> Self {
        let edge = Rc::new(Edge {
            cut: Cell::new(Some(cut)),
            left: Cell::new(after),
            between: RefCell::new(None),
            came: Cell::new(false),
            dead: Cell::new(false),
        });
        Self {
            kv: KvWay(Rc::clone(fake), Rc::clone(&edge)),
            r2: R2Way(Rc::clone(fake), Rc::clone(&edge)),
            net: NetWay(Rc::clone(fake), Rc::clone(&edge)),
            fake: Rc::clone(fake),
            edge,
        }
    }

    /// What comes between.
    pub fn between(self, deed: impl FnOnce() + 'static) -> Self {
        *self.edge.between.borrow_mut() = Some(Box::new(deed));
        self
    }

    /// Runs what runs on this world to its end or to the kill. True if it came to the cut.
    pub fn run(&self, future: impl Future<Output = ()>) -> bool {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100_000 {
            if future.as_mut().poll(&mut context).is_ready() || self.edge.dead.get() {
                return self.edge.came.get();
            }
        }
        panic!("it waits for something that no fake ever does");
    }
}

pub struct KvWay(Rc<Fake>, Rc<Edge>);

impl Mappings for KvWay {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Fault> {
        let call = self.0.kv.get_many(keys);
        self.1.through(true, Fault::Broken("kv"), call).await
    }

    async fn put(
        &self,
        key: &str,
        value: &str,
        metadata: Option<&str>,
        keep_s: Option<u64>,
    ) -> Result<(), Fault> {
        let call = self.0.kv.put(key, value, metadata, keep_s);
        self.1.through(false, Fault::Broken("kv"), call).await
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Page<MappingEntry>, Fault> {
        let call = self.0.kv.list(prefix, cursor);
        self.1.through(true, Fault::Broken("kv"), call).await
    }
}

pub struct R2Way(Rc<Fake>, Rc<Edge>);

impl R2Way {
    async fn through<T>(
        &self,
        reads: bool,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.1.through(reads, Fault::Broken("r2"), call).await
    }
}

impl Objects for R2Way {
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        self.through(true, self.0.r2.get(key)).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        let call = self.0.r2.put(key, body, metadata, only);
        self.through(false, call).await
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.through(false, self.0.r2.delete(key)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault> {
        self.through(false, self.0.r2.delete_many(keys)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        self.through(true, self.0.r2.list(prefix, after, limit))
            .await
    }
}

pub struct NetWay(Rc<Fake>, Rc<Edge>);

impl Outbound for NetWay {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        timeout_ms: u32,
        max_bytes: usize,
    ) -> Result<Response<Vec<u8>>, NoAnswer> {
        let reads = request.method() == Method::GET;
        let call = self.0.net.send(request, timeout_ms, max_bytes);
        self.1.through(reads, NoAnswer::Unreachable, call).await
    }
}

impl World for Knife {
    type Mappings = KvWay;
    type Objects = R2Way;
    type Outbound = NetWay;

    fn kv(&self) -> &KvWay {
        &self.kv
    }

    fn r2(&self) -> &R2Way {
        &self.r2
    }

    fn net(&self) -> &NetWay {
        &self.net
    }

    as_the_fake! { keys now sleep_ms random memory verify_rs256 within log }
}
