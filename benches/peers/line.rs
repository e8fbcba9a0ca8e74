//! A connection to a server, read and written in large pieces: whatever has come is taken apart, and all that is to be said
//! to it leaves in one write.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

/// Room for what one read brings.
const READ_BYTES: usize = 64 << 10;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    /// What has come, and was not taken.
    incoming: BytesMut,
    /// What is to be written.
    pub(crate) outgoing: Vec<u8>,
}

impl Line {
    pub(crate) async fn open(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, incoming: BytesMut::with_capacity(READ_BYTES), outgoing: Vec::new() })
    }

    /// Waits for bytes. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<(), Failure> {
        self.incoming.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.incoming).await? {
            0 => Err("the server closed a connection".into()),
            _ => Ok(()),
        }
    }

    /// What has come, and was not taken.
    pub(crate) fn peek(&self) -> &[u8] {
        &self.incoming
    }

    /// Takes so many bytes of it, without those that are left away first.
    pub(crate) fn take(&mut self, skipped: usize, length: usize) -> Bytes {
        self.incoming.advance(skipped);
        self.incoming.split_to(length).freeze()
    }

    /// Writes what was added.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }
}
