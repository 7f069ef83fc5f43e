"""What is said between parties: contracts, plans, bids, tokens, events, errors, ports and the wire, as pure values.

It does no I/O and knows neither Ray nor any other folder of Hanse; everybody else imports it.
"""

# The contract of a capability
from .bid import Award, Bid, CallForProposals, Offer
from .capability import (
    Capability,
    Compensation,
    Contract,
    Effect,
    Negotiation,
    RetryPolicy,
    Risk,
    capabilities_of,
    capability,
)

# Errors
from .errors import (
    ApprovalDenied,
    ApprovalExpired,
    BudgetExhausted,
    Canceled,
    Conflict,
    ContractBreach,
    Corrupt,
    DeadlineExceeded,
    DigestMismatch,
    Failed,
    Fenced,
    HanseError,
    InvalidConfiguration,
    InvalidContract,
    InvalidInput,
    InvalidPlan,
    KeyReused,
    LoopDetected,
    ModelUnavailable,
    NotAllowed,
    NotAuthenticated,
    NotCleared,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Permanent,
    PersonNeeded,
    PolicyError,
    Refusal,
    StorageError,
    TimedOut,
    TokenInvalid,
    TooLarge,
    Transient,
    Unavailable,
    Verdict,
)

# What happened
from .events import Event, Kind

# Identifiers
from .ids import (
    AgentId,
    ApprovalId,
    AwardId,
    CapabilityName,
    Digest,
    Domain,
    Epoch,
    IdempotencyKey,
    Sequence,
    StepId,
    TaskId,
    Tenant,
)

# Plans
from .plan import Plan, Step

# Ports
from .ports import Clock, Entropy, Faults, NoFaults, Recorder, Store, Write

# Schemas
from .schema import Json, JsonObject, Shape, canonical, digest

# Tokens
from .token import Demand, Token

# What clients see
from .views import (
    AgentView,
    Amounts,
    AnchoringView,
    AnchorView,
    ApprovalStatus,
    ApprovalView,
    AuditReport,
    BidView,
    Budget,
    BudgetView,
    ChildView,
    Divergence,
    EditView,
    FederationView,
    Fork,
    ForkedFrom,
    GroupView,
    HeldView,
    MaterialRow,
    MemoryView,
    PlaceView,
    Problem,
    ReplayReport,
    StepStatus,
    StepView,
    Submission,
    TaskStatus,
    TaskView,
)

__all__ = [
    # The contract of a capability
    "Award",
    "Bid",
    "CallForProposals",
    "Capability",
    "Compensation",
    "Contract",
    "Effect",
    "Negotiation",
    "Offer",
    "RetryPolicy",
    "Risk",
    "capabilities_of",
    "capability",
    # Errors
    "ApprovalDenied",
    "ApprovalExpired",
    "BudgetExhausted",
    "Canceled",
    "Conflict",
    "ContractBreach",
    "Corrupt",
    "DeadlineExceeded",
    "DigestMismatch",
    "Failed",
    "Fenced",
    "HanseError",
    "HeldView",
    "InvalidConfiguration",
    "InvalidContract",
    "InvalidInput",
    "InvalidPlan",
    "KeyReused",
    "LoopDetected",
    "ModelUnavailable",
    "NotAllowed",
    "NotAuthenticated",
    "NotCleared",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "Permanent",
    "PersonNeeded",
    "PolicyError",
    "Refusal",
    "StorageError",
    "TimedOut",
    "TokenInvalid",
    "TooLarge",
    "Transient",
    "Unavailable",
    "Verdict",
    # What happened
    "Event",
    "Kind",
    # Identifiers
    "AgentId",
    "ApprovalId",
    "AwardId",
    "CapabilityName",
    "Digest",
    "Domain",
    "Epoch",
    "IdempotencyKey",
    "Sequence",
    "StepId",
    "TaskId",
    "Tenant",
    # Plans
    "Plan",
    "Step",
    # Ports
    "Clock",
    "Entropy",
    "Faults",
    "NoFaults",
    "Recorder",
    "Store",
    "Write",
    # Schemas
    "Json",
    "JsonObject",
    "Shape",
    "canonical",
    "digest",
    # Tokens
    "Demand",
    "Token",
    # What clients see
    "AgentView",
    "AnchorView",
    "AnchoringView",
    "ApprovalStatus",
    "ApprovalView",
    "AuditReport",
    "ReplayReport",
    "Divergence",
    "BidView",
    "ChildView",
    "Amounts",
    "Budget",
    "BudgetView",
    "EditView",
    "MaterialRow",
    "MemoryView",
    "PlaceView",
    "GroupView",
    "FederationView",
    "Fork",
    "ForkedFrom",
    "Problem",
    "StepStatus",
    "StepView",
    "Submission",
    "TaskStatus",
    "TaskView",
]
