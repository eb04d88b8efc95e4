# Meercat.  `make run` shows it working, `make test` proves it; both install what they need.
#
#   make                 build/release/meercat
#   make SAN=address,undefined | SAN=thread     the same, apart, under build/<name>/
#   make run             three balancers, six servers and some traffic, on loopback; KILL=1 kills some
#   make test            unit, end-to-end and network tests make fuzz    every fuzz target, bounded
#   make bench           against HAProxy and nginx; what takeover costs (as root)
#   make lint            formatting, floors, man pages
#   make bench-floods    what a flood on one listener does to another (as root)
#   make bench-placement placement on real servers, beside HAProxy and nginx
#   make bench-cluster   what a cluster of balancers costs, and how soon its members know
#   make shape           how the source reads, in numbers   make install PREFIX=/usr/local DESTDIR=
#   make deps            only install the Debian packages that building and testing need
#   make unit ROOM=base  the unit tests of one room         make e2e T=tests/e2e/test_x.py
#   make soak            the cluster under 10,000 schedules of random faults
#   make chaos           balancers are lost while clients ask (as root)
#   make net             clusters on networks that fail     (as root)
#   make format          clang-format over everything       V=1         shows the commands

VERSION  := 0.1.0
ifeq ($(origin CC),default)
CC       := gcc
endif
CLANG    ?= clang
PREFIX   ?= /usr/local
SAN      ?=
PYTHON   := /usr/bin/python3
FUZZ_SECONDS ?= 20
# V=1 shows the commands
Q        := $(if $(filter-out 0,$(V)),,@)

comma    := ,
VARIANT  := $(if $(SAN),$(subst $(comma),-,$(SAN)),release)
B        := build/$(VARIANT)

ROOMS    := $(shell awk '{print $$1}' src/FLOORS)
# lower(room): the room itself and every room on a lower floor, top floor first
lower     = $(shell awk -v r=$(1) '{f[$$1]=$$2; n[NR]=$$1} END {for (i=NR;i>0;i--) if (n[i]==r || f[n[i]]<f[r]) print n[i]}' src/FLOORS)

PKGS     := liburing libconfuse jansson libcares libcap libsystemd libssl libcrypto libnghttp2 libbpf
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
CSTD     := -std=gnu17
WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wwrite-strings -Wvla -Wformat=2 -Wno-format-nonliteral -Wno-unused-parameter
# gcc's warnings are the measure; clang, which only builds the fuzz targets, has opinions of its own
WARN     += $(if $(filter fuzz,$(VARIANT)),,$(if $(filter-out 0 false,$(CI)$(WERROR)),-Werror))
HARDEN   := -fstack-protector-strong -fPIE -fno-common $(if $(SAN),,-D_FORTIFY_SOURCE=2)
OPT      := $(if $(SAN),-O1 -fno-omit-frame-pointer,-O2) -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all))
MC_CPPFLAGS = -D_GNU_SOURCE -Isrc -DMEERCAT_VERSION='"$(VERSION)"' $(PKG_CFLAGS) $(CPPFLAGS)
ALLFLAGS  = $(CSTD) $(OPT) $(WARN) $(HARDEN) $(SANFLAGS) $(CFLAGS)
LINK     := -pie -Wl,-z,relro,-z,now $(SANFLAGS) $(LDFLAGS)
LIBS      = $(PKG_LIBS) -lm -pthread

# The sanitizers of gcc 12 and clang 14 cannot find room in an address space that newer kernels
# shuffle with 32 bits (vm.mmap_rnd_bits): run them without shuffling where that is allowed.
ifneq ($(SAN),)
export RUNNER := $(shell setarch -R true 2>/dev/null && echo setarch -R)
endif
export ASAN_OPTIONS  ?= detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS ?= print_stacktrace=1
export TSAN_OPTIONS  ?= second_deadlock_stack=1:suppressions=$(CURDIR)/tools/tsan.suppress
export PYTHONDONTWRITEBYTECODE = 1

