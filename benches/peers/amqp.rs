//! As much of AMQP 0.9.1 as a queue with confirms takes: one channel on one connection.

use bytes::{Buf, Bytes};

use crate::Failure;
use crate::line::Line;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// Classes and methods: the two numbers with which a method begins.
type Method = (u16, u16);
const DELIVER: Method = (60, 60);
const ACK: Method = (60, 80);

/// Around what a frame holds.
const HEAD_BYTES: usize = 7;

/// Put bodies in frames of so many bytes at most. The server's own bound is the same.
const MAX_FRAME: u32 = 128 << 10;

/// An open channel.
#[derive(Debug)]
pub(crate) struct Channel {
    line: Line,
    delivery: Option<Delivery>,
}

/// A message that has not come as a whole.
#[derive(Debug)]
struct Delivery {
    tag: u64,
    missing: usize,
    body: Vec<u8>,
}

/// What the server sends by itself.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message of the queue that is consumed.
    Message { tag: u64, body: Vec<u8> },
    /// The messages up to this one are stored, or this one alone.
    Confirmed { tag: u64, all_before: bool },
}

impl Channel {
    /// Logs in and opens a channel on which publishing is confirmed.
    pub(crate) async fn open(port: u16) -> Result<Self, Failure> {
        let mut channel = Self { line: Line::open(port).await?, delivery: None };
        channel.line.outgoing.extend_from_slice(b"AMQP\0\0\x09\x01");
        channel.line.flush().await?;
        channel.expect((10, 10)).await?;
        channel.method(0, (10, 11), |out| {
            out.extend_from_slice(&0_u32.to_be_bytes());
            short(out, "PLAIN");
            long(out, b"\0guest\0guest");
            short(out, "en_US");
        });
        channel.line.flush().await?;
        channel.expect((10, 30)).await?;
        channel.method(0, (10, 31), |out| {
            out.extend_from_slice(&1_u16.to_be_bytes());
            out.extend_from_slice(&MAX_FRAME.to_be_bytes());
            // No heartbeats.
            out.extend_from_slice(&0_u16.to_be_bytes());
        });
        channel.method(0, (10, 40), |out| {
            short(out, "/");
            out.extend_from_slice(&[0, 0]);
        });
        channel.line.flush().await?;
        channel.expect((10, 41)).await?;
        channel.call((20, 10), (20, 11), |out| short(out, "")).await?;
        channel.call((85, 10), (85, 11), |out| out.push(0)).await?;
        Ok(channel)
    }

    /// Makes a queue that is durable, and of a kind.
    pub(crate) async fn declare(&mut self, queue: &str, kind: &str) -> Result<(), Failure> {
        let mut arguments = Vec::new();
        short(&mut arguments, "x-queue-type");
        arguments.push(b'S');
        long(&mut arguments, kind.as_bytes());
        let declared = self.call((50, 10), (50, 11), |out| {
            out.extend_from_slice(&0_u16.to_be_bytes());
            short(out, queue);
            out.push(0b10);
            long(out, &arguments);
        });
        declared.await
    }

    /// Lets a queue go, with what is in it.
    pub(crate) async fn delete(&mut self, queue: &str) -> Result<(), Failure> {
        let deleted = self.call((50, 40), (50, 41), |out| {
            out.extend_from_slice(&0_u16.to_be_bytes());
            short(out, queue);
            out.push(0);
        });
        deleted.await
    }

    /// Takes messages of a queue, so many at a time.
    pub(crate) async fn consume(&mut self, queue: &str, prefetch: u16) -> Result<(), Failure> {
        let limited = self.call((60, 10), (60, 11), |out| {
            out.extend_from_slice(&0_u32.to_be_bytes());
            out.extend_from_slice(&prefetch.to_be_bytes());
            out.push(0);
        });
        limited.await?;
        let consumed = self.call((60, 20), (60, 21), |out| {
            out.extend_from_slice(&0_u16.to_be_bytes());
            short(out, queue);
            short(out, "");
            out.push(0);
            long(out, b"");
        });
        consumed.await
    }

