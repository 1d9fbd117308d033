"""The site: notebooks as committed (nothing is run), results, and the module's reference.

`make site`, or: python -m sphinx -W --keep-going -d docs/_build/doctrees -c docs . docs/_build/html

The repository is the source folder, so that links between its files hold and nothing is copied.
"""

import base64
import hashlib
import inspect
import json
import re
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from npm import fetch  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = PROJECT["name"]
author = f"the {project} authors"
copyright = author
root_doc = "docs/index"
include_patterns = [f"{name}.md" for name in ("README", "RESULTS", "TEACHING", "CONTRIBUTING")]
include_patterns += [
    "CHANGELOG.md",
    "LICENSES.md",
    "docs/*.md",
    "docs/*.rst",
    "notebooks/[0-9]*.ipynb",
]
exclude_patterns = [".git", ".venv", "runs", "notebooks/runs", "docs/_build"]  # not even searched
extensions = ["myst_nb", "sphinx.ext.autodoc"]

# Notebooks
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_sourcelink_suffix = ""  # downloads end in .ipynb

# The reference
default_role = "py:obj"  # `name` in a docstring: a link where the name is known, else code
add_module_names = False
autodoc_inherit_docstrings = False  # of transformers and torch
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
python_trailing_comma_in_multi_line_signatures = False
toc_object_entries_show_parents = "hide"

# The look
html_title = project
html_use_index = html_domain_indices = False  # the search finds names
html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}  # dark or light, as the reader's system has it
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "footer_content_items": "extra-footer.html",
    "extra_footer": f'By {author}. Code under the MIT licence, text and figures under <a href="'
    f'https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>. <a href="{REPOSITORY}">'
    "Repository</a>.",
}


# Formulas: MathJax in one file, which the site itself serves.
pinned = tomllib.loads((ROOT / "docs/slides/pinned.toml").read_text(encoding="utf-8"))["mathjax"]
mathjax_file = "es5/tex-svg.js"
mathjax = fetch("mathjax", pinned["version"], pinned["sha256"])
html_static_path.append(str(mathjax / mathjax_file))
mathjax_path = Path(mathjax_file).name
mathjax3_config = {"options": {"enableMenu": False}}  # its menu would load more files


# Notebooks and pages, as they are read
BADGE = re.compile(r"!\[Open in Colab\]\(https://colab[^)]*\.svg\)")  # a picture of another host


def adapt_source(app, docname, source):
    """No picture of another host; folded what JupyterLab and Colab fold, and the Colab cell."""
    source[0] = BADGE.sub("Open in Colab", source[0])
    if not app.env.doc2path(docname).suffix == ".ipynb":
        return
    notebook = json.loads(source[0])
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        metadata = cell["metadata"]
        title = "".join(cell["source"]).split("\n")[0]
        if cell is cells[0]:
            prompt = "The cell for Colab"
        elif metadata.get("jupyter", {}).get("source_hidden"):
            prompt = title.removeprefix("# @title ")
        else:
            continue
        metadata["tags"] = [*metadata.get("tags", []), "hide-input"]
        metadata["mystnb"] = {"code_prompt_show": prompt, "code_prompt_hide": prompt}
    source[0] = json.dumps(notebook)


# Formulas and their mentions: who derives the paper's equations, by their number
DERIVED = {**dict.fromkeys("123456", "03"), "7": "06"}
TAG = re.compile(r"\\tag\{(.+?)\}")
MENTION = re.compile(
    r"(?P<numbers>Eqs?\.\s\d(?:(?:, | and | to |[-–])\d)*)"
    r"|\((?P<letter>[A-Z])\)(?:\sin\snotebook\s(?P<notebook>\d\d))?"
)


def link_formulas(app, doctree):
    """Each numbered formula gets an anchor, and each mention of one a link to it."""
    docname = app.env.docname
    pages = {Path(page).name[:2]: page for page in app.env.found_docs if "notebooks/" in page}
    tags = set()
    for formula in doctree.findall(nodes.math_block):
        if tag := TAG.search(formula.astext()):
            tags.add(tag[1])
            formula["number"] = tag[1]
            formula["ids"].append(anchor(tag[1]))
            formula[:] = [nodes.Text(TAG.sub("", formula.astext()).rstrip())]

    def link(words, page, tag):
        address = app.builder.get_relative_uri(docname, page) if page != docname else ""
        return nodes.reference("", words, refuri=f"{address}#{anchor(tag)}", internal=True)

    def linked(match):
        if tag := match["letter"]:
            page = pages.get(match["notebook"]) or (docname if tag in tags else None)
            yield link(match[0][:3], page, tag) if page else nodes.Text(match[0][:3])
            yield nodes.Text(match[0][3:])
        else:
            for part in re.findall(r"(?:Eqs?\.\s)?\d|\D+", match[0]):
                page = pages.get(DERIVED.get(part[-1]))
                yield link(part, page, part[-1]) if page else nodes.Text(part)

    for text in list(doctree.findall(nodes.Text)):
        if not in_prose(text):
            continue
        parts, end = [], 0
        for match in MENTION.finditer(text):
            parts += [nodes.Text(text[end : match.start()]), *linked(match)]
            end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def anchor(tag: str) -> str:
    return nodes.make_id(f"eq-{tag}")


