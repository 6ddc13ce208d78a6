//! The threads that share one step's work.
//!
//! A region runs one closure on every thread and ends when all have ended. Between regions the
//! workers spin for a short while, since the next region of a step follows within microseconds,
//! and then sleep. How work is split never changes a result: every output element is computed by
//! one call, whichever thread makes it.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

/// Rounds of `spin_loop` before a waiting worker sleeps: about 50 µs on a 3-4 GHz machine.
const SPIN_ROUNDS: usize = 2_000;
/// Rounds after which the waiting caller gives its core away between looks.
const CALLER_SPIN_ROUNDS: usize = 20_000;

type Job = dyn Fn(usize) + Sync;

/// A fixed set of threads: the caller and `threads - 1` workers.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
}

struct Shared {
    /// Number of regions begun; a worker that sees it grow runs `job`.
    region: Padded<AtomicUsize>,
    /// Workers that have not ended the current region.
    busy: Padded<AtomicUsize>,
    /// Next chunk of the current region's work.
    cursor: Padded<AtomicUsize>,
    /// Workers asleep, to be woken at the next region.
    asleep: Padded<AtomicUsize>,
    stop: AtomicBool,
    panicked: AtomicBool,
    job: UnsafeCell<Option<*const Job>>,
}

/// Keeps a value on a cache line of its own.
#[repr(align(128))]
struct Padded<T>(T);

// SAFETY: `job` is written only by the caller of `run`, while no worker is in a region, and read
// by workers only after they saw `region` grow (release/acquire). The rest is atomic.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer is only followed during `run`, whose closure is Sync.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts a pool of `threads` threads in all, the caller included.
    pub fn new(threads: usize) -> Pool {
        assert!(threads >= 1, "a pool needs one thread at least, got {threads}");
        let shared = Arc::new(Shared {
            region: Padded(AtomicUsize::new(0)),
            busy: Padded(AtomicUsize::new(0)),
            cursor: Padded(AtomicUsize::new(0)),
            asleep: Padded(AtomicUsize::new(0)),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        });
        let workers = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let handle = std::thread::Builder::new()
                    .name(format!("kernels-{index}"))
                    .spawn(move || worker(&shared, index))
                    .expect("the system can start a worker thread");
                let thread = handle.thread().clone();
                (handle, thread)
            })
            .collect();
        Pool { shared, workers }
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(thread)` once on every thread, `thread` in 0..threads, and waits for all.
    ///
    /// Panics if `job` panicked on any thread, after all have ended.
    pub fn run(&mut self, job: impl Fn(usize) + Sync) {
        if self.workers.is_empty() {
            return job(0);
        }
        let job: &(dyn Fn(usize) + Sync) = &job;
        // SAFETY: the lifetime is erased only until this function returns: it waits below until
        // `busy` is zero, after which no worker touches the pointer. No worker is in a region now.
        unsafe {
            *self.shared.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job));
        }
        self.shared.busy.0.store(self.workers.len(), Ordering::Relaxed);
        self.shared.region.0.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.0.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(|(_, thread)| thread.unpark());
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        self.wait_for_workers();
        if let Err(payload) = own {
            std::panic::resume_unwind(payload);
        }
        if self.shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a worker thread of the pool panicked");
        }
    }

    /// Calls `work(thread, chunk)` once for each chunk in 0..chunks, handed out in order.
    pub fn for_each_chunk(&mut self, chunks: usize, work: impl Fn(usize, usize) + Sync) {
        if self.workers.is_empty() || chunks <= 1 {
            return (0..chunks).for_each(|chunk| work(0, chunk));
        }
        self.shared.cursor.0.store(0, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        self.run(|thread| {
            loop {
                let chunk = shared.cursor.0.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    break;
                }
                work(thread, chunk);
            }
        });
    }

    /// Calls `work(state, index, row)` for each row of `rows` (each `row_len` long), with the
    /// state of the thread that runs it. `states` holds one state per thread at least.
    pub fn for_each_row<S: Send, T: Send>(
        &mut self,
        states: &mut [S],
        rows: &mut [T],
        row_len: usize,
        work: impl Fn(&mut S, usize, &mut [T]) + Sync,
    ) {
        assert!(states.len() >= self.threads(), "one state per thread");
        assert!(row_len > 0 && rows.len().is_multiple_of(row_len), "rows are whole");
        let states = SendPtr(states.as_mut_ptr());
        let start = SendPtr(rows.as_mut_ptr());
        self.for_each_chunk(rows.len() / row_len, |thread, index| {
            // SAFETY: `thread` is unique among running threads and below `states.len()`; each
            // index is handed out once and rows of different indices do not overlap.
            let (state, row) = unsafe {
                let row = start.get().add(index * row_len);
                (&mut *states.get().add(thread), std::slice::from_raw_parts_mut(row, row_len))
            };
            work(state, index, row);
        });
    }

    fn wait_for_workers(&self) {
        let mut rounds = 0;
        while self.shared.busy.0.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
            rounds += 1;
            if rounds > CALLER_SPIN_ROUNDS {
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.region.0.fetch_add(1, Ordering::SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            handle.join().expect("workers catch panics of their jobs");
        }
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        wait_for_region(shared, seen);
        seen += 1;
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: `region` grew, so `run` has set the job and waits for `busy` before it returns.
        let job = unsafe { &*(*shared.job.get()).expect("a region has a job") };
        if catch_unwind(AssertUnwindSafe(|| job(index))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.busy.0.fetch_sub(1, Ordering::Release);
    }
}

/// Returns when more than `seen` regions have begun.
fn wait_for_region(shared: &Shared, seen: usize) {
    for _ in 0..SPIN_ROUNDS {
        if shared.region.0.load(Ordering::Acquire) > seen {
            return;
        }
        std::hint::spin_loop();
    }
    shared.asleep.0.fetch_add(1, Ordering::SeqCst);
    while shared.region.0.load(Ordering::SeqCst) <= seen {
        std::thread::park();
    }
    shared.asleep.0.fetch_sub(1, Ordering::SeqCst);
}

/// A pointer that kernels hand to the threads of one region, which write disjoint parts.
pub(crate) struct SendPtr<T>(pub(crate) *mut T);
impl<T> Clone for SendPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SendPtr<T> {}
impl<T> SendPtr<T> {
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}
// SAFETY: only the pointer moves; whoever follows it states why the access is disjoint.
unsafe impl<T> Send for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SendPtr<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_once_per_region() {
        for threads in 1..=4 {
            let mut pool = Pool::new(threads);
            for _ in 0..200 {
                let hits: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                pool.run(|thread| {
                    hits[thread].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn every_row_is_visited_once() {
        let mut pool = Pool::new(3);
        let mut states = vec![0_usize; 3];
        let mut rows = vec![0_u32; 7 * 5];
        pool.for_each_row(&mut states, &mut rows, 5, |state, index, row| {
            *state += 1;
            row.iter_mut().for_each(|x| *x += 1 + index as u32);
        });
        assert_eq!(states.iter().sum::<usize>(), 7);
        let expected: Vec<u32> = (0..35).map(|i| 1 + i / 5).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_panic_in_a_region_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2);
        let failed = catch_unwind(AssertUnwindSafe(|| pool.run(|t| assert!(t == 0, "planted"))));
        assert!(failed.is_err());
        let count = AtomicUsize::new(0);
        pool.run(|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
