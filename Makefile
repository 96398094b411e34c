# make        builds everything into $(BUILD)
# make demo   the story: build, cluster, 256 MiB stored thrice, a chunkserver killed, read back
# make test   unit and end-to-end tests
# make help   the rest
#
# Layout: every .c in common/ master/ chunkserver/ client/ goes into one archive a folder (mains
# excepted); every tests/unit/test_NAME.c is one cmocka program; fuzz targets likewise.

BUILD   ?= build
CC      ?= gcc
AR      ?= gcc-ar
PROTOCC ?= protoc-c
VERSION := 0.1.0
SANITIZE ?=
OPT     ?= -O2 -g

PKGS    := libevent_core libevent_pthreads libcrypto libprotobuf-c libisal libcjson libsystemd
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lleveldb -lpthread -lm

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wwrite-strings -Wvla -Wno-unused-parameter $(WERROR)
CPPFLAGS += -D_GNU_SOURCE -DGFS_VERSION_TEXT='"$(VERSION)"' -I. -Iinclude -Icommon -I$(BUILD)/proto
CFLAGS  += -std=gnu11 $(OPT) -fPIC -fvisibility=hidden -fno-omit-frame-pointer $(WARN) \
           $(PKG_CFLAGS) $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LDFLAGS += $(if $(SANITIZE),-fsanitize=$(SANITIZE))

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

$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h &: include/proto/%.proto
	@mkdir -p $(@D)
	$(PROTOCC) --proto_path=include/proto --c_out=$(BUILD)/proto $<

$(BUILD)/proto/%.pb-c.o: $(BUILD)/proto/%.pb-c.c
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(COMMON_A): $(COMMON_O) $(PROTO_O)
$(MASTER_A): $(MASTER_O)
$(CS_A): $(CS_O)
$(COMMON_A) $(MASTER_A) $(CS_A):
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

# The library a user links holds what it needs of common/ too; only GFS_API symbols are visible.
$(LIBGFS_A): $(CLIENT_O) $(COMMON_O) $(PROTO_O)
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

$(LIBGFS_SO).0: $(LIBGFS_A)
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libgfs.so.0 -Wl,--no-undefined -o $@ \
	    -Wl,--whole-archive $(LIBGFS_A) -Wl,--no-whole-archive $(PKG_LIBS)
$(LIBGFS_SO): $(LIBGFS_SO).0
	ln -sf $(<F) $@

$(BIN)/gfs-master: $(BUILD)/obj/master/main.o $(MASTER_A) $(COMMON_A)
$(BIN)/gfs-chunkserver: $(BUILD)/obj/chunkserver/main.o $(CS_A) $(COMMON_A)
$(BIN)/gfsctl: $(GFSCTL_O) $(LIBGFS_A)
$(BIN)/gfs-bench: $(BENCH_O) $(CS_A) $(LIBGFS_A)
$(PROGS):
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/lib/pkgconfig/gfs.pc: client/gfs.pc.in Makefile
	@mkdir -p $(@D)
	sed -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBDIR@|$(abspath $(BUILD)/lib)|' \
	    -e 's|@INCLUDEDIR@|$(abspath include)|' $< > $@

# ---- tests -------------------------------------------------------------------------------------
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(MASTER_A) $(CS_A) $(LIBGFS_A)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	    $(PKG_LIBS) -lcmocka

.PHONY: unit
unit: $(UNIT_BIN)

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
