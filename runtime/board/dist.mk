# make dist: one file for a board, build/dist/luio-VERSION-ARCH.tar.xz. The board needs a C library, nothing else.
#
# The archive is a PREFIX: bin/luio with LuaJIT, libuv, expat and all Lua modules in it; lib/luio/ with the runtime and
# the libraries that it loads (libudev, whose licence requires a shared library, and libedit); share/luio/drivers. The
# program finds all files relative to itself, so the folder may be anywhere. Foreign libraries come from unpacked Debian
# packages, not from this machine's installation, so both architectures are built alike, and the licences are included.

dist_arch := $(or $(cross),$(shell dpkg --print-architecture 2>/dev/null))
dist_file := build/dist/luio-$(VERSION)-$(dist_arch).tar.xz
dist_work := $(BUILD)/dist-work
dist_tree := $(dist_work)/luio-$(VERSION)-$(dist_arch)
dist_parts := $(CURDIR)/build/sysroot/dist-$(dist_arch)
dist_triplet = $(or $(TRIPLET),$(shell gcc -dumpmachine))

# What goes along, and so the licences that do.
DIST_LINKED := libluajit-5.1-2 lua-luv libuv1 lua-expat libexpat1 lua-argparse lua-dkjson gcc-12-base
DIST_BESIDE := libudev1 libedit2 libtinfo6 libbsd0 libmd0 ncurses-base
DIST_LIBRARIES := libudev.so.1 libedit.so.2 libtinfo.so.6 libbsd.so.0 libmd.so.0
DIST_TERMINALS := a/ansi d/dumb l/linux s/screen s/screen-256color t/tmux t/tmux-256color v/vt100 v/vt102 v/vt220 \
  x/xterm x/xterm-256color

# It gets its name when it is complete. Renewed by `rm -r`.
$(dist_parts): | tools
	$(Q)mkdir -p $(@D) && new=$$(mktemp -d $@.XXXXXX) && trap 'rm -rf $$new' EXIT && \
	  spec/guest/packages $(dist_arch) $$new/root $(DIST_LINKED) $(DIST_BESIDE) libluajit-5.1-dev lua-luv-dev libuv1-dev \
	    lua-expat-dev libexpat1-dev && mv -T $$new/root $@

$(dist_work)/modules.S: runtime/board/embed $(modules) | $(dist_parts)
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)runtime/board/embed $(modules) $(patsubst %,$(dist_parts)/usr/share/lua/5.1/%.lua,argparse dkjson) > $@.tmp && mv $@.tmp $@

# RPATH, not RUNPATH: it counts for what is loaded later, too, by whichever library.
$(dist_work)/luio: $(PROGRAM) runtime/guard.h runtime/guardian.h runtime/board/embedded.c runtime/board/embedded.h $(dist_work)/modules.S
	$(call say,LD,$@)
	$(Q)parts=$(dist_parts)/usr; lib=$$parts/lib/$(dist_triplet); \
	  $(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) -D_GNU_SOURCE -DLUIO_EMBEDDED -Iruntime -I$$parts/include/luajit-2.1 $(LDFLAGS) -o $@ \
	    $(PROGRAM) runtime/board/embedded.c $(dist_work)/modules.S \
	    $$lib/liblua5.1-luv.a $$lib/liblua5.1-expat.a $$lib/libluajit-5.1.a $$lib/libuv_a.a $$lib/libexpat.a \
	    -lm -ldl -pthread -static-libgcc -Wl,-E,--gc-sections,--disable-new-dtags,-rpath,'$$ORIGIN/../lib/luio'

# What the program says of itself comes from this machine's.
dist-said:
	$(Q)$(MAKE) --no-print-directory ARCH=$$(dpkg --print-architecture) build/luio.1 build/luio.bash build/_luio

dist: $(dist_work)/luio $(BUILD)/libluio.so dist-said
	$(Q)$(MAKE) --no-print-directory ARCH=$$(dpkg --print-architecture) PREFIX=/usr/local DESTDIR=$(CURDIR)/$(dist_work)/system \
	  install-system >/dev/null
	$(call say,DIST,$(dist_file))
	$(Q)rm -rf $(dist_tree) && mkdir -p $(dist_tree)/bin $(dist_tree)/lib/luio
	$(Q)set -e; tree=$(dist_tree) parts=$(dist_parts) triplet=$(dist_triplet); share=$$tree/share/luio doc=$$tree/share/doc/luio; \
	  $(if $(cross),$(TRIPLET)-)strip -o $$tree/bin/luio $(dist_work)/luio; \
	  $(if $(cross),$(TRIPLET)-)strip -o $$tree/lib/luio/libluio.so.$(SOVERSION) $(BUILD)/libluio.so; \
	  for name in $(DIST_LIBRARIES); do \
	    file=$$parts/lib/$$triplet/$$name; [ -e $$file ] || file=$$parts/usr/lib/$$triplet/$$name; cp -L $$file $$tree/lib/luio/; done; \
	  for file in $(drivers) $(wildcard examples/*.lua); do install -D -m 644 $$file $$share/$$file; done; \
	  for name in $(DIST_TERMINALS); do install -D -m 644 $$parts/lib/terminfo/$$name $$share/terminfo/$$name; done; \
	  install -D -m 644 build/luio.1 $$tree/share/man/man1/luio.1; \
	  install -D -m 644 build/luio.bash $$tree/share/bash-completion/completions/luio; \
	  install -D -m 644 build/_luio $$tree/share/zsh/site-functions/_luio; \
	  cp -R $(dist_work)/system/usr/local/lib/. $$tree/lib/; \
	  sed 's/@VERSION@/$(VERSION)/' runtime/board/README > $$tree/README; \
	  install -D -m 644 LICENSE $$doc/licences/luio; \
	  for name in $(DIST_LINKED) $(DIST_BESIDE); do cp -L $$parts/usr/share/doc/$$name/copyright $$doc/licences/$$name; done; \
	  for name in $(DIST_LINKED) $(DIST_BESIDE); do \
	    for log in $$parts/usr/share/doc/$$name/changelog.Debian*.gz $$parts/usr/share/doc/$$name/changelog.gz; do \
	      [ ! -e $$log ] || { gzip -dc $$log | sed -n '1{s/^\([^ ]*\) (\([^)]*\)).*/'$$name': source package \1 \2/p;q}'; break; }; \
	    done; done > $$doc/licences/SOURCES; \
	  chmod -R u=rwX,go=rX $$tree
	$(Q)mkdir -p build/dist && tar -C $(dist_work) --sort=name --owner=0 --group=0 --numeric-owner \
	  --mtime=@$$(git log -1 --format=%ct 2>/dev/null || echo 0) -cJf $(dist_file) $(notdir $(dist_tree))

.PHONY: dist dist-said
