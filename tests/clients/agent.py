"""An agent that does what each invocation's `task` says. Runs on genai-protocol 1.x and 2.x alike.

Environment: ROUTER_WS_URL, and AGENT_JWT_TOKEN or, for a master agent (1.x only), MASTER_API_KEY.
"""

import asyncio
import inspect
import os
from collections import defaultdict
from io import BytesIO

import conversation
from genai_session.session import GenAISession
from pydantic import BaseModel


class Verdict(BaseModel):
    response: str
    confidence: float


def open_session():
    """1.x takes its settings as arguments, 2.x reads them from the environment."""
    if "jwt_token" not in inspect.signature(GenAISession).parameters:
        return GenAISession()
    return GenAISession(
        ws_url=os.environ["ROUTER_WS_URL"],
        jwt_token=os.environ.get("AGENT_JWT_TOKEN", ""),
        api_key=os.environ.get("MASTER_API_KEY", ""),
    )


session = open_session()
gates = defaultdict(asyncio.Event)


@session.bind(name="worker", description="Does what it is told")
async def work(agent_context, task: str, value=None, to: str = ""):
    invoked_by = getattr(agent_context, "invoked_by", None)  # 2.x only
    conversation.say("started", task=task, value=value, invoked_by=invoked_by)
    match task:
        case "echo":
            return value
        case "wait":
            await gates[value].wait()
            return value
        case "log":
            for line in value:
                agent_context.logger.warning(line)
            return len(value)
        case "ask":
            answer = await session.send(value, to)
            return {"is_success": answer.is_success, "response": answer.response}
        case "raise":
            raise ValueError(value)
        case "model":
            return Verdict(response=value, confidence=0.5)
        case "bytes":
            return value.encode()
        case "file":
            return BytesIO(value.encode())
        case "unserialisable":
            return object()


def on_command(command):
    gates[command["release"]].set()


if __name__ == "__main__":
    asyncio.run(conversation.run(session, on_command))
