//! Chance with a seed, so that a test that failed can be run again.

/// The variable that gives the seed of a random test, to run one again that failed.
const SEED: &str = "DIALTONE_SEED";

/// The seed of this run: from the variable, or one of the test's own that is the same each time.
pub fn seed(own: u64) -> u64 {
    std::env::var(SEED).map_or(own, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{SEED}={text} is no number"))
    })
}

/// Numbers without a pattern but with a seed (`SplitMix64`, Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of 0 to `sides` - 1.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let sides = u64::try_from(sides).unwrap();
        usize::try_from((mixed ^ (mixed >> 31)) % sides).unwrap()
    }

    /// True once in `sides` times.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    /// One of them.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.roll(all.len())]
    }
}
