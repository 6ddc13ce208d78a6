//! Chance as a function: the same seed and the same request give the same numbers everywhere.

/// Which request of a run: everything about a request that is left to chance is a function of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The run's seed.
    pub seed: u64,
    /// Which level of the run, from 1; 0 is the warm-up.
    pub level: u32,
    /// Which user of the level; in an open loop each request has its own.
    pub user: u32,
    /// Which request of the user.
    pub request: u32,
}

impl RequestKey {
    /// Numbers for one `purpose` of this request, unrelated to those for any other.
    pub fn random(self, purpose: Purpose) -> Random {
        let fields = [purpose as u64, self.level.into(), self.user.into(), self.request.into()];
        Random::new(self.seed, &fields)
    }
}

/// What random numbers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The words of a prompt.
    Words = 1,
    /// The length of a prompt.
    PromptLength = 2,
    /// The length of an answer.
    OutputLength = 3,
    /// The time a user thinks before a request.
    ThinkTime = 4,
    /// The times at which an open loop's requests are due.
    Arrivals = 5,
    /// Which of the shared prefixes a prompt begins with.
    Prefix = 6,
    /// The order in which the requests of a data set are sent.
    Order = 7,
}

/// A sequence of random numbers: splitmix64 (Steele and others, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The numbers of `seed` and `fields`; a difference anywhere gives unrelated ones.
    pub fn new(seed: u64, fields: &[u64]) -> Random {
        let state = fields.iter().fold(mix(seed), |state, field| mix(state ^ mix(*field)));
        Random { state }
    }

    /// 64 even bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// One of the numbers below `bound`, which is at least 1, all equally likely.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(0 < bound, "there is no number below 0");
        let product = u128::from(self.bits()) * bound as u128;
        (product >> 64) as usize // the high half is below the bound
    }

    /// A number between 0 and 1, both excluded, all equally likely.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution, by Box and Muller's transform.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A number of the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

/// 2^64 divided by the golden ratio: the step of the generator.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64: a bijection that changes half of the bits for each bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(GOLDEN);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and standard deviation of 20,000 draws.
    fn moments(mut draw: impl FnMut(&mut Random) -> f64) -> (f64, f64) {
        let mut random = Random::new(3, &[]);
        let values: Vec<f64> = (0..20_000).map(|_| draw(&mut random)).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 20_000.0;
        (mean, square.sqrt())
    }

    #[track_caller]
    fn assert_near(found: (f64, f64), expected: (f64, f64)) {
        let near = |found: f64, expected: f64| (found - expected).abs() < 0.02;
        assert!(near(found.0, expected.0) && near(found.1, expected.1), "{found:?} {expected:?}");
    }

    #[test]
    fn distributions_have_their_moments() {
        assert_near(moments(Random::unit), (0.5, 1.0 / 12.0_f64.sqrt()));
        assert_near(moments(Random::normal), (0.0, 1.0));
        assert_near(moments(Random::exponential), (1.0, 1.0));
        assert_near(moments(|random| random.below(2) as f64), (0.5, 0.5));
    }

    #[test]
    fn numbers_of_different_purposes_and_requests_are_unrelated() {
        let key = RequestKey { seed: 7, level: 1, user: 2, request: 3 };
        let others = [
            (RequestKey { seed: 8, ..key }, Purpose::Words),
            (RequestKey { level: 2, ..key }, Purpose::Words),
            (RequestKey { user: 3, request: 2, ..key }, Purpose::Words),
            (key, Purpose::PromptLength),
        ];
        let first = |(key, purpose): (RequestKey, Purpose)| key.random(purpose).bits();
        assert_eq!(first((key, Purpose::Words)), first((key, Purpose::Words)));
        for other in others {
            assert_ne!(first(other), first((key, Purpose::Words)), "{other:?}");
        }
    }
}
