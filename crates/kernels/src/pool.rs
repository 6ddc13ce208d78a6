//! The threads that share one step's work.
//!
//! A region is a number of chunks and one closure that does a chunk. The caller opens it, takes
//! chunks itself, and workers that look by join in; it ends when every chunk is done. Each thread
//! begins with neighbouring chunks of its own, so that it can ask for what it reads next, and then
//! takes what others have not begun. Nobody waits for a worker that has not come: on a busy machine
//! a worker may be off its core for milliseconds, while a region lasts microseconds. Between regions
//! workers spin for a short while, since the next region of a step follows at once, and then sleep.
//!
//! Which thread does a chunk never changes a result: every output is computed by one chunk.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Looks at the gate before a worker sleeps: about 50 µs on a 3-4 GHz machine.
const WORKER_LOOKS: usize = 2_000;
/// Looks before a caller that waits for the last chunks gives its core away between looks.
const CALLER_LOOKS: usize = 1_000;

/// Parts per thread of many small items: enough to even out what a busy machine takes away.
const RANGES_PER_THREAD: usize = 8;

/// Bit of the gate that is set while workers may enter; below it stands how many are inside, above
/// it the number of the region.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const REGION: u32 = 32;

type Work = dyn Fn(usize, usize) + Sync;

/// A fixed set of threads: the caller and `threads - 1` workers.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    region: u64,
}

struct Shared {
    gate: Padded<AtomicU64>,
    /// Chunks of the open region that nobody has begun, of each thread's part.
    parts: Vec<Padded<Part>>,
    /// One for each worker: set by the worker before it sleeps, cleared by who wakes it.
    asleep: Vec<Padded<AtomicBool>>,
    stop: AtomicBool,
    panicked: AtomicBool,
    job: UnsafeCell<Job>,
}

#[derive(Clone, Copy)]
struct Job {
    work: Option<*const Work>,
}

/// A range of chunks, from the first (low half) to before the last (high half).
#[derive(Default)]
struct Part(AtomicU64);

/// Keeps a value on a cache line of its own.
#[repr(align(128))]
struct Padded<T>(T);

