"""Names that tell annotators apart without saying who they are."""

import hashlib
import hmac


class Pseudonyms:
    """Keyed by the installation's secret: the same person has the same name in all its snapshots, and nobody
    without the secret can go back from the name, or find a person's name in another installation.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._names: dict[str, str] = {}

    def of_user(self, user_id: int) -> str:
        """The pseudonym of a person with an account."""
        return self._name(f"user:{user_id}")

    def of_external(self, import_id: int, external_id: str) -> str:
        """The pseudonym of an annotator whom an import brought; external ids mean nothing beyond their import."""
        return self._name(f"import:{import_id}:{external_id}")

    def _name(self, identity: str) -> str:
        if identity not in self._names:
            digest = hmac.new(self._secret, b"pseudonym:" + identity.encode(), hashlib.sha256).hexdigest()
            self._names[identity] = f"a-{digest[:24]}"
        return self._names[identity]
