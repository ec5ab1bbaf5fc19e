# Everything a person or a machine does with this project. `make help` lists it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SUITE  := $(VENV)/conformance
BUF    := $(VENV)/buf
COMPILED := $(VENV)/compiled

# What tests drive from Debian: command:package. Installed when missing and when root.
DEBIAN := npm:npm redis-server:redis-server curl:curl pg_ctlcluster:postgresql cc:gcc promtool:prometheus \
    /usr/include/stdio.h:libc6-dev
DEBIAN_E2E := kamailio:kamailio kamailio:kamailio-extra-modules kamcmd:kamailio sipp:sip-tester luac5.3:lua5.3
DEBIAN_PEERS := wrk:wrk cc:gcc /usr/include/stdio.h:libc6-dev nginx:nginx \
    /usr/lib/nginx/modules/ngx_http_lua_module.so:libnginx-mod-http-lua \
    /usr/share/lua/5.1/nginx/redis.lua:lua-nginx-redis \
    /usr/lib/x86_64-linux-gnu/lua/5.1/cjson.so:lua-cjson

.DEFAULT_GOAL := help
.PHONY: help run test test-compiled test-e2e test-dashboards crash-test bench-enforcement check rules proto bench bench-rules bench-index bench-watch bench-transports bench-guard load lock clean compiled debian debian-e2e valgrind peers compiler

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: $(READY) ## start the service with the shipped packs and a sample registry
	@exec $(BIN)/screening serve --sample

# Tests wait for services more than they compute, so three processes keep two cores busy, each with
# whole files: tests of a file share a service, and go on in their order. Those that hold the service
# to a time have the machine to themselves. An index server by URL is one for all processes: then
# there is one.
TEST_PROCESSES ?= $(if $(SCREENING_REDIS_URL),0,3)
PYTEST := $(BIN)/python -m pytest
test: $(READY) $(SUITE) debian $(BUF) ## run every test but those with switches
	$(PYTEST) --ignore=tests/e2e --ignore=tests/dashboards -m "not timely" -n $(TEST_PROCESSES) --dist loadfile
	$(PYTEST) --ignore=tests/e2e --ignore=tests/dashboards -m timely

# What calls go through, once more: with machine code answers must be the same.
COMPILED_TESTS := $(addprefix tests/,screening/test_compiled.py screening/test_golden.py \
    screening/test_fast_lane.py screening/test_lookup.py screening/test_hostile.py consent/test_index.py \
    consent/test_number.py)
test-compiled: $(COMPILED)/.made debian ## the decision path compiled, by the tests of the path
	SCREENING_TEST_COMPILED=1 PYTHONPATH=$(abspath $(COMPILED)) $(PYTEST) -o pythonpath=$(abspath $(COMPILED)) $(COMPILED_TESTS)

test-e2e: $(READY) debian-e2e ## calls through Kamailio and sipp, end to end (two minutes)
	$(BIN)/python -m pytest tests/e2e

crash-test: $(READY) debian ## kill a thousand writers on each database (four minutes)
	SCREENING_TEST_KILLS=1000 $(BIN)/python -m pytest tests/screening/test_crashes.py

test-dashboards: $(READY) debian ## what panels and alerts ask, of a real Prometheus
	$(BIN)/python -m pytest tests/dashboards

check: $(READY) ## ruff, mypy strict, and the arrows between the packages
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_arrows.py

rules: $(READY) ## check the rule packs: their cases, and that these try every rule both ways
	$(BIN)/screening rules check deploy/rules --coverage

proto: $(READY) $(BUF) ## check the proto with buf and make its modules anew
	cd deploy/proto && ../../$(BUF)/node_modules/.bin/buf lint
	cd deploy/proto && ../../$(BUF)/node_modules/.bin/buf format --write
	$(BIN)/python -m grpc_tools.protoc -Ideploy/proto --python_out=src --pyi_out=src \
	    --grpc_python_out=src screening/v1/screening.proto

compiled: $(COMPILED)/.made ## a copy of the packages with the decision path compiled (a minute)

