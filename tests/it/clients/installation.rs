//! A router with a backend at it, as an operator has it, to which a test adds agents.

use std::ops::{Deref, DerefMut};

use serde_json::Value;

use super::program::{Client, Program};
use crate::support::{BACKEND, BACKEND_KEY, ML, ML_KEY, Router, SECRET, agent_id, agent_token};

/// Whether the backend's library sends the logs of its own handler to the router (its default).
#[derive(Clone, Copy, Debug)]
pub(super) enum BackendLogs {
    Sent,
    Kept,
}

pub(super) struct Installation {
    // Before the router: the programs go first.
    pub(super) backend: Program,
    pub(super) router: Router,
    backend_logs: BackendLogs,
    secured: bool,
}

/// An agent's program, and who it is.
pub(super) struct Agent {
    pub(super) id: String,
    pub(super) token: String,
    client: Client,
    program: Program,
}

impl Installation {
    /// In development mode.
    pub(super) async fn start() -> Self {
        Self::with_backend_logs(BackendLogs::Kept).await
    }

    pub(super) async fn with_backend_logs(backend_logs: BackendLogs) -> Self {
        let mut router = Router::stopped(&[]);
        // Between routers tokens are told only if they can be sealed.
        let secured = router.is_two();
        if secured {
            router.set("SECRET_KEY", SECRET);
        }
        router.start_again().await;
        Self::around(router, backend_logs, secured).await
    }

    pub(super) async fn secured() -> Self {
        Self::around(Router::secured(&[]).await, BackendLogs::Kept, true).await
    }

    async fn around(router: Router, backend_logs: BackendLogs, secured: bool) -> Self {
        let backend = start_backend(&router, backend_logs).await;
        Self { backend, router, backend_logs, secured }
    }

    /// A new agent that the backend knows of.
    pub(super) async fn agent(&mut self, client: Client) -> Agent {
        let agent = self.start_agent(client);
        self.sees("agent_register", &agent.id).await;
        agent
    }

    /// A new agent that is on its way.
    pub(super) fn start_agent(&self, client: Client) -> Agent {
        let id = agent_id();
        let token = self.token(&id);
        self.start_agent_with(client, &id, &token)
    }

    /// An agent that shows this token.
    pub(super) fn start_agent_with(&self, client: Client, id: &str, token: &str) -> Agent {
        let environment = [("ROUTER_WS_URL", &*self.router.ws_url_for_agents()), ("AGENT_JWT_TOKEN", token)];
        Agent {
            id: id.to_owned(),
            token: token.to_owned(),
            client,
            program: Program::start(client, "agent.py", &environment),
        }
    }

    /// The same agent in a new process, as a supervisor starts it, known to the backend.
    pub(super) async fn start_again(&mut self, agent: &Agent) -> Agent {
        let agent = self.start_agent_with(agent.client, &agent.id, &agent.token);
        self.sees("agent_register", &agent.id).await;
        agent
    }

    /// The master agent, connected.
    pub(super) async fn master_agent(&self) -> Program {
        let environment = [("MASTER_API_KEY", ML_KEY)];
        start_master(&self.router, ML, "agent.py", &environment).await
    }

    /// The backend's next notification of this kind about this agent.
    pub(super) async fn sees(&mut self, kind: &str, agent: &str) -> Value {
        self.backend.expect(kind, |notification| notification["agent_uuid"] == agent).await
    }

    /// Restarts the router in good order, and the backend, whose library never notices that its connection has ended.
    pub(super) async fn restart(&mut self) {
        self.router.restart().await;
        self.backend = start_backend(&self.router, self.backend_logs).await;
    }

    /// In development mode any token will do; in secured mode the router makes it.
    fn token(&self, agent: &str) -> String {
        if !self.secured {
            return agent_token(agent, SECRET);
        }
        let made = self.router.run(&["token", "--agent", agent]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8_lossy(&made.stdout).trim().to_owned()
    }
}

async fn start_backend(router: &Router, logs: BackendLogs) -> Program {
    let send_logs = match logs {
        BackendLogs::Sent => "yes",
        BackendLogs::Kept => "no",
    };
    let environment = [("MASTER_API_KEY", BACKEND_KEY), ("SEND_LOGS", send_logs)];
    start_master(router, BACKEND, "backend.py", &environment).await
}

/// Starts a master's program. That a master is there is announced to nobody, so the journal tells when it is.
async fn start_master(router: &Router, identity: &str, script: &str, environment: &[(&str, &str)]) -> Program {
    let connections = format!("kind=agent.connected&agent_id={identity}");
    let before = router.history(&connections).await.len();
    let ws_url = router.ws_url();
    let environment = [environment, &[("ROUTER_WS_URL", &ws_url)]].concat();
    let program = Program::start(Client::V1, script, &environment);
    router.wait_for_events(&connections, before + 1).await;
    program
}

impl Deref for Agent {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
