//! A connection as the server wants it: a client that reads nothing is cut, and one that is still sending when its
//! answer is out hears that answer.
//!
//! Closing a socket with bytes in it that nobody read resets it, and then the client's system throws away the answer that
//! was on its way: a client whose upload is refused would see a broken connection instead of the reason. So where a
//! body was not read to its end, closing says that nothing more comes, and then reads and drops what still comes, within
//! bounds. Knows no HTTP beyond "a body was left unread".

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bounds on patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A client that takes nothing of what is written for so long is cut.
    pub stall_max: Duration,
    /// After the answer, what is still sent is read for so long at most …
    pub linger_max: Duration,
    /// … and so many bytes of it.
    pub linger_bytes_max: usize,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            stall_max: Duration::from_secs(60),
            linger_max: Duration::from_secs(10),
            linger_bytes_max: 256 << 20,
        }
    }
}

/// Remembers that a body of this connection was dropped before its end.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Watches a body.
    pub fn watch<B: Body>(&self, body: B) -> Watched<B> {
        Watched { body, ended: false, unread: self.clone() }
    }
}

/// A body that tells when it is dropped before its end.
#[derive(Debug)]
pub struct Watched<B: Body> {
    body: B,
    ended: bool,
    unread: Unread,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for Watched<B> {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.unread.0.store(true, Ordering::Relaxed);
        }
    }
}

/// The connection; see the module.
#[derive(Debug)]
pub struct Patient<T> {
    io: T,
    patience: Patience,
    unread: Unread,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs after the last word of ours, with the bytes that may still be read.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<T> Patient<T> {
    /// Wraps a connection.
    pub fn new(io: T, patience: Patience, unread: Unread) -> Patient<T> {
        Patient { io, patience, unread, stalled: None, lingering: None }
    }

    /// Passes on what a write answered, unless it has waited too long.
    fn stalls<R>(&mut self, context: &mut Context<'_>, answer: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if answer.is_ready() {
            self.stalled = None;
            return answer;
        }
        let stall_max = self.patience.stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.io).poll_write(context, bytes);
        self.stalls(context, answer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.stalls(context, answer)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let answer = Pin::new(&mut self.io).poll_flush(context);
        self.stalls(context, answer)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let patience = self.patience;
        if self.lingering.is_none() {
            let answer = Pin::new(&mut self.io).poll_shutdown(context);
            ready!(self.stalls(context, answer))?;
            if !self.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some((Box::pin(sleep(patience.linger_max)), patience.linger_bytes_max));
        }
        let Patient { io, lingering: Some((deadline, left)), .. } = &mut *self else {
            return Poll::Ready(Ok(()));
        };
        let mut scratch = [std::mem::MaybeUninit::uninit(); 16 << 10];
        while *left > 0 && deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut scratch);
            let read = ready!(Pin::new(&mut *io).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            *left = left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn patience() -> Patience {
        Patience {
            stall_max: Duration::from_millis(50),
            linger_max: Duration::from_secs(20),
            linger_bytes_max: 1 << 20,
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut() {
        let (ours, theirs) = duplex(64);
        let mut patient = Patient::new(ours, patience(), Unread::default());
        let error = patient.write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test]
    async fn closing_waits_for_the_rest_of_an_unread_body_and_for_nothing_else() {
        let (ours, _theirs) = duplex(64);
        let mut patient = Patient::new(ours, patience(), Unread::default());
        // nothing is left unread: it does not wait for the client, who is still there
        patient.shutdown().await.unwrap();

        let unread = Unread::default();
        drop(unread.watch(http_body_util::Full::new(bytes::Bytes::from_static(b"never read"))));
        let (ours, mut theirs) = duplex(64);
        let mut patient = Patient::new(ours, patience(), unread);
        let client = tokio::spawn(async move {
            theirs.write_all(&[0; 10_000]).await.unwrap();
            let mut answer = Vec::new();
            theirs.read_to_end(&mut answer).await.unwrap();
            answer
        });
        patient.write_all(b"no").await.unwrap();
        patient.shutdown().await.unwrap();
        drop(patient);
        assert_eq!(client.await.unwrap(), b"no");
    }

    #[tokio::test]
    async fn closing_reads_a_bounded_number_of_bytes() {
        let unread = Unread::default();
        drop(unread.watch(http_body_util::Full::new(bytes::Bytes::from_static(b"never read"))));
        let (ours, mut theirs) = duplex(64 << 10);
        let mut patient = Patient::new(ours, patience(), unread);
        let endless = tokio::spawn(async move { while theirs.write_all(&[0; 10_000]).await.is_ok() {} });
        patient.shutdown().await.unwrap();
        drop(patient);
        endless.await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_is_read_to_its_end_is_not_unread() {
        let unread = Unread::default();
        let body = unread.watch(http_body_util::Full::new(bytes::Bytes::from_static(b"all")));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "all");
        drop(unread.watch(http_body_util::Empty::<bytes::Bytes>::new()));
        assert!(!unread.0.load(Ordering::Relaxed));
    }
}
