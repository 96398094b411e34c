# make          builds everything into $(BUILD)
# make demo     the story: build, cluster, 256 MiB stored thrice, a chunkserver killed, read back
# make test     unit and end-to-end tests
# make help     the rest
#
# Layout: every .c in common/ master/ chunkserver/ client/ goes into one archive a folder (mains
# excepted); every tests/unit/test_NAME.c is one cmocka program; every tests/fuzz/fuzz_NAME.c one
# fuzz target. Missing Debian packages are installed by the first step of a build (tools/deps.sh),
# so nothing is asked of pkg-config before a recipe runs.

BUILD   ?= build
# make predefines CC and AR; a value of the user's own stays.
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin AR),default)
AR := gcc-ar
endif
PROTOCC ?= protoc-c
PYTHON  ?= /usr/bin/python3
VERSION := 0.1.0
SANITIZE ?=
OPT     ?= -O2 -g
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
UNITDIR ?= $(PREFIX)/lib/systemd/system

PKGS    := libevent_core libevent_pthreads libcrypto libprotobuf-c libisal libcjson libsystemd
# Asked once, when first needed: by then tools/deps.sh has run.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS)) -lleveldb -lpthread \
             -lm)$(PKG_LIBS)

SAN_FLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
             $(if $(findstring undefined,$(SANITIZE)),-fno-sanitize-recover=undefined))
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wwrite-strings -Wvla -Wno-unused-parameter $(WERROR)
CPPFLAGS += -D_GNU_SOURCE -DGFS_VERSION_TEXT='"$(VERSION)"' -I. -Iinclude -Icommon -I$(BUILD)/proto
CFLAGS  += -std=gnu11 $(OPT) -fPIC -fvisibility=hidden -fno-omit-frame-pointer $(WARN) $(SAN_FLAGS)
LDFLAGS += $(SAN_FLAGS)

# One short line a step; V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $@)

