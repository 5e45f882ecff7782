"""What may serve as an email, a name and a password. Pure: each says what is wrong in words for a person."""

from app.wording import gettext as _

LONGEST_EMAIL = 254
LONGEST_NAME = 100
LEAST_PASSWORD = 10
MOST_PASSWORD = 1000
"""A bound on the work that a stranger can make us do, far beyond what anyone remembers."""


def email_problem(email: str) -> str | None:
    """What keeps this from being an email address, or None. Whether it exists only a letter could tell."""
    local, _at, domain = email.rpartition("@")
    is_plain = email.isprintable() and not any(character.isspace() for character in email)
    if not (local and domain and is_plain and "@" not in local):
        return _("This does not look like an email address, such as name@example.org.")
    if len(email) > LONGEST_EMAIL:
        return _("Use at most %(most)s characters.", most=LONGEST_EMAIL)
    return None


def name_problem(name: str) -> str | None:
    """What keeps this from being shown as a person's name, or None."""
    if not any(character.isalnum() for character in name):
        return _("Please enter a name.")
    if not name.isprintable():
        return _("Please leave out line breaks and invisible characters.")
    if len(name) > LONGEST_NAME:
        return _("Use at most %(most)s characters.", most=LONGEST_NAME)
    return None


def password_problem(password: str, *, email: str) -> str | None:
    """What is wrong with a new password of the person with this email, or None."""
    if len(password) < LEAST_PASSWORD:
        return _("Use at least %(least)s characters; this has %(given)s.", least=LEAST_PASSWORD, given=len(password))
    if len(password) > MOST_PASSWORD:
        return _("Use at most %(most)s characters.", most=MOST_PASSWORD)
    if password.strip().casefold() == email.strip().casefold():
        return _("Your email address is the first thing anyone would try. Choose something else.")
    if len(set(password)) < 4:
        return _("This repeats the same few characters. A few words in a row are easy to remember.")
    return None
