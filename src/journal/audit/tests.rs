//! Each rule by itself, on a chain that is made here.

use serde_json::json;

use super::*;

const SALT: [u8; 16] = [7; 16];
const PAYLOAD: &[u8] = b"{\"a\": 1}";
const ONE: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];

/// An event as a journal stores it.
#[derive(Clone)]
struct Stored {
    position: i64,
    kind: EventKind,
    invocation: Option<[u8; 16]>,
    agent: Option<&'static str>,
    detail: String,
    payload_hash: Option<[u8; 32]>,
    payload: Option<&'static [u8]>,
    salt: Option<[u8; 16]>,
    hash: [u8; 32],
}

impl Stored {
    fn link(&self) -> Link<'_> {
        Link {
            position: self.position,
            at: 0,
            kind: self.kind.code(),
            node: "n",
            invocation: self.invocation.as_ref().map(|id| &id[..]),
            agent: self.agent,
            caller: None,
            detail: &self.detail,
            payload_hash: self.payload_hash.as_ref().map(|hash| &hash[..]),
        }
    }

    fn content(&self) -> Content<'_> {
        Content::Stored { payload: self.payload, salt: self.salt.as_ref().map(|salt| &salt[..]) }
    }

    fn erase(&mut self) {
        (self.payload, self.salt) = (None, None);
    }

    fn head(&self) -> Head {
        Head { position: Position(self.position), hash: self.hash }
    }
}

#[derive(Clone, Default)]
struct Chain(Vec<Stored>);

impl Chain {
    /// Six events: 2 and 3 have payloads of two invocations.
    fn new() -> Self {
        let mut chain = Self::default();
        chain.push(EventKind::NodeStarted, None, "{}", None);
        chain.push(EventKind::InvocationAccepted, Some(ONE), "{}", Some(PAYLOAD));
        chain.push(EventKind::InvocationAccepted, Some(OTHER), "{}", Some(PAYLOAD));
        for _ in 4..=6 {
            chain.push(EventKind::InvocationDelivered, Some(ONE), "{}", None);
        }
        chain
    }

    fn push(&mut self, kind: EventKind, invocation: Option<[u8; 16]>, detail: &str, payload: Option<&'static [u8]>) {
        self.push_of(None, kind, invocation, detail, payload);
    }

    /// A line of an agent's log.
    fn log(&mut self, agent: &'static str, detail: &str) {
        self.push_of(Some(agent), EventKind::AgentLogged, None, detail, Some(PAYLOAD));
    }

    fn erasure(&mut self, agent: &'static str, detail: &str) {
        self.push_of(Some(agent), EventKind::PayloadErased, Some(ONE), detail, None);
    }

    fn push_of(
        &mut self,
        agent: Option<&'static str>,
        kind: EventKind,
        invocation: Option<[u8; 16]>,
        detail: &str,
        payload: Option<&'static [u8]>,
    ) {
        let last = self.head();
        let mut event = Stored {
            position: last.position.next().0,
            kind,
            invocation,
            agent,
            detail: detail.to_owned(),
            payload_hash: payload.map(|payload| chain::payload_hash(&SALT, payload)),
            payload,
            salt: payload.map(|_| SALT),
            hash: [0; 32],
        };
        event.hash = event.link().hash(&last.hash);
        self.0.push(event);
    }

    fn pruned(&mut self, through: Head) {
        let detail = json!({"through": through.position, "hash": chain::to_hex(&through.hash), "events": 1});
        self.push(EventKind::JournalPruned, None, &detail.to_string(), None);
    }

    fn head(&self) -> Head {
        self.0.last().map_or(Head::EMPTY, Stored::head)
    }

    fn judged_by(&self, mut audit: Audit) -> Verification {
        for event in &self.0 {
            let entry = Entry { link: event.link(), hash: &event.hash, content: event.content() };
            if let Err(damage) = audit.check(&entry) {
                return damage.into();
            }
        }
        audit.finish()
    }

    /// As all of a journal that is pruned up to there, and as an export of it.
    fn judged(&self, pruned: Head) -> [Verification; 2] {
        [Audit::of_journal(pruned), Audit::of_export()].map(|audit| self.judged_by(audit))
    }

    #[track_caller]
    fn is_broken_at(&self, wrong: i64, because: &str) {
        for verification in self.judged(Head::EMPTY) {
            broken_at(wrong, because, &verification);
        }
    }
}

#[track_caller]
fn broken_at(wrong: i64, because: &str, verification: &Verification) {
    let Verification::Broken { position, what } = verification else { panic!("{verification:?}") };
    assert_eq!(position.0, wrong, "{what}");
    assert!(what.contains(because), "{what}");
}

fn report(chain: &Chain, from: i64, erased: u64, pruned: Head) -> Verification {
    let events = u64::try_from(chain.0.len()).unwrap();
    Verification::Intact(Report { from: Position(from), events, erased, unchecked: 0, pruned, head: chain.head() })
}

