//! An agent that answers what it is asked with what it was asked.

use std::fmt::Write;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Failure;
use crate::payload;
use crate::wire::{Incoming, Socket};

/// A registered agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) socket: Socket,
    /// It is for the invocations whose number leaves `index` when divided by `agents`.
    index: u64,
    agents: u64,
}

/// What of a frame to an agent matters here.
#[derive(Deserialize)]
struct Delivery<'a> {
    message_type: Option<&'a str>,
    #[serde(borrow)]
    request_payload: Option<&'a RawValue>,
    #[serde(borrow)]
    invoked_by: Option<&'a RawValue>,
    #[serde(borrow)]
    invocation_id: Option<&'a RawValue>,
}

impl Agent {
    /// Connects and registers; the router has it when it has told the backend.
    pub(crate) async fn connect(
        address: SocketAddr,
        id: Uuid,
        version: u8,
        (index, agents): (u64, u64),
    ) -> Result<Self, Failure> {
        let mut socket = Socket::open(address, ("X-Custom-Authorization", &id.to_string())).await?;
        let mut frame = json!({
            "message_type": "agent_register",
            "request_payload": {
                "agent_name": format!("agent {index}"),
                "agent_description": "answers with what it was asked",
                "agent_input_schema": {"type": "function", "function": {"name": "echo", "parameters": {}}},
            },
        });
        if version > 1 {
            frame["protocol_version"] = version.into();
        }
        socket.text(&frame.to_string());
        socket.flush().await?;
        Ok(Self { socket, index, agents })
    }

    /// Answers until the router closes the connection. Returns how many invocations were delivered.
    pub(crate) async fn run(mut self) -> Result<u64, Failure> {
        let mut delivered = 0;
        while self.socket.receive().await? {
            while let Some(incoming) = self.socket.next()? {
                match incoming {
                    Incoming::Text(frame) => delivered += u64::from(self.take(std::str::from_utf8(&frame)?)?),
                    Incoming::Close => {
                        self.socket.flush().await?;
                        return Ok(delivered);
                    }
                }
            }
            self.socket.flush().await?;
        }
        Err("the router ended an agent's connection without a word".into())
    }

    /// Whether the frame is an invocation. If so, it is answered.
    fn take(&mut self, frame: &str) -> Result<bool, Failure> {
        let unexpected = || format!("an agent was sent {frame}");
        let delivery: Delivery = serde_json::from_str(frame).map_err(|_| unexpected())?;
        let (payload, invoked_by) = match delivery {
            Delivery { message_type: Some("agent_registered" | "agent_receipt"), .. } => return Ok(false),
            Delivery { request_payload: Some(payload), invoked_by: Some(invoked_by), .. } => {
                (payload.get(), invoked_by)
            }
            _ => return Err(unexpected().into()),
        };
        if payload::number(payload).is_none_or(|number| number % self.agents != self.index) {
            return Err(unexpected().into());
        }
        let mut answer = format!(
            r#"{{"message_type":"agent_response","response":{payload},"execution_time":0.001,"invoked_by":{invoked_by}"#
        );
        if let Some(id) = delivery.invocation_id {
            write!(answer, r#","invocation_id":{id}"#)?;
        }
        answer.push('}');
        self.socket.text(&answer);
        Ok(true)
    }
}
