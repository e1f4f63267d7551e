# The commands of this repository; `make help` lists them. Needs make and Python 3.10 or newer, nothing else:
# everything is installed into .venv. Read by GNU make (3.81 of macOS too) and BSD make.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

# With this variable set, Python compiles every module anew at each start: kernels would start at half the speed.
RUN = env -u PYTHONDONTWRITEBYTECODE PATH="$$(cd $(BIN) && pwd):$$PATH"
PYTEST = $(RUN) pytest
CHECKED = jupyter_mlops tests examples docs

# What the browser part is built from, and the packages that build it (node_modules, from the lock file).
LABEXTENSION = jupyter_mlops/labextension/package.json
NODE_STAMP = node_modules/.installed
LAB_SOURCES = $$(find labextension/src labextension/style labextension/schema -type f) labextension/package.json labextension/tsconfig*.json
JLPM = $(RUN) YARN_GLOBAL_FOLDER="$${XDG_CACHE_HOME:-$$HOME/.cache}/jupyter-mlops/yarn" jlpm

.PHONY: help venv demo ui lab labextension wire test test-lab test-unit test-integration test-browser test-docs test-kubernetes test-cluster test-gpu cluster-up \
	cluster-down lint format types contracts bench bench-cluster lock docs pictures clean chromium postgresql

help: ## List these commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## Install into .venv (quick when nothing changed)
	@:

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: $(PYTHON) is missing or older than 3.10. Install Python, or name one: make venv PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: this Python cannot make virtual environments." >&2; \
	  echo "make: on Debian and Ubuntu: apt-get install python3-venv   (then: make venv)" >&2; exit 1; }
	@echo "==> Making $(VENV) with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "==> Installing the packages of requirements-dev.lock; the first time this takes some minutes"
	@{ $(RUN) python -m pip install --quiet --disable-pip-version-check uv && \
	  $(RUN) uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements-dev.lock && \
	  $(RUN) uv pip install --quiet --python $(BIN)/python --no-deps --editable .; } || { \
	  echo "==> uv cannot be had or does not reach the packages here; going on with pip, which is slower"; \
	  $(RUN) python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock && \
	  $(RUN) python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; }
	@touch $(STAMP)

demo: venv ## Run an example notebook from its parameters to MLflow
	@echo "==> jupyter mlops train examples/classification.ipynb -p learning_rate=0.01"
	@$(RUN) jupyter mlops train examples/classification.ipynb -p learning_rate=0.01
	@echo
	@echo "Where to look:"
	@echo "  $(BIN)/jupyter mlops show @last    this run: state, metrics, files"
	@echo "  make ui                            its curves and its model, in MLflow"
	@echo "  make lab                           the same from JupyterLab: %load_ext jupyter_mlops, %mlops train ..."

ui: venv ## Open MLflow on the runs of this machine
	@$(RUN) jupyter mlops ui

lab: labextension ## Start JupyterLab on the examples
	@$(RUN) jupyter lab --notebook-dir=examples

labextension: venv ## Build the browser part and link it into .venv (quick when nothing changed)
	@sh labextension/node.sh $(BIN)
	@if [ ! -e $(NODE_STAMP) ] || [ yarn.lock -nt $(NODE_STAMP) ] || [ labextension/package.json -nt $(NODE_STAMP) ]; then \
	  echo "==> Installing the packages of yarn.lock; the first time this takes some minutes" && \
	  $(JLPM) install --immutable --silent && touch $(NODE_STAMP); fi
	@if [ ! -e $(LABEXTENSION) ] || [ -n "$$(find $(LAB_SOURCES) -newer $(LABEXTENSION))" ]; then \
	  echo "==> Building the JupyterLab extension" && $(JLPM) build; fi
	@mkdir -p $(VENV)/share/jupyter/labextensions
	@ln -sfn ../../../../jupyter_mlops/labextension $(VENV)/share/jupyter/labextensions/jupyter-mlops

test: lint types contracts test-unit test-lab test-integration test-browser test-docs test-kubernetes ## Every check that needs no GPU

test-unit: venv ## Fast tests of single rooms
	@echo "==> Unit tests"
	@$(PYTEST) tests/unit -n 2 -m "not integration and not browser and not gpu"

