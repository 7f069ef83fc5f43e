"""What an agent says about an error that nobody meant: a line outside, everything in the log, no secret in either."""

import logging
import traceback
from collections.abc import Awaitable, Iterable

from ..contracts import AgentId, HanseError, JsonObject
from .secrets import without

log = logging.getLogger("hanse.agents")

_MAX_WORDS = 500


class Reporter:
    """One agent's voice."""

    def __init__(self, agent: AgentId, secrets: Iterable[str]) -> None:
        self._agent = agent
        self._secrets = tuple(secrets)

    def words(self, error: BaseException) -> str:
        """An error that is not ours, in a line that may leave the process."""
        text = " ".join(str(error).split())[:_MAX_WORDS]
        return self.clean(f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def clean(self, text: str) -> str:
        return without(self._secrets, text)

    def data(self, error: HanseError) -> JsonObject:
        """The error as it travels."""
        data = error.to_data()
        return data | {"detail": self.clean(data["detail"])}

    def bug(self, error: BaseException, what: str) -> None:
        """Logs an error that nobody meant, with its traceback."""
        text = self.clean("".join(traceback.format_exception(error)))
        log.error("%s: %s failed\n%s", self._agent, what, text, extra={"action": "agent.bug", "agent": self._agent})

    async def quietly(self, hook: Awaitable[None], what: str) -> None:
        """Runs a hook whose errors are logged and change nothing."""
        try:
            await hook
        except Exception as error:
            self.bug(error, what)