    /// Adds a persistent message to the next write.
    pub(crate) fn publish(&mut self, queue: &str, body: &[u8]) {
        self.method(1, (60, 40), |out| {
            out.extend_from_slice(&0_u16.to_be_bytes());
            short(out, "");
            short(out, queue);
            out.push(0);
        });
        frame(&mut self.line.outgoing, HEADER, 1, |out| {
            out.extend_from_slice(&60_u16.to_be_bytes());
            out.extend_from_slice(&0_u16.to_be_bytes());
            out.extend_from_slice(&(body.len() as u64).to_be_bytes());
            // That the mode of delivery follows, which is: persistent.
            out.extend_from_slice(&0x1000_u16.to_be_bytes());
            out.push(2);
        });
        frame(&mut self.line.outgoing, BODY, 1, |out| out.extend_from_slice(body));
    }

    /// Adds to the next write that a message is dealt with, or all before it too.
    pub(crate) fn acknowledge(&mut self, tag: u64, all_before: bool) {
        self.method(1, ACK, |out| {
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(u8::from(all_before));
        });
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.line.flush().await
    }

    /// Waits for bytes. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<(), Failure> {
        self.line.receive().await
    }

    /// The next of what has come.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Failure> {
        while let Some((kind, mut content)) = self.next_frame()? {
            match kind {
                METHOD => match (content.get_u16(), content.get_u16()) {
                    DELIVER => {
                        let consumer = usize::from(content.get_u8());
                        content.advance(consumer);
                        self.delivery = Some(Delivery { tag: content.get_u64(), missing: 0, body: Vec::new() });
                    }
                    ACK => {
                        let tag = content.get_u64();
                        return Ok(Some(Incoming::Confirmed { tag, all_before: content.get_u8() & 1 == 1 }));
                    }
                    method => return Err(unexpected(method, &content)),
                },
                HEADER => {
                    content.advance(4);
                    let delivery = self.delivery.as_mut().ok_or("a header without a message")?;
                    delivery.missing = usize::try_from(content.get_u64())?;
                }
                _ => {
                    let mut delivery = self.delivery.take().ok_or("a body without a message")?;
                    delivery.missing = delivery.missing.saturating_sub(content.len());
                    delivery.body.extend_from_slice(&content);
                    if delivery.missing == 0 {
                        return Ok(Some(Incoming::Message { tag: delivery.tag, body: delivery.body }));
                    }
                    self.delivery = Some(delivery);
                }
            }
        }
        Ok(None)
    }

    async fn call(
        &mut self,
        method: Method,
        reply: Method,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Failure> {
        self.method(1, method, arguments);
        self.line.flush().await?;
        self.expect(reply).await
    }

    async fn expect(&mut self, expected: Method) -> Result<(), Failure> {
        loop {
            if let Some((_, mut content)) = self.next_frame()? {
                let method = (content.get_u16(), content.get_u16());
                return if method == expected { Ok(()) } else { Err(unexpected(method, &content)) };
            }
            self.line.receive().await?;
        }
    }

    fn method(&mut self, channel: u16, (class, method): Method, arguments: impl FnOnce(&mut Vec<u8>)) {
        frame(&mut self.line.outgoing, METHOD, channel, |out| {
            out.extend_from_slice(&class.to_be_bytes());
            out.extend_from_slice(&method.to_be_bytes());
            arguments(out);
        });
    }

    /// Kind and content of the next frame.
    fn next_frame(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        let Some((mut head, _)) = self.line.peek().split_at_checked(HEAD_BYTES) else { return Ok(None) };
        let (kind, _) = (head.get_u8(), head.get_u16());
        let length = head.get_u32() as usize;
        if self.line.peek().len() < HEAD_BYTES + length + 1 {
            return Ok(None);
        }
        let content = self.line.take(HEAD_BYTES, length);
        match self.line.take(0, 1)[..] {
            [FRAME_END] => Ok(Some((kind, content))),
            _ => Err("a frame of RabbitMQ does not end where it should".into()),
        }
    }
}

/// Adds a frame; its length is known once its content is there.
fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let length = u32::try_from(out.len() - length_at - 4).expect("frames are small");
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

fn short(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names are short"));
    out.extend_from_slice(text.as_bytes());
}

fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("arguments are small").to_be_bytes());
    out.extend_from_slice(bytes);
}

fn unexpected((class, method): Method, content: &[u8]) -> Failure {
    format!("RabbitMQ says {class}.{method} {}", String::from_utf8_lossy(content)).into()
}
