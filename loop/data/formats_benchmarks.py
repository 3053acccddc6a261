"""Known benchmarks and training sets of recent guards, in their published columns.

The columns are those of the dataset cards, and of loaders in public repositories where a card does not list them:

- OR-Bench: bench-llm/or-bench. All its parts have the same columns, so the part has to be named.
- SORRY-Bench: sorry-bench/sorry-bench-202406 and -202503. SALAD-Bench: OpenSafetyLab/Salad-Data, four parts.
- XSTest v2: `xstest_v2_prompts.csv` of paul-rottger/exaggerated-safety; the type says which prompts are unsafe.
- WildJailbreak: allenai/wildjailbreak, `train.tsv` and `eval.tsv`.
- PolyGuardMix: ToxicityPrompts/PolyGuardMix, with yes and no; PolyGuardPrompts has WildGuard's columns and words.
- Qwen3GuardTest: Qwen/Qwen3GuardTest; its label is about the answer, with the thinking before it.
"""

from collections.abc import Mapping

from wizloop.loop.data.conversations import opened
from wizloop.loop.data.formats import (
    ASSUMED,
    HARMFUL,
    UNHARMFUL,
    Constant,
    Content,
    Format,
    Labels,
    columns,
    known_labels,
    word,
)
from wizloop.loop.data.label_words import THIRD, Given, word_of
from wizloop.loop.data.records import Record, RowRefused
from wizloop.loop.words import Task

OR_BENCH = columns("prompt category")
OR_BENCH_CATEGORIES = columns("deception harassment harmful hate illegal privacy self-harm sexual unethical violence")
XSTEST_SAFE = columns(
    "homonyms figurative_language safe_targets safe_contexts definitions real_group_nons_discr nons_group_real_discr "
    "historical_events privacy_public privacy_fictional"
)
XSTEST_UNSAFE = columns(
    "contrast_homonyms contrast_figurative_language contrast_safe_targets contrast_safe_contexts contrast_definitions "
    "contrast_discr contrast_historical_events contrast_privacy"
)
"""The types that are the unsafe twins of safe ones."""
ANSWERED: Mapping[str, Mapping[Task, str]] = {
    "harmful": {"request": "harmful", "completion": "refusal", "response": "unharmful"},
    "benign": {"request": "unharmful", "completion": "compliance", "response": "unharmful"},
}
"""WildJailbreak answered its harmful requests with refusals, and the others with help."""
YES_OR_NO: Mapping[Task, Mapping[str, str]] = {
    "request": {"yes": "harmful", "no": "unharmful"},
    "completion": {"yes": "refusal", "no": "compliance"},
    "response": {"yes": "harmful", "no": "unharmful"},
}


def _sorry_bench(record: Record) -> Content:
    category = record["category"]
    policy = str(category) if isinstance(category, int | str) and category != "" else None
    turns = opened(record["turns"])
    return Content(turns[0] if isinstance(turns, list) and turns else turns, None, HARMFUL, None, policy)


def _is_or_bench(record: Record, _name: str) -> bool:
    return record.keys() == OR_BENCH and str(record["category"]) in OR_BENCH_CATEGORIES


def _is_never_shown(_record: Record, _name: str) -> bool:
    return False


def _xstest_v2(record: Record) -> Content:
    kind = str(record["type"])
    if kind not in XSTEST_SAFE | XSTEST_UNSAFE:
        raise RowRefused(f"unknown type {kind[:40]!r}: it is none of XSTest's")
    return Content(record["prompt"], None, HARMFUL if kind in XSTEST_UNSAFE else UNHARMFUL, None, kind)


def _is_xstest_v2(record: Record, _name: str) -> bool:
    return str(record["type"]) in XSTEST_SAFE | XSTEST_UNSAFE and record.keys().isdisjoint(("label", "final_label"))


def _wildjailbreak(record: Record) -> Content:
    """Read the train half, with its answers, and the evaluation half without them."""
    style, harm = _data_type(record)
    answer = record.get("completion") or None
    labels: Mapping[Task, str] = ANSWERED[harm] if answer else {"request": ANSWERED[harm]["request"]}
    return Content(record[style], answer, labels, policy=word(record, "data_type"))


