"""Who customers say they are, in their own words: by email addresses, else by a name with a zip code.

The store's policy finds a customer by one of these before anything else is done, even for one who knows their user id.
"""

import re

from .plans import Action

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_NAME = re.compile(r"(?:\b(?:name is|are)|'re) ([A-Z]\w+) ([A-Z]\w+)")
_ZIP = re.compile(r"\b\d{5}\b")


def identities_in(words: str) -> tuple[Action, ...]:
    """The look-ups that the words allow, one for each address; the first that finds somebody counts."""
    if emails := _EMAIL.findall(words):
        return tuple(Action("find_user_id_by_email", {"email": email}) for email in emails)
    name, code = _NAME.search(words), _ZIP.search(words)
    if name is None or code is None:
        return ()
    return (Action("find_user_id_by_name_zip", {"first_name": name[1], "last_name": name[2], "zip": code[0]}),)
