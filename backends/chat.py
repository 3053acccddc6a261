"""A base model's chat template as the text around one user turn. It knows tokenizers and no model."""

from functools import cache

from wizloop.backends.guard_types import BackendError

_MARK = "wizloop-user-turn"


@cache
def frame(base: str) -> tuple[str, str]:
    """What stands before the user's turn, and between it and the answer. Raises BackendError without a template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise BackendError(f'{base} has no chat template: set guard.template to "raw"')
    turn = [{"role": "user", "content": _MARK}]
    text = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    before, mark, after = text.partition(_MARK)
    if not mark:
        raise BackendError(f'the chat template of {base} does not show the user\'s turn: set guard.template to "raw"')
    return before, after
