//! One WebSocket as a client holds it, frame by frame.
//!
//! Client libraries answer a Ping by themselves; here that is a choice, because a Pong is a receipt to the router. It is
//! also a choice whether the socket is read at all.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// What a peer can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Close(u16, String),
}

/// Why there is no socket.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// The router answered the upgrade with another status than 101.
    Status(u16),
    /// There was no complete answer.
    Broken,
}

/// A WebSocket after its handshake; dropping it ends the TCP connection without a word.
#[derive(Debug)]
pub(crate) struct Socket {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    answers_pings: Arc<AtomicBool>,
    answers_closes: Arc<AtomicBool>,
    reading: watch::Sender<bool>,
    reader: JoinHandle<()>,
}

impl Socket {
    /// Opens `/ws` with these headers.
    pub(crate) async fn open(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, NotOpened> {
        Self::open_with_buffer(address, headers, None).await
    }

    /// The same, with a receive buffer of that many bytes, so that a peer that does not read is noticed early.
    pub(crate) async fn open_with_buffer(
        address: SocketAddr,
        headers: &[(&str, &str)],
        receive_buffer: Option<u32>,
    ) -> Result<Self, NotOpened> {
        let tcp = TcpSocket::new_v4().map_err(|_| NotOpened::Broken)?;
        if let Some(bytes) = receive_buffer {
            tcp.set_recv_buffer_size(bytes).map_err(|_| NotOpened::Broken)?;
        }
        let mut stream = tcp.connect(address).await.map_err(|_| NotOpened::Broken)?;
        stream.set_nodelay(true).map_err(|_| NotOpened::Broken)?;
        let already_read = handshake(&mut stream, address, headers).await?;

        let (read_half, write_half) = stream.into_split();
        let writer = Arc::new(Mutex::new(write_half));
        let answers_pings = Arc::new(AtomicBool::new(true));
        let answers_closes = Arc::new(AtomicBool::new(true));
        let (reading, may_read) = watch::channel(true);
        let (sender, incoming) = mpsc::unbounded_channel();
        let reader = Reader {
            stream: read_half,
            buffer: already_read,
            writer: Arc::clone(&writer),
            answers_pings: Arc::clone(&answers_pings),
            answers_closes: Arc::clone(&answers_closes),
            may_read,
            incoming: sender,
        };
        Ok(Self { writer, incoming, answers_pings, answers_closes, reading, reader: tokio::spawn(reader.run()) })
    }

    /// Whether Pings are answered as they are read; they are, at first.
    pub(crate) fn answer_pings(&self, yes: bool) {
        self.answers_pings.store(yes, Ordering::SeqCst);
    }

    /// Whether a Close frame is answered as it is read; it is, at first.
    pub(crate) fn answer_closes(&self, yes: bool) {
        self.answers_closes.store(yes, Ordering::SeqCst);
    }

    /// Whether the socket is read at all.
    pub(crate) fn read(&self, yes: bool) {
        self.reading.send_replace(yes);
    }

    /// Sends a frame; false if the connection is gone.
    pub(crate) async fn send(&self, opcode: OpCode, payload: &[u8], is_final: bool) -> bool {
        write(&self.writer, opcode, payload, is_final).await
    }

    pub(crate) async fn send_text(&self, text: &str) -> bool {
        self.send(OpCode::Data(Data::Text), text.as_bytes(), true).await
    }

    /// Sends bytes that need not be a frame.
    pub(crate) async fn send_bytes(&self, bytes: &[u8]) -> bool {
        self.writer.lock().await.write_all(bytes).await.is_ok()
    }

    /// The next thing that came; `None` once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The bytes of a whole text frame, for those who send it in pieces.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    encode(OpCode::Data(Data::Text), text.as_bytes(), true)
}

async fn write(writer: &Mutex<OwnedWriteHalf>, opcode: OpCode, payload: &[u8], is_final: bool) -> bool {
    writer.lock().await.write_all(&encode(opcode, payload, is_final)).await.is_ok()
}

fn encode(opcode: OpCode, payload: &[u8], is_final: bool) -> Vec<u8> {
    let header = FrameHeader { is_final, opcode, mask: Some(rand::random()), ..FrameHeader::default() };
    let frame = Frame::from_payload(header, payload.to_vec().into());
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    frame.format(&mut bytes).expect("a vector takes every byte");
    bytes
}

/// Asks for the upgrade; returns what came behind the answer.
async fn handshake(
    stream: &mut TcpStream,
    address: SocketAddr,
    headers: &[(&str, &str)],
) -> Result<Vec<u8>, NotOpened> {
    let key = generate_key();
    let mut request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|_| NotOpened::Broken)?;

    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut answer));
        if !matches!(read.await, Ok(Ok(1..))) {
            return Err(NotOpened::Broken);
        }
    };
    let rest = answer.split_off(end);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if status != 101 {
        return Err(NotOpened::Status(status));
    }
    assert!(
        head.contains(&derive_accept_key(key.as_bytes())),
        "the upgrade was not accepted as RFC 6455 wants: {head}"
    );
    Ok(rest)
}

/// The reading half: frames to [`Incoming`], Pongs for Pings.
struct Reader {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
    answers_pings: Arc<AtomicBool>,
    answers_closes: Arc<AtomicBool>,
    may_read: watch::Receiver<bool>,
    incoming: mpsc::UnboundedSender<Incoming>,
}

impl Reader {
    async fn run(mut self) {
        let mut message = Vec::new();
        let mut is_text = true;
        while let Some((header, payload)) = self.frame().await {
            let incoming = match header.opcode {
                OpCode::Data(kind) => {
                    if kind != Data::Continue {
                        is_text = kind == Data::Text;
                    }
                    message.extend_from_slice(&payload);
                    if !header.is_final {
                        continue;
                    }
                    let whole = std::mem::take(&mut message);
                    if is_text {
                        Incoming::Text(String::from_utf8(whole).expect("a text frame is UTF-8"))
                    } else {
                        Incoming::Binary(whole)
                    }
                }
                OpCode::Control(Control::Ping) => {
                    if self.answers_pings.load(Ordering::SeqCst) {
                        write(&self.writer, OpCode::Control(Control::Pong), &payload, true).await;
                    }
                    Incoming::Ping(payload)
                }
                OpCode::Control(Control::Close) => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    if self.answers_closes.load(Ordering::SeqCst) {
                        write(&self.writer, OpCode::Control(Control::Close), &payload, true).await;
                    }
                    Incoming::Close(code, reason)
                }
                OpCode::Control(_) => continue,
            };
            if self.incoming.send(incoming).is_err() {
                return;
            }
        }
    }

    async fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            let mut cursor = Cursor::new(&self.buffer[..]);
            if let Some((header, length)) = FrameHeader::parse(&mut cursor).expect("the router sends frames") {
                let start = usize::try_from(cursor.position()).expect("it is in memory");
                let end = start + usize::try_from(length).expect("it fits into memory");
                if self.buffer.len() >= end {
                    let payload = self.buffer[start..end].to_vec();
                    self.buffer.drain(..end);
                    return Some((header, payload));
                }
            }
            self.may_read.wait_for(|may_read| *may_read).await.ok()?;
            self.stream.read_buf(&mut self.buffer).await.ok().filter(|&read| read > 0)?;
        }
    }
}