test-integration: venv postgresql ## Real kernels, Dask clusters and MLflow servers
	@echo "==> Integration tests"
	@$(PYTEST) tests --ignore=tests/docs --ignore=tests/examples -n 2 --dist loadfile -m "integration and not browser and not gpu"

test-lab: labextension ## The browser part without a browser: types, lint, format, Jest
	@echo "==> Types, lint, format and tests of labextension/"
	@$(RUN) python -m jupyter_mlops.server.openapi | cmp -s - labextension/openapi.json || { \
	  echo "make: labextension/openapi.json is not what the server says of itself now: make wire" >&2; exit 1; }
	@$(JLPM) check

wire: labextension ## Make the types of the panel from the server's description of itself
	@$(RUN) python -m jupyter_mlops.server.openapi > labextension/openapi.json
	@$(JLPM) workspace jupyter-mlops run wire

test-browser: labextension chromium ## A real Chromium on a real JupyterLab
	@echo "==> Browser tests"
	@$(PYTEST) tests -m "browser and not pictures and not gpu"

pictures: labextension chromium ## Renew the pictures of the docs, by real runs in a real JupyterLab
	@JUPYTER_MLOPS_SCREENSHOTS="$$PWD/docs/images" $(PYTEST) tests/browser -m pictures

test-docs: venv ## The documentation against the code, its blocks, and the examples
	@echo "==> Documentation and examples"
	@$(PYTEST) tests/docs tests/examples

test-kubernetes: venv ## The part of test-cluster that make test runs: a run in a pod, rights, capacity, the cluster itself
	@echo "==> Cluster tests, in part"
	@$(RUN) python -m tests.cluster test -k "(test_cluster or test_capacity or test_rights or one_pod or failed_cell) and not (test_leftovers and not after_success)"

test-cluster: venv ## Everything on a real Kubernetes on this machine (Linux, root), or on JUPYTER_MLOPS_TEST_KUBECONFIG
	@echo "==> Cluster tests"
	@$(RUN) python -m tests.cluster test

cluster-up: venv ## Bring the tests' Kubernetes up and let it stay
	@$(RUN) python -m tests.cluster up
	@echo "To talk to it: eval \"\$$($(BIN)/python -m tests.cluster env)\"; kubectl get nodes"

cluster-down: venv ## Take the tests' Kubernetes away, also after a crash
	@$(RUN) python -m tests.cluster down

test-gpu: venv ## What needs an NVIDIA GPU (Linux; installs the gpu extra)
	@echo "==> GPU tests"
	@$(RUN) python -m pip install --quiet --disable-pip-version-check --editable '.[gpu]'
	@$(PYTEST) tests -m gpu

chromium:
	@sh tests/chromium.sh

postgresql:
	@sh tests/postgresql.sh

lint: venv ## Style and mistakes (ruff)
	@echo "==> ruff"
	@$(RUN) ruff check $(CHECKED)
	@$(RUN) ruff format --check $(CHECKED)

format: venv ## Repair what ruff can repair
	@$(RUN) ruff check --fix $(CHECKED)
	@$(RUN) ruff format $(CHECKED)

types: venv ## Types (mypy)
	@echo "==> mypy"
	@$(RUN) mypy

contracts: venv ## Which room may import which (import-linter)
	@echo "==> Import contracts"
	@$(RUN) lint-imports

bench: venv ## Measure start-up and whole runs, beside papermill and nbconvert
	@$(RUN) python tests/bench/run.py

bench-cluster: venv ## Measure runs on a Kubernetes made here, beside a bare Job (Linux, root)
	@$(RUN) python tests/bench/kubernetes.py

lock: venv ## Renew requirements-dev.lock from pyproject.toml
	@$(RUN) uv pip compile pyproject.toml --group dev --universal --python-version 3.10 --upgrade --quiet \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements-dev.lock
	@echo "==> requirements-dev.lock is renewed; 'make test' says whether it holds"

docs: venv ## Generate docs/reference from the code
	@$(RUN) python docs/generate_reference.py

clean: ## Remove .venv, caches and build outputs (runs and MLflow's data stay)
	rm -rf $(VENV) node_modules labextension/node_modules labextension/lib jupyter_mlops/labextension build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find jupyter_mlops tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +
