# The work is done by the scripts in pgrx-config; each says at its top what it takes.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-heavy test-assertions lint unit integration bench install clean

export VERSIONS ?= 18 15 16 17
export FILTER
export PROFILE
export PG_CONFIG

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## See the extension at work in a server of its own, which is gone afterwards
	@pgrx-config/demo

test: ## Lints, unit tests, integration tests; VERSIONS="15 18" and FILTER=name narrow it
	@pgrx-config/test

test-all: ## Everything on every version, also what is left out on 16 and 17 to save time, and the heavy tests
	@EVERYTHING=1 TESTS=include-ignored pgrx-config/test

test-heavy: ## Run the tests that are too heavy for every run; takes VERSIONS and FILTER too
	@TESTS=ignored pgrx-config/test integration

test-assertions: ## Run the tests against a PostgreSQL 15 that checks itself (built from Debian's source)
	@VERSIONS=15-assertions pgrx-config/test integration

lint: ## Check the format, the spelling, the crates that are used and the rules of the house; run Clippy
	@pgrx-config/test lint

unit: ## Run the tests that need no server
	@pgrx-config/test unit

integration: ## Run the tests against real servers; takes VERSIONS and FILTER too
	@pgrx-config/test integration

bench: ## Measure the ledger, logins, what applications call and administration, with a release build
	@pgrx-config/bench

install: ## Install a release build into the server of PG_CONFIG=/path/to/pg_config (default: 15's)
	@pgrx-config/install

clean: ## Remove everything that was built or fetched
	rm -rf target
