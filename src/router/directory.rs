//! Who is connected to this process: the way to each socket, and the credential it came with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::{Credential, Principal};
use crate::id::{IdMap, Position, SessionId};
use crate::router::outbox::{Body, Ending, Outbound, Outbox};

/// See the module. A credential lives here, with its connection, and nowhere else.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    sockets: Arc<Mutex<IdMap<SessionId, Socket>>>,
}

#[derive(Debug)]
struct Socket {
    outbox: Outbox,
    credential: Option<Credential>,
}

impl Directory {
    pub(super) fn insert(&self, session: SessionId, principal: &Principal, outbox: Outbox) {
        let credential = match principal {
            Principal::Own { credential, .. } => credential.clone(),
            Principal::Invoke { .. } => None,
        };
        self.sockets().insert(session, Socket { outbox, credential });
    }

    pub(super) fn remove(&self, session: SessionId) {
        self.sockets().remove(&session);
    }

    pub(super) fn outbox(&self, session: SessionId) -> Option<Outbox> {
        self.sockets().get(&session).map(|socket| socket.outbox.clone())
    }

    pub(super) fn is_open(&self, session: SessionId) -> bool {
        self.sockets().contains_key(&session)
    }

    /// The credential that a socket came with; none if the socket is gone.
    pub(super) fn credential(&self, session: SessionId) -> Option<Credential> {
        self.sockets().get(&session).and_then(|socket| socket.credential.clone())
    }

    /// Queues a message; without room for its body, that stays in the journal, `stored` there.
    pub(super) fn post(&self, to: SessionId, mut message: Outbound, stored: Option<Position>) {
        let sockets = self.sockets();
        let Some(socket) = sockets.get(&to) else { return };
        if let Some(position) = stored
            && socket.outbox.is_crowded()
        {
            message.put_body(Body::Stored(position));
        }
        socket.outbox.post(message);
    }

    pub(super) fn end(&self, session: SessionId, why: Ending) {
        if let Some(socket) = self.sockets().get(&session) {
            socket.outbox.end(why);
        }
    }

    pub(super) fn end_all(&self, why: Ending) {
        for socket in self.sockets().values() {
            socket.outbox.end(why);
        }
    }

    fn sockets(&self) -> MutexGuard<'_, IdMap<SessionId, Socket>> {
        // Every change of the map is one call: it is whole whoever panicked.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
