//! A client of the router: an agent, a master or a caller.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::credentials::ML_KEY;
use super::router::Router;
use super::wire::{Incoming, Socket};

/// How long a peer waits for a frame that must come.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// A connected client. Whatever it is not sent in time, or is sent instead, fails the test.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: Socket,
    identity: String,
    /// Payloads of the Pings that have come, oldest first.
    pings: VecDeque<Vec<u8>>,
}

impl Peer {
    /// Connects with exactly these headers.
    pub(crate) async fn connect(router: &Router, headers: &[(&str, &str)]) -> Self {
        let is_agent = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-custom-authorization"));
        let address = if is_agent { router.address_for_agents() } else { router.address() };
        let socket = Socket::open(address, headers).await.expect("the socket is accepted");
        Self::over(socket, "")
    }

    /// Uses a socket that is open already.
    pub(crate) fn over(socket: Socket, identity: &str) -> Self {
        Self { socket, identity: identity.to_owned(), pings: VecDeque::new() }
    }

    /// Connects an agent or caller of that id; returns once the router knows it as connected.
    pub(crate) async fn agent(router: &Router, id: &str) -> Self {
        let query = format!("kind=agent.connected&agent_id={id}");
        let before = router.history(&query).await.len();
        let peer = Self::connecting_agent(router, id).await;
        router.wait_for_events(&query, before + 1).await;
        peer
    }

    /// Connects an agent of that id without waiting for the router to know it.
    pub(crate) async fn connecting_agent(router: &Router, id: &str) -> Self {
        let mut peer = Self::connect(router, &[("X-Custom-Authorization", &router.agent_credential(id))]).await;
        id.clone_into(&mut peer.identity);
        peer
    }

    /// Connects and registers an agent of that id, as the existing libraries do.
    pub(crate) async fn registered(router: &Router, id: &str) -> Self {
        let mut peer = Self::agent(router, id).await;
        peer.register(router).await;
        peer
    }

    /// Connects and registers an agent that asks for version 2; `more` is added to its registration.
    pub(crate) async fn registered_v2(router: &Router, id: &str, more: Value) -> (Self, Value) {
        let mut peer = Self::agent(router, id).await;
        let answer = peer.register_v2(more).await;
        (peer, answer)
    }

    /// Connects the backend.
    pub(crate) async fn master_be(router: &Router) -> Self {
        Self::connect(router, &[("API-KEY", router.backend_key())]).await
    }

    /// Connects the master agent.
    pub(crate) async fn master_ml(router: &Router) -> Self {
        let mut peer = Self::connect(router, &[("API-KEY", ML_KEY)]).await;
        super::credentials::ML.clone_into(&mut peer.identity);
        peer
    }

    /// Opens an invoke socket; `caller` is an agent's id or a master's key.
    pub(crate) async fn invoke_socket(router: &Router, caller: &str, target: &str) -> Self {
        Self::connect(router, &[("x-custom-invoke-key", &format!("{caller}:{target}"))]).await
    }

    /// Registers; returns once the journal has it.
    pub(crate) async fn register(&mut self, router: &Router) {
        let query = format!("kind=agent.registered&agent_id={}", self.identity);
        let before = router.history(&query).await.len();
        self.send(json!({"message_type": "agent_register", "request_payload": self.registration()})).await;
        router.wait_for_events(&query, before + 1).await;
    }

    /// Registers for version 2; returns what the router answers.
    pub(crate) async fn register_v2(&mut self, more: Value) -> Value {
        let mut frame = json!({
            "message_type": "agent_register",
            "protocol_version": 2,
            "request_payload": self.registration(),
        });
        merge(&mut frame, more);
        self.send(frame).await;
        let answer = self.recv().await;
        assert_eq!(answer["message_type"], "agent_registered", "{answer}");
        answer
    }

    /// The `request_payload` with which this agent registers.
    pub(crate) fn registration(&self) -> Value {
        registration(&self.identity)
    }

    pub(crate) async fn send(&self, frame: Value) {
        self.send_raw(&frame.to_string()).await;
    }

    /// Sends text as it is.
    pub(crate) async fn send_raw(&self, text: &str) {
        assert!(self.socket.send_text(text).await, "the connection is gone");
    }

