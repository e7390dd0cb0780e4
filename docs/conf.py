"""Settings of the documentation site: ``make docs`` builds it. Nothing on its pages comes from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from foretaste import __version__

project = "foretaste"
author = "The foretaste developers"
project_copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "foretaste_pages"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
# The tests run the notebooks; the site shows what is stored in them.
nb_execution_mode = "off"
exclude_patterns = ["_build", "_extensions", "_static"]
pygments_style = "tango"
pygments_dark_style = "github-dark"

# A heading is linked as GitHub links it, and a link to one that is not there is a warning, which ends the build.
myst_heading_anchors = 4
myst_links_external_new_tab = False

# What a page of the reference shows follows from the code: its order, its types, its docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"foretaste {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
