mod token;

use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD, Engine};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::config::SecretKey;

const BE_KEY: &str = "7a3fd399::be-key-of-these-tests";
const ML_KEY: &str = "e1adc3d8::ml-key-of-these-tests";
const AUDITOR_KEY: &str = "auditor-key-of-these-tests";
const NEXT_AUDITOR_KEY: &str = "next-auditor-key-of-these-tests";
/// A UUID, as keys often are.
const OPERATOR_KEY: &str = "9a4f6c1e-7d3b-4a52-8f0e-2b6d91c5e7a3";
const SECRET: &str = "the secret key of these tests, 32 bytes or more";
const AGENT: &str = "0b9f1a52-6d1e-4b57-9d0a-3c1f5a1c9e77";
const OTHER: &str = "4c2d8f10-aaaa-4bbb-8ccc-1234567890ab";
const NOW: i64 = 1_800_000_000;
const YEAR_9999: i64 = 253_402_300_799;

fn now() -> Timestamp {
    Timestamp::from_micros(NOW * 1_000_000)
}

fn authenticator(backend: &str, ml: &str, secret: Option<&str>) -> Authenticator {
    let config = Config::from_lookup(|name| match name {
        "MASTER_BE_API_KEY" => Some(backend.to_owned()),
        "MASTER_AGENT_API_KEY" => Some(ml.to_owned()),
        "AUDITOR_API_KEY" => Some(format!("{AUDITOR_KEY},{NEXT_AUDITOR_KEY}")),
        "OPERATOR_API_KEY" => Some(OPERATOR_KEY.to_owned()),
        "SECRET_KEY" => secret.map(str::to_owned),
        _ => None,
    });
    Authenticator::new(&config.unwrap())
}

fn development() -> Authenticator {
    authenticator(BE_KEY, ML_KEY, None)
}

fn secured() -> Authenticator {
    authenticator(BE_KEY, ML_KEY, Some(SECRET))
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    headers
}

fn socket(authenticator: &Authenticator, name: &str, value: &str) -> Result<Principal, Refused> {
    authenticator.socket(&headers(&[(name, value)]), now())
}

fn own(authenticator: &Authenticator, value: &str) -> Result<String, Refused> {
    let principal = socket(authenticator, "X-Custom-Authorization", value)?;
    let Principal::Own { identity, credential } = principal else { panic!("{principal:?}") };
    assert_eq!(credential.unwrap().expose(), value);
    Ok(identity.to_string())
}

fn invoke(authenticator: &Authenticator, value: &str) -> Result<(String, String), Refused> {
    let principal = socket(authenticator, "x-custom-invoke-key", value)?;
    let Principal::Invoke { caller, target } = &principal else { panic!("{principal:?}") };
    assert_eq!(principal.identity(), caller);
    assert_eq!(principal.invoked_by(), format!("{caller}:{target}"));
    Ok((caller.to_string(), target.to_string()))
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.")
}