    pub(crate) async fn send_binary(&self, bytes: &[u8]) {
        assert!(self.socket.send(OpCode::Data(Data::Binary), bytes, true).await, "the connection is gone");
    }

    /// Sends a text in so many WebSocket frames.
    pub(crate) async fn send_fragments(&self, fragments: &[&str]) {
        for (index, fragment) in fragments.iter().enumerate() {
            let kind = if index == 0 { Data::Text } else { Data::Continue };
            let is_last = index + 1 == fragments.len();
            assert!(self.socket.send(OpCode::Data(kind), fragment.as_bytes(), is_last).await, "the connection is gone");
        }
    }

    /// Sends bytes that need not be a WebSocket frame.
    pub(crate) async fn send_bytes(&self, bytes: &[u8]) {
        assert!(self.socket.send_bytes(bytes).await, "the connection is gone");
    }

    /// The same, to a connection that may be gone; returns whether it is there.
    pub(crate) async fn try_send_bytes(&self, bytes: &[u8]) -> bool {
        self.socket.send_bytes(bytes).await
    }

    /// Invokes an agent with that payload and nothing else.
    pub(crate) async fn invoke(&self, agent: &str, payload: Value) {
        self.invoke_with(agent, payload, json!({})).await;
    }

    /// Invokes an agent; `options` are further fields of the frame.
    pub(crate) async fn invoke_with(&self, agent: &str, payload: Value, options: Value) {
        let mut frame = json!({"message_type": "agent_invoke", "agent_uuid": agent, "request_payload": payload});
        merge(&mut frame, options);
        self.send(frame).await;
    }

    /// Invokes an agent and waits for the receipt; returns the invocation's id.
    pub(crate) async fn accepted(&mut self, agent: &str, payload: Value, options: Value) -> String {
        let mut options = options;
        merge(&mut options, json!({"receipt": true}));
        self.invoke_with(agent, payload, options).await;
        let receipt = self.recv().await;
        assert_eq!(receipt["message_type"], "agent_receipt", "{receipt}");
        receipt["invocation_id"].as_str().expect("a receipt names the invocation").to_owned()
    }

    /// Answers a delivery as the existing libraries do, with `invoked_by` as it came.
    pub(crate) async fn answer(&self, delivery: &Value, response: Value) {
        self.send(answer(delivery, response)).await;
    }

    /// Answers a delivery with an error.
    pub(crate) async fn fail(&self, delivery: &Value, message: &str) {
        let mut frame = answer(delivery, json!(null));
        frame["message_type"] = json!("agent_error");
        frame.as_object_mut().expect("an object").remove("response");
        frame["error"] = json!({"error_message": message});
        self.send(frame).await;
    }

