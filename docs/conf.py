"""How Sphinx builds the documentation: `sphinx-build -W --keep-going -c docs . build/docs`."""

import logging
from importlib.metadata import version as version_of

# It would name its plugins when autodoc imports the package.
logging.getLogger("alembic").setLevel(logging.WARNING)

project = "mcp-persist-sa"
author = "the authors of mcp-persist-sa"
version = release = version_of(project)

# The source is the checkout, so that links to files outside of docs/ are the same as in the repository.
root_doc = "docs/index"
include_patterns = ["docs/*.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3

# Docstrings write names and code in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Names that are longer when they are written out.
autodoc_type_aliases = {name: name for name in ("ASGIApp", "Scope", "Receive", "Send")}
napoleon_use_ivar = True

html_theme = "furo"
html_show_copyright = False
add_module_names = False
html_title = f"{project} {release}"
