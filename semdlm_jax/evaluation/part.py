"""The base of the parts of a report."""

import abc
from typing import Any, ClassVar

from semdlm_jax.evaluation.report import Section
from semdlm_jax.plugins import Plugin


class Part(Plugin, abc.ABC):
    """A part of a report.

    Attributes:
        needs_split: whether it compares with held-out rows, which a text file or a portable model does not bring.
        needs_text: whether it is about the split or the text of the report.
    """

    needs_split: ClassVar[bool] = False
    needs_text: ClassVar[bool] = True

    @abc.abstractmethod
    def write(self, subject: Any) -> Section:
        """Measures a `subject.Subject`. UserError where that cannot be."""

    def check(self, subject: Any) -> None:
        """UserError, before any work, where `write` would fail for what is known already."""

    def depends_on(self, subject: Any) -> list:
        """What the section depends on besides the model, the text and the options of this part, as JSON."""
        del subject
        return []
