# Meercat.  `make run` shows it working, `make test` proves it; both install what they need.
#
#   make                 build/release/meercat
#   make SAN=address,undefined | SAN=thread     the same, apart, under build/<name>/
#   make run             a balancer, four origin servers and some traffic, on loopback
#   make test            unit and end-to-end tests          make fuzz    every fuzz target, bounded
#   make bench           against HAProxy and nginx          make lint    formatting, floors, man pages
#   make shape           how the source reads, in numbers   make install PREFIX=/usr/local DESTDIR=
#   make deps            only install the Debian packages that building and testing need

VERSION  := 0.1.0
ifeq ($(origin CC),default)
CC       := gcc
endif
PREFIX   ?= /usr/local
SAN      ?=
PYTHON   := /usr/bin/python3

comma    := ,
VARIANT  := $(if $(SAN),$(subst $(comma),-,$(SAN)),release)
B        := build/$(VARIANT)

ROOMS    := $(shell awk '{print $$1}' src/FLOORS)
# lower(room): the room itself and every room on a lower floor, top floor first
lower     = $(shell awk -v r=$(1) '{f[$$1]=$$2; n[NR]=$$1} END {for (i=NR;i>0;i--) if (n[i]==r || f[n[i]]<f[r]) print n[i]}' src/FLOORS)

PKGS     := liburing libconfuse jansson libcares libcap libsystemd
CSTD     := -std=gnu17
WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wwrite-strings -Wvla -Wformat=2 -Wno-format-nonliteral -Wno-unused-parameter \
            $(if $(CI)$(WERROR),-Werror)
HARDEN   := -fstack-protector-strong -fPIE -fno-common $(if $(SAN),,-D_FORTIFY_SOURCE=2)
OPT      := $(if $(SAN),-O1 -fno-omit-frame-pointer,-O2) -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all))
CPPFLAGS += -D_GNU_SOURCE -Isrc -DMEERCAT_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
ALLFLAGS  = $(CSTD) $(OPT) $(WARN) $(HARDEN) $(SANFLAGS) $(CFLAGS)
LINK     := -pie -Wl,-z,relro,-z,now $(SANFLAGS) $(LDFLAGS)
LIBS      = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -pthread

UNIT_SRC := $(wildcard src/*/*_test.c)
SRC      := $(filter-out $(UNIT_SRC),$(wildcard src/*/*.c))
UNITS    := $(UNIT_SRC:src/%.c=$(B)/%)
BIN      := $(B)/meercat

.DELETE_ON_ERROR:
.SECONDEXPANSION:
.PHONY: all run test unit e2e bench fuzz lint shape install deps clean floors

all: floors $(BIN)

floors:
	@tools/floors

$(B)/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALLFLAGS) -MMD -MP -c -o $@ $<

define room_rule
$(B)/lib$(1).a: $$(patsubst src/%.c,$(B)/%.o,$$(filter src/$(1)/%.c,$$(SRC)))
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

$(BIN): $(foreach r,$(call lower,cmd),$(B)/lib$(r).a)
	$(CC) $(ALLFLAGS) $(LINK) -o $@ -Wl,--whole-archive $(B)/libcmd.a -Wl,--no-whole-archive \
	    -Wl,--start-group $^ -Wl,--end-group $(LIBS)

# A unit test links its own room and the floors below it, nothing above: the test proves the floor.
$(UNITS): $(B)/%_test: $(B)/%_test.o $$(foreach r,$$(call lower,$$(firstword $$(subst /, ,$$*))),$(B)/lib$$(r).a)
	$(CC) $(ALLFLAGS) $(LINK) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS) -lcmocka

unit: $(UNITS)
	@set -e; for t in $(UNITS); do echo "== $$t"; ./$$t; done

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
