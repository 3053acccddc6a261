"""What the store can refuse, as one small tree; a docstring is the message where none is given. No exit codes here."""

from inspect import cleandoc


class StoreError(Exception):
    """The store cannot do that."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or cleandoc(type(self).__doc__ or ""))


class NoWorkspace(StoreError):
    """There is no workspace in that folder: `wizloop start` makes one."""


class NoPlace(StoreError):
    """No workspace can be made in that folder: name another."""


class SchemaTooNew(StoreError):
    """The workspace was written by a newer wizloop: install that version to open it."""


class OtherVersion(StoreError):
    """Another version of wizloop wrote this: install that version to use it."""


class SchemaTooOld(StoreError):
    """The workspace was written by an older wizloop: `wizloop upgrade` brings it up to date."""


class Damaged(StoreError):
    """The database is not readable: put a backup in its place."""


class JournalRefused(StoreError):
    """The database does not take the journal mode that is safe here: close every other wizloop on this workspace."""


class DiskFull(StoreError):
    """The disk is full: make space, and the run can go on."""


class Busy(StoreError):
    """Another process has been writing for longer than anyone waits: try again."""


class Fenced(StoreError):
    """Another controller has taken this workspace over: this one must stop, and has written nothing."""


class NotController(StoreError):
    """Only the controller may do this: open the store with its generation."""


class ReadOnly(StoreError):
    """The store was opened for reading only, or its folder cannot be written to."""


class RolledBack(StoreError):
    """SQLite undid the transaction after an error that was caught inside it: nothing of it was written."""


class NoRun(StoreError):
    """The workspace holds no run yet: `wizloop start` makes one."""


class RunExists(StoreError):
    """The workspace already holds a run: take another folder for another run."""


class NotFound(StoreError):
    """There is no such row."""


class BadText(StoreError):
    """The text cannot be stored: it is not valid Unicode."""


class WrongState(StoreError):
    """The teacher call is not in a state that allows this."""


class AlreadyDecided(StoreError):
    """Another person has already decided on this trace."""


class NothingToUndo(StoreError):
    """This reviewer has no decision on this trace to undo."""


class BadDecision(StoreError):
    """That is not a decision that this reviewer can make."""