    /// The next frame, which must be JSON.
    pub(crate) async fn recv(&mut self) -> Value {
        let text = self.recv_text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next frame as it came.
    pub(crate) async fn recv_text(&mut self) -> String {
        match self.incoming().await {
            Some(Incoming::Text(text)) => text,
            other => panic!("{:?} got {other:?} and no frame", self.identity),
        }
    }

    /// The next frames.
    pub(crate) async fn recv_many(&mut self, count: usize) -> Vec<Value> {
        let mut frames = Vec::with_capacity(count);
        while frames.len() < count {
            frames.push(self.recv().await);
        }
        frames
    }

    /// The next two frames, which may come in either order: the one of that type first.
    pub(crate) async fn recv_two(&mut self, first: &str) -> (Value, Value) {
        let (one, two) = (self.recv().await, self.recv().await);
        if one["message_type"] == first { (one, two) } else { (two, one) }
    }

    /// Waits for the connection to be closed with this code; returns the reason. Frames before it fail the test.
    pub(crate) async fn expect_close(&mut self, code: u16) -> String {
        match self.incoming().await {
            Some(Incoming::Close(closed, reason)) if closed == code => reason,
            other => panic!("{:?} got {other:?}, not the end with {code}", self.identity),
        }
    }

    /// Waits for the end of the connection, whatever comes before; returns the close code if one was sent.
    pub(crate) async fn ended(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(incoming) = self.incoming().await {
            if let Incoming::Close(closed, _) = incoming {
                code = Some(closed);
            }
        }
        code
    }

    /// Proves that nothing has been sent to this peer: the error about a frame that is no JSON comes next.
    pub(crate) async fn expect_nothing(&mut self) {
        self.send_raw("is there anything?").await;
        let next = self.recv().await;
        assert_eq!(next, invalid_json(), "{:?} was to be sent nothing", self.identity);
    }

    /// Whether Pings are answered as they come; they are, at first.
    pub(crate) fn answer_pings(&self, yes: bool) {
        self.socket.answer_pings(yes);
    }

    /// Whether a Close frame is answered as it comes; it is, at first. The router waits a moment for one that is not.
    pub(crate) fn answer_closes(&self, yes: bool) {
        self.socket.answer_closes(yes);
    }

    /// Whether the socket is read at all.
    pub(crate) fn read(&self, yes: bool) {
        self.socket.read(yes);
    }

    /// The payload of the next Ping; frames that come before it fail the test.
    pub(crate) async fn ping(&mut self) -> Vec<u8> {
        if let Some(payload) = self.pings.pop_front() {
            return payload;
        }
        match self.next().await {
            Some(Incoming::Ping(payload)) => payload,
            other => panic!("{:?} got {other:?} and no Ping", self.identity),
        }
    }

    pub(crate) async fn pong(&self, payload: &[u8]) {
        assert!(self.socket.send(OpCode::Control(Control::Pong), payload, true).await, "the connection is gone");
    }

    /// Ends the connection properly and waits until the router has ended it too.
    pub(crate) async fn close(mut self) {
        self.socket.send(OpCode::Control(Control::Close), &1000_u16.to_be_bytes(), true).await;
        while self.incoming().await.is_some() {}
    }

    /// Ends the connection without a word and waits until the journal says so.
    pub(crate) async fn leave(self, router: &Router) {
        let query = format!("kind=agent.disconnected&agent_id={}", self.identity);
        let before = router.history(&query).await.len();
        drop(self);
        router.wait_for_events(&query, before + 1).await;
    }

    /// The next frame or close; Pings are put aside.
    async fn incoming(&mut self) -> Option<Incoming> {
        loop {
            match self.next().await {
                Some(Incoming::Ping(payload)) => self.pings.push_back(payload),
                other => return other,
            }
        }
    }

    async fn next(&mut self) -> Option<Incoming> {
        timeout(FRAME_TIMEOUT, self.socket.next())
            .await
            .unwrap_or_else(|_| panic!("{:?} was sent nothing for {FRAME_TIMEOUT:?}", self.identity))
    }
}

/// The `request_payload` with which an agent of this id registers.
pub(crate) fn registration(id: &str) -> Value {
    json!({
        "agent_name": format!("agent {id}"),
        "agent_description": "answers what it is asked",
        "agent_input_schema": {"type": "function", "function": {"name": id, "parameters": {}}},
    })
}

/// The answer to a delivery.
pub(crate) fn answer(delivery: &Value, response: Value) -> Value {
    let mut frame = json!({
        "message_type": "agent_response",
        "response": response,
        "execution_time": 0.25,
        "invoked_by": delivery["invoked_by"],
    });
    if let Some(id) = delivery.get("invocation_id") {
        frame["invocation_id"] = id.clone();
    }
    frame
}

/// What an answer of [`answer`] looks like to its caller.
pub(crate) fn answered(response: Value) -> Value {
    json!({"message_type": "agent_response", "response": response, "execution_time": 0.25})
}

/// The error about a frame that is no JSON.
pub(crate) fn invalid_json() -> Value {
    json!({"error": {"error_message": "Invalid JSON format", "error_type": "InvalidJSONRequestFormat"}})
}

/// The error when an agent cannot be invoked.
pub(crate) fn not_active() -> Value {
    json!({
        "message_type": "agent_error",
        "error": {"error_message": "Agent is NOT active", "error_type": "AgentNotActive"},
    })
}

/// The error when an agent was lost at work.
pub(crate) fn lost(agent: &str) -> Value {
    json!({
        "message_type": "agent_error",
        "error": {"error_message": "Agent has been unregistered", "agent_uuid": agent},
    })
}

/// Any other error that ends or refuses an invocation.
pub(crate) fn general_error(message: &str) -> Value {
    json!({
        "message_type": "agent_error",
        "error": {"error_message": message, "error_type": "AgentGeneralError"},
    })
}

fn merge(object: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    object.as_object_mut().expect("an object").extend(more);
}
