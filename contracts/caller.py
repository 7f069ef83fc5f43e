"""On whose behalf something is asked of the model pool or of the memory: who pays, who may see, until when."""

from pydantic import BaseModel, ConfigDict, Field

from .ids import AgentId, CapabilityName, StepId, TaskId, Tenant


class Caller(BaseModel):
    """Filled in by the runtime from credentials and calls, never by the handler or the client itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    tenant: Tenant = Field(min_length=1)
    by: str = ""
    """The credential's name: an agent, a person, a client."""
    task: TaskId | None = None
    step: StepId | None = None
    agent: AgentId | None = None
    capability: CapabilityName | None = None
    labels: tuple[str, ...] = ()
    """What is known of the data that the caller works on: `private`, `untrusted`, …"""
    budget_cents: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What may still be spent; None when nobody set a limit."""
    deadline_ms: int = 0
    """Unix milliseconds after which nobody waits; 0 when somebody always does."""
    interactive: bool = False
    """Somebody looks at a screen: goes before work that nobody watches."""
