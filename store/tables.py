"""Every table, as the newest migration leaves it.

Money is in micro-dollars (int), times are UTC, ids are integers. A column named `*_json` holds JSON text exactly as it
was given; the other structured columns hold values.
"""

from typing import Any

import sqlalchemy as sa

from wizloop.store import category_tables as category_tables
from wizloop.store.rating_tables import rated_outputs as rated_outputs
from wizloop.store.rating_tables import rating_sets as rating_sets
from wizloop.store.rating_tables import ratings as ratings
from wizloop.store.types import Digest, Json, UtcTime
from wizloop.store.types import metadata as metadata
from wizloop.store.types import model_column as _model
from wizloop.store.types import one_of as _one_of
from wizloop.store.types import sample_column as _sample


def _required(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _optional(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind) for name in names]


run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *_required(sa.Text, "name", "recipe_json", "recipe_hash"),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("wanted", sa.String(16), nullable=False),
    sa.Column("cap_micro", sa.BigInteger),
    sa.Column("until", UtcTime),
    sa.Column("rounds_wanted", sa.Integer, nullable=False),
    _model("champion_id"),
    sa.Column("created_at", UtcTime, nullable=False),
    *_optional(UtcTime, "started_at", "ended_at"),
    _one_of("state", "created", "running", "paused", "stopped", "done", "failed"),
    _one_of("wanted", "run", "pause", "stop", "stop_now"),
    sa.CheckConstraint("id = 1", name="only_one"),
)

controller = sa.Table(
    "controller",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *_required(sa.Integer, "generation", "pid"),
    *_required(sa.Text, "host", "boot_id"),
    sa.Column("heartbeat_at", UtcTime, nullable=False),
    sa.Column("doing", sa.Text, nullable=False),
    sa.Column("waiting", sa.Text),
    sa.CheckConstraint("id = 1", name="only_one"),
)

rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    _model("champion_before"),
    _model("champion_after"),
    _model("challenger"),
    sa.Column("passed", sa.Boolean),
    sa.Column("gate_reason", sa.Text),
    sa.Column("record", Json, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("ended_at", UtcTime),
)

