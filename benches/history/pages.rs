//! The pages that are asked for: by each filter, from either end of the journal and from anywhere in it.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Failure;
use crate::http::Connection;
use crate::journal::Written;
use crate::options::Options;
use crate::process::Router;
use crate::report::{Latencies, Row};

/// Events, or invocations, on a page.
const PAGE: usize = 100;

/// From where a page goes on, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Oldest,
    Newest,
    Anywhere,
}

/// As the columns of the table are.
const PLACES: [Place; 3] = [Place::Oldest, Place::Newest, Place::Anywhere];

/// What is asked for: a list, and by what.
struct Question<'a> {
    list: &'static str,
    name: &'static str,
    filter: Filter<'a>,
}

enum Filter<'a> {
    Is(&'static str),
    /// What comes before one of the values.
    OneOf(&'static str, &'a [String]),
    From,
    Until,
    /// A hundredth of the time.
    Span,
}

use Filter::{From, Is, OneOf, Span, Until};

/// What events and invocations can be found by.
fn by_any(written: &Written) -> Vec<(&'static str, Filter<'_>)> {
    vec![
        ("no filter", Is("")),
        ("agent", OneOf("&agent_id=", &written.agents)),
        ("agent, rare", OneOf("&agent_id=", &written.rare_agents)),
        ("agent, not there", Is("&agent_id=nobody")),
        ("caller", OneOf("&caller=", &written.callers)),
        ("caller, not there", Is("&caller=nobody")),
        ("request id", OneOf("&request_id=", &written.requests)),
        ("request id, not there", Is("&request_id=none")),
        ("session id", OneOf("&session_id=", &written.sessions)),
        ("session id, not there", Is("&session_id=none")),
        ("from a time", From),
        ("until a time", Until),
        ("a span of time", Span),
    ]
}

fn questions(written: &Written) -> Vec<Question<'_>> {
    let of_events = vec![
        ("invocation", OneOf("&invocation_id=", &written.invocations)),
        ("invocation, not there", Is("&invocation_id=00000000-0000-7000-8000-000000000000")),
        ("kind, frequent", Is("&kind=invocation.completed")),
        ("kind, rare", Is("&kind=invocation.failed")),
        ("kind, very rare", Is("&kind=agent.dismissed")),
        ("kind, not there", Is("&kind=node.lost")),
        ("rare kind and agent", OneOf("&kind=invocation.failed&agent_id=", &written.agents)),
    ];
    let of_invocations = vec![
        ("state, frequent", Is("&state=completed")),
        ("state, rare", Is("&state=failed")),
        ("state, not there", Is("&state=expired")),
        ("state, unfinished", Is("&state=running")),
        ("frequent state and caller", OneOf("&state=completed&caller=", &written.callers)),
        ("rare state and caller", OneOf("&state=failed&caller=", &written.callers)),
    ];
    let on = |list| move |(name, filter)| Question { list, name, filter };
    let events = by_any(written).into_iter().chain(of_events).map(on("/v1/history"));
    let invocations = by_any(written).into_iter().chain(of_invocations).map(on("/v1/invocations"));
    events.chain(invocations).collect()
}

/// Asks for every kind of page so many times, one after the other.
pub(crate) async fn measure(router: &Router, written: &Written, options: &Options) -> Result<Vec<Row>, Failure> {
    let connection = Connection::open(router.address()).await?;
    let mut rows = Vec::new();
    for question in questions(written) {
        let mut random = StdRng::seed_from_u64(options.seed);
        let (mut latencies, mut found) = (Vec::new(), 0);
        for place in PLACES {
            let mut took = Vec::with_capacity(options.requests);
            let mut paths = Vec::with_capacity(options.requests);
            for _ in 0..options.requests {
                paths.push(question.path(&connection, place, written, &mut random).await?);
            }
            let before = router.cpu_time()?;
            for path in paths {
                let started = Instant::now();
                let page = connection.get(&path).await?;
                took.push(started.elapsed());
                let list = page.get("events").or_else(|| page.get("invocations"));
                found += list.and_then(|list| list.as_array()).map_or(0, Vec::len);
            }
            let cpu = router.cpu_time()?.saturating_sub(before);
            latencies.push(Latencies::new(took, cpu));
        }
        let found = found / (options.requests * PLACES.len()).max(1);
        rows.push(Row { list: question.list, name: question.name, found, latencies });
    }
    Ok(rows)
}

impl Question<'_> {
    /// The address of such a page.
    async fn path(
        &self,
        connection: &Connection,
        place: Place,
        written: &Written,
        random: &mut StdRng,
    ) -> Result<String, Failure> {
        let is_descending = match place {
            Place::Oldest => false,
            Place::Newest => true,
            Place::Anywhere => random.random(),
        };
        let order = if is_descending { "desc" } else { "asc" };
        let filter = self.filter.parameters(written, random);
        let page = |limit| format!("{}?limit={limit}&order={order}{filter}", self.list);
        if place != Place::Anywhere {
            return Ok(page(PAGE));
        }
        // A cursor says which list it is of, and then a position.
        let first = connection.get(&page(1)).await?;
        let Some(next) = first["next"].as_str() else { return Ok(page(PAGE)) };
        let mut cursor = URL_SAFE_NO_PAD.decode(next)?;
        let position = cursor.len().checked_sub(size_of::<i64>()).ok_or("a cursor has no position")?;
        cursor.splice(position.., random.random_range(1..=written.head).to_be_bytes());
        Ok(format!("{}&cursor={}", page(PAGE), URL_SAFE_NO_PAD.encode(cursor)))
    }
}

impl Filter<'_> {
    fn parameters(&self, written: &Written, random: &mut StdRng) -> String {
        let start = random.random_range(0.0..0.99);
        match self {
            Is(parameters) => (*parameters).to_owned(),
            OneOf(parameters, values) => format!("{parameters}{}", values[random.random_range(0..values.len())]),
            From => format!("&from={}", written.time(start)),
            Until => format!("&until={}", written.time(start)),
            Span => format!("&from={}&until={}", written.time(start), written.time(start + 0.01)),
        }
    }
}
