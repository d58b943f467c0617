package = "luio"
version = "scm-0"
source = { url = "git+file://." }
description = {
  summary = "Linux user-space device drivers as Lua scripts",
  detailed = "UIO discovery, exact register access, hugepage DMA memory and interrupt threads for LuaJIT.",
  license = "MIT",
}
dependencies = { "lua == 5.1", "luv", "argparse", "luaexpat", "dkjson" }
supported_platforms = { "linux" }
build = {
  type = "make",
  build_target = "all",
  install_variables = { PREFIX = "$(PREFIX)" },
}
