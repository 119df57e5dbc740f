//! What lies between the socket and the crate: one reply is never larger than allowed, and a connection that went silent is known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A mark that is the first element of a transaction's reply. When the reply is too large, it tells whose it was: unlike the error, which
/// the crate gives to single commands only, it is in the reply itself.
pub(super) const MARK_BYTES: usize = 24;
const MARK: &[u8; 16] = b"\0compozy-reply-\0";

/// The mark of this number.
pub(super) fn mark(number: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..MARK.len()].copy_from_slice(MARK);
    mark[MARK.len()..].copy_from_slice(&number.to_be_bytes());
    mark
}

/// A value that is larger than this holds others up while it travels.
pub(super) const LARGE_BYTES: u64 = 64 * 1024;
/// So long nothing moves before a connection counts as held up, in milliseconds.
const STILL_MS: u64 = 5;
/// What a mark and the framing of a reply without elements may add.
const SLACK_BYTES: u64 = 64;
/// A header of RESP is a type and a number; what is longer is text, whose begin is enough.
const HEADER_BYTES: usize = 24;

/// A connection of whatever kind.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A reply that is larger than a guest may be given. The connection ends with it, because the rest cannot be skipped cheaply.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a reply of {used} bytes is larger than the {allowed} bytes that are allowed")]
pub(super) struct ReplyTooLarge {
    pub(super) used: u64,
    pub(super) allowed: u64,
}

/// What is known of a connection from outside.
#[derive(Debug)]
pub(super) struct Meter {
    origin: Instant,
    /// When a byte came last, in milliseconds after `origin`.
    came: AtomicU64,
    /// When a byte went last.
    went: AtomicU64,
    /// Whether the system takes no more for now.
    full: AtomicBool,
    /// Whether a large value is coming.
    large: AtomicBool,
    /// How large the reply was that ended the connection; 0 for none.
    too_large: AtomicU64,
    /// The number of the mark in it; 0 for none.
    culprit: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        let none = AtomicU64::default;
        Arc::new(Self {
            origin: Instant::now(),
            came: none(),
            went: none(),
            full: AtomicBool::new(false),
            large: AtomicBool::new(false),
            too_large: none(),
            culprit: none(),
        })
    }

    fn now(&self) -> u64 {
        self.millis(Instant::now())
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether something large is under way, or nothing moves at all; what is sent now would wait behind it.
    pub(super) fn held_up(&self, now: Instant) -> bool {
        let now = self.millis(now);
        let still = |last: &AtomicU64| now.saturating_sub(last.load(Ordering::Relaxed)) > STILL_MS;
        self.large.load(Ordering::Relaxed)
            || self.full.load(Ordering::Relaxed)
            || (still(&self.came) && still(&self.went))
    }

    /// Whether nothing came for so long, though it is not that something large is still on its way out.
    pub(super) fn silent(&self, time: Duration) -> bool {
        let since = |last: &AtomicU64| Duration::from_millis(self.now().saturating_sub(last.load(Ordering::Relaxed)));
        let sending = self.full.load(Ordering::Relaxed) && since(&self.went) < time / 2;
        since(&self.came) >= time && !sending
    }

    /// The size of the reply that ended the connection, if it was the one with the mark of this number.
    pub(super) fn too_large(&self, number: u64) -> Option<u64> {
        let used = self.too_large.load(Ordering::Acquire);
        (used > 0 && self.culprit.load(Ordering::Relaxed) == number).then_some(used)
    }
}

/// A transport whose replies are measured.
pub(super) struct Guarded {
    inner: Pin<Box<dyn Transport>>,
    meter: Arc<Meter>,
    framing: Framing,
}

impl Guarded {
    /// `allowed`: bytes of one reply.
    pub(super) fn new(inner: Pin<Box<dyn Transport>>, meter: Arc<Meter>, allowed: u64) -> Self {
        Self { inner, meter, framing: Framing::new(allowed) }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.inner.as_mut().poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.meter.came.store(self.meter.now(), Ordering::Relaxed);
            let seen = self.framing.see(&buffer.filled()[before..]);
            self.meter.large.store(self.framing.skip > LARGE_BYTES, Ordering::Relaxed);
            if let Err(too_large) = seen {
                self.meter.culprit.store(self.framing.marked(), Ordering::Relaxed);
                self.meter.too_large.store(too_large.used, Ordering::Release);
                buffer.set_filled(before);
                return Poll::Ready(Err(io::Error::other(too_large)));
            }
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.inner.as_mut().poll_write(cx, bytes);
        if polled.is_ready() {
            self.meter.went.store(self.meter.now(), Ordering::Relaxed);
        }
        self.meter.full.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_shutdown(cx)
    }
}

/// Counts the bytes of each reply while they come, looking at headers only.
#[derive(Debug)]
struct Framing {
    allowed: u64,
    /// Values that the current reply still lacks.
    missing: u64,
    /// Bytes of a bulk string that are to come, with its line end.
    skip: u64,
    header: [u8; HEADER_BYTES],
    header_length: usize,
    used: u64,
    /// Values of the current reply that have begun.
    begun: u64,
    /// What was read of the second value, when it has the length of a mark.
    mark: [u8; MARK_BYTES],
    mark_length: Option<usize>,
}

