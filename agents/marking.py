"""What is known of the data that one step works on, as its handler takes up more.

What a handler recalled, or heard from a child task, stays with the step: with its answer, with what it remembers, asks
models and has others do, also when the handler runs again, for what it learned may be in what it kept. Nothing
takes it away. And where the step sends something outward, its token must say that these labels may go there.
"""

from collections.abc import Iterable

from ..contracts import NotCleared
from ..contracts.labels import NO_MARKS, OUTWARD, Marks, joined, to_data
from ..contracts.memory import Record
from ..contracts.token import NO_LABELS, Allowance


class Marking:
    """Of one step, from its token on."""

    __slots__ = ("allowance", "taken")

    def __init__(self, allowance: Allowance = NO_LABELS) -> None:
        self.allowance = allowance
        self.taken: Marks = NO_MARKS
        """What was taken up beyond what the step was given."""

    def take(self, marks: Marks) -> None:
        self.taken = joined(self.taken, marks)

    def names(self, of_contract: Iterable[str] = ()) -> tuple[str, ...]:
        """All labels in force."""
        return tuple(sorted({*self.allowance.labels, *self.taken, *of_contract} - {OUTWARD}))

    def data(self) -> dict[str, list[str]] | None:
        """As an answer says it; None for nothing."""
        return to_data(self.taken) if self.taken else None

    def check_outward(self, what: str) -> None:
        """Raises NotCleared unless everything that is known of the data may go outward."""
        open_ones = {*self.allowance.labels, *self.taken} - {*self.allowance.cleared}
        if self.allowance.minded is not None:
            open_ones &= self.allowance.minded
        if open_ones:
            raise NotCleared(
                f"{what} would take outward what is {' and '.join(sorted(open_ones))}, and nobody has cleared that"
            )


def of_records(records: Iterable[Record]) -> Marks:
    """What records say of themselves, each label with the records that have it."""
    return joined(*(dict.fromkeys(each.labels, (f"record {each.id}",)) for each in records))