#[test]
fn what_nobody_touched_is_intact() {
    let chain = Chain::new();
    for verification in chain.judged(Head::EMPTY) {
        assert_eq!(verification, report(&chain, 1, 0, Head::EMPTY));
    }
    for verification in Chain::default().judged(Head::EMPTY) {
        assert_eq!(verification, report(&Chain::default(), 1, 0, Head::EMPTY));
    }
}

#[test]
fn an_event_that_is_removed_inserted_or_out_of_place_shows() {
    let mut removed = Chain::new();
    removed.0.remove(3);
    removed.is_broken_at(4, "missing");

    let mut inserted = Chain::new();
    inserted.0.insert(3, inserted.0[2].clone());
    inserted.is_broken_at(4, "event 3 is in its place");

    let mut swapped = Chain::new();
    swapped.0.swap(2, 3);
    swapped.is_broken_at(3, "missing");

    let mut renumbered = Chain::new();
    renumbered.0.swap(2, 3);
    (renumbered.0[2].position, renumbered.0[3].position) = (3, 4);
    renumbered.is_broken_at(3, "not what was hashed");

    let mut before_the_first = Chain::new();
    before_the_first.0[0].position = 0;
    before_the_first.is_broken_at(1, "event 0 is in its place");
}

#[test]
fn a_payload_may_go_if_a_later_event_of_its_invocation_says_so() {
    let mut chain = Chain::new();
    chain.push(EventKind::PayloadErased, Some(ONE), "{}", None);
    chain.0[1].erase();
    for verification in chain.judged(Head::EMPTY) {
        assert_eq!(verification, report(&chain, 1, 1, Head::EMPTY));
    }
    chain.0[2].erase();
    chain.is_broken_at(3, "no event up to 7 says that it was erased");
}

#[test]
fn a_payload_that_goes_after_its_invocation_was_erased_shows() {
    let mut chain = Chain::new();
    chain.push(EventKind::PayloadErased, Some(ONE), "{}", None);
    chain.push(EventKind::AnswerLate, Some(ONE), "{}", Some(PAYLOAD));
    chain.0[7].erase();
    chain.is_broken_at(8, "no event up to 8");
}

#[test]
fn a_payload_of_no_invocation_never_goes() {
    let mut chain = Chain::new();
    chain.push(EventKind::AgentLogged, None, "{}", Some(PAYLOAD));
    chain.0[6].erase();
    chain.is_broken_at(7, "of no invocation");
}

