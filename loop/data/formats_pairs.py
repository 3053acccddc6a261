"""Known sets of prompts with responses. The readers know whether a label is about the prompt or the response."""

from collections import Counter

from wizloop.loop.data.column_names import words_of
from wizloop.loop.data.conversations import opened
from wizloop.loop.data.formats import ASSUMED, UNHARMFUL, Content, Format, Labels, columns, known_labels, word
from wizloop.loop.data.formats_columns import PREFERENCE, is_preference
from wizloop.loop.data.label_words import THIRD, Given, word_of
from wizloop.loop.data.records import Record, RowRefused
from wizloop.loop.words import LABELS, Task

WILDGUARD_COLUMNS = columns("prompt response prompt_harm_label response_refusal_label response_harm_label")
AEGIS_VOTES = tuple(f"labels_{number}" for number in range(5))
NEEDS_CAUTION = "needs caution"


def _wildguard(record: Record) -> Content:
    labels = known_labels(
        request=record["prompt_harm_label"],
        completion=record["response_refusal_label"],
        response=record["response_harm_label"],
    )
    return Content(record["prompt"], record["response"], labels, policy=word(record, "subcategory"))


def _beavertails(record: Record) -> Content:
    kinds = record.get("category")
    policy = next((name for name, true in kinds.items() if true is True), None) if isinstance(kinds, dict) else None
    return Content(record["prompt"], record["response"], {"response": _said(record, "is_safe")}, policy=policy)


def _safe_rlhf(record: Record) -> list[Content]:
    return [
        Content(record["prompt"], record[f"response_{at}"], {"response": _said(record, f"is_response_{at}_safe")})
        for at in (0, 1)
    ]


def _aegis(record: Record) -> Content:
    """Read Aegis 1.0: the annotators' majority, ties go to the first vote.

    "Safe" is unharmful, "Needs Caution" is neither and leaves no label, all else is harmful.
    """
    kind = record["text_type"]
    if kind != "user_message":
        raise RowRefused(f"a {str(kind)[:40]!r} without its prompt")
    votes = [record[name] for name in AEGIS_VOTES if isinstance(record.get(name), str) and record[name]]
    if not votes:
        raise RowRefused("no request label: nobody annotated it")
    majority = Counter(votes).most_common(1)[0][0]
    third = majority.casefold() == NEEDS_CAUTION
    return Content(
        record["text"], None, {"request": Given(majority, THIRD) if third else _harm(majority.casefold() != "safe")}
    )


def _aegis_2(record: Record) -> Content:
    """Read Aegis 2.0, alias Nemotron Content Safety V2, and the sets of NVIDIA that have its columns.

    The text of a redacted prompt is in another dataset, under the id that stands here instead.
    """
    if record["prompt"] == "REDACTED" or word_of(record.get("reconstruction_id_if_redacted")) is not None:
        raise RowRefused("redacted: the set was published without the text of this prompt")
    response = record["response"] or None
    labels = known_labels(request=record["prompt_label"], response=record["response_label"] if response else None)
    return Content(record["prompt"], response, labels, policy=word(record, "violated_categories"))


def _xstest_completion(record: Record) -> Content:
    # Contrasts are the unsafe twins of the safe types. A partial refusal is neither of our two labels.
    request = "harmful" if str(record["type"]).startswith("contrast") else "unharmful"
    final = record["final_label"]
    labels = known_labels(request=request, completion=None if final == "3_partial_refusal" else final)
    return Content(record["prompt"], record["completion"], labels)


def _xstest_response(record: Record) -> Content:
    """Read one of two response sets with the same columns: the label's words show which one it is."""
    task: Task = "completion" if record["label"] in LABELS["completion"] else "response"
    kind = record["prompt_type"]
    if kind not in ("prompt_harmful", "prompt_safe"):
        raise RowRefused(f"unknown prompt_type {str(kind)[:40]!r}: prompt_harmful and prompt_safe are known")
    labels: Labels = {"request": _harm(kind == "prompt_harmful"), task: Given(record["label"])}
    return Content(record["prompt"], record["response"], labels)


def _jailbreakbench(record: Record) -> Content:
    if not record["prompt"]:
        raise RowRefused("the attack found no prompt")
    response = record["response"] or None
    labels: Labels = {"request": "harmful"}
    if response is not None:
        labels = {**labels, "response": _said(record, "jailbroken")}
    return Content(record["prompt"], response, labels, policy=word(record, "category"))


def _do_not_answer(record: Record) -> list[Content]:
    """Return one sample for each model's response; a question without responses is a prompt alone."""
    models = [name.removesuffix("_response") for name in record if name.endswith("_response")]
    policy = word(record, "risk_area")
    if not models:
        return [Content(record["question"], None, {"request": "harmful"}, policy=policy)]
    return [
        Content(record["question"], record[f"{model}_response"], _do_not_answer_labels(record, model), policy=policy)
        for model in models
    ]


def _do_not_answer_labels(record: Record, model: str) -> Labels:
    # Of the six actions 0 refuses and 5 follows the instruction; 1 to 4 are neither.
    action = {"0": "refusal", "5": "compliance"}.get(word_of(record.get(f"{model}_action")) or "")
    harm = record.get(f"{model}_harmful")
    return known_labels(request="harmful", completion=action, response=harm)


