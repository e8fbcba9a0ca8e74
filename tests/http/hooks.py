"""What schemathesis cannot know of the interface."""

import json
import os

import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode

# For each list, a cursor that it gave out.
CURSORS = json.loads(os.environ["CURSORS"])

# No text is a cursor but one that was given out; which one it is, is decided when the list is known.
schemathesis.openapi.format("cursor", strategies.just("AAAAAAAAAAA"))


@schemathesis.hook
def before_call(context, case, kwargs):
    """What a list goes on behind is there, and a cursor goes with the filters that it was given out for: none here."""
    meta = case.meta
    if meta is not None and meta.generation.mode != GenerationMode.POSITIVE:
        return
    if case.headers and "Last-Event-ID" in case.headers:
        case.headers["Last-Event-ID"] = "1"
    query = case.query
    if not query or "cursor" not in query:
        return
    cursor = CURSORS.get(case.operation.path)
    case.query = {"cursor": cursor} if cursor else {name: query[name] for name in query if name != "cursor"}
