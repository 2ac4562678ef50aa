"""Makes tests of the features beside this file; their steps come with the plugin."""

import pytest
from pytest_bdd import scenarios

scenarios(".")


@pytest.fixture(autouse=True)
def only_on_the_demos_erp(request: pytest.FixtureRequest) -> None:
    """Skip ``@demo_erp`` elsewhere: it expects just what the demo's ERP writes, and a Dolibarr writes more columns."""
    if request.node.get_closest_marker("demo_erp") is None:
        return
    is_written = request.config.getoption("erp_sandbox_update_expected")
    if not is_written and not request.getfixturevalue("erp_sandbox_settings").demo:
        pytest.skip("its expected changes are the demo ERP's; --erp-sandbox-update-expected writes those of yours")


@pytest.fixture(autouse=True)
def only_where_prod_is_known(request: pytest.FixtureRequest) -> None:
    """Skip ``@prod`` where no setting leads to prod: where an agent may run, none should."""
    if request.node.get_closest_marker("prod") is None:
        return
    if request.getfixturevalue("erp_sandbox_settings").prod.database() is None:
        pytest.skip("no setting leads to prod, which is as it should be here")
