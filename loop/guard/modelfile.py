"""Ollama's Modelfile of a GGUF export: it asks as the model card says, for the rest of the answer block.

A template is Go's text/template: the last user message is the prompt, the last assistant message the response. Text of
the instruction stands in it as text, whatever it spells.
"""

import re
from collections.abc import Sequence

from wizloop.loop.guard.judge import Limits
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.loop.words import NONE

NAME = "Modelfile"
_ANSWER_TOKENS = 32
"""Tokens of an answer block after its first word, in any tokenizer."""
_READ = (
    '{{ $prompt := "" }}{{ $response := "' + NONE + '" }}'
    '{{ range .Messages }}{{ if eq .Role "user" }}{{ $prompt = .Content }}'
    '{{ else if eq .Role "assistant" }}{{ $response = .Content }}{{ end }}{{ end }}'
)


_ONE_POLICY = (
    "# This guard is asked about one policy at a time, and this template asks about the first alone: change its text",
    "# to ask about another. The policies are in guard.json.",
)


def render(renderer: Renderer, bos: str, stops: Sequence[str], limits: Limits) -> str:
    """Return the Modelfile of a guard. The server writes `bos` itself; `stops` are the tokens that end a text."""
    lines = [
        "# The user's message is judged, and the assistant's message after it, if there is one. Samples are not",
        "# protected as in wizloop: special tokens that a text spells are read as such, and long texts are not cut.",
        *(_ONE_POLICY if renderer.policies is not None and renderer.policies.ask == "each" else ()),
        "FROM ./model.gguf",
        f'TEMPLATE """{_template(renderer, bos)}"""',
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {limits.prompt_tokens + _ANSWER_TOKENS}",
        f"PARAMETER num_predict {_ANSWER_TOKENS}",
        *(f"PARAMETER stop {_quoted(stop)}" for stop in stops),
    ]
    return "\n".join(lines) + "\n"


def _template(renderer: Renderer, bos: str) -> str:
    prompt = renderer.direct_prompt(InputText("PROMPT", "RESPONSE"))
    first, second = (at for at, part in enumerate(prompt.parts) if part.data)
    texts = [part.text for part in prompt.parts]
    before = (prompt.shared + prompt.instruction).removeprefix(bos) + "".join(texts[:first])
    between, after = "".join(texts[first + 1 : second]), "".join([*texts[second + 1 :], prompt.opening])
    return f"{_READ}{_literal(before)}{{{{ $prompt }}}}{_literal(between)}{{{{ $response }}}}{_literal(after)}"


def _literal(text: str) -> str:
    """Return text as a template prints it: what would begin an action or end the TEMPLATE is spelled as a Go string.

    Ollama has no other way to write three quotes in a row.
    """
    spelled = re.sub(r"\{\{|\{$", lambda found: f'{{{{ "{found[0]}" }}}}', text)
    return spelled.replace('"""', '{{ "\\"\\"\\"" }}')


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
