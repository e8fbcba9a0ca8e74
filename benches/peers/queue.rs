//! Postgres as a queue: a table of tasks, `FOR UPDATE SKIP LOCKED`, and either a notification or a look at the table every
//! now and then.
//!
//! A worker claims a share of tasks in one commit, and stores their answers in a second one, as is done where work takes
//! longer than a transaction should be open. Rows are written in arrays, so many in a statement.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::load::{Load, Questions};

const SCHEMA: &str = "
    DROP TABLE IF EXISTS tasks;
    CREATE TABLE tasks (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state SMALLINT NOT NULL DEFAULT 0, payload TEXT NOT NULL, answer TEXT
    );
    CREATE INDEX tasks_queued ON tasks (id) WHERE state = 0;
    CREATE INDEX tasks_answered ON tasks (id) WHERE state = 2;";

/// The third parameter of a notification keeps the statement the same where nobody is notified.
const ASK: &str = "
    WITH asked AS (INSERT INTO tasks (payload) SELECT * FROM UNNEST($1::TEXT[]) RETURNING 1)
    SELECT CASE WHEN $2 THEN pg_notify('tasks', '') END FROM asked LIMIT 1";
const CLAIM: &str = "
    UPDATE tasks SET state = 1
    WHERE id = ANY (ARRAY(SELECT id FROM tasks WHERE state = 0 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING id, payload";
const ANSWER: &str = "
    WITH answered AS (
        UPDATE tasks SET state = 2, answer = given.answer
        FROM UNNEST($1::BIGINT[], $2::TEXT[]) AS given (id, answer) WHERE tasks.id = given.id RETURNING 1
    )
    SELECT CASE WHEN $3 THEN pg_notify('answers', '') END FROM answered LIMIT 1";
const COLLECT: &str = "
    DELETE FROM tasks
    WHERE id = ANY (ARRAY(SELECT id FROM tasks WHERE state = 2 ORDER BY id LIMIT 1024 FOR UPDATE SKIP LOCKED))
    RETURNING answer";

/// How who waits learns that there is something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Of a notification. All workers share a connection that listens, and it wakes one of them.
    Notified,
    /// By looking again after this time.
    Polling(Duration),
}

/// Has this load done by the database at `url`.
pub(crate) async fn run(url: &str, load: &Load, waiting: Waiting) -> Result<Vec<Duration>, Failure> {
    let mut asking = PgConnection::connect(url).await?;
    asking.execute(AssertSqlSafe(SCHEMA)).await?;
    let mut answers = PgConnection::connect(url).await?;
    // That an answer was taken need not outlive a crash: then it is taken once more.
    answers.execute("SET synchronous_commit = off").await?;
    let (tasks_bell, answers_bell) = (Notify::new(), Notify::new());
    let bells = std::sync::Arc::new((tasks_bell, answers_bell));
    let mut others = JoinSet::new();
    if waiting == Waiting::Notified {
        let mut listener = PgListener::connect(url).await?;
        listener.listen_all(["tasks", "answers"]).await?;
        let bells = bells.clone();
        others.spawn(async move {
            loop {
                match listener.recv().await?.channel() {
                    "tasks" => bells.0.notify_one(),
                    _ => bells.1.notify_one(),
                }
            }
        });
    }
    for _ in 0..load.workers {
        let mut connection = PgConnection::connect(url).await?;
        let (bells, share) = (bells.clone(), i64::from(load.share()));
        others.spawn(async move { work(&mut connection, share, waiting, &bells.0).await });
    }
    tokio::select! {
        latencies = master(asking, answers, load, waiting, &bells.1) => latencies,
        Some(worker) = others.join_next() => match worker? { Ok(never) => match never {}, Err(failure) => Err(failure) },
    }
}

async fn master(
    mut asking: PgConnection,
    mut answers: PgConnection,
    load: &Load,
    waiting: Waiting,
    bell: &Notify,
) -> Result<Vec<Duration>, Failure> {
    let mut questions = Questions::new(load);
    let mut next = questions.first();
    while !questions.are_settled() {
        if Instant::now() > questions.too_late() {
            return Err("answers are missing".into());
        }
        let asked = async {
            if !next.is_empty() {
                let is_notified = waiting == Waiting::Notified;
                sqlx::query(ASK).bind(&next).bind(is_notified).execute(&mut asking).await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        let collected = collect(&mut answers, waiting, bell);
        // While what was answered before is asked on one connection, answers are waited for on the other.
        let ((), collected) = tokio::try_join!(asked, collected)?;
        let now = Instant::now();
        next = Vec::new();
        for answer in collected {
            next.extend(questions.answered(answer.as_bytes(), now)?);
        }
    }
    Ok(questions.latencies())
}

async fn collect(connection: &mut PgConnection, waiting: Waiting, bell: &Notify) -> Result<Vec<String>, sqlx::Error> {
    loop {
        let answers: Vec<String> = sqlx::query_scalar(COLLECT).fetch_all(&mut *connection).await?;
        if !answers.is_empty() {
            return Ok(answers);
        }
        wait(waiting, bell).await;
    }
}

async fn work(
    connection: &mut PgConnection,
    share: i64,
    waiting: Waiting,
    bell: &Notify,
) -> Result<Infallible, Failure> {
    loop {
        let claimed: Vec<(i64, String)> = sqlx::query_as(CLAIM).bind(share).fetch_all(&mut *connection).await?;
        if claimed.is_empty() {
            wait(waiting, bell).await;
            continue;
        }
        // There may be more than this one takes.
        bell.notify_one();
        let (ids, answers): (Vec<i64>, Vec<String>) = claimed.into_iter().unzip();
        let is_notified = waiting == Waiting::Notified;
        sqlx::query(ANSWER).bind(ids).bind(answers).bind(is_notified).execute(&mut *connection).await?;
    }
}

async fn wait(waiting: Waiting, bell: &Notify) {
    match waiting {
        // A notification that was missed costs a second.
        Waiting::Notified => drop(timeout(Duration::from_secs(1), bell.notified()).await),
        Waiting::Polling(pause) => sleep(pause).await,
    }
}
