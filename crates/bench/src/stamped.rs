//! A TCP stream that notes when it was written and read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::clock::Clock;

/// When a stream was written and read. The stream's task stores, the user's task loads; on the
/// single thread that both run on each sees the other's last value.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    first_write_ns: AtomicU64,
    last_read_ns: AtomicU64,
}

/// Stands for "not written yet"; the clock of a run has long passed its first nanosecond.
const NOT_YET: u64 = 0;

impl Stamps {
    /// Forgets the last request's first write.
    pub(crate) fn begin_request(&self) {
        self.first_write_ns.store(NOT_YET, Relaxed);
    }

    /// When the first byte of the request was handed to the system.
    pub(crate) fn first_write_ns(&self) -> Option<u64> {
        Some(self.first_write_ns.load(Relaxed)).filter(|ns| *ns != NOT_YET)
    }

    /// When the last read that gave bytes returned.
    pub(crate) fn last_read_ns(&self) -> u64 {
        self.last_read_ns.load(Relaxed)
    }
}

/// A TCP stream that keeps [`Stamps`]: before each first write, and after each read, before
/// anybody has looked at the bytes.
#[derive(Debug)]
pub(crate) struct StampedStream {
    stream: TcpStream,
    stamps: Arc<Stamps>,
    clock: Clock,
}

impl StampedStream {
    /// Wraps `stream`; the stamps can be read while the stream belongs to somebody else.
    pub(crate) fn new(stream: TcpStream, clock: Clock) -> (StampedStream, Arc<Stamps>) {
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
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if before < buffer.filled().len() {
            self.stamps.last_read_ns.store(self.clock.now_ns(), Relaxed);
        }
        result
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
