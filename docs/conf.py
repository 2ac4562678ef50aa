"""How Sphinx builds this documentation: ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# What is said of defaults is what they are without it.
os.environ.pop("XDG_CACHE_HOME", None)

project = "pytest-erp-sandbox"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "generated"]
exclude_patterns = ["examples"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["own.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

# They make one dash of the two before an option.
smartquotes = False

myst_enable_extensions = ["colon_fence"]
# Anchors as the readers of the repository have them.
myst_heading_anchors = 3

# In the command's docstrings, as in commit messages, `this` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Types that have no page here.
nitpick_ignore = [("py:class", "Kind"), ("py:class", "SecretStr")]
