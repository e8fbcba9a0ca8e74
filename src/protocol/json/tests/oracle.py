"""Checks what the scanner made of each text against what CPython makes of it.

One JSON object a line comes in; every disagreement goes out, and then the number of texts that were checked.
"""

import json
import math
import re
import sys


def canonical(value):
    return json.dumps(value, sort_keys=True)


def as_text(value):
    """A string, unless it has a lone surrogate."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def check_object(case, value):
    for name, field in case["fields"].items():
        if field is None:
            assert name not in value, f"missed {name!r}"
            continue
        found = value[name]
        assert canonical(json.loads(field["raw"])) == canonical(found), f"value of {name!r}"
        assert field["falsy"] == (not found), f"truth of {name!r}"
        assert field["text"] == as_text(found), f"text of {name!r}"
        in_range = type(found) is int and 0 <= found < 2**64
        assert field["number"] == (found if in_range and field["raw"] != "-0" else None), f"number {name!r}"
        if isinstance(found, list):
            elements = [json.loads(element) for element in field["elements"]]
            assert canonical(elements) == canonical(found), f"elements of {name!r}"
        else:
            assert field["elements"] is None, f"elements of {name!r}"
        rest = {key: other for key, other in value.items() if key != name}
        assert canonical(json.loads(field["cut"])) == canonical(rest), f"cut of {name!r}"
        pairs = json.loads(field["spliced"], object_pairs_hook=list)
        assert pairs[0] == ("first", 1) and pairs[-1] == ("last", "\x01"), f"splice of {name!r}"
        assert name not in [key for key, _ in pairs[1:-1]], f"splice of {name!r}"


def strict_float(text):
    return float(text) if math.isfinite(float(text)) else text


def strict_int(text):
    return int(text) if -(2**63) <= int(text) < 2**64 else text


def strict_text(value):
    """The value with lone surrogates spelt out."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", lambda lone: f"\\u{ord(lone[0]):04x}", value)
    if isinstance(value, list):
        return [strict_text(element) for element in value]
    if isinstance(value, dict):
        return {strict_text(key): strict_text(element) for key, element in value.items()}
    return value


def check_strict(case):
    expected = json.loads(case["text"], parse_float=strict_float, parse_int=strict_int, parse_constant=str)
    made = json.loads(case["strict"], parse_constant=lambda constant: sys.exit(f"{constant} in strict JSON"))
    assert canonical(strict_text(expected)).lower() == canonical(made).lower(), "strict"


def check(case):
    try:
        value = json.loads(case["text"])
    except ValueError:
        assert case["verdict"] == "not JSON", "Python rejects it"
        return
    assert case["verdict"] == ("object" if isinstance(value, dict) else "not an object"), "Python accepts it"
    check_strict(case)
    if isinstance(value, dict):
        check_object(case, value)


checked = 0
for line in sys.stdin:
    case = json.loads(line)
    try:
        check(case)
    except AssertionError as disagreement:
        print(f"{disagreement}: {case}")
    checked += 1
print(checked)