def in_prose(text: nodes.Text) -> bool:
    passed_over = (nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.raw)
    passed_over += (nodes.math, nodes.math_block, addnodes.desc_signature, addnodes.pending_xref)
    node = text.parent
    while node is not None and not isinstance(node, passed_over):
        node = node.parent
    return node is None


def link_to_repository(app, doctree):
    """A link to a folder or a notebook that is no page of the site goes to the repository."""
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link["reftype"] != "myst" or link["reftarget"] in app.env.found_docs:
            continue
        of_document = link["refdomain"] == "doc"  # from the root, without an ending
        found = ROOT.glob(f"{link['reftarget']}.*") if of_document else [here / link["reftarget"]]
        if (target := next(iter(found), None)) and target.exists():
            place = target.resolve().relative_to(ROOT).as_posix()
            address = f"{REPOSITORY}/tree/main/{place}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=address))


def describe_pictures(app, doctree):
    """The words of a notebook's picture stand in its output's metadata."""
    source = app.env.doc2path(app.env.docname)
    if source.suffix != ".ipynb":
        return
    words = {}
    for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = base64.b64decode("".join(output["data"]["image/png"]))
                alt = output["metadata"].get("image/png", {}).get("alt", "")
                words[hashlib.sha256(picture).hexdigest()] = alt
    for image in doctree.findall(nodes.image):
        if (name := Path(image["uri"]).stem) in words:
            image["alt"] = words[name]


# Docstrings are plain text: sentences, and arguments as "name: what it is"
ARGUMENT = re.compile(r"(?:^|(?<=\. ))((?:[a-z][\w\\]*, )*[a-z][\w\\]*): ", re.MULTILINE)


def adapt_docstring(app, what, name, obj, options, lines):
    text = "\n".join(lines)
    if text.startswith(f"{name.rpartition('.')[2]}("):  # a named tuple's, made by Python
        text = ""
    parts = re.split(r"(``.+?``|`[^`]+`)", text)
    parts[::2] = [re.sub(r"([*_|\\])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [re.sub(r"^`([^\w`].*)`$", r"``\1``", part) for part in parts[1::2]]  # no name
    text = ARGUMENT.sub(r"\n\n* **\1**: ", "".join(parts))
    lines[:] = [
        line
        for paragraph in re.split(r"\n\s*\n", text)
        for line in (" ".join(paragraph.split()), "")
    ]


def adapt_signature(app, what, name, obj, options, signature, returned):
    """Of pydantic's classes names and plain defaults: types are long, paths of this machine."""
    if not hasattr(obj, "__pydantic_fields__"):
        return None
    parameters = []
    for parameter in inspect.signature(obj).parameters.values():
        default = parameter.default
        plain = isinstance(default, (str, float, int, type(None))) and str(ROOT) not in str(default)
        parameters.append(f"{parameter.name}={default!r}" if plain else parameter.name)
    return f"({', '.join(parameters)})", None


def skip_member(app, what, name, obj, skip, options):
    """Public functions are there with or without words; what Python alone says is not."""
    if what == "module" and inspect.isfunction(obj) and not name.startswith("_"):
        return False
    alias = (inspect.getdoc(obj) or "").startswith("Alias for field")  # of a named tuple
    setting = what == "class" and (inspect.isclass(obj) or name == "model_config")
    return skip or alias or setting


def begin_at_docs(app, error):
    """The site's first page is docs/index.html: whoever opens the folder is sent there."""
    if not error:
        page = '<!doctype html><meta charset="utf-8"><title>{0}</title>' + (
            '<meta http-equiv="refresh" content="0; url={1}"><a href="{1}">{0}</a>\n'
        )
        (app.outdir / "index.html").write_text(page.format(project, f"{root_doc}.html"))
        print(f"The site: {app.outdir / 'index.html'}")


def setup(app):
    app.connect("source-read", adapt_source)
    app.connect("doctree-read", link_formulas)
    app.connect("doctree-read", link_to_repository)
    app.connect("doctree-read", describe_pictures)
    app.connect("autodoc-process-docstring", adapt_docstring)
    app.connect("autodoc-process-signature", adapt_signature)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("build-finished", begin_at_docs)
