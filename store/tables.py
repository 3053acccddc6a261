"""Every table, as the newest migration leaves it. No questions are asked here.

Money is in micro-dollars (int), times are UTC, ids are integers. A column named `*_json` holds JSON text exactly as it
was given; the other structured columns hold values.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from wizloop.store.types import Digest, Json, UtcTime

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
"""How constraints are named, in the tables and in the migrations: what has no name cannot be changed later."""

metadata = MetaData(naming_convention=NAMES)


def _one_of(column: str, *words: str) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _model(name: str, **options: Any) -> Column[int]:
    return Column(name, Integer, ForeignKey("models.id"), **options)


def _sample(name: str = "sample_id", **options: Any) -> Column[int]:
    return Column(name, Integer, ForeignKey("samples.id"), **options)


run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("recipe_json", Text, nullable=False),
    Column("recipe_hash", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("wanted", String(16), nullable=False),
    Column("cap_micro", BigInteger),
    Column("until", UtcTime),
    Column("rounds_wanted", Integer, nullable=False),
    _model("champion_id"),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    _one_of("state", "created", "running", "paused", "stopped", "done", "failed"),
    _one_of("wanted", "run", "pause", "stop", "stop_now"),
    CheckConstraint("id = 1", name="only_one"),
)

controller = Table(
    "controller",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    Column("doing", Text, nullable=False),
    Column("waiting", Text),
    CheckConstraint("id = 1", name="only_one"),
)

rounds = Table(
    "rounds",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _model("champion_before"),
    _model("champion_after"),
    _model("challenger"),
    Column("passed", Boolean),
    Column("gate_reason", Text),
    Column("record", Json, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
)

steps = Table(
    "steps",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("phase", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    _one_of("state", "running", "done", "failed"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("split", String(8), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("response", Text),
    Column("source", Text, nullable=False),
    Column("row_ref", Text, nullable=False),
    Column("request", String(16)),
    Column("completion", String(16)),
    Column("response_label", String(16)),
    Column("policy", Text),
    Column("hash", Digest, nullable=False),
    Column("norm_hash", Digest, nullable=False),
    Column("excluded", Text),
    Column("added_at", UtcTime, nullable=False),
    UniqueConstraint("hash"),
    Index(None, "split", "id"),
    _one_of("split", "pool", "seed", "dev", "test"),
)

sample_counts = Table(
    "sample_counts",
    metadata,
    Column("split", String(8), primary_key=True),
    Column("usable", Integer, nullable=False),
    Column("excluded", Integer, nullable=False),
)

label_counts = Table(
    "label_counts",
    metadata,
    Column("split", String(8), primary_key=True),
    Column("task", String(16), primary_key=True),
    Column("label", String(16), primary_key=True),
    Column("n", Integer, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("round", Integer, nullable=False),
    _model("parent_id"),
    Column("path", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("calibration_json", Text),
    Column("meta_json", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("name"),
    Index(None, "round"),
    _one_of("role", "base", "member", "sft", "challenger"),
)

predictions = Table(
    "predictions",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    Column("round", Integer, nullable=False),
    Column("probability", Json, nullable=False),
    Column("verdict", Json, nullable=False),
    Column("confidence", Float),
    Column("cell", String(32)),
    Column("signals", Json, nullable=False),
    Column("n_traces", Integer, nullable=False),
    Column("unparsed", Boolean, nullable=False),
    Column("cut_tokens", Integer, nullable=False),
    sqlite_with_rowid=False,
)

prediction_counts = Table(
    "prediction_counts",
    metadata,
    _model("model_id", primary_key=True),
    Column("split", String(8), primary_key=True),
    # Empty: not judged yet.
    Column("cell", String(32), primary_key=True),
    Column("n", Integer, nullable=False),
)

guard_traces = Table(
    "guard_traces",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("verdict", Json),
    Column("stop", String(8), nullable=False),
    Column("mean", Float, nullable=False),
    Column("tail", Float, nullable=False),
    Column("lowest", Float, nullable=False),
    Column("bottom", Float, nullable=False),
    Column("verdict_p", Json),
    Column("tokens", Integer, nullable=False),
    _one_of("stop", "stop", "length", "cut"),
)

selections = Table(
    "selections",
    metadata,
    _sample(primary_key=True, autoincrement=False),
    Column("round", Integer, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("score", Float, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("propensity", Float),
    Column("words", Text, nullable=False),
    Index(None, "round", "rank"),
    _one_of("reason", "uncertain_compliance", "disagreement", "low_confidence", "diversity", "random", "seed"),
)

teacher_calls = Table(
    "teacher_calls",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Digest, nullable=False),
    _sample(nullable=False),
    Column("round", Integer, nullable=False),
    Column("teacher", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(32)),
    Column("category", Text),
    Column("reserved_micro", BigInteger, nullable=False),
    Column("cost_micro", BigInteger),
    Column("request_json", Text, nullable=False),
    Column("raw", Text),
    Column("usage_json", Text),
    Column("request_id", Text),
    Column("stop_reason", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Column("received_at", UtcTime),
    UniqueConstraint("key"),
    Index(None, "state"),
    Index(None, "round"),
    Index(None, "sample_id"),
    _one_of("state", "planned", "reserved", "sent", "received", "parsed", "refused", "failed", "ambiguous"),
)

budget = Table(
    "budget",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("settled_micro", BigInteger, nullable=False),
    Column("reserved_micro", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="only_one"),
)

teacher_traces = Table(
    "teacher_traces",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("call_id", Integer, ForeignKey("teacher_calls.id"), nullable=False),
    _sample(nullable=False),
    Column("round", Integer, nullable=False),
    Column("teacher", Text, nullable=False),
    Column("verdict", Json, nullable=False),
    Column("confidence_word", String(8), nullable=False),
    Column("trace_json", Text, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("steps_json", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("call_id"),
    Index(None, "round"),
    Index(None, "sample_id"),
    _one_of("confidence_word", "low", "medium", "high"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trace_id", Integer, ForeignKey("teacher_traces.id"), nullable=False),
    Column("decision", String(8), nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text),
    Column("edited_json", Text),
    Column("decided_at", UtcTime, nullable=False),
    Column("decision_id", String(128), nullable=False),
    UniqueConstraint("decision_id"),
    Index(None, "trace_id"),
    _one_of("decision", "approve", "reject", "edit", "undo", "wait"),
)

standings = Table(
    "standings",
    metadata,
    Column("trace_id", Integer, ForeignKey("teacher_traces.id"), primary_key=True, autoincrement=False),
    Column("decision", String(8), nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text),
    Column("edited_json", Text),
    Column("decided_at", UtcTime, nullable=False),
    Index(None, "decision", "trace_id"),
)

pairs = Table(
    "pairs",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    _sample(primary_key=True),
    Column("task", String(16), nullable=False),
    Column("chosen", Text, nullable=False),
    Column("rejected", Text, nullable=False),
    Column("weight", Float, nullable=False),
    Column("n_right", Integer, nullable=False),
    Column("n_wrong", Integer, nullable=False),
    Column("miner", Text, nullable=False),
)

uses = Table(
    "uses",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("trace_id", Integer, ForeignKey("teacher_traces.id")),
)

training_log = Table(
    "training_log",
    metadata,
    _model("model_id", primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("loss", Float, nullable=False),
    Column("extra_json", Text, nullable=False),
)

dropped = Table(
    "dropped",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    _sample(primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("reason", Text, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    _model("model_id", primary_key=True),
    Column("benchmark", String(64), primary_key=True),
    Column("task", String(16), primary_key=True),
    Column("round", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("unparsed", Integer, nullable=False),
    Column("metrics_json", Text, nullable=False),
    Index(None, "round"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    _model("model_id", nullable=False),
    Column("format", String(32), nullable=False),
    Column("path", Text, nullable=False),
    Column("parity_json", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("round", "format", "path"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("level", String(8), nullable=False),
    Column("phase", String(32)),
    Column("round", Integer),
    Column("message", Text, nullable=False),
    Column("data_json", Text),
    _one_of("level", "info", "warn", "error"),
)
