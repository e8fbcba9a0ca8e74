//! `journal erase`: removes the payloads of an invocation for good, and of what its agent logged about it.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::failure::Failure;
use super::{request, say};
use crate::app;
use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::config::{Config, LOCAL_OPERATOR};
use crate::id::{InvocationId, Position};
use crate::invocation::{Invocation, Reply};
use crate::journal::{
    Batch, Erased, Event, EventKind, HistoryFilter, Journal, JournalError, LogLines, Lookup, Opened, Order, Place,
};

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// How long to wait for readers that keep the write-ahead log from being emptied.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events looked at at a time.
const LOT: usize = 32;

/// Which, and why.
#[derive(Args)]
pub(super) struct Arguments {
    /// The invocation; it must be finished
    #[arg(long, value_name = "ID")]
    invocation: Uuid,
    /// Why, for whoever reads the journal: up to 1,024 bytes
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// Does it in the journal, or has the router do it that has its file open.
pub(super) async fn erase(arguments: Arguments, config: &Config) -> Result<(), Failure> {
    let Arguments { invocation, reason } = arguments;
    if Authenticator::new(config).finds_secret(reason.as_bytes()) {
        return Err(Failure::usage("there is a key in the reason, which would be kept for good: replace that key"));
    }
    let place = app::place(config);
    let node = match &place {
        Place::Sqlite { path } if !path.exists() => {
            return Err(Failure::operation(format_args!("{place}: there is no journal")));
        }
        Place::Sqlite { .. } => config.node_id.clone(),
        // Routers take over only what others than they have written.
        Place::Postgres { .. } => format!("{} (journal erase)", config.node_id),
    };
    match place.open(&node).await {
        Ok(Opened { journal, .. }) => {
            let erased = in_place(&*journal, InvocationId(invocation), reason, &place).await;
            journal.close().await;
            erased
        }
        Err(JournalError::InUse(_)) => by_router(invocation, &reason, config),
        Err(error) => Err(Failure::journal(&place, &error)),
    }
}

async fn in_place(journal: &dyn Journal, id: InvocationId, reason: String, place: &Place) -> Result<(), Failure> {
    let failed = |error: JournalError| Failure::journal(place, &error);
    let erased = Erased::all_of(&finished(journal, id, place).await?);
    // Asked again, it makes sure that the first time left nothing.
    if has_payload(journal, &erased).await.map_err(failed)? {
        // Routers may be running on a database. In a turn, nothing changes between what is read and what is written.
        let position = journal.restore().await.map_err(failed)?.head.position.next();
        let invocation = finished(journal, id, place).await?;
        journal.commit(batch(invocation, erased, reason, position).into()).await.map_err(failed)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = journal.scrub().await {
        let advice = match &error {
            JournalError::Unavailable(_) if Instant::now() < deadline => {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            JournalError::Unavailable(_) => format!("end what reads {place}, and do this again"),
            _ => "do this again".to_owned(),
        };
        return Err(Failure::operation(format_args!(
            "the payloads of invocation {id} are erased, but the database may still have them: {error}; {advice}"
        )));
    }
    say(format_args!("erased: the payloads of invocation {id}"))
}

/// The invocation as it stands, if it can be erased.
async fn finished(journal: &dyn Journal, id: InvocationId, place: &Place) -> Result<Invocation, Failure> {
    let wanted = Lookup { ids: vec![id], keys: Vec::new() };
    let mut found = journal.lookup(&wanted).await.map_err(|error| Failure::journal(place, &error))?;
    match found.pop() {
        None => Err(Failure::operation(format_args!("{place}: there is no invocation {id}"))),
        Some(invocation) if invocation.is_open() => Err(Failure::operation(format_args!(
            "invocation {id} is not finished, so its payload is needed: cancel it, or wait for its end"
        ))),
        Some(invocation) => Ok(invocation),
    }
}

/// Whether there is anything to be removed.
async fn has_payload(journal: &dyn Journal, erased: &Erased) -> Result<bool, JournalError> {
    let own = HistoryFilter { invocation: Some(erased.invocation), ..HistoryFilter::default() };
    if any_has_payload(journal, &own, None).await? {
        return Ok(true);
    }
    let Some(LogLines { agent, request_id, after }) = &erased.logs else { return Ok(false) };
    let logged = HistoryFilter {
        agent: Some(agent.clone()),
        kinds: vec![EventKind::AgentLogged],
        request_id: Some(request_id.to_string()),
        ..HistoryFilter::default()
    };
    any_has_payload(journal, &logged, Some(*after)).await
}

async fn any_has_payload(
    journal: &dyn Journal,
    filter: &HistoryFilter,
    mut after: Option<Position>,
) -> Result<bool, JournalError> {
    loop {
        let events = journal.history(filter, Order::Ascending, after, LOT).await?.events;
        if events.iter().any(|event| event.payload.is_some()) {
            return Ok(true);
        }
        let Some(last) = events.last() else { return Ok(false) };
        after = Some(last.position);
    }
}

fn batch(mut invocation: Invocation, erased: Erased, reason: String, position: Position) -> Batch {
    let event = Event {
        position,
        at: Clock::start().now(),
        invocation: Some(invocation.id),
        agent: Some(invocation.agent.clone()),
        caller: Some(invocation.caller.clone()),
        detail: erased.detail(reason),
        payload: None,
        labels: invocation.labels.clone(),
    };
    // An answer that is gone cannot be sent.
    let still_owed = invocation.reply != Reply::None;
    invocation.reply = Reply::None;
    Batch {
        events: vec![event],
        changed: still_owed.then_some(invocation).into_iter().collect(),
        erased: vec![erased],
        ..Batch::default()
    }
}

fn by_router(invocation: Uuid, reason: &str, config: &Config) -> Result<(), Failure> {
    /// What a router says of a refusal.
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }

    let Some(key) = operator_key(config) else {
        return Err(Failure::usage(
            "a router is using this journal, and erases for operators alone: set OPERATOR_API_KEY to a key of its \
             operators, or stop it",
        ));
    };
    let address = request::router(config)?;
    let path = format!("POST /v1/invocations/{invocation}/erase");
    let body = json!({ "reason": reason }).to_string();
    let answer = request::send(address, &path, &[("api-key", &key)], &body).map_err(|error| {
        Failure::operation(format_args!(
            "a router is using this journal, and there is no answer from {address} ({error}): set LISTEN_ADDR as it has \
             it, or stop it"
        ))
    })?;
    if answer.status == 200 {
        return say(format_args!("erased: the payloads of invocation {invocation}, by the router on {address}"));
    }
    let why = serde_json::from_str(&answer.body).map_or(answer.body, |Problem { detail }| detail);
    Err(Failure::operation(format_args!("the router on {address} refused: {} {why}", answer.status)))
}

/// The first key of the router's operators.
fn operator_key(config: &Config) -> Option<String> {
    let list = std::env::var("OPERATOR_API_KEY").unwrap_or_default();
    let first = list.split(',').map(str::trim).find(|key| !key.is_empty()).map(str::to_owned);
    first.or_else(|| (!config.mode.is_secured()).then(|| LOCAL_OPERATOR.to_owned()))
}

fn reason(text: &str) -> Result<String, String> {
    Some(text.trim())
        .filter(|text| (1..=MAX_REASON_BYTES).contains(&text.len()))
        .map(str::to_owned)
        .ok_or_else(|| format!("it must have 1 to {MAX_REASON_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something_and_not_too_much() {
        assert_eq!(reason(" asked for by its subject "), Ok("asked for by its subject".to_owned()));
        assert_eq!(reason(&"x".repeat(1024)).map(|reason| reason.len()), Ok(1024));
        assert!(reason(" ").is_err() && reason(&"x".repeat(1025)).is_err());
    }
}
