"""Makes tests of the features beside this file; their steps come with the plugin."""

import pytest
from pytest_bdd import scenarios

scenarios(".")


@pytest.fixture(autouse=True)
def only_on_the_demos_erp(request: pytest.FixtureRequest) -> None:
    """Skip ``@demo_erp``, whose expected changes a Dolibarr's are more than, unless its own are to be written."""
    marked = request.node.get_closest_marker("demo_erp") is not None
    if (
        marked
        and not request.config.getoption("erp_sandbox_update_expected")
        and not request.getfixturevalue("erp_sandbox_settings").demo
    ):
        pytest.skip("its expected changes are the demo ERP's; --erp-sandbox-update-expected writes those of yours")
