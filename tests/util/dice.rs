//! Small random numbers, the same in every run.

/// What comes next depends on the number that it holds, which must not be zero.
pub struct Dice(pub u64);

impl Dice {
    /// Returns the dice of the client with this number.
    pub fn new(i: usize) -> Self {
        Self((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
