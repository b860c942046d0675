# What people type. `make` builds, `make demo` shows it at work, `make test` is what a change must pass.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# Another target than this machine's, say x86_64-unknown-linux-musl: make TARGET=…
TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
ARCH = $(firstword $(subst -, ,$(TARGET)))
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
PREFIX ?= /usr/local

# The program may be copied to any Linux machine of its architecture, so it must not need a C library there.
STATIC := -C target-feature=+crt-static
# Relocations in their short form, which a static program needs a C library of 2.36 or newer for.
STATIC += $(shell getconf GNU_LIBC_VERSION 2>/dev/null | \
	awk '{ split($$2, v, "."); if (v[1] > 2 || v[2] >= 36) print "-C link-arg=-Wl,-z,pack-relative-relocs" }')
# Linked by the compiler's own linker, the program's idle memory is a third less in this order.
ORDER = $(if $(filter $(TARGET),$(shell rustc -vV | sed -n 's/^host: //p')),-C linker=build/ordering-cc)
AL := $(TARGET_DIR)/al
AL_MAX_BYTES := 12000000

.PHONY: all demo test check test-slow bench shims hot-functions dist install verify setup clean help
.DEFAULT_GOAL := all

all: ## build target/al, one static file
	RUSTFLAGS="$(RUSTFLAGS) $(STATIC) $(ORDER)" cargo build --release --locked --bin al --target $(TARGET)
	@install -m 755 $(TARGET_DIR)/$(TARGET)/release/al $(AL)
	@echo "built $(AL), $$(stat -c %s $(AL)) bytes"

demo: setup all ## watch an agent fix a bug (no account or key needed)
	@scripts/demo $(AL)

test: setup ## everything a change must pass; needs root only when something has to be installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked
	@$(MAKE) --no-print-directory verify demo

check: ## the fast part of test, without Docker: format, lints, unit and command line tests
	cargo fmt --all --check
	AL_REVISION=dev cargo clippy --workspace --all-targets --locked -- -D warnings
	AL_REVISION=dev cargo test --workspace --locked --lib --quiet
	AL_REVISION=dev cargo test --locked --test it --quiet -- cli_ tidy agent_docs docs_

test-slow: setup ## load, soak and long crash tests
	cargo test --workspace --locked -- --ignored

bench: setup all ## figures, one line each, with a reference measured in the same run
	@scripts/bench $(AL)
	@cargo run --release --locked --quiet -p al-bench -- $(AL)

shims: ## the in-container programs alone, into dist/shims
	AL_REVISION="$${AL_REVISION:-$$(git rev-parse --short=8 HEAD 2>/dev/null || echo dev)}" \
	CARGO_PROFILE_RELEASE_OPT_LEVEL=s RUSTFLAGS="$(STATIC) -C relocation-model=static" \
	cargo build --release --locked -p shims --bins \
		--target $(TARGET) --target-dir $(TARGET_DIR)/shims
	@install -D -m 755 -t dist/shims $(TARGET_DIR)/shims/$(TARGET)/release/al-agent $(TARGET_DIR)/shims/$(TARGET)/release/al-shim
	@ls -l dist/shims

hot-functions: setup # which functions `make all` puts side by side; takes minutes and valgrind
	RUSTFLAGS="$(RUSTFLAGS) $(STATIC) $(ORDER)" \
	cargo rustc --release --locked --bin al --target $(TARGET) -- -C strip=none
	@scripts/hot-functions $(TARGET_DIR)/$(TARGET)/release/al build/hot-functions.txt

dist: all verify ## a tarball to give away, with checksums, into dist
	@mkdir -p dist
	tar -czf dist/al-$(VERSION)-linux-$(ARCH).tar.gz --sort=name --owner=0 --group=0 --numeric-owner \
		--transform 's,^,al-$(VERSION)/,' README.md CHANGELOG.md LICENSE docs agent-docs -C $(TARGET_DIR) al
	@cd dist && sha256sum *.tar.gz >SHA256SUMS && cat SHA256SUMS

# The cargo of rustup is a user's own: root often has none, and needs none for what is built.
install: $(if $(shell command -v cargo),all) ## copy al to PREFIX/bin (/usr/local/bin)
	@[ -x $(AL) ] && [ -z "$$(find Cargo.lock build.rs build src shims agent-docs docs -newer $(AL) -print -quit)" ] || \
		{ echo "$(AL) is missing or older than its source: make && sudo make install" >&2; exit 1; }
	install -D -m 755 $(AL) $(DESTDIR)$(PREFIX)/bin/al

verify: all ## the built program is static and small
	@LC_ALL=C ldd $(AL) 2>&1 | grep -qE 'statically linked|not a dynamic executable' || \
		{ echo "$(AL) is not static:"; ldd $(AL); exit 1; }
	@size=$$(stat -c %s $(AL)); [ $$size -le $(AL_MAX_BYTES) ] || \
		{ echo "$(AL) has $$size bytes, more than $(AL_MAX_BYTES)"; exit 1; }

setup: # silent when there is nothing to do
	@scripts/setup

clean: ## remove what was built
	cargo clean
	rm -rf dist

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
