PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Telemetry of every tool is off, and none of them phones home at start-up.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_MODEL_CATALOG_URI :=
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := 1
export ITERATIVE_DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
# As flows/support/environment.py has them, which the Prefect server and a worker do not load: leases outlive the server, and
# a run that is dead is known to be after four heartbeats (seconds).
export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE := prefect.server.concurrency.lease_storage.filesystem
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY ?= 30
export PREFECT_HOME ?= $(CURDIR)/.prefect
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
# Where the worker of a pool goes before it runs a flow (prefect.yaml).
export RECONPATCH_PROJECT := $(CURDIR)
FLOWS_PORT ?= 4200
FLOWS_API ?= http://127.0.0.1:$(FLOWS_PORT)/api
# Where the pages of a server that is started here look for it: without this at port 4200, whatever its own is.
export PREFECT_SERVER_UI_API_URL ?= http://127.0.0.1:$(FLOWS_PORT)/api

.DEFAULT_GOAL := help
.PHONY: help setup demo test check soak lint ui serve-flows deploy worker gpu clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make the virtual environment and install every package

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11 ...") if v < (3, 11) else None'
	@echo "installing some 200 packages into $(VENV): five to ten minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[pipeline,team,dask,s3,serve,export,lite,tune,pictures,dev]"
	@touch $@

# The demo set is named in full: params.yaml may point at other images (reconpatch init). While it states just
# this, the outputs are those that DVC records; else the demo runs in runs/ and leaves the records alone.
demo: $(VENV)/.demo-versioned ## the whole flow on the embedded default data
	$(BIN)/python -m flows.train --set pipeline.dataset=demo --set pipeline.root=data/demo \
	  --set "pipeline.categories=[brick, grass, gravel]"

# The last file of the last category: when it is there, all are.
data/demo/gravel/groups.csv: | setup
	$(BIN)/reconpatch data demo data/demo

# Touched last, so that whatever is killed before is done again; it lies where DVC does not look.
$(VENV)/.demo-versioned: data/demo/gravel/groups.csv
	$(BIN)/dvc add --quiet data/demo
	@touch $@

test: setup ## every test, two files at a time, the long counts sampled with fixed seeds
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: lint ## style, types and the quick unit tests, in less than three minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests/unit $(PYTEST_ARGS)

soak: setup ## the long counts whole
	RECONPATCH_SOAK=1 $(BIN)/python -m pytest -o faulthandler_timeout=14400 $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Several servers in the foreground: all end when one does, or when make is told to end (TERM) or hears Ctrl-C. Each is
# a process group of its own (set -m), so that its workers end with it, even where it was killed itself, and nothing
# else of whoever called make does.
# honcho 2.0 was tried: it waits for the end of a server's output, so it does not see that a server was killed while its
# workers hold that open, and it leaves all of them behind when its terminal is closed (HUP).
ui serve-flows: SHELL := bash
TOGETHER = set -m; trap 'for group in $$groups $$(jobs -p); do kill -- -$$group 2>/dev/null; done; wait' EXIT; \
	trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
UNTIL_ONE_ENDS = groups=$$(jobs -p); wait -n; echo "make $@: a server has ended (see above), so all end" >&2; exit 1
# A Prefect server that answers already, such as that of the other one of the two targets, is used.
PREFECT_SERVER = if ! $(BIN)/python -c "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('$(FLOWS_API)/health', timeout=5)" \
	2>/dev/null; then $(BIN)/prefect server start --host 127.0.0.1 --port $(FLOWS_PORT) & fi

ui: setup ## MLflow and Prefect UIs on loopback, aliases moved there are logged; Ctrl-C ends all
	@echo "MLflow  http://127.0.0.1:5000"; echo "Prefect http://127.0.0.1:$(FLOWS_PORT)"
	@$(TOGETHER); $(PREFECT_SERVER); \
	$(BIN)/mlflow server --backend-store-uri "$(MLFLOW_TRACKING_URI)" --artifacts-destination "$(CURDIR)/mlartifacts" \
	  --host 127.0.0.1 --port 5000 --workers 1 & \
	$(BIN)/python -m flows.promote --watch & \
	$(UNTIL_ONE_ENDS)

serve-flows: setup ## a Prefect server on loopback and every deployment of prefect.yaml; Ctrl-C ends both
	@$(TOGETHER); $(PREFECT_SERVER); \
	PREFECT_API_URL=$(FLOWS_API) $(BIN)/python -m flows.serve & \
	$(UNTIL_ONE_ENDS)

deploy: setup ## the deployments of prefect.yaml for workers of the pool `reconpatch`, at the server FLOWS_API
	PREFECT_API_URL=$(FLOWS_API) $(BIN)/prefect work-pool inspect reconpatch >/dev/null 2>&1 || \
	PREFECT_API_URL=$(FLOWS_API) $(BIN)/prefect work-pool create reconpatch --type process
	PREFECT_API_URL=$(FLOWS_API) $(BIN)/prefect --no-prompt deploy --all
	PREFECT_API_URL=$(FLOWS_API) $(BIN)/python -m flows.support.heartbeats

worker: setup ## run what the server FLOWS_API gives to the pool `reconpatch`, on as many machines as there are
	PREFECT_API_URL=$(FLOWS_API) $(BIN)/prefect worker start --pool reconpatch

gpu: setup ## install faiss-gpu, which searches the memory bank on a GPU in torch's place
	$(BIN)/python -m pip install --quiet faiss-gpu

clean: ## remove what can be made again: outputs, caches, runs (never data, models or mlflow.db)
	rm -rf outputs runs .cache .pytest_cache .mypy_cache .ruff_cache build dist
