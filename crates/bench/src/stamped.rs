//! A TCP stream that notes when it was written and when bytes came.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::arrival;
use crate::clock::Clock;

/// When a stream was written and when bytes came. The stream's task stores, the user's task loads; on the
/// single thread that both run on each sees the other's last value.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    first_write_ns: AtomicU64,
    last_arrival_ns: AtomicU64,
    longest_delay_ns: AtomicU64,
}

/// Stands for "not written yet"; the clock of a run has long passed its first nanosecond.
const NOT_YET: u64 = 0;

impl Stamps {
    /// Forgets the first write and the delays of the request before.
    pub(crate) fn begin_request(&self) {
        self.first_write_ns.store(NOT_YET, Relaxed);
        self.longest_delay_ns.store(0, Relaxed);
    }

    /// When the first byte of the request was handed to the system.
    pub(crate) fn first_write_ns(&self) -> Option<u64> {
        Some(self.first_write_ns.load(Relaxed)).filter(|ns| *ns != NOT_YET)
    }

    /// When the bytes of the last read reached this machine; when it returned, if the kernel does
    /// not say.
    pub(crate) fn last_arrival_ns(&self) -> u64 {
        self.last_arrival_ns.load(Relaxed)
    }

    /// The longest time between the two since the request began.
    pub(crate) fn longest_delay_ns(&self) -> u64 {
        self.longest_delay_ns.load(Relaxed)
    }

    fn arrived(&self, read_ns: u64, delay: Option<Duration>) {
        let delay_ns = delay.map_or(0, |delay| delay.as_nanos() as u64); // it is at most 10 s
        // On one stream nothing arrives before what came earlier.
        let arrival_ns = read_ns.saturating_sub(delay_ns).max(self.last_arrival_ns());
        self.last_arrival_ns.store(arrival_ns, Relaxed);
        self.longest_delay_ns.fetch_max(delay_ns, Relaxed);
    }
}

/// A TCP stream that keeps [`Stamps`]: before each first write, and at each read, before anybody
/// has looked at the bytes.
#[derive(Debug)]
pub(crate) struct StampedStream {
    stream: TcpStream,
    stamps: Arc<Stamps>,
    clock: Clock,
}

impl StampedStream {
    /// Wraps `stream`; the stamps can be read while the stream belongs to somebody else.
    pub(crate) fn new(stream: TcpStream, clock: Clock) -> (StampedStream, Arc<Stamps>) {
        arrival::note_arrivals(&stream);
        let stamps = Arc::new(Stamps::default());
        (StampedStream { stream, stamps: Arc::clone(&stamps), clock }, stamps)
    }

    fn stamp_write(&self) {
        if self.stamps.first_write_ns().is_none() {
            self.stamps.first_write_ns.store(self.clock.now_ns(), Relaxed);
        }
    }
}

impl AsyncRead for StampedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.stream.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            let read = || arrival::read(&self.stream, room);
            match self.stream.try_io(Interest::READABLE, read) {
                Ok(arrival) => {
                    self.stamps.arrived(self.clock.now_ns(), arrival.delay);
                    buffer.advance(arrival.bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for StampedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stamp_write();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stamp_write();
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
