"""Money: dollars as floats on the surface, because the store's documents have them, and whole cents inside.

A float of dollars with two decimals and its cents convert into each other without loss up to 10^13 dollars.
"""


def cents(dollars: float) -> int:
    """The nearest whole cents. What float arithmetic left below a cent is dropped."""
    return round(dollars * 100)


def dollars(cents: int) -> float:
    """The float that is printed with at most two decimals."""
    return cents / 100


def spoken(dollars: float) -> str:
    """As letters write it: `$1,234.50`."""
    return f"${abs(dollars):,.2f}"
