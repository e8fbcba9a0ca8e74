//! A client's WebSocket that costs as little as possible, since clients and router share the machine.
//!
//! All frames that one read brings are taken apart, and all that is to be said to them, Pongs among it, leaves in one
//! write. (The client of `tungstenite` makes a system call for each Pong.) Every Ping is answered, as clients do.

use std::io::Cursor;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::Failure;

/// Clients have to mask what they send. Only browsers have to do it unpredictably.
const MASK: [u8; 4] = [0x3c, 0xa5, 0x96, 0x0f];

/// Room for what one read brings.
const READ_BYTES: usize = 64 << 10;

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: Vec<u8>,
    /// Frames that were read since the last Ping; `None`: there never was one.
    since_ping: Option<u64>,
}

/// What the router sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    Text(Bytes),
    /// It is going to close the connection; that is answered already.
    Close,
}

impl Socket {
    /// Opens `/ws` with one header that says who connects.
    pub(crate) async fn open(address: SocketAddr, (name, value): (&str, &str)) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n{name}: {value}\r\n\r\n",
            generate_key()
        );
        let mut socket = Self {
            stream,
            incoming: BytesMut::with_capacity(READ_BYTES),
            outgoing: request.into_bytes(),
            since_ping: None,
        };
        socket.flush().await?;
        socket.upgraded().await?;
        Ok(socket)
    }

    /// Reads the answer to the request, and nothing of the frames behind it.
    async fn upgraded(&mut self) -> Result<(), Failure> {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            if let Some(end) = self.incoming.windows(END.len()).position(|bytes| bytes == END) {
                let head = self.incoming.split_to(end + END.len());
                return if head.starts_with(b"HTTP/1.1 101 ") {
                    Ok(())
                } else {
                    Err(format!("no WebSocket: {}", String::from_utf8_lossy(&head)).into())
                };
            }
            if !self.receive().await? {
                return Err("the connection ended before it was a WebSocket".into());
            }
        }
    }

    /// Waits for bytes. False: the connection has ended.
    pub(crate) async fn receive(&mut self) -> Result<bool, Failure> {
        self.incoming.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.incoming).await? > 0)
    }

    /// The next frame of what was received.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Failure> {
        while let Some((opcode, payload)) = self.next_frame()? {
            match opcode {
                OpCode::Data(Data::Text) => {
                    self.since_ping = self.since_ping.map(|frames| frames + 1);
                    return Ok(Some(Incoming::Text(payload)));
                }
                OpCode::Control(Control::Ping) => {
                    self.since_ping = Some(0);
                    self.push(OpCode::Control(Control::Pong), &payload);
                }
                OpCode::Control(Control::Pong) => {}
                OpCode::Control(Control::Close) => {
                    self.push(opcode, &payload);
                    return Ok(Some(Incoming::Close));
                }
                other => return Err(format!("the router sent a frame of type {other}").into()),
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<(OpCode, Bytes)>, Failure> {
        let mut cursor = Cursor::new(&self.incoming[..]);
        let Some((header, length)) = FrameHeader::parse(&mut cursor)? else { return Ok(None) };
        let start = usize::try_from(cursor.position())?;
        let length = usize::try_from(length)?;
        if self.incoming.len() < start + length {
            return Ok(None);
        }
        if !header.is_final {
            return Err("the router sent a frame in parts".into());
        }
        self.incoming.advance(start);
        Ok(Some((header.opcode, self.incoming.split_to(length).freeze())))
    }

    /// Adds a text frame to the next write.
    pub(crate) fn text(&mut self, text: &str) {
        self.push(OpCode::Data(Data::Text), text.as_bytes());
    }

    fn push(&mut self, opcode: OpCode, payload: &[u8]) {
        let header = FrameHeader { opcode, mask: Some(MASK), ..FrameHeader::default() };
        header.format(payload.len() as u64, &mut self.outgoing).expect("a vector takes every byte");
        let start = self.outgoing.len();
        self.outgoing.extend_from_slice(payload);
        mask(&mut self.outgoing[start..]);
    }

    /// Writes what was added.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// Waits for the Ping behind the last frame, and answers it: so a router knows that all was read. What sends no Pings is
    /// not waited for.
    pub(crate) async fn confirm(&mut self) -> Result<(), Failure> {
        while self.since_ping.is_some_and(|frames| frames > 0) && self.receive().await? {
            while self.next()?.is_some() {}
            self.flush().await?;
        }
        Ok(())
    }

    /// Ends the connection in good order. What was sent before has been read when this returns.
    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        self.push(OpCode::Control(Control::Close), &1000_u16.to_be_bytes());
        self.flush().await?;
        while self.receive().await? {
            while let Some(incoming) = self.next()? {
                if matches!(incoming, Incoming::Close) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Word by word, as that is many times faster than byte by byte.
fn mask(payload: &mut [u8]) {
    const WORD: u64 = u64::from_ne_bytes([MASK[0], MASK[1], MASK[2], MASK[3], MASK[0], MASK[1], MASK[2], MASK[3]]);
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ WORD).to_ne_bytes();
    }
    rest.iter_mut().zip(MASK.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}
