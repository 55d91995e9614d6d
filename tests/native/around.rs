//! Worlds that are a fake one but for a part.

/// What a world around a [`crate::world::Fake`] leaves to it: functions of [`dialtone::ports::World`], by name.
macro_rules! as_the_fake {
    ($($name:ident)*) => { $(as_the_fake!(@ $name);)* };
    (@ kv) => {
        fn kv(&self) -> &$crate::world::Kv {
            self.fake.kv()
        }
    };
    (@ r2) => {
        fn r2(&self) -> &$crate::world::Bucket {
            self.fake.r2()
        }
    };
    (@ net) => {
        fn net(&self) -> &$crate::world::Net {
            self.fake.net()
        }
    };
    (@ keys) => {
        fn keys(&self) -> &dialtone::keys::Keys {
            self.fake.keys()
        }
    };
    (@ now) => {
        fn now(&self) -> dialtone::time::Timestamp {
            self.fake.now()
        }
    };
    (@ sleep_ms) => {
        async fn sleep_ms(&self, ms: u32) {
            self.fake.sleep_ms(ms).await;
        }
    };
    (@ random) => {
        fn random<const N: usize>(&self) -> Result<[u8; N], dialtone::fault::Fault> {
            self.fake.random()
        }
    };
    (@ memory) => {
        fn memory<T>(&self, with: impl FnOnce(&mut dialtone::ports::InstanceMemory) -> T) -> T {
            self.fake.memory(with)
        }
    };
    (@ verify_rs256) => {
        async fn verify_rs256(
            &self,
            key: &dialtone::access::RsaKey,
            signed: &[u8],
            signature: &[u8],
        ) -> Result<bool, dialtone::fault::Fault> {
            self.fake.verify_rs256(key, signed, signature).await
        }
    };
    (@ within) => {
        async fn within(&self, limit: dialtone::ports::Limit, who: &str) -> bool {
            self.fake.within(limit, who).await
        }
    };
    (@ log) => {
        fn log(
            &self,
            level: dialtone::ports::Level,
            event: &'static str,
            fields: &[(&'static str, &str)],
        ) {
            let fake: &$crate::world::Fake = &self.fake;
            dialtone::ports::World::log(fake, level, event, fields);
        }
    };
}
pub(crate) use as_the_fake;
