"""A replay script: handlers by section and pattern, run over the questions of one recording in their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, TypeVar

from .facts import Question

__all__ = ["NO_REPLAY", "Script", "entering", "leaving", "on"]

NO_REPLAY = "no replay"
Handler = Callable[..., Any]
_F = TypeVar("_F", bound=Callable[..., Any])


class _Marked(Protocol):
    golden_rules: list[tuple[str, str, re.Pattern[str] | None]]


def _mark(kind: str, section: str, what: str | None) -> Callable[[_F], _F]:
    def decorate(function: _F) -> _F:
        rules = getattr(function, "golden_rules", [])
        rules.append((kind, section, None if what is None else re.compile(what)))
        function.golden_rules = rules  # type: ignore[attr-defined]
        return function

    return decorate


def on(section: str, what: str) -> Callable[[_F], _F]:
    """Answer the facts of `section` (a regular expression) whose `what` matches; groups are given as arguments."""
    return _mark("on", section, what)


def entering(section: str) -> Callable[[_F], _F]:
    """Do what the recording did unrecorded before the first fact of `section`."""
    return _mark("enter", section, None)


def leaving(section: str) -> Callable[[_F], _F]:
    """Do what the recording did unrecorded after the last fact of `section`."""
    return _mark("leave", section, None)


class Script:
    """Base of the replays.  The handlers are methods marked with `on`; the first that matches is taken."""

    _handlers: ClassVar[list[tuple[str, str, re.Pattern[str] | None, Handler]]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._handlers = [
            (kind, section, pattern, member)
            for klass in cls.__mro__
            for member in vars(klass).values()
            for kind, section, pattern in getattr(member, "golden_rules", ())
        ]

    def run(self, questions: Iterable[Question]) -> dict[str, Any]:
        """Answer all questions: id -> answer.  A handler that breaks answers ``{"exception": ...}``."""
        answers: dict[str, Any] = {}
        section = ""
        for question in questions:
            if question.section != section:
                self._hooks("leave", section)
                section = question.section
                self._hooks("enter", section)
            answers[question.id] = self._answer(question)
        self._hooks("leave", section)
        return answers

    def _hooks(self, kind: str, section: str) -> None:
        for rule, at, _, handler in self._handlers:
            if rule == kind and re.fullmatch(at, section):
                try:
                    handler(self)
                except Exception as error:
                    self.problems.append(f"{kind} {section!r}: {type(error).__name__}: {error}")

    def _answer(self, question: Question) -> Any:
        for rule, at, pattern, handler in self._handlers:
            if rule != "on" or pattern is None or not re.fullmatch(at, question.section):
                continue
            match = pattern.fullmatch(question.what)
            if match is None:
                continue
            try:
                return handler(self, question, *match.groups())
            except Exception as error:
                return {"exception": f"{type(error).__name__}: {error}"}
        try:
            return self.otherwise(question)
        except Exception as error:
            return {"exception": f"{type(error).__name__}: {error}"}

    def otherwise(self, question: Question) -> Any:
        """The answer where no handler matches: that there is none, which is a failure."""
        return {"exception": NO_REPLAY}

    def __init__(self) -> None:
        self.problems: list[str] = []
