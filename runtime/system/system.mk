# make install-system: system files for users who are not root, and for drivers that start at boot.
#
#   udev/rules.d/60-luio.rules     devices that a UIO driver has belong to groups
#   sysusers.d/luio.conf           the groups; made at once, unless DESTDIR is set: then by the package's installation
#   systemd/system/luio@.service   a driver as a service, configured in /etc/luio/NAME.conf
#
# They are where udev and systemd look below PREFIX, which may be /usr/local or /usr; for any other, say SYSTEM_LIB=/etc (of
# which systemd reads /etc/systemd/system, udev /etc/udev/rules.d, systemd-sysusers /etc/sysusers.d) or another of their places.

SYSTEM_LIB ?= $(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,/etc)
system_dest := $(DESTDIR)$(SYSTEM_LIB)

$(BUILD)/luio@.service: runtime/system/luio@.service.in Makefile FORCE
	$(Q)mkdir -p $(@D)
	$(Q)sed 's,@PREFIX@,$(PREFIX),' '$<' > '$@.tmp' && mv '$@.tmp' '$@'

install-system: $(BUILD)/luio@.service
	$(call say,INSTALL,$(system_dest))
	$(Q)install -D -m 644 runtime/system/60-luio.rules '$(system_dest)'/udev/rules.d/60-luio.rules
	$(Q)install -d '$(DESTDIR)'/etc/luio
	$(Q)install -D -m 644 runtime/system/sysusers.conf '$(system_dest)'/sysusers.d/luio.conf
	$(Q)install -D -m 644 '$(BUILD)/luio@.service' '$(system_dest)/systemd/system/luio@.service'
	$(Q)[ -n '$(DESTDIR)' ] || { systemd-sysusers $(SYSTEM_LIB)/sysusers.d/luio.conf 2>/dev/null || \
	  { groupadd -rf luio && groupadd -rf luio-config; }; }
	$(Q)[ -n '$(DESTDIR)' ] || { udevadm control --reload && udevadm trigger --action=add --subsystem-match=uio; } 2>/dev/null || true
	$(Q)[ -n '$(DESTDIR)' ] || systemctl daemon-reload 2>/dev/null || true

uninstall-system:
	$(call say,REMOVE,$(system_dest))
	$(Q)rm -f '$(system_dest)'/udev/rules.d/60-luio.rules '$(system_dest)'/sysusers.d/luio.conf '$(system_dest)/systemd/system/luio@.service'
	$(Q)rmdir '$(DESTDIR)'/etc/luio 2>/dev/null || true # what is in it is not ours

FORCE:
.PHONY: install-system uninstall-system FORCE
