//! Forged tokens: each is refused, whatever else about it is right, and the journal says why.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::serves_others;
use crate::support::{BACKEND, ML, NotOpened, Peer, Router, SECRET, Socket, agent_id, agent_token, forged, token};

const YEAR_9999: i64 = 253_370_764_800;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token that is right but for what its header says, signed with the right key.
fn with_header(change: impl FnOnce(&mut Header), agent: &str) -> String {
    let mut header = Header::new(Algorithm::HS256);
    change(&mut header);
    let claims = json!({"sub": agent, "exp": YEAR_9999});
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn with_claims(claims: &Value) -> String {
    token(claims, SECRET, Algorithm::HS256)
}

/// One character of the signature changed, at either end: the last one also where its spare bits are.
fn bent(token: &str) -> [String; 2] {
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let swap = |c: char| if c == 'A' { 'B' } else { 'A' };
    let first = signature.chars().next().unwrap();
    let last = signature.chars().last().unwrap();
    [
        format!("{rest}.{}{}", swap(first), &signature[1..]),
        format!("{rest}.{}{}", &signature[..signature.len() - 1], swap(last)),
    ]
}

fn forgeries(agent: &str) -> Vec<(&'static str, String)> {
    let good = agent_token(agent, SECRET);
    let [header, claims, signature] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut forgeries = vec![
        ("alg none, unsigned", forged("none", agent, b"")),
        ("alg none, with the right token's signature", forged("none", agent, &raw)),
        ("alg NONE", forged("NONE", agent, b"")),
        ("alg nOnE", forged("nOnE", agent, b"")),
        ("alg empty", forged("", agent, &raw)),
        ("alg hs256 in lower case", forged("hs256", agent, &raw)),
        ("RS256 with the secret as its key", forged("RS256", agent, &raw)),
        ("ES256", forged("ES256", agent, &raw)),
        ("HS384 with the right key", token(&json!({"sub": agent, "exp": YEAR_9999}), SECRET, Algorithm::HS384)),
        ("HS512 with the right key", token(&json!({"sub": agent, "exp": YEAR_9999}), SECRET, Algorithm::HS512)),
        ("another key", agent_token(agent, "some other secret that nobody gave")),
        ("an empty key", agent_token(agent, "")),
        ("the key and one byte more", agent_token(agent, &format!("{SECRET}x"))),
        ("the key in base64", agent_token(agent, &STANDARD.encode(SECRET))),
        ("the key of a file that kid names", forged_by_kid(agent)),
        ("a critical extension", with_header(|header| header.crit = Some(vec!["exp".to_owned()]), agent)),
        ("expired", with_claims(&json!({"sub": agent, "exp": 1_600_000_000}))),
        ("expired in the year 0", with_claims(&json!({"sub": agent, "exp": -62_000_000_000_i64}))),
        ("never expiring", with_claims(&json!({"sub": agent}))),
        ("expiring at null", with_claims(&json!({"sub": agent, "exp": null}))),
        ("expiring at a text", with_claims(&json!({"sub": agent, "exp": "253370764800"}))),
        ("not valid yet", with_claims(&json!({"sub": agent, "exp": YEAR_9999, "nbf": YEAR_9999 - 1}))),
        ("for another audience", with_claims(&json!({"sub": agent, "exp": YEAR_9999, "aud": "somebody else"}))),
        ("nobody", with_claims(&json!({"exp": YEAR_9999}))),
        ("several", with_claims(&json!({"sub": [agent], "exp": YEAR_9999}))),
        ("a name", agent_token("weather", SECRET)),
        ("a UUID in braces", agent_token(&format!("{{{agent}}}"), SECRET)),
        ("a UUID without hyphens", agent_token(&agent.replace('-', ""), SECRET)),
        ("a UUID with something behind", agent_token(&format!("{agent} "), SECRET)),
        ("a UUID with a line behind", agent_token(&format!("{agent}\n"), SECRET)),
        ("the backend's name", agent_token(BACKEND, SECRET)),
        ("the master agent's name", agent_token(ML, SECRET)),
        ("without its last character", good[..good.len() - 1].to_owned()),
        ("without a signature", format!("{header}.{claims}.")),
        ("in two parts", format!("{header}.{claims}")),
        ("in four parts", format!("{good}.{signature}")),
        ("other claims under the same signature", {
            let others = base64(json!({"sub": agent_id(), "exp": YEAR_9999}).to_string());
            format!("{header}.{others}.{signature}")
        }),
        ("with a space in it", format!("{header}. {claims}.{signature}")),
        ("with a word before it", format!("Bearer {good}")),
        ("twice", format!("{good},{good}")),
        ("padded", format!("{good}=")),
        ("of nothing", "..".to_owned()),
        ("claims that are no object", format!("{header}.{}.{signature}", base64("[]"))),
        ("huge", agent_token(&"a".repeat(40_000), SECRET)),
        ("the secret itself", SECRET.to_owned()),
        ("a bare id", agent.to_owned()),
    ];
    forgeries.extend(bent(&good).map(|token| ("with a bent signature", token)));
    forgeries
}

/// Signed with what a file of the machine holds that `kid` names: nothing, as `/dev/null` does.
fn forged_by_kid(agent: &str) -> String {
    let header = Header { kid: Some("../../../../dev/null".to_owned()), ..Header::new(Algorithm::HS256) };
    let claims = json!({"sub": agent, "exp": YEAR_9999});
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(b"")).unwrap()
}

#[tokio::test]
async fn no_forged_token_lets_anybody_in() {
    let router = Router::secured(&[]).await;
    let agent = agent_id();
    let forgeries = forgeries(&agent);
    let count = forgeries.len();
    for (what, token) in forgeries {
        let mut peer = Peer::connect(&router, &[("x-custom-authorization", &token)]).await;
        assert_eq!(peer.expect_close(4000).await, "Missing Authorization header", "{what}");
    }
    let refused = router.wait_for_events("kind=connection.refused", count).await;
    assert_eq!(refused.len(), count, "each is in the journal");
    assert!(router.history(&format!("kind=agent.connected&agent_id={agent}")).await.is_empty());
    // The control: what is wrong above is all that is.
    let header = |change: fn(&mut Header)| with_header(change, &agent);
    for good in [
        header(|_| {}),
        header(|header| header.kid = Some("../../../../dev/null' OR '1'='1".to_owned())),
        header(|header| header.typ = None),
        with_claims(&json!({"sub": agent.to_uppercase(), "exp": YEAR_9999, "nbf": 1, "iat": 1})),
    ] {
        Peer::connect(&router, &[("x-custom-authorization", &good)]).await.expect_nothing().await;
    }
    serves_others(&router).await;
}

#[tokio::test]
async fn a_token_larger_than_all_headers_may_be_is_not_looked_at() {
    let router = Router::secured(&[]).await;
    let huge = agent_token(&"a".repeat(1 << 20), SECRET);
    let opened = Socket::open(router.address(), &[("x-custom-authorization", &huge)]).await;
    assert!(matches!(opened, Err(NotOpened::Status(431) | NotOpened::Broken)), "{opened:?}");
    serves_others(&router).await;
}