// SAFETY: `job` is written by the caller while the gate is closed and nobody is inside, and read
// by workers that are inside (entering acquires what opening released). The rest is atomic.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer is only followed inside a region, by threads its closure is Sync for.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts a pool of `threads` threads in all, the caller included.
    pub fn new(threads: usize) -> Pool {
        assert!(threads >= 1, "a pool needs one thread at least, got {threads}");
        let shared = Arc::new(Shared {
            gate: Padded(AtomicU64::new(0)),
            parts: (0..threads).map(|_| Padded(Part::default())).collect(),
            asleep: (1..threads).map(|_| Padded(AtomicBool::new(false))).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            job: UnsafeCell::new(Job { work: None }),
        });
        let start = |thread: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("kernels-{thread}"))
                .spawn(move || worker(&shared, thread))
                .expect("the system can start a worker thread")
        };
        let workers = (1..threads).map(start).collect();
        Pool { shared, workers, region: 0 }
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(thread, chunk)` once for each chunk in 0..chunks, and returns when all are done.
    /// `thread` is in 0..threads; the caller is thread 0, and no two calls with the same `thread`
    /// overlap. Each thread begins with a part of its own, the caller with the first chunks, and
    /// then goes on to the parts after its own.
    ///
    /// Panics if `work` panicked, after every thread has left the region.
    pub fn for_each_chunk(&mut self, chunks: usize, work: impl Fn(usize, usize) + Sync) {
        if self.workers.is_empty() || chunks <= 1 {
            return (0..chunks).for_each(|chunk| work(0, chunk));
        }
        self.open(chunks, &work);
        let own = catch_unwind(AssertUnwindSafe(|| take_chunks(&self.shared, &work, 0)));
        if own.is_err() {
            // No thread begins another chunk.
            self.shared.parts.iter().for_each(|part| part.0.set(0..0));
        }
        self.close();
        let worker_panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        assert!(!worker_panicked, "a worker thread of the pool panicked");
    }

    /// Calls `work(thread, range)` for neighbouring parts of 0..count, as [`Pool::for_each_chunk`]
    /// does: for many small items, which then share fewer cache lines between threads.
    pub fn for_each_range(&mut self, count: usize, work: impl Fn(usize, Range<usize>) + Sync) {
        let threads = self.threads();
        let chunks = count.min(if threads == 1 { 1 } else { threads * RANGES_PER_THREAD });
        self.for_each_chunk(chunks, |thread, chunk| {
            work(thread, chunk * count / chunks..(chunk + 1) * count / chunks);
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

    fn open(&mut self, chunks: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        let work: *const (dyn Fn(usize, usize) + Sync + '_) = work;
        // SAFETY: the gate is closed and nobody is inside, so nobody reads the job now. The
        // lifetime is erased until `close`, which `for_each_chunk` calls before it returns or
        // unwinds and after which nobody follows the pointer.
        unsafe {
            let work =
                std::mem::transmute::<*const (dyn Fn(usize, usize) + Sync + '_), *const Work>(work);
            *self.shared.job.get() = Job { work: Some(work) };
        }
        let threads = self.threads();
        for (thread, part) in self.shared.parts.iter().enumerate() {
            part.0.set(thread * chunks / threads..(thread + 1) * chunks / threads);
        }
        self.region += 1;
        self.shared.gate.0.store(self.region << REGION | OPEN, Ordering::SeqCst);
        for (asleep, worker) in self.shared.asleep.iter().zip(&self.workers) {
            if asleep.0.load(Ordering::SeqCst) {
                asleep.0.store(false, Ordering::SeqCst);
                worker.thread().unpark();
            }
        }
    }

    /// Lets nobody in any more and waits for those inside.
    fn close(&self) {
        let gate = &self.shared.gate.0;
        gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while gate.load(Ordering::Acquire) & INSIDE > 0 {
            looks += 1;
            if looks < CALLER_LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            worker.join().expect("workers catch panics of their work");
        }
    }
}

/// Does the chunks of the thread's own part, then what is left of others', the last ones first:
/// their threads are on their way to them.
fn take_chunks(shared: &Shared, work: &(dyn Fn(usize, usize) + Sync), thread: usize) {
    while let Some(chunk) = shared.parts[thread].0.take_first() {
        work(thread, chunk);
    }
    let (before, after) = shared.parts.split_at(thread);
    for part in after.iter().chain(before) {
        while let Some(chunk) = part.0.take_last() {
            work(thread, chunk);
        }
    }
}

impl Part {
    fn set(&self, chunks: Range<usize>) {
        let half = |chunk: usize| u64::from(u32::try_from(chunk).expect("chunks fit 32 bits"));
        self.0.store(half(chunks.end) << 32 | half(chunks.start), Ordering::Relaxed);
    }

    fn take_first(&self) -> Option<usize> {
        self.take(|first, end| (first, (first + 1, end)))
    }

    fn take_last(&self) -> Option<usize> {
        self.take(|first, end| (end - 1, (first, end - 1)))
    }

    /// Takes the chunk that `choose` gives with what it leaves, unless the part is empty.
    fn take(&self, choose: impl Fn(u32, u32) -> (u32, (u32, u32))) -> Option<usize> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (first, end) = (seen as u32, (seen >> 32) as u32);
            if first >= end {
                return None;
            }
            let (chunk, (first, end)) = choose(first, end);
            let left = u64::from(end) << 32 | u64::from(first);
            match self.0.compare_exchange_weak(seen, left, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(chunk as usize),
                Err(now) => seen = now,
            }
        }
    }
}

fn worker(shared: &Shared, thread: usize) {
    let mut last_region = 0;
    while let Some(region) = wait_for_region(shared, thread, last_region) {
        last_region = region;
        // SAFETY: we are inside an open region: its job is set, and the caller does not end it
        // before we have left.
        let job = unsafe { *shared.job.get() };
        let work = job.work.expect("an open region has work");
        // SAFETY: as above.
        let work = unsafe { &*work };
        let chunks = AssertUnwindSafe(|| take_chunks(shared, work, thread));
        if let Err(payload) = catch_unwind(chunks) {
            shared.panicked.store(true, Ordering::Relaxed);
            // Dropping it could panic again, and then nobody would leave the region.
            std::mem::forget(payload);
        }
        shared.gate.0.fetch_sub(1, Ordering::Release);
    }
}

/// Enters the next open region after `last` and gives its number; none when the pool ends.
fn wait_for_region(shared: &Shared, thread: usize, last: u64) -> Option<u64> {
    let mut looks = 0;
    loop {
        if let Some(region) = enter(shared, last) {
            return Some(region);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        looks += 1;
        if looks < WORKER_LOOKS {
            std::hint::spin_loop();
            continue;
        }
        // Whoever opens a region after this store sees it; one opened before is seen below.
        shared.asleep[thread - 1].0.store(true, Ordering::SeqCst);
        let gate = shared.gate.0.load(Ordering::SeqCst);
        if gate & OPEN == 0 && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        looks = 0;
    }
}

/// Enters the open region if there is one that this worker has not been in.
fn enter(shared: &Shared, last: u64) -> Option<u64> {
    let gate = shared.gate.0.load(Ordering::Acquire);
    if gate & OPEN == 0 || gate >> REGION == last {
        return None;
    }
    let entered =
        shared.gate.0.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed);
    entered.is_ok().then_some(gate >> REGION)
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
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_chunk_is_done_once_by_whoever_comes() {
        for threads in 1..=4 {
            let mut pool = Pool::new(threads);
            for round in 0..500 {
                let chunks = round % 17;
                let hits: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.for_each_chunk(chunks, |thread, chunk| {
                    assert!(thread < threads);
                    hits[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn workers_join_in() {
        let mut pool = Pool::new(2);
        // Each thread waits inside its chunk until the other one has come.
        let inside = AtomicUsize::new(0);
        pool.for_each_chunk(2, |_, _| {
            inside.fetch_add(1, Ordering::SeqCst);
            while inside.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        });
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
        for _ in 0..50 {
            // Two chunks, so that at times the caller's and a worker's both panic.
            let region = AssertUnwindSafe(|| pool.for_each_chunk(8, |_, chunk| assert!(chunk < 6)));
            assert!(catch_unwind(region).is_err());
            let count = AtomicUsize::new(0);
            pool.for_each_chunk(8, |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 8);
        }
    }
}