def _data_type(record: Record) -> tuple[str, str]:
    """Return vanilla or adversarial, which is the prompt's column, and harmful or benign. Raises RowRefused."""
    kind = str(record["data_type"])
    style, _, harm = kind.partition("_")
    if style not in ("vanilla", "adversarial") or harm not in ANSWERED:
        raise RowRefused(f"unknown data_type {kind[:40]!r}: it is none of WildJailbreak's")
    return style, harm


def _is_wildjailbreak(record: Record, _name: str) -> bool:
    try:
        return bool(_data_type(record))
    except RowRefused:
        return False


def _polyguard_mix(record: Record) -> Content:
    columns_of: dict[Task, str] = {
        "request": "prompt_harm_label",
        "completion": "response_refusal_label",
        "response": "response_harm_label",
    }
    response = None if word_of(record["response"]) is None else record["response"]
    given = {
        task: YES_OR_NO[task].get(str(record[column]).strip().casefold(), record[column])
        for task, column in columns_of.items()
        if word_of(record[column]) is not None and (response is not None or task == "request")
    }
    policy = word(record, "prompt_safety_categories")
    return Content(record["prompt"], response, known_labels(**given), policy=policy)


def _qwen3guard_test(record: Record) -> Content:
    labels: Labels = {"response": Given(record.get("label"), THIRD)}
    return Content(record["message"], None, labels, policy=word(record, "unsafe_type"))


def _has_turns(record: Record, _name: str) -> bool:
    turns = record["message"]
    return isinstance(turns, list) and bool(turns) and all(isinstance(turn, dict) and "role" in turn for turn in turns)


BENCHMARK_SETS: tuple[Format, ...] = (
    # Before WildGuard's, whose columns it has too.
    Format(
        "polyguardmix",
        columns(
            "prompt response prompt_harm_label response_refusal_label response_harm_label prompt_safety_categories"
        ),
        _polyguard_mix,
    ),
    Format(
        "wildjailbreak",
        columns("vanilla adversarial completion data_type"),
        _wildjailbreak,
        _is_wildjailbreak,
        "assumed of its answers, as in the published set: harmful requests are refused, the others complied with, and "
        "no answer is harmful",
    ),
    Format("wildjailbreak eval", columns("adversarial data_type"), _wildjailbreak, _is_wildjailbreak),
    Format(
        "qwen3guard test",
        columns("unique_id message"),
        _qwen3guard_test,
        _has_turns,
        "its labels are about the answers with their thinking; Controversial is neither class and leaves no label "
        "(or say what it is: --label controversial=harmful)",
    ),
    Format("xstest v2 prompts", columns("type prompt"), _xstest_v2, _is_xstest_v2),
    Format(
        "sorry-bench",
        columns("question_id category turns prompt_style"),
        _sorry_bench,
        note=f"{ASSUMED}: request harmful",
    ),
    Format("salad-bench", columns("question 1-category"), Constant("question", HARMFUL, "2-category")),
    Format("salad-bench attacks", columns("augq baseq 1-category"), Constant("augq", HARMFUL, "2-category")),
    Format("salad-bench defenses", columns("daugq baseq 1-category"), Constant("daugq", HARMFUL, "2-category")),
    Format(
        "salad-bench choices",
        columns("mcq baseq gt"),
        lambda record: Content(record["mcq"], policy=word(record, "2-category")),
        note="a multiple choice quotes harmful questions and asks none, so its rows have no labels",
    ),
    Format(
        "or-bench",
        OR_BENCH,
        lambda record: Content(record["prompt"], policy=word(record, "category")),
        _is_or_bench,
        "its harmless and its harmful parts have the same columns, so its rows have no labels: name the part "
        "(--format or-bench-80k, or-bench-hard-1k or or-bench-toxic)",
    ),
    Format("or-bench-80k", OR_BENCH, Constant("prompt", UNHARMFUL), _is_never_shown),
    Format("or-bench-hard-1k", OR_BENCH, Constant("prompt", UNHARMFUL), _is_never_shown),
    Format("or-bench-toxic", OR_BENCH, Constant("prompt", HARMFUL), _is_never_shown),
)
