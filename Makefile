# luio: `make demo` shows it, `make test` checks it; both install what Debian packages they miss.
#
#   make            the runtime and the program, in build/
#   make demo       the edu driver on a simulated device; no hardware, no privileges
#   make demo-uio   the same on a real /dev/uio0, in a QEMU guest with Debian's kernel
#   make test       all specs: simulated, sanitized, recorded sysfs, and in the guest
#   make bench      figures, each as a ratio to a C twin measured in the same run
#   make lint       luacheck, clang-tidy, cppcheck;  make format: clang-format
#   make install / uninstall   PREFIX (/usr/local), DESTDIR
# V=1 shows the commands.

VERSION := 0.1.0
SOVERSION := 0
PREFIX ?= /usr/local
BUILD := build
CC ?= cc
CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
Q := $(if $(V),,@)
, := ,
say = $(if $(V),,@printf '  %-8s %s\n' '$(1)' '$(2)')

# Empty until the packages are there; every build rule comes after .deps-build.
pkg = $(shell pkg-config $(1) luajit libudev 2>/dev/null)

SOURCES := $(filter-out runtime/main.c,$(wildcard runtime/*.c))
HEADERS := $(wildcard runtime/*.h)

all: $(BUILD)/libluio.so $(BUILD)/luio

# ---- The runtime, once per flavour: plain, and with each sanitizer --------------------------------

$(BUILD)/luio.cdef.inc: runtime/luio.h | deps-build
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -E -P -DLUIO_CDEF $< | sed 's/["\\]/\\&/g; s/.*/"&\\n"/' > $@.tmp && mv $@.tmp $@

# $(1): directory, $(2): flags
define flavour
$(patsubst runtime/%.c,$(1)/%.o,$(SOURCES)): $(1)/%.o: runtime/%.c $(HEADERS) $(BUILD)/luio.cdef.inc
	$$(call say,CC,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(2) $(WARNINGS) -fPIC -fvisibility=hidden -D_GNU_SOURCE \
	  -DLUIO_VERSION=$(VERSION) -I$(BUILD) $$(call pkg,--cflags) -c -o $$@ $$<
$(1)/libluio.so: $(patsubst runtime/%.c,$(1)/%.o,$(SOURCES))
	$$(call say,LD,$$@)
	$(Q)$(CC) -shared $(CFLAGS) $(2) $(LDFLAGS) -Wl,-soname,libluio.so.$(SOVERSION) -Wl,-z,nodelete -o $$@ $$^ \
	  -ludev -pthread
endef

$(eval $(call flavour,$(BUILD),))
$(eval $(call flavour,$(BUILD)/asan,-O1 -fno-omit-frame-pointer -fsanitize=address$(,)undefined -fno-sanitize-recover=undefined))
$(eval $(call flavour,$(BUILD)/tsan,-O1 -fsanitize=thread))

$(BUILD)/luio: runtime/main.c | deps-build
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) -D_GNU_SOURCE $(call pkg,--cflags) $(LDFLAGS) -o $@ $< \
	  $$(pkg-config --libs luajit) -Wl,-E

# ---- Set-up ----------------------------------------------------------------------------------------

deps-%:
	$(Q).ci/deps $*

.PHONY: all
