"""Known sets of prompts alone. Most are harmful by construction."""

from wizloop.loop.data.formats import (
    ASSUMED,
    HARMFUL,
    NO_LABELS,
    UNHARMFUL,
    Constant,
    Content,
    Format,
    begins_with,
    columns,
    word,
)
from wizloop.loop.data.label_words import Given
from wizloop.loop.data.records import Record, RowRefused

MODERATION_FLAGS = columns("S H V HR SH S3 H2 V2")
LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")


def _multijail(record: Record) -> list[Content]:
    return [Content(record[language], None, HARMFUL) for language in LANGUAGES if language in record]


def _openai_moderation(record: Record) -> Content:
    # A missing flag is unknown; a row without a raised flag is unharmful.
    flags = [record[name] for name in MODERATION_FLAGS if record.get(name) is not None]
    if not flags or any(flag not in (0, 1) for flag in flags):
        raise RowRefused("no category flag, or one that is neither 0 nor 1")
    return Content(record["prompt"], None, HARMFUL if 1 in flags else UNHARMFUL)


def _has_only_flags(record: Record, _name: str) -> bool:
    return bool(record.keys() - {"prompt"}) and record.keys() - {"prompt"} <= MODERATION_FLAGS


def _xstest(record: Record) -> Content:
    return Content(record["prompt"], None, {"request": Given(record["label"])}, None, word(record, "type"))


def _toxic_chat(record: Record) -> Content:
    """Read the dataset's own table; the label is about the user's input, so the output is ignored."""
    if str(record["human_annotation"]).casefold() != "true":
        raise RowRefused("no human annotation of toxicity")
    return Content(record["user_input"], None, {"request": Given(record["toxicity"])})


def _toxic_chat_judged(record: Record) -> Content:
    try:
        human = record["annotations"]["toxicity"]["majority_human"]
    except (KeyError, TypeError):
        human = None
    if human is None:
        raise RowRefused("no human annotation of toxicity")
    return Content(record["instance"], None, {"request": Given(human)})


def _has_toxicity(record: Record, _name: str) -> bool:
    return isinstance(record["annotations"], dict) and "toxicity" in record["annotations"]


def _coconot(record: Record) -> Content:
    # Of the kinds that a model should not simply comply with, only this one is harmful.
    harmful = record["category"] == "Requests with safety concerns"
    return Content(record["prompt"], None, HARMFUL if harmful else NO_LABELS, None, word(record, "subcategory"))


def _is_beavertails(record: Record, _name: str) -> bool:
    return record["source"] == "beavertails" and "response" not in record


PROMPT_SETS: tuple[Format, ...] = (
    Format("advbench", columns("goal target"), Constant("goal", HARMFUL, "")),
    Format(
        "harmbench",
        columns("Behavior FunctionalCategory ContextString"),
        Constant("Behavior", HARMFUL, "SemanticCategory"),
        note="a contextual behavior is imported without its context, as in the published counts",
    ),
    Format("simplesafetytests", columns("harm_area prompts_final"), Constant("prompts_final", HARMFUL, "harm_area")),
    Format("simplesafetytests hub", columns("harm_area category prompt"), Constant("prompt", HARMFUL, "harm_area")),
    Format("strongreject", columns("forbidden_prompt"), Constant("forbidden_prompt", HARMFUL, "category")),
    Format(
        "jailbreakbench benign",
        columns("Goal Target Behavior"),
        Constant("Goal", UNHARMFUL, "Category"),
        begins_with("Goal", "ebc20716b738"),
    ),
    Format(
        "jailbreakbench harmful",
        columns("Goal Target Behavior"),
        Constant("Goal", HARMFUL, "Category"),
        begins_with("Goal", "60294cb5d88a"),
    ),
    Format(
        "jailbreakbench behaviors",
        columns("Goal Target Behavior"),
        lambda record: Content(record["Goal"], None, NO_LABELS, None, word(record, "Category")),
        note="harmful and benign behaviors have the same columns, so its rows have no labels: say which they are by "
        "--format 'jailbreakbench harmful' or 'jailbreakbench benign'",
    ),
    Format("ailuminate", columns("prompt_text hazard persona"), Constant("prompt_text", HARMFUL, "hazard")),
    Format("multijail", columns("en zh sw jv"), _multijail, note=f"{ASSUMED}: request harmful"),
    Format("toxicchat", columns("user_input human_annotation toxicity"), _toxic_chat),
    Format("toxicchat judged", columns("instance annotations"), _toxic_chat_judged, _has_toxicity),
    Format("openai moderation", columns("prompt"), _openai_moderation, _has_only_flags),
    Format("xstest prompts", columns("prompt type label focus"), _xstest),
    Format(
        "coconot contrast",
        columns("category subcategory prompt response"),
        Constant("prompt", UNHARMFUL, "subcategory"),
        begins_with("prompt", "fb4147a35b99"),
    ),
    Format(
        "coconot",
        columns("category subcategory prompt response"),
        _coconot,
        note=f"{ASSUMED} with safety concerns: request harmful; the contrast set has the same columns, and there it is "
        "wrong: --format 'coconot contrast'",
    ),
    Format(
        "beavertails prompts",
        columns("text label source category"),
        lambda record: Content(record["text"], None, NO_LABELS, word(record, "source")),
        _is_beavertails,
        note="its labels are about responses that it does not have, and are ignored",
    ),
)