#[test]
fn a_log_line_may_go_if_a_later_erasure_names_its_agent_and_its_request() {
    let line = r#"{"request_id":"r \u00e9","session_id":"s"}"#;
    let cases = [
        ("agent", r#"{"reason":"x","request_id":"r é"}"#, true),
        ("another", r#"{"reason":"x","request_id":"r é"}"#, false),
        ("agent", r#"{"reason":"x","request_id":"r"}"#, false),
        ("agent", r#"{"reason":"r é"}"#, false),
        ("agent", "no JSON", false),
    ];
    for (agent, detail, explains) in cases {
        let mut chain = Chain::new();
        chain.log("agent", line);
        chain.erasure(agent, detail);
        chain.0[6].erase();
        if explains {
            for verification in chain.judged(Head::EMPTY) {
                assert_eq!(verification, report(&chain, 1, 1, Head::EMPTY));
            }
        } else {
            chain.is_broken_at(7, "no event up to 8 says that it was erased");
        }
    }

    let mut chain = Chain::new();
    chain.erasure("agent", cases[0].1);
    chain.log("agent", line);
    chain.0[7].erase();
    chain.is_broken_at(8, "no event up to 8");
}

#[test]
fn a_log_line_of_no_request_never_goes() {
    for detail in ["{}", r#"{"request_id":""}"#, r#"{"session_id":"r"}"#] {
        let mut chain = Chain::new();
        chain.log("agent", detail);
        chain.erasure("agent", r#"{"reason":"x","request_id":""}"#);
        chain.0[6].erase();
        chain.is_broken_at(7, "of no invocation or request");
    }
}

#[test]
fn half_a_payload_is_none() {
    let mut chain = Chain::new();
    chain.push(EventKind::PayloadErased, Some(ONE), "{}", None);
    let mut unsalted = chain.clone();
    unsalted.0[1].salt = None;
    unsalted.is_broken_at(2, "one is gone");
    chain.0[1].payload = None;
    chain.is_broken_at(2, "one is gone");
}

#[test]
fn a_payload_that_was_not_there_shows() {
    let mut chain = Chain::new();
    (chain.0[3].payload, chain.0[3].salt) = (Some(PAYLOAD), Some(SALT));
    chain.is_broken_at(4, "there was none");
}

#[test]
fn an_excerpt_may_end_before_what_explains_its_gaps() {
    let mut chain = Chain::new();
    chain.0[1].erase();
    assert_eq!(chain.judged_by(Audit::of_excerpt()), report(&chain, 1, 1, Head::EMPTY));
    let mut audit = Audit::of_journal(Head::EMPTY);
    audit.explain([Erasable::Invocation(OTHER.into())]);
    broken_at(2, "the payload is gone", &chain.judged_by(audit));
}

#[test]
fn what_is_hidden_counts_as_unchecked() {
    let chain = Chain::new();
    let mut audit = Audit::of_export();
    for event in &chain.0 {
        let content = if event.payload.is_some() { Content::Hidden } else { event.content() };
        audit.check(&Entry { link: event.link(), hash: &event.hash, content }).unwrap();
    }
    assert!(matches!(audit.finish(), Verification::Intact(Report { unchecked: 2, erased: 0, .. })));
}

#[test]
fn the_oldest_events_may_go_if_a_later_one_names_the_last() {
    let mut chain = Chain::new();
    let through = chain.0[2].head();
    chain.pruned(through);
    chain.0.drain(..3);
    for verification in chain.judged(through) {
        assert_eq!(verification, report(&chain, 4, 0, through));
    }
    let [journal, export] = {
        chain.0.remove(0);
        chain.judged(through)
    };
    broken_at(4, "missing", &journal);
    // An export may begin anywhere.
    assert_eq!(export, report(&chain, 5, 0, Head::EMPTY));
}

#[test]
fn pruning_that_no_event_tells_shows() {
    let mut chain = Chain::new();
    let (second, third) = (chain.0[1].head(), chain.0[2].head());
    chain.0.drain(..3);
    let [journal, _] = chain.judged(third);
    broken_at(3, "events up to 3 are gone and no event says that they were pruned", &journal);

    chain.pruned(second);
    let [journal, _] = chain.judged(third);
    broken_at(3, "no event says", &journal);
    chain.pruned(Head { hash: [9; 32], ..third });
    let [journal, export] = chain.judged(third);
    broken_at(3, "no event says", &journal);
    broken_at(4, "does not follow", &export);
}

#[test]
fn events_that_are_said_to_be_pruned_may_not_be_there() {
    let mut chain = Chain::new();
    let through = chain.0[2].head();
    chain.pruned(through);
    let [journal, export] = chain.judged(Head::EMPTY);
    broken_at(7, "some of them are there", &journal);
    // It was begun before they were pruned.
    assert_eq!(export, report(&chain, 1, 0, Head::EMPTY));
}

#[test]
fn a_range_believes_the_event_before_it() {
    let mut chain = Chain::new();
    let before = chain.0[2].head();
    chain.0.drain(..3);
    assert_eq!(chain.judged_by(Audit::after(before)), report(&chain, 4, 0, Head::EMPTY));
    broken_at(4, "not what was hashed", &chain.judged_by(Audit::after(Head { hash: [9; 32], ..before })));
}

#[test]
fn a_head_that_was_noted_must_be_there() {
    let mut chain = Chain::new();
    let all: Vec<Head> = chain.0.iter().map(Stored::head).chain([Head::EMPTY]).collect();
    let judged = |chain: &Chain, pruned: Head, noted: &[Head]| {
        [Audit::of_journal(pruned), Audit::of_export()].map(|audit| chain.judged_by(audit.noting(noted.to_vec())))
    };
    for verification in judged(&chain, Head::EMPTY, &all) {
        assert_eq!(verification, report(&chain, 1, 0, Head::EMPTY));
    }
    for position in 0..=6 {
        let other = Head { position: Position(position), hash: [9; 32] };
        for verification in judged(&chain, Head::EMPTY, &[other]) {
            broken_at(position, "not the one whose hash was noted", &verification);
        }
    }

    let last = chain.0.pop().unwrap().head();
    for verification in judged(&chain, Head::EMPTY, &[last]) {
        broken_at(6, "does not have the head that was noted", &verification);
    }

    let (second, third) = (chain.0[1].head(), chain.0[2].head());
    chain.pruned(third);
    chain.0.drain(..3);
    for verification in judged(&chain, third, &[third]) {
        assert_eq!(verification, report(&chain, 4, 0, third));
    }
    for verification in judged(&chain, third, &[second]) {
        broken_at(2, "cannot be compared: events up to 3 were pruned", &verification);
    }
}

#[test]
fn the_last_place_there_can_be_is_no_trouble() {
    let mut chain = Chain::new();
    chain.0[0].position = i64::MAX;
    let [journal, export] = chain.judged(Head::EMPTY);
    broken_at(1, "missing", &journal);
    broken_at(i64::MAX, "is in its place", &export);
}
