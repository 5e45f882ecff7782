"""Tables of people, their sign-ins, and the links that let them in."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base, stored_by_value
from app.wording import mark as N_


class Role(StrEnum):
    """What a person may be granted, lowest first; campaigns grant it one by one, admins have it everywhere."""

    ANNOTATOR = N_("annotator")
    RESEARCHER = N_("researcher")
    MANAGER = N_("manager")
    ADMIN = N_("admin")

    @property
    def level(self) -> int:
        """Place in the order of roles, 0 for annotators."""
        return list(Role).index(self)


class User(Base):
    """A person. Deactivated rather than deleted: their judgments stay attributed, until they ask to be forgotten."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_email", text("lower(email)"), unique=True),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    role: Mapped[Role] = mapped_column(stored_by_value(Role))
    password_hash: Mapped[str] = mapped_column(comment="argon2id")
    created_at: Mapped[datetime]
    deactivated_at: Mapped[datetime | None]
    forgotten_at: Mapped[datetime | None] = mapped_column(comment="when, on request, all that was theirs was erased")

    @property
    def is_active(self) -> bool:
        """Whether this person may sign in."""
        return self.deactivated_at is None

    @property
    def is_admin(self) -> bool:
        """Whether this person may do everything."""
        return self.role is Role.ADMIN


class SignIn(Base):
    """One browser of one person; ends by signing out, by age, or with the person's deactivation."""

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "user_id"),)

    token_sha256: Mapped[str] = mapped_column(primary_key=True, comment="of the cookie; the cookie itself is not kept")
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime] = mapped_column(comment="to the minute, so that most requests write nothing")
    expires_at: Mapped[datetime]
    user_agent: Mapped[str] = mapped_column(server_default="")

    user: Mapped[User] = relationship(lazy="joined")


class LinkPurpose(StrEnum):
    """What a one-time link lets its holder do."""

    FIRST_ADMIN = "first_admin"
    INVITATION = "invitation"
    PASSWORD_RESET = "password_reset"  # noqa: S105


class Link(Base):
    """A one-time link: opened by GET without effect, consumed by POST, dead after use or `expires_at`."""

    __tablename__ = "links"
    __table_args__ = (CheckConstraint("purpose <> 'password_reset' OR user_id IS NOT NULL", name="reset_names_a_user"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    purpose: Mapped[LinkPurpose] = mapped_column(stored_by_value(LinkPurpose))
    role: Mapped[Role | None] = mapped_column(stored_by_value(Role), comment="role of the person invited")
    email: Mapped[str | None] = mapped_column(comment="filled in for the person invited; null: they choose")
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="whose password is reset")
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    consumed_at: Mapped[datetime | None]
    consumed_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))

    def is_usable(self, now: datetime) -> bool:
        """Whether the link still opens anything."""
        return self.consumed_at is None and now < self.expires_at


class SignInAttempt(Base):
    """A failed sign-in, kept for a while to slow down guessing: per address and per email."""

    __tablename__ = "sign_in_attempts"
    __table_args__ = (Index(None, "subject", "at"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    subject: Mapped[str] = mapped_column(comment="email:<lower-case email> or address:<ip>")
    at: Mapped[datetime] = mapped_column(server_default=func.now())