steps = sa.Table(
    "steps",
    metadata,
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("phase", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    *_required(sa.Integer, "attempts", "done", "total"),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("ended_at", UtcTime),
    _one_of("state", "running", "done", "failed"),
)

samples = sa.Table(
    "samples",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("split", sa.String(8), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("response", sa.Text),
    *_required(sa.Text, "source", "row_ref"),
    *_optional(sa.String(16), "request", "completion", "response_label"),
    sa.Column("policy", sa.Text),
    sa.Column("hash", Digest, nullable=False),
    sa.Column("excluded", sa.Text),
    sa.Column("added_at", UtcTime, nullable=False),
    sa.Index(None, "split", "id"),
    # An index, not a constraint: store.bulk_import drops and recreates it.
    sa.Index(None, "hash", unique=True),
    _one_of("split", "pool", "seed", "dev", "test"),
)

leaks = sa.Table(
    "leaks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("split", sa.String(8), nullable=False),
    *_required(sa.Text, "source", "row_ref"),
    # NULL: the row has no sample of its own, because the held-out sample has the same text.
    _sample(),
    _sample("held_id", nullable=False),
    sa.Column("similarity", sa.Float, nullable=False),
    sa.Column("found_at", UtcTime, nullable=False),
    sa.UniqueConstraint("split", "source", "row_ref", "held_id"),
    sa.Index(None, "held_id"),
)

leak_search = sa.Table(
    "leak_search",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # All leaks among the samples up to this id are known.
    sa.Column("up_to", sa.Integer, nullable=False),
    sa.CheckConstraint("id = 1", name="only_one"),
)

sample_counts = sa.Table(
    "sample_counts",
    metadata,
    sa.Column("split", sa.String(8), primary_key=True),
    *_required(sa.Integer, "usable", "excluded"),
)

benchmarks = sa.Table("benchmarks", metadata, sa.Column("name", sa.String(64), primary_key=True))
"""Names under which `wizloop import` reports test samples, whose source they are."""

label_counts = sa.Table(
    "label_counts",
    metadata,
    sa.Column("split", sa.String(8), primary_key=True),
    sa.Column("task", sa.String(16), primary_key=True),
    sa.Column("label", sa.String(16), primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    _model("parent_id"),
    *_required(sa.Text, "path", "sha256"),
    sa.Column("calibration_json", sa.Text),
    sa.Column("meta_json", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("name"),
    sa.Index(None, "round"),
    _one_of("role", "base", "member", "sft", "challenger"),
)

predictions = sa.Table(
    "predictions",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
    *_required(Json, "probability", "verdict"),
    sa.Column("confidence", sa.Float),
    sa.Column("cell", sa.String(32)),
    sa.Column("signals", Json, nullable=False),
    sa.Column("n_traces", sa.Integer, nullable=False),
    sa.Column("unparsed", sa.Boolean, nullable=False),
    sa.Column("cut_tokens", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

prediction_counts = sa.Table(
    "prediction_counts",
    metadata,
    _model("model_id", primary_key=True),
    sa.Column("split", sa.String(8), primary_key=True),
    # Empty: not judged yet.
    sa.Column("cell", sa.String(32), primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
)

guard_traces = sa.Table(
    "guard_traces",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    sa.Column("idx", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("verdict", Json),
    sa.Column("stop", sa.String(8), nullable=False),
    *_required(sa.Float, "mean", "tail", "lowest", "bottom"),
    sa.Column("verdict_p", Json),
    sa.Column("tokens", sa.Integer, nullable=False),
    _one_of("stop", "stop", "length", "cut"),
)

selections = sa.Table(
    "selections",
    metadata,
    _sample(primary_key=True, autoincrement=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("propensity", sa.Float),
    sa.Column("words", sa.Text, nullable=False),
    sa.Index(None, "round", "rank"),
)

teacher_calls = sa.Table(
    "teacher_calls",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", Digest, nullable=False),
    _sample(nullable=False),
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
    sa.Column("created_at", UtcTime, nullable=False),
    *_optional(UtcTime, "sent_at", "received_at"),
    sa.UniqueConstraint("key"),
    sa.Index(None, "state"),
    sa.Index(None, "round"),
    sa.Index(None, "sample_id"),
    _one_of("state", "planned", "reserved", "sent", "received", "parsed", "refused", "failed", "ambiguous"),
)

budget = sa.Table(
    "budget",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *_required(sa.BigInteger, "settled_micro", "reserved_micro"),
    sa.CheckConstraint("id = 1", name="only_one"),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tag", sa.String(64), nullable=False),
    *_required(sa.Text, "teacher", "model"),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("provider_id", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    *_optional(UtcTime, "submitted_at", "ended_at"),
    sa.UniqueConstraint("tag"),
    sa.Index(None, "state"),
    _one_of("state", "intent", "submitted", "collected", "dropped"),
)

sendings = sa.Table(
    "sendings",
    metadata,
    sa.Column("call_id", sa.Integer, sa.ForeignKey("teacher_calls.id"), primary_key=True, autoincrement=False),
    sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.id")),
    *_optional(sa.Text, "price_json", "answered_by"),
    sa.Column("retry_at", UtcTime),
    sa.Index(None, "batch_id"),
)

teacher_traces = sa.Table(
    "teacher_traces",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("call_id", sa.Integer, sa.ForeignKey("teacher_calls.id"), nullable=False),
    _sample(nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("teacher", sa.Text, nullable=False),
    sa.Column("verdict", Json, nullable=False),
    sa.Column("confidence_word", sa.String(8), nullable=False),
    *_required(sa.Text, "trace_json", "explanation", "steps_json"),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("call_id"),
    sa.Index(None, "round"),
    sa.Index(None, "sample_id"),
    _one_of("confidence_word", "low", "medium", "high"),
)

reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("trace_id", sa.Integer, sa.ForeignKey("teacher_traces.id"), nullable=False),
    sa.Column("decision", sa.String(8), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    *_optional(sa.Text, "reason", "edited_json"),
    sa.Column("decided_at", UtcTime, nullable=False),
    sa.Column("decision_id", sa.String(128), nullable=False),
    sa.UniqueConstraint("decision_id"),
    sa.Index(None, "trace_id"),
    _one_of("decision", "approve", "reject", "edit", "undo", "wait"),
)

standings = sa.Table(
    "standings",
    metadata,
    sa.Column("trace_id", sa.Integer, sa.ForeignKey("teacher_traces.id"), primary_key=True, autoincrement=False),
    sa.Column("decision", sa.String(8), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    *_optional(sa.Text, "reason", "edited_json"),
    sa.Column("decided_at", UtcTime, nullable=False),
    sa.Index(None, "decision", "trace_id"),
)

pairs = sa.Table(
    "pairs",
    metadata,
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    _sample(primary_key=True),
    sa.Column("task", sa.String(16), nullable=False),
    *_required(sa.Text, "chosen", "rejected"),
    sa.Column("weight", sa.Float, nullable=False),
    *_required(sa.Integer, "n_right", "n_wrong"),
    sa.Column("miner", sa.Text, nullable=False),
)

uses = sa.Table(
    "uses",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("trace_id", sa.Integer, sa.ForeignKey("teacher_traces.id")),
)

training_log = sa.Table(
    "training_log",
    metadata,
    _model("model_id", primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("loss", sa.Float, nullable=False),
    sa.Column("extra_json", sa.Text, nullable=False),
)

dropped = sa.Table(
    "dropped",
    metadata,
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    _sample(primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    _model("model_id", primary_key=True),
    sa.Column("benchmark", sa.String(64), primary_key=True),
    sa.Column("task", sa.String(16), primary_key=True),
    *_required(sa.Integer, "round", "n", "unparsed"),
    sa.Column("metrics_json", sa.Text, nullable=False),
    sa.Index(None, "round"),
)

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
    _model("model_id", nullable=False),
    sa.Column("format", sa.String(32), nullable=False),
    *_required(sa.Text, "path", "parity_json", "sha256"),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("round", "format", "path"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("level", sa.String(8), nullable=False),
    sa.Column("phase", sa.String(32)),
    sa.Column("round", sa.Integer),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("data_json", sa.Text),
    _one_of("level", "info", "warn", "error"),
)
