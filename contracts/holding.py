"""Why nothing more is tried with a step before a person has chosen, and what there is to choose from."""

from enum import StrEnum


class Why(StrEnum):
    """What holds a step up."""

    OUTCOME_UNKNOWN = "outcome_unknown"
    """It may have done something outside, and the outside cannot be asked."""
    HALF_DONE = "half_done"
    """Some of its outside effects happened, and it cannot go on to the others."""
    COMPENSATION_FAILED = "compensation_failed"
    """It should undo a step and cannot. What that step did still stands."""
    CONFIRMATION_FAILED = "confirmation_failed"
    """It should confirm what a step has staged and cannot. Nothing is confirmed or undone after it."""
    PERSON_NEEDED = "person_needed"
    """No model's answer for it was good enough."""
    POISONED = "poisoned"
    """Its agent died under it again and again."""


class Choice(StrEnum):
    """How a held step goes on."""

    AGAIN = "again"
    """Try once more, with all attempts that the contract allows."""
    HAPPENED = "happened"
    """The outside effect happened: the agent finishes the step with that."""
    NOT_HAPPENED = "not_happened"
    """It did not and will not: the agent may do it now; where the task is being undone, there is nothing to undo."""
    BY_HAND = "by_hand"
    """A person has done what the step should have done."""
    GIVE_UP = "give_up"
    """The step has failed. What stands, stands."""

    @property
    def is_ruling(self) -> bool:
        """Whether it says what came of an effect."""
        return self in (Choice.HAPPENED, Choice.NOT_HAPPENED)


CHOICES: dict[Why, tuple[Choice, ...]] = {
    Why.OUTCOME_UNKNOWN: (Choice.HAPPENED, Choice.NOT_HAPPENED, Choice.AGAIN, Choice.BY_HAND),
    Why.HALF_DONE: (Choice.AGAIN, Choice.BY_HAND, Choice.GIVE_UP),
    Why.COMPENSATION_FAILED: (Choice.AGAIN, Choice.BY_HAND, Choice.GIVE_UP),
    Why.CONFIRMATION_FAILED: (Choice.AGAIN, Choice.BY_HAND, Choice.GIVE_UP),
    Why.PERSON_NEEDED: (Choice.BY_HAND, Choice.AGAIN, Choice.GIVE_UP),
    Why.POISONED: (Choice.AGAIN, Choice.GIVE_UP),
}
