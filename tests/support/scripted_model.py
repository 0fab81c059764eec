"""A model of the OpenAI Agents SDK that says what it was told to, for an agent without a network."""

from __future__ import annotations

import json
from typing import Any

from agents import Model, ModelResponse, Usage, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText


class Scripted(Model):
    """A model that says what it was told to."""

    def __init__(self, *turns: Any) -> None:
        set_tracing_disabled(disabled=True)
        self.turns = list(turns)
        self.offered: list[list[str]] = []
        self.told: list[str] = []

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: Any, *_: Any, **__: Any
    ) -> ModelResponse:
        self.offered.append([tool.name for tool in tools])
        self.told.append(json.dumps(input, default=str))
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return ModelResponse([turn], Usage(), None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        """Fail the test: the interface wants the method, and the page's example does not stream."""
        raise AssertionError("the example streams")


def calls(tool: str, **arguments: object) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(name=tool, arguments=json.dumps(arguments), call_id=tool, type="function_call")


def says(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(text=text, type="output_text", annotations=[])
    return ResponseOutputMessage(id="1", content=[content], role="assistant", status="completed", type="message")
