//! What the registration and the end of a socket change.

use std::collections::BTreeSet;

use agent_router::id::{InvocationId, Position, SessionId};
use agent_router::protocol::Version;
use agent_router::router::EndReason;
use serde_json::json;

use super::driver::PING_INTERVAL;
use super::scene::Scene;
use super::state::{Model, Record, Registered, Reply, Standing};

impl Model {
    pub(super) fn registered(
        &mut self,
        (session, version, credit): (SessionId, u8, usize),
        adopted: &[InvocationId],
        position: Position,
        scene: &mut Scene,
    ) {
        let (expected, register) = scene.registering.take().expect("a socket registers");
        assert_eq!(session, expected);
        let most = self.limits.max_in_flight;
        assert_eq!(version, if register.version == Version::Two { 2 } else { 1 });
        assert_eq!(credit, register.max_in_flight.map_or(most, |asked| asked.min(most)) as usize);
        let identity = self.sockets[&session].identity.clone();
        let mut seen = BTreeSet::new();
        let adoptable: Vec<InvocationId> = register
            .running
            .iter()
            .filter(|id| {
                self.calls.get(id).is_some_and(|call| {
                    let free = call.in_flight_on().is_none_or(|on| on == session);
                    call.agent == identity && call.attempt > 0 && call.is_open() && free
                }) && seen.insert(**id)
            })
            .copied()
            .collect();
        assert_eq!(adopted, adoptable, "what the agent still works on");
        if version == 2 {
            let adopted: Vec<String> = adopted.iter().map(ToString::to_string).collect();
            scene.frames.push((
                session,
                json!({ "message_type": "agent_registered", "session_id": session.to_string(), "adopted": adopted,
                        "ping_interval_ms": PING_INTERVAL.as_millis() }),
            ));
        }
        let socket = self.sockets.get_mut(&session).expect("it is there");
        socket.registered = Some(Registered { version: register.version, credit, position });
        socket.drain_at = None;
        socket.standing = Standing::Open;
        self.identities.entry(identity.clone()).or_default().known = true;
        scene.adopting = adoptable.into();
        scene.returned = Some(identity);
    }

    pub(super) fn disconnected(&mut self, session: SessionId, reason: &str, announced: bool, scene: &mut Scene) {
        let expected = scene.ending.expect("a socket ends");
        assert_eq!(reason, expected.as_str());
        let socket = self.sockets.get_mut(&session).expect("it was there");
        assert!(socket.live && socket.target.is_none(), "only a live own socket disconnects");
        socket.live = false;
        let identity = socket.identity.clone();
        let still_there = self.own(&identity).any(|(_, socket)| socket.is_registered());
        let ends_the_agent = !identity.is_backend() && expected != EndReason::TakenOver && !still_there;
        assert_eq!(announced, ends_the_agent, "whether the backend is told");
        if !self.is_connected(&identity) {
            let record = self.identities.entry(identity.clone()).or_default();
            *record = Record { last_seen: Some(scene.now), ..*record };
        }
        for call in self.calls.values_mut().filter(|call| call.reply == Reply::Sent(session)) {
            call.reply = Reply::Owed;
        }
        if !scene.restarting && self.own(&identity).all(|(_, socket)| socket.standing != Standing::Evicted) {
            let heir = self.own(&identity).find_map(|(id, socket)| match &socket.standing {
                Standing::Registering(register) => Some((id, register.clone())),
                _ => None,
            });
            if let Some((id, register)) = heir {
                Self::must_register(id, register, scene);
            }
        }
    }
}