fn signed_as(header: &jsonwebtoken::Header, claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

fn signed(claims: &Value) -> String {
    signed_as(&jsonwebtoken::Header::default(), claims, SECRET)
}

#[test]
fn a_key_makes_a_master() {
    for authenticator in [development(), secured()] {
        for (key, master) in [(BE_KEY, Identity::backend()), (ML_KEY, Identity::ml())] {
            let principal = socket(&authenticator, "Api-Key", key).unwrap();
            assert_eq!(principal.invoked_by(), master.as_str());
            assert_eq!(principal, Principal::Own { identity: master, credential: None });
        }
        for wrong in ["wrong", Identity::BACKEND, AGENT, SECRET] {
            assert_eq!(socket(&authenticator, "api-key", wrong), Err(Refused::UnknownApiKey));
        }
    }
}

#[test]
fn the_first_header_that_is_not_empty_counts_alone() {
    let read = |fields: &[(&str, &str)]| development().socket(&headers(fields), now());
    let agent = ("x-custom-authorization", AGENT);
    let invoke = ("x-custom-invoke-key", "a:b");
    assert_eq!(read(&[]), Err(Refused::NoCredential));
    assert_eq!(
        read(&[("api-key", ""), ("x-custom-authorization", " "), ("authorization", BE_KEY)]),
        Err(Refused::NoCredential)
    );
    assert_eq!(read(&[invoke, agent, ("api-key", "wrong")]), Err(Refused::UnknownApiKey));
    assert_eq!(read(&[invoke, agent, ("api-key", "")]).unwrap().invoked_by(), AGENT);
    assert_eq!(read(&[invoke, agent, ("api-key", ""), ("api-key", BE_KEY)]).unwrap().invoked_by(), Identity::BACKEND);
    assert_eq!(read(&[invoke, ("x-custom-authorization", Identity::ML)]), Err(Refused::MasterName));
    assert_eq!(read(&[invoke]).unwrap().invoked_by(), "a:b");
}

#[test]
fn http_takes_a_masters_key_in_either_header() {
    for authenticator in [development(), secured()] {
        let master = |fields: &[(&str, &str)]| authenticator.role(&headers(fields));
        assert_eq!(master(&[("api-key", BE_KEY)]), Ok(Role::Master(Identity::backend())));
        assert_eq!(master(&[("authorization", &format!("bearer {ML_KEY}"))]), Ok(Role::Master(Identity::ml())));
        assert_eq!(
            master(&[("api-key", ""), ("authorization", &format!("Bearer  {BE_KEY}"))]),
            Ok(Role::Master(Identity::backend()))
        );
        assert_eq!(
            master(&[("api-key", "wrong"), ("authorization", &format!("Bearer {BE_KEY}"))]),
            Err(Refused::UnknownApiKey)
        );
        assert_eq!(master(&[("authorization", &format!("Basic {BE_KEY}"))]), Err(Refused::NoCredential));
        assert_eq!(master(&[("authorization", "Bearer")]), Err(Refused::NoCredential));
        assert_eq!(master(&[("authorization", "Bearer wrong")]), Err(Refused::UnknownApiKey));
        assert_eq!(master(&[("x-custom-authorization", AGENT)]), Err(Refused::NoCredential));
    }
}

#[test]
fn http_tells_the_role_by_the_key() {
    for authenticator in [development(), secured()] {
        let role = |fields: &[(&str, &str)]| authenticator.role(&headers(fields));
        for (key, expected) in [
            (BE_KEY, Role::Master(Identity::backend())),
            (ML_KEY, Role::Master(Identity::ml())),
            (AUDITOR_KEY, Role::Auditor),
            (NEXT_AUDITOR_KEY, Role::Auditor),
            (OPERATOR_KEY, Role::Operator),
        ] {
            assert_eq!(role(&[("api-key", key)]), Ok(expected.clone()));
            assert_eq!(role(&[("authorization", &format!("Bearer {key}"))]), Ok(expected));
            assert!(authenticator.is_key(key.as_bytes()));
        }
        assert_eq!(role(&[]), Err(Refused::NoCredential));
        let both = format!("{AUDITOR_KEY},{NEXT_AUDITOR_KEY}");
        for wrong in ["wrong", &both, "local-auditor", "local-operator", SECRET, AGENT] {
            assert_eq!(role(&[("api-key", wrong)]), Err(Refused::UnknownApiKey));
            assert!(!authenticator.is_key(wrong.as_bytes()));
        }
    }
}

#[test]
fn a_key_that_only_reads_or_operates_opens_no_socket_and_becomes_no_name() {
    for key in [AUDITOR_KEY, NEXT_AUDITOR_KEY, OPERATOR_KEY] {
        for authenticator in [development(), secured()] {
            assert_eq!(socket(&authenticator, "api-key", key), Err(Refused::UnknownApiKey));
            assert_eq!(invoke(&authenticator, key), Err(Refused::InvokeKeyShape));
        }
        let claims = json!({"sub": key, "exp": YEAR_9999});
        assert_eq!(own(&development(), key), Err(Refused::KeyAsName));
        assert_eq!(own(&development(), &signed(&claims)), Err(Refused::KeyAsName));
        assert_eq!(invoke(&development(), &format!("{key}:{AGENT}")), Err(Refused::KeyAsName));
        assert_eq!(invoke(&development(), &format!("{AGENT}:{key}")), Err(Refused::KeyAsName));
    }
    for key in [OPERATOR_KEY, &OPERATOR_KEY.to_uppercase()] {
        let claims = json!({"sub": key, "exp": YEAR_9999});
        assert_eq!(own(&secured(), &signed(&claims)), Err(Refused::KeyAsName));
        assert_eq!(invoke(&secured(), &format!("{key}:{AGENT}")), Err(Refused::KeyAsName));
        assert_eq!(invoke(&secured(), &format!("{AGENT}:{key}")), Err(Refused::KeyAsName));
    }
}

#[test]
fn an_invoked_by_is_kept_without_the_key_that_the_original_put_there() {
    let secured = secured();
    for (came, kept) in [
        (format!("{BE_KEY}:{AGENT}"), format!("[a key]:{AGENT}")),
        (format!("{BE_KEY}:{AGENT}#1"), format!("[a key]:{AGENT}#1")),
        (BE_KEY.to_owned(), "[a key]".to_owned()),
        (OPERATOR_KEY.to_owned(), "[a key]".to_owned()),
        (format!("{}:{AGENT}", signed(&json!({"sub": AGENT}))), format!("[a key]:{AGENT}")),
    ] {
        assert_eq!(secured.without_key(came), kept);
    }
    for kept in ["", "#1", AGENT, &format!("{}:{AGENT}", Identity::BACKEND), &format!("{AGENT}:{OTHER}#1")] {
        assert_eq!(secured.without_key(kept.to_owned()), kept);
    }
}

#[test]
fn a_masters_name_takes_its_key() {
    for name in [Identity::BACKEND, Identity::ML] {
        let claims = json!({"sub": name, "exp": YEAR_9999});
        assert_eq!(own(&development(), name), Err(Refused::MasterName));
        assert_eq!(own(&development(), &signed(&claims)), Err(Refused::MasterName));
        assert_eq!(invoke(&development(), &format!("{name}:{AGENT}")), Err(Refused::MasterName));
        assert_eq!(own(&secured(), name), Err(Refused::MalformedToken));
        assert_eq!(own(&secured(), &signed(&claims)), Err(Refused::SubjectNotUuid));
        assert_eq!(invoke(&secured(), &format!("{name}:{AGENT}")), Err(Refused::InvokeKeyCaller));
    }
}

#[test]
fn a_masters_key_never_becomes_a_name() {
    let development = development();
    assert_eq!(own(&development, BE_KEY), Err(Refused::KeyAsName));
    assert_eq!(own(&development, &unsigned(&json!({"alg": "none"}), &json!({"sub": ML_KEY}))), Err(Refused::KeyAsName));
    assert_eq!(invoke(&development, BE_KEY), Err(Refused::InvokeKeyShape));
    assert_eq!(invoke(&secured(), ML_KEY), Err(Refused::InvokeKeyShape));
    let colonless = authenticator("backend-key", "agent-key", None);
    assert_eq!(invoke(&colonless, "a:agent-key"), Err(Refused::KeyAsName));
}

#[test]
fn an_invoke_key_is_split_at_its_last_colon() {
    for authenticator in [development(), secured()] {
        let invoke = |value: &str| invoke(&authenticator, value).unwrap();
        assert_eq!(invoke(&format!("{BE_KEY}:{AGENT}")), (Identity::BACKEND.into(), AGENT.into()));
        assert_eq!(invoke(&format!("{BE_KEY}:{}", Identity::ML)), (Identity::BACKEND.into(), Identity::ML.into()));
        assert_eq!(invoke(&format!("{ML_KEY}:{AGENT}")), (Identity::ML.into(), AGENT.into()));
        assert_eq!(invoke(&format!("{AGENT}:{OTHER}")), (AGENT.into(), OTHER.into()));
    }
    assert_eq!(invoke(&development(), "any:caller:any target").unwrap(), ("any:caller".into(), "any target".into()));
}

#[test]
fn a_malformed_invoke_key_is_refused() {
    for authenticator in [development(), secured()] {
        assert_eq!(invoke(&authenticator, AGENT), Err(Refused::InvokeKeyShape));
    }
    for value in [&format!(":{AGENT}"), &format!("{AGENT}:"), ":"] {
        assert_eq!(invoke(&development(), value), Err(Refused::InvalidIdentity), "{value}");
        assert!(invoke(&secured(), value).is_err(), "{value}");
    }
}

#[test]
fn in_secured_mode_an_invoke_key_holds_ids_and_keys_only() {
    let secured = secured();
    for caller in ["someone", "", "wrong::key", Identity::BACKEND, &AGENT.replace('-', ""), &format!("{{{AGENT}}}")] {
        assert_eq!(invoke(&secured, &format!("{caller}:{AGENT}")), Err(Refused::InvokeKeyCaller), "{caller}");
    }
    for target in ["someone", "", Identity::BACKEND, &AGENT.replace('-', "")] {
        assert_eq!(invoke(&secured, &format!("{OTHER}:{target}")), Err(Refused::InvokeKeyTarget), "{target}");
    }
    let upper = format!("{}:{}", AGENT.to_uppercase(), OTHER.to_uppercase());
    assert_eq!(invoke(&secured, &upper).unwrap(), (AGENT.into(), OTHER.into()));
}

#[test]
fn nothing_secret_is_printed() {
    let token = signed(&json!({"sub": AGENT, "exp": YEAR_9999}));
    let printed = format!("{:?} {:?}", secured(), socket(&secured(), "x-custom-authorization", &token).unwrap());
    for secret in [BE_KEY, ML_KEY, AUDITOR_KEY, OPERATOR_KEY, SECRET, &token] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
