//! Reads a TCP stream together with the time at which its bytes reached this machine.
//!
//! When many streams get a token at once, the last of them is read after all the others: by the
//! clock of the reader it came later than it did. The kernel notes when a segment came in
//! (`SO_TIMESTAMPNS`, socket(7)), before anybody waits for a processor.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use tokio::net::TcpStream;

/// A delay that is longer is not believed: somebody has set the clock of the machine.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Asks the kernel to note when segments of `stream` come in. Where it cannot, every
/// [`Arrival::delay`] is absent; the first one that asks may have to wait a moment for it.
pub fn note_arrivals(stream: &TcpStream) {
    // A refusal is no failure: times are then those of the reader.
    let _refused = setsockopt(stream, ReceiveTimestampns, &true).is_err();
}

/// What a read has brought.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Bytes read; 0 at the end of the stream.
    pub bytes: usize,
    /// How long the last of them had lain in this machine, if the kernel says.
    pub delay: Option<Duration>,
}

/// Reads what has come in on `stream` into `buffer`, without waiting.
///
/// # Errors
/// `WouldBlock` if nothing is there; whatever the connection has come to.
pub fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Arrival> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = [0_u8; nix::sys::socket::cmsg_space::<TimeSpec>()];
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let delay = message.cmsgs().ok().and_then(|mut notes| notes.find_map(delay_of));
    Ok(Arrival { bytes: message.bytes, delay })
}

/// How long ago `note` was written. Both times are of the machine's wall clock, which may be set
/// meanwhile; what that makes of the difference is left out.
fn delay_of(note: ControlMessageOwned) -> Option<Duration> {
    let ControlMessageOwned::ScmTimestampns(arrived) = note else { return None };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(Duration::from(arrived)).filter(|delay| *delay <= DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("it listens"), far.expect("it was connected").0)
    }

    /// Sends a token to `near`, lets it lie for [`REST`] and reads it: the delay, and the time since
    /// just before it was sent.
    async fn read_late(near: &TcpStream, far: &mut TcpStream) -> (Option<Duration>, Duration) {
        let before = Instant::now();
        far.write_all(b"token").await.expect("it is open");
        near.readable().await.expect("it is open");
        while before.elapsed() < REST {
            std::hint::spin_loop();
        }
        let mut buffer = [0; 16];
        let arrival = read(near, &mut buffer).expect("bytes are there");
        assert_eq!(&buffer[..arrival.bytes], b"token");
        (arrival.delay, before.elapsed())
    }

    const REST: Duration = Duration::from_millis(3);

    #[tokio::test]
    async fn bytes_that_lay_for_a_while_are_known_to_have_come_before() {
        let (near, mut far) = pair().await;
        note_arrivals(&near);
        let mut noted = Vec::new();
        for _ in 0..300 {
            let (delay, elapsed) = read_late(&near, &mut far).await;
            noted.extend(delay.map(|delay| (delay, elapsed)));
            if 3 <= noted.len() {
                break;
            }
        }
        assert_eq!(noted.len(), 3, "the kernel notes arrivals");
        for (delay, elapsed) in noted {
            assert!(!delay.is_zero() && delay <= elapsed, "{delay:?} of {elapsed:?}");
        }
    }

    #[tokio::test]
    async fn an_empty_stream_blocks_and_a_closed_one_ends() {
        let (near, far) = pair().await;
        note_arrivals(&near);
        let mut buffer = [0; 16];
        let error = read(&near, &mut buffer).expect_err("nothing has come");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(far);
        near.readable().await.expect("its end can be read");
        assert_eq!(read(&near, &mut buffer).expect("the end").bytes, 0);
    }
}
