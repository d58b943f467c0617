# make doc: the API reference, build/doc/index.html.
#
# LDoc makes the Lua half. It does not read LuaCATS, so reference.lua writes the annotations of lua/luio/ down in LDoc's own
# comments first; pages.lua says which files are on which page. Doxygen makes the C half from runtime/luio.h and what it includes,
# through the filter header.lua. Both stop at a reference that leads nowhere. spec/dist/doc_spec.lua follows every link.

doc := $(BUILD)/doc

$(doc)/c/index.html: lua/doc/Doxyfile lua/doc/header.lua $(wildcard runtime/luio*.h) | deps-doc
	$(call say,DOXYGEN,$(doc)/c)
	$(Q)rm -rf '$(doc)/c' && mkdir -p '$(doc)'
	$(Q){ cat lua/doc/Doxyfile; printf '%s\n' 'OUTPUT_DIRECTORY = "$(doc)"' 'GENERATE_TAGFILE = "$(doc)/c.tag"' 'PROJECT_NUMBER = $(VERSION)'; } | doxygen -

$(doc)/index.html: lua/doc/config.ld lua/doc/style.css lua/doc/reference.lua lua/doc/luacats.lua lua/doc/pages.lua $(modules) $(doc)/c/index.html | deps-doc
	$(call say,LDOC,$(doc))
	$(Q)rm -rf '$(doc)/ldoc' '$(doc)/ldoc.css' '$(doc)/modules' '$(doc)/classes' && mkdir -p '$(doc)/ldoc'
	$(Q)luajit lua/doc/reference.lua '$(doc)/ldoc' '$(doc)/c.tag'
	$(Q)ldoc --quiet --testing --fatalwarnings -c lua/doc/config.ld -d '$(abspath $(doc))' '$(abspath $(doc))/ldoc' >/dev/null
	$(Q)cat lua/doc/style.css >> '$(doc)/ldoc.css'

doc: $(doc)/index.html

.PHONY: doc
