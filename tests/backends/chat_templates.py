"""Small chat templates of the forms that published models have; each is written for these tests."""

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
ASKED = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
CHATML = TURNS + ASKED

LLAMA = (
    "{{ bos_token }}<|system|>Today Date: {{ strftime_now('%d %b %Y %H:%M:%S.%f') }}<|end|>"
    "{% for m in messages %}<|{{ m.role }}|>\n\n{{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
"""Prints the moment, in microseconds: no two renderings are alike."""

QWEN = (
    TURNS + "{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
DEEPSEEK = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
GRANITE = (
    "<|system|>{% if thinking %}Think first.{% else %}Answer.{% endif %}<|end|>" + TURNS + ASKED + "{% if thinking is "
    "not defined and add_generation_prompt %}<think>{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %} "
    "{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PARTS = "{% for m in messages %}{{ m.role }}: {% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
PARTS += "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('The first turn must be the system') }}{% endif %}"
    + CHATML
)
HARMONY = (
    "<|start|>system<|message|>Date: {{ strftime_now('%Y-%m-%d') }}\nReasoning: {{ reasoning_effort or 'medium' }}"
    "<|end|>{% for m in messages %}{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>"
    "{{ m.content }}<|return|>{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""gpt-oss's form: channels in an assistant's turn, and no channel in the generation prompt."""
HARMONY_TOKENS = ("<|start|>", "<|message|>", "<|channel|>", "<|end|>")

EFFORT = (
    "{% if reasoning_effort is defined and reasoning_effort not in ['none', 'high'] %}{{ raise_exception('effort') }}"
    "{% endif %}" + CHATML
)

RAISES = "{{ raise_exception('no turns today') }}"
DIVIDES = "{{ 1 // 0 }}"
TWICE = "{{ messages[-1].content }}" + CHATML
DROPS = "<|user|>...<|assistant|>"
ESCAPES = "{% for m in messages %}{{ m.content | tojson }}{% endfor %}"
SHOUTS = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
"""None of these shows the user's turn once and as it is."""
