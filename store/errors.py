"""Errors of the store. An exception's docstring is its default message."""

from inspect import cleandoc


class StoreError(Exception):
    """The store cannot do this."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or cleandoc(type(self).__doc__ or ""))


class NoWorkspace(StoreError):
    """There is no workspace in this folder: create one with `wizloop start`."""


class NoPlace(StoreError):
    """A workspace cannot be created in this folder: choose another."""


class SchemaTooNew(StoreError):
    """The workspace was written by a newer wizloop: install that version to open it."""


class OtherVersion(StoreError):
    """Another version of wizloop wrote this: install that version to use it."""


class SchemaTooOld(StoreError):
    """The workspace was written by an older wizloop: run `wizloop upgrade`."""


class Damaged(StoreError):
    """The database is damaged: restore a backup."""


class JournalRefused(StoreError):
    """The database cannot switch to the safe journal mode: close every other wizloop on this workspace."""


class DiskFull(StoreError):
    """The disk is full: free some space, then resume the run."""


class Busy(StoreError):
    """Another process has been writing for too long: try again."""


class Fenced(StoreError):
    """Another controller has taken over this workspace: this one must stop; it has written nothing."""


class NotController(StoreError):
    """Only the controller may do this: open the store with its generation."""


class ReadOnly(StoreError):
    """The store was opened read-only, or its folder is not writable."""


class RolledBack(StoreError):
    """SQLite rolled the transaction back after an error that was caught inside it: nothing was written."""


class NoRun(StoreError):
    """The workspace has no run yet: create one with `wizloop start`."""


class RunExists(StoreError):
    """The workspace already has a run: use another folder for another run."""


class NotFound(StoreError):
    """There is no such row."""


class BadText(StoreError):
    """The text cannot be stored: it is not valid Unicode."""


class WrongState(StoreError):
    """The teacher call is not in a state that allows this."""


class AlreadyDecided(StoreError):
    """Another person has already decided on this trace."""


class NothingToUndo(StoreError):
    """There is no decision of this reviewer on this trace to undo."""


class BadDecision(StoreError):
    """The reviewer cannot make this decision."""
