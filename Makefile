# Two commands are all the set-up: `make run` and `make test`.

CARGO ?= cargo
NPM ?= npm
DATA ?= lockstep-data
NICE_NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

.PHONY: help run build ui test check fmt clippy doc deny test-rust test-ui test-e2e bench guests clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: build ## build the page and the release binary, start the pool, print the link
	./target/release/lockstep serve --data $(DATA)

build: ui ## the release binary with the page inside
	$(CARGO) build --release --locked

ui: ## the page (web-ui/dist); skipped with a word where there is no npm
	@if command -v $(NPM) >/dev/null 2>&1; then \
	  cd web-ui && $(NPM) ci --no-audit --no-fund && $(NPM) run build; \
	else echo "no npm: the binary is built without its page (install Node 20 or newer to have it)"; fi

test: tools test-ui test-rust test-e2e ## everything that continuous integration runs (`make check` has the lints)

.PHONY: tools
tools: ## names what is missing: Rust and Node are yours to install, a C compiler and iproute2 are fetched where that is possible
	@command -v $(CARGO) >/dev/null 2>&1 || { echo "Rust 1.95 or newer is needed: https://rustup.rs"; exit 1; }
	@command -v node >/dev/null 2>&1 || echo "no Node: the page is neither built nor tested (install Node 20 or newer to have it)"
	@command -v cc >/dev/null 2>&1 || { echo "a C compiler is needed (SQLite is built from source): apt-get install gcc libc6-dev"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq gcc libc6-dev; else exit 1; fi; }
	@command -v ip >/dev/null 2>&1 && command -v iptables >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then { apt-get update -qq && apt-get install -y -qq iproute2 iptables; } || echo "iproute2 or iptables could not be installed: tests with network namespaces are skipped"; \
	  else echo "no iproute2 or iptables: the tests with network namespaces are skipped, or a part of them (apt-get install iproute2 iptables)"; fi; }
	@[ "$$(id -u)" = 0 ] || echo "not root: the tests with network namespaces are skipped"

check: fmt clippy doc deny ## formatting, lints, documentation, licences and sources

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

deny: ## bans, licences, sources; advisories where their database can be reached (fetches cargo-deny: some minutes, once)
	@command -v cargo-deny >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources
	@$(CARGO) deny --locked check advisories || \
	  if $(CARGO) deny --locked fetch db >/dev/null 2>&1; then exit 1; \
	  else echo "advisories: SKIPPED, their database cannot be reached from here"; fi

test-rust: ## core, simulation, sandbox, store, real processes
ifdef NICE_NEXTEST
	$(CARGO) nextest run --locked --workspace
else
	@echo "cargo-nextest is not there (cargo install cargo-nextest --locked makes this quicker); plain cargo test it is"
	$(CARGO) test --locked --workspace --lib --bins --tests
endif

test-ui: ui ## the page's own tests: types, helpers, the size of the bundle
	@if command -v $(NPM) >/dev/null 2>&1; then cd web-ui && $(NPM) test; else echo "test-ui: SKIPPED, no npm"; fi

test-e2e: ui browser ## the page in a real browser against the real binary (LOCKSTEP_BIN, or the debug build)
	@if command -v $(NPM) >/dev/null 2>&1; then \
	  if [ -z "$$LOCKSTEP_BIN" ]; then $(CARGO) test --locked --workspace --no-run || exit 1; fi; \
	  cd web-ui && $(NPM) run e2e; \
	else echo "test-e2e: SKIPPED, no npm"; fi

.PHONY: browser
browser:
	@command -v $${CHROMIUM:-chromium} >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then apt-get update -qq && apt-get install -y -qq chromium; \
	  else echo "the browser tests need Chromium: apt-get install chromium, or set CHROMIUM to its path"; exit 1; fi; }

bench: ## every figure as a ratio with a reference measured in the same run
	./bench/run

.PHONY: portable
portable: ## det-1-portable here and on an emulated AArch64, side by side (fetches what it needs from Debian)
	./tests/portable

guests: ## rebuild guest-examples/prebuilt (needs a wasm32-wasip1 toolchain, see guest-examples/README.md)
	guest-examples/build.sh

clean: ## what was built
	$(CARGO) clean
	rm -rf web-ui/dist web-ui/node_modules
