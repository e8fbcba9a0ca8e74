//! What masters and operators ask over HTTP.

use agent_router::id::Identity;
use agent_router::protocol::{Dialect, Inbound, parse};
use agent_router::router::Command;
use bytes::Bytes;
use rand::Rng;

use super::cast::Cast;
use super::state::Model;

impl Cast {
    /// What is asked next, if anything is.
    pub(super) fn over_http(&mut self, model: &Model) -> Option<Command> {
        match self.draw(|random| random.random_range(0..100)) {
            0..60 => Some(self.http_invoke()),
            60..75 => self.http_cancel(model),
            75..82 => Some(Command::Disconnect { agent: self.anybody() }),
            82..87 => Some(Command::Drain { on: self.chance(50) }),
            _ => {
                let invocation = self.any_call(model)?;
                Some(Command::Erase { invocation, reason: "asked for".to_owned() })
            }
        }
    }

    fn a_master(&mut self) -> Identity {
        if self.chance(70) { Identity::backend() } else { Identity::ml() }
    }

    fn http_invoke(&mut self) -> Command {
        let frame = Bytes::from(self.invocation(None).to_string());
        let Ok(Inbound::Invoke(invoke)) = parse(&frame, Dialect::default()) else { panic!("the frame is well formed") };
        Command::HttpInvoke { caller: self.a_master(), invoke }
    }

    fn http_cancel(&mut self, model: &Model) -> Option<Command> {
        let invocation = self.any_call(model)?;
        let caller = model.calls[&invocation].caller.clone();
        let caller = if caller.is_master() && self.chance(90) { caller } else { self.a_master() };
        Some(Command::HttpCancel { caller, invocation })
    }
}
