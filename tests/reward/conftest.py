"""What the tests of rewards share."""

import pytest
import scripted_jury
from scripted_jury import ScriptedJury


@pytest.fixture(autouse=True)
def opened() -> list[ScriptedJury]:
    """The juries that the test has opened in this process."""
    scripted_jury.OPENED.clear()
    return scripted_jury.OPENED
