//! What readers see of agents.

use agent_router::id::{NodeId, Position, SessionId};
use agent_router::journal::{AgentFilter, AgentRecord, AgentRow, Journal, SessionRow, SessionStanding};

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, on_each_back_end};

on_each_back_end! {
    agents_are_listed_by_whether_they_are_there,
    an_agent_is_read_with_what_it_registered_with_and_its_newest_socket,
    a_page_of_agents_ends_where_what_they_registered_weighs_enough,
}

fn row(name: &str, registered: Option<Position>, last_seen: Option<i64>) -> AgentRow {
    AgentRow { agent: identity(name), registered, last_seen: last_seen.map(second) }
}

fn socket(name: &str, registered: Option<Position>, version: u8, at: i64) -> SessionRow {
    SessionRow {
        session: SessionId::generate(),
        identity: identity(name),
        registered,
        version,
        connected_at: second(at),
        node: NodeId(1),
        standing: SessionStanding::Live,
        max_in_flight: registered.map_or(0, |_| 1000),
        sealed_credential: None,
    }
}

async fn names(journal: &dyn Journal, connected: Option<bool>, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = journal.agents(AgentFilter { connected }, after.as_ref(), limit).await.unwrap();
        names.extend(page.agents.iter().map(|agent| agent.agent.to_string()));
        after = page.next;
        if after.is_none() {
            return names;
        }
    }
}

async fn agents_are_listed_by_whether_they_are_there(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let registered = |script: &mut Script, name: &str| Some(script.registered(name, SessionId::generate(), b"{}"));
    let mut agents = Vec::new();
    for name in ["b", "é", "a", "d"] {
        let position = registered(&mut script, name);
        agents.push(row(name, position, None));
        if name != "d" {
            script.batch.sessions.push(socket(name, position, 1, 5));
        }
    }
    // One that something waits for, one that is there and has not registered, and one that is no agent.
    agents.push(row("c", None, None));
    agents.push(row("e", None, Some(3)));
    let stranger = registered(&mut script, "stranger");
    script.batch.sessions.extend([socket("e", None, 1, 6), socket("stranger", stranger, 1, 7)]);
    script.batch.agents = agents;
    journal.commit(script.take().into()).await.unwrap();

    for limit in [1, 2, 100] {
        assert_eq!(names(journal.as_ref(), None, limit).await, ["a", "b", "c", "d", "e", "é"]);
        assert_eq!(names(journal.as_ref(), Some(true), limit).await, ["a", "b", "é"]);
        assert_eq!(names(journal.as_ref(), Some(false), limit).await, ["c", "d", "e"]);
    }
    assert_eq!(journal.agent(&identity("stranger")).await.unwrap(), None);
}

async fn an_agent_is_read_with_what_it_registered_with_and_its_newest_socket(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.registered("agent", SessionId::generate(), b"{\"old\": 1}");
    let older = script.position;
    script.registered("agent", SessionId::generate(), b"{\"new\": 1}");
    let newer = script.position;
    script.batch.sessions =
        vec![socket("agent", Some(newer), 2, 8), socket("agent", Some(older), 1, 9), socket("agent", None, 1, 10)];
    script.batch.agents = vec![row("agent", Some(newer), Some(4)), row("nobody", None, None)];
    journal.commit(script.take().into()).await.unwrap();

    let there = AgentRecord {
        agent: identity("agent"),
        registered_at: Some(second(newer.0)),
        registration: Some("{\"new\": 1}".into()),
        connected_at: Some(second(8)),
        version: Some(2),
        last_seen: None,
        node: Some("node-1".to_owned()),
    };
    assert_eq!(journal.agent(&identity("agent")).await.unwrap().as_ref(), Some(&there));
    let connected = journal.agents(AgentFilter { connected: Some(true) }, None, 10).await.unwrap();
    assert_eq!(connected.agents, [there]);

    script.started();
    script.batch.ended = journal.restore().await.unwrap().sessions.iter().map(|row| row.session).collect();
    script.batch.agents = vec![row("agent", Some(newer), Some(20))];
    journal.commit(script.take().into()).await.unwrap();
    let away = journal.agent(&identity("agent")).await.unwrap().unwrap();
    assert_eq!((away.connected_at, away.version, away.last_seen), (None, None, Some(second(20))));
    assert_eq!(away.registration.as_deref(), Some(&b"{\"new\": 1}"[..]));

    let nobody = journal.agent(&identity("nobody")).await.unwrap().unwrap();
    assert_eq!((nobody.registered_at, nobody.registration, nobody.last_seen), (None, None, None));
    assert_eq!(journal.agent(&identity("stranger")).await.unwrap(), None);
}

async fn a_page_of_agents_ends_where_what_they_registered_weighs_enough(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let wanted: Vec<String> = (0..20).map(|number| format!("agent {number:02}")).collect();
    for name in &wanted {
        let position = script.registered(name, SessionId::generate(), &vec![b' '; 1 << 20]);
        script.batch.agents.push(row(name, Some(position), None));
    }
    journal.commit(script.take().into()).await.unwrap();
    let page = journal.agents(AgentFilter::default(), None, 1000).await.unwrap();
    assert_eq!(page.agents.len(), 8);
    assert_eq!(page.next, page.agents.last().map(|agent| agent.agent.clone()));
    assert_eq!(names(journal.as_ref(), None, 1000).await, wanted);
}