UNIT_SRC := $(wildcard src/*/*_test.c)
BPF_SRC  := $(wildcard src/*/*.bpf.c)
SRC      := $(filter-out $(UNIT_SRC) $(BPF_SRC),$(wildcard src/*/*.c))
UNITS    := $(UNIT_SRC:src/%.c=$(B)/%)
# floor by floor, so that the first failure is the telling one
# The simulator has one thread: nothing for TSan to see in minutes of it, unless it is asked for.
QUIET    := $(if $(findstring thread,$(SAN)),sim)
UNITS_RUN := $(foreach r,$(or $(ROOM),$(filter-out $(QUIET),$(ROOMS))),$(sort $(filter $(B)/$(r)/%,$(UNITS))))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZERS  := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)
BIN      := $(B)/meercat
C_FILES   = $(wildcard src/*/*.[ch] tests/*/*.[ch] bench/*.[ch])
MAN      := $(wildcard man/*.[1-9])
TRY       = MEERCAT=$(abspath $(BIN)) MEERCAT_SAN=$(VARIANT) tools/e2e $(PYTHON) -rfEs
# unit tests that play randomised schedules
SOAKS    := $(patsubst src/%.c,$(B)/%,$(shell grep -l 'mesh_schedules\|MC_SCHEDULES' $(UNIT_SRC)))
SUBMAKE   = $(MAKE) --no-print-directory

.DELETE_ON_ERROR:
.SECONDEXPANSION:
.SECONDARY:
.PHONY: all run test unit units soak e2e chaos bench bench-placement bench-cluster bench-floods fuzz fuzzers lint \
        lint-format lint-floors lint-man lint-cppcheck format shape install deps clean floors

all: floors $(BIN)

floors:
	@tools/floors

# --- building ---

$(B)/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(MC_CPPFLAGS) $(ALLFLAGS) -MMD -MP -c -o $@ $<

# What the kernel runs: one object, whatever the variant, that the binary carries as a file.  -g: the
# kernel wants to know the types (BTF).
BPF_OBJ  := $(BPF_SRC:src/%.c=build/bpf/%.o)
$(BPF_OBJ): build/bpf/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	@echo "  BPF   $<"
	$(Q)$(CLANG) -std=gnu17 -O2 -g -target bpf -mcpu=v3 -Isrc \
	    -I/usr/include/$(shell $(CC) -print-multiarch 2>/dev/null) -Wall -Wextra -MMD -MP -c -o $@ $<

$(B)/takeover/guard_object.o: build/bpf/takeover/guard.bpf.o
$(B)/takeover/guard_object.o: MC_CPPFLAGS += -DGUARD_OBJECT='"build/bpf/takeover/guard.bpf.o"'

# The list of a room's objects is a file that changes only when the list does: a source that was
# removed leaves the library, too.
define room_rule
$(B)/$(1).list: FORCE
	@mkdir -p $$(@D)
	@echo '$(filter src/$(1)/%.c,$(SRC))' | cmp -s - $$@ || echo '$(filter src/$(1)/%.c,$(SRC))' >$$@
$(B)/lib$(1).a: $$(patsubst src/%.c,$(B)/%.o,$$(filter src/$(1)/%.c,$$(SRC))) $(B)/$(1).list
	@rm -f $$@
	$(Q)ar rcs $$@ $$(filter %.o,$$^)
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))
.PHONY: FORCE

$(BIN): $(foreach r,$(call lower,cmd),$(B)/lib$(r).a)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALLFLAGS) $(LINK) -o $@ -Wl,--whole-archive $(B)/libcmd.a -Wl,--no-whole-archive \
	    -Wl,--start-group $^ -Wl,--end-group $(LIBS)

# A unit test links its own room and the floors below it, nothing above: the test proves the floor.
$(UNITS): $(B)/%_test: $(B)/%_test.o $$(foreach r,$$(call lower,$$(firstword $$(subst /, ,$$*))),$(B)/lib$$(r).a)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALLFLAGS) $(LINK) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS) -lcmocka

units: $(UNITS_RUN)

# What tests move by hand: tests/drivers/ROOM_driver.c links that room's floor and those below.
DRIVERS  := $(patsubst tests/drivers/%.c,$(B)/%,$(wildcard tests/drivers/*.c))
$(DRIVERS): $(B)/%: tests/drivers/%.c $(foreach r,$(call lower,takeover),$(B)/lib$(r).a)
	@echo "  LINK  $@"
	$(Q)$(CC) $(MC_CPPFLAGS) $(ALLFLAGS) $(LINK) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)

# --- testing ---

# One step after the other, also under -j: what is installed decides how the next step compiles,
# and the output of two kinds of tests does not mix.
test:
	@tools/deps build run test
	+@$(SUBMAKE) all units
	+@$(SUBMAKE) unit
	+@$(SUBMAKE) e2e
	+@$(SUBMAKE) net

unit: units
	@tools/unit $(UNITS_RUN)

# The same schedules as in the unit tests, and many more; SEED=n goes on from the n-th.
soak: $(SOAKS)
	@for t in $(SOAKS); do MC_SCHEDULES=$(or $(MC_SCHEDULES),10000) $(RUNNER) $$t || exit 1; done

e2e: $(BIN)
	@$(TRY) $(or $(T),tests/e2e)

# Hosts of the test's own: wants root, and says so where it is not.
net: $(BIN) $(DRIVERS)
	@$(TRY) $(or $(T),tests/net)

# At length what tests/net/test_45_chaos.py does in short: CHAOS_SEED, CHAOS_MINUTES and others, see there.
chaos:
	@tools/deps build test
	+@$(SUBMAKE) all
	+@$(SUBMAKE) -f bench/bench.mk bench-tools CC=$(CC)
	@MEERCAT=$(abspath $(BIN)) $(PYTHON) tests/chaos/run

fuzz:
	@tools/deps build test
	+@$(SUBMAKE) fuzzers
	+@$(SUBMAKE) fuzz-run SAN=address

.PHONY: fuzz-run
fuzz-run:
	@tools/fuzz build/fuzz $(FUZZ_SECONDS) $(notdir $(FUZZERS))

ifneq ($(VARIANT),fuzz)
fuzzers:
	+@$(SUBMAKE) fuzzers CC=$(CLANG) VARIANT=fuzz SAN=fuzzer-no-link,address,undefined
else
fuzzers: $(FUZZERS)

build/fuzz/fuzz_%.o: tests/fuzz/fuzz_%.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(MC_CPPFLAGS) $(ALLFLAGS) -MMD -MP -c -o $@ $<

$(FUZZERS): %: %.o $(foreach r,$(filter-out cmd,$(ROOMS)),$(B)/lib$(r).a)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALLFLAGS) $(LINK) -fsanitize=fuzzer -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)
endif

# --- showing ---

run:
	@tools/deps build run
	+@$(SUBMAKE) all
	@MEERCAT=$(abspath $(BIN)) tools/demo $(if $(filter-out 0,$(KILL)),--kill) $(RUN_ARGS)

# takeover is a group of cases that has an instrument of its own: both ends of what it costs are
# balancers in namespaces, and nothing of the others' is comparable
bench:
	@tools/deps build bench
	+@$(SUBMAKE) all
	+@$(SUBMAKE) -f bench/bench.mk bench-tools CC=$(CC)
ifneq ($(CASES),takeover)
	@$(PYTHON) bench/run --meercat $(BIN) $(if $(CASES),--cases $(CASES)) $(BENCH_ARGS)
endif
	$(if $(CASES),,+@$(SUBMAKE) -f bench/bench.mk place-bench CC=$(CC))
ifeq ($(CASES),takeover)
	@$(PYTHON) bench/takeover --meercat $(BIN) $(BENCH_ARGS)
else ifeq ($(CASES),)
	@if [ "$$(id -u)" = 0 ]; then $(PYTHON) bench/takeover --meercat $(BIN); \
	else echo "takeover: left out, it wants root"; fi
endif

bench-placement:
	@tools/deps build bench
	+@$(SUBMAKE) all
	+@$(SUBMAKE) -f bench/bench.mk bench-tools CC=$(CC)
	@$(PYTHON) bench/placement --meercat $(BIN) $(BENCH_ARGS)

bench-floods:
	@tools/deps build bench
	+@$(SUBMAKE) all
	+@$(SUBMAKE) -f bench/bench.mk bench-tools CC=$(CC)
	@$(PYTHON) bench/floods --meercat $(BIN) $(BENCH_ARGS)

bench-cluster:
	@tools/deps build bench
	+@$(SUBMAKE) all
	+@$(SUBMAKE) -f bench/bench.mk bench-tools CC=$(CC)
	@$(PYTHON) bench/cluster --meercat $(BIN) $(BENCH_ARGS)

shape:
	@tools/shape

# --- reading ---

lint: lint-format lint-floors lint-man lint-cppcheck

lint-format:
	@bad=0; for f in $(C_FILES); do \
	    clang-format "$$f" | cmp -s - "$$f" || { echo "$$f: not formatted (make format)"; bad=1; }; \
	done; exit $$bad

lint-floors:
	@tools/floors

lint-man:
	@$(if $(MAN),mandoc -T lint -W warning $(MAN))

lint-cppcheck:
	@mkdir -p build/cppcheck
	@cppcheck -q --enable=warning,performance,portability --std=c11 --library=gnu,posix \
	    --inline-suppr --suppressions-list=tools/cppcheck.suppress --error-exitcode=1 \
	    --cppcheck-build-dir=build/cppcheck -D_GNU_SOURCE -Isrc $(SRC)

format:
	clang-format -i $(C_FILES)

# --- installing ---

INSTALL  := install
SBIN     := $(DESTDIR)$(PREFIX)/sbin
SHARE    := $(DESTDIR)$(PREFIX)/share
PKG_LIB  := $(DESTDIR)$(PREFIX)/lib

install: all
	$(INSTALL) -d $(SBIN) $(SHARE)/doc/meercat $(PKG_LIB)/systemd/system $(PKG_LIB)/sysusers.d
	$(INSTALL) -m 755 $(BIN) $(SBIN)/meercat
	for m in $(MAN); do $(INSTALL) -D -m 644 $$m $(SHARE)/man/man$${m##*.}/$${m##*/} || exit 1; done
	for f in $(wildcard README.md CHANGELOG.md LICENSE packaging/meercat.logrotate packaging/meercat.sysctl packaging/meercat-vip.conf packaging/meercat-takeover.conf); do \
	    $(INSTALL) -m 644 $$f $(SHARE)/doc/meercat/ || exit 1; done
	for f in $$(find examples -type f); do \
	    $(INSTALL) -D -m 644 $$f $(SHARE)/doc/meercat/$$f || exit 1; done
	for s in meercat meercat-agent; do \
	    sed 's|/usr/local/sbin/|$(PREFIX)/sbin/|' packaging/$$s.service >$(PKG_LIB)/systemd/system/$$s.service && \
	    chmod 644 $(PKG_LIB)/systemd/system/$$s.service || exit 1; done
	$(INSTALL) -m 644 packaging/meercat.sysusers $(PKG_LIB)/sysusers.d/meercat.conf

deps:
	@tools/deps

clean:
	rm -rf build

-include $(shell find $(B) build/bpf -name '*.d' 2>/dev/null)
