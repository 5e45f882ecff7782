"""People for tests."""

from itertools import count

from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from tests.conftest import NOW

_numbers = count(1)


def make_user(
    session: Session, role: Role = Role.ANNOTATOR, *, name: str = "", email: str = "", password_hash: str = "!"
) -> User:
    """A person; without a real password hash nobody can sign in as them by password."""
    number = next(_numbers)
    user = User(
        email=email or f"person{number}@example.org",
        name=name or f"Person {number}",
        role=role,
        password_hash=password_hash,
        created_at=NOW,
    )
    session.add(user)
    session.flush()
    return user
