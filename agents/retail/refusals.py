"""Every no of the store as a type. The code is for programs, the docstring is the default wording for people.

The wording is that of the store whose data this is, so that the record of its refusals compares word for word.
"""

from ...contracts import Refusal


class CustomerNotFound(Refusal):
    """User not found"""

    code = "customers.not_found"


class OtherCustomer(Refusal):
    """This belongs to another customer; only requests of the identified customer are served"""

    code = "customers.other"


class OrderNotFound(Refusal):
    """Order not found"""

    code = "orders.not_found"


class NotPending(Refusal):
    """Non-pending order cannot be modified"""

    code = "orders.not_pending"


class NotDelivered(Refusal):
    """Non-delivered order cannot be returned"""

    code = "orders.not_delivered"


class InvalidReason(Refusal):
    """Invalid reason"""

    code = "orders.invalid_reason"


class OrderItemNotFound(Refusal):
    """Some item not found"""

    code = "orders.item_not_found"


class UnequalCounts(Refusal):
    """The number of items to be exchanged should match"""

    code = "orders.unequal_counts"


class SameItem(Refusal):
    """The new item id should be different from the old item id"""

    code = "orders.same_item"


class OtherProduct(Refusal):
    """An item can only be replaced by another item of the same product"""

    code = "orders.other_product"


class NotPaidOnce(Refusal):
    """There should be exactly one payment for a pending order"""

    code = "orders.not_paid_once"


class SamePaymentMethod(Refusal):
    """The new payment method should be different from the current one"""

    code = "orders.same_payment_method"


class ChangedSince(Refusal):
    """Something else was changed since, so this change can no longer be taken back"""

    code = "changed_since"


class ChangeNotFound(Refusal):
    """There is no such change to take back"""

    code = "change_not_found"


class ProductNotFound(Refusal):
    """Product not found"""

    code = "catalogue.product_not_found"


class VariantNotFound(Refusal):
    """Variant not found"""

    code = "catalogue.variant_not_found"


class ItemNotFound(Refusal):
    """Item not found"""

    code = "catalogue.item_not_found"


class NotAvailable(Refusal):
    """New item not found or available"""

    code = "catalogue.not_available"


class MethodNotFound(Refusal):
    """Payment method not found"""

    code = "payments.method_not_found"


class InsufficientBalance(Refusal):
    """Insufficient gift card balance to pay for this"""

    code = "payments.insufficient_balance"


class NotOriginalMethod(Refusal):
    """Payment method should be the original payment method"""

    code = "payments.not_original_method"


class EntryNotFound(Refusal):
    """There is no such entry in the ledger"""

    code = "payments.entry_not_found"


class AlreadySpent(Refusal):
    """The refund was already spent, so it cannot be taken back"""

    code = "payments.already_spent"


class RegionNotServed(Refusal):
    """This carrier does not serve the region"""

    code = "carriers.region_not_served"


class LabelNotFound(Refusal):
    """This carrier has no such label"""

    code = "carriers.label_not_found"


class InvalidExpression(Refusal):
    """Invalid expression"""

    code = "desk.invalid_expression"


class HandoverNotFound(Refusal):
    """There is no such handover"""

    code = "desk.handover_not_found"
