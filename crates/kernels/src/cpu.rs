//! What the kernels run on.

use crate::isa::Isa;
use crate::pool::Pool;

/// The threads and instructions of one engine.
pub struct Cpu {
    /// The threads that share each operation.
    pub pool: Pool,
    isa: Isa,
}

impl Cpu {
    /// `threads` threads, the caller included, that use the tier `isa`.
    ///
    /// Panics if this machine lacks the tier; [`Isa::available`] tells beforehand.
    pub fn new(threads: usize, isa: Isa) -> Cpu {
        assert!(isa.available(), "this machine lacks the instructions of tier {isa}");
        Cpu { pool: Pool::new(threads), isa }
    }

    /// The tier in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
