//! Agents' tokens, in both modes.

use super::*;

#[test]
fn in_development_a_token_is_believed_and_a_bare_string_is_an_id() {
    let development = development();
    let claims = json!({"sub": AGENT, "exp": NOW - 1});
    let forged = signed_as(&jsonwebtoken::Header::default(), &claims, "another key");
    for token in [unsigned(&json!({"alg": "none"}), &claims), unsigned(&json!({"alg": "RS256"}), &claims), forged] {
        assert_eq!(own(&development, &token), Ok(AGENT.to_owned()));
    }
    let padded = json!({"sub": "a"}).to_string();
    let padded = format!("{}.{}.x", BASE64_URL_SAFE.encode(r#"{"alg":"HS256"}"#), BASE64_URL_SAFE.encode(padded));
    assert_eq!(own(&development, &padded), Ok("a".to_owned()));
    for bare in [AGENT, "my agent", "a.b.c", "a.b", "agent:7", "Zoë"] {
        assert_eq!(own(&development, bare), Ok(bare.to_owned()));
    }
}

#[test]
fn in_development_a_token_still_has_to_name_someone() {
    let header = json!({"alg": "HS256"});
    for claims in [json!({}), json!({"sub": 7}), json!({"sub": null}), json!("sub"), json!([AGENT])] {
        assert_eq!(own(&development(), &unsigned(&header, &claims)), Err(Refused::MalformedToken), "{claims}");
    }
    let no_payload = format!("{}.!.", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()));
    assert_eq!(own(&development(), &no_payload), Err(Refused::MalformedToken));
    for subject in ["", "a\nb", &"x".repeat(256)] {
        assert_eq!(own(&development(), &unsigned(&header, &json!({"sub": subject}))), Err(Refused::InvalidIdentity));
    }
    let latin = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-custom-authorization"), latin)]);
    assert_eq!(development().socket(&headers, now()), Err(Refused::NotText));
}

#[test]
fn a_minted_token_is_good_until_it_expires() {
    let agent = AGENT.parse().unwrap();
    let mint = |seconds| mint_agent_token(&SecretKey::new(SECRET), agent, Timestamp::from_micros(seconds * 1_000_000));
    assert_eq!(own(&secured(), &mint(YEAR_9999)), Ok(AGENT.to_owned()));
    assert_eq!(own(&secured(), &mint(NOW + 1)), Ok(AGENT.to_owned()));
    assert_eq!(own(&secured(), &mint(NOW)), Err(Refused::Expired));
    assert_eq!(own(&secured(), &mint(NOW - 1)), Err(Refused::Expired));
    assert_eq!(own(&development(), &mint(NOW - 1)), Ok(AGENT.to_owned()));
}

#[test]
fn in_secured_mode_a_token_is_in_time() {
    let cases = [
        (json!({"sub": AGENT, "exp": YEAR_9999, "iat": NOW}), Ok(AGENT.to_owned())),
        (json!({"sub": AGENT, "exp": 1e300, "nbf": NOW}), Ok(AGENT.to_owned())),
        (json!({"sub": AGENT, "exp": f64::from(1_800_000_000) + 0.5}), Ok(AGENT.to_owned())),
        (json!({"sub": AGENT.to_uppercase(), "exp": YEAR_9999}), Ok(AGENT.to_owned())),
        (json!({"sub": AGENT}), Err(Refused::NoExpiry)),
        (json!({"sub": AGENT, "exp": null}), Err(Refused::NoExpiry)),
        (json!({"sub": AGENT, "exp": "9999"}), Err(Refused::MalformedToken)),
        (json!({"sub": AGENT, "exp": -1}), Err(Refused::Expired)),
        (json!({"sub": AGENT, "exp": YEAR_9999, "nbf": NOW + 1}), Err(Refused::NotYetValid)),
        (json!({"sub": AGENT, "exp": YEAR_9999, "aud": "elsewhere"}), Err(Refused::Purpose)),
        (json!({"sub": "someone", "exp": YEAR_9999}), Err(Refused::SubjectNotUuid)),
        (json!({"sub": AGENT.replace('-', ""), "exp": YEAR_9999}), Err(Refused::SubjectNotUuid)),
        (json!({"sub": "", "exp": YEAR_9999}), Err(Refused::SubjectNotUuid)),
        (json!({"exp": YEAR_9999}), Err(Refused::SubjectNotUuid)),
        (json!({"sub": 7, "exp": YEAR_9999}), Err(Refused::MalformedToken)),
    ];
    for (claims, expected) in cases {
        assert_eq!(own(&secured(), &signed(&claims)), expected, "{claims}");
    }
}

#[test]
fn in_secured_mode_nothing_but_hs256_with_the_key_is_believed() {
    let claims = json!({"sub": AGENT, "exp": YEAR_9999});
    let header = jsonwebtoken::Header::default;
    assert_eq!(own(&secured(), &signed_as(&header(), &claims, "another key")), Err(Refused::Signature));
    assert_eq!(own(&secured(), &unsigned(&json!({"alg": "HS256"}), &claims)), Err(Refused::Signature));
    for alg in ["none", "None", "RS256", "ES256", "XX", "hs256"] {
        let token = unsigned(&json!({"alg": alg, "typ": "JWT"}), &claims);
        assert_eq!(own(&secured(), &token), Err(Refused::Algorithm), "{alg}");
        assert_eq!(own(&secured(), &format!("{token}c2lnbmF0dXJl")), Err(Refused::Algorithm), "{alg}");
    }
    let hs512 = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
    assert_eq!(own(&secured(), &signed_as(&hs512, &claims, SECRET)), Err(Refused::Algorithm));
    let mut critical = header();
    critical.crit = Some(vec!["exp".to_owned()]);
    assert_eq!(own(&secured(), &signed_as(&critical, &claims, SECRET)), Err(Refused::Purpose));

    let good = signed(&claims);
    let [head, _, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let changed = BASE64_URL_SAFE_NO_PAD.encode(json!({"sub": OTHER, "exp": YEAR_9999}).to_string());
    assert_eq!(own(&secured(), &format!("{head}.{changed}.{signature}")), Err(Refused::Signature));
    for garbage in [AGENT, "a.b.c", "..", BE_KEY, &format!("Bearer {good}")] {
        assert_eq!(own(&secured(), garbage), Err(Refused::MalformedToken), "{garbage}");
    }
}
