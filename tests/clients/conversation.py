"""How a program and the test that started it talk: one JSON object a line, commands in on stdin, events out on stdout."""

import asyncio
import json
import sys

LINE_LIMIT = 8 * 1024 * 1024


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


async def commands():
    """Yields what the test asks for, until it closes the pipe."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield json.loads(line)


async def call(session, label, to, payload, request_id="", session_id="", close_timeout=None):
    """One `session.send()`, its outcome told under the label that the test chose."""
    session.request_id = request_id
    session.session_id = session_id
    try:
        answer = await session.send(payload, to, close_timeout=close_timeout)
    except Exception as failure:
        say("answered", label=label, exception=repr(failure))
    else:
        say("answered", label=label, is_success=answer.is_success, response=answer.response)


async def run(session, on_command=None):
    """Serves the session and the test at once, and ends when either of them does."""

    async def obey():
        async with asyncio.TaskGroup() as calls:
            async for command in commands():
                if "call" in command:
                    calls.create_task(call(session, **command["call"]))
                else:
                    on_command(command)

    serving = asyncio.create_task(session.process_events())
    obeying = asyncio.create_task(obey())
    ended, _ = await asyncio.wait({serving, obeying}, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
