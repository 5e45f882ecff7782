"""Whether anybody can administer this installation: asked before letting an admin go, or a first one in."""

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.errors import Conflict
from app.wording import gettext as _


def has_active_admin(session: Session) -> bool:
    """Whether there is an admin who may sign in."""
    return session.scalars(select(_active_admins().exists())).one()


def require_another_admin(session: Session, *, than: User) -> None:
    """Raise Conflict where `than` is the last one. Locks all admins: two might be removing each other."""
    admin_ids = session.scalars(_active_admins().order_by(User.id).with_for_update()).all()
    if all(admin_id == than.id for admin_id in admin_ids):
        raise Conflict(_("This is the only active admin. Make somebody else an admin first."))


def take_turns_for_first_admin(session: Session) -> None:
    """Wait until no other transaction makes a first admin or a link for one."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('palate: first admin'))"))


def _active_admins() -> Select[int]:
    return select(User.id).where(User.role == Role.ADMIN, User.deactivated_at.is_(None))