PROTOS    := $(wildcard include/proto/*.proto)
PROTO_C   := $(PROTOS:include/proto/%.proto=$(BUILD)/proto/%.pb-c.c)
PROTO_H   := $(PROTO_C:.c=.h)
PROTO_O   := $(PROTO_C:.c=.o)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
COMMON_O  := $(call obj,$(wildcard common/*.c))
MASTER_O  := $(call obj,$(filter-out master/main.c,$(wildcard master/*.c)))
CS_O      := $(call obj,$(filter-out chunkserver/main.c,$(wildcard chunkserver/*.c)))
CLIENT_O  := $(call obj,$(wildcard client/*.c))
GFSCTL_O  := $(call obj,$(wildcard client/gfsctl/*.c))
BENCH_O   := $(call obj,$(wildcard bench/*.c))

COMMON_A := $(BUILD)/lib/libcommon.a
MASTER_A := $(BUILD)/lib/libmaster.a
CS_A     := $(BUILD)/lib/libchunkserver.a
LIBGFS_A := $(BUILD)/lib/libgfs.a
LIBGFS_SO := $(BUILD)/lib/libgfs.so

BIN   := $(BUILD)/bin
PROGS := $(BIN)/gfs-master $(BIN)/gfs-chunkserver $(BIN)/gfsctl $(BIN)/gfs-bench

.PHONY: all
all: $(PROGS) $(LIBGFS_A) $(LIBGFS_SO) $(BUILD)/lib/pkgconfig/gfs.pc

.DELETE_ON_ERROR:
.SECONDARY:

# ---- packages ----------------------------------------------------------------------------------
# A stamp a group; `make deps` asks for all of them again.
$(BUILD)/.deps-%: tools/deps.sh tools/packages.txt
	@mkdir -p $(@D)
	@tools/deps.sh $*
	@touch $@

.PHONY: deps
deps:
	@tools/deps.sh build test lint

# ---- programs and libraries --------------------------------------------------------------------
$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h &: include/proto/%.proto | $(BUILD)/.deps-build
	@mkdir -p $(@D)
	$(call say,PROTO)
	$(Q)$(PROTOCC) --proto_path=include/proto --c_out=$(BUILD)/proto $<

$(BUILD)/proto/%.pb-c.o: $(BUILD)/proto/%.pb-c.c
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(PKG_CFLAGS) -c -o $@ $<

$(BUILD)/obj/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

$(COMMON_A): $(COMMON_O) $(PROTO_O)
$(MASTER_A): $(MASTER_O)
$(CS_A): $(CS_O)
$(COMMON_A) $(MASTER_A) $(CS_A):
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^

# The library a user links holds what it needs of common/ too; only GFS_API symbols are visible.
$(LIBGFS_A): $(CLIENT_O) $(COMMON_O) $(PROTO_O)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^

$(LIBGFS_SO).0: $(LIBGFS_A)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libgfs.so.0 -Wl,--no-undefined -o $@ \
	    -Wl,--whole-archive $(LIBGFS_A) -Wl,--no-whole-archive $(PKG_LIBS)
$(LIBGFS_SO): $(LIBGFS_SO).0
	$(Q)ln -sf $(<F) $@

$(BIN)/gfs-master: $(BUILD)/obj/master/main.o $(MASTER_A) $(COMMON_A)
$(BIN)/gfs-chunkserver: $(BUILD)/obj/chunkserver/main.o $(CS_A) $(COMMON_A)
$(BIN)/gfsctl: $(GFSCTL_O) $(LIBGFS_A)
$(BIN)/gfs-bench: $(BENCH_O) $(CS_A) $(LIBGFS_A)
$(PROGS):
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

# For use from the build directory; `make install` writes one of its own.
pc = sed -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBDIR@|$(1)|' -e 's|@INCLUDEDIR@|$(2)|' $< > $@
$(BUILD)/lib/pkgconfig/gfs.pc: client/gfs.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)$(call pc,$(abspath $(BUILD)/lib),$(abspath include))
$(BUILD)/install/gfs.pc: client/gfs.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)$(call pc,$(LIBDIR),$(PREFIX)/include/gfs)

# ---- tests -------------------------------------------------------------------------------------
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/fuzz/%)
REPLAY_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/replay/%)
ROLE_LIBS := $(MASTER_A) $(CS_A) $(LIBGFS_A)
link_roles = $(CC) $(CFLAGS) $(LDFLAGS) $(1) -o $@ $(filter %.o,$^) \
             -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) $(2)

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(ROLE_LIBS)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(call link_roles,,-lcmocka)
$(UNIT_SRC:tests/unit/%.c=$(BUILD)/obj/tests/unit/%.o): | $(BUILD)/.deps-test

# The checker of histories, for the simulator and for chaos.
HISTORY_O := $(call obj,$(wildcard tests/sim/history*.c))
CHAOS_O   := $(call obj,$(wildcard tests/chaos/*.c))
$(BUILD)/tests/test_history: $(HISTORY_O)
$(BUILD)/tests/check_history: $(call obj,tests/sim/check_history.c) $(HISTORY_O)
$(BUILD)/tests/chaos_client: $(CHAOS_O) $(HISTORY_O)
$(BUILD)/tests/check_history $(BUILD)/tests/chaos_client: $(LIBGFS_A)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(PKG_LIBS)

# The simulator: the real roles over a machine of its own, see tests/sim/sim.h. What it replaces is
# left out; what the code asks of threads, clocks and the kernel is sent to it by the linker.
SIM_SRC   := $(wildcard tests/sim/sim_*.c tests/sim/work*.c \
             $(filter-out tests/sim/check_history.c,$(wildcard tests/sim/check*.c)))
SIM_O     := $(call obj,$(SIM_SRC)) $(HISTORY_O)
SIM_OUT   := $(filter-out common/rpc_table.c,$(wildcard common/rpc_*.c)) common/loop.c common/kv.c \
             common/clock.c master/epoch.c
SIM_UNDER := $(filter-out $(call obj,$(SIM_OUT)),$(COMMON_O) $(MASTER_O) $(CS_O) $(CLIENT_O))
SIM_WRAP  := pthread_create pthread_join pthread_setname_np pthread_mutex_init \
             pthread_mutex_destroy pthread_mutex_lock pthread_mutex_unlock pthread_cond_init \
             pthread_cond_destroy pthread_cond_wait pthread_cond_timedwait pthread_cond_signal \
             pthread_cond_broadcast pthread_rwlock_init pthread_rwlock_destroy \
             pthread_rwlock_rdlock pthread_rwlock_wrlock pthread_rwlock_unlock nanosleep \
             clock_gettime time RAND_bytes log_event getifaddrs freeifaddrs addr_resolve \
             daemon_dir_stamp setpriority open close read write fsync unlink access rename mkdir \
             opendir readdir closedir dirfd fstatat statvfs
$(BUILD)/tests/sim: $(SIM_O) $(SIM_UNDER) $(PROTO_O)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(call sim_link,$@,$^)

# What tests/sim/mutants.py needs to make the same with one object in the place of another.
sim_link = $(CC) $(CFLAGS) $(LDFLAGS) $(SIM_WRAP:%=-Wl,--wrap=%) -o $(1) $(2) $(PKG_LIBS)
.PHONY: print-SIM_COMPILE print-SIM_LINK print-SIM_OBJECTS
print-SIM_COMPILE:
	@echo $(CC) $(CPPFLAGS) $(CFLAGS) $(PKG_CFLAGS)
print-SIM_LINK:
	@echo $(call sim_link,PROGRAM,OBJECTS)
print-SIM_OBJECTS:
	@echo $(SIM_O) $(SIM_UNDER) $(PROTO_O)

# The same targets twice: with libFuzzer (CC=clang), and with a main that replays the corpus.
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(ROLE_LIBS)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(call link_roles,-fsanitize=fuzzer)
$(BUILD)/replay/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/obj/tests/fuzz/replay_main.o $(ROLE_LIBS)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(call link_roles)

.PHONY: unit fuzzers replayers tests
unit: $(UNIT_BIN)
fuzzers: $(FUZZ_BIN)
replayers: $(REPLAY_BIN)
tests: all unit replayers

submake = $(MAKE) --no-print-directory -j$(JOBS)
ASAN_FLAGS = BUILD=$(BUILD)/asan SANITIZE=address,undefined OPT="-O1 -g" WERROR=-Werror
# What ThreadSanitizer cannot find anything in that the others do not show it.
TSAN_SKIPS = face files json namespace
TSAN_FLAGS = BUILD=$(BUILD)/tsan SANITIZE=thread OPT="-O1 -g" WERROR=-Werror
FUZZ_FLAGS = BUILD=$(BUILD)/fuzz CC=clang SANITIZE=address,undefined,fuzzer-no-link OPT="-O1 -g"
FUZZ_SECONDS ?= 60
CUTS ?= 20
SEED ?= 1
SEEDS ?= 10000
SIM_ARGS ?=
MUTANT_SEEDS ?= 2000
MINUTES ?= 3
RUN_TESTS = $(PYTHON) tools/run_tests.py

.PHONY: test test-unit test-e2e test-asan test-tsan fuzz powercut chaos sim sim-run sim-mutants
test: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) tests $(BUILD)/tests/sim
	@BUILD=$(BUILD) $(RUN_TESTS) --name test unit replay sim e2e
test-unit: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) unit replayers
	@BUILD=$(BUILD) $(RUN_TESTS) --name test-unit unit replay
test-e2e: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) all
	@BUILD=$(BUILD) $(RUN_TESTS) --name test-e2e e2e
test-asan: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) $(ASAN_FLAGS) tests
	@BUILD=$(BUILD)/asan SANITIZE=address,undefined $(RUN_TESTS) --name test-asan unit replay e2e
test-tsan: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) $(TSAN_FLAGS) tests
	@BUILD=$(BUILD)/tsan SANITIZE=thread $(RUN_TESTS) --name test-tsan unit e2e \
	    $(TSAN_SKIPS:%=--skip %)
fuzz: $(BUILD)/.deps-build $(BUILD)/.deps-lint
	@$(submake) $(FUZZ_FLAGS) fuzzers
	@BUILD=$(BUILD)/fuzz $(PYTHON) tools/run_fuzz.py --seconds $(FUZZ_SECONDS)
powercut: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) all
	@BUILD=$(BUILD) $(PYTHON) tests/power/powercut.py --cuts $(CUTS)
sim: $(BUILD)/.deps-build
	@$(submake) $(BUILD)/tests/sim
	@$(BUILD)/tests/sim --seed $(SEED) --verbose $(SIM_ARGS)
sim-run: $(BUILD)/.deps-build
	@$(submake) $(BUILD)/tests/sim
	@$(BUILD)/tests/sim --seed $(SEED) --seeds $(SEEDS) --jobs $(JOBS) $(SIM_ARGS)
sim-mutants: $(BUILD)/.deps-build
	@$(submake) $(BUILD)/tests/sim
	@BUILD=$(BUILD) $(PYTHON) tests/sim/mutants.py --seeds $(MUTANT_SEEDS)
chaos: $(BUILD)/.deps-build $(BUILD)/.deps-test
	@$(submake) all $(BUILD)/tests/check_history $(BUILD)/tests/chaos_client
	@BUILD=$(BUILD) $(PYTHON) tests/chaos/chaos.py --seed $(SEED) --minutes $(MINUTES) \
	    --results $(BUILD)/results-chaos.json

# ---- checks of the source ----------------------------------------------------------------------
.PHONY: lint format
lint: $(BUILD)/.deps-build $(BUILD)/.deps-lint
	@$(submake) BUILD=$(BUILD)/lint WERROR=-Werror tests
	@BUILD=$(BUILD) $(PYTHON) tools/lint.py
format: $(BUILD)/.deps-lint
	clang-format -i $$(git ls-files '*.c' '*.h')

# ---- running it --------------------------------------------------------------------------------
.PHONY: demo cluster cluster-stop
demo: $(BUILD)/.deps-build
	@$(submake) $(PROGS)
	@BUILD=$(BUILD) tools/demo.sh
cluster: $(BUILD)/.deps-build
	@$(submake) $(PROGS)
	@BUILD=$(BUILD) tools/cluster.sh start
cluster-stop:
	@BUILD=$(BUILD) tools/cluster.sh stop

# ---- installing --------------------------------------------------------------------------------
.PHONY: install
install: all $(BUILD)/install/gfs.pc
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig \
	    $(DESTDIR)$(PREFIX)/include/gfs $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/share/doc/gfs
	install -m 755 $(PROGS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(LIBGFS_A) $(DESTDIR)$(LIBDIR)
	install -m 755 $(LIBGFS_SO).0 $(DESTDIR)$(LIBDIR)
	ln -sf libgfs.so.0 $(DESTDIR)$(LIBDIR)/libgfs.so
	install -m 644 $(BUILD)/install/gfs.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 include/gfs.h include/gfs_err.h include/gfs_err.tbl \
	    $(DESTDIR)$(PREFIX)/include/gfs
	install -m 644 deploy/*.conf $(DESTDIR)$(PREFIX)/share/doc/gfs
	for unit in deploy/*.service; do \
	    sed 's|@PREFIX@|$(PREFIX)|' $$unit > $(DESTDIR)$(UNITDIR)/$${unit##*/}; \
	done

