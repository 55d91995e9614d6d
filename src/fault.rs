//! The one error that is ours and not the caller's: a store that failed or that is busy.

use std::fmt;

/// A fault of ours. Phones get 503 for it, admins 503 or 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The platform refused for now: KV takes one write a second per key, R2 too.
    Throttled,
    /// A store, a stored record or the platform failed; the label is bounded and holds no value.
    Broken(&'static str),
    /// A record kept changing under a compare-and-set until the tries were used up.
    Contended,
}

impl Fault {
    /// Whether a store gave something that is no record of ours, or of a newer schema. Another copy
    /// would be older: it is no way out.
    #[must_use]
    pub fn is_of_a_record(self) -> bool {
        matches!(self, Self::Broken("stored record" | "stored schema"))
    }

    /// The name of the fault in logs: one of a handful of strings, never a value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Contended => "contended",
            Self::Broken(what) => what,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for Fault {}
