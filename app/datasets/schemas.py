"""Forms of datasets."""

from pydantic import BaseModel

from trainer.contract.snapshot import SnapshotPolicy


class WithdrawalForm(BaseModel):
    """Why a snapshot is taken back; the service says what is enough."""

    reason: str = ""


class ForgettingForm(BaseModel):
    """The email of the person to be forgotten, typed as a confirmation."""

    email: str = ""


class PolicyForm(BaseModel):
    """How judgments are to become training rows; a box that is off is absent."""

    include_surplus: bool = False
    include_rejected: bool = False
    include_rationales: bool = False
    leave_out_incomplete: bool = False
    corrections_as_chosen: bool = False

    def policy(self) -> SnapshotPolicy:
        """The policy as snapshots record it."""
        return SnapshotPolicy(
            include_surplus=self.include_surplus,
            include_rejected=self.include_rejected,
            include_rationales=self.include_rationales,
            incomplete_comparisons=not self.leave_out_incomplete,
            corrections_as_chosen=self.corrections_as_chosen,
        )
