# The programs that bench/run, bench/placement, bench/cluster and tools/demo need, from the top:
# make -f bench/bench.mk bench-tools.  Complete by itself, so that they can be started without the
# Makefile.

BENCH_DIR   := build/release/bench
BENCH_TOOLS := $(addprefix $(BENCH_DIR)/,origin load steady ledger flood place_origin place_load agents)

LIBS_load   := -lssl -lcrypto

.PHONY: bench-tools place-bench
bench-tools: $(BENCH_TOOLS)

$(BENCH_TOOLS): $(BENCH_DIR)/%: bench/%.c $(wildcard bench/*.h) bench/bench.mk
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) -std=gnu17 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes $(CFLAGS) -o $@ $< \
	    $(LIBS_$(@F)) -lm -pthread

# What a pick costs, by policy and number of servers: make -f bench/bench.mk place-bench, after make.
# It links the objects that serve.
PLACE_LIBS := build/release/libplace.a build/release/libbase.a

place-bench: $(BENCH_DIR)/place_bench
	@$<

$(BENCH_DIR)/place_bench: bench/place_bench.c $(PLACE_LIBS) bench/bench.mk
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) -std=gnu17 -D_GNU_SOURCE -Isrc -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes $(CFLAGS) \
	    -o $@ $< $(PLACE_LIBS) -lm -pthread

# What membership costs and how soon it sees a death, in virtual time: the table of docs/cluster.md.
# make -f bench/bench.mk swim-bench, after make; SWIM_ARGS="300 20" for one line of it.
SWIM_LIBS := $(patsubst %,build/release/lib%.a,cluster place http io base)

.PHONY: swim-bench
swim-bench: $(BENCH_DIR)/swim
	@$< $(SWIM_ARGS)

$(BENCH_DIR)/swim: bench/swim.c src/cluster/swim_harness.h $(SWIM_LIBS) bench/bench.mk
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) -std=gnu17 -D_GNU_SOURCE -Isrc -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes \
	    -Wno-unused-parameter $(CFLAGS) -o $@ $< -Wl,--start-group $(SWIM_LIBS) -Wl,--end-group -lm -pthread

# What the guard costs: the figures of docs/high-availability.md; wants root.  make -f bench/bench.mk
# guard-bench, after make.
GUARD_LIBS := $(patsubst %,build/release/lib%.a,takeover cluster io base)

.PHONY: guard-bench
guard-bench: $(BENCH_DIR)/guard_server $(BENCH_DIR)/load
	@bench/guard

$(BENCH_DIR)/guard_server: bench/guard_server.c bench/tool.h $(GUARD_LIBS) bench/bench.mk
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) -std=gnu17 -D_GNU_SOURCE -Isrc -Ibench -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes \
	    -Wno-unused-parameter $(CFLAGS) -o $@ $< -Wl,--start-group $(GUARD_LIBS) -Wl,--end-group \
	    $(shell pkg-config --libs libbpf libcap liburing libcrypto libssl libcares jansson) -lm -pthread
