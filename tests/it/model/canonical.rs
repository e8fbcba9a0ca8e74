//! A value's `Debug` text in one order, so that two states can be compared although hash maps list what they hold in any.

/// The text with the elements of every `{…}` sorted; lists stay as they are.
pub(super) fn canonical(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let mut rest = text.as_str();
    let canonical = elements(&mut rest, None).join(", ");
    assert!(rest.is_empty(), "unbalanced: {rest}");
    canonical
}

/// Reads up to the bracket that closes, and past it.
fn elements(rest: &mut &str, close: Option<char>) -> Vec<String> {
    let mut elements = vec![String::new()];
    while let Some(sign) = next(rest) {
        if Some(sign) == close {
            break;
        }
        let element = elements.last_mut().expect("there is always one");
        match sign {
            '"' => quoted(rest, element),
            '{' | '[' | '(' => {
                let close = match sign {
                    '{' => '}',
                    '[' => ']',
                    _ => ')',
                };
                let mut inner = self::elements(rest, Some(close));
                if sign == '{' {
                    inner.sort();
                }
                element.push(sign);
                element.push_str(&inner.join(", "));
                element.push(close);
            }
            ',' => elements.push(String::new()),
            ' ' if element.is_empty() => {}
            sign => element.push(sign),
        }
    }
    elements
}

/// Copies a string literal, whose opening quote is read.
fn quoted(rest: &mut &str, into: &mut String) {
    into.push('"');
    while let Some(sign) = next(rest) {
        into.push(sign);
        match sign {
            '\\' => into.extend(next(rest)),
            '"' => return,
            _ => {}
        }
    }
}

fn next(rest: &mut &str) -> Option<char> {
    let sign = rest.chars().next()?;
    *rest = &rest[sign.len_utf8()..];
    Some(sign)
}

#[test]
fn the_order_of_a_map_does_not_matter_and_that_of_a_list_does() {
    use std::collections::HashMap;

    let ascending: HashMap<_, _> = (0..100).map(|key| (key, vec![format!("}}\"{key}"), "b, a".to_owned()])).collect();
    let descending: HashMap<_, _> = (0..100).rev().map(|key| (key, ascending[&key].clone())).collect();
    assert_eq!(canonical(&ascending), canonical(&descending));
    assert_ne!(canonical(&[1, 2]), canonical(&[2, 1]));
}
