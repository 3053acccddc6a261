"""Known sets of prompts alone: most of them are harmful by construction, one row of a table each."""

from collections.abc import Callable, Mapping
from typing import Any

from wizloop.loop.data.containers import Record, RowRefused
from wizloop.loop.data.formats import NO_LABELS, Content, Format, label, word
from wizloop.loop.words import Task

HARMFUL: Mapping[Task, str] = {"request": "harmful"}
UNHARMFUL: Mapping[Task, str] = {"request": "unharmful"}
MODERATION_FLAGS = frozenset(("S", "H", "V", "HR", "SH", "S3", "H2", "V2"))
LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")


def _constant(prompt: str, policy: str, labels: Mapping[Task, str] = HARMFUL) -> Callable[[Record], Content]:
    """A reader of sets that are of one label throughout."""
    return lambda record: Content(record[prompt], None, labels, None, word(record, policy))


def _multijail(record: Record) -> list[Content]:
    return [Content(record[language], None, HARMFUL) for language in LANGUAGES if language in record]


def _openai_moderation(record: Record) -> Content:
    # A flag that is missing is unknown; unharmful is what no known flag contradicts.
    flags = [record[name] for name in MODERATION_FLAGS if record.get(name) is not None]
    if not flags or any(flag not in (0, 1) for flag in flags):
        raise RowRefused("no category flag, or one that is neither 0 nor 1")
    return Content(record["prompt"], None, HARMFUL if 1 in flags else UNHARMFUL)


def _has_only_flags(record: Record, _name: str) -> bool:
    return bool(record.keys() - {"prompt"}) and record.keys() - {"prompt"} <= MODERATION_FLAGS


def _xstest(record: Record) -> Content:
    return Content(record["prompt"], None, {"request": label(record["label"], "request")}, None, word(record, "type"))


def _toxic_chat(record: Record) -> Content:
    """The dataset's own table; what the label says is about the user's input, so the output stays out."""
    if str(record["human_annotation"]).casefold() != "true":
        raise RowRefused("no human annotation of toxicity")
    return Content(record["user_input"], None, {"request": label(record["toxicity"], "request")})


def _toxic_chat_judged(record: Record) -> Content:
    try:
        human = record["annotations"]["toxicity"]["majority_human"]
    except (KeyError, TypeError):
        human = None
    if human is None:
        raise RowRefused("no human annotation of toxicity")
    return Content(record["instance"], None, {"request": label(human, "request")})


def _has_toxicity(record: Record, _name: str) -> bool:
    return isinstance(record["annotations"], dict) and "toxicity" in record["annotations"]


def _coconot(record: Record) -> Content:
    # Of the kinds that one should not simply comply with, this alone is harmful; the others have no label of ours.
    harmful = record["category"] == "Requests with safety concerns"
    return Content(record["prompt"], None, HARMFUL if harmful else NO_LABELS, None, word(record, "subcategory"))


def _coconot_contrast(record: Record) -> Content:
    return Content(record["prompt"], None, UNHARMFUL, None, word(record, "subcategory"))


def _named(part: str) -> Callable[[Record, str], bool]:
    return lambda _record, name: part in name.casefold()


def _injections(record: Record) -> Content:
    return Content(record["text"])


def _beavertails_prompt(record: Record) -> Content:
    return Content(record["text"], None, NO_LABELS, word(record, "source"))


def _is_beavertails(record: Record, _name: str) -> bool:
    return record["source"] == "beavertails" and "response" not in record


def _is_binary(record: Record, name: str) -> bool:
    value: Any = record["label"]
    return str(value) in ("0", "1") and ("deepset" in name.casefold() or "injection" in name.casefold())


PROMPT_SETS: tuple[Format, ...] = (
    Format("advbench", frozenset(("goal", "target")), _constant("goal", "")),
    Format(
        "harmbench",
        frozenset(("Behavior", "FunctionalCategory", "ContextString")),
        _constant("Behavior", "SemanticCategory"),
        note="a contextual behaviour comes in without its context, as the published counts have it",
    ),
    Format("simplesafetytests", frozenset(("harm_area", "prompts_final")), _constant("prompts_final", "harm_area")),
    Format("simplesafetytests hub", frozenset(("harm_area", "category", "prompt")), _constant("prompt", "harm_area")),
    Format("strongreject", frozenset(("forbidden_prompt",)), _constant("forbidden_prompt", "category")),
    Format(
        "jailbreakbench benign",
        frozenset(("Goal", "Target", "Behavior")),
        _constant("Goal", "Category", UNHARMFUL),
        _named("benign"),
    ),
    Format(
        "jailbreakbench harmful",
        frozenset(("Goal", "Target", "Behavior")),
        _constant("Goal", "Category"),
        _named("harmful"),
    ),
    Format("ailuminate", frozenset(("prompt_text", "hazard", "persona")), _constant("prompt_text", "hazard")),
    Format("multijail", frozenset(("en", "zh", "sw", "jv")), _multijail),
    Format("toxicchat", frozenset(("user_input", "human_annotation", "toxicity")), _toxic_chat),
    Format("toxicchat judged", frozenset(("instance", "annotations")), _toxic_chat_judged, _has_toxicity),
    Format("openai moderation", frozenset(("prompt",)), _openai_moderation, _has_only_flags),
    Format("xstest prompts", frozenset(("prompt", "type", "label", "focus")), _xstest),
    Format(
        "coconot contrast",
        frozenset(("category", "subcategory", "prompt", "response")),
        _coconot_contrast,
        _named("contrast"),
    ),
    Format("coconot", frozenset(("category", "subcategory", "prompt", "response")), _coconot),
    Format(
        "beavertails prompts",
        frozenset(("text", "label", "source", "category")),
        _beavertails_prompt,
        _is_beavertails,
        note="its labels are about responses that it does not hold, and are left out",
    ),
    Format(
        "prompt injections",
        frozenset(("text", "label")),
        _injections,
        _is_binary,
        note="its labels are about prompt injection, which is none of our tasks, and are left out",
    ),
)
