"""A store as a federation: each agent keeps its own part of the data and applies its own part of the store's policy.

What one customer asks for is one plan over these agents (`plans`). The agents know nothing of one another.
"""

# Agents
from .carriers import HarbourPost, PrairieExpress
from .catalogue import Catalogue

# Customers' requests
from .customer_tasks import CustomerTask, customer_tasks, of_different_customers
from .customers import Customers
from .desk import Desk

# The store as documents
from .export import exported
from .notices import Notices
from .orders import Orders
from .outcome import Outcome, outcomes
from .payments import Payments
from .plans import Action, plan_of

__all__ = [
    # Agents
    "Catalogue",
    "Customers",
    "Desk",
    "HarbourPost",
    "Notices",
    "Orders",
    "Payments",
    "PrairieExpress",
    # Customers' requests
    "Action",
    "CustomerTask",
    "Outcome",
    "customer_tasks",
    "of_different_customers",
    "outcomes",
    "plan_of",
    # The store as documents
    "exported",
]
