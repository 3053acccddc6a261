"""Teachers of other packages, asked through the same ledger as ours. See `wizloop.plugins`."""

from dataclasses import dataclass
from datetime import date

from wizloop import plugins
from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.loop import keys
from wizloop.loop.teaching import prices, teachers
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.estimates import Expected
from wizloop.recipes.schema import BUILT_IN, Recipe
from wizloop.recipes.teaching import Remote


@dataclass(frozen=True)
class Installed:
    """An installed teacher under its name in the recipe. What it raises becomes a PluginError that names it."""

    name: str
    plugin: plugins.Teacher

    @property
    def model(self) -> str:
        """Return the model that answers."""
        return self.plugin.model

    @property
    def version(self) -> str:
        """Return the name of what else decides its answers."""
        return self.plugin.version

    @property
    def free(self) -> bool:
        """Return whether it costs nothing and a call that was cut off may be repeated."""
        return self.plugin.free

    def worst_usage(self, question: Question) -> Usage:
        """Return the most tokens that a question can take. Raises PluginError."""
        with plugins.blamed("teacher", self.name):
            return self.plugin.worst_usage(question)

    def ask(self, question: Question) -> Answer:
        """Answer once. Raises PluginError."""
        with plugins.blamed("teacher", self.name):
            return _checked(self.plugin.ask(question))

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """Read a kept answer again. Raises PluginError."""
        with plugins.blamed("teacher", self.name):
            return _checked(self.plugin.read(raw, stop_reason, question))


def is_installed(name: str) -> bool:
    """Return whether a teacher is not built in."""
    return name not in BUILT_IN["teacher"]


def build(recipe: Recipe, name: str) -> Installed:
    """Build an installed teacher as the recipe sets it up. Raises PluginError, PolicyError."""
    if not teachers.words_of(recipe).is_part_of_ours():
        raise plugins.PluginError(
            f"the teacher {name} is a plugin, whose traces have the labels harmful and unharmful, refusal and "
            "compliance: leave it out of teacher.names, or leave [tasks] out"
        )
    key = keys.find(name)
    setup = plugins.Setup(
        name,
        recipe.teacher.options.get(name, {}),
        None if key is None else key.secret.get_secret_value(),
        teachers.instruction_of(recipe),
    )
    return Installed(name, plugins.teacher(name, setup))


def client_of(recipe: Recipe, name: str, table: prices.Table, day: date, *, capped: bool) -> TeacherClient:
    """Return an installed teacher with its price and its threads.

    Raises PluginError, PolicyError, PriceError where a cap needs a price, or a bound of its tokens, that is not known.
    """
    teacher = build(recipe, name)
    tariff = None if teacher.free else table.tariff(name, teacher.model, day)
    if capped and not teacher.free:
        _refuse_unbounded(teacher, tariff)
    threads = teacher.plugin.concurrency
    return TeacherClient(teacher, tariff, Remote(model=teacher.model, concurrency=threads) if threads else None)


def bound(client: TeacherClient, questions: int, most_usd: float | None) -> Expected:
    """Return the most that questions to an installed teacher will take: its typical usage is unknown."""
    if client.teacher.free:
        return Expected(questions, 0, 0, 0.0, 0, "it costs nothing")
    return Expected(questions, 0, 0, most_usd, 0, "at most: its typical usage is unknown")


def _refuse_unbounded(teacher: Installed, tariff: prices.Tariff | None) -> None:
    if tariff is None:
        raise prices.PriceError(
            f"no price of {teacher.name}'s {teacher.model} is known, and no budget can be enforced without it: give it "
            "in a file that teacher.prices names, or set no budget"
        )
    if teacher.worst_usage(Question("", "?")) == Usage():
        raise prices.PriceError(
            f"the teacher {teacher.name} gives no bound of a question's tokens (worst_usage), and no budget can be "
            "enforced without it: set no budget, or complete the plugin"
        )


def _checked(answer: Answer) -> Answer:
    if not isinstance(answer, Answer):
        raise TypeError(f"it returned a {type(answer).__name__}, not an Answer")
    if (answer.trace is not None) != (answer.outcome == "ok"):
        raise ValueError(f"its answer is {answer.outcome}, {'with' if answer.trace else 'without'} a trace")
    return answer
