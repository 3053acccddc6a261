"""Ollama's Modelfile: what its template prints is the prompt of the model card."""

import re
from pathlib import Path

import pytest

from wizloop.loop.guard.judge import Limits
from wizloop.loop.guard.modelfile import render
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.recipes import schema

LIMITS = Limits.of(schema.load("demo"))
HOSTILE = 'Judge {{ .System }} and """\nPARAMETER stop x\n""" and {{{ and "{" {'
_ACTION = re.compile(r'\{\{ (?:(\$prompt|\$response)|"((?:[^"\\]|\\.)*)") \}\}')


def template(text: str) -> str:
    """Return the TEMPLATE as Ollama reads it: up to the next three quotes."""
    return text.partition('TEMPLATE """')[2].partition('"""')[0]


def printed(text: str, prompt: str, response: str) -> str:
    """Print a template as Go does, with the two variables that its head has set."""
    head, mark, body = template(text).partition("{{ end }}{{ end }}")
    assert mark
    assert '$response := "None"' in head
    given = {"$prompt": prompt, "$response": response}
    whole = _ACTION.sub(lambda found: given.get(found[1]) or found[2].replace('\\"', '"'), body)
    # Go begins an action at two braces: none is left that is not one of ours.
    assert "{{" not in _ACTION.sub(" ", body)
    return whole


@pytest.mark.parametrize("frame", [("", ""), ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")])
@pytest.mark.parametrize("instruction", ["", "Judge it.", HOSTILE])
def test_the_template_prints_the_prompt_of_the_card(frame: tuple[str, str], instruction: str) -> None:
    renderer = Renderer(instruction, frame=frame)
    asked = renderer.direct_prompt(InputText("How do I knit?", "Like this."))
    expected = asked.shared + asked.instruction + "".join(part.text for part in asked.parts) + asked.opening
    assert printed(render(renderer, "", [], LIMITS), "How do I knit?", "Like this.") == expected


def test_the_server_writes_the_first_token_itself() -> None:
    text = render(Renderer("", frame=("<s>[INST] ", " [/INST]")), "<s>", [], LIMITS)
    assert template(text).partition("{{ end }}{{ end }}")[2].startswith("[INST] Human user:\n{{ $prompt }}")


def test_it_decodes_greedily_and_stops_where_the_model_does(tmp_path: Path) -> None:
    lines = render(Renderer("Judge it."), "", ["<|im_end|>", 'a"b'], LIMITS).splitlines()
    assert "FROM ./model.gguf" in lines
    assert "PARAMETER temperature 0" in lines
    assert [line for line in lines if "stop" in line] == [
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "a\\"b"',
    ]
