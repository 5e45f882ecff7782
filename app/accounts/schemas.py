"""Forms of accounts, with messages for the people who fill them in."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

from app.accounts.credentials import LEAST_PASSWORD, email_problem, name_problem, password_problem
from app.accounts.models import Role


def _unless(problem_of: Callable[[str], str | None]) -> Callable[[str], str]:
    """A validator out of a function that says what is wrong."""

    def check(text: str) -> str:
        if problem := problem_of(text):
            raise ValueError(problem)
        return text

    return check


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


PersonName = Annotated[str, AfterValidator(_on_one_line), AfterValidator(_unless(name_problem))]
Email = Annotated[str, AfterValidator(str.strip), AfterValidator(_unless(email_problem))]
ProvenPassword = Annotated[str, Field(min_length=1)]
NewPassword = Annotated[str, Field(min_length=1, description=f"at least {LEAST_PASSWORD} characters")]


class SignInForm(BaseModel):
    """What the sign-in page sends. `next` is where to go afterwards; see `same_site_path`."""

    email: Annotated[str, AfterValidator(str.strip), Field(min_length=1, max_length=300)]
    password: ProvenPassword
    next: str = ""


class JoinForm(BaseModel):
    """What a newcomer tells of themselves."""

    name: PersonName
    email: Email
    password: NewPassword

    @field_validator("password")
    @classmethod
    def _is_good_enough(cls, password: str, info: ValidationInfo) -> str:
        return _unless(lambda given: password_problem(given, email=info.data.get("email", "")))(password)


class NewPasswordForm(BaseModel):
    """What somebody sends who holds a link to choose a new password."""

    password: NewPassword


class NameForm(BaseModel):
    """A person's own name, changed."""

    name: PersonName


class ChangePasswordForm(BaseModel):
    """A new password, with proof of the old one."""

    old_password: ProvenPassword
    new_password: NewPassword


class InvitationForm(BaseModel):
    """Who is invited, and as what. Without an email they enter their own."""

    email: Email | None = None
    role: Role = Role.ANNOTATOR


class RoleForm(BaseModel):
    """A person's new role."""

    role: Role