$(COMPILED)/.made: $(shell find src -name '*.py') | $(READY) compiler
	$(BIN)/python -m screening.compiled --into $(COMPILED)
	@touch $@

bench: $(READY) peers $(COMPILED)/.made ## the service against nginx + Lua + Redis and FastAPI (eight minutes)
	PYTHONPATH=$(abspath $(COMPILED)) $(BIN)/python -m benchmarks.contest

bench-rules: $(READY) ## measure rule sets: a call, a load, reloads under load (six minutes)
	$(BIN)/python -m benchmarks.rules

SHAPE ?= smoke
load: $(READY) debian $(COMPILED)/.made ## load of a SHAPE: smoke busy_hour spike overload redis_outage rule_reload; RATE, PROCESSES
	PYTHONPATH=$(abspath $(COMPILED)) $(BIN)/python -m benchmarks.load --shape $(SHAPE) \
	    $(if $(RATE),--rate $(RATE)) $(if $(PROCESSES),--processes $(PROCESSES))

bench-enforcement: $(READY) ## from a decision to the first call decided by it (half a minute)
	$(BIN)/python -m benchmarks.enforcement

bench-index: $(READY) ## load, weigh and ask indexes; FULL=1: those of whole nations, an hour
	$(BIN)/python -m benchmarks.index $(if $(FULL),--full) $(if $(RESULTS),--results $(RESULTS))

bench-watch: $(READY) ## what the watch finds of planted campaigns, beside plain thresholds (four minutes)
	$(BIN)/python -m benchmarks.watch

bench-guard: $(READY) valgrind ## instructions a call against the baseline; BASELINE=new: write it anew
	$(BIN)/python -m benchmarks.guard $(if $(filter new,$(BASELINE)),--new)

bench-transports: $(READY) ## measure a call over HTTP, JSON-RPC netstrings and gRPC (half a minute)
	$(BIN)/python -m benchmarks.transports

lock: $(READY) ## resolve the dependencies anew into requirements.lock
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --allow-unsafe --strip-extras --extra dev pyproject.toml -o requirements.lock

clean: ## remove the environment and what tests and tools leave; not the state folder
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || $(MAKE) --no-print-directory venv-without-ensurepip
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The suite is fetched where it can be; elsewhere its test says what is missing.
$(SUITE): tests/rules/cel/conformance.txt | $(READY)
	@$(BIN)/python -m pip download --quiet --no-deps --no-binary cel-python --require-hashes \
	    -r $< -d $@.new && rm -rf $@ && mv $@.new $@ && touch $@ || rm -rf $@.new

# Fetched where it can be; elsewhere its test says what is missing. npm waits five minutes for a
# connection that stands still, and again: on its own this held a first `make test` up for as long.
$(BUF): | $(READY) debian
	@npm install --silent --no-audit --no-fund --fetch-timeout 15000 --fetch-retries 2 \
	    --fetch-retry-mintimeout 1000 --fetch-retry-maxtimeout 5000 \
	    --prefix $@.new @bufbuild/buf@1.75.0 \
	    && rm -rf $@ && mv $@.new $@ || rm -rf $@.new

# Debian's python3 has no venv of its own until python3-venv is there.
.PHONY: venv-without-ensurepip
venv-without-ensurepip:
	@rm -rf $(VENV)
	@if [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); \
	else \
	    echo "python3 -m venv does not work here: install the package python3-venv" >&2; exit 1; \
	fi

# What is wanted beyond the tests: by test-e2e, bench-guard, bench.
debian: PACKAGES = $(DEBIAN)
debian-e2e: PACKAGES = $(DEBIAN_E2E)
valgrind: PACKAGES = valgrind:valgrind
peers: PACKAGES = $(DEBIAN_PEERS)
compiler: PACKAGES = cc:gcc /usr/include/stdio.h:libc6-dev

debian debian-e2e valgrind peers compiler:
	@missing=; \
	for pair in $(PACKAGES); do \
	    command -v "$${pair%%:*}" >/dev/null || test -e "$${pair%%:*}" || \
	        missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
