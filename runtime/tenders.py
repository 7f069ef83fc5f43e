"""Tenders: explicit calls for proposals under way, for contracts that ask for one.

Each eligible agent is asked about the very input. The tender closes when all have answered or the time is over; who
has not answered by then has not bid.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..contracts import AgentId, Bid
from ..contracts.messages import Proposed
from .directory import Member
from .execution import Run, StepRun
from .roster import Roster

SECONDS = 1.0
"""How long bids are waited for."""


@dataclass(slots=True)
class _Tender:
    run: Run
    step: StepRun
    asked: set[AgentId]
    bids: dict[AgentId, Bid] = field(default_factory=dict[AgentId, Bid])


class Tenders:
    """Open tenders by number. `settle` is given the bids of each, by agent id, when it closes."""

    def __init__(self, roster: Roster, settle: Callable[[Run, StepRun, Sequence[Bid]], None]) -> None:
        self._roster = roster
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, _Tender] = {}
        self._count = 0

    def call(self, run: Run, step: StepRun, members: Sequence[Member]) -> None:
        """Asks `members` what the step would cost them."""
        step.parked = True
        self._count += 1
        number = self._count
        self._open[number] = _Tender(run, step, {member.agent for member in members})
        for member in members:
            self._roster.ask(number, member.agent, run, step)
        self._loop.call_later(SECONDS, self._close, number)

    def proposed(self, message: Proposed) -> None:
        """A bid came in. One that nobody asked for is ignored."""
        tender, bid = self._open.get(message.number), Bid.from_data(message.bid)
        if tender is not None and bid.agent in tender.asked:
            tender.bids[bid.agent] = bid
            if len(tender.bids) == len(tender.asked):
                self._close(message.number)

    def _close(self, number: int) -> None:
        if (tender := self._open.pop(number, None)) is None:
            return
        tender.step.parked = False
        bids = [tender.bids[agent] for agent in sorted(tender.bids) if self._roster.is_here(agent)]
        self._settle(tender.run, tender.step, bids)
