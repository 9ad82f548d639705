# The front door. The work is in tools/ and meson.build; BUILD=directory builds elsewhere.

BUILD ?= build

.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-22s %s\n", $$1, $$2 }'

demo: ## see it work: installs what is missing, builds, runs a queue (KEEP=1 leaves it running)
	@tools/bootstrap --for demo
	@tools/build $(BUILD)
	@$(BUILD)/pgqueuer demo $(if $(KEEP),--keep)

test: ## all tests; the last line counts them
	@tools/bootstrap --for test
	@tools/build $(BUILD)
	@tools/run-tests --build $(BUILD)

test-matrix: ## the integration and interop tests on PostgreSQL 14, 16, 17 and 18 (MAJORS='14 18')
	@tools/bootstrap --for matrix
	@tools/build $(BUILD)
	@tools/run-tests --build $(BUILD) --majors $(or $(MAJORS),14 16 17 18)

soak: ## the core list on every way, with its long tests, upgrades of long tables, 50 seeds: an hour
	@tools/bootstrap --for test
	@tools/build $(BUILD)
	@PGQUEUER_SOAK=1 tools/run-tests --build $(BUILD) --only python -- -m 'core or soak'

bench: ## the benchmarks, beside the bare loop, on a private server (BENCH=--quick or --full)
	@tools/bootstrap --for test
	@tools/build $(BUILD)
	@PGQUEUER_BUILD=$(BUILD) $${PGQUEUER_VENV:-.venv}/bin/python bench/run.py $(BENCH)

bench-peers: ## other queues on PostgreSQL beside this one, into bench/RESULTS.md (PEERS='--rounds 1')
	@tools/bootstrap --for test
	@tools/build $(BUILD)
	@PGQUEUER_BUILD=$(BUILD) $${PGQUEUER_VENV:-.venv}/bin/python bench/peers/run.py $(PEERS)

bench-peers-full: ## the same with every cell, default configurations too, five rounds: hours
	@tools/bootstrap --for test
	@tools/build $(BUILD)
	@PGQUEUER_BUILD=$(BUILD) $${PGQUEUER_VENV:-.venv}/bin/python bench/peers/run.py --full $(PEERS)

check: ## before every commit: format, lint, layers, exports, headers, repository, C tests
	@tools/bootstrap --for check
	@tools/check --build $(BUILD) build format layers exports headers repo lint unit

build: ## the library and the program, into build/
	@tools/build $(BUILD)

asan: ## all tests with the address and undefined behaviour sanitizers
	@tools/bootstrap --for test
	@tools/build build-asan -Db_sanitize=address,undefined
	@tools/run-tests --build build-asan

tsan: ## the C tests with the thread sanitizer
	@tools/bootstrap --for demo
	@tools/build build-tsan -Db_sanitize=thread
	@tools/run-tests --build build-tsan --only c

valgrind: ## the C tests under valgrind
	@tools/bootstrap --for check
	@tools/build $(BUILD)
	@tools/run-tests --build $(BUILD) --only c --valgrind

instructions: ## what a job costs the library, under callgrind, against bench/instructions.txt
	@tools/bootstrap --for test,check
	@tools/build $(BUILD)
	@.venv/bin/python tools/check-instructions --build $(BUILD)

lint: ## clang-tidy and cppcheck
	@tools/bootstrap --for check
	@tools/check --build $(BUILD) build lint

format: ## rewrites the C files as .clang-format says
	@tools/check-format --fix

install: ## installs into PREFIX (/usr/local), under DESTDIR if that is set
	@tools/build $(BUILD)
	@$(if $(PREFIX),meson configure $(BUILD) --prefix='$(PREFIX)')
	@meson install -C $(BUILD)

clean: ## removes what was built; .venv and the demo's data stay
	@rm -rf $(BUILD) build-asan build-tsan build-clang

.PHONY: help demo test test-matrix soak bench bench-peers bench-peers-full check build asan tsan valgrind instructions lint format install clean
