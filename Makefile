# luio: `make demo` shows it, `make check` and `make test` check it; they install the Debian packages that they miss.
#
#   make            the runtime and the program, in build/; installs nothing, and names the packages that are missing
#   make demo       the edu driver on a simulated device, and on QEMU's if there is a QEMU; no hardware, no privileges
#   make demo-uio   the same on a real /dev/uio0, in a QEMU guest with Debian's kernel
#   make check      what takes a minute: layers, luacheck, the specs on simulated devices and recorded sysfs trees, and on QEMU's if there is one
#   make test       all specs: simulated, sanitized, recorded sysfs, and in the guest. LONG=1: with all amounts (1,000 reloads in
#                   the guest, 100 kills, 1 GiB through the network, 1 MiB through the serial line)
#   make test-arm64 only those of the arm64 guest: device tree, generic-uio
#   make fuzz       mutated SVD files into the importer; mutated /sys and /proc, and what QEMU says, into all that reads them
#   make soak       everything at once in one guest, for an hour (SECONDS=3600): reloads, kills, unplugging, traffic
#   make bench      figures, each as a ratio to a C twin measured in the same run
#   make modules    kernel modules of examples/kernel/, for the guest's kernel, in build/modules/
#   make lint       layers, luacheck, clang-tidy, cppcheck;  make format: clang-format
#   make layers     no file uses what lies above it: spec/lint/floors.lua has the floors
#   make doc        the API reference, in build/doc/ (lua/doc/doc.mk)
#   make man        build/luio.1
#   make dist       one file for a board that has a C library and nothing else: build/dist/luio-VERSION-ARCH.tar.xz
#   make install / uninstall   PREFIX (/usr/local), DESTDIR
#   make install-system / uninstall-system   udev rules, groups, a systemd unit (runtime/system/system.mk)
# V=1 shows the commands. BUILD=DIR builds elsewhere. ARCH=arm64 builds for that architecture, in build/arm64/: with Debian's cross compiler, and with its
# LuaJIT and libudev unpacked beside it.

VERSION := 0.1.0
SOVERSION := 0
PREFIX ?= /usr/local
BUILD := build
CC ?= cc
PKG_CONFIG := pkg-config
CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
Q := $(if $(V),,@)
, := ,
say = $(if $(V),,@printf '  %-8s %s\n' '$(1)' '$(2)')

