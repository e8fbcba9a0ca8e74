"""A backend on genai-protocol 1.x: tells every notification of the router's, and calls agents when asked to.

Environment: ROUTER_WS_URL, MASTER_API_KEY; SEND_LOGS=no for a backend that keeps its library's own logs to itself.
"""

import asyncio
import functools
import os

import conversation
from genai_session.session import GenAISession

session = GenAISession(ws_url=os.environ["ROUTER_WS_URL"], api_key=os.environ["MASTER_API_KEY"])


@session.bind(name="backend", description="Keeps the list of agents and their logs")
async def notice(
    agent_context,
    message_type: str,
    agent_uuid: str,
    agent_name: str = "",
    agent_description: str = "",
    agent_input_schema: dict | None = None,
    agent_jwt: str | None = None,
    log_message: str = "",
    log_level: str = "",
    request_id: str = "",
    session_id: str = "",
):
    """Like the real backend, refuses a notification with any other key in it."""
    fields = {
        "agent_register": {
            "agent_name": agent_name,
            "agent_description": agent_description,
            "agent_input_schema": agent_input_schema,
            "agent_jwt": agent_jwt,
        },
        "agent_log": {
            "log_message": log_message,
            "log_level": log_level,
            "request_id": request_id,
            "session_id": session_id,
        },
    }.get(message_type, {})
    conversation.say(message_type, agent_uuid=agent_uuid, **fields)


if __name__ == "__main__":
    session.process_events = functools.partial(
        session.process_events, send_logs=os.environ.get("SEND_LOGS") != "no"
    )
    asyncio.run(conversation.run(session))