.PHONY: clean help
clean:
	rm -rf $(BUILD)

help:
	@echo "make               build into $(BUILD)/ (BUILD=DIR, SANITIZE=address, OPT=-O0, CC=clang)"
	@echo "make demo          store 256 MiB in three replicas, kill a chunkserver, read it back"
	@echo "make cluster       leave a local cluster running; make cluster-stop ends it"
	@echo "make test          unit tests, 500 seeds of the simulator, end-to-end tests (test-unit, test-e2e: one of them)"
	@echo "make test-asan     the same under AddressSanitizer and UBSan; test-tsan: ThreadSanitizer"
	@echo "make fuzz          every fuzz target, FUZZ_SECONDS=60 in all"
	@echo "make powercut      power cuts on loop-mounted XFS and ext4, CUTS=20 each (root)"
	@echo "make sim           one seed of the simulator with its whole trace, SEED=1 SIM_ARGS=--help"
	@echo "make sim-run       many: SEEDS=10000 from SEED=1 on; what fails is shown with its trace"
	@echo "make sim-mutants   bugs planted in the code: each must be found within 2000 seeds"
	@echo "make chaos         faults without pause and a checker, SEED=1 MINUTES=3 (root)"
	@echo "make lint          format, static analysis, floors, sizes; make format: clang-format"
	@echo "make install       PREFIX=/usr/local DESTDIR= LIBDIR= UNITDIR="
	@echo "make deps          install missing Debian packages (as root or with sudo)"
	@echo "make clean         remove $(BUILD)/"

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