# Another architecture than this machine's. The environment does not count, because kernel developers often set ARCH there.
TRIPLET_arm64 := aarch64-linux-gnu
cross := $(if $(filter command,$(firstword $(origin ARCH))),$(filter-out $(shell dpkg --print-architecture),$(ARCH)))
ifneq ($(cross),)
TRIPLET := $(or $(TRIPLET_$(cross)),$(error ARCH=$(cross): the architectures are arm64 and this machine's own))
BUILD := build/$(cross)
SYSROOT := $(CURDIR)/build/sysroot/$(cross)
CC := $(TRIPLET)-gcc
PKG_CONFIG := PKG_CONFIG_SYSROOT_DIR='$(SYSROOT)' PKG_CONFIG_LIBDIR='$(SYSROOT)/usr/lib/$(TRIPLET)/pkgconfig' pkg-config
endif

# A BUILD outside of this tree: the program must be told where the tree is. spec/guest/ keeps what it makes there, too.
outside := $(shell case "$$(realpath -m -- '$(BUILD)')/" in ("$$(realpath .)"/*) ;; (*) echo yes ;; esac)
ifneq ($(outside),)
export LUIO_BUILD := $(abspath $(BUILD))
endif

# Empty until the packages are there; every build rule comes after `tools`.
pkg = $(shell $(PKG_CONFIG) $(1) luajit libudev 2>/dev/null)

PROGRAM := runtime/main.c $(wildcard runtime/guardian*.c) # not in the library
SOURCES := $(filter-out $(PROGRAM),$(wildcard runtime/*.c))
PROGRAM += runtime/guard_wire.c runtime/guard_bars.c runtime/descriptors.c # in both
HEADERS := $(wildcard runtime/*.h)
API := $(wildcard runtime/luio*.h) # luio.h includes the others

# These goals install packages. Every other goal only checks for them.
export LUIO_SETUP := $(or $(LUIO_SETUP),$(filter demo demo-uio test test-% cross-% check modules fuzz soak bench layers lint format doc dist,$(MAKECMDGOALS)))

all: $(BUILD)/libluio.so $(BUILD)/luio $(BUILD)/compile_commands.json support
	$(if $(LUIO_SETUP)$(cross),,@.ci/deps --note run)

# ---- The runtime, once per flavour: plain, and with each sanitizer --------------------------------

$(BUILD)/luio.cdef.inc: runtime/luio.h $(API) | tools
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
	  $$$$($(PKG_CONFIG) --libs libudev) -pthread
endef

$(eval $(call flavour,$(BUILD),))
asan := -O1 -fno-omit-frame-pointer -fsanitize=address$(,)undefined -fno-sanitize-recover=undefined
tsan := -O1 -fsanitize=thread
$(eval $(call flavour,$(BUILD)/asan,$(asan)))
$(eval $(call flavour,$(BUILD)/tsan,$(tsan)))

# luio-reckless has a guardian that leaves bus master on. With it the guardian's specs must fail: that shows what they
# are worth. A program of its own, never installed, because an option could be left on.
$(BUILD)/luio-reckless: extra := -DGUARDIAN_LEAVES_BUS_MASTER_ON
# luio-asan and luio-tsan load the library of their flavour: for the stages of those names.
$(BUILD)/luio-asan: extra := $(asan)
$(BUILD)/luio-tsan: extra := $(tsan)
$(BUILD)/luio $(BUILD)/luio-reckless $(BUILD)/luio-asan $(BUILD)/luio-tsan: $(PROGRAM) runtime/guard.h runtime/guardian.h runtime/descriptors.h runtime/board/embedded.h | tools
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(extra) $(WARNINGS) -D_GNU_SOURCE $(if $(outside),-DLUIO_SOURCE='"$(CURDIR)"') $(call pkg,--cflags) $(LDFLAGS) -o $@ \
	  $(PROGRAM) $$($(PKG_CONFIG) --libs luajit) -Wl,-E

# Test tools in C: shared libraries that specs load. Built with the rest, so that `busted` just runs. faultpage knows x86-64.
SUPPORT := $(patsubst spec/support/%.c,$(BUILD)/spec/lib%.so,\
  $(filter-out $(if $(cross),%/faultpage.c),$(wildcard spec/support/*.c)))
support: $(SUPPORT) $(BUILD)/luio-reckless
$(BUILD)/spec/lib%.so: spec/support/%.c $(API) | tools
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) -fPIC -shared -D_GNU_SOURCE -Iruntime -o $@ $< -pthread

# For clangd, which looks for it in a folder `build` above the file that is edited. With another BUILD: clangd --compile-commands-dir=DIR.
compiled := $(wildcard runtime/*.c runtime/board/*.c spec/support/*.c spec/fuzz/*.c)
$(BUILD)/compile_commands.json: Makefile $(compiled) | tools
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q){ comma='['; for file in $(compiled); do \
	  printf '%s\n{"directory": "%s", "file": "%s", "arguments": [' "$$comma" '$(CURDIR)' "$$file"; \
	  printf '"%s", ' $(CC) -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -DLUIO_VERSION=$(VERSION) -I$(BUILD) -Iruntime $(call pkg,--cflags) -c; \
	  printf '"%s"]}' "$$file"; comma=,; done; echo; echo ']'; } > $@.tmp && mv $@.tmp $@

# ---- Showing, checking, measuring ----------------------------------------------------------------

demo: all | deps-run
	$(Q)$(BUILD)/luio examples/demo.lua
	$(Q)if command -v qemu-system-x86_64 > /dev/null; then echo; $(BUILD)/luio examples/demo.lua qemu:edu; \
	  else echo "QEMU's edu comes next, where there is a QEMU: apt install qemu-system-x86"; fi

# The guest has no terminal of ours, so CLICOLOR_FORCE is handed to it.
demo-uio: all | deps-run deps-guest
	$(Q)colour=; [ -t 1 ] && [ -z "$$NO_COLOR" ] && colour=1; \
	  spec/guest/run --env CLICOLOR_FORCE=$$colour -- \
	  $(BUILD)/luio examples/demo.lua 0000:00:04.0

# Builds with all processors. Packages come before, because only one process at a time can install them.
parallel = $(Q)$(MAKE) --no-print-directory -j$$(nproc)

# QEMU's devices where there is a QEMU; `make test` installs one.
qemu = $$(command -v qemu-system-x86_64 >/dev/null && echo qemu)

# luacheck takes one processor for some seconds, so it runs beside the specs.
check: | deps-build deps-run deps-check deps-doc
	$(parallel) all layers
	$(call say,LINT,luacheck)
	$(Q)luacheck -q . >$(BUILD)/luacheck.log & lint=$$!; LUIO_BRIEF=1 spec/run sim udev $(qemu); specs=$$?; \
	  wait $$lint || { cat $(BUILD)/luacheck.log && exit 1; }; exit $$specs

test: | deps-build deps-arm64 deps-run deps-test deps-doc deps-guest
	$(parallel) all cross-arm64 $(BUILD)/asan/libluio.so $(BUILD)/tsan/libluio.so $(BUILD)/luio-asan $(BUILD)/luio-tsan $(SUPPORT)
	$(Q)$(if $(LONG),LUIO_LONG=1 )spec/run $(STAGES)

# For the guest's kernel (spec/guest/headers). For the one that runs here: make -C /lib/modules/$$(uname -r)/build M=...
modules: | deps-guest
	$(Q)for m in examples/kernel/*/; do spec/guest/module $$m $(ARCH) || exit 1; done

test-arm64: cross-arm64 | deps-run deps-test deps-guest
	$(Q)spec/run arm64

cross-arm64: all | deps-arm64
	$(Q)$(MAKE) --no-print-directory ARCH=arm64

# The parsers of /sys and /proc, and of the lines of QEMU's test socket, by themselves, under sanitizers: spec/fuzz/parsers.c.
PARSERS := text sysfs describe devicetree iomem pagemap error descriptors qemu_line
$(BUILD)/fuzz/parsers: spec/fuzz/parsers.c spec/fuzz/parsers.h $(PARSERS:%=runtime/%.c) $(HEADERS)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)for one in $(PARSERS); do $(CC) -std=gnu11 $(CFLAGS) $(asan) $(WARNINGS) -D_GNU_SOURCE -include spec/fuzz/parsers.h \
	  -c -o $(@D)/$$one.o runtime/$$one.c || exit 1; done
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(asan) $(WARNINGS) -D_GNU_SOURCE -o $@ $< $(PARSERS:%=$(@D)/%.o) $$($(PKG_CONFIG) --libs libudev)

# Longer than CI's minute: make fuzz SECONDS=3600 SEED=7. The time is shared.
fuzz: SECONDS ?= 600
fuzz: SEED ?= $(shell date +%s)
fuzz: all $(BUILD)/asan/libluio.so $(BUILD)/fuzz/parsers | deps-run deps-test
	$(Q)spec/fuzz/svd $$(($(SECONDS) / 4)) $(SEED)
	$(Q)spec/fuzz/qmp $$(($(SECONDS) / 12)) $(SEED)
	$(Q)$(BUILD)/fuzz/parsers $$(($(SECONDS) / 6)) $(SEED)
	$(Q)spec/fuzz/kernel $$(($(SECONDS) / 2)) $(SEED)

bench: all | deps-run deps-bench deps-guest
	$(Q)spec/bench/run

soak: all | deps-run deps-test deps-guest
	$(Q)spec/soak/run $(or $(SECONDS),3600)

# Which file may use which: spec/lint/layers.lua, spec/lint/floors.lua.
OBJECTS := $(patsubst runtime/%.c,$(BUILD)/%.o,$(SOURCES)) \
  $(patsubst runtime/%.c,$(BUILD)/program/%.o,$(filter runtime/main.c runtime/guardian%,$(PROGRAM)))
$(BUILD)/program/%.o: runtime/%.c $(HEADERS) runtime/board/embedded.h | tools
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) -D_GNU_SOURCE $(call pkg,--cflags) -c -o $@ $<
layers: $(OBJECTS)
	$(call say,LINT,layers)
	$(Q)luajit spec/lint/layers $(OBJECTS)

lint: layers $(BUILD)/luio.cdef.inc | deps-lint
	$(call say,LINT,documented)
	$(Q)luajit spec/lint/documented
	$(call say,LINT,luacheck)
	$(Q)luacheck -q .
	$(call say,LINT,cppcheck)
	$(Q)cppcheck --quiet --std=c11 --enable=warning,portability,performance --inline-suppr \
	  --suppress=missingIncludeSystem --error-exitcode=1 -D_GNU_SOURCE -D__x86_64__ \
	  -DLUIO_VERSION=$(VERSION) -I$(BUILD) runtime spec/support spec/fuzz
	$(call say,LINT,clang-tidy)
	$(Q)clang-tidy --quiet $(wildcard runtime/*.c runtime/board/*.c) $(wildcard spec/support/*.c) -- -std=gnu11 -D_GNU_SOURCE \
	  -DLUIO_VERSION=$(VERSION) -I$(BUILD) -Iruntime $(call pkg,--cflags) 2>/dev/null
	$(call say,LINT,clang-format)
	$(Q)clang-format --dry-run -Werror runtime/*.[ch] runtime/board/*.[ch] $(wildcard spec/support/*.c) spec/fuzz/*.[ch]

format: | deps-lint
	$(Q)clang-format -i runtime/*.[ch] runtime/board/*.[ch] $(wildcard spec/support/*.c) spec/fuzz/*.[ch]

# ---- Installing ----------------------------------------------------------------------------------

dest := $(DESTDIR)$(PREFIX)
modules := $(wildcard lua/luio/*.lua lua/luio/*/*.lua lua/luio/*/*/*.lua)
drivers := $(wildcard drivers/*/*.lua)

# The man page and the completions, printed by the program itself.
$(BUILD)/luio.1 $(BUILD)/luio.bash $(BUILD)/_luio: $(BUILD)/luio $(BUILD)/libluio.so $(modules) | deps-run
$(BUILD)/luio.1: say_itself = __man
$(BUILD)/luio.bash: say_itself = completion bash
$(BUILD)/_luio: say_itself = completion zsh
$(BUILD)/luio.1 $(BUILD)/luio.bash $(BUILD)/_luio:
	$(call say,GEN,$@)
	$(Q)$(BUILD)/luio $(say_itself) > $@.tmp && mv $@.tmp $@

man: $(BUILD)/luio.1

install: $(BUILD)/libluio.so $(BUILD)/luio $(BUILD)/luio.1 $(BUILD)/luio.bash $(BUILD)/_luio
	$(call say,INSTALL,$(dest))
	$(Q)install -d '$(dest)'/bin '$(dest)'/lib/pkgconfig '$(dest)'/include
	$(Q)install -m 755 $(BUILD)/luio '$(dest)'/bin/luio
	$(Q)install -m 755 $(BUILD)/libluio.so '$(dest)'/lib/libluio.so.$(VERSION)
	$(Q)ln -sf libluio.so.$(VERSION) '$(dest)'/lib/libluio.so.$(SOVERSION)
	$(Q)ln -sf libluio.so.$(SOVERSION) '$(dest)'/lib/libluio.so
	$(Q)install -m 644 $(API) '$(dest)'/include/
	$(Q)for f in $(modules:lua/%=%); do install -D -m 644 lua/$$f '$(dest)'/share/lua/5.1/$$f || exit 1; done
	$(Q)for f in $(drivers); do install -D -m 644 $$f '$(dest)'/share/luio/$$f || exit 1; done
	$(Q)install -D -m 644 $(BUILD)/luio.1 '$(dest)'/share/man/man1/luio.1
	$(Q)install -D -m 644 $(BUILD)/luio.bash '$(dest)'/share/bash-completion/completions/luio
	$(Q)install -D -m 644 $(BUILD)/_luio '$(dest)'/share/zsh/site-functions/_luio
	$(Q)[ -n '$(DESTDIR)' ] || ldconfig 2>/dev/null || true
	$(Q)printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
	  'Name: luio' 'Description: Linux user-space device drivers as Lua scripts' \
	  'Version: $(VERSION)' 'Libs: -L$${libdir} -lluio' 'Libs.private: -ludev -pthread' \
	  'Cflags: -I$${includedir}' > '$(dest)'/lib/pkgconfig/luio.pc

uninstall:
	$(call say,REMOVE,$(dest))
	$(Q)rm -f '$(dest)'/bin/luio '$(dest)'/lib/libluio.so* '$(dest)'/include/luio*.h '$(dest)'/lib/pkgconfig/luio.pc
	$(Q)rm -f '$(dest)'/share/man/man1/luio.1 '$(dest)'/share/bash-completion/completions/luio \
	  '$(dest)'/share/zsh/site-functions/_luio
	$(Q)rm -rf '$(dest)'/share/lua/5.1/luio '$(dest)'/share/luio

clean:
	$(Q)rm -rf $(BUILD)

include runtime/system/system.mk runtime/board/dist.mk lua/doc/doc.mk

# ---- Set-up ----------------------------------------------------------------------------------------

deps-%:
	$(Q).ci/deps $(if $(LUIO_SETUP),,--check) $*

ifeq ($(cross),)
tools: deps-build
else
tools: $(SYSROOT) | deps-cross-$(cross)
# It gets its name when it is complete. Renewed by `rm -r`.
$(SYSROOT): | deps-cross-$(cross)
	$(Q)mkdir -p $(@D) && new=$$(mktemp -d $@.XXXXXX) && trap 'rm -rf $$new' EXIT && \
	  spec/guest/packages $(cross) $$new/root libluajit-5.1-dev libluajit-5.1-2 libudev-dev libudev1 && mv -T $$new/root $@
endif

.PHONY: tools all support demo demo-uio check test test-arm64 cross-arm64 modules fuzz soak bench layers lint format man install uninstall clean
