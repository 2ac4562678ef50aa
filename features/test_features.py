"""Makes tests of the features beside this file; their steps come with the plugin."""

from pytest_bdd import scenarios

scenarios(".")
