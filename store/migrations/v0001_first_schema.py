"""First schema: every table that a run needs."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.String(27)
DIGEST = sa.LargeBinary(32)


def upgrade() -> None:
    """Create all tables, referenced ones first."""
    _models()
    _samples()
    _counts()
    _run()
    _rounds()
    _predictions()
    _guard_traces()
    _teacher_calls()
    _teacher_traces()
    _reviews()
    _training()
    _training_log()
    _results()
    _events()


def _one_of(column: str, *words: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _ref(name: str, target: str, **options: Any) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer, sa.ForeignKey(f"{target}.id"), **options)


def _required(kind: Any, *names: str) -> "list[sa.Column[Any]]":
    return [sa.Column(name, kind, nullable=False) for name in names]


def _optional(kind: Any, *names: str) -> "list[sa.Column[Any]]":
    return [sa.Column(name, kind) for name in names]


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        _ref("parent_id", "models"),
        *_required(sa.Text, "path", "sha256"),
        sa.Column("calibration_json", sa.Text),
        sa.Column("meta_json", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("name"),
        _one_of("role", "base", "member", "sft", "challenger"),
    )
    op.create_index("ix_models_round", "models", ["round"])


def _samples() -> None:
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("split", sa.String(8), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("response", sa.Text),
        *_required(sa.Text, "source", "row_ref"),
        *_optional(sa.String(16), "request", "completion", "response_label"),
        sa.Column("policy", sa.Text),
        *_required(DIGEST, "hash", "norm_hash"),
        sa.Column("excluded", sa.Text),
        sa.Column("added_at", TIME, nullable=False),
        sa.UniqueConstraint("hash"),
        _one_of("split", "pool", "seed", "dev", "test"),
    )
    op.create_index("ix_samples_split_id", "samples", ["split", "id"])


def _counts() -> None:
    op.create_table(
        "sample_counts",
        sa.Column("split", sa.String(8), primary_key=True),
        *_required(sa.Integer, "usable", "excluded"),
    )
    op.create_table(
        "label_counts",
        sa.Column("split", sa.String(8), primary_key=True),
        sa.Column("task", sa.String(16), primary_key=True),
        sa.Column("label", sa.String(16), primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
    )


def _run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, primary_key=True),
        *_required(sa.Text, "name", "recipe_json", "recipe_hash"),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("wanted", sa.String(16), nullable=False),
        sa.Column("cap_micro", sa.BigInteger),
        sa.Column("until", TIME),
        sa.Column("rounds_wanted", sa.Integer, nullable=False),
        _ref("champion_id", "models"),
        sa.Column("created_at", TIME, nullable=False),
        *_optional(TIME, "started_at", "ended_at"),
        _one_of("state", "created", "running", "paused", "stopped", "done", "failed"),
        _one_of("wanted", "run", "pause", "stop", "stop_now"),
        sa.CheckConstraint("id = 1", name="only_one"),
    )
    op.create_table(
        "controller",
        sa.Column("id", sa.Integer, primary_key=True),
        *_required(sa.Integer, "generation", "pid"),
        *_required(sa.Text, "host", "boot_id"),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.Column("doing", sa.Text, nullable=False),
        sa.Column("waiting", sa.Text),
        sa.CheckConstraint("id = 1", name="only_one"),
    )


def _rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        _ref("champion_before", "models"),
        _ref("champion_after", "models"),
        _ref("challenger", "models"),
        sa.Column("passed", sa.Boolean),
        sa.Column("gate_reason", sa.Text),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
    )
    op.create_table(
        "steps",
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("phase", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        *_required(sa.Integer, "attempts", "done", "total"),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        _one_of("state", "running", "done", "failed"),
    )


def _predictions() -> None:
    op.create_table(
        "predictions",
        _ref("model_id", "models", primary_key=True),
        _ref("sample_id", "samples", primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        *_required(sa.Text, "probability", "verdict"),
        sa.Column("confidence", sa.Float),
        sa.Column("cell", sa.String(32)),
        sa.Column("signals", sa.Text, nullable=False),
        sa.Column("n_traces", sa.Integer, nullable=False),
        sa.Column("unparsed", sa.Boolean, nullable=False),
        sa.Column("cut_tokens", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prediction_counts",
        _ref("model_id", "models", primary_key=True),
        sa.Column("split", sa.String(8), primary_key=True),
        sa.Column("cell", sa.String(32), primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
    )


def _guard_traces() -> None:
    op.create_table(
        "guard_traces",
        _ref("model_id", "models", primary_key=True),
        _ref("sample_id", "samples", primary_key=True),
        sa.Column("idx", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("stop", sa.String(8), nullable=False),
        *_required(sa.Float, "mean", "tail", "lowest", "bottom"),
        sa.Column("verdict_p", sa.Text),
        sa.Column("tokens", sa.Integer, nullable=False),
        _one_of("stop", "stop", "length", "cut"),
    )
    op.create_table(
        "selections",
        _ref("sample_id", "samples", primary_key=True, autoincrement=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("propensity", sa.Float),
        sa.Column("words", sa.Text, nullable=False),
        _one_of("reason", "uncertain_compliance", "disagreement", "low_confidence", "diversity", "random", "seed"),
    )
    op.create_index("ix_selections_round_rank", "selections", ["round", "rank"])


def _teacher_calls() -> None:
    op.create_table(
        "teacher_calls",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", DIGEST, nullable=False),
        _ref("sample_id", "samples", nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        *_required(sa.Text, "teacher", "model"),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(32)),
        sa.Column("category", sa.Text),
        sa.Column("reserved_micro", sa.BigInteger, nullable=False),
        sa.Column("cost_micro", sa.BigInteger),
        sa.Column("request_json", sa.Text, nullable=False),
        *_optional(sa.Text, "raw", "usage_json", "request_id", "stop_reason"),
        sa.Column("created_at", TIME, nullable=False),
        *_optional(TIME, "sent_at", "received_at"),
        sa.UniqueConstraint("key"),
        _one_of("state", "planned", "reserved", "sent", "received", "parsed", "refused", "failed", "ambiguous"),
    )
    op.create_index("ix_teacher_calls_state", "teacher_calls", ["state"])
    op.create_index("ix_teacher_calls_round", "teacher_calls", ["round"])
    op.create_index("ix_teacher_calls_sample_id", "teacher_calls", ["sample_id"])


def _teacher_traces() -> None:
    op.create_table(
        "budget",
        sa.Column("id", sa.Integer, primary_key=True),
        *_required(sa.BigInteger, "settled_micro", "reserved_micro"),
        sa.CheckConstraint("id = 1", name="only_one"),
    )
    op.create_table(
        "teacher_traces",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("call_id", sa.Integer, sa.ForeignKey("teacher_calls.id"), nullable=False),
        _ref("sample_id", "samples", nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        *_required(sa.Text, "teacher", "verdict"),
        sa.Column("confidence_word", sa.String(8), nullable=False),
        *_required(sa.Text, "trace_json", "explanation", "steps_json"),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("call_id"),
        _one_of("confidence_word", "low", "medium", "high"),
    )
    op.create_index("ix_teacher_traces_round", "teacher_traces", ["round"])
    op.create_index("ix_teacher_traces_sample_id", "teacher_traces", ["sample_id"])


def _reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("trace_id", sa.Integer, sa.ForeignKey("teacher_traces.id"), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        *_optional(sa.Text, "reason", "edited_json"),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("decision_id", sa.String(128), nullable=False),
        sa.UniqueConstraint("decision_id"),
        _one_of("decision", "approve", "reject", "edit", "undo", "wait"),
    )
    op.create_index("ix_reviews_trace_id", "reviews", ["trace_id"])
    op.create_table(
        "standings",
        sa.Column("trace_id", sa.Integer, sa.ForeignKey("teacher_traces.id"), primary_key=True, autoincrement=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        *_optional(sa.Text, "reason", "edited_json"),
        sa.Column("decided_at", TIME, nullable=False),
    )
    op.create_index("ix_standings_decision_trace_id", "standings", ["decision", "trace_id"])


def _training() -> None:
    op.create_table(
        "pairs",
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        _ref("sample_id", "samples", primary_key=True),
        sa.Column("task", sa.String(16), nullable=False),
        *_required(sa.Text, "chosen", "rejected"),
        sa.Column("weight", sa.Float, nullable=False),
        *_required(sa.Integer, "n_right", "n_wrong"),
        sa.Column("miner", sa.Text, nullable=False),
    )
    op.create_table(
        "uses",
        _ref("model_id", "models", primary_key=True),
        _ref("sample_id", "samples", primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("trace_id", sa.Integer, sa.ForeignKey("teacher_traces.id")),
    )


def _training_log() -> None:
    op.create_table(
        "training_log",
        _ref("model_id", "models", primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("loss", sa.Float, nullable=False),
        sa.Column("extra_json", sa.Text, nullable=False),
    )
    op.create_table(
        "dropped",
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        _ref("sample_id", "samples", primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
    )


def _results() -> None:
    op.create_table(
        "evaluations",
        _ref("model_id", "models", primary_key=True),
        sa.Column("benchmark", sa.String(64), primary_key=True),
        sa.Column("task", sa.String(16), primary_key=True),
        *_required(sa.Integer, "round", "n", "unparsed"),
        sa.Column("metrics_json", sa.Text, nullable=False),
    )
    op.create_index("ix_evaluations_round", "evaluations", ["round"])
    op.create_table(
        "exports",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        _ref("model_id", "models", nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        *_required(sa.Text, "path", "parity_json", "sha256"),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("round", "format", "path"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("phase", sa.String(32)),
        sa.Column("round", sa.Integer),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data_json", sa.Text),
        _one_of("level", "info", "warn", "error"),
    )