def _do_not_answer_review(record: Record) -> Content:
    # The reviews number the classes differently: 6 follows the instruction.
    action = {"0": "refusal", "6": "compliance"}.get(word_of(record["action"]) or "")
    return Content(record["question"], record["response"], known_labels(request="harmful", completion=action))


def _refusal_direction(record: Record) -> Content:
    # A substring match for refusals: 1 is a response without one.
    refused = {"0": "refusal", "1": "compliance"}.get(word_of(record["is_jailbreak_substring_matching"]) or "")
    category = word(record, "category")
    request = "harmful" if category else "unharmful"
    labels = known_labels(request=request, completion=refused, response=record.get("is_jailbreak_llamaguard2"))
    return Content(record["prompt"], record["response"], labels, policy=category)


def _star(record: Record) -> Content:
    answer = record["response"].rpartition("</think>")[2].strip() if isinstance(record["response"], str) else None
    return Content(
        record["question"], answer, {"request": "harmful", "response": "unharmful"}, source=word(record, "source")
    )


def _hh(record: Record) -> Content:
    """Read the better dialogue. The preference between the dialogues is not one of our labels."""
    dialogue = opened(record["chosen"])
    if not isinstance(dialogue, list):
        raise RowRefused("the column chosen is not a dialogue of Human and Assistant")
    return Content(dialogue)


def _coconot_preferences(record: Record) -> list[Content]:
    """Read two answers to a prompt that only looks harmful: the chosen one complies; the rejected one is just worse."""
    labels = {"chosen": known_labels(request="unharmful", completion="compliance"), "rejected": UNHARMFUL}
    policy = word(record, "subcategory")
    return [Content(record["prompt"], record[column], labels[column], policy=policy) for column in labels]


def _dices(record: Record) -> Content:
    # The annotation answers "is there harm?": Yes is harmful, whatever the file's own prompt asks.
    turn, vote = record["instance"], record["annotations"]["safety"].get("majority_human")
    if vote not in ("Yes", "No", "Unsure"):
        raise RowRefused(f"unknown response label {str(vote)[:40]!r}: Yes, No and Unsure are known")
    labels: dict[Task, str] = {} if vote == "Unsure" else {"response": _harm(vote == "Yes")}
    return Content(turn["user_prompt"], turn["response"], labels)


def _preferred(record: Record) -> Content:
    return Content(record["prompt"], record["completion"])


def _is_preference(record: Record, _name: str) -> bool:
    return is_preference(record)


def _is_dialogue(record: Record, _name: str) -> bool:
    annotations = record["annotations"]
    return isinstance(record["instance"], dict) and isinstance(annotations, dict) and "safety" in annotations


def _harm(true: bool) -> str:
    return "harmful" if true else "unharmful"


def _said(record: Record, column: str) -> Given:
    """Return what a column of true and false, whose name says what it is about, says of the response."""
    return Given(record[column], words_of(column, "response"))


PAIR_SETS: tuple[Format, ...] = (
    Format("wildguardmix", WILDGUARD_COLUMNS, _wildguard),
    Format("beavertails", columns("prompt response is_safe"), _beavertails),
    Format("saferlhf", columns("prompt response_0 response_1 is_response_0_safe is_response_1_safe"), _safe_rlhf),
    Format(
        "aegis",
        columns("text text_type labels_0"),
        _aegis,
        note="a majority of Needs Caution is neither safe nor unsafe and leaves no label (or say what it is: "
        "--label 'needs caution=harmful')",
    ),
    Format("aegis 2", columns("prompt response prompt_label response_label"), _aegis_2),
    Format(
        "xstest completions",
        columns("prompt completion type final_label"),
        _xstest_completion,
        note=f"{ASSUMED}: request harmful in a contrast, else unharmful",
    ),
    Format("xstest responses", columns("prompt response label prompt_type"), _xstest_response),
    Format("kto", columns("prompt completion label"), _preferred, _is_preference, note=PREFERENCE),
    Format(
        "jailbreakbench artifacts",
        columns("goal prompt response jailbroken"),
        _jailbreakbench,
        note=f"{ASSUMED}: request harmful",
    ),
    Format("do-not-answer", columns("question risk_area"), _do_not_answer, note=f"{ASSUMED}: request harmful"),
    Format(
        "do-not-answer reviews",
        columns("question response action action_review"),
        _do_not_answer_review,
        note=f"{ASSUMED}: request harmful",
    ),
    Format(
        "refusal direction",
        columns("prompt response is_jailbreak_substring_matching category"),
        _refusal_direction,
        note=f"{ASSUMED}: request harmful with a category, else unharmful",
    ),
    Format(
        "star-1",
        columns("question response category score"),
        _star,
        note=f"{ASSUMED}: request harmful, response unharmful",
    ),
    Format("hh-rlhf", columns("chosen rejected"), _hh, lambda record, _name: "prompt" not in record),
    Format(
        "coconot preferences",
        columns("category subcategory prompt chosen rejected"),
        _coconot_preferences,
        note=f"{ASSUMED}: request unharmful, and the chosen answer complies",
    ),
    Format("dices", columns("instance annotations"), _dices, _is_dialogue),
)
