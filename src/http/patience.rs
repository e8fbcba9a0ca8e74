//! A connection whose peer has to read: what it is sent cannot wait for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A connection that fails when its peer has taken nothing for a while of what it is sent. One that has nothing to send
/// has no timer.
#[derive(Debug)]
pub(super) struct PatientStream {
    stream: TcpStream,
    limit: Duration,
    patience: Patience,
    /// Since the peer last took something, while there is something to take.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Whether the peer is waited for without end.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// From now on somebody else looks after the peer.
    pub(super) fn be_endless(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_endless(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl PatientStream {
    /// With the longest time without progress.
    pub(super) fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, limit, patience: Patience::default(), waiting: None }
    }

    /// How patient it is, to be changed while it is in use.
    pub(super) fn patience(&self) -> Patience {
        self.patience.clone()
    }

    /// The outcome of an attempt to write; a failure, if there have been none but vain ones for too long.
    fn judged<T>(&mut self, attempt: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if attempt.is_ready() || self.patience.is_endless() {
            self.waiting = None;
            return attempt;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judged(attempt, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judged(attempt, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_flush(cx);
        self.judged(attempt, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judged(attempt, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    /// A connection to a peer that reads nothing.
    async fn unread() -> (PatientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (PatientStream::new(stream, LIMIT), peer)
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (mut stream, _peer) = unread().await;
        let failure = stream.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn whoever_is_looked_after_elsewhere_is_waited_for() {
        let (mut stream, _peer) = unread().await;
        stream.patience().be_endless();
        assert!(timeout(4 * LIMIT, stream.write_all(&vec![0; 64 << 20])).await.is_err());
    }
}