impl Framing {
    fn new(allowed: u64) -> Self {
        Self {
            allowed,
            missing: 1,
            skip: 0,
            header: [0; HEADER_BYTES],
            header_length: 0,
            used: 0,
            begun: 0,
            mark: [0; MARK_BYTES],
            mark_length: None,
        }
    }

    /// The number of the mark in the current reply; 0 for none.
    fn marked(&self) -> u64 {
        match self.mark.strip_prefix(MARK) {
            Some(number) if self.mark_length == Some(MARK_BYTES) => {
                u64::from_be_bytes(number.try_into().expect("eight bytes are left"))
            }
            _ => 0,
        }
    }

    fn see(&mut self, mut bytes: &[u8]) -> Result<(), ReplyTooLarge> {
        while !bytes.is_empty() {
            let taken = if self.skip > 0 {
                let taken = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= taken as u64;
                if self.begun == 2 {
                    self.read_mark(&bytes[..taken]);
                }
                if self.skip == 0 {
                    self.value();
                }
                taken
            } else {
                self.header(bytes)?
            };
            self.used += taken as u64;
            bytes = &bytes[taken..];
            if self.used > self.allowed + SLACK_BYTES {
                return Err(ReplyTooLarge { used: self.used, allowed: self.allowed });
            }
            if self.missing == 0 {
                (self.missing, self.used, self.begun, self.mark_length) = (1, 0, 0, None);
            }
        }
        Ok(())
    }

    /// Takes bytes up to the end of a line.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, ReplyTooLarge> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |at| at + 1);
        let room = HEADER_BYTES - self.header_length;
        let kept = taken.min(room);
        self.header[self.header_length..self.header_length + kept].copy_from_slice(&bytes[..kept]);
        self.header_length += kept;
        if end.is_some() {
            let number = number(&self.header[1..self.header_length.max(1)]);
            let kind = self.header[0];
            self.header_length = 0;
            self.begun += 1;
            match (kind, number) {
                (b'$' | b'!' | b'=', Some(length)) => {
                    if self.used.saturating_add(length) > self.allowed + SLACK_BYTES {
                        return Err(ReplyTooLarge { used: self.used.saturating_add(length), allowed: self.allowed });
                    }
                    self.skip = length + 2;
                    if self.begun == 2 && length == MARK_BYTES as u64 {
                        self.mark_length = Some(0);
                    }
                }
                (b'*' | b'~' | b'>', Some(count)) => {
                    self.missing = self.missing.saturating_add(count);
                    self.value();
                }
                (b'%' | b'|', Some(count)) => {
                    let more = u64::from(kind == b'|');
                    self.missing = self.missing.saturating_add(count.saturating_mul(2)).saturating_add(more);
                    self.value();
                }
                _ => self.value(),
            }
        }
        Ok(taken)
    }

    fn read_mark(&mut self, bytes: &[u8]) {
        if let Some(length) = &mut self.mark_length {
            let taken = bytes.len().min(MARK_BYTES - *length);
            self.mark[*length..*length + taken].copy_from_slice(&bytes[..taken]);
            *length += taken;
        }
    }

    fn value(&mut self) {
        self.missing = self.missing.saturating_sub(1);
    }
}

/// The number of a header; `None` when it is negative (a nil) or none.
fn number(text: &[u8]) -> Option<u64> {
    let text = text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).unwrap_or(text);
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[u8] = b"+OK\r\n:12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n*2\r\n$1\r\n\n\r\n*1\r\n:1\r\n-ERR some text that is long, with a $9 in it\r\n$0\r\n\r\n*0\r\n";

    #[test]
    fn replies_are_told_apart_however_they_are_cut() {
        for step in 1..REPLIES.len() {
            let mut framing = Framing::new(60);
            for chunk in REPLIES.chunks(step) {
                framing.see(chunk).unwrap();
            }
            assert_eq!((framing.missing, framing.used, framing.skip), (1, 0, 0), "in steps of {step}");
        }
    }

    #[test]
    fn the_mark_of_a_large_reply_is_found_however_it_is_cut() {
        let mut reply = b"*3\r\n$24\r\n".to_vec();
        reply.extend_from_slice(&mark(77));
        reply.extend_from_slice(b"\r\n$2\r\nok\r\n$900\r\n");
        for step in 1..reply.len() {
            let mut framing = Framing::new(100);
            // The mark of another reply counts no more.
            let small = [b"*1\r\n$24\r\n".as_slice(), &mark(5), b"\r\n"].concat();
            framing.see(&small).unwrap();
            assert_eq!(framing.marked(), 0);
            let seen: Result<Vec<()>, _> = reply.chunks(step).map(|chunk| framing.see(chunk)).collect();
            assert!(seen.unwrap_err().used >= 900);
            assert_eq!(framing.marked(), 77, "in steps of {step}");
        }
    }

    #[test]
    fn a_large_reply_is_noticed_by_its_header_or_by_its_sum() {
        let error = Framing::new(100).see(b"$165\r\n").unwrap_err();
        assert_eq!((error.used, error.allowed), (165, 100));
        Framing::new(100).see(b"$90\r\n").unwrap();
        let mut framing = Framing::new(100);
        framing.see(b"*1000\r\n").unwrap();
        let sum = (0..1000).try_for_each(|_| framing.see(b":1\r\n"));
        assert_eq!(sum.unwrap_err().used, 167);
        // Many small replies are many replies.
        let mut framing = Framing::new(100);
        (0..1000).try_for_each(|_| framing.see(b":1\r\n")).unwrap();
    }
}
