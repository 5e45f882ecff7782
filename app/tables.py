"""Every table of Palate, imported in one place for Alembic, the worker and the tests."""

import app.accounts.models
import app.audit
import app.campaigns.models
import app.comparisons.models
import app.datasets.models
import app.deployments.models
import app.generation.models
import app.operation.models
import app.training.models
from app.database import Base

metadata = Base.metadata

__all__ = ["app", "metadata"]
