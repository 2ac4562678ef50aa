"""What pytest wants at the top: the fixture with which a plugin is tested."""

pytest_plugins = ["pytester"]
